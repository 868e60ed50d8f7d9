// SPDX-License-Identifier: GPL-2.0-only

//! Requests of the endpoint: DMA with its processing hint, and interrupts.

use tph_protocol::registers::status;
use tph_protocol::{Access, Table, Tag, TlpHint, ViolationKind};

use super::{value_of, Endpoint};
use crate::config::{layout, tph};
use crate::engine::{DsTag, Job};

/// Interrupt Vector Mode.
const ST_MODE_IV: u8 = 1;
/// Device Specific Mode.
const ST_MODE_DS: u8 = 2;

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The engine.
    Engine,
    /// An MSI-X message.
    Interrupt,
}

/// A request to memory, to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// To whom the answer goes.
    pub origin: Origin,
    /// Bus address.
    pub address: u64,
    /// What is asked.
    pub payload: Payload,
}

/// Write or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// These bytes.
    Write(Vec<u8>),
    /// That many bytes.
    Read(u32),
}

/// Why a request was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoBusMaster,
    NoSuchEntry,
    Off,
}

impl Endpoint {
    /// Requests since the last call.
    pub fn take_outgoing(&mut self) -> Vec<Outgoing> {
        std::mem::take(&mut self.outgoing)
    }

    /// The answer to a request: what was read, nothing after a write, or an error.
    pub fn completed(&mut self, origin: Origin, answer: Result<&[u8], ()>) {
        // A reset ends a command: an answer that comes later finds nobody.
        if origin == Origin::Engine && self.engine.busy() {
            match answer {
                Ok(data) => {
                    if !data.is_empty() {
                        self.engine.set_value(data);
                    }
                    self.engine.set_status(status::DONE);
                }
                Err(()) => self.engine.set_status(status::FAULT),
            }
        }
    }

    /// Nobody will answer any more.
    pub(super) fn engine_failed(&mut self) {
        self.completed(Origin::Engine, Err(()));
    }

    pub(super) fn run_engine(&mut self) {
        let Some(job) = self.engine.take_command() else {
            return;
        };
        let result = match job {
            Ok(job) => self.start(job),
            Err(code) => Err(code),
        };
        self.engine.set_status(match result {
            Ok(code) | Err(code) => code,
        });
    }

    fn start(&mut self, job: Job) -> Result<u32, u32> {
        let code = |refusal| match refusal {
            Refusal::NoBusMaster => status::NO_BUS_MASTER,
            Refusal::NoSuchEntry | Refusal::Off => status::BAD_COMMAND,
        };
        if let Job::Interrupt(vector) = job {
            return self.raise(vector).map(|()| status::DONE).map_err(code);
        }
        let hint = self.hint().map_err(code)?;
        self.check_master().map_err(code)?;
        let (access, address, payload) = match job {
            Job::Write { address, data } => {
                let access = Access::DmaWrite {
                    offset: address,
                    width: data.len() as u32,
                    value: value_of(&data),
                    hint,
                };
                (access, address, Payload::Write(data))
            }
            Job::Read { address, length } => {
                let access = Access::DmaRead {
                    offset: address,
                    width: length,
                    hint,
                };
                (access, address, Payload::Read(length))
            }
            Job::Interrupt(_) => unreachable!("handled above"),
        };
        self.journal.add(access);
        self.engine.set_last_hint(hint);
        self.outgoing.push(Outgoing {
            origin: Origin::Engine,
            address,
            payload,
        });
        Ok(status::BUSY)
    }

    fn check_master(&mut self) -> Result<(), Refusal> {
        if self.command() & layout::COMMAND_MASTER != 0 {
            return Ok(());
        }
        self.journal.violation(ViolationKind::DmaWithoutBusMaster);
        Err(Refusal::NoBusMaster)
    }

    /// The hint that the engine's next request carries (PCIe r6.2, 2.2.7.1.1 and 6.17).
    fn hint(&self) -> Result<Option<TlpHint>, Refusal> {
        if !self.has_tph() {
            return Ok(None);
        }
        let control = tph::control(&self.config, &self.spec.tph);
        if matches!(control.requester_enable, tph::DISABLED | tph::RESERVED) {
            return Ok(None);
        }
        let value = match control.st_mode {
            ST_MODE_IV => Some(self.st_entry(self.engine.index())?),
            ST_MODE_DS => Some(match self.engine.ds_tag() {
                DsTag::Entry(index) => self.st_entry(Some(index))?,
                DsTag::Raw(tag) => tag,
            }),
            _ => None,
        };
        let tag = value.map(|value| match control.requester_enable {
            tph::EXTENDED => Tag::Xst(value),
            _ => Tag::St(value as u8),
        });
        Ok(Some(TlpHint {
            ph: self.engine.ph(),
            tag,
        }))
    }

    /// An entry of the ST table, wherever that is.
    fn st_entry(&self, index: Option<u16>) -> Result<u16, Refusal> {
        let index = index.ok_or(Refusal::NoSuchEntry)?;
        let entry = match self.spec.tph.table {
            Table::Cap => tph::entries(&self.config, &self.spec.tph)
                .get(usize::from(index))
                .copied(),
            Table::Msix => self.msix.entry(index).map(|entry| entry.tag),
            Table::None | Table::Absent => None,
        };
        entry.ok_or(Refusal::NoSuchEntry)
    }

    /// Raises a vector: a message now, or a pending bit if it is masked.
    pub(super) fn raise(&mut self, vector: u16) -> Result<(), Refusal> {
        let entry = self.msix.entry(vector).ok_or(Refusal::NoSuchEntry)?;
        if !self.msix_enabled() || self.dead() || self.power_state() != 0 {
            return Err(Refusal::Off);
        }
        if self.msix_masked() || entry.masked {
            self.msix.set_pending(vector);
            return Ok(());
        }
        self.check_master()?;
        self.journal.add(Access::Interrupt {
            vector,
            offset: entry.address,
            width: 4,
            value: entry.data.into(),
        });
        self.outgoing.push(Outgoing {
            origin: Origin::Interrupt,
            address: entry.address,
            payload: Payload::Write(entry.data.to_le_bytes().to_vec()),
        });
        Ok(())
    }

    /// Sends what was pending and is no longer masked.
    pub(super) fn deliver_pending(&mut self) {
        let may_send = self.command() & layout::COMMAND_MASTER != 0 && self.power_state() == 0;
        if may_send && self.msix_enabled() && !self.msix_masked() {
            for vector in self.msix.take_unmasked() {
                // It was raised before, and nothing stands in its way now.
                let _ = self.raise(vector);
            }
        }
    }
}
