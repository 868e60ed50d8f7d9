// SPDX-License-Identifier: GPL-2.0-only

//! The device of a variant driver: vfio-pci-core's with the driver's data behind it.

use super::{
    core_device::{
        Access,
        CoreDevice,
        MemoryGuard,
        VirtualConfig, //
    },
    msix::{
        Decoding,
        MsixTable, //
    },
};
use crate::abstractions::{
    bindings,
    pci::Awake,
    vfio::feature::Call, //
};
use core::{
    ops::{
        Deref,
        DerefMut,
        Range, //
    },
    ptr::NonNull,
};
use kernel::{
    device::Bound,
    error::{
        from_result,
        to_result, //
    },
    new_condvar,
    new_mutex,
    pci,
    prelude::*,
    sync::{
        CondVar,
        Mutex,
        MutexGuard, //
    },
    uaccess::UserPtr, //
};

/// A vfio-pci variant driver. The implementing type is the driver's data of one bound device.
///
/// Callbacks run in process context and may sleep, several at a time.
pub(crate) trait Driver: Sized + Send + Sync + 'static {
    /// What all devices of the driver share. Lives from before the first is bound until after the
    /// last is gone.
    type Shared: Send + Sync;

    /// What exists while a device is open.
    type Session: Send + Unpin;

    /// The attribute that a bound device has in sysfs.
    type Attribute: super::attribute::Attribute<Self>;

    /// The driver's name; also that of its vfio devices, as SR-IOV in core wants it.
    const NAME: &'static CStr;

    /// Makes what all devices share.
    fn shared() -> impl PinInit<Self::Shared, Error>;

    /// Whether virtual functions may be made of a physical function: vfio-pci has a parameter.
    fn sriov_enabled() -> bool;

    /// A device is bound.
    fn probe(pdev: &pci::Device<Bound>, shared: &Self::Shared) -> Result<Self>;

    /// A user is about to open the device, which is awake; core has not touched it yet.
    fn before_open(&self, core: &CoreDevice) -> Result {
        let _ = core;
        Ok(())
    }

    /// A user opens the device: core has enabled and reset it, and the user cannot reach it yet.
    fn open(&self, opening: &mut Opening<'_>) -> Result<Self::Session>;

    /// The last user is gone; no lock is held yet.
    fn before_close(&self, device: Handle<'_, Self>) {
        let _ = device;
    }

    /// Interrupt vectors may have been allocated or freed; the next change waits for this one.
    fn interrupts_changed(&self, device: Handle<'_, Self>) {
        let _ = device;
    }

    /// The last user is gone; core will disable the device. A reset may still be under way.
    fn close(&self, open: &mut Open<'_, Self>);

    /// Reads a region. Returns the number of bytes.
    fn read(&self, device: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        device.core().read(access)
    }

    /// Writes a region. Returns the number of bytes.
    fn write(&self, device: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        device.core().write(access)
    }

    /// Handles a feature.
    fn feature(&self, device: Handle<'_, Self>, call: Call) -> Result<i32> {
        device.core().feature(call)
    }

    /// The bytes of a region that no user may map or export, if any.
    fn unmappable(&self, device: Handle<'_, Self>, region: u32) -> Result<Option<Range<u64>>> {
        let _ = (device, region);
        Ok(None)
    }

    /// The device is about to be suspended by runtime PM.
    fn suspend(&self, open: &mut Open<'_, Self>) {
        let _ = open;
    }

    /// The device has been resumed by runtime PM.
    fn resume(&self, open: &mut Open<'_, Self>) {
        let _ = open;
    }

    /// The device, which is open, will be reset. From here to [`Driver::reset_done`] sessions cannot
    /// be locked by [`Handle::lock`].
    fn reset_prepare(&self, open: &mut Open<'_, Self>, reset: &InReset);

    /// The device, which is open, has been reset.
    fn reset_done(&self, open: &mut Open<'_, Self>, reset: &InReset);

    /// An error was reported; the device, which is open, will be reset, or has been disturbed. Unless
    /// `accessible`, it cannot be reached.
    fn error_detected(&self, open: &mut Open<'_, Self>, accessible: bool, reset: &InReset);

    /// Recovery from an error is over; the device, which is open, may have lost its state.
    fn error_resume(&self, open: &mut Open<'_, Self>, reset: &InReset);
}

/// `PCI_CAP_ID_INVALID` of drivers/vfio/pci/vfio_pci_priv.h: the byte belongs to no capability.
const CAP_ID_INVALID: u8 = 0xff;

/// A callback of a reset, before or after it.
pub(crate) struct InReset {
    /// Whether memory decoding is not changed by others meanwhile.
    stable: bool,
}

impl InReset {
    /// Makes the device decode its memory BARs for as long as the guard lives. `None` if it is in
    /// a power state in which it cannot, or if somebody else is about to change that.
    pub(crate) fn decode_memory<'a, T: Driver>(&self, open: &Open<'a, T>) -> Option<Decoding<'a>> {
        // Who asked for the reset has the lock, or we have taken it.
        self.stable
            .then(|| open.core.decode_memory_locked(false))
            .flatten()
    }
}

/// What a driver may edit while a device is being opened.
pub(crate) struct Opening<'a> {
    core: &'a CoreDevice,
}

impl<'a> Opening<'a> {
    /// The device.
    pub(crate) fn core(&self) -> &'a CoreDevice {
        self.core
    }

    /// Makes the device decode its memory BARs for as long as the guard lives. `None` if it is in
    /// a power state in which it cannot.
    pub(crate) fn decode_memory(&self) -> Option<Decoding<'a>> {
        // Nobody else has the device yet: there is no need for the lock.
        self.core.decode_memory_locked(false)
    }

    /// The MSI-X table, while memory is decoded.
    pub(crate) fn msix_table<'b>(&self, _: &'b Decoding<'_>) -> Option<MsixTable<'b>>
    where
        'a: 'b,
    {
        // SAFETY: core has enabled the device, and it decodes while `Decoding` lives.
        unsafe { self.core.msix_table() }
    }

    /// core's map of config space, and the virtual config space: one byte each for every byte.
    pub(crate) fn config(&mut self) -> (&mut [u8], &mut [u8]) {
        let raw = self.core.as_raw();
        // SAFETY: The device is open, so that both arrays exist, with `cfg_size` bytes each. The
        // user cannot reach them yet, and nothing else in core does (runtime PM would, and a
        // reference keeps it away): they are exclusively ours. core fills the map, and of the virtual
        // space what belongs to a capability; the rest is zeroed here, and never read by core.
        unsafe {
            let len = (*(*raw).pdev).cfg_size as usize;
            for at in 0..len {
                if *(*raw).pci_config_map.add(at) == CAP_ID_INVALID {
                    (*raw).vconfig.add(at).write(0);
                }
            }
            (
                core::slice::from_raw_parts_mut((*raw).pci_config_map, len),
                core::slice::from_raw_parts_mut((*raw).vconfig, len),
            )
        }
    }
}

