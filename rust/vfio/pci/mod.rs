// SPDX-License-Identifier: GPL-2.0-only

//! vfio-pci variant drivers.
//!
//! A variant driver is vfio-pci-core with some callbacks wrapped. [`Driver`] has one method for
//! each callback that can be wrapped here, with what vfio-pci does as its default.
//!
//! `kernel::pci::Driver` cannot carry such a driver: up to 7.3 vfio-pci-core expects its own
//! device behind dev_get_drvdata(), and `kernel::pci::DeviceId` knows no override-only entries.

mod attribute;
mod device;
mod dma_buf;
mod driver;
mod id;
mod ids;
mod ioeventfd;
mod msix;
mod ops;
mod pci_driver;
mod power;
mod region;
mod registration;
mod session;
mod vfio_pci_device;
mod watch;

pub(crate) use self::{
    driver::{
        Attribute,
        Driver,
        Hooks,
        Settings, //
    },
    id::{
        DeviceId,
        IdTable, //
    },
    msix::{
        Memory,
        MsixTable, //
        StableVectors,
    },
    registration::Registration,
    session::{
        CallbackMemory,
        Handle,
        MaybeOpen,
        Open,
        OpenState,
        Opening,
        PowerChange,
        Turn, //
    },
    vfio_pci_device::{
        Access,
        OpenDevice,
        VfioPciDevice,
        MAP_UNASSIGNED,
        MAP_VIRTUAL, //
    },
    watch::{
        Unmappable,
        Watch, //
    },
};
