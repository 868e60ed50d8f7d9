// SPDX-License-Identifier: GPL-2.0-only

//! Power management of a variant driver's devices: its own callbacks around vfio-pci-core's.
//!
//! From 7.4 on, and with `kernel/patches`, `driver->pm` is the driver's, and vfio-pci-core exports
//! what a driver calls there. Up to 7.3 vfio-pci-core sets the pointer each time that a device is
//! registered, and exports nothing. So while one device is being registered, another one that
//! runtime PM suspends or resumes goes through that without our callbacks. Sleep of the system does
//! not: no device is registered then.
//!
//! C header: [`include/linux/pm.h`](srctree/include/linux/pm.h)

#[cfg(not(VFIO_TPH_OWN_CALLBACKS))]
use super::pci_driver::{
    PciDriver,
    PmOps, //
};
use super::{
    device::Device,
    driver::Hooks, //
};
use crate::rust::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// A callback of `struct dev_pm_ops`.
type PmCallback = Option<unsafe extern "C" fn(*mut bindings::device) -> c_int>;

/// Defines callbacks of `struct dev_pm_ops`, each around vfio-pci-core's.
macro_rules! pm_callbacks {
    ($($field:ident: $callback:ident => $around:ident,)*) => {$(
        #[doc = concat!("The `", stringify!($field), "` callback.")]
        ///
        /// # Safety
        ///
        /// Called by the PM core only, by way of the table, for a bound device: by runtime PM, or
        /// for sleep of the system, under the device lock and with user space frozen.
        unsafe extern "C" fn $callback(dev: *mut bindings::device) -> c_int {
            // SAFETY: The device is bound, and vfio-pci-core's callback expects what this one does.
            unsafe { Self::$around(dev, Self::vfio_pci_core_pm(dev).and_then(|pm| pm.$field)) }
        }
    )*};
}

/// The power management callbacks of a driver.
pub(super) struct Power<T: Hooks>(PhantomData<T>);

#[cfg(VFIO_TPH_OWN_CALLBACKS)]
impl<T: Hooks> Power<T> {
    const CALLBACKS: &'static bindings::dev_pm_ops = &Self::around(&pin_init::zeroed());

    /// What vfio-pci-core does, by the callbacks that it would have.
    const VFIO_PCI_CORE: &'static bindings::dev_pm_ops = &{
        let mut ops: bindings::dev_pm_ops = pin_init::zeroed();
        ops.runtime_suspend = Some(Self::vfio_pci_core_runtime_suspend);
        ops.runtime_resume = Some(Self::vfio_pci_core_runtime_resume);
        ops
    };

    /// Has a driver call ours.
    ///
    /// # Safety
    ///
    /// `driver` is valid, and not registered yet.
    pub(super) unsafe fn set(driver: *mut bindings::pci_driver) {
        // SAFETY: `driver` is valid, and not registered, by the safety requirement: nobody else
        // uses it yet.
        unsafe { (*driver).driver.pm = Self::CALLBACKS };
    }

    /// Does nothing: our callbacks are there from the start.
    ///
    /// # Safety
    ///
    /// Nothing is asked of the caller.
    pub(super) unsafe fn wrap(_: *mut bindings::pci_dev) {}

    /// vfio-pci-core's callbacks.
    ///
    /// # Safety
    ///
    /// Nothing is asked of the caller.
    unsafe fn vfio_pci_core_pm(_: *mut bindings::device) -> Option<&'static bindings::dev_pm_ops> {
        Some(Self::VFIO_PCI_CORE)
    }

    /// vfio-pci-core's part of `runtime_suspend`.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    unsafe extern "C" fn vfio_pci_core_runtime_suspend(dev: *mut bindings::device) -> c_int {
        // SAFETY: `dev` is bound to this driver, by the safety requirement, and vfio-pci-core's
        // callback expects its device.
        unsafe {
            bindings::vfio_pci_core_runtime_suspend(Device::<T>::from_bound(dev).vdev.as_raw())
        }
    }

    /// vfio-pci-core's part of `runtime_resume`.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    unsafe extern "C" fn vfio_pci_core_runtime_resume(dev: *mut bindings::device) -> c_int {
        // SAFETY: `dev` is bound to this driver, by the safety requirement, and vfio-pci-core's
        // callback expects its device.
        unsafe {
            bindings::vfio_pci_core_runtime_resume(Device::<T>::from_bound(dev).vdev.as_raw())
        }
    }
}

#[cfg(not(VFIO_TPH_OWN_CALLBACKS))]
impl<T: Hooks> Power<T> {
    /// Does nothing: vfio-pci-core would put its own callbacks in place of ours.
    ///
    /// # Safety
    ///
    /// Nothing is asked of the caller.
    pub(super) unsafe fn set(_: *mut bindings::pci_driver) {}

