// SPDX-License-Identifier: GPL-2.0-only

//! Accesses to the BARs.

use tph_protocol::registers::{BAR_IO, BAR_MEMORY, BAR_REGISTERS, ENGINE, ENGINE_END, MSIX_PBA};
use tph_protocol::{Access, Fault, ViolationKind};

use super::{value_of, Endpoint};
use crate::config::{layout, tph};

/// What a range of a BAR is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Table,
    Pba,
    Engine,
    Memory,
}

impl Endpoint {
    /// A read of a BAR.
    pub fn mmio_read(&mut self, bar: u8, offset: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0xff; len];
        let decodes = self.decodes(bar);
        let answers = self.answers();
        if decodes && answers && self.fault != Fault::MmioAllOnes {
            self.copy_out(bar, offset, &mut data);
        }
        self.journal.add(Access::MmioRead {
            bar,
            offset,
            width: len as u32,
            value: value_of(&data),
        });
        if answers && !decodes {
            self.journal.violation(ViolationKind::MmioInD3);
        }
        data
    }

    /// A write of a BAR.
    pub fn mmio_write(&mut self, bar: u8, offset: u64, data: &[u8]) {
        self.journal.add(Access::MmioWrite {
            bar,
            offset,
            width: data.len() as u32,
            value: value_of(data),
        });
        let decodes = self.decodes(bar);
        if !self.answers() {
            return;
        }
        if !decodes {
            self.journal.violation(ViolationKind::MmioInD3);
            return;
        }
        if matches!(
            self.fault,
            Fault::MmioAllOnes | Fault::MmioWritesDropped | Fault::WritesDropped { .. }
        ) {
            return;
        }
        self.copy_in(bar, offset, data);
        if let Some(what) = self.engine.take_reset() {
            self.reset_itself(what);
            return;
        }
        self.deliver_pending();
        self.run_engine();
    }

    fn decodes(&self, bar: u8) -> bool {
        let enable = match bar {
            BAR_IO => layout::COMMAND_IO,
            _ => layout::COMMAND_MEMORY,
        };
        self.command() & enable != 0 && self.power_state() == 0
    }

    /// What is at an offset of BAR0, and where that ends.
    fn part(&self, offset: u64) -> (Part, u64) {
        let table = self.spec.msix_offset;
        let places = [
            (Part::Table, table..table + self.msix.table_size()),
            (Part::Pba, MSIX_PBA..MSIX_PBA + self.msix.pba_size()),
            (Part::Engine, ENGINE..ENGINE_END),
        ];
        if let Some((part, place)) = places.iter().find(|(_, place)| place.contains(&offset)) {
            return (*part, place.end);
        }
        let next = places.iter().map(|(_, place)| place.start);
        let next = next.filter(|&start| start > offset).min();
        (Part::Memory, next.unwrap_or(self.bar0.len() as u64))
    }

    /// Reads without a record. Beyond the end of a BAR nothing answers.
    pub(super) fn copy_out(&self, bar: u8, offset: u64, data: &mut [u8]) {
        if bar == BAR_MEMORY {
            for (at, byte) in (offset..).zip(data) {
                *byte = self.bar2.get(at as usize).copied().unwrap_or(0xff);
            }
            return;
        }
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() && at < self.bar0.len() as u64 && bar == BAR_REGISTERS {
            let (part, end) = self.part(at);
            let n = rest.len().min((end - at) as usize);
            let (now, later) = rest.split_at_mut(n);
            match part {
                Part::Table => self.msix.read(at - self.spec.msix_offset, now),
                Part::Pba => self.msix.read_pba(at - MSIX_PBA, now),
                Part::Engine => {
                    for (at, byte) in (at..).zip(now) {
                        *byte = self.engine.read(at);
                    }
                }
                Part::Memory => now.copy_from_slice(&self.bar0[at as usize..at as usize + n]),
            }
            at += n as u64;
            rest = later;
        }
    }

    fn copy_in(&mut self, bar: u8, offset: u64, data: &[u8]) {
        if bar == BAR_MEMORY {
            self.fill_bar2(offset, data);
            return;
        }
        let mut at = offset;
        let mut rest = data;
        while !rest.is_empty() && at < self.bar0.len() as u64 && bar == BAR_REGISTERS {
            let (part, end) = self.part(at);
            let n = rest.len().min((end - at) as usize);
            let (now, later) = rest.split_at(n);
            match part {
                Part::Table => self.write_table(at - self.spec.msix_offset, now),
                Part::Pba => {}
                Part::Engine => {
                    for (at, &byte) in (at..).zip(now) {
                        self.engine.write(at, byte);
                    }
                }
                Part::Memory => self.bar0[at as usize..at as usize + n].copy_from_slice(now),
            }
            at += n as u64;
            rest = later;
        }
    }

    fn fill_bar2(&mut self, offset: u64, data: &[u8]) {
        for (at, &byte) in (offset..).zip(data) {
            if let Some(place) = self.bar2.get_mut(at as usize) {
                *place = byte;
            }
        }
    }

    fn write_table(&mut self, offset: u64, data: &[u8]) {
        let effect = self.msix.write(offset, data);
        let enabled = self.has_tph()
            && tph::control(&self.config, &self.spec.tph).requester_enable != tph::DISABLED;
        if effect.changed && enabled {
            self.journal
                .violation(ViolationKind::TableChangedWhileEnabled);
        }
        if effect.read_only {
            self.journal.violation(ViolationKind::WriteToReadOnly);
        }
    }

    /// Writes without a record, and past read-only bits. Registers of the engine are left alone.
    pub(super) fn poke_bar(&mut self, bar: u8, offset: u64, data: &[u8]) {
        if bar == BAR_MEMORY {
            self.fill_bar2(offset, data);
            return;
        }
        for (at, byte) in (offset..self.bar0.len() as u64).zip(data) {
            match self.part(at).0 {
                Part::Table => self.msix.poke(at - self.spec.msix_offset, &[*byte]),
                Part::Pba | Part::Engine => {}
                Part::Memory => self.bar0[at as usize] = *byte,
            }
        }
    }
}
