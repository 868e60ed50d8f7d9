// SPDX-License-Identifier: GPL-2.0-only

//! What a driver wants to see of the accesses to an open device.
//!
//! Nearly all reads, writes and mappings are vfio-pci-core's alone, and must cost next to nothing
//! more than there.

use crate::rust::bindings;
use core::ops::Range;

/// A range of config space, in the terms of the device's file.
#[derive(Default)]
pub(crate) struct Watch {
    start: u64,
    end: u64,
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
            start: at(range.start),
            end: at(range.end),
        }
    }

    /// The offsets in config space that are watched.
    pub(crate) fn range(&self) -> Range<u16> {
        // CAST: what `new` was given.
        let at = |position: u64| position.saturating_sub(Self::CONFIG) as u16;
        at(self.start)..at(self.end)
    }

    /// Whether an access of `count` bytes at a position in the file touches the range.
    #[inline(always)]
    pub(crate) fn meets(&self, position: u64, count: usize) -> bool {
        // CAST: widens. A position below `end` is far from an overflow.
        position < self.end && position.wrapping_add(count as u64) > self.start
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
