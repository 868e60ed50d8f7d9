// SPDX-License-Identifier: GPL-2.0-only

//! Memory is claimed of a device that nobody has locked.
//!
//! error[E0624]

use crate::rust::vfio::pci::{Memory, OpenDevice};

fn claim<'a>(locked: &Memory<'a>, other: &'a OpenDevice) -> Memory<'a> {
    Memory::new(other, locked.hold())
}
