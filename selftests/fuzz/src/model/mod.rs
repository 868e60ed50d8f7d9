// SPDX-License-Identifier: GPL-2.0-only

//! What has to come of an operation when nobody else does anything: the contract's model for a
//! device after the other.
//!
//! Where the contract leaves open what becomes of a device, or where it depends on what cannot be
//! seen from here (whether the kernel has put it to sleep), several states are possible; what is
//! seen next rules out those that it does not fit. None left: the contract is broken.

use tph_selftests::memory::page_size;
use tph_selftests::module::Gate;
use tph_selftests::policy::Policy;
use tph_selftests::protocol::registers::MSIX_ENTRY;
use tph_selftests::protocol::State;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::Errno;
use vfio_bindings::bindings::vfio::*;

use crate::op::{LowPower, Op, Reset};
use crate::outcome::Outcome;
use crate::world::{Shape, BUFFERS};

// The host's model, as it is.
#[allow(dead_code)]
#[path = "../../../rules/src/oracle/answers.rs"]
mod answers;
mod calls;
#[allow(dead_code)]
#[path = "../../../rules/src/oracle/model.rs"]
mod contract;
mod guest;
mod session;

use answers::{Hints, Terms};
use guest::Guest;

/// Control and the ST table, wherever it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tph {
    control: u32,
    entries: Vec<u16>,
}

/// What an endpoint says of itself that decides what can be done.
#[derive(Clone, Copy, Debug)]
struct Situation {
    /// In D0.
    powered: bool,
    /// Memory Space Enable.
    decodes: bool,
}

/// An open device.
struct Session {
    /// How many were opened before.
    generation: u64,
    terms: Terms,
    /// The Capability register that the user sees.
    seen: u32,
    flags: u32,
    /// What may be in force.
    states: Vec<Tph>,
    /// Whether the kernel may put the device to sleep.
    may_sleep: bool,
    /// Whether a vector was freed that could not be reached: its tag may be there for a while.
    stale: bool,
    /// Whether the device has reset itself since: until TPH is in use again, hardware has what is
    /// recorded, or what a reset leaves.
    lost: bool,
    /// Whether any vector may be allocated.
    allocated: bool,
    /// Whether all of them are, for sure.
    all_allocated: bool,
    /// Whoever writes virtual tags: `entries` of `states` are what was written then.
    guest: Option<Guest>,
}

struct Seat {
    shape: Shape,
    device: contract::Device,
    completer: u32,
    gate: Gate,
    policy: Policy,
    situation: Situation,
    session: Option<Session>,
    /// What `tph_vcpus` says.
    vcpus: Vec<Option<u32>>,
    opened: u64,
}

/// A dma-buf in its slot.
#[derive(Clone, Copy)]
struct Buffer {
    owner: usize,
    generation: u64,
    hints: Hints,
}

/// The model of a process and its devices.
pub struct Model {
    seats: Vec<Seat>,
    buffers: [Option<Buffer>; BUFFERS],
    cpus: u32,
    patched: bool,
}

/// Why an operation broke the contract.
type Broken = Result<(), String>;

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

use ensure;

fn situation(state: &State) -> Situation {
    Situation {
        powered: state.power_state == 0,
        decodes: u32::from(state.command) & PCI_COMMAND_MEMORY != 0,
    }
}

fn is_enabled(control: u32) -> bool {
    control & PCI_TPH_CTRL_REQ_EN_MASK != 0
}

/// What hardware holds.
fn hardware(shape: &Shape, state: &State) -> Tph {
    let Some(tph) = &state.tph else {
        return Tph::default();
    };
    let vectors = state.msix.iter().flat_map(|msix| &msix.entries);
    Tph {
        control: tph.control,
        entries: match shape.in_msix {
            true => vectors.map(|vector| vector.tag).collect(),
            false => tph.entries.clone(),
        },
    }
}

impl Seat {
    fn off(&self) -> Tph {
        Tph {
            control: 0,
            entries: vec![0; self.shape.entries.into()],
        }
    }