/// The state of a device between open and close, behind a lock.
#[pin_data]
pub(crate) struct Session<T: Driver> {
    #[pin]
    locked: Mutex<Locked<T>>,
    #[pin]
    reset_is_over: CondVar,
    /// Held while interrupt vectors are allocated or freed, comes before all other locks.
    #[pin]
    interrupts: Mutex<()>,
}

struct Locked<T: Driver> {
    /// Whether a reset is under way: prepared, not done. One at a time, under the device lock.
    resetting: bool,
    /// Whether a user is about to have a session.
    opening: bool,
    /// INVARIANT: `Some` only while the device is open: set after vfio_pci_core_enable(), taken
    /// before vfio_pci_core_close_device().
    session: Option<T::Session>,
}

impl<T: Driver> Session<T> {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            locked <- new_mutex!(Locked {
                resetting: false,
                opening: false,
                session: None,
            }),
            reset_is_over <- new_condvar!(),
            interrupts <- new_mutex!(()),
        })
    }

    fn with_open(&self, core: &CoreDevice, f: impl FnOnce(&mut Open<'_, T>)) {
        let mut guard = self.locked.lock();
        Self::locked_with_open(&mut guard, core, f);
    }

    fn locked_with_open(
        guard: &mut MutexGuard<'_, Locked<T>>,
        core: &CoreDevice,
        f: impl FnOnce(&mut Open<'_, T>),
    ) {
        if let Some(session) = guard.session.as_mut() {
            f(&mut Open { session, core });
        }
    }
}

/// A device as a callback gets it: core's part, and the way to the session that belongs to it.
pub(crate) struct Handle<'a, T: Driver> {
    core: &'a CoreDevice,
    session: &'a Session<T>,
}

