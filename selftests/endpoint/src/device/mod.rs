// SPDX-License-Identifier: GPL-2.0-only

//! The endpoint: registers, memory and engine put together, every access recorded.
//!
//! It knows nothing of sockets. What it sends is queued ([`Endpoint::take_outgoing`]), and
//! the answer comes back by [`Endpoint::completed`].

mod bars;
mod config;
mod control;
mod dma;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use anyhow::Result;
use tph_protocol::registers::{BAR0_SIZE, BAR_IO, BAR_MEMORY, BAR_REGISTERS, BAR_ROM};
use tph_protocol::{Access, ExtendedCapability, Fault, Lost, ResetCause, Table};

use crate::config::space::ConfigSpace;
use crate::config::{layout, tph};
use crate::engine::Engine;
use crate::journal::Journal;
use crate::msix::{Msix, Tags};
use crate::spec::{Spec, Tph};

pub use control::Answer;
pub use dma::{Origin, Outgoing, Payload};

/// One endpoint.
pub struct Endpoint {
    spec: Spec,
    config: ConfigSpace,
    chain: Vec<ExtendedCapability>,
    msix: Msix,
    engine: Engine,
    /// What is plain memory in BAR0, also where a small one has ended; the registers' places are
    /// unused.
    bar0: Vec<u8>,
    bar2: Vec<u8>,
    journal: Journal,
    fault: Fault,
    /// Control and each ST entry after a reset.
    after_reset: (u32, u16),
    /// The client must not see yet what it would emulate in our place.
    concealed: bool,
    connected: bool,
    outgoing: Vec<Outgoing>,
    /// Dwords of the first 256 bytes of configuration space that lie.
    lies: BTreeSet<u16>,
}

impl Endpoint {
    /// An endpoint after power-on.
    pub fn new(spec: Spec) -> Result<Self> {
        Ok(Endpoint {
            config: layout::build(&spec)?,
            chain: layout::chain(&spec.tph)?,
            msix: Msix::new(spec.msix, tags(&spec.tph)),
            engine: Engine::default(),
            bar0: vec![0; spec.bar0_size.max(BAR0_SIZE) as usize],
            bar2: vec![0; usize::try_from(spec.bar_size)?],
            journal: Journal::default(),
            fault: Fault::None,
            after_reset: (0, 0),
            concealed: false,
            connected: false,
            outgoing: vec![],
            lies: BTreeSet::new(),
            spec,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Size of a BAR, 0 if it has none of that number.
    pub fn bar_size(&self, bar: u8) -> u64 {
        match bar {
            BAR_REGISTERS => self.spec.bar0_size,
            BAR_MEMORY => self.spec.bar_size,
            BAR_IO => self.spec.io_size,
            BAR_ROM => self.spec.rom_size,
            _ => 0,
        }
    }

    /// A client came.
    pub fn connect(&mut self) {
        self.connected = true;
        self.concealed = true;
    }

    /// The client went away.
    pub fn disconnect(&mut self) {
        self.connected = false;
        self.concealed = false;
        self.outgoing.clear();
        self.engine_failed();
    }

    /// Reset of the bus.
    pub fn bus_reset(&mut self) {
        self.concealed = false;
        self.reset(ResetCause::Bus);
    }

    fn reset(&mut self, cause: ResetCause) {
        self.journal.add(Access::Reset { cause });
        self.config.reset(layout::sticky(&self.chain));
        self.msix.reset();
        self.engine.reset();
        self.outgoing.clear();
        // All of it is 0 by now, and what a test has put in place of an entry stays.
        if self.after_reset != (0, 0) {
            self.come_up_with_tph();
        }
        if self.spec.tph.table == Table::Msix {
            self.msix.fill_tags(self.after_reset.1);
        }
    }

    /// A reset by the endpoint's own means.
    fn reset_itself(&mut self, what: Lost) {
        match what {
            Lost::Everything => self.reset(ResetCause::Own),
            Lost::Tph => {
                let cause = ResetCause::Own;
                self.journal.add(Access::Reset { cause });
                self.come_up_with_tph();
            }
        }
    }

    /// Gives the capability's registers what they hold after a reset.
    fn come_up_with_tph(&mut self) {
        if self.has_tph() {
            let (control, tag) = self.after_reset;
            tph::come_up(&mut self.config, &self.spec.tph, control, tag);
        }
    }

    /// Counts an access and says whether the device answers it.
    fn answers(&mut self) -> bool {
        match &mut self.fault {
            Fault::None
            | Fault::MmioAllOnes
            | Fault::MmioWritesDropped
            | Fault::ControlWritesDropped { .. }
            | Fault::WritesDropped { .. }
            | Fault::ControlBecomes { .. } => true,
            Fault::AllOnes | Fault::StopAfter { accesses: 0 } => false,
            Fault::StopAfter { accesses } => {
                *accesses -= 1;
                true
            }
        }
    }

    /// The device is dead: it sends nothing either.
    fn dead(&self) -> bool {
        matches!(
            self.fault,
            Fault::AllOnes | Fault::StopAfter { accesses: 0 }
        )
    }

    fn has_tph(&self) -> bool {
        self.spec.tph.table != Table::Absent
    }
}

/// What Vector Control holds for a TPH capability of that shape.
fn tags(tph: &Tph) -> Tags {
    match (tph.table, tph.extended) {
        (Table::Msix, true) => Tags::Extended,
        (Table::Msix, false) => Tags::Standard,
        _ => Tags::None,
    }
}

/// The first bytes of an access, as they are recorded.
fn value_of(data: &[u8]) -> u64 {
    let mut value = [0; 8];
    let n = data.len().min(8);
    value[..n].copy_from_slice(&data[..n]);
    u64::from_le_bytes(value)
}