    /// Whether the range of BAR 0 is kept from users of this device.
    fn isolated(&self, bar: u32, start: u64, length: u64) -> bool {
        let usable = self.session.as_ref().is_some_and(|s| s.terms.usable);
        let table =
            (u64::from(self.shape.vectors) * MSIX_ENTRY).next_multiple_of(page_size() as u64);
        usable
            && self.shape.in_msix
            && self.session.as_ref().is_none_or(|s| s.terms.policy < 2)
            && bar == 0
            && start < table
            && length != 0
    }

    fn open(&mut self) {
        let policy = self.policy as u32;
        let seen = contract::seen(&self.device, policy);
        let usable = self.device.capability != 0 && contract::usable(&self.device);
        self.opened += 1;
        self.session = Some(Session {
            generation: self.opened,
            terms: Terms {
                usable,
                policy,
                entries: contract::entries(&self.device, policy),
                extended: seen & contract::EXTENDED != 0,
            },
            seen,
            flags: contract::flags(&self.device, policy),
            states: vec![self.off()],
            may_sleep: false,
            stale: false,
            lost: false,
            allocated: false,
            all_allocated: false,
            guest: None,
        });
        if let (Some(session), false) = (&mut self.session, self.vcpus.is_empty()) {
            if session.can_have_guest() {
                session.begin_guest(Guest::of_admin(&self.vcpus));
            }
        }
    }
}

impl Model {
    /// Devices that are closed, as `state` has them; their policies are what `policies` says.
    pub fn new(
        devices: &[(Shape, State)],
        gate: Gate,
        policies: &[Policy],
        cpus: u32,
        patched: bool,
    ) -> Self {
        let seats = devices
            .iter()
            .zip(policies)
            .map(|((shape, state), &policy)| Seat {
                shape: *shape,
                device: contract::Device {
                    capability: state.tph.as_ref().map_or(0, |tph| tph.capability),
                    // An RCiEP has no root port to ask: the endpoint says what it was told.
                    root_port: Some(state.root_port_completer.into()),
                    // As all ports of the test VM.
                    prefixes: state.eetlp != 0,
                    completer: state.completer.into(),
                    room: state.tph.as_ref().map_or(0, |tph| tph.entries.len() as u16),
                    overlapped: false,
                    vectors: shape.vectors,
                    // A bus of its own has each.
                    shares_group: false,
                },
                completer: state.completer.into(),
                gate,
                policy,
                situation: situation(state),
                session: None,
                vcpus: Vec::new(),
                opened: 0,
            });
        Self {
            seats: seats.collect(),
            buffers: [None; BUFFERS],
            cpus,
            patched,
        }
    }

    /// Whether the kernel must have the device as it is: no sleep to be expected.
    pub fn is_settled(&self, seat: usize) -> bool {
        let seat = &self.seats[seat];
        seat.situation.powered && !seat.session.as_ref().is_some_and(|s| s.may_sleep)
    }

    /// Whether the kernel must know what the device holds.
    pub fn agrees(&self, seat: usize) -> bool {
        let lost = self.seats[seat].session.as_ref().is_some_and(|s| s.lost);
        self.is_settled(seat) && !lost
    }

    /// Whether the device was in D0 when it was last seen.
    pub fn is_powered(&self, seat: usize) -> bool {
        self.seats[seat].situation.powered
    }

    /// Judges what came of an operation, and what the device is now.
    pub fn judge(&mut self, seat: usize, op: &Op, outcome: &Outcome, now: &State) -> Broken {
        self.judge_outcome(seat, op, outcome)?;
        self.judge_hardware(seat, now)
    }