impl<T: Driver> Clone for Handle<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Driver> Copy for Handle<'_, T> {}

impl<'a, T: Driver> Handle<'a, T> {
    /// core's part of the device.
    #[inline]
    pub(crate) fn core(&self) -> &'a CoreDevice {
        self.core
    }

    /// Runs `f` if the device is not open, and keeps it so meanwhile. EBUSY if it is.
    pub(crate) fn unless_open(&self, f: impl FnOnce()) -> Result {
        let guard = self.session.locked.lock();
        if guard.opening || guard.session.is_some() {
            return Err(EBUSY);
        }
        f();
        Ok(())
    }

    /// Locks the session, whatever goes on. ENODEV if the device is not open.
    pub(crate) fn lock_now(&self) -> Result<SessionGuard<'a, T>> {
        self.guard(self.session.locked.lock(), None)
    }

    /// Locks the session with `memory_lock` held for reading, and no reset under way: hardware
    /// can be changed. ENODEV if the device is not open. The device is awake.
    pub(crate) fn lock(&self) -> Result<SessionGuard<'a, T>> {
        loop {
            // Not under memory_lock, which page faults take: a reset may last.
            let mut guard = self.session.locked.lock();
            while guard.resetting {
                self.session.reset_is_over.wait(&mut guard);
            }
            drop(guard);

            let memory = self.core.memory_lock();
            let guard = self.session.locked.lock();
            if !guard.resetting {
                return self.guard(guard, Some(memory));
            }
        }
    }

    /// As [`Self::lock`], and makes the device decode its memory BARs as
    /// [`CoreDevice::decode_memory`] does, if it can.
    pub(crate) fn lock_decoding(&self) -> Result<(Option<Decoding<'a>>, SessionGuard<'a, T>)> {
        loop {
            let mut guard = self.session.locked.lock();
            while guard.resetting {
                self.session.reset_is_over.wait(&mut guard);
            }
            drop(guard);

            let decoding = self.core.decode_memory();
            let guard = self.session.locked.lock();
            if !guard.resetting {
                return Ok((decoding, self.guard(guard, None)?));
            }
        }
    }

    fn guard(
        &self,
        guard: MutexGuard<'a, Locked<T>>,
        memory: Option<MemoryGuard<'a>>,
    ) -> Result<SessionGuard<'a, T>> {
        if guard.session.is_none() {
            return Err(ENODEV);
        }
        Ok(SessionGuard {
            guard,
            _memory: memory,
            core: self.core,
        })
    }
}

/// A locked session.
pub(crate) struct SessionGuard<'a, T: Driver> {
    // Dropped in this order: the reverse of how they are taken.
    guard: MutexGuard<'a, Locked<T>>,
    _memory: Option<MemoryGuard<'a>>,
    core: &'a CoreDevice,
}

impl<T: Driver> SessionGuard<'_, T> {
    /// The session.
    pub(crate) fn open(&mut self) -> Result<Open<'_, T>> {
        Ok(Open {
            session: self.guard.session.as_mut().ok_or(ENODEV)?,
            core: self.core,
        })
    }
}

