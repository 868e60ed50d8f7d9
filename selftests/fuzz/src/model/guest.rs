// SPDX-License-Identifier: GPL-2.0-only

//! A guest with virtual tags: its map, and what hardware may have for what it has written.

use tph_selftests::firmware::CPUS;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::FAULT_UNTOUCHED;
use tph_selftests::Errno;

use super::{ensure, is_enabled, Broken, Model, Session, Situation, Tph};
use crate::op::MapOf;
use crate::outcome::Outcome;
use crate::world::Shape;

/// What a virtual tag stands for: a CPU, and whether its persistent memory.
type Meant = Option<(u32, bool)>;

/// Whoever writes virtual tags.
pub(super) struct Guest {
    map: Vec<Meant>,
    by_admin: bool,
    /// What the user was shown before, and what is on offer then.
    before: (u32, u32, u16),
}

/// The bytes of a guest's table change from `first` on.
pub(super) fn write(entries: &mut [u16], first: usize, bytes: &[u8]) {
    for (at, &byte) in (first..).zip(bytes) {
        if let Some(entry) = entries.get_mut(at / 2) {
            let mut halves = entry.to_le_bytes();
            halves[at % 2] = byte;
            *entry = u16::from_le_bytes(halves);
        }
    }
}

fn tag((cpu, persistent): (u32, bool), extended: bool) -> Option<u16> {
    let cpu = CPUS.get(cpu as usize)?;
    let tags = if persistent {
        &cpu.persistent
    } else {
        &cpu.volatile
    };
    match extended {
        true => tags.xst,
        false => tags.st.map(u16::from),
    }
}

impl Guest {
    fn new(map: Vec<Meant>, by_admin: bool) -> Self {
        Self {
            map,
            by_admin,
            before: (0, 0, 0),
        }
    }

    /// By `tph_vcpus`.
    pub(super) fn of_admin(vcpus: &[Option<u32>]) -> Self {
        Self::new(meant(vcpus), true)
    }

    /// The tag of what an entry stands for.
    fn means(&self, value: u16, extended: bool) -> u16 {
        let at = usize::from(value).checked_sub(1);
        let meant = at.and_then(|at| self.map.get(at).copied().flatten());
        meant.and_then(|meant| tag(meant, extended)).unwrap_or(0)
    }

    /// Whether any virtual tag stands for a tag of hardware's.
    fn has(&self, found: u16) -> bool {
        let meant = self.map.iter().flatten();
        found == 0
            || meant
                .flat_map(|&meant| [false, true].map(|extended| tag(meant, extended)))
                .any(|tag| tag == Some(found))
    }
}

fn meant(vcpus: &[Option<u32>]) -> Vec<Meant> {
    vcpus
        .iter()
        .map(|cpu| cpu.map(|cpu| (cpu, false)))
        .collect()
}

impl Session {
    /// Whether there may be a guest: Interrupt Vector mode, and a table.
    pub(super) fn can_have_guest(&self) -> bool {
        let policy = self.terms.policy > 0;
        self.terms.usable && policy && self.hardware_entries() != 0 && self.modes() & 2 != 0
    }

    fn modes(&self) -> u32 {
        self.guest
            .as_ref()
            .map_or(self.seen, |guest| guest.before.0)
    }

    fn hardware_entries(&self) -> u16 {
        let before = self.guest.as_ref().map(|guest| guest.before.2);
        before.unwrap_or(self.terms.entries)
    }

    /// The entries that a guest is shown.
    pub(super) fn shown(&self) -> usize {
        self.hardware_entries().min(64).into()
    }

    /// There is a guest from now on: its entries are 0.
    pub(super) fn begin_guest(&mut self, mut guest: Guest) {
        let shown = self.shown();
        guest.before = (self.seen, self.flags, self.terms.entries);
        let size = (shown as u32 - 1) << PCI_TPH_CAP_ST_MASK.trailing_zeros();
        let kept = PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_EXT_TPH;
        self.seen = self.seen & kept | PCI_TPH_LOC_CAP | size;
        let gone = VFIO_TPH_FLAG_ST_MSIX
            | VFIO_TPH_FLAG_ST
            | VFIO_TPH_FLAG_LITERAL
            | VFIO_TPH_FLAG_ST_DMABUF;
        self.flags = self.flags & !gone | VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_VIRTUAL;
        self.terms.entries = shown as u16;
        self.guest = Some(guest);
        self.clear(shown);
    }

    /// There is none any more: hardware's entries are 0.
    fn end_guest(&mut self) {
        if let Some(guest) = self.guest.take() {
            (self.seen, self.flags, self.terms.entries) = guest.before;
            self.clear(self.terms.entries.into());
        }
    }

    fn clear(&mut self, entries: usize) {
        for state in &mut self.states {
            state.entries = vec![0; entries];
        }
        self.states.dedup();
    }

