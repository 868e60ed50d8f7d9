// SPDX-License-Identifier: GPL-2.0-only

//! The same driver in vfio-pci's place, under its name: for programs that know no other one. What
//! it consists of is in `vfio_tph.rs`; here is what differs.

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
use kernel::{
    module_device_table,
    prelude::*, //
};
use rust::vfio::pci::DeviceId;

module! {
    type: Module,
    name: "vfio_pci",
    authors: ["vfio_tph maintainers"],
    description: "VFIO PCI driver with TLP Processing Hints",
    license: "GPL",
    imports_ns: ["IOMMUFD", "DMA_BUF"],
}

// vfio-pci's alias: tools that choose a driver by alias find it where they have found vfio-pci.
module_device_table! {
    "pci", DeviceId, ALIAS, @none,
    [DeviceId::ANY]
}
