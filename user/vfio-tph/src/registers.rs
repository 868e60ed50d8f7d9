// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! Config space as far as TPH is concerned, from wherever it is read: the TPH Requester capability
//! (PCIe r6.2 7.9.13) and what the PCI Express capability says of TPH (7.5.3.15, 7.5.3.20).

/// Capabilities Pointer of a type 0 or 1 header.
const CAPABILITIES_POINTER: u16 = 0x34;
/// Capability id of PCI Express.
const EXPRESS: u8 = 0x10;
/// Capability id of MSI-X.
const MSIX: u8 = 0x11;
/// Device Capabilities 2, from the PCI Express capability on.
const DEVICE_CAPABILITIES_2: u16 = 0x24;
/// Link Control 2 and, above it, Link Status 2.
const LINK_CONTROL_2: u16 = 0x30;
/// Extended capability id of TPH Requester.
const TPH_REQUESTER: u32 = 0x17;
const EXTENDED_SPACE: u16 = 0x100;
const SPACE: usize = 0x1000;

/// Offset of TPH Requester Capability in the capability.
pub const CAPABILITY: u16 = 4;
/// Offset of TPH Requester Control in the capability.
pub const CONTROL: u16 = 8;
/// Offset of an ST table in the capability.
pub const TABLE: u16 = 12;
/// ST Mode Select in Control.
pub const CTRL_MODE_MASK: u32 = 0x7;
/// Position of TPH Requester Enable in Control.
pub const CTRL_REQ_EN_SHIFT: u32 = 8;

/// Reads a dword of config space at an offset that is a multiple of 4; `None` if it cannot be read.
///
/// A closure will do:
///
/// ```
/// use vfio_tph::registers::find_tph_requester;
///
/// // One capability at 100h, and that is it.
/// let space = |offset: u16| Some(if offset == 0x100 { 0x0001_0017 } else { 0 });
/// assert_eq!(find_tph_requester(&space), Some(0x100));
/// ```
pub trait ReadConfig {
    /// Reads one dword.
    fn dword(&self, offset: u16) -> Option<u32>;

    /// Reads one byte.
    fn byte(&self, offset: u16) -> Option<u8> {
        let dword = self.dword(offset & !3)?;
        Some(dword.to_le_bytes()[usize::from(offset & 3)])
    }
}

impl<F: Fn(u16) -> Option<u32>> ReadConfig for F {
    fn dword(&self, offset: u16) -> Option<u32> {
        self(offset)
    }
}

/// The offset of the TPH Requester capability; `None` without one, or where extended config space
/// cannot be read. A chain that leads in a circle ends.
pub fn find_tph_requester(config: &impl ReadConfig) -> Option<u16> {
    let mut offset = EXTENDED_SPACE;
    for _ in 0..SPACE / 8 {
        let header = config.dword(offset)?;
        // What is all zeros or all ones is no header.
        if header == 0 || header == u32::MAX {
            return None;
        }
        if header & 0xffff == TPH_REQUESTER {
            return Some(offset);
        }
        offset = (header >> 20) as u16 & 0xffc;
        if offset < EXTENDED_SPACE {
            return None;
        }
    }
    None
}

fn find_capability(config: &impl ReadConfig, wanted: u8) -> Option<u16> {
    let mut offset = u16::from(config.byte(CAPABILITIES_POINTER)?) & 0xfc;
    for _ in 0..48 {
        if offset < 0x40 {
            return None;
        }
        let [id, next, ..] = config.dword(offset)?.to_le_bytes();
        if id == wanted {
            return Some(offset);
        }
        offset = u16::from(next) & 0xfc;
    }
    None
}

/// Where the ST table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Nowhere.
    None,
    /// In the capability.
    Capability,
    /// In the MSI-X table.
    Msix,
}

/// TPH Requester Capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requester(pub u32);

impl Requester {
    /// The modes that are supported, a bit each as [`crate::StMode::bit`] has it.
    pub const fn modes(self) -> u8 {
        (self.0 & 0b111) as u8
    }

    /// Extended TPH Requester Supported.
    pub const fn extended(self) -> bool {
        self.0 & (1 << 8) != 0
    }

    /// ST Table Location.
    pub const fn table(self) -> Table {
        match (self.0 >> 9) & 0b11 {
            0b01 => Table::Capability,
            0b10 => Table::Msix,
            _ => Table::None,
        }
    }

    /// ST Table Size, in entries. Means nothing where the table is not in the capability.
    pub const fn table_size(self) -> u16 {
        ((self.0 >> 16) & 0x7ff) as u16 + 1
    }
}

