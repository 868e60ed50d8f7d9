// SPDX-License-Identifier: GPL-2.0-only

//! What the vfio core and vfio-pci-core call for a device: the tables of a variant driver, which
//! are vfio-pci's with some callbacks wrapped.

use super::{
    device::Device,
    driver::Hooks,
    ioeventfd,
    msix::StableVectors,
    pci_driver,
    session::{
        Handle,
        Opening,
        SessionLock,
        Turn, //
    },
    vfio_pci_device::Access,
};
use crate::rust::{
    bindings,
    pci::Awake,
    vfio::feature::Call, //
};
use core::ptr::NonNull;
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    prelude::*,
    uaccess::UserPtr, //
};

// The ioctls that `Device::ioctl` looks at.
const SET_IRQS: c_uint = bindings::TPH_DEVICE_SET_IRQS;
const RESET: c_uint = bindings::TPH_DEVICE_RESET;
const HOT_RESET: c_uint = bindings::TPH_DEVICE_PCI_HOT_RESET;
const IOEVENTFD: c_uint = bindings::TPH_DEVICE_IOEVENTFD;

/// The feature that ends the low power state of a device.
const LOW_POWER_EXIT: u32 = bindings::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;

/// The numbers among which these ioctls are: one comparison rules most others out. Others that are
/// in between are handed on to vfio-pci-core.
const LOOKED_AT: core::ops::RangeInclusive<c_uint> = SET_IRQS..=IOEVENTFD;

impl<T: Hooks> Device<T> {
    /// Allocates a device for `pdev`. Returns it with one reference, for [`Device::put`].
    ///
    /// # Safety
    ///
    /// `pdev` is being probed by the driver, so that [`pci_driver::probed`] can tell what is
    /// shared.
    pub(super) unsafe fn new(pdev: *mut bindings::pci_dev) -> Result<NonNull<Self>> {
        // SAFETY: The size covers the whole of `Self`, and the tables are static.
        let raw = unsafe {
            bindings::_vfio_alloc_device(
                core::alloc::Layout::new::<Self>().pad_to_align().size(),
                &raw mut (*pdev).dev,
                Self::VFIO_OPS,
            )
        };
        let vdev = kernel::error::from_err_ptr(raw)?.cast::<Self>();
        // SAFETY: The vfio core has just allocated the device, and nobody else has it.
        unsafe { (*(*vdev).vdev.as_raw()).pci_ops = Self::PCI_OPS };
        NonNull::new(vdev).ok_or(ENOMEM)
    }

