// SPDX-License-Identifier: GPL-2.0-only

//! Memory is had of a session that is locked without `memory_lock`.
//!
//! error[E0599]

use crate::{device::VfioTph, rust::vfio::pci::Handle};
use kernel::prelude::*;

fn memory(handle: Handle<'_, VfioTph>) -> Result {
    let mut guard = handle.lock_now()?;
    guard.open_with_memory()?;
    Ok(())
}
