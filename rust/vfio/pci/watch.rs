// SPDX-License-Identifier: GPL-2.0-only

//! What a driver wants to see of the accesses to an open device.
//!
//! Both are looked at on calls that are vfio-pci-core's business nearly always, and have to cost
//! next to nothing there: plain words, which change only while no user can reach the device.

use crate::rust::bindings;
use core::{
    cell::UnsafeCell,
    ops::Range, //
};

/// A word that is read at any time, and written while nobody reads it.
pub(super) struct Word(UnsafeCell<u64>);

// SAFETY: All accesses are volatile, of a whole word, as with READ_ONCE() and WRITE_ONCE().
unsafe impl Sync for Word {}

impl Word {
    pub(super) const fn new(value: u64) -> Self {
        Self(UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(super) fn get(&self) -> u64 {
        // SAFETY: The pointer is valid; see `Sync` for concurrent accesses.
        unsafe { self.0.get().read_volatile() }
    }

    pub(super) fn set(&self, value: u64) {
        // SAFETY: As above.
        unsafe { self.0.get().write_volatile(value) }
    }
}

/// A range of config space, in the terms of the device's file. Empty at first.
pub(crate) struct Watch {
    start: Word,
    end: Word,
}

impl Watch {
    /// Where config space starts in the file.
    const CONFIG: u64 =
        (bindings::VFIO_PCI_CONFIG_REGION_INDEX as u64) << bindings::VFIO_PCI_OFFSET_SHIFT;

    /// Nothing is watched.
    pub(crate) const fn new() -> Self {
        Self {
            start: Word::new(0),
            end: Word::new(0),
        }
    }

    /// Watches offsets in config space, none if the range is empty. No user can reach the device.
    pub(crate) fn set(&self, range: Range<u16>) {
        let at = |offset: u16| match range.is_empty() {
            true => 0,
            false => Self::CONFIG + u64::from(offset),
        };
        self.start.set(at(range.start));
        self.end.set(at(range.end));
    }

    /// The offsets in config space that are watched.
    pub(crate) fn range(&self) -> Range<u16> {
        // CAST: what `set` was given.
        let at = |word: &Word| word.get().saturating_sub(Self::CONFIG) as u16;
        at(&self.start)..at(&self.end)
    }

    /// Whether an access of `count` bytes at a position in the file touches the range.
    #[inline(always)]
    pub(crate) fn meets(&self, position: u64, count: usize) -> bool {
        // CAST: widens. A position below `end` is far from an overflow.
        position < self.end.get() && position.wrapping_add(count as u64) > self.start.get()
    }
}

/// A region, and the bytes of it that no user may map or export.
pub(crate) struct Unmappable {
    /// The region's index.
    pub(crate) region: u32,
    /// Bytes in the region.
    pub(crate) bytes: Range<u64>,
}

/// What of an open device is unmappable. Nothing at first.
pub(super) struct Hole {
    region: Word,
    start: Word,
    end: Word,
}

impl Hole {
    /// No region has this index.
    const NOWHERE: u64 = u64::MAX;

    pub(super) const fn new() -> Self {
        Self {
            region: Word::new(Self::NOWHERE),
            start: Word::new(0),
            end: Word::new(0),
        }
    }

    /// No user can reach the device.
    pub(super) fn set(&self, hole: Option<Unmappable>) {
        let Some(hole) = hole else {
            self.region.set(Self::NOWHERE);
            return;
        };
        self.start.set(hole.bytes.start);
        self.end.set(hole.bytes.end);
        self.region.set(hole.region.into());
    }

    /// What is unmappable of a region, if anything.
    #[inline(always)]
    pub(super) fn of(&self, region: u32) -> Option<Range<u64>> {
        (self.region.get() == u64::from(region)).then(|| self.start.get()..self.end.get())
    }
}
