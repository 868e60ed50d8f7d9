// SPDX-License-Identifier: GPL-2.0-only

//! Hardware's config space, whatever its size.
//!
//! `kernel::pci` knows 256 and 4096 bytes, and panics at any other size. Quirks set others, for
//! devices that do not survive an access to the rest (drivers/pci/quirks.c).

use super::as_raw;
use crate::rust::bindings;
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};

// CAST: widens.
const COMMAND: usize = bindings::PCI_COMMAND as usize;
// CAST: in its low byte.
const MEMORY: u8 = bindings::PCI_COMMAND_MEMORY as u8;

/// Config space of a device, as hardware has it.
#[derive(Clone, Copy)]
pub(crate) struct Config<'a>(&'a pci::Device<Bound>);

/// Reads of one width each.
macro_rules! reads {
    ($($ty:ty: $read:ident by $c_read:ident;)*) => {
        $(
            #[doc = concat!("Reads a `", stringify!($ty), "`: all ones if the device does not ")]
            #[doc = "answer. `None` past the end, and if `offset` is not aligned."]
            #[inline(never)]
            pub(crate) fn $read(self, offset: usize) -> Option<$ty> {
                let at = self.check(offset, size_of::<$ty>())?;
                let mut value = <$ty>::MAX;
                // SAFETY: The device is a valid `struct pci_dev`, by the invariant of
                // `pci::Device`, and `value` is valid for a write.
                unsafe { bindings::$c_read(as_raw(self.0), at, &mut value) };
                Some(value)
            }
        )*
    };
}

/// Writes of one width each.
macro_rules! writes {
    ($($ty:ty: $write:ident by $c_write:ident;)*) => {
        $(
            #[doc = concat!("Writes a `", stringify!($ty), "`. A device that is gone does not get")]
            #[doc = "it, and nothing is written past the end, nor where `offset` is not aligned."]
            #[inline(never)]
            pub(crate) fn $write(self, offset: usize, value: $ty) {
                if let Some(at) = self.check(offset, size_of::<$ty>()) {
                    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of
                    // `pci::Device`.
                    unsafe { bindings::$c_write(as_raw(self.0), at, value) };
                }
            }
        )*
    };
}

impl<'a> Config<'a> {
    /// Config space of a device.
    pub(crate) fn new(pdev: &'a pci::Device<Bound>) -> Self {
        Self(pdev)
    }

    /// Its size in bytes.
    #[inline(never)]
    pub(crate) fn size(self) -> usize {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`; the
        // field is set before a driver is bound.
        let size = unsafe { (*as_raw(self.0)).cfg_size };
        usize::try_from(size).unwrap_or(0)
    }

    /// The Command register; `None` if the device does not answer.
    #[inline(never)]
    pub(crate) fn command(self) -> Option<u16> {
        self.read_u16(COMMAND)
            .filter(|&command| command != u16::MAX)
    }

    /// Sets or clears Memory Space Enable, in the low byte of what Command holds. The high byte is
    /// not written: in there the INTx handler masks, which no lock keeps away. It writes the whole
    /// register; what we write between its read and its write is lost, as vfio-pci-core's own is.
    pub(crate) fn set_memory_space(self, command: u16, on: bool) {
        let [low, _] = command.to_le_bytes();
        let low = if on { low | MEMORY } else { low & !MEMORY };
        self.write_u8(COMMAND, low);
    }

    reads! {
        u16: read_u16 by pci_read_config_word;
        u32: read_u32 by pci_read_config_dword;
    }

    writes! {
        u8: write_u8 by pci_write_config_byte;
        u16: write_u16 by pci_write_config_word;
        u32: write_u32 by pci_write_config_dword;
    }

    /// The offset as C has it, if there are `bytes` bytes, a power of two.
    #[inline(never)]
    fn check(self, offset: usize, bytes: usize) -> Option<i32> {
        let end = offset.checked_add(bytes)?;
        if end > self.size() || offset & (bytes - 1) != 0 {
            return None;
        }
        i32::try_from(offset).ok()
    }
}
