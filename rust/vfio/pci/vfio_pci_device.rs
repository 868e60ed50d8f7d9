// SPDX-License-Identifier: GPL-2.0-only

//! The vfio-pci-core part of a device, and what vfio-pci-core does for a driver by default.

use crate::rust::{
    bindings,
    pci as bus,
    vfio::feature::Call, //
};
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        Range, //
    },
};
use kernel::{
    device::Bound,
    pci,
    prelude::*,
    types::{
        NotThreadSafe,
        Opaque, //
    },
    uaccess::UserPtr, //
};

/// In vfio-pci-core's map of config space: the byte belongs to no capability, and is hardware's.
// CAST: a byte.
pub(crate) const MAP_UNASSIGNED: u8 = bindings::TPH_MAP_UNASSIGNED as u8;
/// Likewise: the byte is read from the virtual config space alone.
// CAST: a byte.
pub(crate) const MAP_VIRTUAL: u8 = bindings::TPH_MAP_VIRTUAL as u8;

/// A read or write of a region, as it comes from user space.
pub(crate) struct Access<'a> {
    /// The user's buffer.
    pub(crate) buf: UserPtr,
    /// Its length in bytes.
    pub(crate) count: usize,
    /// The file position: region index and offset. Advanced by what was done.
    pub(crate) pos: &'a mut bindings::loff_t,
}

impl Access<'_> {
    /// The position in the device's file.
    pub(crate) fn position(&self) -> u64 {
        // CAST: as VFIO_PCI_OFFSET_TO_INDEX() has it.
        *self.pos as u64
    }

    /// The offset in config space, if that is what is accessed.
    pub(crate) fn config_offset(&self) -> Option<usize> {
        let pos = self.position();
        if pos >> bindings::VFIO_PCI_OFFSET_SHIFT
            != u64::from(bindings::VFIO_PCI_CONFIG_REGION_INDEX)
        {
            return None;
        }
        usize::try_from(pos & ((1 << bindings::VFIO_PCI_OFFSET_SHIFT) - 1)).ok()
    }
}

/// A device as vfio-pci-core has it.
///
/// # Invariants
///
/// The device is initialised by vfio_pci_core_init_dev(), and the PCI device is bound to the
/// driver for as long as a reference exists: references are handed to callbacks, which
/// vfio-pci-core no longer calls when vfio_pci_core_unregister_device() has returned.
#[repr(transparent)]
pub(crate) struct VfioPciDevice(Opaque<bindings::vfio_pci_core_device>);

// SAFETY: vfio-pci-core locks what it shares.
unsafe impl Sync for VfioPciDevice {}

impl VfioPciDevice {
    /// Whether vfio-pci-core cuts capabilities off at the end of config space, whatever the
    /// device claims.
    pub(crate) const BOUNDS_CAPABILITIES: bool = cfg!(VFIO_TPH_BOUNDED_CAPABILITIES);

    /// The C side.
    pub(super) fn as_raw(&self) -> *mut bindings::vfio_pci_core_device {
        self.0.get()
    }

    /// The C side of the embedded vfio device.
    pub(super) fn as_vfio(&self) -> *mut bindings::vfio_device {
        // SAFETY: Projects a field of a valid device.
        unsafe { &raw mut (*self.as_raw()).vdev }
    }

    /// The PCI device.
    pub(crate) fn pci(&self) -> &pci::Device<Bound> {
        // SAFETY: Set by vfio_pci_core_init_dev() and never changed; bound by the invariant.
        unsafe { &*(*self.as_raw()).pdev.cast_const().cast() }
    }

