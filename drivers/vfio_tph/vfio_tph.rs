// SPDX-License-Identifier: GPL-2.0-only

//! vfio-pci variant driver that gives PCIe TLP Processing Hints (TPH) to user space.
//!
//! The driver is vfio-pci in everything but TPH. What happens to a device is in [`driver`], and with
//! its locks in [`events`]; what is wanted of hardware and what it holds in [`hardware`], which alone
//! changes it. Calls of the user
//! come in by [`config`] (the TPH Requester capability) and [`feature`] (the device features of
//! `include/uapi/linux/vfio_tph.h`), those of an administrator by [`sysfs`] and [`debugfs`]. The tag
//! of a CPU comes from firmware ([`lookup`]). What the driver decides it decides in [`rules`], which
//! touch no hardware; what touches hardware decides nothing.
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
mod reached;
mod rules;
#[path = "../../rust/mod.rs"]
mod rust;
mod spans;
mod sysfs;
mod table;

pub(crate) use rust::uapi;

use device::VfioTph;
use kernel::prelude::*;
use rust::vfio::pci::{
    Driver,
    Registration, //
};

module! {
    type: Module,
    name: "vfio_tph",
    authors: ["vfio_tph maintainers"],
    description: "VFIO PCI variant driver with TLP Processing Hints",
    license: "GPL",
    imports_ns: ["IOMMUFD", "DMA_BUF"],
}

#[pin_data]
struct Module {
    #[pin]
    _registration: Registration<VfioTph>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _registration <- Registration::new(VfioTph::NAME, module),
        })
    }
}
