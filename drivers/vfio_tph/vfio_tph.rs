// SPDX-License-Identifier: GPL-2.0-only

//! vfio-pci variant driver that gives PCIe TLP Processing Hints (TPH) to user space.
//!
//! The driver is vfio-pci in everything but TPH. [`driver`] lists what can happen to a device,
//! [`open`] finds out what it has, and [`events`] takes the locks. [`hardware`] knows what is
//! wanted of hardware and what it holds, and says when it is written. A user's calls come in by
//! [`config`] (the TPH Requester capability) and [`feature`] (the device features of
//! `include/uapi/linux/vfio_tph.h`), an administrator's by [`sysfs`] and [`debugfs`]. [`lookup`]
//! asks firmware for the tags of CPUs. [`rules`] decide, and know hardware by a trait alone. What
//! depends on the moment is decided by [`hardware`]: it drops a write of Control while the device
//! cannot be reached, while an entry is due, or if another function has come into the IOMMU group;
//! and it turns TPH off if the device does not do what it is told. The words that are used
//! everywhere are explained in [`device`].
//!
//! Limits: hints of dma-bufs ([`dmabuf`]) need a kernel that has `kernel/patches`.

mod config;
mod debugfs;
mod denylist;
mod device;
mod dmabuf;
mod driver;
mod events;
mod failure;
mod feature;
mod hardware;
mod lookup;
mod module_param;
mod open;
mod ratelimit;
mod rules;
#[path = "../../rust/mod.rs"]
mod rust;
mod spans;
mod sysfs;
mod trace;
mod uapi;

use driver::Module;
use kernel::prelude::*;

module! {
    type: Module,
    name: "vfio_tph",
    authors: ["vfio_tph maintainers"],
    description: "VFIO PCI variant driver with TLP Processing Hints",
    license: "GPL",
    imports_ns: ["IOMMUFD", "DMA_BUF"],
}
