// SPDX-License-Identifier: GPL-2.0-only

//! Registration of a variant driver with the PCI bus.

use super::{
    attribute::AttributeGroups,
    device::Device,
    driver::Hooks,
    ids,
    pci_driver::PciDriver,
    power::Power, //
};
use crate::rust::bindings;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    driver,
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    types::{
        ForeignOwnable,
        Opaque, //
    },
};

/// A registered variant driver. Dropping it unbinds the devices and unregisters it.
pub(crate) type Registration<T> = driver::Registration<Adapter<T>>;

/// Ties a driver to the PCI bus.
pub(crate) struct Adapter<T: Hooks>(PhantomData<T>);

// SAFETY: `PciDriver` is `repr(C)` and has a `struct device_driver` at that offset. `DriverData`
// has no size: the driver core, which drops it after unbind, frees nothing, and drvdata is
// vfio-pci-core's device.
unsafe impl<T: Hooks> driver::DriverLayout for Adapter<T> {
    type DriverType = PciDriver<T>;
    type DriverData<'bound> = ();
    const DEVICE_DRIVER_OFFSET: usize = core::mem::offset_of!(Self::DriverType, pci.driver);
}

// SAFETY: `unregister` undoes `register`.
unsafe impl<T: Hooks> driver::RegistrationOps for Adapter<T> {
    unsafe fn register(
        reg: &Opaque<Self::DriverType>,
        name: &'static CStr,
        module: &'static ThisModule,
    ) -> Result {
        let shared = KBox::pin_init(T::shared(), GFP_KERNEL)?.into_foreign();
        let this = reg.get();
        // SAFETY: The driver is not registered yet, so that it is ours to fill in.
        let ret = unsafe {
            // INVARIANT: Before registration.
            (*this).shared = shared.cast_const().cast();
            let pci = &raw mut (*this).pci;
            (*pci).name = name.as_char_ptr();
            (*pci).id_table = T::ID_TABLE.as_ptr();
            (*pci).probe = Some(Self::probe_callback);
            (*pci).remove = Some(Self::remove_callback);
            if T::HAS_SHUTDOWN {
                (*pci).shutdown = Some(Device::<T>::shutdown_callback);
            }
            (*pci).sriov_configure = Some(Self::sriov_configure_callback);
            (*pci).err_handler = Self::ERROR_HANDLERS;
            Power::<T>::set(pci);
            (*pci).dev_groups = AttributeGroups::<T>::groups();
            (*pci).driver_managed_dma = true;
            bindings::__pci_register_driver(pci, module.as_ptr(), name.as_char_ptr())
        };
        to_result(ret).inspect_err(|_| {
            // SAFETY: From `into_foreign()` above, and nothing uses it.
            drop(unsafe { Pin::<KBox<T::Shared>>::from_foreign(shared) });
        })?;
        // SAFETY: The driver is registered.
        unsafe { ids::add(&raw mut (*this).pci, T::ids()) };
        Ok(())
    }

    unsafe fn unregister(reg: &Opaque<Self::DriverType>) {
        let this = reg.get();
        // SAFETY: The driver is registered. When it no longer is, no device is bound, and nothing
        // uses what was shared; the pointer is from `into_foreign()`.
        unsafe {
            bindings::pci_unregister_driver(&raw mut (*this).pci);
            drop(Pin::<KBox<T::Shared>>::from_foreign(
                (*this).shared.cast_mut().cast(),
            ));
        }
    }
}

impl<T: Hooks> Adapter<T> {
    const ERROR_HANDLERS: &'static bindings::pci_error_handlers = &{
        let mut handlers: bindings::pci_error_handlers = pin_init::zeroed();
        handlers.error_detected = Some(Device::<T>::error_detected_callback);
        handlers.slot_reset = Some(Device::<T>::slot_reset_callback);
        handlers.reset_prepare = Some(Device::<T>::reset_prepare_callback);
        handlers.reset_done = Some(Device::<T>::reset_done_callback);
        handlers.resume = Some(Device::<T>::resume_callback);
        handlers
    };

    /// The `probe` callback.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a device that it is probing.
    unsafe extern "C" fn probe_callback(
        pdev: *mut bindings::pci_dev,
        _id: *const bindings::pci_device_id,
    ) -> c_int {
        from_result(|| {
            // SAFETY: The PCI bus is probing the device.
            let device = unsafe { Device::<T>::new(pdev)? };
            // SAFETY: The device is valid until put; up to 7.3 vfio-pci-core wants it behind
            // drvdata.
            let ret = unsafe {
                bindings::dev_set_drvdata(&raw mut (*pdev).dev, Device::as_raw(device).cast());
                Device::register(device)
            };
            // Also when that has failed: vfio-pci-core may have set `pm` before, for all devices.
            // SAFETY: The device is being probed by this driver.
            unsafe { Power::<T>::wrap(pdev) };
            if let Err(error) = to_result(ret) {
                // SAFETY: The reference is ours, and the device was not registered.
                unsafe {
                    bindings::dev_set_drvdata(&raw mut (*pdev).dev, core::ptr::null_mut());
                    Device::put(device);
                }
                return Err(error);
            }
            Ok(0)
        })
    }

    /// The `remove` callback.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device.
    unsafe extern "C" fn remove_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI bus removes a device that was probed: drvdata is ours, and the reference
        // of probe too.
        unsafe {
            let vdev = bindings::dev_get_drvdata(&raw const (*pdev).dev);
            bindings::vfio_pci_core_unregister_device(vdev.cast());
            if let Some(device) = NonNull::new(vdev.cast::<Device<T>>()) {
                Device::put(device);
            }
        }
    }

    /// The `sriov_configure` callback.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device.
    unsafe extern "C" fn sriov_configure_callback(
        pdev: *mut bindings::pci_dev,
        vfs: c_int,
    ) -> c_int {
        if !T::sriov_enabled() {
            return ENOENT.to_errno();
        }
        // SAFETY: The device is bound: drvdata is ours.
        unsafe {
            let vdev = bindings::dev_get_drvdata(&raw const (*pdev).dev);
            bindings::vfio_pci_core_sriov_configure(vdev.cast(), vfs)
        }
    }
}
