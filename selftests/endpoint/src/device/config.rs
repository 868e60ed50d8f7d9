// SPDX-License-Identifier: GPL-2.0-only

//! Accesses to configuration space and what they set off.

use tph_protocol::{Access, Fault, ResetCause};

use super::{value_of, Endpoint};
use crate::config::{layout, tph};

impl Endpoint {
    /// A read of configuration space.
    pub fn config_read(&mut self, offset: u16, len: usize) -> Vec<u8> {
        let mut data = vec![0xff; len];
        if self.answers() {
            for (at, byte) in (offset..layout::SIZE).zip(&mut data) {
                *byte = self.visible(at);
            }
        }
        self.journal.add(Access::ConfigRead {
            offset: offset.into(),
            width: len as u32,
            value: value_of(&data),
        });
        if self.touches_tph(offset, len) {
            self.journal.count_tph(false);
        }
        data
    }

    /// A byte as the client sees it.
    ///
    /// QEMU takes MSI-X and power management over when it finds them while it realizes the
    /// device: then no tag in the MSI-X table and no access in D3 ever comes here. It also fixes
    /// the order of extended capabilities. So all of that appears with the first reset.
    fn visible(&self, at: u16) -> u8 {
        let hidden = at == layout::PM
            || at == layout::MSIX
            || (layout::EXTENDED..layout::EXTENDED + 4).contains(&at);
        if self.concealed && hidden {
            0
        } else {
            self.config.u8(at)
        }
    }

    fn touches_tph(&self, offset: u16, len: usize) -> bool {
        let shape = &self.spec.tph;
        let end = usize::from(offset) + len;
        self.has_tph() && offset < shape.offset + shape.len() && end > usize::from(shape.offset)
    }

    /// A write of configuration space.
    pub fn config_write(&mut self, offset: u16, data: &[u8]) {
        self.journal.add(Access::ConfigWrite {
            offset: offset.into(),
            width: data.len() as u32,
            value: value_of(data),
        });
        if self.touches_tph(offset, data.len()) {
            self.journal.count_tph(true);
        }
        if !self.answers() {
            return;
        }
        if self.has_tph() {
            self.judge(offset, data);
        }

        let power_before = self.power_state();
        let kept = self.drops_control(offset, data.len());
        self.config.write(offset, data);
        if let Some((at, control)) = kept.or_else(|| self.changes_control(offset, data.len())) {
            self.config.poke(at, &control.to_le_bytes());
        }
        if self.spec.flr && initiates_flr(offset, data) {
            self.reset(ResetCause::Flr);
            return;
        }
        self.power_changed(power_before);
        self.deliver_pending();
    }

    /// Where Control is, if an access to `len` bytes at `offset` meets it.
    fn control_in(&self, offset: u16, len: usize) -> Option<u16> {
        let at = self.spec.tph.offset + tph::CONTROL;
        let meets = offset < at + 4 && usize::from(offset) + len > usize::from(at);
        (meets && self.has_tph()).then_some(at)
    }

    /// Where Control is and what it becomes, if it has taken a write that enables the requester and
    /// is to have something else.
    fn changes_control(&self, offset: u16, len: usize) -> Option<(u16, u32)> {
        let at = self.control_in(offset, len)?;
        match self.fault {
            Fault::ControlBecomes { control } if tph::is_enabled(self.config.u32(at)) => {
                Some((at, control))
            }
            _ => None,
        }
    }

    /// Where Control is and what it stays, if a write to it is to be dropped.
    fn drops_control(&mut self, offset: u16, len: usize) -> Option<(u16, u32)> {
        let at = self.control_in(offset, len)?;
        match &mut self.fault {
            Fault::ControlWritesDropped { writes } | Fault::WritesDropped { writes }
                if *writes > 0 =>
            {
                *writes -= 1
            }
            _ => return None,
        }
        Some((at, self.config.u32(at)))
    }

    fn judge(&mut self, offset: u16, data: &[u8]) {
        let shape = &self.spec.tph;
        let next = self.chain.iter().map(|c| c.offset);
        let next = next.filter(|&o| o > shape.offset).min();
        let violations = tph::judge(
            &self.config,
            shape,
            self.spec.root_port_completer,
            next.unwrap_or(layout::SIZE),
            offset,
            data,
        );
        for kind in violations {
            self.journal.violation(kind);
        }
    }

    pub(super) fn command(&self) -> u16 {
        self.config.u16(layout::COMMAND)
    }

    pub(super) fn power_state(&self) -> u16 {
        self.config.u16(layout::PMCSR) & layout::PMCSR_STATE
    }

    fn power_changed(&mut self, before: u16) {
        let after = self.power_state();
        if after != 0 && after != layout::PMCSR_D3HOT {
            // D1 and D2 do not exist: the write is discarded.
            let restored = self.config.u8(layout::PMCSR) & !(layout::PMCSR_STATE as u8);
            self.config.poke(layout::PMCSR, &[restored | before as u8]);
        } else if before == layout::PMCSR_D3HOT && after == 0 && !self.spec.no_soft_reset {
            self.reset(ResetCause::Power);
        }
    }

    pub(super) fn msix_enabled(&self) -> bool {
        self.msix.vectors() > 0 && self.config.u16(layout::MSIX_CONTROL) & layout::MSIX_ENABLE != 0
    }

    pub(super) fn msix_masked(&self) -> bool {
        self.config.u16(layout::MSIX_CONTROL) & layout::MSIX_MASK != 0
    }
}

/// A write sets Initiate Function Level Reset.
fn initiates_flr(offset: u16, data: &[u8]) -> bool {
    let high_byte = layout::DEVICE_CONTROL + 1;
    let index = usize::from(high_byte.wrapping_sub(offset));
    data.get(index)
        .is_some_and(|b| (u16::from(*b) << 8) & layout::DEVICE_CONTROL_FLR != 0)
}
