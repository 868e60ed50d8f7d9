// SPDX-License-Identifier: GPL-2.0-only

//! The `struct pci_driver` of a variant driver.

use super::driver::Driver;
use crate::rust::bindings;
use kernel::{
    container_of,
    device::Bound,
    pci,
    prelude::*, //
};

/// A `struct pci_driver`, with what its devices share behind it.
///
/// # Invariants
///
/// `shared` points to what [`Driver::shared`] made, from before the driver is registered until
/// after it is unregistered.
#[repr(C)]
pub(crate) struct PciDriver<T: Driver> {
    pub(super) pci: bindings::pci_driver,
    pub(super) shared: *const T::Shared,
    /// Where vfio-pci-core sets `driver->pm`.
    #[cfg(not(VFIO_TPH_OWN_CALLBACKS))]
    pub(super) pm: kernel::sync::SetOnce<PmOps>,
}

/// vfio-pci-core's power management callbacks, and the same with ours around some of them.
#[cfg(not(VFIO_TPH_OWN_CALLBACKS))]
pub(super) struct PmOps {
    pub(super) inner: &'static bindings::dev_pm_ops,
    pub(super) wrapped: bindings::dev_pm_ops,
}

impl<T: Driver> PciDriver<T> {
    /// The driver around a `struct device_driver`.
    ///
    /// # Safety
    ///
    /// `driver` is in a `PciDriver<T>`.
    pub(super) unsafe fn from_driver(driver: *mut bindings::device_driver) -> *mut Self {
        // SAFETY: `driver` is in a `PciDriver<T>`, by the safety requirement.
        unsafe {
            let pci = container_of!(driver, bindings::pci_driver, driver);
            container_of!(pci, Self, pci)
        }
    }
}

impl<T: Driver> Default for PciDriver<T> {
    fn default() -> Self {
        Self {
            pci: Default::default(),
            shared: core::ptr::null(),
            #[cfg(not(VFIO_TPH_OWN_CALLBACKS))]
            pm: kernel::sync::SetOnce::new(),
        }
    }
}

/// The PCI device that is being probed, and what the driver's devices share.
///
/// # Safety
///
/// `dev` is in a `struct pci_dev` that is being probed by `Registration<T>`; the result is not used
/// after that.
pub(super) unsafe fn probed<'a, T: Driver>(
    dev: *mut bindings::device,
) -> Result<(&'a pci::Device<Bound>, &'a T::Shared)> {
    // SAFETY: By the safety requirement the driver is ours, and by the invariant of `PciDriver`
    // what is shared lives.
    unsafe {
        let pdev = container_of!(dev, bindings::pci_dev, dev);
        let driver = PciDriver::<T>::from_driver((*dev).driver);
        Ok((
            &*pdev.cast_const().cast(),
            (*driver).shared.as_ref().ok_or(EINVAL)?,
        ))
    }
}
