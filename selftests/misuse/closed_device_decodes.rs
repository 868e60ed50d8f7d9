// SPDX-License-Identifier: GPL-2.0-only

//! A device that nobody has open is asked what its user has it decode.
//!
//! error[E0599]

use crate::rust::vfio::pci::VfioPciDevice;

fn decodes(closed: &VfioPciDevice) -> bool {
    closed.user_decodes_memory()
}
