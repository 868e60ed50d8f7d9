// SPDX-License-Identifier: GPL-2.0-only

//! The TPH Requester extended capability, PCIe r6.2 section 7.9.13, and the chain that it is in.

use tph_uapi::pci_regs::*;

use crate::vfio::Device;

/// ST Mode Select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StMode {
    /// No ST.
    NoSt = 0,
    /// Interrupt Vector.
    InterruptVector = 1,
    /// Device Specific.
    DeviceSpecific = 2,
}

impl StMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoSt, Self::InterruptVector, Self::DeviceSpecific];
}

/// TPH Requester Enable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requester {
    /// 00b.
    Disabled = 0,
    /// 01b.
    Standard = 1,
    /// 11b.
    Extended = 3,
}

impl Requester {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Disabled, Self::Standard, Self::Extended];
}

/// The value of the Control register.
pub const fn control(mode: StMode, requester: Requester) -> u32 {
    mode as u32 | ((requester as u32) << 8)
}

/// Offset of an ST entry in config space.
pub fn entry_offset(capability: u16, index: u16) -> u16 {
    capability + PCI_TPH_BASE_SIZEOF as u16 + 2 * index
}

/// Entries that the ST table in the capability claims to have, 0 if it is not there.
pub fn claimed_entries(capability: u32) -> u16 {
    if capability & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_CAP {
        ((capability & PCI_TPH_CAP_ST_MASK) >> PCI_TPH_CAP_ST_MASK.trailing_zeros()) as u16 + 1
    } else {
        0
    }
}

/// One extended capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is.
    pub offset: u16,
    /// Its id.
    pub id: u16,
    /// Its version.
    pub version: u8,
    /// Where the next one is, 0 at the end.
    pub next: u16,
}

/// Walks the chain of extended capabilities, as the kernel and lspci do it. Fails the test if the
/// chain is not clean: a loop, a pointer into the first 256 bytes or off a dword, an empty link
/// that is not the first.
pub fn chain(read: impl Fn(u16) -> u32) -> Vec<Link> {
    let mut links: Vec<Link> = Vec::new();
    let mut offset = PCI_CFG_SPACE_SIZE as u16;
    while offset != 0 {
        assert!(
            offset >= PCI_CFG_SPACE_SIZE as u16 && offset % 4 == 0,
            "the chain leads to {offset:#x}: {links:x?}"
        );
        assert!(
            links.iter().all(|link| link.offset != offset),
            "the chain loops at {offset:#x}: {links:x?}"
        );
        let header = read(offset);
        let link = Link {
            offset,
            id: header as u16,
            version: ((header >> 16) & 0xf) as u8,
            next: (header >> 20) as u16,
        };
        let first = links.is_empty();
        assert!(
            link.id != 0 || first,
            "an empty link: {links:x?}, {link:x?}"
        );
        links.push(link);
        offset = link.next;
    }
    links
}

/// Where the TPH Requester capability is in it.
pub fn find(read: impl Fn(u16) -> u32) -> Option<Link> {
    let is_tph = |link: &Link| u32::from(link.id) == PCI_EXT_CAP_ID_TPH;
    chain(read).into_iter().find(is_tph)
}

impl Device {
    /// The chain of extended capabilities that the user sees.
    #[track_caller]
    pub fn chain(&self) -> Vec<Link> {
        chain(|offset| self.config_dword(offset))
    }

    /// Where the user sees the TPH Requester capability, if anywhere.
    #[track_caller]
    pub fn find_tph(&self) -> Option<u16> {
        find(|offset| self.config_dword(offset)).map(|link| link.offset)
    }

    /// The same; the test fails without one.
    #[track_caller]
    pub fn tph_offset(&self) -> u16 {
        *self
            .tph
            .get_or_init(|| self.find_tph().expect("a TPH Requester capability"))
    }

    /// The Capability register.
    #[track_caller]
    pub fn tph_capability(&self) -> u32 {
        self.config_dword(self.tph_offset() + PCI_TPH_CAP as u16)
    }

    /// The Control register.
    #[track_caller]
    pub fn control(&self) -> u32 {
        self.config_dword(self.tph_offset() + PCI_TPH_CTRL as u16)
    }

    /// Writes the Control register as a dword.
    #[track_caller]
    pub fn set_control(&self, value: u32) {
        let at = self.tph_offset() + PCI_TPH_CTRL as u16;
        self.set_config(at, &value.to_le_bytes());
    }

    /// Selects a mode and enables; the test fails if that does not come true.
    #[track_caller]
    pub fn enable(&self, mode: StMode, requester: Requester) {
        let value = control(mode, requester);
        self.set_control(value);
        assert_eq!(self.control(), value, "Control after writing {value:#x}");
    }
}
