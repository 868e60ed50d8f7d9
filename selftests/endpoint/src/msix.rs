// SPDX-License-Identifier: GPL-2.0-only

//! MSI-X table with Steering Tags in Vector Control, and Pending Bit Array.

use tph_protocol::registers::{MSIX_ENTRY, MSIX_VECTOR_CONTROL};
use tph_protocol::MsixEntry;

const ENTRY: usize = MSIX_ENTRY as usize;
const CONTROL: usize = MSIX_VECTOR_CONTROL as usize;
const MASK_BIT: u32 = 1;

/// Which of Vector Control's tag bytes exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tags {
    /// None: the ST table is elsewhere.
    None,
    /// ST Lower.
    Standard,
    /// ST Lower and ST Upper.
    Extended,
}

/// What a write did to tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TagEffect {
    /// One has another value now.
    pub changed: bool,
    /// A bit of one that cannot be written was asked to change.
    pub read_only: bool,
}

/// The table, its pending bits, and nothing of the capability.
pub struct Msix {
    table: Vec<u8>,
    pending: Vec<bool>,
    tags: Tags,
}

impl Msix {
    /// All vectors masked, no tags.
    pub fn new(vectors: u16, tags: Tags) -> Self {
        let mut msix = Msix {
            table: vec![0; usize::from(vectors) * ENTRY],
            pending: vec![false; vectors.into()],
            tags,
        };
        msix.reset();
        msix
    }

    /// State after reset.
    pub fn reset(&mut self) {
        self.table.fill(0);
        for entry in self.table.chunks_exact_mut(ENTRY) {
            entry[CONTROL] = MASK_BIT as u8;
        }
        self.pending.fill(false);
    }

    /// Where the ST table is has changed: tags become 0.
    pub fn set_tags(&mut self, tags: Tags) {
        self.tags = tags;
        for entry in self.table.chunks_exact_mut(ENTRY) {
            entry[CONTROL + 2..].fill(0);
        }
    }

    /// Gives each vector that tag, as far as there are bits for it.
    pub fn fill_tags(&mut self, tag: u16) {
        for vector in 0..u64::from(self.vectors()) {
            let at = vector * ENTRY as u64 + CONTROL as u64 + 2;
            self.write(at, &tag.to_le_bytes());
        }
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        self.pending.len() as u16
    }

    /// Size of the table.
    pub fn table_size(&self) -> u64 {
        self.table.len() as u64
    }

    /// Size of the Pending Bit Array: whole quadwords.
    pub fn pba_size(&self) -> u64 {
        8 * self.pending.len().div_ceil(64) as u64
    }

    /// One vector.
    pub fn entry(&self, vector: u16) -> Option<MsixEntry> {
        let at = usize::from(vector) * ENTRY;
        let raw = self.table.get(at..at + ENTRY)?;
        let word = |i: usize| u32::from_le_bytes([raw[i], raw[i + 1], raw[i + 2], raw[i + 3]]);
        let control = word(CONTROL);
        Some(MsixEntry {
            address: u64::from(word(0)) | (u64::from(word(4)) << 32),
            data: word(8),
            control,
            tag: (control >> 16) as u16,
            masked: control & MASK_BIT != 0,
            pending: self.pending[usize::from(vector)],
        })
    }

    /// Reads the table.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        let at = offset as usize;
        out.copy_from_slice(&self.table[at..at + out.len()]);
    }

    /// Reads the Pending Bit Array.
    pub fn read_pba(&self, offset: u64, out: &mut [u8]) {
        for (i, byte) in out.iter_mut().enumerate() {
            let first = (offset as usize + i) * 8;
            *byte = (0..8)
                .filter(|bit| self.pending.get(first + bit) == Some(&true))
                .fold(0, |all, bit| all | (1 << bit));
        }
    }

    /// Writes the table.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> TagEffect {
        let mut effect = TagEffect::default();
        for (at, &value) in (offset as usize..).zip(data) {
            let in_entry = at % ENTRY;
            let writable = self.writable(in_entry);
            let after = self.table[at] & !writable | value & writable;
            if in_entry >= CONTROL + 2 && self.tags != Tags::None {
                effect.changed |= after != self.table[at];
                effect.read_only |= after != value;
            }
            self.table[at] = after;
        }
        effect
    }

    /// Writes the table, read-only bits too.
    pub fn poke(&mut self, offset: u64, data: &[u8]) {
        let at = offset as usize;
        self.table[at..at + data.len()].copy_from_slice(data);
    }

    fn writable(&self, in_entry: usize) -> u8 {
        match (in_entry, self.tags) {
            (0, _) => 0xfc,
            (1..CONTROL, _) => 0xff,
            (CONTROL, _) => MASK_BIT as u8,
            (14, Tags::Standard | Tags::Extended) => 0xff,
            (15, Tags::Extended) => 0xff,
            _ => 0,
        }
    }

    /// Marks a vector pending.
    pub fn set_pending(&mut self, vector: u16) {
        self.pending[usize::from(vector)] = true;
    }

    /// Pending vectors that are not masked any longer, no longer pending.
    pub fn take_unmasked(&mut self) -> Vec<u16> {
        let ready: Vec<u16> = (0..self.vectors())
            .filter(|&v| self.entry(v).is_some_and(|e| e.pending && !e.masked))
            .collect();
        for &vector in &ready {
            self.pending[usize::from(vector)] = false;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_after_reset() {
        let msix = Msix::new(3, Tags::Extended);
        for vector in 0..3 {
            let entry = msix.entry(vector).unwrap();
            assert!(entry.masked && entry.tag == 0 && !entry.pending);
        }
        assert!(msix.entry(3).is_none());
    }

    #[test]
    fn tag_bytes() {
        for (tags, expected) in [
            (Tags::None, 0),
            (Tags::Standard, 0xcd),
            (Tags::Extended, 0xabcd),
        ] {
            let mut msix = Msix::new(2, tags);
            let effect = msix.write(16 + 12, &0xabcd_ffffu32.to_le_bytes());
            let entry = msix.entry(1).unwrap();
            assert_eq!(entry.tag, expected);
            assert_eq!(entry.control & 0xffff, 1);
            assert_eq!(effect.changed, tags != Tags::None);
            assert_eq!(effect.read_only, tags == Tags::Standard);
            // The mask bit does not touch the tag, nor is it a change of it.
            let effect = msix.write(16 + 12, &[0]);
            assert_eq!(effect, TagEffect::default());
            assert_eq!(msix.entry(1).unwrap().tag, expected);
            assert!(!msix.entry(1).unwrap().masked);
        }
    }

    #[test]
    fn pending_bits() {
        let mut msix = Msix::new(70, Tags::None);
        assert_eq!(msix.pba_size(), 16);
        msix.set_pending(1);
        msix.set_pending(69);
        let mut pba = [0; 16];
        msix.read_pba(0, &mut pba);
        assert_eq!((pba[0], pba[8]), (2, 32));
        assert!(msix.take_unmasked().is_empty());
        msix.write(69 * 16 + 12, &[0; 4]);
        assert_eq!(msix.take_unmasked(), [69]);
        assert!(msix.take_unmasked().is_empty());
    }
}
