// SPDX-License-Identifier: GPL-2.0-only

//! The bytes of config space are borrowed beside a device that was asked for before.
//!
//! error[E0502]

use crate::rust::vfio::pci::{Access, Opening};
use kernel::prelude::*;

fn write(opening: &mut Opening<'_>, access: Access<'_>) -> Result<u8> {
    let vdev = opening.vdev();
    let (_, space) = opening.config();
    vdev.write(access)?;
    Ok(space[0])
}
