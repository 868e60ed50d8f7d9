// SPDX-License-Identifier: GPL-2.0-only

//! vfio-pci-core is asked for a feature of a device that nobody has open.
//!
//! error[E0599]

use crate::rust::vfio::{feature::Call, pci::VfioPciDevice};
use kernel::prelude::*;

fn feature(closed: &VfioPciDevice, call: Call) -> Result<i32> {
    closed.feature(call)
}