    // References, so that the borrow checker proves that the tables are static.
    const PCI_OPS: &'static bindings::vfio_pci_device_ops = &{
        let mut ops: bindings::vfio_pci_device_ops = pin_init::zeroed();
        ops.get_dmabuf_phys = Some(Self::dmabuf_callback);
        Self::answer_for_dma_bufs(&mut ops);
        ops
    };

    /// What vfio-pci has in its table, with our callbacks in place of some.
    const VFIO_OPS: &'static bindings::vfio_device_ops = &{
        let mut ops: bindings::vfio_device_ops = pin_init::zeroed();
        // `as_char_ptr()` is not const.
        #[allow(clippy::disallowed_methods)]
        let name = T::NAME.as_ptr();
        ops.name = name.cast_mut().cast();
        ops.init = Some(Self::init_callback);
        ops.release = Some(Self::release_callback);
        ops.open_device = Some(Self::open_callback);
        ops.close_device = Some(Self::close_callback);
        ops.ioctl = Some(Self::ioctl_callback);
        ops.get_region_info_caps = Some(Self::region_info_callback);
        ops.device_feature = Some(bindings::vfio_pci_core_ioctl_feature);
        if T::HAS_FEATURE {
            ops.device_feature = Some(Self::feature_callback);
        }
        ops.read = Some(bindings::vfio_pci_core_read);
        if T::HAS_READ {
            ops.read = Some(Self::read_callback);
        }
        ops.write = Some(bindings::vfio_pci_core_write);
        if T::HAS_WRITE {
            ops.write = Some(Self::write_callback);
        }
        ops.mmap = Some(Self::mmap_callback);
        ops.request = Some(bindings::vfio_pci_core_request);
        ops.match_ = Some(bindings::vfio_pci_core_match);
        ops.match_token_uuid = Some(bindings::vfio_pci_core_match_token_uuid);
        #[cfg(CONFIG_IOMMUFD)]
        {
            ops.bind_iommufd = Some(bindings::vfio_iommufd_physical_bind);
            ops.unbind_iommufd = Some(bindings::vfio_iommufd_physical_unbind);
            ops.attach_ioas = Some(bindings::vfio_iommufd_physical_attach_ioas);
            ops.detach_ioas = Some(bindings::vfio_iommufd_physical_detach_ioas);
            ops.pasid_attach_ioas = Some(bindings::vfio_iommufd_physical_pasid_attach_ioas);
            ops.pasid_detach_ioas = Some(bindings::vfio_iommufd_physical_pasid_detach_ioas);
        }
        ops
    };

    /// Initialises a device that the vfio core has just allocated.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with memory of ours that is zeroed.
    pub(super) unsafe extern "C" fn init_callback(vdev: *mut bindings::vfio_device) -> c_int {
        let this = vdev.cast::<Self>();
        from_result(|| {
            // SAFETY: The vfio core calls this for a device that is being probed.
            let (pdev, shared) = unsafe { pci_driver::probed::<T>((*vdev).dev)? };

            // SAFETY: The memory is ours until this returns, and does not move.
            unsafe {
                pin_init::raw_init(&raw mut (*this).session, SessionLock::new());
            }
            // SAFETY: The memory is ours until this returns, and does not move.
            let data =
                unsafe { pin_init::raw_try_init(&raw mut (*this).data, T::probe(pdev, shared)) };
            // vfio calls release() only for what init() has accepted.
            if let Err(error) = data {
                // SAFETY: Initialised above, and not used after this.
                unsafe { core::ptr::drop_in_place(&raw mut (*this).session) };
                return Err(error);
            }
            let settings = T::settings();
            // SAFETY: The memory is ours until this returns, zeroed, and what vfio-pci-core
            // expects.
            unsafe {
                let device = vdev.cast::<bindings::vfio_pci_core_device>();
                (*device).set_nointxmask(settings.nointxmask);
                (*device).set_disable_idle_d3(settings.disable_idle_d3);
                (*device).set_disable_vga(settings.disable_vga);
            }
            // SAFETY: The vfio device is what vfio-pci-core expects.
            if let Err(error) = to_result(unsafe { bindings::vfio_pci_core_init_dev(vdev) }) {
                // SAFETY: Initialised above, and not used after this.
                unsafe {
                    core::ptr::drop_in_place(&raw mut (*this).data);
                    core::ptr::drop_in_place(&raw mut (*this).session);
                }
                return Err(error);
            }
            Ok(0)
        })
    }

    /// The last reference is gone; the vfio core frees the memory next.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with a device of ours.
    pub(super) unsafe extern "C" fn release_callback(vdev: *mut bindings::vfio_device) {
        let this = vdev.cast::<Self>();
        // SAFETY: The device was initialised, and nobody uses it after this.
        unsafe {
            bindings::vfio_pci_core_release_dev(vdev);
            core::ptr::drop_in_place(&raw mut (*this).data);
            core::ptr::drop_in_place(&raw mut (*this).session);
        }
    }

    /// The `open` callback.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with a device of ours.
    unsafe extern "C" fn open_callback(vdev: *mut bindings::vfio_device) -> c_int {
        // SAFETY: The vfio core calls this for an initialised device.
        let this = unsafe { Self::from_vfio(vdev) };
        from_result(|| {
            this.session.opening();
            this.enable().inspect_err(|_| this.session.not_opened())?;
            // SAFETY: vfio_pci_core_enable() has succeeded, in `enable`; this is its second half.
            unsafe { bindings::vfio_pci_core_finish_enable(this.vdev.as_raw()) };
            Ok(0)
        })
    }

    /// Enables the device and makes a session for its user.
    fn enable(&self) -> Result {
        let _awake = Awake::new(self.vdev.pci())?;
        self.data.before_open(&self.vdev)?;
        // SAFETY: The vfio core is opening the device for the first user, under the device set's
        // lock.
        to_result(unsafe { bindings::vfio_pci_core_enable(self.vdev.as_raw()) })?;

        // A reset through sysfs waits for the session's lock, or is waited for here: the driver
        // must not look at a device in the middle of a reset, and must not miss one.
        let mut guard = self.session.lock_after_reset();
        // SAFETY: vfio-pci-core has enabled the device, and `vdev` is not used when it disables it.
        let vdev = unsafe { self.vdev.as_open() };
        // SAFETY: The user comes later, and whoever resets the device waits for the session's lock.
        match self.data.open(&mut unsafe { Opening::new(vdev) }) {
            Ok(state) => {
                // SAFETY: vfio-pci-core has enabled the device, for its first user, for whom no
                // callback but this one runs.
                unsafe { self.session.open(&mut guard, state) };
                Ok(())
            }
            Err(error) => {
                drop(guard);
                // SAFETY: Undoes vfio_pci_core_enable(), under the same lock.
                unsafe { bindings::vfio_pci_core_disable(self.vdev.as_raw()) };
                Err(error)
            }
        }
    }

    /// The `close` callback.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with a device of ours.
    unsafe extern "C" fn close_callback(vdev: *mut bindings::vfio_device) {
        // SAFETY: The vfio core calls this for an initialised device.
        let this = unsafe { Self::from_vfio(vdev) };
        // A device that does not wake up is closed all the same.
        let _awake = Awake::new(this.vdev.pci());
        this.session.end_visits();
        // SAFETY: The device is closed below, when this has returned.
        this.data.before_close(unsafe { this.handle() });
        // SAFETY: The vfio core calls this for the last close, under the device set's lock: no
        // other callback of a user runs, which could have a handle, the one above is gone, and
        // visits are over.
        unsafe { this.session.close(&this.vdev, |open| this.data.close(open)) };
        // SAFETY: The vfio core calls this for the last close, under the device set's lock.
        unsafe { bindings::vfio_pci_core_close_device(vdev) };
    }

    /// The `ioctl` callback.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with a device of ours.
    unsafe extern "C" fn ioctl_callback(
        vdev: *mut bindings::vfio_device,
        cmd: c_uint,
        arg: c_ulong,
    ) -> c_long {
        if !LOOKED_AT.contains(&cmd) {
            // SAFETY: The arguments are those that the vfio core has called us with.
            return unsafe { bindings::vfio_pci_core_ioctl(vdev, cmd, arg) };
        }
        // SAFETY: The vfio core calls this for an open device.
        let this = unsafe { Self::from_vfio(vdev) };
        // SAFETY: The device is open for as long as the vfio core's call lasts.
        this.ioctl(unsafe { this.handle() }, cmd, arg)
    }

    // Not inlined, so that the callback needs no stack.
    #[cold]
    #[inline(never)]
    fn ioctl(&self, handle: Handle<'_, T>, cmd: c_uint, arg: c_ulong) -> c_long {
        if cmd == SET_IRQS {
            return self.set_irqs(handle, arg);
        }
        if cmd == IOEVENTFD && ioeventfd::is_misaligned(arg) {
            // CAST: widens.
            return EINVAL.to_errno() as c_long;
        }
        let ret = handle.vdev().ioctl(cmd, arg);
        if ret < 0 && (cmd == RESET || cmd == HOT_RESET) {
            self.data.reset_failed(handle);
        }
        // Somebody else has the lock of a device, or of a bridge, that would be reset, too. All of
        // the set were taken to D0 before; those of other drivers are theirs to see to.
        // CAST: widens.
        if ret == EAGAIN.to_errno() as c_long && cmd == HOT_RESET {
            // SAFETY: The device is open, as there is a handle. The function is called with open
            // devices of this driver.
            unsafe {
                bindings::tph_helper_each_other_in_set(
                    self.vdev.as_vfio(),
                    Some(Self::taken_to_d0_callback),
                )
            };
        }
        ret
    }

    /// vfio-pci-core has taken the device to D0 for a hot reset that another device of its set was
    /// asked for, and that could not be done.
    ///
    /// # Safety
    ///
    /// `vdev` is a device of this driver, and stays open meanwhile.
    unsafe extern "C" fn taken_to_d0_callback(vdev: *mut bindings::vfio_device) {
        // SAFETY: As the safety requirement has it.
        let this = unsafe { Self::from_vfio(vdev) };
        // One that sleeps is seen to when it wakes up.
        if let Some(_awake) = Awake::if_awake(this.vdev.pci()) {
            // SAFETY: An open device is bound.
            unsafe { Self::resume((*vdev).dev) };
        }
    }

    fn set_irqs(&self, handle: Handle<'_, T>, arg: c_ulong) -> c_long {
        if !T::tracks_interrupts(handle.terms()) {
            return handle.vdev().ioctl(SET_IRQS, arg);
        }
        let _turn = match Turn::begin(handle) {
            Ok(turn) => turn,
            // CAST: widens.
            Err(error) => return error.to_errno() as c_long,
        };
        self.data.interrupts_change(handle);
        let ret = handle.vdev().ioctl(SET_IRQS, arg);
        // SAFETY: vfio-pci-core frees vectors in SET_IRQS, which all users do alone, as we do, and
        // at close, which comes when no user is left.
        let vectors = unsafe { StableVectors::new(handle.vdev()) };
        self.data.interrupts_changed(handle, vectors);
        ret
    }

    /// The `read` callback.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with a device of ours.
    unsafe extern "C" fn read_callback(
        vdev: *mut bindings::vfio_device,
        buf: *mut c_char,
        count: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The vfio core calls this for an open device, with a valid position. CAST: as
        // VFIO_PCI_OFFSET_TO_INDEX() has it.
        let (this, position) = unsafe { (Self::from_vfio(vdev), *pos as u64) };
        // SAFETY: The device is open for as long as the vfio core's call lasts.
        let handle = unsafe { this.handle() };
        if T::wants_read(handle.terms(), position, count) {
            // SAFETY: The position is the vfio core's, valid for as long as its call lasts.
            let access = unsafe { Self::access(buf, count, pos) };
            return this.read(handle, access);
        }
        // SAFETY: The arguments are those that the vfio core has called us with.
        unsafe { bindings::vfio_pci_core_read(vdev, buf, count, pos) }
    }

    /// The `write` callback.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with a device of ours.
    unsafe extern "C" fn write_callback(
        vdev: *mut bindings::vfio_device,
        buf: *const c_char,
        count: usize,
        pos: *mut bindings::loff_t,
    ) -> isize {
        // SAFETY: The vfio core calls this for an open device, with a valid position. CAST: as
        // VFIO_PCI_OFFSET_TO_INDEX() has it.
        let (this, position) = unsafe { (Self::from_vfio(vdev), *pos as u64) };
        // SAFETY: The device is open for as long as the vfio core's call lasts.
        let handle = unsafe { this.handle() };
        if T::wants_write(handle.terms(), position, count) {
            // SAFETY: The position is the vfio core's, valid for as long as its call lasts.
            let access = unsafe { Self::access(buf.cast_mut(), count, pos) };
            return this.write(handle, access);
        }
        // SAFETY: The arguments are those that the vfio core has called us with.
        unsafe { bindings::vfio_pci_core_write(vdev, buf, count, pos) }
    }

    /// The arguments of a read or write.
    ///
    /// # Safety
    ///
    /// `pos` is valid for `'a`.
    unsafe fn access<'a>(buf: *mut c_char, count: usize, pos: *mut bindings::loff_t) -> Access<'a> {
        Access {
            buf: UserPtr::from_ptr(buf.cast()),
            count,
            // SAFETY: `pos` is valid for `'a`, by the safety requirement.
            pos: unsafe { &mut *pos },
        }
    }

    // Not inlined, so that the callbacks need no stack.
    #[cold]
    #[inline(never)]
    fn read(&self, handle: Handle<'_, T>, access: Access<'_>) -> isize {
        from_count(self.data.read(handle, access))
    }

    #[cold]
    #[inline(never)]
    fn write(&self, handle: Handle<'_, T>, access: Access<'_>) -> isize {
        from_count(self.data.write(handle, access))
    }

    /// The `feature` callback.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, with a device of ours.
    unsafe extern "C" fn feature_callback(
        vdev: *mut bindings::vfio_device,
        flags: u32,
        arg: *mut c_void,
        argsz: usize,
    ) -> c_int {
        let index = flags & bindings::VFIO_DEVICE_FEATURE_MASK;
        if !T::FEATURES.contains(&index) && index != LOW_POWER_EXIT {
            // SAFETY: The arguments are those that the vfio core has called us with.
            return unsafe { bindings::vfio_pci_core_ioctl_feature(vdev, flags, arg, argsz) };
        }
        // SAFETY: The vfio core calls this for an open device.
        let this = unsafe { Self::from_vfio(vdev) };
        let call = Call {
            flags,
            arg: UserPtr::from_ptr(arg),
            argsz,
        };
        // SAFETY: The device is open for as long as the vfio core's call lasts.
        this.feature(unsafe { this.handle() }, call)
    }

    // Not inlined, so that the callback needs no stack.
    #[cold]
    #[inline(never)]
    fn feature(&self, handle: Handle<'_, T>, call: Call) -> c_int {
        from_result(|| match call.index() {
            LOW_POWER_EXIT => self.data.low_power_exit(handle, call),
            _ => self.data.feature(handle, call),
        })
    }
}

#[inline]
fn from_count(count: Result<usize>) -> isize {
    match count {
        // CAST: vfio-pci-core returns what fits.
        Ok(count) => count as isize,
        // CAST: widens.
        Err(error) => error.to_errno() as isize,
    }
}
