// SPDX-License-Identifier: GPL-2.0-only

//! An open device: what its user reads and writes.

use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::Offer;
use tph_selftests::Errno;

use super::{contract, ensure, guest, Broken, Session, Situation, Tph};
use crate::outcome::Outcome;
use crate::world::Shape;

impl Session {
    /// TPH may be off in each of the states, with what is recorded of its table: whoever finds a
    /// loss leaves it so.
    pub(super) fn widen(&mut self) {
        for state in self.states.clone() {
            for control in [0, state.control & !PCI_TPH_CTRL_REQ_EN_MASK] {
                let off = Tph {
                    control,
                    ..state.clone()
                };
                if !self.states.contains(&off) {
                    self.states.push(off);
                }
            }
        }
    }

    /// Config space in front of the user: what is in force, or a hidden capability.
    pub(super) fn read(&mut self, shape: &Shape, offset: u16, bytes: &[u8]) -> Broken {
        let Some(capability) = shape.capability else {
            return Ok(());
        };
        // From the Capability register on.
        let first = usize::from(capability) + 4;
        let shown = |state: &Tph| -> Vec<u8> {
            if !self.terms.usable {
                return vec![0; 8];
            }
            let mut shown = self.seen.to_le_bytes().to_vec();
            shown.extend(state.control.to_le_bytes());
            if self.guest.is_some() {
                shown.extend(state.entries.iter().copied().flat_map(u16::to_le_bytes));
            } else if !shape.in_msix {
                let visible = |tag: &u16| if self.terms.policy >= 2 { *tag } else { 0 };
                shown.extend(state.entries.iter().map(visible).flat_map(u16::to_le_bytes));
            }
            shown
        };
        let fits = |state: &Tph| {
            let shown = shown(state);
            (usize::from(offset)..).zip(bytes).all(|(at, &byte)| {
                let expected = at.checked_sub(first).and_then(|at| shown.get(at));
                expected.is_none_or(|&expected| expected == byte)
            })
        };
        let states: Vec<Tph> = self.states.iter().filter(|s| fits(s)).cloned().collect();
        if self.lost {
            return Ok(());
        }
        ensure!(
            !states.is_empty(),
            "reads {bytes:x?}; in force is one of {:x?}",
            self.states
        );
        self.states = states;
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        shape: &Shape,
        situation: &Situation,
        offset: u16,
        bytes: &[u8],
        partly: bool,
    ) {
        let range = usize::from(offset)..usize::from(offset) + bytes.len();
        let flr = usize::from(shape.express) + PCI_EXP_DEVCTL as usize + 1;
        if range.contains(&flr) && bytes[flr - range.start] & 0x80 != 0 {
            let off = Tph {
                control: 0,
                entries: match &self.guest {
                    Some(_) => vec![0; self.shown()],
                    None => vec![0; shape.entries.into()],
                },
            };
            self.states.push(off);
            self.all_allocated = false;
        }
        let Some(capability) = shape.capability.filter(|_| self.terms.usable) else {
            return;
        };
        let control = usize::from(capability) + PCI_TPH_CTRL as usize;
        let start = range.start.max(control);
        let room = match &self.guest {
            Some(_) => 2 * self.shown(),
            None => 0,
        };
        let end = range.end.min(control + 4 + room);
        if start >= end {
            return;
        }
        let written = &bytes[start - range.start..end - range.start];
        let of_control = control + 4 - start.min(control + 4);
        let (of_control, of_table) = written.split_at(of_control.min(written.len()));
        let first = start.max(control + 4) - (control + 4);
        let after = |state: &Tph| {
            let next = match of_control {
                [] => None,
                written => {
                    contract::control_after(state.control, self.seen, start - control, written)
                }
            };
            let mut after = Tph {
                control: next.unwrap_or(state.control),
                ..state.clone()
            };
            guest::write(&mut after.entries, first, of_table);
            after
        };
        let applied: Vec<Tph> = self.states.iter().map(after).collect();
        // Where Control is dropped, entries are recorded all the same.
        let recorded = |state: &Tph| {
            let mut entries = state.entries.clone();
            guest::write(&mut entries, first, of_table);
            Tph {
                entries,
                ..state.clone()
            }
        };
        let recorded: Vec<Tph> = self.states.iter().map(recorded).collect();
        // An enable of entries that cannot be reached may be dropped.
        let uncertain = self.guest.is_some() && shape.in_msix && !situation.decodes;
        match situation.powered {
            true if self.lost || partly || self.stale || self.may_sleep => {
                self.add(recorded);
                self.add(applied);
                if self.lost {
                    self.widen();
                }
            }
            true => {
                self.states = applied;
                if uncertain {
                    self.add(recorded);
                }
            }
            false if self.may_sleep => self.add(applied),
            // Dropped.
            false => (),
        }
    }

    /// These are possible, too.
    fn add(&mut self, states: Vec<Tph>) {
        for state in states {
            if !self.states.contains(&state) {
                self.states.push(state);
            }
        }
    }

    pub(super) fn offer(&self, outcome: &Outcome) -> Broken {
        let terms = &self.terms;
        match outcome {
            Outcome::Failed(Errno::EOPNOTSUPP) if !terms.usable => Ok(()),
            Outcome::Offer(offer) if terms.usable => {
                let expected = Offer {
                    flags: self.flags,
                    st_entries: terms.entries,
                    modes: (self.seen & 7) as u8,
                    policy: terms.policy as u8,
                };
                ensure!(*offer == expected, "{offer:?}, not {expected:?}");
                Ok(())
            }
            other => Err(format!("{other:?} with {terms:?}")),
        }
    }

    pub(super) fn free_vectors(&mut self, shape: &Shape, situation: &Situation) {
        self.allocated = false;
        if !shape.in_msix || self.guest.is_some() {
            return;
        }
        if situation.powered && !self.may_sleep {
            for state in &mut self.states {
                state.entries.fill(0);
            }
            self.states.dedup();
        } else {
            self.stale = true;
        }
    }
}
