// SPDX-License-Identifier: GPL-2.0-only

//! Power states, spec section 6: what was in force before a device slept is in force after.
//!
//! The PCI core restores Control before the ST table, which changes a table under an enabled
//! requester, and it restores neither of a device that is not enabled. So for as long as a device
//! sleeps, the vfio-pci-core is told that TPH is off; what was in force is put back here, in the
//! right order.

use crate::{
    device::VfioTph,
    rules::regs::Control,
    rust::{
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
    table,
    vectors, //
};
use kernel::prelude::*;

/// The device loses its state, or may: it is asleep, or about to be.
pub(crate) fn sleep(open: &mut Open<'_, VfioTph>) {
    let vdev = open.vdev();
    if let (Some(requester), Some(offered)) = (Requester::new(vdev.pci()), &mut open.offered) {
        offered.asleep = true;
        requester.set_core_state(0, 0);
    }
}

/// Puts back what was in force before the device slept, if it did. It must be awake now.
pub(crate) fn wake(open: &mut Open<'_, VfioTph>) -> Result {
    let vdev = open.vdev();
    let (Some(requester), Some(offered)) = (Requester::new(vdev.pci()), &mut open.offered) else {
        return Ok(());
    };
    // A tag that a vector should not have must not come into use: it is cleared first, by who
    // comes next.
    if !offered.asleep || !offered.is_settled() {
        return Ok(());
    }
    table::set_control(&requester, table::disabled(offered.control))?;
    table::restore(&requester, &offered.tags)?;
    table::set_control(&requester, offered.control)?;
    offered.asleep = false;
    Ok(())
}

/// Lets vfio-pci-core write what may be the power state.
///
/// A device that loses its state is taken to be asleep before that, not after: on the way to
/// D3hot vfio-pci-core has the PCI core save its state, with as much of an enabled ST table as
/// the device claims by then, into a buffer for what it claimed when it was found; and a reset
/// that is tried meanwhile, and fails, leaves the device awake, and empty.
pub(crate) fn write(handle: Handle<'_, VfioTph>, access: Access<'_>) -> Result<usize> {
    let vdev = handle.vdev();
    // As vfio-pci-core has it for any access to a device that does not wake up.
    let _awake = Awake::new(vdev.pci()).map_err(|_| EIO)?;
    handle.change_power(
        |open| {
            if vdev.loses_state() {
                sleep(open);
            }
        },
        || vdev.write(access),
        || changed(handle),
    )
}

/// The power state of a device may have changed, which is awake as far as runtime PM is concerned.
fn changed(handle: Handle<'_, VfioTph>) -> Result {
    let vdev = handle.vdev();
    if bus::is_powered(vdev.pci()) {
        // What was freed, or allocated, meanwhile could not be reached. It comes before what was
        // in force.
        vectors::clear_freed(handle)?;
    }
    let mut guard = handle.lock()?;
    let mut open = guard.open()?;
    if !bus::is_powered(vdev.pci()) {
        if vdev.loses_state() {
            // A reset may have come between.
            sleep(&mut open);
        }
        return Ok(());
    }
    if never_slept(&mut open)? {
        return Ok(());
    }
    wake(&mut open)
}

/// Whether a device that was taken to be asleep still has what was in force, which it does not
/// lose half. The PCI core is told of it then.
fn never_slept(open: &mut Open<'_, VfioTph>) -> Result<bool> {
    let vdev = open.vdev();
    let (Some(requester), Some(offered)) = (Requester::new(vdev.pci()), &mut open.offered) else {
        return Ok(true);
    };
    if !offered.asleep {
        return Ok(true);
    }
    let control = offered.control;
    if !offered.is_settled() {
        return Ok(false);
    }
    // Off is what it has in any case.
    if control == Control::RESET || table::control(&requester)? != Some(control) {
        return Ok(false);
    }
    requester.set_core_state(control.st_mode as u8, control.requester_enable as u8);
    offered.asleep = false;
    Ok(true)
}

/// A reset that has failed may have woken a device up.
pub(crate) fn woken(handle: Handle<'_, VfioTph>) -> Result {
    let concerned = handle
        .lock_now()?
        .open()?
        .offered
        .as_ref()
        .is_some_and(|offered| offered.asleep || !offered.is_settled());
    if !concerned {
        return Ok(());
    }
    changed(handle)
}
