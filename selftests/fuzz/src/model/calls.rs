// SPDX-License-Identifier: GPL-2.0-only

//! The calls that name sources.

use tph_selftests::firmware::{Tags, CPUS};
use tph_selftests::vfio::{Resolution, Source, FAULT_UNTOUCHED};
use tph_selftests::Errno;

use super::answers::{self, Hints, Known, Refused};
use super::{ensure, Broken, Buffer, Model, Seat, Tph};
use crate::op::{Fd, Memory, Program, Resolve};
use crate::outcome::Outcome;

fn from_firmware(tags: &Tags, extended: bool) -> Result<Known, i32> {
    let tag = if extended {
        tags.xst
    } else {
        tags.st.map(u16::from)
    };
    Ok(Known {
        tag: tag.ok_or(Errno::EOPNOTSUPP as i32)?,
        ph: 0,
        ph_ignored: tags.ph_ignored,
    })
}

impl Model {
    /// What a source stands for, if the memory of the devices in `gone` cannot be reached.
    fn known(
        &self,
        source: &answers::Source,
        fd: Option<Fd>,
        extended: bool,
        gone: u32,
    ) -> Result<Known, i32> {
        if source.kind == 1 {
            if source.value >= self.cpus {
                return Err(Errno::EINVAL as i32);
            }
            let Some(cpu) = CPUS.get(source.value as usize) else {
                return Err(Errno::EOPNOTSUPP as i32);
            };
            let persistent = source.flags == 1;
            let tags = if persistent {
                &cpu.persistent
            } else {
                &cpu.volatile
            };
            return from_firmware(tags, extended);
        }
        if !self.patched {
            return Err(Errno::EOPNOTSUPP as i32);
        }
        let buffer = match fd {
            Some(Fd::Slot(slot)) => self.buffers[slot].ok_or(Errno::EBADF as i32)?,
            Some(Fd::Number(0)) => return Err(Errno::EINVAL as i32),
            _ => return Err(Errno::EBADF as i32),
        };
        if !self.is_alive(&buffer) || gone & (1 << buffer.owner) != 0 {
            return Err(Errno::ENODEV as i32);
        }
        buffer.hints.get(extended)
    }

    fn is_alive(&self, buffer: &Buffer) -> bool {
        let session = &self.seats[buffer.owner].session;
        session
            .as_ref()
            .is_some_and(|s| s.generation == buffer.generation)
    }

    /// Every way in which the memory of devices may be out of reach, as sets of them.
    fn ways(&self) -> Vec<u32> {
        let uncertain = (0..self.seats.len()).filter(|&at| {
            let situation = self.seats[at].situation;
            !self.is_settled(at) || !situation.decodes
        });
        let mut ways = vec![0];
        for at in uncertain {
            ways.extend(ways.clone().iter().map(|way| way | (1 << at)));
        }
        ways
    }

    pub(super) fn program(&mut self, at: usize, program: &Program, outcome: &Outcome) -> Broken {
        let (result, fault) = match outcome {
            Outcome::Programmed(result, fault) => (*result, *fault),
            // The answer could not be read, but something may have been done.
            Outcome::NotTried if program.memory == Memory::Bar => (Err(Errno::EFAULT), 0),
            Outcome::NotTried => return Ok(()),
            other => return Err(format!("{other:?}")),
        };
        let Some(session) = &self.seats[at].session else {
            return Ok(());
        };
        if session.guest.is_some() {
            // Before anything is looked at; an argument in the BAR may be out of reach.
            let busy = result == Err(Errno::EBUSY) && fault == FAULT_UNTOUCHED;
            ensure!(
                busy || program.memory == Memory::Bar,
                "{result:?} for a guest"
            );
            return Ok(());
        }
        let sources: Vec<_> = program.sources.iter().map(|of| plain(&of.source)).collect();
        let call = answers::Program {
            flags: program.flags,
            index: program.index,
            count: program.count.unwrap_or(sources.len() as u16),
            reserved: program.reserved,
            length: 16 + 8 * sources.len() - program.short,
        };
        let fds: Vec<_> = program.sources.iter().map(|of| of.fd).collect();

        let mut states = Vec::new();
        let mut answers = Vec::new();
        for state in &session.states {
            for gone in self.ways() {
                let lookup = positioned(sources.iter().collect(), &fds, |source, fd, extended| {
                    self.known(source, fd, extended, gone)
                });
                // Nobody keeps the process from any CPU.
                let owned = |cpu| (cpu < self.cpus).then_some(true);
                let answer = answers::program(
                    &session.terms,
                    state.control,
                    &call,
                    &sources,
                    &owned,
                    &lookup,
                );
                let after = self.after_program(at, &call, state, &answer, result, fault);
                states.extend(after.filter(|state| !states.contains(state)));
                answers.push(answer);
            }
        }
        // Not decoded in the middle of it; or woken from a sleep in which the memory was lost, and
        // with it the argument.
        let lost = result == Err(Errno::EINVAL) && session.may_sleep;
        if program.memory == Memory::Bar && (result == Err(Errno::EFAULT) || lost) {
            let before = session.states.clone();
            states.extend(before);
        }
        ensure!(
            !states.is_empty(),
            "{result:?}, fault {fault:#x}; the contract: one of {answers:x?}; {:?}",
            self.seats[at].situation
        );
        if let Some(session) = &mut self.seats[at].session {
            session.states = states;
            match result {
                // All of it is there.
                Ok(()) => session.lost = false,
                Err(_) if session.lost => session.widen(),
                Err(_) => (),
            }
        }
        Ok(())
    }

