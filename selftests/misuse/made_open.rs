// SPDX-License-Identifier: GPL-2.0-only

//! A device is taken to be open.
//!
//! error[E0624]

use crate::rust::vfio::pci::{VfioPciDevice, OpenDevice};

fn open(closed: &VfioPciDevice) -> &OpenDevice {
    closed.as_open()
}
