// SPDX-License-Identifier: GPL-2.0-only

//! How operations are drawn. The same seed draws the same ones.

use std::collections::VecDeque;

use fastrand::Rng;
use tph_selftests::memory::page_size;
use tph_selftests::protocol::Lost;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{Op as Verb, Resolution, Source};
use vfio_bindings::bindings::vfio::*;

use crate::op::{Fd, LowPower, MapOf, Memory, Op, Program, Reset, Resolve, SourceOf};
use crate::world::{Habit, Seat, Shape, BUFFERS, EVENTS, WINDOWS};

const POLICIES: [&str; 6] = ["no_st", "iv_st", "ds_st", "literal", "nothing", ""];

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.usize(..from.len())]
}

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.u8(..)).collect()
}

fn fd(rng: &mut Rng) -> Fd {
    match rng.u8(..8) {
        0 => Fd::Number(pick(rng, &[-1, 0, 1 << 20, i32::MAX, i32::MIN])),
        _ => Fd::Slot(rng.usize(..BUFFERS)),
    }
}

/// How good the sources of a call are: one bad source is enough to refuse all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quality {
    /// Each has a tag, of firmware.
    Cpus,
    /// Each has one, if something was published.
    Buffers,
    /// Anything.
    Any,
}

impl Quality {
    fn draw(rng: &mut Rng) -> Self {
        pick(
            rng,
            &[
                Self::Cpus,
                Self::Cpus,
                Self::Cpus,
                Self::Buffers,
                Self::Any,
                Self::Any,
            ],
        )
    }
}

/// A source of that quality, for an ST table or for a lookup, which has no use for "none".
fn source(rng: &mut Rng, quality: Quality, table: bool) -> SourceOf {
    let good = |type_: u32, value| SourceOf {
        source: Source {
            // CAST: a small number.
            type_: type_ as u8,
            value,
            ..Source::default()
        },
        fd: None,
    };
    match quality {
        Quality::Any => any_source(rng),
        Quality::Cpus if table && rng.u8(..6) == 0 => good(VFIO_TPH_SOURCE_NONE, 0),
        Quality::Cpus => good(VFIO_TPH_SOURCE_CPU, rng.u32(..2)),
        Quality::Buffers => SourceOf {
            fd: Some(Fd::Slot(rng.usize(..BUFFERS))),
            ..good(VFIO_TPH_SOURCE_DMABUF, 0)
        },
    }
}

/// Well formed most of the time.
fn any_source(rng: &mut Rng) -> SourceOf {
    let mut of = SourceOf {
        source: Source::default(),
        fd: None,
    };
    let kind = pick(rng, &[0, 1, 1, 1, 1, 2, 2, 3]);
    of.source.type_ = kind;
    match u32::from(kind) {
        VFIO_TPH_SOURCE_CPU => {
            of.source.value = pick(rng, &[0, 0, 1, 1, 2, 3, 4, u32::MAX]);
            of.source.flags = rng.u8(..4) / 3;
        }
        VFIO_TPH_SOURCE_DMABUF => of.fd = Some(fd(rng)),
        VFIO_TPH_SOURCE_LITERAL => {
            of.source.value = pick(rng, &[0, 1, 0xff, 0x100, 0xbeef, 0x1_0000])
        }
        _ => (),
    }
    if rng.u8(..32) == 0 {
        match rng.u8(..4) {
            0 => of.source.reserved = rng.u16(..),
            1 => of.source.flags = rng.u8(..),
            2 => of.source.type_ = rng.u8(..),
            _ => of.source.value = rng.u32(..),
        }
        if u32::from(of.source.type_) == VFIO_TPH_SOURCE_DMABUF {
            of.fd = Some(fd(rng));
        }
    }
    of
}

/// `VFIO_DEVICE_TPH_EXTENDED` or not.
fn extended(rng: &mut Rng) -> u32 {
    u32::from(rng.u8(..3) == 0)
}

fn rarely(rng: &mut Rng) -> u32 {
    match rng.u8(..24) {
        0 => 1 << rng.u32(..32),
        _ => 0,
    }
}

fn short(rng: &mut Rng) -> usize {
    match rng.u8(..24) {
        0 => rng.usize(1..=12),
        _ => 0,
    }
}

