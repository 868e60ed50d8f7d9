// SPDX-License-Identifier: GPL-2.0-only

//! PCI devices by their address.

use core::ptr::NonNull;
use kernel::{
    bindings,
    device::Device,
    pci,
    prelude::*,
    sync::aref::ARef, //
};

/// The device at an address of a domain. ENODEV if there is none.
pub(crate) fn find(domain: u16, bus: u8, devfn: u8) -> Result<ARef<Device>> {
    // SAFETY: The function takes any numbers.
    let raw =
        unsafe { bindings::pci_get_domain_bus_and_slot(domain.into(), bus.into(), devfn.into()) };
    // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
    let device = NonNull::new(raw.cast::<pci::Device>()).ok_or(ENODEV)?;
    // SAFETY: The call took a reference, which is ours.
    let device = unsafe { ARef::from_raw(device) };
    let device: &pci::Device = &device;
    Ok(device.as_ref().into())
}
