// SPDX-License-Identifier: GPL-2.0-only

//! Which accesses to config space concern the driver: most are vfio-pci-core's alone.

use crate::{
    rust::vfio::pci::Watch,
    uapi, //
};
use core::ops::Range;

/// The bytes of Command that matter.
// CAST: four.
const COMMAND: Range<u16> = uapi::PCI_COMMAND as u16..uapi::PCI_COMMAND as u16 + 2;

/// Which accesses to config space concern this driver.
pub(crate) struct Spans {
    /// Writes to a TPH capability; with what is before it, where Command matters.
    pub(crate) writes: Watch,
    /// Reads of a visible ST table.
    pub(crate) table: Watch,
    /// Writes to the power state of a device that loses its state in D3hot, or whose entries cannot
    /// be reached there.
    pub(crate) power: Watch,
    /// Writes to Command, where they are of interest at all.
    pub(crate) command: Watch,
}

impl Spans {
    /// Of a device with bytes of TPH capabilities in `capabilities`, a visible ST table at `table`,
    /// and a power state at `power` that is of interest; empty ranges if there is none.
    pub(crate) fn new(capabilities: Range<u16>, table: Range<u16>, power: Range<u16>) -> Self {
        Self {
            writes: Watch::new(capabilities),
            table: Watch::new(table),
            power: Watch::new(power),
            command: Watch::new(0..0),
        }
    }

    /// A guest's table is at `table` from now on, and the power state is at `power`; `in_msix` says
    /// whether hardware's table is where Command makes it reachable.
    pub(crate) fn add_guest(&self, table: Range<u16>, power: Range<u16>, in_msix: bool) {
        self.writes.widen(table.clone());
        self.table.widen(table);
        self.power.widen(power);
        if in_msix {
            self.command.widen(COMMAND);
            self.writes.widen(COMMAND);
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
