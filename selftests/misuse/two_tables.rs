// SPDX-License-Identifier: GPL-2.0-only

//! There are two MSI-X tables of a device: when the second one is gone, memory may no longer be
//! decoded for the first one.
//!
//! error[E0499]

use crate::rust::vfio::pci::Memory;

fn twice(memory: &mut Memory<'_>) {
    let first = memory.msix_table();
    drop(memory.msix_table());
    drop(first);
}
