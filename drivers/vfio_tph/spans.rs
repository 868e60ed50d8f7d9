// SPDX-License-Identifier: GPL-2.0-only

//! Which accesses to config space concern the driver: words that are read without a lock, as most
//! accesses are vfio-pci-core's alone.

use crate::{
    device::TphSession,
    rules::reconcile::Place,
    rust::vfio::pci::{
        CoreDevice,
        Watch, //
    },
    uapi, //
};
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

    /// For a device that is being opened.
    pub(crate) fn set(&self, vdev: &CoreDevice, session: &TphSession) {
        let hull = session
            .virtual_bytes
            .iter()
            .fold(ByteRange::EMPTY, |hull, range| hull.hull(*range));
        self.writes.set(hull.start..hull.end);

        let table = session
            .offered
            .as_ref()
            .filter(|offered| offered.offer.policy.discloses_tags())
            .zip(session.tph.as_ref())
            .filter(|(_, tph)| tph.place() == Place::Capability && !tph.tags().is_empty())
            .map_or(0..0, |(offered, tph)| {
                let start = offered.offset + uapi::PCI_TPH_BASE_SIZEOF as u16;
                // CAST: at most 64 entries.
                start..start + 2 * tph.tags().len() as u16
            });
        self.table.set(table);

        // Where a user takes a device to D3hot and back, if it forgets on the way, or has a table
        // that cannot be reached meanwhile.
        let start = vdev.pm_capability() + uapi::PCI_PM_CTRL as u16;
        let concerned = vdev.pm_capability() != 0
            && session.offered.is_some()
            && session
                .tph
                .as_ref()
                .is_some_and(|tph| vdev.loses_state() || tph.place() == Place::Msix);
        self.power
            .set(if concerned { start..start + 1 } else { 0..0 });
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
