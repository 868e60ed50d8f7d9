// SPDX-License-Identifier: GPL-2.0-only

//! A device that nobody has open is read, as vfio-pci-core reads an open one.
//!
//! error[E0599]

use crate::rust::vfio::pci::{Access, VfioPciDevice};
use kernel::prelude::*;

fn read(closed: &VfioPciDevice, access: Access<'_>) -> Result<usize> {
    closed.read(access)
}
