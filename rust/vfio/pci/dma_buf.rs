// SPDX-License-Identifier: GPL-2.0-only

//! Dma-bufs of a device's BARs, as far as TPH goes: vfio-pci-core exports and revokes them, keeps
//! a word with each, and asks the driver what that word means.
//!
//! On a kernel whose vfio-pci-core does not, no word can be kept.

use super::{
    device::Device,
    driver::Hooks, //
    vfio_pci_device::{
        OpenDevice, //
        VfioPciDevice,
    },
};
use crate::rust::{
    bindings,
    dma_buf::DmaBuf, //
};
use kernel::{
    error::from_result,
    prelude::*, //
};

impl VfioPciDevice {
    /// Whether a word can be kept with the device's dma-bufs.
    pub(crate) const KEEPS_DMA_BUF_WORDS: bool = cfg!(VFIO_TPH_VFIO_DMA_BUF);
}

impl OpenDevice {
    /// Keeps `word` with a dma-buf, for [`Hooks::dma_buf_tph`]; a new dma-buf has 0.
    ///
    /// EINVAL if the dma-buf is not one of this device, EINTR if a signal comes while its
    /// reservation is locked, EOPNOTSUPP without [`VfioPciDevice::KEEPS_DMA_BUF_WORDS`].
    pub(crate) fn set_dma_buf_word(&self, dma_buf: &DmaBuf, word: u64) -> Result {
        set_dma_buf_word(self, dma_buf, word)
    }
}

#[cfg(VFIO_TPH_VFIO_DMA_BUF)]
fn set_dma_buf_word(device: &OpenDevice, dma_buf: &DmaBuf, word: u64) -> Result {
    // SAFETY: The device is open, by the invariant of `OpenDevice`, and the dma-buf is valid, by
    // that of `DmaBuf`.
    kernel::error::to_result(unsafe {
        bindings::vfio_pci_core_set_dmabuf_tph(device.as_raw(), dma_buf.as_raw(), word)
    })
}

#[cfg(not(VFIO_TPH_VFIO_DMA_BUF))]
fn set_dma_buf_word(_: &OpenDevice, _: &DmaBuf, _: u64) -> Result {
    Err(EOPNOTSUPP)
}

/// The type of `vfio_pci_device_ops.get_dmabuf_tph`.
type Callback = unsafe extern "C" fn(
    *mut bindings::vfio_pci_core_device,
    u64,
    bool,
    *mut u16,
    *mut u8,
) -> c_int;

#[cfg(VFIO_TPH_VFIO_DMA_BUF)]
const fn set_callback(ops: &mut bindings::vfio_pci_device_ops, callback: Callback) {
    ops.get_dmabuf_tph = Some(callback);
}

#[cfg(not(VFIO_TPH_VFIO_DMA_BUF))]
const fn set_callback(_: &mut bindings::vfio_pci_device_ops, _: Callback) {}

impl<T: Hooks> Device<T> {
    /// Has vfio-pci-core ask the driver.
    pub(super) const fn answer_for_dma_bufs(ops: &mut bindings::vfio_pci_device_ops) {
        set_callback(ops, Self::dma_buf_tph_callback);
    }

    /// `vfio_pci_device_ops.get_dmabuf_tph`.
    ///
    /// # Safety
    ///
    /// Called by vfio-pci-core only, by way of the table, for an open device of ours, with
    /// outputs that are valid for writes.
    unsafe extern "C" fn dma_buf_tph_callback(
        vdev: *mut bindings::vfio_pci_core_device,
        word: u64,
        extended: bool,
        steering_tag: *mut u16,
        ph: *mut u8,
    ) -> c_int {
        // SAFETY: vfio-pci-core calls this for an open device.
        let this = unsafe { Self::from_vfio(vdev.cast()) };
        from_result(|| {
            let tph = this.data.dma_buf_tph(word, extended)?;
            // SAFETY: Both outputs are valid for writes, by the safety requirement.
            unsafe {
                steering_tag.write(tph.steering_tag);
                ph.write(tph.ph);
            }
            Ok(0)
        })
    }
}