    /// What hardware has of a guest's device in D0.
    pub(super) fn judge_guest(
        &mut self,
        shape: &Shape,
        situation: &Situation,
        found: &Tph,
    ) -> Broken {
        let Some(guest) = &self.guest else {
            return Ok(());
        };
        // Whatever happened: a tag of the map, or none. One that was woken up behind our back may
        // have older ones, and does not use them.
        let unused = !is_enabled(found.control) && (self.may_sleep || self.lost);
        ensure!(
            unused || found.entries.iter().all(|&tag| guest.has(tag)),
            "a tag that no virtual one stands for: {found:x?}"
        );
        if self.lost && !is_enabled(found.control) {
            return Ok(());
        }
        self.lost = false;
        let extended = match found.control {
            0x101 => Some(false),
            0x301 => Some(true),
            _ => None,
        };
        let reached = !shape.in_msix || situation.decodes;
        let fits = |state: &Tph| {
            let mut entries = (0..).zip(&found.entries);
            state.control == found.control
                && entries.all(|(at, &tag)| {
                    let value = state.entries.get(at).copied().unwrap_or(0);
                    match extended {
                        _ if at >= state.entries.len() => tag == 0,
                        Some(extended) if reached => {
                            tag == guest.means(value, extended)
                                || tag == 0
                                    && (self.may_sleep
                                        || self.stale
                                        || shape.in_msix && !self.all_allocated)
                        }
                        _ => true,
                    }
                })
        };
        let states: Vec<Tph> = self.states.iter().filter(|s| fits(s)).cloned().collect();
        if states.is_empty() && self.may_sleep {
            return Ok(());
        }
        ensure!(
            !states.is_empty(),
            "a guest's device holds {found:x?}, and not one of {:x?} by {:x?}",
            self.states,
            guest.map
        );
        self.states = states;
        Ok(())
    }
}

impl Model {
    /// TPH_MAP.
    pub(super) fn set_map(
        &mut self,
        at: usize,
        map: &MapOf,
        result: Result<(), Errno>,
        fault: u32,
    ) -> Broken {
        let cpus = self.cpus;
        let seat = &mut self.seats[at];
        let (situation, in_msix) = (seat.situation, seat.shape.in_msix);
        let Some(session) = &mut seat.session else {
            return Ok(());
        };
        let there = !map.sources.is_empty();
        let changes = session.guest.is_some() != there;
        let others = session.guest.as_ref().is_some_and(|guest| guest.by_admin);
        let enabled = |state: &Tph| is_enabled(state.control);
        let mut refused = FAULT_UNTOUCHED;
        let expected = if !session.can_have_guest() {
            Err(Errno::EOPNOTSUPP)
        } else if map.flags != 0 || map.reserved != 0 || map.sources.len() > 255 || map.short != 0 {
            Err(Errno::EINVAL)
        } else if others {
            Err(Errno::EBUSY)
        } else {
            let bad = map.sources.iter().position(|source| {
                let flags = match u32::from(source.type_) {
                    VFIO_TPH_SOURCE_NONE if source.value == 0 => 0,
                    VFIO_TPH_SOURCE_CPU if source.value < cpus => 1,
                    _ => return true,
                };
                source.reserved != 0 || source.flags > flags
            });
            refused = bad.map_or(FAULT_UNTOUCHED, |bad| bad as u32);
            bad.map_or(Ok(()), |_| Err(Errno::EINVAL))
        };
        let certain = situation.powered && !session.may_sleep && !session.lost;
        match (result, expected) {
            // Which comes before the sources.
            (Err(Errno::EBUSY), Ok(()) | Err(Errno::EINVAL))
                if changes && session.states.iter().any(enabled) =>
            {
                ensure!(fault == FAULT_UNTOUCHED, "fault {fault}");
                session.states.retain(enabled);
            }
            // What it takes to clear entries was out of reach, or was lost.
            (Err(Errno::EIO), Ok(())) if !certain || in_msix && !situation.decodes => (),
            (result, expected) => {
                ensure!(
                    result == expected && fault == refused,
                    "{result:?}, fault {fault:#x}, not {expected:?}, {refused:#x}"
                );
                if result.is_err() {
                    return Ok(());
                }
                let meant = |source: &tph_selftests::vfio::Source| match source.type_ {
                    0 => None,
                    _ => Some((source.value, source.flags == 1)),
                };
                let meant: Vec<Meant> = map.sources.iter().map(meant).collect();
                if changes {
                    session.states.retain(|state| !enabled(state));
                    ensure!(!session.states.is_empty(), "taken while TPH is on");
                    match there {
                        true => session.begin_guest(Guest::new(meant, false)),
                        false => session.end_guest(),
                    }
                } else if let Some(guest) = &mut session.guest {
                    guest.map = meant;
                }
            }
        }
        Ok(())
    }

    /// A write of `tph_vcpus`.
    pub(super) fn vcpus(&mut self, at: usize, list: &[Option<u32>], outcome: &Outcome) -> Broken {
        let cpus = self.cpus;
        let seat = &mut self.seats[at];
        let found = match outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed(errno) => Err(*errno),
            other => return Err(format!("{other:?}")),
        };
        let guest = match &mut seat.session {
            Some(session) => Some(session.guest.as_mut().filter(|guest| guest.by_admin)),
            None => None,
        };
        let expected = if list.is_empty() && guest.is_some() {
            Err(Errno::EBUSY)
        } else if list.iter().flatten().any(|&cpu| cpu >= cpus) {
            Err(Errno::EINVAL)
        } else {
            match &guest {
                Some(None) => Err(Errno::EBUSY),
                _ => Ok(()),
            }
        };
        ensure!(found == expected, "{found:?}, not {expected:?}");
        if found.is_ok() {
            if let Some(Some(guest)) = guest {
                guest.map = meant(list);
            }
            seat.vcpus = list.to_vec();
        }
        Ok(())
    }
}
