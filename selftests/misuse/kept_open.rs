// SPDX-License-Identifier: GPL-2.0-only

//! A device is kept beyond the callback for which it is open.
//!
//! error: lifetime may not live long enough

use crate::{
    device::VfioTph,
    rust::vfio::pci::{Handle, OpenDevice},
};

fn keep(handle: Handle<'_, VfioTph>) -> &'static OpenDevice {
    handle.vdev()
}
