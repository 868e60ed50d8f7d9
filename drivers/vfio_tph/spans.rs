// SPDX-License-Identifier: GPL-2.0-only

//! Which accesses to config space concern the driver: most are vfio-pci-core's alone.

use crate::rust::vfio::pci::Watch;
use core::ops::Range;

/// A range of bytes in config space.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct ByteRange {
    start: u16,
    end: u16,
}

impl ByteRange {
    const EMPTY: Self = Self { start: 0, end: 0 };

    pub(crate) fn contains(self, offset: usize) -> bool {
        (usize::from(self.start)..self.end.into()).contains(&offset)
    }

    fn hull(self, other: Self) -> Self {
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

/// Which accesses to config space concern this driver.
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
    /// Of a device with these bytes of TPH capabilities, a visible ST table at `table`, and a power
    /// state at `power` that is of interest; empty ranges if there is none.
    pub(crate) fn new(capabilities: &[ByteRange], table: Range<u16>, power: Range<u16>) -> Self {
        let hull = capabilities
            .iter()
            .fold(ByteRange::EMPTY, |hull, range| hull.hull(*range));
        Self {
            writes: Watch::new(hull.start..hull.end),
            table: Watch::new(table),
            power: Watch::new(power),
        }
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