    fn judge_hardware(&mut self, seat: usize, now: &State) -> Broken {
        let seat = &mut self.seats[seat];
        seat.situation = situation(now);
        let found = hardware(&seat.shape, now);
        let off = seat.off();
        let Some(session) = &mut seat.session else {
            ensure!(found == off, "closed, and the device holds {found:x?}");
            return Ok(());
        };
        if !session.terms.usable {
            ensure!(found == off, "not usable, and the device holds {found:x?}");
            return Ok(());
        }
        if !seat.situation.powered {
            return Ok(());
        }
        if session.guest.is_none() && session.lost && !is_enabled(found.control) {
            let stale = session.stale;
            let recorded = |at: usize, tag: u16| {
                tag == 0 || session.states.iter().any(|state| state.entries[at] == tag)
            };
            let mut entries = found.entries.iter().enumerate();
            ensure!(
                stale || entries.all(|(at, &tag)| recorded(at, tag)),
                "after a loss the device holds {found:x?}, and of {:x?}",
                session.states
            );
            return Ok(());
        }
        if session.guest.is_some() {
            return session.judge_guest(&seat.shape, &seat.situation, &found);
        }
        // In use again: all of it, for good.
        session.lost = false;
        let fits = |state: &Tph| {
            state.control == found.control && (session.stale || state.entries == found.entries)
        };
        let states: Vec<Tph> = session.states.iter().filter(|s| fits(s)).cloned().collect();
        // A device that sleeps may not have been told yet.
        if states.is_empty() && session.may_sleep {
            return Ok(());
        }
        ensure!(
            !states.is_empty(),
            "the device holds {found:x?}, and not one of {:x?}",
            session.states
        );
        session.states = states;
        Ok(())
    }

    fn judge_outcome(&mut self, at: usize, op: &Op, outcome: &Outcome) -> Broken {
        match (op, outcome) {
            (Op::Open, Outcome::Done) => self.seats[at].open(),
            (Op::Open, Outcome::Failed(errno)) => {
                let open = self.seats[at].session.is_some();
                ensure!(open && *errno == Errno::EALREADY, "open: {errno}");
            }
            (Op::Close, _) => self.seats[at].session = None,
            (Op::Policy(name), outcome) => return self.policy(at, name, outcome),
            (Op::Vcpus(list), outcome) => return self.vcpus(at, list, outcome),
            (Op::CloseBuffer(slot), _) => self.buffers[*slot] = None,
            (Op::Reset(Reset::Sysfs), outcome) => self.reset(at, outcome),
            (Op::Look, Outcome::State(text)) => return self.look(at, text),
            (Op::Look, outcome) => return Err(format!("{outcome:?}")),
            (_, Outcome::NotTried) if !matches!(op, Op::Program(_)) => (),
            _ if self.seats[at].session.is_none() => (),
            (Op::SetMap(map), Outcome::Mapped(result, fault)) => {
                return self.set_map(at, map, *result, *fault);
            }
            (Op::Program(program), outcome) => return self.program(at, program, outcome),
            (Op::Resolve(resolve), Outcome::Resolved(result, fault, entries)) => {
                return self.resolve(at, resolve, (*result, *fault, entries));
            }
            (Op::Publish(fd, flags, extended, standard, ph), outcome) => {
                let expected =
                    answers::publish(self.seats[at].completer, *flags, *standard, *extended, *ph);
                return self.publish(at, *fd, expected, outcome);
            }
            (Op::Export(slot, bar, start, length), Outcome::Done) => {
                let owner = &self.seats[at];
                ensure!(!owner.isolated(*bar, *start, *length), "exports the table");
                self.buffers[*slot] = owner.session.as_ref().map(|session| Buffer {
                    owner: at,
                    generation: session.generation,
                    hints: Hints::default(),
                });
            }
            (Op::Map(_, bar, start, length), Outcome::Done) => {
                ensure!(
                    !self.seats[at].isolated(*bar, *start, *length),
                    "maps the table"
                );
            }
            _ => return self.session(at, op, outcome),
        }
        Ok(())
    }

