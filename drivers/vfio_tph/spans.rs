// SPDX-License-Identifier: GPL-2.0-only

//! Which accesses to config space concern the driver: most are vfio-pci-core's alone.

use crate::rust::vfio::pci::Watch;
use core::ops::Range;

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
    /// Of a device with bytes of TPH capabilities in `capabilities`, a visible ST table at `table`,
    /// and a power state at `power` that is of interest; empty ranges if there is none.
    pub(crate) fn new(capabilities: Range<u16>, table: Range<u16>, power: Range<u16>) -> Self {
        Self {
            writes: Watch::new(capabilities),
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
