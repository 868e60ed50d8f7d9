// SPDX-License-Identifier: GPL-2.0-only

//! The tag of a vector is looked at while others may free it.
//!
//! error[E0624]

use crate::rust::vfio::pci::{StableVectors, OpenDevice};

fn tag(vdev: &OpenDevice) -> u16 {
    StableVectors::new(vdev).tag(0)
}
