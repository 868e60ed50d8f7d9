// SPDX-License-Identifier: GPL-2.0-only

//! The PCI core is asked to write tags of vectors of a device that may not decode its table.
//!
//! error[E0603]

use crate::rust::pci::tph::write_msix_tags;
use kernel::{device::Bound, pci, prelude::*};

fn write(pdev: &pci::Device<Bound>) -> Result {
    write_msix_tags(pdev, 0, &[1])
}
