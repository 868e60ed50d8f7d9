// SPDX-License-Identifier: GPL-2.0-only

//! A config space as vfio-pci-core holds it for an open device: the map of owners, and the virtual
//! space that the user sees. And hardware's, with the owners of each byte once more, in plain
//! integers.

use std::{
    collections::BTreeSet,
    fmt, //
};

/// `PCI_CAP_ID_INVALID` of vfio-pci-core's map: no capability.
pub(crate) const NOBODY: u8 = 0xff;
/// `PCI_CAP_ID_BASIC`: the registers that each device has, and where a header says so.
pub(crate) const BASIC: u8 = 0;
/// `PCI_CAP_ID_INVALID_VIRT`.
pub(crate) const VIRTUAL: u8 = 0xfe;
pub(crate) const TPH: u32 = 0x17;
pub(crate) const VENDOR: u32 = 0x0b;
pub(crate) const DVSEC: u32 = 0x23;
pub(crate) const FIRST: usize = 0x100;

/// An extended capability: where it is, what it is, and how long core takes it to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) offset: usize,
    pub(crate) id: u32,
    pub(crate) len: usize,
}

/// Whether a byte is that of a TPH capability, and of another one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owner {
    pub(crate) tph: bool,
    pub(crate) other: bool,
}

/// Map and virtual space, and hardware.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Space {
    pub(crate) map: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) hardware: Vec<u8>,
}

impl Space {
    /// A space of `size` bytes in which no byte is 0 by itself, so that a byte that was cleared
    /// shows. The first header is an empty one.
    pub(crate) fn new(size: usize) -> Self {
        let bytes: Vec<_> = (0..size).map(|at| (at % 251) as u8 + 1).collect();
        let mut space = Self {
            map: vec![NOBODY; size],
            hardware: bytes.clone(),
            bytes,
        };
        space.write_dword(FIRST, 0);
        space
    }

    /// What vfio-pci-core makes of a space of hardware's, as vfio_ecap_init() does: what it knows
    /// no length of is not in the user's chain, and what it meets again it fills in again. What it
    /// does not fill in is anything.
    pub(crate) fn of_hardware(hardware: &[u8]) -> Self {
        let mut space = Self {
            map: vec![NOBODY; hardware.len()],
            bytes: vec![0x5a; hardware.len()],
            hardware: hardware.to_vec(),
        };
        let mut before = None;
        let mut shows = false;
        let mut offset = FIRST;
        for _ in 0..hardware.len().saturating_sub(FIRST) / 4 {
            let Some(header) = dword_of(hardware, offset).filter(|_| offset >= FIRST) else {
                break;
            };
            let (id, next) = (header & 0xffff, (header >> 20) & 0xffc);
            let known = if is_hidden(id) {
                0
            } else {
                length(hardware, offset)
            };
            match (known, before) {
                (0, Some(before)) => {
                    let kept = dword_of(&space.bytes, before).unwrap_or(0) & !0xffc0_0000;
                    space.write_virtual(before, kept | (next << 20));
                }
                _ => {
                    let len = if known == 0 { 4 } else { known };
                    let end = (offset + len).min(hardware.len());
                    space.map[offset..end].fill(id as u8);
                    space.bytes[offset..end].copy_from_slice(&hardware[offset..end]);
                    if known == 0 {
                        space.write_virtual(offset, header & 0xffc0_0000);
                    }
                    shows |= known != 0;
                    before = Some(offset);
                }
            }
            offset = next as usize;
        }
        if !shows {
            space.write_virtual(FIRST, 0);
        }
        space
    }

    /// Capabilities that follow each other in the order of `entries`; the last one leads to `last`.
    pub(crate) fn with_chain(entries: &[Entry], last: usize) -> Self {
        let mut space = Self::new(4096);
        for (place, entry) in entries.iter().enumerate() {
            let next = entries.get(place + 1).map_or(last, |next| next.offset);
            space.add(entry, next);
        }
        space
    }

