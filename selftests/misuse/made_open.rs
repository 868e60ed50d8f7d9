// SPDX-License-Identifier: GPL-2.0-only

//! A device is taken to be open.
//!
//! error[E0624]

use crate::rust::vfio::pci::{CoreDevice, OpenDevice};

fn open(closed: &CoreDevice) -> &OpenDevice {
    closed.as_open()
}