/// An open device, with its session locked.
///
/// # Invariants
///
/// The device is open, and cannot be closed while this exists.
pub(crate) struct Open<'a, T: Driver> {
    session: &'a mut T::Session,
    core: &'a CoreDevice,
}

impl<'a, T: Driver> Open<'a, T> {
    /// The device.
    pub(crate) fn core(&self) -> &'a CoreDevice {
        self.core
    }

    /// The MSI-X table, while memory is decoded.
    pub(crate) fn msix_table<'b>(&self, _: &'b Decoding<'_>) -> Option<MsixTable<'b>>
    where
        'a: 'b,
    {
        // SAFETY: The device is open by the invariant, and decodes while `Decoding` lives.
        unsafe { self.core.msix_table() }
    }

    /// The session, and the config space that the user sees.
    pub(crate) fn split(&mut self) -> (&mut T::Session, VirtualConfig<'_>) {
        // SAFETY: The device is open by the invariant, which lasts as long as `self`.
        (self.session, unsafe { VirtualConfig::new(self.core) })
    }

    /// The config space that the user sees.
    pub(crate) fn virtual_config(&mut self) -> VirtualConfig<'_> {
        self.split().1
    }
}

impl<T: Driver> Deref for Open<'_, T> {
    type Target = T::Session;

    fn deref(&self) -> &T::Session {
        self.session
    }
}

impl<T: Driver> DerefMut for Open<'_, T> {
    fn deref_mut(&mut self) -> &mut T::Session {
        self.session
    }
}

/// `VFIO_DEVICE_SET_IRQS`: a macro that bindgen does not see through.
const SET_IRQS: c_uint = kernel::ioctl::_IO(bindings::VFIO_TYPE as u32, bindings::VFIO_BASE + 10);

/// A device of a variant driver.
///
/// # Invariants
///
/// Allocated by the vfio core, which owns it and zeroed it; `core` is at offset 0, so that a pointer
/// to the device is a pointer to the `struct vfio_device` in it. `session` and `data` are
/// initialised by [`Device::init_callback`] and dropped by [`Device::release_callback`].
#[repr(C)]
#[pin_data]
pub(super) struct Device<T: Driver> {
    pub(super) core: CoreDevice,
    #[pin]
    pub(super) session: Session<T>,
    #[pin]
    pub(super) data: T,
}

impl<T: Driver> Device<T> {
    /// Borrows a device from a callback's argument.
    ///
    /// # Safety
    ///
    /// `vdev` is in a [`Device<T>`] that is initialised and outlives `'a`.
    #[inline]
    pub(super) unsafe fn from_vfio<'a>(vdev: *mut bindings::vfio_device) -> &'a Self {
        const_assert!(
            core::mem::offset_of!(Self, core) == 0
                && core::mem::offset_of!(bindings::vfio_pci_core_device, vdev) == 0,
            "struct vfio_device must be at offset 0"
        );
        const_assert!(
            align_of::<Self>() <= bindings::ARCH_KMALLOC_MINALIGN,
            "the vfio core allocates with kmalloc's alignment"
        );
        // SAFETY: By the safety requirement and the type's invariant.
        unsafe { &*vdev.cast_const().cast() }
    }

