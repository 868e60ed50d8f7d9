// SPDX-License-Identifier: GPL-2.0-only

//! What a variant driver implements.

use super::{
    id::IdTable,
    msix::StableVectors,
    session::{
        CallbackMemory,
        Handle,
        MaybeOpen,
        Open,
        OpenState,
        Opening, //
    },
    vfio_pci_device::{
        Access,
        VfioPciDevice, //
    },
    watch::Unmappable,
};
use crate::rust::{
    dma_buf::Tph,
    vfio::feature::Call, //
};
use core::ops::RangeInclusive;
use kernel::{
    device::Bound,
    pci,
    prelude::*,
    str::CString, //
};

/// What vfio-pci-core leaves to the driver, and vfio-pci to module parameters of these names.
#[derive(Default)]
pub(crate) struct Settings {
    /// INTx is not masked in the device's Command register, so that no other device can share its
    /// interrupt line.
    pub(crate) nointxmask: bool,
    /// The device stays in D0 while nobody uses it.
    pub(crate) disable_idle_d3: bool,
    /// The user of a VGA device gets no access to the legacy VGA addresses.
    pub(crate) disable_vga: bool,
}

/// A vfio-pci variant driver. The implementing type is the driver's data of one bound device.
///
/// What a driver leaves out is done as vfio-pci does it. Callbacks run in process context and may
/// sleep, several at a time.
#[vtable]
pub(crate) trait Driver: OpenState + Send + Sync {
    /// What all devices of the driver share. Lives from before the first is bound until after the
    /// last is gone.
    type Shared: Send + Sync;

    /// The driver's name; also that of its vfio devices, as SR-IOV in vfio-pci-core wants it.
    const NAME: &'static CStr;

    /// The devices that the driver may have.
    const ID_TABLE: IdTable;

    /// The attributes that a bound device has in sysfs, at most eight.
    const ATTRIBUTES: &'static [Attribute<Self>] = &[];

    /// The indices of the features that [`Driver::feature`] handles; all others are
    /// vfio-pci-core's.
    const FEATURES: RangeInclusive<u32> = RangeInclusive::new(1, 0);

    /// Makes what all devices share.
    fn shared() -> impl PinInit<Self::Shared, Error>;

    /// Devices to bind from the start, written as vfio-pci's parameter `ids` has them.
    fn ids() -> &'static CStr {
        c""
    }

    /// What vfio-pci-core is to do for a device, which is being bound.
    fn settings() -> Settings {
        Settings::default()
    }

    /// Whether virtual functions may be made of a physical function: vfio-pci has a parameter.
    fn sriov_enabled() -> bool {
        false
    }

    /// A device is bound.
    fn probe(pdev: &pci::Device<Bound>, shared: &Self::Shared) -> Result<Self>;

    /// A user is about to open the device, which is awake; vfio-pci-core has not touched it yet.
    fn before_open(&self, vdev: &VfioPciDevice) -> Result {
        let _ = vdev;
        Ok(())
    }

    /// A user opens the device: vfio-pci-core has enabled and reset it, and the user cannot reach
    /// it yet.
    fn open(&self, opening: &mut Opening<'_>) -> Result<(Self::Terms, Self::Session)>;

    /// The last user is gone, and vfio-pci-core has not touched the device yet. The vfio core holds
    /// the device set's lock; neither `memory_lock` nor the session is locked.
    fn before_close(&self, handle: Handle<'_, Self>) {
        let _ = handle;
    }

    /// The last user is gone; vfio-pci-core will disable the device. A reset may still be under
    /// way.
    fn close(&self, open: &mut Open<'_, Self>) {
        let _ = open;
    }

    /// Whether [`Driver::read`] is wanted for a read of `count` bytes at a position in the device's
    /// file; all others are vfio-pci-core's.
    fn wants_read(terms: &Self::Terms, position: u64, count: usize) -> bool {
        let _ = (terms, position, count);
        false
    }

    /// Whether [`Driver::write`] is wanted for a write, likewise.
    fn wants_write(terms: &Self::Terms, position: u64, count: usize) -> bool {
        let _ = (terms, position, count);
        false
    }

    /// Reads a region. Returns the number of bytes.
    fn read(&self, handle: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        handle.vdev().read(access)
    }

    /// Writes a region. Returns the number of bytes.
    fn write(&self, handle: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        handle.vdev().write(access)
    }

    /// Handles a feature.
    fn feature(&self, handle: Handle<'_, Self>, call: Call) -> Result<i32> {
        handle.vdev().feature(call)
    }

    /// What no user of the device may map or export, if anything.
    fn unmappable(terms: &Self::Terms) -> Option<&Unmappable> {
        let _ = terms;
        None
    }

    /// The system is about to be switched off or restarted, or another kernel takes over, which
    /// finds the device, which is open, as it is left here. Users go on.
    fn shutdown(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        let _ = (open, memory);
    }

    /// The system is about to be switched off, as for [`Driver::shutdown`], and the device is
    /// bound, open or not. Whoever opens it from now on finds it shut down.
    fn system_is_down(&self) {}

    /// The device is about to be suspended by runtime PM.
    fn suspend(&self, open: &mut Open<'_, Self>) {
        let _ = open;
    }

    /// The device has been resumed by runtime PM, or taken to D0 for a hot reset that another
    /// device was asked for, and that has failed. Its memory is as its user has it.
    fn resume(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        let _ = (open, memory);
    }

    /// The system is about to sleep, or to be written to an image, with the device open. Users are
    /// frozen. Power may be cut, and firmware, or the kernel that loads the image, may use the
    /// device before [`Driver::system_resume`].
    fn system_suspend(&self, open: &mut Open<'_, Self>) {
        let _ = open;
    }

    /// The system is awake again, and the PCI core has restored what it had saved of the device,
    /// which is in D0 unless it does not wake up. Users are still frozen. One who was frozen while
    /// changing the power state goes on with that: the device must be left alone then, and there is
    /// no `memory`.
    fn system_resume(&self, open: &mut Open<'_, Self>, memory: Option<&mut CallbackMemory<'_>>) {
        let _ = (open, memory);
    }

    /// The device, which is open, will be reset. From here to [`Driver::reset_done`] sessions
    /// cannot be locked by [`Handle::lock_hardware`].
    fn reset_prepare(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        let _ = (open, memory);
    }

    /// The device, which is open, has been reset.
    fn reset_done(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        let _ = (open, memory);
    }

    /// An error was reported; the device, which is open, will be reset, or has been disturbed.
    /// Unless `accessible`, it cannot be reached. Without `memory` it must be left alone: it may be
    /// about to lose its state, or to be restored, because its user is changing the power state or
    /// it is being reset.
    fn error_detected(
        &self,
        open: &mut Open<'_, Self>,
        accessible: bool,
        memory: Option<&mut CallbackMemory<'_>>,
    ) {
        let _ = (open, accessible, memory);
    }

    /// The link was reset in the course of a recovery, for whoever wanted that; the device, which
    /// is open, has lost its state.
    fn slot_reset(&self, open: &mut Open<'_, Self>) {
        let _ = open;
    }

    /// Recovery from an error is over; the device, which is open, may have lost its state. Not
    /// called while it must be left alone.
    fn error_resume(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        let _ = (open, memory);
    }
}

