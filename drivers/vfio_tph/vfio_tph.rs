// SPDX-License-Identifier: GPL-2.0-only

//! vfio-pci variant driver that gives PCIe TLP Processing Hints (TPH) to user space.
//!
//! The driver is vfio-pci in everything but TPH: it virtualizes the TPH Requester capability
//! ([`config`]), writes steering tags through to the ST table ([`table`], [`vectors`]), finds the
//! tag of a CPU in firmware ([`lookup`]), puts back after sleep what was in force before
//! ([`power`]), shows a device to its administrator ([`sysfs`], [`debugfs`]), and answers the
//! device features of `include/uapi/linux/vfio_tph.h` ([`feature`]). What it decides is decided
//! in [`rules`], which touches no hardware; what touches hardware decides nothing.
//!
//! Limits: hints of dma-bufs ([`dmabuf`]) need a kernel that has `kernel/patches`.

mod config;
mod debugfs;
mod denylist;
mod device;
mod dmabuf;
mod feature;
mod lookup;
mod power;
mod rules;
#[path = "../../rust/mod.rs"]
mod rust;
mod sysfs;
mod table;
mod vectors;

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
