// SPDX-License-Identifier: GPL-2.0-only

//! Power states, spec section 6: what was in force before a device slept is in force after.
//!
//! The PCI core restores Control before the ST table, which changes a table under an enabled
//! requester, and it restores neither of a device that is not enabled. So for as long as a device
//! sleeps, the core is told that TPH is off; what was in force is put back here, in the right order.

use crate::{
    abstractions::{
        pci::{
            self as bus,
            tph::Requester,
            Awake, //
        },
        vfio::pci::{
            Access,
            Handle,
            Open, //
        },
    },
    device::VfioTph,
    table,
    vectors, //
};
use kernel::prelude::*;

/// The device loses its state, or may: it is asleep, or about to be.
pub(crate) fn sleep(open: &mut Open<'_, VfioTph>) {
    let core = open.core();
    if let (Some(requester), Some(offered)) = (Requester::new(core.pci()), &mut open.offered) {
        offered.asleep = true;
        requester.set_core_state(0, 0);
    }
}

/// Puts back what was in force before the device slept, if it did. It must be awake now.
pub(crate) fn wake(open: &mut Open<'_, VfioTph>) -> Result {
    let core = open.core();
    let (Some(requester), Some(offered)) = (Requester::new(core.pci()), &mut open.offered) else {
        return Ok(());
    };
    if !offered.asleep {
        return Ok(());
    }
    table::set_control(&requester, table::disabled(offered.control))?;
    table::restore(&requester, &offered.tags)?;
    table::set_control(&requester, offered.control)?;
    offered.asleep = false;
    Ok(())
}

/// Lets core write what may be the power state.
///
/// On the way to D3hot core has the PCI core save the state of a device that loses it, with as much of
/// an enabled ST table as the device claims by then, into a buffer for what it claimed when it was
/// found. So the core is told that TPH is off before that, not after.
pub(crate) fn write(handle: Handle<'_, VfioTph>, access: Access<'_>) -> Result<usize> {
    let core = handle.core();
    // As core has it for any access to a device that does not wake up.
    let _awake = Awake::new(core.pci()).map_err(|_| EIO)?;
    handle.change_power(
        |_| {
            if let (true, Some(requester)) = (core.loses_state(), Requester::new(core.pci())) {
                requester.set_core_state(0, 0);
            }
        },
        || core.write(access),
        || changed(handle),
    )
}

/// The user may have changed the power state of a device, which is awake as far as runtime PM is
/// concerned.
fn changed(handle: Handle<'_, VfioTph>) -> Result {
    let core = handle.core();
    if bus::is_powered(core.pci()) {
        let mut guard = handle.lock()?;
        let mut open = guard.open()?;
        wake(&mut open)?;
        if core.loses_state() {
            tell_core(&open);
        }
        drop(guard);
        // What was freed meanwhile could not be reached.
        vectors::clear_freed(handle);
    } else if core.loses_state() {
        sleep(&mut handle.lock()?.open()?);
    }
    Ok(())
}

/// Tells the PCI core what is in force.
fn tell_core(open: &Open<'_, VfioTph>) {
    if let (Some(requester), Some(offered)) = (Requester::new(open.core().pci()), &open.offered) {
        let control = offered.control;
        requester.set_core_state(control.st_mode as u8, control.requester_enable as u8);
    }
}