    /// Takes `memory_lock` for reading: while the guard lives, nobody resets the device through
    /// vfio, changes its power state, memory enable, bus master enable or interrupt vectors.
    ///
    /// It is taken before a session's lock. A page fault on the device's BARs takes it too: no
    /// user memory may be touched under it.
    pub(crate) fn memory_lock(&self) -> MemoryGuard<'_> {
        // SAFETY: The device is initialised, by the type's invariant, and its lock with it.
        unsafe { bindings::down_read(&raw mut (*self.as_raw()).memory_lock) };
        // INVARIANT: Taken above.
        MemoryGuard {
            device: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Takes `memory_lock` for writing: as [`Self::memory_lock`], and nobody reads it either.
    pub(crate) fn memory_lock_alone(&self) -> AloneMemoryGuard<'_> {
        // SAFETY: The device is initialised, by the type's invariant, and its lock with it.
        unsafe { bindings::down_write(&raw mut (*self.as_raw()).memory_lock) };
        // INVARIANT: Taken above.
        AloneMemoryGuard {
            device: self,
            _not_send: NotThreadSafe,
        }
    }

    /// Runs `f` in a callback of a reset or of recovery from an error, and tells it whether memory
    /// decoding stays as it is meanwhile.
    ///
    /// A reset that comes through vfio holds `memory_lock` for writing already; another one does
    /// not, and must not wait for it: its holder may be waiting for this very reset.
    pub(super) fn in_reset(&self, f: impl FnOnce(bool)) {
        let ours = self.is_reset_by_current();
        let try_lock = || {
            // SAFETY: The device is initialised, by the type's invariant, and its lock with it.
            unsafe { bindings::down_read_trylock(&raw mut (*self.as_raw()).memory_lock) != 0 }
        };
        let taken = !ours && try_lock();
        // INVARIANT: Taken above.
        let _guard = taken.then(|| MemoryGuard {
            device: self,
            _not_send: NotThreadSafe,
        });
        f(ours || taken)
    }

    /// Whether this thread resets the device by way of vfio-pci-core, under `memory_lock`.
    #[cfg(VFIO_TPH_RESETS)]
    fn is_reset_by_current(&self) -> bool {
        // SAFETY: The device is initialised, by the type's invariant.
        unsafe { bindings::vfio_pci_core_resets(self.as_raw()) }
    }

    /// As above, on a kernel that does not say: whether it has the lock for writing.
    #[cfg(not(VFIO_TPH_RESETS))]
    fn is_reset_by_current(&self) -> bool {
        // SAFETY: The device is initialised, by the type's invariant, and its lock with it.
        unsafe {
            bindings::tph_helper_write_locked_by_current(&raw mut (*self.as_raw()).memory_lock)
        }
    }

    /// Whether the device loses its state on the way from D3hot to D0 (No_Soft_Reset is clear).
    pub(crate) fn loses_state(&self) -> bool {
        // SAFETY: The device is valid, by the type's invariant; the bit is set at registration.
        unsafe { (*self.as_raw()).needs_pm_restore() }
    }

    /// The offset of the PCI Power Management capability, 0 without one.
    pub(crate) fn pm_capability(&self) -> u16 {
        // SAFETY: The device is valid, by the type's invariant.
        unsafe { (*(*self.as_raw()).pdev).pm_cap.into() }
    }

    /// Takes the device to D0 from where its user has left it. For a device that is about to be
    /// closed: vfio-pci-core, which does the same a little later, finds nothing to do.
    pub(crate) fn power_up(&self) {
        // vfio-pci-core changes the power state under the lock, too.
        let _memory = self.memory_lock_alone();
        // A failure shows in the power state, which whoever reaches for the device next looks at.
        // SAFETY: The device is valid, by the type's invariant.
        unsafe { bindings::pci_set_power_state((*self.as_raw()).pdev, bus::D0) };
    }

    /// The device, which is open.
    ///
    /// # Safety
    ///
    /// vfio_pci_core_enable() has succeeded, and vfio-pci-core does not disable the device as long
    /// as the borrow lasts.
    #[inline]
    pub(super) unsafe fn as_open(&self) -> &OpenDevice {
        // SAFETY: `OpenDevice` is a transparent wrapper. INVARIANT: By the safety requirement.
        unsafe { &*core::ptr::from_ref(self).cast() }
    }
}