fn program(rng: &mut Rng, shape: &Shape) -> Program {
    let entries = shape.entries.max(1);
    let (index, most) = match rng.u8(..8) {
        0 => (rng.u16(..), 8),
        1 => (0, usize::from(entries)),
        _ => (rng.u16(..entries), 8),
    };
    let most = most.min(usize::from(entries.saturating_sub(index)).max(1));
    let count = rng.usize(1..=most);
    let quality = Quality::draw(rng);
    Program {
        flags: extended(rng) | rarely(rng),
        index,
        count: (rng.u8(..24) == 0).then(|| pick(rng, &[0, u16::MAX, entries, entries + 1])),
        reserved: rarely(rng),
        sources: (0..count).map(|_| source(rng, quality, true)).collect(),
        short: short(rng),
        memory: match rng.u8(..8) {
            0 => Memory::Bar,
            _ => Memory::Own,
        },
    }
}

fn resolve(rng: &mut Rng) -> Resolve {
    let count = match rng.u8(..16) {
        0 => 64,
        1 => 0,
        _ => rng.usize(1..=4),
    };
    let quality = Quality::draw(rng);
    let entries = (0..count).map(|_| {
        let of = source(rng, quality, false);
        let entry = Resolution {
            source: of.source,
            st: rng.u16(..),
            ph: rng.u8(..),
            flags: match rng.u8(..32) {
                0 => rng.u8(..),
                _ => rng.u8(..4),
            },
            reserved: rarely(rng),
        };
        (entry, of.fd)
    });
    Resolve {
        entries: entries.collect(),
        flags: extended(rng) | rarely(rng),
        reserved: rarely(rng),
        short: short(rng),
    }
}

/// CPUs for virtual tags, and now and then nothing, or what cannot be.
fn map(rng: &mut Rng) -> MapOf {
    let none = Source::default();
    let mut sources: Vec<Source> = (0..rng.usize(..=6))
        .map(|_| match rng.u8(..5) {
            0 => none,
            _ => Source {
                // CAST: a small number.
                type_: VFIO_TPH_SOURCE_CPU as u8,
                flags: rng.u8(..6) / 5,
                value: rng.u32(..4),
                ..none
            },
        })
        .collect();
    match rng.u8(..16) {
        0 => sources.push(any_source(rng).source),
        1 => sources = vec![none; pick(rng, &[255, 256])],
        _ => (),
    }
    MapOf {
        flags: rarely(rng),
        reserved: rarely(rng),
        sources,
        short: short(rng),
    }
}

fn vcpus(rng: &mut Rng) -> Vec<Option<u32>> {
    let cpu = |rng: &mut Rng| match rng.u8(..32) {
        0 => Some(4096),
        1..=6 => None,
        _ => Some(rng.u32(..4)),
    };
    (0..rng.usize(..=5)).map(|_| cpu(rng)).collect()
}

/// Entries as a guest writes them, alone or behind Control.
fn write_entries(rng: &mut Rng, shape: &Shape) -> Op {
    let at_control = shape.capability.unwrap_or(0x160) + PCI_TPH_CTRL as u16;
    let entry = 4 + 2 * rng.u16(..shape.entries.clamp(1, 64));
    let tags = (0..rng.usize(1..=3)).map(|_| pick(rng, &[0u16, 1, 1, 2, 2, 3, 4, 5, 6, 0x101]));
    let bytes: Vec<u8> = tags.flat_map(u16::to_le_bytes).collect();
    match rng.u8(..8) {
        0 => {
            let both = control(rng).to_le_bytes().into_iter().chain(bytes);
            Op::Write(at_control, both.collect())
        }
        1 => Op::Write(at_control + entry + 1, vec![rng.u8(..2)]),
        2 => Op::Write(at_control + entry, vec![rng.u8(..6)]),
        _ => Op::Write(at_control + entry, bytes),
    }
}

/// A value of Control that a device may have, most of the time.
fn control(rng: &mut Rng) -> u32 {
    match rng.u8(..8) {
        0 => rng.u32(..),
        1 => 0,
        _ => {
            let mode = pick(rng, &[1, 1, 1, 1, 1, 1, 2, 2, 0]);
            mode | pick(rng, &[0x100, 0x300, 0x300, 0x300, 0x300, 0x300, 0x200, 0])
        }
    }
}

