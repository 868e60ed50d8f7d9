// SPDX-License-Identifier: GPL-2.0-only

//! What a driver wants to see of the accesses to an open device.
//!
//! Nearly all reads, writes and mappings are vfio-pci-core's alone, and must cost next to nothing
//! more than there.

use crate::rust::bindings;
use core::{
    cell::UnsafeCell,
    ops::Range, //
};

/// A range of config space, in the terms of the device's file.
///
/// It may become wider while others look: whoever is told of an access looks again.
pub(crate) struct Watch {
    start: Word,
    end: Word,
}

/// A word that is read without a lock, and written now and then. Where the kernel's atomics are
/// calls of C, this is one instruction.
struct Word(UnsafeCell<u64>);

// SAFETY: The word is read and written by volatile accesses alone, which are whole on 64 bit, as
// READ_ONCE() and WRITE_ONCE() have it.
unsafe impl Sync for Word {}

impl Word {
    #[inline(always)]
    fn load(&self) -> u64 {
        // SAFETY: The pointer is valid and aligned; others write by `store` alone.
        unsafe { self.0.get().read_volatile() }
    }

    fn store(&self, value: u64) {
        // SAFETY: The pointer is valid and aligned; others read by `load` alone.
        unsafe { self.0.get().write_volatile(value) };
    }
}

impl Watch {
    /// Where config space starts in the file.
    const CONFIG: u64 =
        (bindings::VFIO_PCI_CONFIG_REGION_INDEX as u64) << bindings::VFIO_PCI_OFFSET_SHIFT;

    /// Watches offsets in config space, none if the range is empty.
    #[inline(never)]
    pub(crate) fn new(range: Range<u16>) -> Self {
        let at = |offset: u16| match range.is_empty() {
            true => 0,
            false => Self::CONFIG + u64::from(offset),
        };
        Self {
            start: Word(UnsafeCell::new(at(range.start))),
            end: Word(UnsafeCell::new(at(range.end))),
        }
    }

    /// Watches `range` as well, and what is between it and what was watched. There is one caller
    /// at a time.
    #[inline(never)]
    pub(crate) fn widen(&self, range: Range<u16>) {
        if range.is_empty() {
            return;
        }
        let (start, end) = (
            Self::CONFIG + u64::from(range.start),
            Self::CONFIG + u64::from(range.end),
        );
        let before = self.end.load();
        // Nothing was watched: no access meets an end of 0.
        if before == 0 || start < self.start.load() {
            self.start.store(start);
        }
        if end > before {
            self.end.store(end);
        }
    }

    /// Whether an access of `count` bytes at a position in the file touches the range.
    #[inline(always)]
    pub(crate) fn meets(&self, position: u64, count: usize) -> bool {
        // CAST: widens. A position below `end` is far from an overflow.
        position < self.end.load() && position.wrapping_add(count as u64) > self.start.load()
    }
}

/// A region, and the bytes of it that no user may map or export.
pub(crate) struct Unmappable {
    /// The region's index.
    pub(crate) region: u32,
    /// Bytes in the region.
    pub(crate) bytes: Range<u64>,
}

impl Unmappable {
    /// What is unmappable of a region, if anything.
    #[inline(always)]
    pub(super) fn of(&self, region: u32) -> Option<Range<u64>> {
        (self.region == region).then(|| self.bytes.clone())
    }
}
