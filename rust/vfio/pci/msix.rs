// SPDX-License-Identifier: GPL-2.0-only

//! The MSI-X table of a device, in its BAR: for the steering tags of vectors that nobody has
//! allocated. Those of allocated vectors go through the PCI core, which has a copy of the words.

use super::core_device::{
    AloneMemoryGuard,
    CoreDevice, //
};
use crate::rust::{
    bindings,
    nospec,
    pci as bus, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    io::Io,
    prelude::*, //
};

// CAST: a bit of 16.
const MEMORY: u16 = bindings::PCI_COMMAND_MEMORY as u16;
const ENTRY_SIZE: u32 = bindings::PCI_MSIX_ENTRY_SIZE;
const TAG_SHIFT: u32 = bindings::PCI_MSIX_ENTRY_CTRL_ST.trailing_zeros();

/// Where the MSI-X table is.
#[derive(Clone, Copy)]
pub(crate) struct MsixLocation {
    /// BAR number, which is also the region's index.
    pub(crate) bar: u32,
    /// Offset in the BAR, in bytes.
    pub(crate) offset: u32,
    /// Length in bytes.
    pub(crate) size: u32,
}

impl MsixLocation {
    /// The number of vectors, 1 to 2048.
    pub(crate) fn vectors(&self) -> u16 {
        // CAST: at most 2048.
        (self.size / ENTRY_SIZE) as u16
    }
}

impl CoreDevice {
    /// Where the MSI-X table is, if there is one. To be asked while the device is open.
    pub(crate) fn msix(&self) -> Option<MsixLocation> {
        const NO_BAR: u8 = 0xff;

        let raw = self.as_raw();
        // SAFETY: The device is valid; the fields are set at open.
        let (bar, offset, size) =
            unsafe { ((*raw).msix_bar, (*raw).msix_offset, (*raw).msix_size) };
        (bar != NO_BAR).then_some(MsixLocation {
            bar: bar.into(),
            offset,
            size: size.into(),
        })
    }

    /// Makes the device decode its memory BARs for as long as the guard lives, whatever the user
    /// has made of Memory Space Enable. `None` if it is in a power state in which it cannot, or
    /// if it does not answer.
    ///
    /// Without a `lock`, which is kept as long, the caller sees to it that nobody else changes
    /// that.
    pub(super) fn decode_memory<'a>(
        &'a self,
        lock: Option<AloneMemoryGuard<'a>>,
    ) -> Option<Decoding<'a>> {
        if !bus::is_in_d0(self.pci()) {
            return None;
        }
        let command = bus::command(self.pci())?;
        let decoding = Decoding {
            device: self,
            switched_on: command & MEMORY == 0,
            _lock: lock,
        };
        if decoding.switched_on {
            decoding.set_command(command | MEMORY);
        }
        Some(decoding)
    }

    /// The device, as one that decodes its memory BARs, if it does. The caller keeps it so.
    pub(super) fn decoding(&self) -> Option<Decoding<'_>> {
        self.decodes_memory().then_some(Decoding {
            device: self,
            switched_on: false,
            _lock: None,
        })
    }

    /// The MSI-X table, if the device decodes it.
    ///
    /// # Safety
    ///
    /// For `'a` the device stays open, and keeps decoding if it does.
    pub(super) unsafe fn msix_table<'a>(&'a self) -> Option<MsixTable<'a>> {
        let msix = self.msix()?;
        let len = self.pci().resource_len(msix.bar).ok()?;
        if u64::from(msix.offset) + u64::from(msix.size) > len {
            return None;
        }
        // SAFETY: The device is open, by the safety requirement: vfio-pci-core has mapped what it
        // could, and has an error pointer for the rest. CAST: widen.
        let base = unsafe {
            let barmap = &(*self.as_raw()).barmap;
            let base = *barmap.get(nospec::index(msix.bar as usize, barmap.len()))?;
            kernel::error::from_err_ptr(NonNull::new(base)?.as_ptr())
                .ok()?
                .byte_add(msix.offset as usize)
        };
        // INVARIANT: The table is within a mapped BAR.
        Some(MsixTable {
            base,
            vectors: msix.vectors(),
            _device: PhantomData,
        })
    }
}

/// A device that decodes its memory BARs.
pub(crate) struct Decoding<'a> {
    device: &'a CoreDevice,
    /// Whether the device did not decode before.
    switched_on: bool,
    // Released when decoding is off again.
    _lock: Option<AloneMemoryGuard<'a>>,
}

impl Decoding<'_> {
    fn set_command(&self, command: u16) {
        let config = self.device.pci().config_space();
        // The offset is in range: nothing to fail.
        let _ = config.try_write16(command, bindings::PCI_COMMAND as usize);
    }
}

impl Drop for Decoding<'_> {
    fn drop(&mut self) {
        // Other bits may have changed meanwhile: an INTx handler masks with one of them.
        if self.switched_on {
            if let Some(command) = bus::command(self.device.pci()) {
                self.set_command(command & !MEMORY);
            }
        }
    }
}

/// The MSI-X table of an open device that decodes it.
///
/// # Invariants
///
/// `base` is mapped for `vectors` entries for `'a`.
pub(crate) struct MsixTable<'a> {
    base: *mut c_void,
    vectors: u16,
    _device: PhantomData<&'a CoreDevice>,
}

impl MsixTable<'_> {
    fn vector_control(&self, vector: u16) -> Option<*mut c_void> {
        if vector >= self.vectors {
            return None;
        }
        let offset = u32::from(vector) * ENTRY_SIZE + bindings::PCI_MSIX_ENTRY_VECTOR_CTRL;
        // SAFETY: In range, by the invariant. CAST: widens.
        Some(unsafe { self.base.byte_add(offset as usize) })
    }

    /// The tag of a vector. `None` if the device does not answer: some bits of the word that has it
    /// are reserved, and 0.
    pub(crate) fn tag(&self, vector: u16) -> Option<u16> {
        // SAFETY: Mapped, by the invariant.
        let control = unsafe { bindings::readl(self.vector_control(vector)?) };
        // CAST: 16 bits are left.
        (control != u32::MAX).then_some((control >> TAG_SHIFT) as u16)
    }

    /// Zeroes the tag of a vector that is not allocated, if it has one. Whether it has none then: a
    /// device that does not answer has all of them.
    pub(crate) fn clear_tag(&self, vector: u16) -> bool {
        let Some(at) = self.vector_control(vector) else {
            return false;
        };
        // SAFETY: Mapped, by the invariant.
        unsafe {
            let control = bindings::readl(at);
            if control >> TAG_SHIFT == 0 {
                return true;
            }
            bindings::writel(control & !bindings::PCI_MSIX_ENTRY_CTRL_ST, at);
            // Nobody disables memory decoding behind a write that is still on its way.
            bindings::readl(at) >> TAG_SHIFT == 0
        }
    }
}