    /// Operations that concern an open device alone.
    fn session(&mut self, at: usize, op: &Op, outcome: &Outcome) -> Broken {
        let Seat {
            shape,
            situation,
            session: Some(session),
            ..
        } = &mut self.seats[at]
        else {
            return Ok(());
        };
        match (op, outcome) {
            (Op::Read(offset, _), Outcome::Bytes(bytes)) => {
                return session.read(shape, *offset, bytes);
            }
            (Op::Write(offset, bytes), outcome) => {
                let partly = matches!(outcome, Outcome::Failed(_));
                session.write(shape, situation, *offset, bytes, partly);
            }
            (Op::Offer, outcome) => return session.offer(outcome),
            (Op::FreeIrqs(VFIO_PCI_MSIX_IRQ_INDEX), outcome) => {
                session.all_allocated = false;
                if matches!(outcome, Outcome::Done) {
                    session.free_vectors(shape, situation);
                }
            }
            (Op::Irqs(flags, VFIO_PCI_MSIX_IRQ_INDEX, start, events), outcome) => {
                // The kernel writes the words that it has, some of them, and nobody can tell any
                // more from one of them whether all were lost.
                session.stale |= session.lost && shape.in_msix;
                let none = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
                let all = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
                let done = matches!(outcome, Outcome::Done);
                if *flags == none && events.is_empty() && done {
                    session.all_allocated = false;
                    session.free_vectors(shape, situation);
                } else {
                    // Where some are allocated, one without an event gets no vector.
                    session.all_allocated = done
                        && *flags == all
                        && *start == 0
                        && events.len() == usize::from(shape.vectors)
                        && (!session.allocated || events.iter().all(Option::is_some));
                    // An error may come when some are allocated.
                    session.allocated = true;
                }
            }
            (Op::ResetItself(_), Outcome::Done) => {
                session.lost = true;
                session.widen();
            }
            (Op::LowPower(LowPower::Exit), Outcome::Done) => session.may_sleep = false,
            (Op::LowPower(_), Outcome::Done) => session.may_sleep = true,
            (Op::Feature(flags, _), Outcome::Done) => {
                let index = flags & 0xffff;
                let entry = [
                    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
                    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
                ];
                session.may_sleep |= entry.contains(&index);
            }
            (Op::ReadBar(0, offset, _), Outcome::Bytes(bytes)) if shape.in_msix => {
                let table = u64::from(shape.vectors) * MSIX_ENTRY;
                let hidden = session.terms.policy < 2;
                let inside = (*offset..).zip(bytes).take_while(|&(at, _)| at < table);
                let seen: Vec<u8> = inside.map(|(_, &byte)| byte).collect();
                ensure!(
                    !hidden || seen.iter().all(|&byte| byte == 0 || byte == 0xff),
                    "the MSI-X table reads {seen:x?}"
                );
            }
            (Op::Reset(_), outcome) => self.reset(at, outcome),
            _ => (),
        }
        Ok(())
    }

    fn policy(&mut self, at: usize, name: &str, outcome: &Outcome) -> Broken {
        let seat = &mut self.seats[at];
        let known = Policy::ALL.into_iter().find(|policy| policy.name() == name);
        let expected = match known {
            // Writing nothing is no write.
            None if name.is_empty() => Ok(()),
            None => Err(Errno::EINVAL),
            Some(policy) if policy > Policy::of(seat.gate) => Err(Errno::EPERM),
            Some(_) if seat.session.is_some() => Err(Errno::EBUSY),
            Some(policy) => {
                seat.policy = policy;
                Ok(())
            }
        };
        let found = match outcome {
            Outcome::Done => Ok(()),
            Outcome::Failed(errno) => Err(*errno),
            other => return Err(format!("{other:?}")),
        };
        ensure!(found == expected, "{found:?}, not {expected:?}");
        Ok(())
    }

    fn reset(&mut self, at: usize, outcome: &Outcome) {
        let seat = &mut self.seats[at];
        let mut off = seat.off();
        let Some(session) = &mut seat.session else {
            return;
        };
        session.all_allocated = false;
        if session.guest.is_some() {
            off.entries = vec![0; session.shown()];
        }
        match outcome {
            Outcome::Done => {
                session.states = vec![off];
                session.stale = false;
                session.lost = false;
            }
            _ => session.states.push(off),
        }
    }

    fn look(&self, at: usize, text: &str) -> Broken {
        let seat = &self.seats[at];
        let usable = seat.session.as_ref().filter(|s| s.terms.usable);
        let Some(session) = usable else {
            ensure!(text == "TPH not in use\n", "debugfs says {text:?}");
            return Ok(());
        };
        let line = |state: &Tph| format!("control {:#010x}\n", state.control);
        ensure!(
            session.lost
                || session
                    .states
                    .iter()
                    .any(|state| text.contains(&line(state))),
            "debugfs says {text:?}, and not one of {:x?}",
            session.states
        );
        Ok(())
    }
}