/// A device as vfio-pci-core has it, while it is open.
///
/// A reference is the proof: vfio-pci-core's virtual config space, its mappings of BARs and what
/// else there is of an open device exist only while it is open. Safe code cannot make one of a
/// [`VfioPciDevice`], nor keep one: each that a driver is handed lives as long as the callback, or
/// as the lock that keeps the device from being closed.
///
/// # Invariants
///
/// vfio-pci-core has enabled the device, and does not disable it as long as a reference exists.
#[repr(transparent)]
pub(crate) struct OpenDevice(VfioPciDevice);

impl Deref for OpenDevice {
    type Target = VfioPciDevice;

    #[inline]
    fn deref(&self) -> &VfioPciDevice {
        &self.0
    }
}

impl OpenDevice {
    /// What vfio-pci does for an ioctl.
    pub(super) fn ioctl(&self, cmd: c_uint, arg: c_ulong) -> c_long {
        // SAFETY: The device is open, by the invariant, and vfio-pci-core handles any argument.
        unsafe { bindings::vfio_pci_core_ioctl(self.as_vfio(), cmd, arg) }
    }

    /// What vfio-pci does for a read. Returns the number of bytes.
    #[inline]
    pub(crate) fn read(&self, access: Access<'_>) -> Result<usize> {
        // SAFETY: The device is open, by the invariant, and vfio-pci-core handles any user pointer
        // and length.
        let done = unsafe {
            bindings::vfio_pci_core_read(
                self.as_vfio(),
                access.buf.as_mut_ptr().cast(),
                access.count,
                access.pos,
            )
        };
        to_count(done)
    }

    /// What vfio-pci does for a write. Returns the number of bytes.
    #[inline]
    pub(crate) fn write(&self, access: Access<'_>) -> Result<usize> {
        // SAFETY: The device is open, by the invariant, and vfio-pci-core handles any user pointer
        // and length.
        let done = unsafe {
            bindings::vfio_pci_core_write(
                self.as_vfio(),
                access.buf.as_const_ptr().cast(),
                access.count,
                access.pos,
            )
        };
        to_count(done)
    }

    /// What vfio-pci does for a feature.
    pub(crate) fn feature(&self, call: Call) -> Result<i32> {
        // SAFETY: The device is open, by the invariant, and vfio-pci-core handles any user pointer
        // and length.
        let ret = unsafe {
            bindings::vfio_pci_core_ioctl_feature(
                self.as_vfio(),
                call.flags,
                call.arg.as_mut_ptr(),
                call.argsz,
            )
        };
        if ret < 0 {
            return Err(Error::from_errno(ret));
        }
        Ok(ret)
    }

    /// Whether the user has the device decode its memory BARs, by what they have written to its
    /// Command register and to its power state.
    pub(super) fn user_decodes_memory(&self) -> bool {
        // SAFETY: vfio-pci-core's virtual config space, which this looks into, exists while the
        // device is open, by the type's invariant.
        unsafe { bindings::__vfio_pci_memory_enabled(self.as_raw()) }
    }
}

fn to_count(done: isize) -> Result<usize> {
    // CAST: an errno is small.
    usize::try_from(done).map_err(|_| Error::from_errno(done as i32))
}

/// Proof that `memory_lock` of a device is held for reading.
///
/// # Invariants
///
/// The lock is held by this thread.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct MemoryGuard<'a> {
    device: &'a VfioPciDevice,
    _not_send: NotThreadSafe,
}

impl Drop for MemoryGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: Held by this thread, by the invariant.
        unsafe { bindings::up_read(&raw mut (*self.device.as_raw()).memory_lock) };
    }
}

/// Proof that `memory_lock` of a device is held for writing.
///
/// # Invariants
///
/// The lock is held by this thread.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct AloneMemoryGuard<'a> {
    device: &'a VfioPciDevice,
    _not_send: NotThreadSafe,
}