    /// Adds a capability the way that core does: the map of a later one overwrites an earlier one.
    /// Where its registers tell how long it is, they do so.
    pub(crate) fn add(&mut self, entry: &Entry, next: usize) {
        self.write_dword(entry.offset, entry.id | (1 << 16) | ((next as u32) << 20));
        match (entry.id, entry.len) {
            (TPH, 14..) => {
                let size = ((entry.len - 12) / 2).min(2048) as u32 - 1;
                self.write_dword(entry.offset + 4, 0x307 | (size << 16));
            }
            (TPH, 12..) => self.write_dword(entry.offset + 4, 0x107),
            (VENDOR | DVSEC, 8..) => {
                self.write_dword(entry.offset + 4, (entry.len.min(0xfff) as u32) << 20);
            }
            _ => {}
        }
        let end = (entry.offset + entry.len).min(self.map.len());
        if let Some(owners) = self.map.get_mut(entry.offset..end) {
            owners.fill(entry.id as u8);
        }
    }

    /// Writes it to hardware's space and to the virtual one.
    pub(crate) fn write_dword(&mut self, offset: usize, value: u32) {
        self.write_virtual(offset, value);
        if let Some(bytes) = self.hardware.get_mut(offset..offset + 4) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Writes it to the virtual space alone.
    pub(crate) fn write_virtual(&mut self, offset: usize, value: u32) {
        if let Some(bytes) = self.bytes.get_mut(offset..offset + 4) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// What the virtual space has there, whether or not a user sees it.
    pub(crate) fn dword(&self, offset: usize) -> Option<u32> {
        dword_of(&self.bytes, offset)
    }

    /// What a user reads there, of the extended space, as vfio_pci_config_rw_single() has it: in
    /// chunks of one owner, from the virtual space what begins within four bytes of where that
    /// owner's bytes begin, from hardware all that is behind.
    pub(crate) fn read(&self, offset: usize) -> Option<u32> {
        let mut read = [0; 4];
        let end = offset + read.len();
        let owners = self.map.get(..end)?;
        let mut at = offset;
        while at < end {
            let same = owners[at..]
                .iter()
                .take_while(|&&owner| owner == owners[at]);
            let count = match same.count() {
                4 => 4,
                2.. if at % 2 == 0 => 2,
                _ => 1,
            };
            let before = owners[FIRST..at].iter().rev().take(4);
            let behind = before.take_while(|&&owner| owner == owners[at]).count();
            let from = match owners[at] {
                VIRTUAL => &self.bytes,
                NOBODY | BASIC => &self.hardware,
                _ if behind < 4 => &self.bytes,
                _ => &self.hardware,
            };
            read[at - offset..][..count].copy_from_slice(&from[at..at + count]);
            at += count;
        }
        Some(u32::from_le_bytes(read))
    }

    /// Whether a user who reads a header byte by byte gets some of it from hardware.
    pub(crate) fn shows_hardware(&self, offset: usize) -> bool {
        (offset..offset + 4).any(|at| match self.map[at] {
            VIRTUAL => false,
            NOBODY | BASIC => true,
            owner => {
                let before = self.map[FIRST..at].iter().rev();
                before.take_while(|&&other| other == owner).take(4).count() == 4
            }
        })
    }

    /// Who owns each byte in hardware, whoever is at `except` left out.
    pub(crate) fn owners(&self, except: Option<usize>) -> Vec<Owner> {
        let mut owners = vec![Owner::default(); self.hardware.len()];
        for (offset, header) in headers(&self.hardware) {
            if Some(offset) == except {
                continue;
            }
            let len = length(&self.hardware, offset).max(4);
            for owner in owners.iter_mut().skip(offset).take(len) {
                match header & 0xffff {
                    TPH => owner.tph = true,
                    _ => owner.other = true,
                }
            }
        }
        owners
    }

    /// The offsets of the TPH capabilities that hardware's chain leads to.
    pub(crate) fn tphs_of_hardware(&self) -> Vec<usize> {
        let mut found = headers(&self.hardware);
        found.retain(|&(_, header)| header & 0xffff == TPH);
        found.into_iter().map(|(offset, _)| offset).collect()
    }

    /// What a user finds who walks the chain by dwords: (offset, id, version), until it ends or
    /// repeats.
    pub(crate) fn walk(&self) -> Vec<(usize, u32, u32)> {
        self.walk_to_the_end().0
    }

    /// Whether the chain ends, and does not go in a circle.
    pub(crate) fn ends(&self) -> bool {
        self.walk_to_the_end().1
    }

    fn walk_to_the_end(&self) -> (Vec<(usize, u32, u32)>, bool) {
        let mut found = Vec::new();
        let mut visited = BTreeSet::new();
        let mut offset = FIRST;
        while offset >= FIRST {
            if !visited.insert(offset) {
                return (found, false);
            }
            let Some(header) = self.read(offset) else {
                break;
            };
            found.push((offset, header & 0xffff, (header >> 16) & 0xf));
            offset = (header >> 20) as usize & !3;
        }
        (found, true)
    }

    /// The offsets of the capabilities in the chain; empty headers only hold it together.
    pub(crate) fn capabilities(&self) -> Vec<usize> {
        let found = self.walk().into_iter();
        found
            .filter(|&(_, id, _)| id != 0)
            .map(|(offset, ..)| offset)
            .collect()
    }
}

fn dword_of(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
}

/// The chain of a space, as (offset, header), until it ends or repeats.
fn headers(bytes: &[u8]) -> Vec<(usize, u32)> {
    let mut found: Vec<(usize, u32)> = Vec::new();
    let mut offset = FIRST;
    while offset >= FIRST && !found.iter().any(|&(before, _)| before == offset) {
        let Some(header) = dword_of(bytes, offset) else {
            break;
        };
        found.push((offset, header));
        offset = (header >> 20) as usize & !3;
    }
    found
}

/// What vfio-pci-core does not show of what has a length.
fn is_hidden(id: u32) -> bool {
    matches!(id, 0x1b | 0x1e | 0x1f | 0x24 | 0x25 | 0x2e)
}

/// Bytes of the capability at `offset`, 0 if that is not known: PCIe r6.2, 7.7 to 7.9.
fn length(bytes: &[u8], offset: usize) -> usize {
    let at = |register: usize| dword_of(bytes, offset + register).unwrap_or(!0) as usize;
    match at(0) & 0xffff {
        0x01 => 0x2c,
        0x02 | 0x08 | 0x09 => {
            let len = 0x10 + 12 * (1 + at(4) % 8);
            match at(8) & 0xe {
                0 => len,
                phases if phases & 8 != 0 => len.div_ceil(16) * 16 + 64,
                phases if phases & 4 != 0 => len.div_ceil(16) * 16 + 32,
                _ => len.div_ceil(16) * 16 + 16,
            }
        }
        0x03 | 0x1f | 0x25 => 12,
        0x04 | 0x13 | 0x1e => 16,
        0x0b | 0x23 => at(4) >> 20,
        0x0d if at(4) & 0x20 == 0 => 8,
        0x0d => match (at(4) >> 8) & 0xff {
            0 => 8 + 32,
            bits => 8 + 4 * bits.div_ceil(32),
        },
        0x0e | 0x0f | 0x18 | 0x1b => 8,
        0x10 => 64,
        0x12 => 40,
        0x15 | 0x24 => 4 + 8 * ((at(8) >> 5) & 7),
        0x16 => 16 + (at(4) & 0x1f) + 1,
        0x17 if (at(4) >> 9) & 3 == 1 => 12 + 2 * (((at(4) >> 16) & 0x7ff) + 1),
        0x17 => 12,
        0x2e => 0x18,
        _ => 0,
    }
}

/// What tells of a failed test: the size, and the chain with its owners; not all of the bytes.
impl fmt::Debug for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes:", self.bytes.len())?;
        for (offset, id, _) in self.walk() {
            let owner = self.map[offset];
            let owned = self.map[offset..].iter().take_while(|&&next| next == owner);
            let owned = owned.count();
            write!(f, " [{offset:#x} id {id:#x}, {owned} bytes of {owner:#x}]")?;
        }
        Ok(())
    }
}
