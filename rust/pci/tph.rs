// SPDX-License-Identifier: GPL-2.0-only

//! The TPH Requester capability of a device in hardware, and what the PCI core has recorded of it.
//!
//! C header: [`include/linux/pci-tph.h`](srctree/include/linux/pci-tph.h)

use super::{
    as_raw,
    config::Config, //
};
use crate::rust::bindings;
use kernel::{
    device::Bound,
    error::to_result,
    pci,
    prelude::*, //
};

/// A device with a TPH Requester capability.
///
/// # Invariants
///
/// `offset` is that of a TPH Requester capability in the extended config space of `pdev`, which its
/// registers do not leave.
#[derive(Clone, Copy)]
pub(crate) struct Requester<'a> {
    pdev: &'a pci::Device<Bound>,
    config: Config<'a>,
    offset: u16,
}

impl<'a> Requester<'a> {
    /// The capability that the PCI core found, if any, and if its registers are there.
    #[inline(never)]
    pub(crate) fn new(pdev: &'a pci::Device<Bound>) -> Option<Self> {
        let offset = found_at(pdev)?;
        let end = usize::from(offset) + bindings::PCI_TPH_BASE_SIZEOF as usize;
        let config = Config::new(pdev);
        // INVARIANT: The PCI core found the capability there.
        (end <= config.size()).then_some(Self {
            pdev,
            config,
            offset,
        })
    }

    /// The capability's offset in config space, in bytes.
    pub(crate) fn offset(&self) -> u16 {
        self.offset
    }

    /// Reads the dword at `register` of the capability: all ones if the device does not answer, or
    /// if there is no such register.
    pub(crate) fn read_dword(&self, register: u16) -> u32 {
        self.config.read_u32(self.at(register)).unwrap_or(u32::MAX)
    }

    /// Reads the word at `register` of the capability, likewise.
    pub(crate) fn read_word(&self, register: u16) -> u16 {
        self.config.read_u16(self.at(register)).unwrap_or(u16::MAX)
    }

    /// Writes the dword at `register` of the capability. A device that is gone does not get it, and
    /// nothing is written past the end of config space.
    pub(crate) fn write_dword(&self, register: u16, value: u32) {
        self.config.write_u32(self.at(register), value);
    }

    /// Writes the byte at `register` of the capability, likewise.
    pub(crate) fn write_byte(&self, register: u16, value: u8) {
        self.config.write_u8(self.at(register), value);
    }

    /// Writes the word at `register` of the capability, likewise.
    pub(crate) fn write_word(&self, register: u16, value: u16) {
        self.config.write_u16(self.at(register), value);
    }

    fn at(&self, register: u16) -> usize {
        usize::from(self.offset) + usize::from(register)
    }

    /// Tells pci_save_state() and pci_restore_state() what is in force: they go by that.
    ///
    /// `st_mode` and `requester_enable` are raw register fields. The caller keeps others out who
    /// tell it something else: by the lock of the session. While the device is awake they also keep
    /// out those who change its state: by `memory_lock` of vfio-pci-core, by the device lock, or as
    /// a runtime PM callback, which does not run while others keep the device awake to change it.
    #[cfg(VFIO_TPH_SET_STATE)]
    pub(crate) fn set_saved_state(&self, st_mode: u8, requester_enable: u8) {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
        unsafe { bindings::pcie_tph_set_state(as_raw(self.pdev), st_mode, requester_enable) };
    }

    /// As above, on a kernel that cannot be told.
    #[cfg(not(VFIO_TPH_SET_STATE))]
    pub(crate) fn set_saved_state(&self, st_mode: u8, requester_enable: u8) {
        set_pdev_state(self.pdev, requester_enable != 0, st_mode, requester_enable);
    }

    /// Disables TPH, in hardware and in the PCI core's record, if the PCI core thinks that it is
    /// enabled.
    pub(crate) fn disable(&self) {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
        unsafe { bindings::tph_helper_disable(as_raw(self.pdev)) };
    }
}

/// Where the PCI core found a capability, whether or not there is room for its registers.
pub(crate) fn found_at(pdev: &pci::Device<Bound>) -> Option<u16> {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    let offset = unsafe { bindings::tph_helper_cap(as_raw(pdev)) };
    (offset != 0).then_some(offset)
}

