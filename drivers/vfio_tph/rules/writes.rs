// SPDX-License-Identifier: GPL-2.0-only

//! How a range of ST entries is written to a table in the capability.

use super::regs::{
    BASE_SIZE,
    ENTRY_SIZE, //
};
use core::ops::Range;

/// One config space write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Write {
    /// One entry.
    Word(u16),
    /// Two entries, the lower one in the lower half.
    Dword(u32),
}

/// How wide a write is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Width {
    /// One byte.
    Byte,
    /// Two bytes.
    Word,
    /// Four bytes.
    Dword,
}

/// The aligned writes that clear `bytes` of a capability, and no others, as (offset in the
/// capability, width) pairs.
pub(crate) fn clearing(bytes: Range<u16>) -> impl Iterator<Item = (u16, Width)> {
    let mut at = bytes.start;
    core::iter::from_fn(move || {
        let offset = at;
        let (width, len) = match bytes.end.saturating_sub(at) {
            0 => return None,
            4.. if at % 4 == 0 => (Width::Dword, 4),
            2.. if at % 2 == 0 => (Width::Word, 2),
            _ => (Width::Byte, 1),
        };
        at += len;
        Some((offset, width))
    })
}

/// The writes that put `tags` into the entries from `index` on, as (offset in the capability,
/// write) pairs: aligned pairs of entries as dwords, what is left at either end as words, so that
/// no neighbour has to be read or written.
pub(crate) struct Writes<'a> {
    index: u16,
    tags: &'a [u16],
}

impl<'a> Writes<'a> {
    /// The offset of an entry in the capability, in bytes.
    pub(crate) const fn offset(index: u16) -> u16 {
        // CAST: small numbers.
        index * ENTRY_SIZE as u16 + BASE_SIZE as u16
    }

    /// Plans the writes; `index + tags.len()` is within the table.
    pub(crate) fn new(index: u16, tags: &'a [u16]) -> Self {
        Self { index, tags }
    }
}

impl Iterator for Writes<'_> {
    type Item = (u16, Write);

    #[inline(never)]
    fn next(&mut self) -> Option<Self::Item> {
        let offset = Self::offset(self.index);
        let (write, rest, entries) = match *self.tags {
            [] => return None,
            [low, high, ref rest @ ..] if self.index % 2 == 0 => (
                Write::Dword((u32::from(high) << 16) | u32::from(low)),
                rest,
                2,
            ),
            [tag, ref rest @ ..] => (Write::Word(tag), rest, 1),
        };
        self.index += entries;
        self.tags = rest;
        Some((offset, write))
    }
}
