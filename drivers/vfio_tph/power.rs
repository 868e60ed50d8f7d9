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
            tph::Requester, //
        },
        vfio::pci::{
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

/// The user may have changed the power state of a device, which is awake as far as runtime PM is
/// concerned.
pub(crate) fn changed(handle: Handle<'_, VfioTph>) -> Result {
    let core = handle.core();
    if bus::is_powered(core.pci()) {
        wake(&mut handle.lock()?.open()?)?;
        // What was freed meanwhile could not be reached.
        vectors::clear_freed(handle);
    } else if core.loses_state() {
        sleep(&mut handle.lock()?.open()?);
    }
    Ok(())
}
