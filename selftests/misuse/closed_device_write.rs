// SPDX-License-Identifier: GPL-2.0-only

//! A device that nobody has open is written.
//!
//! error[E0599]

use crate::rust::vfio::pci::{Access, VfioPciDevice};
use kernel::prelude::*;

fn write(closed: &VfioPciDevice, access: Access<'_>) -> Result<usize> {
    closed.write(access)
}