    /// Allocates a device for `pdev`. Returns it with one reference, for
    /// [`Device::put`].
    ///
    /// # Safety
    ///
    /// `pdev` is being probed by the driver, so that [`super::registration`] can tell what is shared.
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
        // SAFETY: The device is valid, and nobody else has it.
        unsafe { (*(*vdev).core.as_raw()).pci_ops = Self::PCI_OPS };
        NonNull::new(vdev).ok_or(ENOMEM)
    }

    /// Returns the C side.
    ///
    /// # Safety
    ///
    /// `this` is valid.
    pub(super) unsafe fn as_core(this: NonNull<Self>) -> *mut bindings::vfio_pci_core_device {
        // SAFETY: By the safety requirement.
        unsafe { this.as_ref().core.as_raw() }
    }

    /// Gives the reference of [`Device::new`] back.
    ///
    /// # Safety
    ///
    /// The caller owns that reference.
    pub(super) unsafe fn put(this: NonNull<Self>) {
        // SAFETY: By the safety requirement.
        unsafe { bindings::put_device(&raw mut (*this.as_ref().core.as_vfio()).device) };
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

    pub(super) fn handle(&self) -> Handle<'_, T> {
        Handle {
            core: &self.core,
            session: &self.session,
        }
    }

    /// Runs `f` in a callback of a reset, on the locked state, and on the device if it is open.
    fn in_reset(
        &self,
        f: impl FnOnce(&T, &mut Open<'_, T>, &InReset),
        count: impl FnOnce(&mut Locked<T>),
    ) {
        self.core.in_reset(|stable| {
            let mut guard = self.session.locked.lock();
            Session::locked_with_open(&mut guard, &self.core, |open| {
                f(&self.data, open, &InReset { stable })
            });
            count(&mut guard);
        });
    }

    /// `pci_error_handlers.reset_prepare`.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn reset_prepare_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this under the device lock of a bound device.
        unsafe {
            Self::with_bound(pdev, |this| {
                this.in_reset(T::reset_prepare, |locked| locked.resetting = true)
            })
        };
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
                this.in_reset(T::reset_done, |locked| locked.resetting = false);
                this.session.reset_is_over.notify_all();
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
        // core's own handler expects.
        unsafe {
            Self::with_bound(pdev, |this| {
                let accessible = state == bindings::pci_channel_io_normal;
                this.in_reset(
                    |data, open, reset| data.error_detected(open, accessible, reset),
                    |_| {},
                )
            });
            bindings::vfio_pci_core_aer_err_detected(pdev, state)
        }
    }

    /// `pci_error_handlers.resume`.
    ///
    /// # Safety
    ///
    /// Called by the PCI core only, by way of the table, for a bound device, under its lock.
    pub(super) unsafe extern "C" fn resume_callback(pdev: *mut bindings::pci_dev) {
        // SAFETY: The PCI core calls this under the device lock of a bound device.
        unsafe { Self::with_bound(pdev, |this| this.in_reset(T::error_resume, |_| {})) };
    }

    /// `dev_pm_ops.runtime_suspend`, before core's.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    pub(super) unsafe fn suspend(dev: *mut bindings::device) {
        // SAFETY: By the safety requirement.
        let this = unsafe { Self::from_bound(dev) };
        this.session
            .with_open(&this.core, |open| this.data.suspend(open));
    }

    /// `dev_pm_ops.runtime_resume`, after core's.
    ///
    /// # Safety
    ///
    /// `dev` is in a `struct pci_dev` that is bound to this driver.
    pub(super) unsafe fn resume(dev: *mut bindings::device) {
        // SAFETY: By the safety requirement.
        let this = unsafe { Self::from_bound(dev) };
        this.session
            .with_open(&this.core, |open| this.data.resume(open));
    }

    // References, so that the borrow checker proves that the tables are static.
    const PCI_OPS: &'static bindings::vfio_pci_device_ops = &{
        let mut ops: bindings::vfio_pci_device_ops = pin_init::zeroed();
        ops.get_dmabuf_phys = Some(Self::dmabuf_callback);
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
        ops.device_feature = Some(Self::feature_callback);
        ops.read = Some(Self::read_callback);
        ops.write = Some(Self::write_callback);
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
    unsafe extern "C" fn init_callback(vdev: *mut bindings::vfio_device) -> c_int {
        let this = vdev.cast::<Self>();
        from_result(|| {
            // SAFETY: The vfio core calls this for a device that is being probed.
            let (pdev, shared) = unsafe { super::registration::probed::<T>((*vdev).dev)? };

            // SAFETY: The memory is ours until this returns, and does not move.
            unsafe { pin_init::raw_init(&raw mut (*this).session, Session::new()) };
            // SAFETY: As above.
            let data =
                unsafe { pin_init::raw_try_init(&raw mut (*this).data, T::probe(pdev, shared)) };
            // vfio calls release() only for what init() has accepted.
            if let Err(error) = data {
                // SAFETY: Initialised above, and not used after this.
                unsafe { core::ptr::drop_in_place(&raw mut (*this).session) };
                return Err(error);
            }
            // SAFETY: The vfio device is what core expects.
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
    unsafe extern "C" fn release_callback(vdev: *mut bindings::vfio_device) {
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
            this.session.locked.lock().opening = true;
            let enabled = this.enable();
            this.session.locked.lock().opening = false;
            enabled?;
            // SAFETY: The second half of vfio_pci_core_enable().
            unsafe { bindings::vfio_pci_core_finish_enable(this.core.as_raw()) };
            Ok(0)
        })
    }

    /// Enables the device and makes a session for its user.
    fn enable(&self) -> Result {
        let _awake = Awake::new(self.core.pci())?;
        self.data.before_open(&self.core)?;
        // SAFETY: The vfio core is opening the device for the first user, under the device set's
        // lock.
        to_result(unsafe { bindings::vfio_pci_core_enable(self.core.as_raw()) })?;

        // A reset that comes through sysfs waits, or is waited for: what it makes of the device
        // must be neither looked at nor lost.
        let mut guard = self.session.locked.lock();
        while guard.resetting {
            self.session.reset_is_over.wait(&mut guard);
        }
        match self.data.open(&mut Opening { core: &self.core }) {
            Ok(session) => {
                // INVARIANT: core has enabled the device.
                guard.session = Some(session);
                Ok(())
            }
            Err(error) => {
                drop(guard);
                // SAFETY: Undoes vfio_pci_core_enable(), under the same lock.
                unsafe { bindings::vfio_pci_core_disable(self.core.as_raw()) };
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
        let _awake = Awake::new(this.core.pci());
        this.data.before_close(this.handle());
        {
            let mut guard = this.session.locked.lock();
            Session::locked_with_open(&mut guard, &this.core, |open| this.data.close(open));
            // INVARIANT: core is about to free what belongs to the open device.
            guard.session = None;
        }
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
        // SAFETY: The vfio core calls this for an open device.
        let this = unsafe { Self::from_vfio(vdev) };
        if cmd != SET_IRQS {
            return this.core.ioctl(cmd, arg);
        }
        let _serial = this.session.interrupts.lock();
        // What could not be done after an earlier change is done before this one.
        this.data.interrupts_changed(this.handle());
        let ret = this.core.ioctl(cmd, arg);
        this.data.interrupts_changed(this.handle());
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
        // SAFETY: The vfio core calls this for an open device, with a valid position.
        let (this, pos) = unsafe { (Self::from_vfio(vdev), &mut *pos) };
        let access = Access {
            buf: UserPtr::from_ptr(buf.cast()),
            count,
            pos,
        };
        from_count(this.data.read(this.handle(), access))
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
        // SAFETY: The vfio core calls this for an open device, with a valid position.
        let (this, pos) = unsafe { (Self::from_vfio(vdev), &mut *pos) };
        let access = Access {
            buf: UserPtr::from_ptr(buf.cast_mut().cast()),
            count,
            pos,
        };
        from_count(this.data.write(this.handle(), access))
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
        // SAFETY: The vfio core calls this for an open device.
        let this = unsafe { Self::from_vfio(vdev) };
        let call = Call {
            flags,
            arg: UserPtr::from_ptr(arg),
            argsz,
        };
        from_result(|| this.data.feature(this.handle(), call))
    }
}

#[inline]
fn from_count(count: Result<usize>) -> isize {
    match count {
        // CAST: core returns what fits.
        Ok(count) => count as isize,
        // CAST: widens.
        Err(error) => error.to_errno() as isize,
    }
}