    /// Puts our power management callbacks around vfio-pci-core's, if it has set those.
    ///
    /// # Safety
    ///
    /// `pdev` is being probed by this driver.
    pub(super) unsafe fn wrap(pdev: *mut bindings::pci_dev) {
        // SAFETY: `pdev` is being probed by this driver, by the safety requirement: its driver is
        // in a `PciDriver<T>`. What vfio-pci-core sets is a constant of its own, and stays as long
        // as this module, its user. What stands there from an earlier bind may be ours: of that
        // nothing is kept, as `populate` takes the first alone.
        unsafe {
            let driver = (*pdev).dev.driver;
            let this = PciDriver::<T>::from_driver(driver);
            let Some(inner) = (*driver).pm.as_ref() else {
                return;
            };
            let wrapped = Self::around(inner);
            // Another device may have been first.
            (*this).pm.populate(PmOps { inner, wrapped });
            if let Some(pm) = (*this).pm.as_ref() {
                (*driver).pm = &pm.wrapped;
            }
        }
    }

    /// vfio-pci-core's power management callbacks.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    unsafe fn vfio_pci_core_pm(
        dev: *mut bindings::device,
    ) -> Option<&'static bindings::dev_pm_ops> {
        // SAFETY: `dev` is bound to this driver, by the safety requirement: its driver is in a
        // `PciDriver<T>`.
        let this = unsafe { &*PciDriver::<T>::from_driver((*dev).driver) };
        this.pm.as_ref().map(|pm| pm.inner)
    }
}

impl<T: Hooks> Power<T> {
    /// `ops`, with our callbacks in their places.
    const fn around(ops: &bindings::dev_pm_ops) -> bindings::dev_pm_ops {
        bindings::dev_pm_ops {
            suspend: Some(Self::suspend_callback),
            resume: Some(Self::resume_callback),
            freeze: Some(Self::freeze_callback),
            thaw: Some(Self::thaw_callback),
            poweroff: Some(Self::poweroff_callback),
            restore: Some(Self::restore_callback),
            runtime_suspend: Some(Self::runtime_suspend_callback),
            runtime_resume: Some(Self::runtime_resume_callback),
            ..*ops
        }
    }

    /// Tells the driver that the device is about to sleep, then calls vfio-pci-core's callback, if
    /// there is one.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver, and `inner` may be called.
    unsafe fn around_suspend(dev: *mut bindings::device, inner: PmCallback) -> c_int {
        // SAFETY: `dev` is bound to this driver, and `inner` may be called for it, by the safety
        // requirement.
        unsafe {
            Device::<T>::suspend(dev);
            inner.map_or(0, |inner| inner(dev))
        }
    }

    /// Calls vfio-pci-core's callback, if there is one, then tells the driver that the device is
    /// awake.
    ///
    /// # Safety
    ///
    /// As [`Self::around_suspend`].
    unsafe fn around_resume(dev: *mut bindings::device, inner: PmCallback) -> c_int {
        // SAFETY: `dev` is bound to this driver, and `inner` may be called for it, by the safety
        // requirement.
        unsafe {
            let ret = inner.map_or(0, |inner| inner(dev));
            Device::<T>::resume(dev);
            ret
        }
    }

    /// As [`Self::around_suspend`], where the whole system falls asleep or an image of it is made.
    /// If vfio-pci-core's callback refuses that, the driver is told that the device is awake.
    ///
    /// # Safety
    ///
    /// As [`Self::around_suspend`], and the caller holds the device lock.
    unsafe fn around_system_suspend(dev: *mut bindings::device, inner: PmCallback) -> c_int {
        // SAFETY: `dev` is bound to this driver, `inner` may be called for it, and the caller holds
        // the device lock, by the safety requirement.
        unsafe {
            Device::<T>::system_suspend(dev);
            let ret = inner.map_or(0, |inner| inner(dev));
            if ret != 0 {
                // The PM core wakes up nobody who has refused to sleep.
                Device::<T>::system_resume(dev);
            }
            ret
        }
    }

    /// As [`Self::around_resume`], where the whole system wakes up or an image of it has been made.
    ///
    /// # Safety
    ///
    /// As [`Self::around_system_suspend`].
    unsafe fn around_system_resume(dev: *mut bindings::device, inner: PmCallback) -> c_int {
        // SAFETY: `dev` is bound to this driver, `inner` may be called for it, and the caller holds
        // the device lock, by the safety requirement.
        unsafe {
            let ret = inner.map_or(0, |inner| inner(dev));
            Device::<T>::system_resume(dev);
            ret
        }
    }

    pm_callbacks! {
        suspend: suspend_callback => around_system_suspend,
        resume: resume_callback => around_system_resume,
        freeze: freeze_callback => around_system_suspend,
        thaw: thaw_callback => around_system_resume,
        poweroff: poweroff_callback => around_system_suspend,
        restore: restore_callback => around_system_resume,
        runtime_suspend: runtime_suspend_callback => around_suspend,
        runtime_resume: runtime_resume_callback => around_resume,
    }
}
