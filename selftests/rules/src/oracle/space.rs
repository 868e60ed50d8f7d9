// SPDX-License-Identifier: GPL-2.0-only

//! A config space as vfio-pci-core holds it for an open device: the map of owners, and the virtual
//! space that the user sees.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range, //
};

/// `PCI_CAP_ID_INVALID` of vfio-pci-core's map: no capability.
pub(crate) const NOBODY: u8 = 0xff;
/// `PCI_CAP_ID_INVALID_VIRT`.
pub(crate) const VIRTUAL: u8 = 0xfe;
pub(crate) const TPH: u32 = 0x17;
pub(crate) const FIRST: usize = 0x100;

/// An extended capability: where it is, what it is, and how long core takes it to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    pub(crate) offset: usize,
    pub(crate) id: u32,
    pub(crate) len: usize,
}

/// Map and virtual space.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Space {
    pub(crate) map: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

impl Space {
    /// A space of `size` bytes in which no byte is 0 by itself, so that a byte that was cleared
    /// shows. The first header is an empty one.
    pub(crate) fn new(size: usize) -> Self {
        let mut space = Self {
            map: vec![NOBODY; size],
            bytes: (0..size).map(|at| (at % 251) as u8 + 1).collect(),
        };
        space.write_dword(FIRST, 0);
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
    pub(crate) fn add(&mut self, entry: &Entry, next: usize) {
        self.write_dword(entry.offset, entry.id | (1 << 16) | ((next as u32) << 20));
        let end = (entry.offset + entry.len).min(self.map.len());
        if let Some(owners) = self.map.get_mut(entry.offset..end) {
            owners.fill(entry.id as u8);
        }
    }

    pub(crate) fn write_dword(&mut self, offset: usize, value: u32) {
        if let Some(bytes) = self.bytes.get_mut(offset..offset + 4) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
    }

    pub(crate) fn dword(&self, offset: usize) -> Option<u32> {
        let bytes = self.bytes.get(offset..offset + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    /// What a user finds who walks the chain: (offset, id, version), until it ends or repeats.
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
            let Some(header) = self.dword(offset) else {
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

    /// The bytes, in their order, in which the virtual space or the map differ.
    pub(crate) fn changed(&self, before: &Self) -> Vec<usize> {
        // Most of them do not: whole blocks are compared faster.
        const BLOCK: usize = 64;
        let size = self.bytes.len();
        let same = |range: Range<usize>| {
            self.bytes[range.clone()] == before.bytes[range.clone()]
                && self.map[range.clone()] == before.map[range]
        };
        (0..size)
            .step_by(BLOCK)
            .map(|start| start..(start + BLOCK).min(size))
            .filter(|block| !same(block.clone()))
            .flatten()
            .filter(|&at| !same(at..at + 1))
            .collect()
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
