// SPDX-License-Identifier: GPL-2.0-only

//! Memory is had of a session that is locked without `memory_lock`.
//!
//! error[E0599]

use crate::{device::VfioTph, rust::vfio::pci::Handle};

fn memory(handle: Handle<'_, VfioTph>) {
    handle.lock_records().open_with_memory();
}