/// What a function takes as the target of requests: TPH Completer Supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completer {
    /// 00b: no hints.
    None,
    /// 01b: hints.
    Standard,
    /// 10b, which means nothing.
    Reserved,
    /// 11b: hints and extended tags.
    Extended,
}

/// What the PCI Express capability of a function says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Express {
    /// Device/Port Type, PCIe r6.2 7.5.3.2.
    pub port_type: u8,
    /// TPH Completer Supported.
    pub completer: Completer,
    /// End-End TLP Prefix Supported.
    pub prefixes: bool,
    /// Flit Mode Status of the link below a port, or above another function.
    pub flit_mode: bool,
}

impl Express {
    /// Reads it; `None` for a function of conventional PCI.
    pub fn read(config: &impl ReadConfig) -> Option<Self> {
        let offset = find_capability(config, EXPRESS)?;
        let flags = config.dword(offset)? >> 16;
        let capabilities = config.dword(offset + DEVICE_CAPABILITIES_2)?;
        let link = config.dword(offset + LINK_CONTROL_2)?;
        Some(Self {
            port_type: ((flags >> 4) & 0xf) as u8,
            completer: match (capabilities >> 12) & 0b11 {
                0b00 => Completer::None,
                0b01 => Completer::Standard,
                0b10 => Completer::Reserved,
                _ => Completer::Extended,
            },
            prefixes: capabilities & (1 << 21) != 0,
            flit_mode: link & (1 << 26) != 0,
        })
    }

    /// A root complex integrated endpoint: no port is above it.
    pub const fn is_in_root_complex(&self) -> bool {
        self.port_type == 0x9
    }

    /// A root port.
    pub const fn is_root_port(&self) -> bool {
        self.port_type == 0x4
    }

    /// A port of a root complex or of a switch.
    pub const fn is_port(&self) -> bool {
        matches!(self.port_type, 0x4..=0x6)
    }
}

/// The number of vectors in the MSI-X table of a function, 0 without one.
pub fn msix_vectors(config: &impl ReadConfig) -> u16 {
    find_capability(config, MSIX)
        .and_then(|offset| config.dword(offset))
        .map_or(0, |header| ((header >> 16) & 0x7ff) as u16 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Space(Vec<u8>);

    impl ReadConfig for Space {
        fn dword(&self, offset: u16) -> Option<u32> {
            let at = usize::from(offset);
            let bytes = self.0.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().unwrap()))
        }
    }

    fn space(dwords: &[(usize, u32)]) -> Space {
        let mut bytes = vec![0; SPACE];
        for &(at, value) in dwords {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        Space(bytes)
    }

    #[test]
    fn finds_the_capability_wherever_it_is() {
        assert_eq!(find_tph_requester(&space(&[])), None);
        assert_eq!(
            find_tph_requester(&space(&[(0x100, 0x1_0017)])),
            Some(0x100)
        );
        let second = space(&[(0x100, 0x2001_0001), (0x200, 0x1_0017)]);
        assert_eq!(find_tph_requester(&second), Some(0x200));
        // An empty header that carries the chain on.
        let hidden = space(&[(0x100, 0x2000_0000), (0x200, 0x1_0017)]);
        assert_eq!(find_tph_requester(&hidden), Some(0x200));
    }

    #[test]
    fn a_chain_that_is_wrong_ends() {
        let circle = space(&[(0x100, 0x2001_0001), (0x200, 0x1001_0002)]);
        assert_eq!(find_tph_requester(&circle), None);
        assert_eq!(find_tph_requester(&space(&[(0x100, u32::MAX)])), None);
        // What somebody who is not root can read.
        assert_eq!(find_tph_requester(&Space(vec![0; 64])), None);
        let circle = space(&[(0x34, 0x40), (0x40, 0x4001)]);
        assert_eq!(Express::read(&circle), None);
    }

    #[test]
    fn express_says_what_it_takes() {
        let root_port = space(&[
            (0x34, 0x40),
            (0x40, 0x5005),
            (0x50, 0x0042_0010),
            (0x74, (0b11 << 12) | (1 << 21)),
            (0x80, 1 << 26),
        ]);
        assert_eq!(
            Express::read(&root_port),
            Some(Express {
                port_type: 4,
                completer: Completer::Extended,
                prefixes: true,
                flit_mode: true,
            })
        );
        assert_eq!(msix_vectors(&root_port), 0);
        assert_eq!(
            msix_vectors(&space(&[(0x34, 0x40), (0x40, 0x000f_0011)])),
            16
        );
    }
}
