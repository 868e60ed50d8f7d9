// SPDX-License-Identifier: GPL-2.0-only

//! The device of a variant driver: vfio-pci-core's with the driver's data behind it, and what the
//! PCI bus and power management call for it.

use super::{
    driver::Hooks,
    session::{
        CallbackMemory,
        Handle,
        MaybeOpen,
        Open,
        SessionLock, //
    },
    vfio_pci_device::VfioPciDevice,
};
use crate::rust::{
    bindings,
    pci as bus, //
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// What a driver does in a callback. It gets memory unless the device is in transit: about to lose
/// its state, or to be restored.
type WithMaybeMemory<'a, T> = &'a dyn Fn(&T, &mut Open<'_, T>, Option<&mut CallbackMemory<'_>>);

/// A device of a variant driver.
///
/// # Invariants
///
/// Allocated by the vfio core, which owns it and zeroed it; `vdev` is at offset 0, so that a
/// pointer to the device is a pointer to the `struct vfio_device` in it. `session` and `data` are
/// initialised by [`Device::init_callback`] and dropped by [`Device::release_callback`].
#[repr(C)]
#[pin_data]
pub(super) struct Device<T: Hooks> {
    pub(super) vdev: VfioPciDevice,
    #[pin]
    pub(super) session: SessionLock<T>,
    #[pin]
    pub(super) data: T,
}

impl<T: Hooks> Device<T> {
    /// Borrows a device from a callback's argument.
    ///
    /// # Safety
    ///
    /// `vdev` is in a [`Device<T>`] that is initialised and outlives `'a`.
    #[inline]
    pub(super) unsafe fn from_vfio<'a>(vdev: *mut bindings::vfio_device) -> &'a Self {
        const_assert!(
            core::mem::offset_of!(Self, vdev) == 0
                && core::mem::offset_of!(bindings::vfio_pci_core_device, vdev) == 0,
            "struct vfio_device must be at offset 0"
        );
        const_assert!(
            align_of::<Self>() <= bindings::ARCH_KMALLOC_MINALIGN,
            "the vfio core allocates with kmalloc's alignment"
        );
        // SAFETY: `vdev` is in a device that is initialised and outlives `'a`, by the safety
        // requirement, and is at offset 0 of it, by the type's invariant.
        unsafe { &*vdev.cast_const().cast() }
    }

    /// Returns the C side.
    ///
    /// # Safety
    ///
    /// `this` is valid.
    pub(super) unsafe fn as_raw(this: NonNull<Self>) -> *mut bindings::vfio_pci_core_device {
        // SAFETY: `this` is valid, by the safety requirement.
        unsafe { this.as_ref().vdev.as_raw() }
    }

    /// Has vfio-pci-core register the device. Returns its error, or 0.
    ///
    /// # Safety
    ///
    /// `this` is valid, drvdata of its PCI device, and being probed.
    #[cfg(VFIO_TPH_OWN_CALLBACKS)]
    pub(super) unsafe fn register(this: NonNull<Self>) -> c_int {
        // SAFETY: `this` is valid, and drvdata of a PCI device that is being probed, by the safety
        // requirement. The VGA arbiter forgets the callback when the device is unregistered.
        unsafe {
            bindings::vfio_pci_core_register_device(
                Self::as_raw(this),
                Some(Self::set_decode_callback),
            )
        }
    }

    /// As above, with vfio-pci-core's own callback for the VGA arbiter.
    ///
    /// # Safety
    ///
    /// As above.
    #[cfg(not(VFIO_TPH_OWN_CALLBACKS))]
    pub(super) unsafe fn register(this: NonNull<Self>) -> c_int {
        // SAFETY: `this` is valid, and drvdata of a PCI device that is being probed, by the safety
        // requirement.
        unsafe { bindings::vfio_pci_core_register_device(Self::as_raw(this)) }
    }

    /// What the device decodes of VGA's legacy ranges.
    ///
    /// # Safety
    ///
    /// Called by the VGA arbiter only, for a device that is registered.
    #[cfg(VFIO_TPH_OWN_CALLBACKS)]
    unsafe extern "C" fn set_decode_callback(pdev: *mut bindings::pci_dev, single: bool) -> c_uint {
        // SAFETY: By the safety requirement drvdata is what probe set, before it registered.
        unsafe {
            let this = Self::from_bound(&raw mut (*pdev).dev);
            bindings::vfio_pci_core_vga_set_decode(this.vdev.as_raw(), single)
        }
    }

    /// Gives the reference of [`Device::new`] back.
    ///
    /// # Safety
    ///
    /// The caller owns that reference.
    pub(super) unsafe fn put(this: NonNull<Self>) {
        // SAFETY: The caller owns a reference, by the safety requirement, and gives it up.
        unsafe { bindings::put_device(&raw mut (*this.as_ref().vdev.as_vfio()).device) };
    }

    /// Borrows the device that is bound to `dev`.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver, and stays so for `'a`.
    pub(super) unsafe fn from_bound<'a>(dev: *mut bindings::device) -> &'a Self {
        // SAFETY: By the safety requirement drvdata is what probe set.
        unsafe { Self::from_vfio(bindings::dev_get_drvdata(dev).cast()) }
    }

    /// Runs `f` on the device behind a callback of the PCI bus, if there is one.
    ///
    /// # Safety
    ///
    /// `pdev` is bound to this driver, and the caller holds its device lock, which keeps it so.
    unsafe fn with_bound(pdev: *mut bindings::pci_dev, f: impl FnOnce(&Self)) {
        // SAFETY: By the safety requirement drvdata is null, or what probe set.
        unsafe {
            let vdev = bindings::dev_get_drvdata(&raw const (*pdev).dev);
            if !vdev.is_null() {
                f(Self::from_vfio(vdev.cast()));
            }
        }
    }

    /// The device for a callback for which it is open.
    ///
    /// # Safety
    ///
    /// [`Self::open_callback`] has succeeded, and [`Self::close_callback`] has not got beyond
    /// `Driver::before_close()`, as long as the borrow lasts.
    #[inline(always)]
    pub(super) unsafe fn handle(&self) -> Handle<'_, T> {
        // SAFETY: By the safety requirement: vfio-pci-core has enabled the device at open, and
        // disables it at close, and so there is what `SessionLock::open` has set.
        unsafe { Handle::new(self.vdev.as_open(), &self.session) }
    }

    pub(super) fn maybe_open(&self) -> MaybeOpen<'_, T> {
        MaybeOpen {
            vdev: &self.vdev,
            session: &self.session,
        }
    }

    /// Runs `f` in a callback of a reset, on the device if it is open. `under_way` says whether a
    /// reset is under way from then on.
    fn in_reset(&self, f: &dyn Fn(&T, &mut Open<'_, T>, &mut CallbackMemory<'_>), under_way: bool) {
        self.vdev.in_reset(|stable| {
            let mut guard = self.session.locked.lock();
            // SAFETY: If `stable`, whoever asked for the reset holds `memory_lock`, or we do.
            // Others who reset the device come later, or say so first.
            unsafe {
                self.session
                    .locked_with_memory(&mut guard, &self.vdev, stable, |open, memory| {
                        f(&self.data, open, memory)
                    });
            }
            guard.set_reset(under_way);
        });
    }

    /// Runs `f` in a callback of recovery from an error, on the device if it is open. It gets no
    /// memory while the device must be left alone, because its user is changing the power state or
    /// it is being reset: what the driver did before has to stay so until the end, and a device
    /// that comes out of D3hot answers before vfio-pci-core has restored it. What the driver does
    /// at the end makes up for it.
    fn in_recovery(&self, f: WithMaybeMemory<'_, T>) {
        self.vdev.in_reset(|stable| {
            // SAFETY: If `stable`, we hold `memory_lock`: this thread recovers the device, and is
            // in no reset by way of vfio-pci-core. Others who reset it come later, or say so first.
            unsafe { self.unless_in_transit(stable, f) };
        });
    }

    /// Runs `f` on the device if it is open, with its memory; without, if it is being reset or its
    /// user is changing the power state.
    ///
    /// # Safety
    ///
    /// As for [`SessionLock::locked_with_memory`].
    unsafe fn unless_in_transit(&self, stable: bool, f: WithMaybeMemory<'_, T>) {
        let mut guard = self.session.locked.lock();
        if guard.is_in_transit() {
            self.session
                .locked_with_open(&mut guard, &self.vdev, |open| f(&self.data, open, None));
            return;
        }
        // SAFETY: By the safety requirement.
        unsafe {
            self.session
                .locked_with_memory(&mut guard, &self.vdev, stable, |open, memory| {
                    f(&self.data, open, Some(memory))
                });
        }
    }

    /// `pci_error_handlers.reset_prepare`.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn reset_prepare_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this under the device lock of a bound device.
        unsafe { Self::with_bound(pdev, |this| this.in_reset(&T::reset_prepare, true)) };
    }

    /// `pci_error_handlers.reset_done`.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn reset_done_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this under the device lock of a bound device.
        unsafe {
            Self::with_bound(pdev, |this| {
                this.in_reset(&T::reset_done, false);
                this.session.over.notify_all();
            })
        };
    }

    /// `pci_error_handlers.error_detected`.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn error_detected_callback(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        // SAFETY: The PCI core calls this under the device lock of a bound device, which is what
        // vfio-pci-core's own handler expects.
        unsafe {
            Self::with_bound(pdev, |this| {
                let accessible = state == bindings::pci_channel_io_normal;
                this.in_recovery(&|data, open, memory| {
                    data.error_detected(open, accessible, memory);
                });
            });
            Self::vfio_pci_core_error_detected(pdev, state)
        }
    }

    /// What vfio-pci-core makes of an error: it tells the user.
    ///
    /// # Safety
    ///
    /// As [`Self::error_detected_callback`].
    #[cfg(VFIO_TPH_OWN_CALLBACKS)]
    unsafe fn vfio_pci_core_error_detected(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        let mut result = bindings::pci_ers_result_PCI_ERS_RESULT_CAN_RECOVER;
        // SAFETY: The device is bound, and the caller holds its lock, by the safety requirement.
        unsafe {
            Self::with_bound(pdev, |this| {
                result = bindings::vfio_pci_core_aer_err_detected(this.vdev.as_raw(), state);
            });
        }
        result
    }

    /// As above, where vfio-pci-core finds its device by drvdata.
    ///
    /// # Safety
    ///
    /// As [`Self::error_detected_callback`].
    #[cfg(not(VFIO_TPH_OWN_CALLBACKS))]
    unsafe fn vfio_pci_core_error_detected(
        pdev: *mut bindings::pci_dev,
        state: bindings::pci_channel_state_t,
    ) -> bindings::pci_ers_result_t {
        // SAFETY: The device is bound, and the caller holds its lock, by the safety requirement:
        // drvdata is vfio-pci-core's device.
        unsafe { bindings::vfio_pci_core_aer_err_detected(pdev, state) }
    }

    /// `pci_error_handlers.slot_reset`. vfio-pci has none, and so no say in what becomes of a
    /// recovery from AER: neither has this. That there is one does count with EEH (powerpc), which
    /// takes away a device without, and with Xen, which asks its result alone.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn slot_reset_callback(
        pdev: *mut bindings::pci_dev,
    ) -> bindings::pci_ers_result_t {
        // SAFETY: The PCI core calls this under the device lock of a bound device.
        unsafe {
            Self::with_bound(pdev, |this| {
                this.session
                    .with_open(&this.vdev, |open| this.data.slot_reset(open))
            })
        };
        bindings::pci_ers_result_PCI_ERS_RESULT_NONE
    }

    /// `pci_error_handlers.resume`.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn resume_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this under the device lock of a bound device.
        unsafe {
            Self::with_bound(pdev, |this| {
                this.in_recovery(&|data, open, memory| {
                    if let Some(memory) = memory {
                        data.error_resume(open, memory);
                    }
                });
            })
        };
    }

    /// `pci_driver.shutdown`.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn shutdown_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The driver core calls this under the device lock.
        unsafe { Self::with_bound(pdev, |this| this.shutdown()) };
    }

    /// Tells the driver that the system goes down; a device that is open is taken to D0 before.
    ///
    /// # Safety
    ///
    /// The caller holds the device lock.
    unsafe fn shutdown(&self) {
        let is_open = self.session.locked.lock().is_open();
        if is_open && !bus::is_in_d0(self.vdev.pci()) {
            self.vdev.power_up();
        }
        // Before the session's lock is taken: a user who opens the device before that is found
        // below, and one who opens it afterwards finds this.
        self.data.system_is_down();
        // Whoever holds `memory_lock` for writing only tries the device lock, which our caller
        // holds: nobody waits for us.
        let _memory = self.vdev.memory_lock();
        let mut guard = self.session.locked.lock();
        // SAFETY: `memory_lock` is held: nobody resets the device through vfio, or changes its
        // power state, what it decodes, or its vectors. Others who reset it take the device lock.
        unsafe {
            self.session
                .locked_with_memory(&mut guard, &self.vdev, true, |open, memory| {
                    self.data.shutdown(open, memory)
                });
        }
    }

    /// `dev_pm_ops.runtime_suspend`, before vfio-pci-core's.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    pub(super) unsafe fn suspend(dev: *mut bindings::device) {
        // SAFETY: `dev` is bound to this driver, by the safety requirement.
        let this = unsafe { Self::from_bound(dev) };
        this.session
            .with_open(&this.vdev, |open| this.data.suspend(open));
    }

    /// `dev_pm_ops.runtime_resume`, after vfio-pci-core's.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    pub(super) unsafe fn resume(dev: *mut bindings::device) {
        // SAFETY: `dev` is bound to this driver, by the safety requirement.
        let this = unsafe { Self::from_bound(dev) };
        this.session.woken_up(&this.vdev, |open, memory| {
            this.data.resume(open, memory);
        });
    }

    /// `dev_pm_ops.suspend`, `freeze` and `poweroff`, before vfio-pci-core's.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    pub(super) unsafe fn system_suspend(dev: *mut bindings::device) {
        // SAFETY: `dev` is bound to this driver, by the safety requirement.
        let this = unsafe { Self::from_bound(dev) };
        this.session
            .with_open(&this.vdev, |open| this.data.system_suspend(open));
    }

    /// `dev_pm_ops.resume`, `thaw` and `restore`, after vfio-pci-core's.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver, under its device lock.
    pub(super) unsafe fn system_resume(dev: *mut bindings::device) {
        // SAFETY: `dev` is bound to this driver, by the safety requirement.
        let this = unsafe { Self::from_bound(dev) };
        // As in `Self::shutdown`.
        let _memory = this.vdev.memory_lock();
        // SAFETY: As in `Self::shutdown`; the caller holds the device lock, by the safety
        // requirement.
        unsafe {
            this.unless_in_transit(true, &|data, open, memory| {
                data.system_resume(open, memory);
            })
        };
    }
}