fn write(rng: &mut Rng, shape: &Shape) -> Op {
    let tph = shape.capability.unwrap_or(0x160);
    let at_control = tph + PCI_TPH_CTRL as u16;
    match rng.u8(..16) {
        0..=7 => Op::Write(at_control, control(rng).to_le_bytes().to_vec()),
        8 => {
            let value = control(rng).to_le_bytes();
            Op::Write(at_control, value[..2].to_vec())
        }
        9 => {
            let offset = rng.u16(..4);
            let value = control(rng).to_le_bytes();
            Op::Write(at_control + offset, vec![value[usize::from(offset)]])
        }
        // Around it.
        10 => {
            let length = rng.usize(1..=16);
            let offset = tph - 4 + rng.u16(..28);
            Op::Write(offset, bytes(rng, length))
        }
        11 => Op::Write(
            shape.power + PCI_PM_CTRL as u16,
            vec![pick(rng, &[0, 0, 0, 0, 3, 3, 1, 2])],
        ),
        12 | 13 => {
            // Memory Space Enable and Bus Master, mostly on.
            let command = pick(rng, &[2, 6, 2, 6, 6, 6, 6, 2, 0, 4, 0x406]);
            Op::Write(
                PCI_COMMAND as u16,
                vec![command as u8, (command >> 8) as u8],
            )
        }
        // Anywhere; not the BARs, whose sizing would only cost time.
        _ => {
            let offset = pick(rng, &[0x0c, 0x30, 0x3c, 0x40, 0x100, 0x200, 0xff0]);
            let length = rng.usize(1..=8);
            Op::Write(offset + rng.u16(..64), bytes(rng, length))
        }
    }
}

fn read(rng: &mut Rng, shape: &Shape) -> Op {
    let tph = shape.capability.unwrap_or(0x160);
    match rng.u8(..8) {
        0 => Op::Read(0, 4096),
        1 => Op::Read(rng.u16(..4200), rng.usize(1..=300)),
        _ => {
            let offset = tph - 8 + rng.u16(..160);
            Op::Read(offset, pick(rng, &[1, 2, 4, 8, 3, 12, 140]))
        }
    }
}

fn irqs(rng: &mut Rng, shape: &Shape) -> Op {
    let index = match rng.u8(..8) {
        0 => rng.u32(..6),
        _ => VFIO_PCI_MSIX_IRQ_INDEX,
    };
    if rng.u8(..3) == 0 {
        return Op::FreeIrqs(index);
    }
    let vectors = shape.vectors.max(1).into();
    let start = match rng.u8(..4) {
        0 => rng.u32(..vectors + 1),
        _ => 0,
    };
    let count = rng.u32(1..=vectors);
    let event = |rng: &mut Rng| (rng.u8(..6) != 0).then(|| rng.usize(..EVENTS));
    let flags = match rng.u8(..16) {
        0 => rng.u32(..64),
        1 => VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_DATA_NONE,
        2 => VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_DATA_NONE,
        3 => VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE,
        _ => VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD,
    };
    Op::Irqs(
        flags,
        index,
        start,
        (0..count).map(|_| event(rng)).collect(),
    )
}

/// Features of vfio, of ours those verbs that they do not have.
fn feature(rng: &mut Rng) -> Op {
    let length = rng.usize(..=64);
    let ours = [
        (VFIO_DEVICE_FEATURE_TPH, Verb::Set),
        (VFIO_DEVICE_FEATURE_TPH_ST, Verb::Get),
        (VFIO_DEVICE_FEATURE_TPH_RESOLVE, Verb::Set),
        (VFIO_DEVICE_FEATURE_DMA_BUF_TPH, Verb::Get),
        (VFIO_DEVICE_FEATURE_TPH_MAP, Verb::Get),
    ];
    let flags = match rng.u8(..4) {
        0 => rng.u32(..20) | pick(rng, &[Verb::Get, Verb::Set, Verb::ProbeBoth]).flags(),
        1 => {
            let (index, verb) = pick(rng, &ours);
            index | verb.flags()
        }
        2 => pick(rng, &ours).0 | (rng.u32(..) & !0xffff & !(VFIO_DEVICE_FEATURE_SET)),
        _ => {
            let probe = [Verb::Probe, Verb::ProbeGet, Verb::ProbeSet, Verb::ProbeBoth];
            pick(rng, &ours).0 | pick(rng, &probe).flags()
        }
    };
    Op::Feature(flags, bytes(rng, length))
}

/// A range of whole pages, most of the time, that is not longer than the BAR.
fn pages(rng: &mut Rng) -> (u64, u64) {
    let first = rng.u64(..16);
    let count = rng.u64(1..=16 - first);
    let page = page_size() as u64;
    match rng.u8(..16) {
        0 => (first * page, count * page + rng.u64(1..page)),
        1 => (first * page + rng.u64(1..page), count * page),
        _ => (first * page, count * page),
    }
}

