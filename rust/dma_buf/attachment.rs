// SPDX-License-Identifier: GPL-2.0-only

//! The importer's side of a dma-buf: a device that is attached to it, mappings for that device, and
//! the exporter's word that they have become invalid.
//!
//! Importers are dynamic ones with peer-to-peer: they do not pin the memory, and take addresses
//! that have no pages behind them, such as a BAR's. A driver that only asks for hints needs none
//! of this.

use super::{
    DmaBuf,
    Reserved, //
};
use core::{
    cell::UnsafeCell,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    device::Device,
    error::from_err_ptr,
    prelude::*,
    sync::aref::ARef,
    types::NotThreadSafe, //
};

/// What an importer does when its mappings become invalid.
pub(crate) trait Importer: Send + Sync + Sized {
    /// The exporter moves or withdraws the memory: mappings and hints are void. The attachment's
    /// mapping, if there was one, has been unmapped.
    ///
    /// Runs under the reservation lock, which is what `reserved` stands for, and under whatever
    /// lock the exporter holds besides: vfio-pci-core its `memory_lock`.
    fn invalidated(&self, reserved: &Reserved<'_>);
}

/// What the exporter's call finds.
struct Shared<T: Importer> {
    dma_buf: ARef<DmaBuf>,
    importer: T,
    /// The mapping, or null. Protected by the reservation lock of `dma_buf`.
    mapping: UnsafeCell<*mut bindings::sg_table>,
}

/// A device that is attached to a dma-buf.
///
/// # Invariants
///
/// - `raw` came from dma_buf_dynamic_attach() for `shared.dma_buf` with `shared` as private data,
///   and is detached when this is dropped.
/// - `shared.mapping` is null, or what dma_buf_map_attachment() made for `raw` and nobody has
///   unmapped.
pub(crate) struct Attachment<T: Importer> {
    raw: NonNull<bindings::dma_buf_attachment>,
    shared: KBox<Shared<T>>,
    _device: ARef<Device>,
}

// SAFETY: An attachment may be used and detached by any thread; `mapping` is under the lock, and
// the importer is `Send`.
unsafe impl<T: Importer> Send for Attachment<T> {}

// SAFETY: What is shared changes under the reservation lock alone, and the importer is `Sync`.
unsafe impl<T: Importer> Sync for Attachment<T> {}

impl<T: Importer> Attachment<T> {
    /// Directions of all mappings.
    const DIRECTION: bindings::dma_data_direction = bindings::dma_data_direction::DMA_BIDIRECTIONAL;

    const OPS: &'static bindings::dma_buf_attach_ops = &bindings::dma_buf_attach_ops {
        allow_peer2peer: true,
        invalidate_mappings: Some(Self::invalidated_callback),
    };

    /// Attaches `device`.
    ///
    /// Fails with the exporter's error: vfio-pci-core's is ENODEV while the memory is out of reach.
    pub(crate) fn new(dma_buf: ARef<DmaBuf>, device: ARef<Device>, importer: T) -> Result<Self> {
        let shared = KBox::new(
            Shared {
                dma_buf,
                importer,
                mapping: UnsafeCell::new(core::ptr::null_mut()),
            },
            GFP_KERNEL,
        )?;
        // SAFETY: Dma-buf and device are valid. The table is a constant, and the private data is on
        // the heap, where it stays until after dma_buf_detach(), from which on nobody calls back.
        let raw = from_err_ptr(unsafe {
            bindings::dma_buf_dynamic_attach(
                shared.dma_buf.as_raw(),
                // CAST: `Device` is a transparent wrapper of `struct device`.
                core::ptr::from_ref(&*device).cast_mut().cast(),
                Self::OPS,
                core::ptr::from_ref(&*shared).cast_mut().cast(),
            )
        })?;
        // INVARIANT: Just attached, with nothing mapped.
        Ok(Self {
            raw: NonNull::new(raw).ok_or(ENOMEM)?,
            shared,
            _device: device,
        })
    }

    /// The importer.
    pub(crate) fn importer(&self) -> &T {
        &self.shared.importer
    }

