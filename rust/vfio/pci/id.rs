// SPDX-License-Identifier: GPL-2.0-only

//! The devices that a variant driver may have.
//!
//! C header: [`include/linux/mod_devicetable.h`](srctree/include/linux/mod_devicetable.h)

use crate::rust::bindings;
use kernel::{
    device_id::{
        self,
        RawDeviceId, //
    },
    pci::Vendor, //
};

/// An entry of a variant driver's ID table: `PCI_DRIVER_OVERRIDE_DEVICE_VFIO()`. It is for a device
/// whose `driver_override` names the driver; a device that has none is left to its native driver.
#[repr(transparent)]
pub(crate) struct DeviceId(bindings::pci_device_id);

impl DeviceId {
    /// Any device, as vfio-pci has it.
    pub(crate) const ANY: Self =
        Self::new(bindings::PCI_ANY_ID as u32, bindings::PCI_ANY_ID as u32);

    /// The devices of a vendor that have this device ID.
    #[allow(dead_code, reason = "a driver need not have such an entry")]
    pub(crate) const fn from_id(vendor: Vendor, device: u16) -> Self {
        // CAST: widens.
        Self::new(vendor.as_raw() as u32, device as u32)
    }

    const fn new(vendor: u32, device: u32) -> Self {
        let mut id: bindings::pci_device_id = pin_init::zeroed();
        id.vendor = vendor;
        id.device = device;
        id.subvendor = bindings::PCI_ANY_ID as u32;
        id.subdevice = bindings::PCI_ANY_ID as u32;
        id.override_only = bindings::PCI_ID_F_VFIO_DRIVER_OVERRIDE;
        Self(id)
    }
}

// SAFETY: `DeviceId` is a transparent wrapper of `struct pci_device_id`.
unsafe impl RawDeviceId for DeviceId {
    type RawType = bindings::pci_device_id;
}

/// A variant driver's ID table: an `IdArray`, or `module_device_table!("pci", ...)`, which tells
/// modpost of it, too.
pub(crate) type IdTable = &'static dyn device_id::IdTable<DeviceId, ()>;
