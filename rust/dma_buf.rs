// SPDX-License-Identifier: GPL-2.0-only

//! DMA buffers as an importer sees them: a reference from a file descriptor, the reservation lock,
//! and what the exporter says of TPH.
//!
//! C header: [`include/linux/dma-buf.h`](srctree/include/linux/dma-buf.h)

// For importers; a driver that only asks needs none.
#[cfg(TPH_DMA_BUF_IMPORTER)]
#[path = "dma_buf/attachment.rs"]
pub(crate) mod attachment;

use core::ptr::NonNull;
use kernel::{
    bindings,
    error::{
        from_err_ptr,
        to_result, //
    },
    prelude::*,
    sync::aref::{
        ARef,
        AlwaysRefCounted, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

/// A `struct dma_buf`.
///
/// # Invariants
///
/// The reference count is not 0.
#[repr(transparent)]
pub(crate) struct DmaBuf(Opaque<bindings::dma_buf>);

// SAFETY: References can be taken and put by any thread.
unsafe impl Send for DmaBuf {}

// SAFETY: What is behind a shared reference is reached under the reservation lock, or never
// changes.
unsafe impl Sync for DmaBuf {}

// SAFETY: The reference count of a dma-buf is that of its file.
unsafe impl AlwaysRefCounted for DmaBuf {
    fn inc_ref(&self) {
        // SAFETY: The dma-buf is valid, and with it its file, which never changes.
        unsafe { bindings::get_file((*self.as_raw()).file) };
    }

    unsafe fn dec_ref(this: NonNull<Self>) {
        // SAFETY: The caller owns a reference.
        unsafe { bindings::dma_buf_put(this.cast().as_ptr()) };
    }
}

impl DmaBuf {
    /// Whether dma-bufs of this kernel can know of TPH at all.
    #[cfg_attr(TPH_DMA_BUF_IMPORTER, allow(dead_code))]
    pub(crate) const KNOWS_TPH: bool = cfg!(VFIO_TPH_DMA_BUF);

    /// The dma-buf behind a file descriptor of the calling process.
    ///
    /// EBADF if nothing is open there, EINVAL if it is something else.
    pub(crate) fn from_fd(fd: i32) -> Result<ARef<Self>> {
        // SAFETY: The function takes any number.
        let raw = from_err_ptr(unsafe { bindings::dma_buf_get(fd) })?;
        let dma_buf = NonNull::new(raw.cast::<Self>()).ok_or(EINVAL)?;
        // SAFETY: dma_buf_get() took a reference, which is ours. INVARIANT: So the count is not 0.
        Ok(unsafe { ARef::from_raw(dma_buf) })
    }

    /// The C side.
    pub(crate) fn as_raw(&self) -> *mut bindings::dma_buf {
        self.0.get()
    }

    fn resv(&self) -> *mut bindings::dma_resv {
        // SAFETY: The dma-buf is valid, and its reservation never changes.
        unsafe { (*self.as_raw()).resv }
    }

    /// Takes the reservation lock. EINTR if a signal comes first.
    ///
    /// Comes after `memory_lock` of vfio-pci-core.
    pub(crate) fn lock_interruptible(&self) -> Result<Reserved<'_>> {
        // SAFETY: The reservation is valid; without a context the lock is a mutex.
        to_result(unsafe {
            bindings::ww_mutex_lock_interruptible(
                &raw mut (*self.resv()).lock,
                core::ptr::null_mut(),
            )
        })?;
        // INVARIANT: Taken above.
        Ok(Reserved {
            dma_buf: self,
            _not_send: NotThreadSafe,
        })
    }
}

/// What a request to a buffer should carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Tph {
    /// The steering tag, in the namespace that was asked for.
    pub(crate) steering_tag: u16,
    /// The processing hint.
    pub(crate) ph: u8,
}

/// Proof that the reservation lock of a dma-buf is held.
///
/// # Invariants
///
/// The lock is held by this thread.
#[must_use = "the lock is released when the guard is dropped"]
pub(crate) struct Reserved<'a> {
    dma_buf: &'a DmaBuf,
    _not_send: NotThreadSafe,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        // SAFETY: Held by this thread, by the invariant.
        unsafe { bindings::dma_resv_unlock(self.dma_buf.resv()) };
    }
}

impl Reserved<'_> {
    /// Asks the exporter for the tag and the hint of requests to this buffer. Good until the
    /// mappings are next invalidated, which does not happen while the lock is held.
    ///
    /// EOPNOTSUPP if there is none in this namespace, ENODEV while the buffer is revoked.
    pub(crate) fn tph(&self, extended: bool) -> Result<Tph> {
        get_tph(self, extended)
    }
}

#[cfg(VFIO_TPH_DMA_BUF)]
fn get_tph(reserved: &Reserved<'_>, extended: bool) -> Result<Tph> {
    // Two names, one function.
    #[cfg(VFIO_TPH_DMA_BUF_PCI)]
    use bindings::dma_buf_get_pci_tph as ask;
    #[cfg(not(VFIO_TPH_DMA_BUF_PCI))]
    use bindings::dma_buf_get_tph as ask;

    let mut tph = Tph {
        steering_tag: 0,
        ph: 0,
    };
    // SAFETY: The dma-buf is valid, its reservation lock is held by the invariant, and both outputs
    // are valid for writes.
    let ret = unsafe {
        ask(
            reserved.dma_buf.as_raw(),
            extended,
            &mut tph.steering_tag,
            &mut tph.ph,
        )
    };
    match ret {
        0 => Ok(tph),
        // No exporter has any business to answer so, and 0 would be a tag.
        1.. => Err(EINVAL),
        errno => Err(Error::from_errno(errno)),
    }
}

/// The dma-bufs of this kernel know nothing of TPH.
#[cfg(not(VFIO_TPH_DMA_BUF))]
fn get_tph(_: &Reserved<'_>, _: bool) -> Result<Tph> {
    Err(EOPNOTSUPP)
}