    /// Where the mapping is. EINVAL if `reserved` is about another dma-buf.
    fn mapping<'a>(&'a self, reserved: &'a Reserved<'_>) -> Result<Mapping<'a>> {
        if !core::ptr::eq(reserved.dma_buf, &*self.shared.dma_buf) {
            return Err(EINVAL);
        }
        // INVARIANT: The lock is that of the attachment's dma-buf.
        Ok(Mapping {
            raw: self.raw,
            slot: &self.shared.mapping,
            _not_send: NotThreadSafe,
        })
    }

    /// Maps the memory for the device. EBUSY if it is mapped; ENODEV while the memory is out of
    /// reach.
    pub(crate) fn map(&self, reserved: &Reserved<'_>) -> Result {
        self.mapping(reserved)?.map(Self::DIRECTION)
    }

    /// Unmaps the memory. ENXIO if it is not mapped, or no longer.
    pub(crate) fn unmap(&self, reserved: &Reserved<'_>) -> Result {
        self.mapping(reserved)?.unmap(Self::DIRECTION)
    }

    /// Whether the memory is mapped.
    pub(crate) fn is_mapped(&self, reserved: &Reserved<'_>) -> Result<bool> {
        Ok(self.mapping(reserved)?.exists())
    }

    /// `dma_buf_attach_ops.invalidate_mappings`.
    ///
    /// # Safety
    ///
    /// Called by dma-buf only, for an attachment of ours, under the reservation lock.
    unsafe extern "C" fn invalidated_callback(attachment: *mut bindings::dma_buf_attachment) {
        // SAFETY: dma-buf calls with a valid attachment, whose private data is a `Shared` that
        // lives until it is detached.
        let shared = unsafe { &*(*attachment).importer_priv.cast::<Shared<T>>() };
        let Some(raw) = NonNull::new(attachment) else {
            return;
        };
        // The caller's lock, which is not ours to release.
        // INVARIANT: By the safety requirement.
        let reserved = core::mem::ManuallyDrop::new(Reserved {
            dma_buf: &shared.dma_buf,
            _not_send: NotThreadSafe,
        });
        // INVARIANT: As above.
        let mapping = Mapping {
            raw,
            slot: &shared.mapping,
            _not_send: NotThreadSafe,
        };
        // ENXIO: there was none.
        let _ = mapping.unmap(Self::DIRECTION);
        shared.importer.invalidated(&reserved);
    }
}

impl<T: Importer> Drop for Attachment<T> {
    fn drop(&mut self) {
        {
            let reserved = self.shared.dma_buf.lock();
            // ENXIO: there is none.
            let _ = self.unmap(&reserved);
        }
        // SAFETY: Attached, by the invariant, and with nothing mapped.
        unsafe { bindings::dma_buf_detach(self.shared.dma_buf.as_raw(), self.raw.as_ptr()) };
    }
}

/// An attachment's mapping, under the lock.
///
/// # Invariants
///
/// `raw` is attached, `slot` is where its mapping is, and the reservation lock that protects it is
/// held by this thread.
struct Mapping<'a> {
    raw: NonNull<bindings::dma_buf_attachment>,
    slot: &'a UnsafeCell<*mut bindings::sg_table>,
    _not_send: NotThreadSafe,
}

impl Mapping<'_> {
    fn exists(&self) -> bool {
        // SAFETY: The lock is held by the invariant.
        !unsafe { *self.slot.get() }.is_null()
    }

    fn map(&self, direction: bindings::dma_data_direction) -> Result {
        if self.exists() {
            return Err(EBUSY);
        }
        // SAFETY: Attached, and the reservation lock is held, both by the invariant.
        let table = from_err_ptr(unsafe {
            bindings::dma_buf_map_attachment(self.raw.as_ptr(), direction)
        })?;
        // SAFETY: The lock is held by the invariant.
        unsafe { *self.slot.get() = table };
        Ok(())
    }

    fn unmap(&self, direction: bindings::dma_data_direction) -> Result {
        if !self.exists() {
            return Err(ENXIO);
        }
        // SAFETY: The lock is held by the invariant.
        let table = unsafe { self.slot.get().replace(core::ptr::null_mut()) };
        // SAFETY: The mapping exists and is nobody else's, and the lock is held by the invariant.
        unsafe { bindings::dma_buf_unmap_attachment(self.raw.as_ptr(), table, direction) };
        Ok(())
    }
}

impl DmaBuf {
    /// Takes the reservation lock, whatever signal comes.
    pub(crate) fn lock(&self) -> Reserved<'_> {
        // SAFETY: The reservation is valid. Without a context the lock is a mutex, and the call
        // cannot fail.
        let _ = unsafe { bindings::dma_resv_lock(self.resv(), core::ptr::null_mut()) };
        // INVARIANT: Taken above.
        Reserved {
            dma_buf: self,
            _not_send: NotThreadSafe,
        }
    }
}
