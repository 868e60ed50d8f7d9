// SPDX-License-Identifier: GPL-2.0-only

//! The terms of a device are kept beyond the callback for which it is open.
//!
//! error: lifetime may not live long enough

use crate::{
    device::{Terms, VfioTph},
    rust::vfio::pci::Handle,
};

fn keep(handle: Handle<'_, VfioTph>) -> &'static Terms {
    handle.terms()
}
