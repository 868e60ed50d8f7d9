// SPDX-License-Identifier: GPL-2.0-only

//! VFIO: devices that user space drives.
//!
//! C headers: [`include/linux/vfio.h`](srctree/include/linux/vfio.h),
//! [`include/linux/vfio_pci_core.h`](srctree/include/linux/vfio_pci_core.h)

pub(crate) mod feature;
pub(crate) mod pci;
