// SPDX-License-Identifier: GPL-2.0-only

//! The endpoint without a client: registers, violations, requests, resets.

mod life;
mod registers;
mod requests;

use tph_protocol::{Command, Reply, State, ViolationKind};

use super::{Answer, Endpoint};
use crate::config::{layout, tph};

/// Control is that far behind the capability's header.
const CONTROL: u16 = tph::CONTROL;
/// ST Mode Select and Requester Enable of Control.
const IV: u32 = 1;
const DS: u32 = 2;
const ENABLE: u32 = 0x100;
const ENABLE_EXTENDED: u32 = 0x300;

/// An endpoint after QEMU and firmware are through with it: memory and bus mastering on.
fn endpoint(spec: &str) -> Endpoint {
    let spec = format!("name=ep,{spec}");
    let mut ep = Endpoint::new(spec.trim_end_matches(',').parse().unwrap()).unwrap();
    ep.config_write(layout::COMMAND, &6u16.to_le_bytes());
    ep
}

impl Endpoint {
    fn ask(&mut self, command: Command) -> Reply {
        match self.control(command) {
            Answer::Now(reply) | Answer::Delivered(reply) => reply,
        }
    }

    fn ask_state(&mut self) -> State {
        match self.ask(Command::State) {
            Reply::State(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    /// Offset of a register of the TPH capability.
    fn tph(&self, register: u16) -> u16 {
        self.spec.tph.offset + register
    }

    fn write_u32(&mut self, offset: u16, value: u32) {
        self.config_write(offset, &value.to_le_bytes());
    }

    fn write_u16(&mut self, offset: u16, value: u16) {
        self.config_write(offset, &value.to_le_bytes());
    }

    fn write_control(&mut self, value: u32) {
        self.write_u32(self.tph(CONTROL), value);
    }

    fn set_entry(&mut self, entry: u16, value: u16) {
        self.write_u16(self.tph(tph::ENTRIES) + 2 * entry, value);
    }

    fn read_u32(&mut self, offset: u16) -> u32 {
        let bytes = self.config_read(offset, 4);
        u32::from_le_bytes(bytes.try_into().unwrap())
    }

    fn mmio_u32(&mut self, offset: u64, value: u32) {
        self.mmio_write(0, offset, &value.to_le_bytes());
    }

    fn mmio_read_u32(&mut self, offset: u64) -> u32 {
        u32::from_le_bytes(self.mmio_read(0, offset, 4).try_into().unwrap())
    }

    /// Kinds of violations since the last call, in order, sorted.
    fn violations(&mut self) -> Vec<ViolationKind> {
        let mut kinds: Vec<_> = self.journal.violations().iter().map(|v| v.kind).collect();
        self.journal.clear_violations();
        kinds.sort();
        kinds
    }
}