/// What a driver may have to do at moments for which vfio-pci-core has no callback. Nothing unless
/// a driver says so.
pub(crate) trait Hooks: Driver {
    /// Whether [`Self::interrupts_change`] and [`Self::interrupts_changed`] are called for the
    /// device. If so, one user at a time changes interrupts.
    fn tracks_interrupts(terms: &Self::Terms) -> bool {
        let _ = terms;
        false
    }

    /// Interrupt vectors are about to be allocated or freed.
    fn interrupts_change(&self, handle: Handle<'_, Self>) {
        let _ = handle;
    }

    /// Interrupt vectors may have been allocated or freed; the next change waits for this one.
    fn interrupts_changed(&self, handle: Handle<'_, Self>, vectors: StableVectors<'_>) {
        let _ = (handle, vectors);
    }

    /// The user ends the low power state that they have put the device into. It was woken up for
    /// the call.
    fn low_power_exit(&self, handle: Handle<'_, Self>, call: Call) -> Result<i32> {
        handle.vdev().feature(call)
    }

    /// A reset that the user has asked for has failed. vfio-pci-core may have taken the device to
    /// D0 for it all the same. The device is awake.
    fn reset_failed(&self, handle: Handle<'_, Self>) {
        let _ = handle;
    }

    /// What requests to a dma-buf of the device, which is open, should carry in a namespace, by the
    /// word that [`super::OpenDevice::set_dma_buf_word`] has kept with it. EOPNOTSUPP if nothing.
    ///
    /// The dma-buf's reservation is locked, which comes after `memory_lock` and a session's lock.
    fn dma_buf_tph(&self, word: u64, extended: bool) -> Result<Tph> {
        let _ = (word, extended);
        Err(EOPNOTSUPP)
    }
}

/// A text attribute of a bound device.
pub(crate) struct Attribute<T: OpenState> {
    /// The file's name.
    pub(crate) name: &'static CStr,
    /// The file's mode.
    pub(crate) mode: u16,
    /// What a read shows, without the newline.
    pub(crate) show: fn(&T) -> Result<CString>,
    /// Takes what was written, without a newline at its end.
    pub(crate) store: fn(&T, MaybeOpen<'_, T>, &[u8]) -> Result,
}