/// Whether that habit allows it.
fn fits(op: &Op, shape: &Shape, habit: Habit) -> bool {
    match (op, habit) {
        (Op::Irqs(..) | Op::FreeIrqs(_), Habit::Silent) => false,
        (Op::Write(offset, bytes), Habit::Awake) => {
            let power = shape.power + PCI_PM_CTRL as u16;
            let end = usize::from(*offset) + bytes.len();
            end <= power.into() || *offset > power
        }
        _ => true,
    }
}

fn lost(rng: &mut Rng, habit: Habit) -> Lost {
    match rng.bool() {
        // Others would go on using BARs that are not decoded any more.
        true if habit == Habit::All => Lost::Everything,
        _ => Lost::Tph,
    }
}

/// Anything.
fn any(rng: &mut Rng, shape: &Shape, habit: Habit) -> Op {
    let bar = pick(rng, &[0, 2]);
    match rng.u16(..1000) {
        0..=7 => Op::Close,
        8..=44 => Op::Open,
        45..=109 => read(rng, shape),
        110..=134 => write_entries(rng, shape),
        135..=140 => Op::SetMap(map(rng)),
        141..=144 => Op::Vcpus(vcpus(rng)),
        145..=364 => write(rng, shape),
        365..=374 => match rng.u8(..8) {
            0 => Op::Reset(Reset::Hot),
            1 | 2 => Op::Reset(Reset::Flr),
            // Of a reset through sysfs vfio knows nothing: it goes on changing vectors of a
            // device that does not decode then.
            3 | 4 if habit == Habit::All => Op::Reset(Reset::Sysfs),
            _ => Op::Reset(Reset::Device),
        },
        375..=394 => Op::Offer,
        395..=594 => Op::Program(program(rng, shape)),
        595..=654 => Op::Resolve(resolve(rng)),
        655..=694 => Op::Publish(
            fd(rng),
            rng.u32(..4) | rarely(rng),
            rng.u16(..),
            rng.u8(..),
            pick(rng, &[0, 1, 2, 3, 3, 4]),
        ),
        695..=734 => feature(rng),
        735..=799 => irqs(rng, shape),
        800..=814 => Op::LowPower(pick(
            rng,
            &[
                LowPower::Enter,
                LowPower::EnterWithWakeup,
                LowPower::Exit,
                LowPower::Exit,
            ],
        )),
        815..=844 => {
            let (start, length) = pages(rng);
            Op::Map(rng.usize(..WINDOWS), bar, start, length)
        }
        845..=854 => Op::Unmap(rng.usize(..WINDOWS)),
        855..=894 => Op::Touch(rng.usize(..WINDOWS), 4 * rng.u64(..0x4000), rng.bool()),
        895..=904 => Op::ReadBar(bar, rng.u64(..0x1_0000), rng.usize(1..=64)),
        905..=914 => {
            let length = rng.usize(1..=64);
            // What is plain memory.
            let offset = if bar == 0 { 0xa000 } else { 0 } + rng.u64(..0x1000);
            Op::WriteBar(bar, offset, bytes(rng, length))
        }
        915..=954 => {
            let (start, length) = pages(rng);
            Op::Export(rng.usize(..BUFFERS), bar, start, length)
        }
        955..=964 => Op::CloseBuffer(rng.usize(..BUFFERS)),
        965..=979 => Op::Policy(pick(rng, &POLICIES)),
        980..=986 => Op::ResetItself(lost(rng, habit)),
        _ => Op::Look,
    }
}

/// What a driver does first with a device of that shape, and one that has memory to share: without
/// it, little of what comes next gets far.
pub fn first(rng: &mut Rng, shape: &Shape) -> Vec<Op> {
    let at_control = shape.capability.unwrap_or(0x160) + PCI_TPH_CTRL as u16;
    let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
    let events = (0..usize::from(shape.vectors)).map(|vector| Some(vector % EVENTS));
    let control: u32 = pick(rng, &[0x301, 0x301, 0x302, 0x101]);
    let buffer = rng.usize(..BUFFERS);
    vec![
        Op::Open,
        Op::LowPower(LowPower::Exit),
        Op::Write(shape.power + PCI_PM_CTRL as u16, vec![0]),
        Op::Write(PCI_COMMAND as u16, vec![6, 0]),
        Op::FreeIrqs(VFIO_PCI_MSIX_IRQ_INDEX),
        Op::Irqs(flags, VFIO_PCI_MSIX_IRQ_INDEX, 0, events.collect()),
        Op::Write(at_control, control.to_le_bytes().to_vec()),
        Op::Export(buffer, 2, 0, page_size() as u64),
        Op::Publish(
            Fd::Slot(buffer),
            pick(rng, &[1, 3, 3]),
            rng.u16(..),
            rng.u8(..),
            rng.u8(..4),
        ),
    ]
}

