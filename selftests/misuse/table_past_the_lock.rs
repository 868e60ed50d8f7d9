// SPDX-License-Identifier: GPL-2.0-only

//! The MSI-X table is used when the session is unlocked.
//!
//! error[E0505]

use crate::{device::VfioTph, rust::vfio::pci::Handle};
use kernel::prelude::*;

fn clear(handle: Handle<'_, VfioTph>) -> Result {
    let mut guard = handle.lock_hardware(&|_| true)?;
    let (_, mut memory) = guard.open_with_memory();
    let mut table = memory.msix_table().ok_or(ENXIO)?;
    drop(guard);
    table.clear_tag(0)?;
    Ok(())
}
