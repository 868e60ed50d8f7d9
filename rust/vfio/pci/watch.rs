// SPDX-License-Identifier: GPL-2.0-only

//! What a driver wants to see of the accesses to an open device.
//!
//! Nearly all reads, writes and mappings are vfio-pci-core's alone, and must cost next to nothing
//! more than there.

use crate::rust::bindings;
use core::ops::Range;
use kernel::sync::atomic::{
    Atomic,
    Relaxed, //
};

/// A range of config space, in the terms of the device's file.
///
/// It may become wider while others look: whoever is told of an access looks again.
pub(crate) struct Watch {
    start: Atomic<u64>,
    end: Atomic<u64>,
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
            start: Atomic::new(at(range.start)),
            end: Atomic::new(at(range.end)),
        }
    }

    /// Watches `range` as well, and what is between it and what was watched. One at a time.
    #[inline(never)]
    pub(crate) fn widen(&self, range: Range<u16>) {
        if range.is_empty() {
            return;
        }
        let (start, end) = (
            Self::CONFIG + u64::from(range.start),
            Self::CONFIG + u64::from(range.end),
        );
        let before = self.end.load(Relaxed);
        // Nothing was watched: no access meets an end of 0.
        if before == 0 || start < self.start.load(Relaxed) {
            self.start.store(start, Relaxed);
        }
        if end > before {
            self.end.store(end, Relaxed);
        }
    }

    /// Whether an access of `count` bytes at a position in the file touches the range.
    #[inline(always)]
    pub(crate) fn meets(&self, position: u64, count: usize) -> bool {
        // CAST: widens. A position below `end` is far from an overflow.
        position < self.end.load(Relaxed)
            && position.wrapping_add(count as u64) > self.start.load(Relaxed)
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