/// What a thread does: operations at random, and now and then what a driver does first.
#[derive(Default)]
pub struct Script {
    next: VecDeque<(usize, Op)>,
}

impl Script {
    /// Has a driver begin with a device.
    pub fn begin(&mut self, rng: &mut Rng, seat: usize, shape: &Shape, habit: Habit) {
        let ops = first(rng, shape).into_iter();
        let fitting = ops.filter(|op| fits(op, shape, habit));
        self.next.extend(fitting.map(|op| (seat, op)));
    }

    /// Has a monitor give a guest its map, and the guest begin.
    fn guest(&mut self, rng: &mut Rng, seat: usize, shape: &Shape) {
        let at_control = shape.capability.unwrap_or(0x160) + PCI_TPH_CTRL as u16;
        let set = |value: u32| Op::Write(at_control, value.to_le_bytes().to_vec());
        let mut map = map(rng);
        (map.flags, map.reserved, map.short) = (0, 0, 0);
        let first = match rng.u8(..3) {
            0 => vec![Op::Close, Op::Vcpus(vcpus(rng)), Op::Open],
            _ => vec![set(0), Op::SetMap(map)],
        };
        let on = set(pick(rng, &[0x101, 0x301, 0x301]));
        self.next.extend(first.into_iter().map(|op| (seat, op)));
        let entries = (0..3).map(|_| write_entries(rng, shape));
        let ops: Vec<Op> = entries.chain([on]).collect();
        self.next.extend(ops.into_iter().map(|op| (seat, op)));
        for _ in 0..6 {
            let op = match rng.u8(..4) {
                0 => Op::SetMap(self::map(rng)),
                1 => Op::Vcpus(vcpus(rng)),
                _ => write_entries(rng, shape),
            };
            self.next.push_back((seat, op));
        }
    }

    /// Has a device sleep in D3hot, and wake up.
    fn nap(&mut self, seat: usize, shape: &Shape) {
        let at = shape.power + PCI_PM_CTRL as u16;
        let ops = [3, 0].map(|state| (seat, Op::Write(at, vec![state])));
        self.next.extend(ops);
    }

    /// Has a device lose what was programmed, and its user go on as if nothing had happened.
    fn lapse(&mut self, rng: &mut Rng, seat: usize, shape: &Shape, habit: Habit) {
        let at_control = shape.capability.unwrap_or(0x160) + PCI_TPH_CTRL as u16;
        let batch = |rng: &mut Rng, index| {
            let sources = (0..2).map(|_| source(rng, Quality::Cpus, true)).collect();
            Op::Program(Program {
                flags: 0,
                index,
                count: None,
                reserved: 0,
                sources,
                short: 0,
                memory: Memory::Own,
            })
        };
        let go_on = match rng.bool() {
            true => batch(rng, 2),
            false => Op::Write(at_control, control(rng).to_le_bytes().to_vec()),
        };
        let ops = [batch(rng, 0), Op::ResetItself(lost(rng, habit)), go_on];
        self.next.extend(ops.map(|op| (seat, op)));
    }

    /// The next operation, and on which device.
    pub fn next(&mut self, rng: &mut Rng, seats: &[Seat], habits: &[Habit]) -> (usize, Op) {
        if let Some(next) = self.next.pop_front() {
            return next;
        }
        let at = rng.usize(..seats.len());
        let (shape, habit) = (&seats[at].shape, habits[at]);
        match rng.u8(..80) {
            0 | 1 => self.begin(rng, at, shape, habit),
            2 | 3 if habit == Habit::All => self.nap(at, shape),
            4 | 5 => self.lapse(rng, at, shape, habit),
            6 | 7 => self.guest(rng, at, shape),
            _ => (),
        }
        loop {
            let op = any(rng, shape, habit);
            if fits(&op, shape, habit) {
                return (at, op);
            }
        }
    }
}