/// Whether this kernel knows of TPH, and so looks for capabilities.
pub(crate) const KERNEL_HAS_TPH: bool = cfg!(CONFIG_PCIE_TPH);

/// Where config space has a capability, also where the kernel does not look for one.
pub(crate) fn offset_in_config_space(pdev: &pci::Device<Bound>) -> Option<u16> {
    if KERNEL_HAS_TPH {
        return found_at(pdev);
    }
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`. CAST: an
    // id of 16 bits.
    let offset = unsafe {
        bindings::pci_find_ext_capability(as_raw(pdev), bindings::PCI_EXT_CAP_ID_TPH as i32)
    };
    (offset != 0).then_some(offset)
}

/// Whether this kernel lets anyone enable TPH: `pci=notph` forbids it.
#[cfg(VFIO_TPH_ALLOWED)]
pub(crate) fn allowed(_: &pci::Device<Bound>) -> bool {
    // SAFETY: The function reads a flag that never changes.
    unsafe { bindings::pcie_tph_allowed() }
}

/// As above, on a kernel that does not say.
///
/// The PCI core keeps the parameter to itself, but pcie_enable_tph() looks at it before all else,
/// and next at whether there is a capability and TPH is enabled already, before it touches
/// hardware. So it can be asked about a device that passes for enabled. To be called while the
/// device is being probed: the device lock keeps others who look at its state away.
#[cfg(not(VFIO_TPH_ALLOWED))]
pub(crate) fn allowed(pdev: &pci::Device<Bound>) -> bool {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_allowed(as_raw(pdev)) }
}

/// Writes the tags of consecutive vectors to a table in MSI-X through the PCI core, which keeps its
/// copy of the vectors' control words in step. The requester is disabled. The PCI core has to be
/// told again afterwards what is in force.
///
/// See [`Requester::set_saved_state`] for the lock.
///
/// # Safety
///
/// The device decodes the MSI-X table meanwhile.
#[cfg(VFIO_TPH_MSIX_TAGS)]
pub(in crate::rust) unsafe fn write_msix_tags(
    pdev: &pci::Device<Bound>,
    first: u16,
    tags: &[u16],
) -> Result {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and `tags`
    // for as many reads; the table is decoded, by the safety requirement. CAST: at most 2048
    // vectors.
    to_result(unsafe {
        bindings::pci_msix_write_tph_tags(
            as_raw(pdev),
            first.into(),
            tags.as_ptr(),
            tags.len() as u32,
        )
    })
}

/// As above, on a kernel that writes one entry at a time.
///
/// # Safety
///
/// As above.
#[cfg(not(VFIO_TPH_MSIX_TAGS))]
pub(in crate::rust) unsafe fn write_msix_tags(
    pdev: &pci::Device<Bound>,
    first: u16,
    tags: &[u16],
) -> Result {
    // The PCI core writes entries only while it thinks that tags are in use, and enables again
    // what it thinks was enabled: a requester type of 0 keeps it disabled. Its flag, which shares
    // a byte with others, stays as it is while a user has TPH enabled. Only to clear tags when TPH
    // is off it has to be set, and is cleared again: the copies of the control words are reached
    // in no other way.
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    let was_enabled = unsafe { bindings::tph_helper_enabled(as_raw(pdev)) };
    set_pdev_state(pdev, true, bindings::PCI_TPH_ST_IV_MODE as u8, 0);
    let written = (u32::from(first)..)
        .zip(tags)
        .try_for_each(|(vector, &tag)| {
            // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`,
            // and the table is decoded, by the safety requirement.
            to_result(unsafe { bindings::tph_helper_set_entry(as_raw(pdev), vector, tag) })
        });
    if !was_enabled {
        set_pdev_state(pdev, false, 0, 0);
    }
    written
}

#[cfg(not(VFIO_TPH_SET_STATE))]
fn set_pdev_state(pdev: &pci::Device<Bound>, enabled: bool, st_mode: u8, requester_enable: u8) {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_set_state(as_raw(pdev), enabled, st_mode, requester_enable) };
}
