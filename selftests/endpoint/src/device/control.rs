// SPDX-License-Identifier: GPL-2.0-only

//! Questions and orders of the control channel.

use anyhow::{bail, ensure, Result};
use tph_protocol::registers::{BAR0_SIZE, BAR_MEMORY, BAR_REGISTERS};
use tph_protocol::{
    Access, Command, ExtendedCapability, MsixState, Reply, Space, State, TphShape, TphState,
};

use super::dma::Refusal;
use super::{tags, Endpoint};
use crate::config::{layout, tph};
use crate::spec::check_root_port;

/// A reply, and when to give it.
pub enum Answer {
    /// Now.
    Now(Reply),
    /// When no interrupt is on its way any more.
    Delivered(Reply),
}

impl Endpoint {
    /// Obeys.
    pub fn control(&mut self, command: Command) -> Answer {
        match self.obey(command) {
            Ok(answer) => answer,
            Err(why) => Answer::Now(Reply::Error(format!("{}: {why:#}", self.spec.name))),
        }
    }

    fn obey(&mut self, command: Command) -> Result<Answer> {
        Ok(Answer::Now(match command {
            Command::State => Reply::State(Box::new(self.state())),
            Command::Counters => Reply::Counters(self.journal.counters()),
            Command::ResetCounters => {
                self.journal.reset_counters();
                Reply::Ok
            }
            Command::Log { from, limit } => Reply::Log(self.journal.page(from, limit)),
            Command::Violations => Reply::Violations(self.journal.violations().to_vec()),
            Command::ClearViolations => {
                self.journal.clear_violations();
                Reply::Ok
            }
            Command::Marker { text } => Reply::Seq(self.journal.add(Access::Marker { text })),
            Command::Peek {
                space,
                offset,
                width,
            } => Reply::Value(self.peek(space, offset, width)?),
            Command::Poke {
                space,
                offset,
                width,
                value,
            } => {
                self.poke(space, offset, width, value)?;
                Reply::Ok
            }
            Command::Lie { offset, value } => {
                ensure!(
                    offset % 4 == 0 && (layout::HEADER_END..layout::SIZE).contains(&offset),
                    "{offset:#x} is no dword of configuration space behind the header"
                );
                self.config.redefine(offset, &value.to_le_bytes());
                if offset < layout::EXTENDED {
                    self.lies.insert(offset);
                }
                Reply::Ok
            }
            Command::SetRootPort { completer } => {
                check_root_port(completer)?;
                self.spec.root_port_completer = completer;
                Reply::Ok
            }
            Command::Fault { mode } => {
                self.fault = mode;
                Reply::Ok
            }
            Command::ResetItself { what } => {
                self.reset_itself(what);
                Reply::Ok
            }
            Command::AfterReset { control, tag } => {
                self.after_reset = (control, tag);
                Reply::Ok
            }
            Command::RaiseInterrupt { vector } => {
                self.raise(vector).or_else(refused)?;
                return Ok(Answer::Delivered(Reply::Ok));
            }
            Command::SetTph(shape) => {
                self.reshape(&shape)?;
                Reply::Ok
            }
            Command::List | Command::Exit => bail!("not a command to an endpoint"),
        }))
    }

    fn state(&self) -> State {
        let shape = &self.spec.tph;
        let control = tph::control(&self.config, shape);
        State {
            tph: self.has_tph().then(|| TphState {
                offset: shape.offset,
                capability: self.config.u32(shape.offset + tph::CAPABILITY),
                control: self.config.u32(shape.offset + tph::CONTROL),
                st_mode: control.st_mode,
                requester_enable: control.requester_enable,
                entries: tph::entries(&self.config, shape),
            }),
            msix: (self.msix.vectors() > 0).then(|| MsixState {
                enabled: self.msix_enabled(),
                masked: self.msix_masked(),
                entries: (0..self.msix.vectors())
                    .filter_map(|vector| self.msix.entry(vector))
                    .collect(),
            }),
            command: self.command(),
            power_state: self.power_state() as u8,
            completer: self.spec.completer,
            eetlp: self.spec.eetlp,
            root_port_completer: self.spec.root_port_completer,
            extended_capabilities: self.walk(),
            fault: self.fault,
            connected: self.connected,
            seq: self.journal.last(),
        }
    }

    /// The chain as the registers have it.
    fn walk(&self) -> Vec<ExtendedCapability> {
        let mut found: Vec<ExtendedCapability> = vec![];
        let mut at = layout::EXTENDED;
        // A poked chain may be a circle: as many headers as there is room for, no more.
        while at >= layout::EXTENDED && found.len() < usize::from(layout::SIZE / 4) {
            let header = self.config.u32(at);
            if header == 0 {
                break;
            }
            let next = (header >> 20) as u16 & 0xffc;
            found.push(ExtendedCapability {
                id: header as u16,
                version: (header >> 16) as u8 & 0xf,
                offset: at,
                next,
            });
            at = next;
        }
        found
    }

    fn peek(&self, space: Space, offset: u64, width: u8) -> Result<u64> {
        self.check_range(space, offset, width)?;
        let mut bytes = [0; 8];
        let data = &mut bytes[..usize::from(width)];
        match space {
            Space::Config => {
                let at = offset as usize;
                data.copy_from_slice(&self.config.bytes()[at..at + data.len()]);
            }
            Space::Bar0 => self.copy_out(BAR_REGISTERS, offset, data),
            Space::Bar2 => self.copy_out(BAR_MEMORY, offset, data),
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn poke(&mut self, space: Space, offset: u64, width: u8, value: u64) -> Result<()> {
        self.check_range(space, offset, width)?;
        let bytes = value.to_le_bytes();
        let data = &bytes[..usize::from(width)];
        match space {
            Space::Config => self.config.poke(offset as u16, data),
            Space::Bar0 => self.poke_bar(BAR_REGISTERS, offset, data),
            Space::Bar2 => self.poke_bar(BAR_MEMORY, offset, data),
        }
        Ok(())
    }

    fn check_range(&self, space: Space, offset: u64, width: u8) -> Result<()> {
        let size = match space {
            Space::Config => layout::SIZE.into(),
            Space::Bar0 => self.spec.bar0_size.max(BAR0_SIZE),
            Space::Bar2 => self.spec.bar_size,
        };
        ensure!(matches!(width, 1 | 2 | 4 | 8), "width {width}");
        ensure!(
            offset
                .checked_add(width.into())
                .is_some_and(|end| end <= size),
            "{offset:#x} is beyond the end"
        );
        Ok(())
    }

    fn reshape(&mut self, shape: &TphShape) -> Result<()> {
        let spec = self.spec.reshaped(shape)?;
        let truth = layout::build(&spec)?;
        for at in std::mem::take(&mut self.lies) {
            self.config.redefine(at, &truth.u32(at).to_le_bytes());
        }
        layout::build_extended(&mut self.config, &spec)?;
        self.chain = layout::chain(&spec.tph)?;
        self.msix.set_tags(tags(&spec.tph));
        self.spec = spec;
        Ok(())
    }
}

fn refused(refusal: Refusal) -> Result<()> {
    match refusal {
        Refusal::NoBusMaster => bail!("Bus Master Enable is 0: dropped"),
        Refusal::NoSuchEntry => bail!("no such vector"),
        Refusal::Off => bail!("MSI-X is not enabled, or the device is off"),
    }
}