impl Drop for AloneMemoryGuard<'_> {
    fn drop(&mut self) {
        // SAFETY: Held by this thread, by the invariant.
        unsafe { bindings::up_write(&raw mut (*self.device.as_raw()).memory_lock) };
    }
}

/// The config space that the user of an open device sees in place of hardware's.
///
/// vfio-pci-core reads it without a lock, a dword at the most at a time, and so dwords are what
/// is written here.
///
/// # Invariants
///
/// `base` points to `len` bytes of vfio-pci-core's `vconfig`, dword aligned, valid for `'a`, and
/// `map` to as many of its `pci_config_map`.
pub(crate) struct VirtualConfig<'a> {
    base: *mut u8,
    map: *mut u8,
    len: usize,
    _open: PhantomData<&'a OpenDevice>,
}

impl<'a> VirtualConfig<'a> {
    /// Borrows the virtual config space of an open device.
    pub(super) fn new(device: &'a OpenDevice) -> Self {
        // SAFETY: The device is open by the invariant of its type. INVARIANT: vfio-pci-core
        // allocates `cfg_size` bytes for either at open, and frees them at close.
        unsafe {
            Self {
                base: (*device.as_raw()).vconfig,
                map: (*device.as_raw()).pci_config_map,
                len: (*(*device.as_raw()).pdev).cfg_size as usize,
                _open: PhantomData,
            }
        }
    }

    /// Replaces the dword at `offset`, if one is there: in range, and aligned.
    pub(crate) fn write_dword(&mut self, offset: u16, value: u32) {
        if let Ok(at) = self.check(offset.into(), size_of::<u32>(), align_of::<u32>()) {
            // SAFETY: In range and aligned, by the check. vfio-pci-core reads at the same time, as
            // with its own writers.
            unsafe { at.cast::<u32>().write_volatile(value.to_le()) };
        }
    }

    /// Replaces the word at `offset`, likewise.
    pub(crate) fn write_word(&mut self, offset: u16, value: u16) {
        if let Ok(at) = self.check(offset.into(), size_of::<u16>(), align_of::<u16>()) {
            // SAFETY: In range and aligned, by the check. vfio-pci-core reads at the same time, as
            // with its own writers.
            unsafe { at.cast::<u16>().write_volatile(value.to_le()) };
        }
    }

    /// Replaces bytes.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if let Ok(at) = self.check(offset, bytes.len(), 1) {
            for (i, &byte) in bytes.iter().enumerate() {
                // SAFETY: In range, by the check. vfio-pci-core reads at the same time, as with its
                // own writers.
                unsafe { at.add(i).write_volatile(byte) };
            }
        }
    }

    /// Has vfio-pci-core read bytes from here, which it has read from hardware so far, and keep
    /// here what is written to them: they belong to no capability.
    pub(crate) fn take_over(&mut self, bytes: Range<usize>) {
        if self.check(bytes.start, bytes.len(), 1).is_err() {
            return;
        }
        for at in bytes {
            // SAFETY: The map has as many bytes as the virtual config space, by the invariant, and
            // lives as long. vfio-pci-core reads it at the same time, a byte at a time.
            unsafe { self.map.add(at).write_volatile(MAP_VIRTUAL) };
        }
    }

    /// Copies bytes out.
    pub(crate) fn read(&self, offset: usize, out: &mut [u8]) -> Result {
        let at = self.check(offset, out.len(), 1)?;
        for (i, byte) in out.iter_mut().enumerate() {
            // SAFETY: The check has found all of `out.len()` bytes within `len`, and those are
            // valid by the type's invariant.
            *byte = unsafe { at.add(i).read_volatile() };
        }
        Ok(())
    }

    fn check(&self, offset: usize, count: usize, align: usize) -> Result<*mut u8> {
        match offset.checked_add(count) {
            // SAFETY: `offset` is at most `len`, and `base` points to as many bytes, by the type's
            // invariant.
            Some(end) if end <= self.len && offset % align == 0 => unsafe {
                Ok(self.base.add(offset))
            },
            _ => Err(EINVAL),
        }
    }
}
