// SPDX-License-Identifier: GPL-2.0-only

//! Which accesses to config space concern the driver: words that are read without a lock, as most
//! accesses are vfio-pci-core's alone.

use crate::rust::vfio::pci::Watch;
use core::ops::Range;

/// A range of bytes in config space.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct ByteRange {
    pub(crate) start: u16,
    pub(crate) end: u16,
}

impl ByteRange {
    pub(crate) const EMPTY: Self = Self { start: 0, end: 0 };

    pub(crate) fn contains(self, offset: usize) -> bool {
        (usize::from(self.start)..self.end.into()).contains(&offset)
    }

    /// The least range that has both.
    pub(crate) fn hull(self, other: Self) -> Self {
        if self == Self::EMPTY {
            return other;
        }
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

impl From<Range<usize>> for ByteRange {
    fn from(range: Range<usize>) -> Self {
        // CAST: offsets in config space, at most 4096.
        Self {
            start: range.start as u16,
            end: range.end as u16,
        }
    }
}

/// Which accesses to config space concern this driver; set only while no user can reach the device.
pub(crate) struct Spans {
    /// Writes to a TPH capability.
    pub(crate) writes: Watch,
    /// Reads of a visible ST table.
    pub(crate) table: Watch,
    /// Writes that change the power state, of a device that forgets, or whose vectors cannot be
    /// reached meanwhile.
    pub(crate) power: Watch,
}

impl Spans {
    pub(crate) fn new() -> Self {
        Self {
            writes: Watch::new(),
            table: Watch::new(),
            power: Watch::new(),
        }
    }

    /// For a device that is being closed.
    pub(crate) fn clear(&self) {
        self.writes.set(0..0);
        self.table.set(0..0);
        self.power.set(0..0);
    }

    /// Whether a read is not vfio-pci-core's alone.
    #[inline(always)]
    pub(crate) fn concern_read(&self, position: u64, count: usize) -> bool {
        self.table.meets(position, count)
    }

    /// Whether a write is not vfio-pci-core's alone.
    #[inline(always)]
    pub(crate) fn concern_write(&self, position: u64, count: usize) -> bool {
        self.writes.meets(position, count) || self.power.meets(position, count)
    }
}