    /// What a call leaves that got `result`, if it may get that where the contract has `answer`.
    fn after_program(
        &self,
        at: usize,
        call: &answers::Program,
        before: &Tph,
        answer: &Result<Vec<u16>, Refused>,
        result: Result<(), Errno>,
        fault: u32,
    ) -> Option<Tph> {
        let Seat {
            shape,
            situation,
            session: Some(session),
            ..
        } = &self.seats[at]
        else {
            return None;
        };
        let tags = match answer {
            Ok(tags) => tags,
            Err(refused) => {
                let says = refused.position.map_or(FAULT_UNTOUCHED, |at| at as u32);
                let same = result == Err(Errno::from_raw(refused.errno)) && fault == says;
                return same.then(|| before.clone());
            }
        };
        if fault != FAULT_UNTOUCHED {
            return None;
        }
        let reachable = situation.powered && (!shape.in_msix || situation.decodes);
        match result {
            Ok(()) if (reachable || session.may_sleep) && (!shape.in_msix || session.allocated) => {
                let mut after = before.clone();
                let first = usize::from(call.index);
                after.entries[first..first + tags.len()].copy_from_slice(tags);
                Some(after)
            }
            Err(Errno::ENXIO) if shape.in_msix && !session.all_allocated => Some(before.clone()),
            Err(Errno::EIO) if !reachable || session.may_sleep || session.lost => {
                Some(before.clone())
            }
            _ => None,
        }
    }

    pub(super) fn resolve(
        &self,
        at: usize,
        resolve: &Resolve,
        (result, fault, found): (Result<(), Errno>, u32, &[Resolution]),
    ) -> Broken {
        let Some(session) = &self.seats[at].session else {
            return Ok(());
        };
        let entries: Vec<_> = resolve
            .entries
            .iter()
            .map(|(entry, _)| answers::Entry {
                source: plain(&entry.source),
                st: entry.st,
                ph: entry.ph,
                flags: entry.flags,
                reserved: entry.reserved,
            })
            .collect();
        let fds: Vec<_> = resolve.entries.iter().map(|(_, fd)| *fd).collect();
        let call = answers::Resolve {
            flags: resolve.flags,
            count: entries.len() as u32,
            reserved: resolve.reserved,
            length: 16 + 16 * entries.len() - resolve.short,
        };
        let found: Vec<_> = found.iter().map(|e| (e.st, e.ph, e.flags)).collect();
        let mut answers = Vec::new();
        for gone in self.ways() {
            let asked = entries.iter().map(|entry| &entry.source).collect();
            let lookup = positioned(asked, &fds, |source, fd, extended| {
                self.known(source, fd, extended, gone)
            });
            let answer = answers::resolve(&session.terms, &call, &entries, &lookup);
            let (expected, says, left) = match &answer {
                Ok(answered) => (Ok(()), FAULT_UNTOUCHED, answered),
                Err(refused) => (
                    Err(Errno::from_raw(refused.errno)),
                    refused.position.map_or(FAULT_UNTOUCHED, |at| at as u32),
                    &entries,
                ),
            };
            let left: Vec<_> = left.iter().map(|e| (e.st, e.ph, e.flags)).collect();
            if result == expected && fault == says && found == left {
                return Ok(());
            }
            answers.push(answer);
        }
        Err(format!(
            "{result:?}, fault {fault:#x}, {found:x?}; the contract: one of {answers:x?}"
        ))
    }

    pub(super) fn publish(
        &mut self,
        at: usize,
        fd: Fd,
        published: Result<Hints, i32>,
        outcome: &Outcome,
    ) -> Broken {
        let expected = match published {
            _ if !self.patched => Err(Errno::EOPNOTSUPP),
            Err(errno) => Err(Errno::from_raw(errno)),
            Ok(hints) => match fd {
                Fd::Number(0) => Err(Errno::EINVAL),
                Fd::Number(_) => Err(Errno::EBADF),
                Fd::Slot(slot) => match self.buffers[slot] {
                    None => Err(Errno::EBADF),
                    Some(buffer) if buffer.owner != at || !self.is_alive(&buffer) => {
                        Err(Errno::EINVAL)
                    }
                    Some(_) => Ok((slot, hints)),
                },
            },
        };
        let found = match outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed(errno) => Err(*errno),
            other => return Err(format!("{other:?}")),
        };
        ensure!(
            found == expected.map(drop),
            "{found:?}, not {:?}",
            expected.map(drop)
        );
        if let Ok((slot, hints)) = expected {
            if let Some(buffer) = &mut self.buffers[slot] {
                buffer.hints = hints;
            }
        }
        Ok(())
    }
}

fn plain(source: &Source) -> answers::Source {
    answers::Source {
        kind: source.type_,
        flags: source.flags,
        reserved: source.reserved,
        value: source.value,
    }
}

/// A lookup that knows which descriptor a source had: the model asks for sources by reference.
fn positioned<'a>(
    sources: Vec<&'a answers::Source>,
    fds: &'a [Option<Fd>],
    known: impl Fn(&answers::Source, Option<Fd>, bool) -> Result<Known, i32> + 'a,
) -> impl Fn(&answers::Source, bool) -> Result<Known, i32> + 'a {
    move |source, extended| {
        let place = sources
            .iter()
            .position(|other| std::ptr::eq(*other, source));
        known(source, place.and_then(|at| fds[at]), extended)
    }
}
