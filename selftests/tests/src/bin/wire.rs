// SPDX-License-Identifier: GPL-2.0-only

//! A tag from the user's request to the device's DMA write.

use std::process::ExitCode;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::harness;
use tph_selftests::module::Gate;
use tph_selftests::protocol::{Tag, TlpHint};
use tph_selftests::tests;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{cpu, literal, Device, Mapping, Source};
use tph_tests::{each_table, each_table_and_gate, opened_as, st, xst, CPU, OTHER_CPU};

const IOVA: u64 = 0x10_0000;
const PH: u8 = 2;

/// An opened device, and memory that it may write to.
struct Wire {
    device: Device,
    memory: Mapping,
}

impl Wire {
    fn new(bench: &mut Bench, want: &Want, gate: Gate) -> Self {
        let (_, device) = opened_as(bench, want, gate);
        let memory = device.map_dma(1, IOVA).expect("memory for DMA");
        Self { device, memory }
    }

    /// Has the device write `value` in an interrupt's course, or as its driver says, and returns
    /// the hint that the request carried.
    fn write(&self, from: TagFrom, value: u64) -> Option<TlpHint> {
        let hint = Engine::new(&self.device).write(IOVA, value, PH, from);
        assert_eq!(self.memory.pages.read(0, 8), value.to_le_bytes());
        hint
    }
}

fn with_tag(tag: Tag) -> Option<TlpHint> {
    Some(TlpHint {
        ph: PH,
        tag: Some(tag),
    })
}

fn r39_r40_tags_arrive_on_the_wire(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let wire = Wire::new(bench, want, gate);
        let device = &wire.device;
        assert_eq!(wire.write(TagFrom::Vector(0), 1), None, "off");

        let sources = [cpu(CPU), cpu(OTHER_CPU)];
        device.enable(StMode::InterruptVector, Requester::Standard);
        device.program(1, &sources).expect("TPH_ST");
        for (entry, tag) in [(0, 0), (1, st(CPU)), (2, st(OTHER_CPU)), (3, 0)] {
            let hint = wire.write(TagFrom::Vector(entry), u64::from(entry) + 2);
            assert_eq!(hint, with_tag(Tag::St(tag as u8)), "entry {entry}");
        }

        device.enable(StMode::InterruptVector, Requester::Extended);
        device.program_extended(1, &sources).expect("TPH_ST");
        for (entry, tag) in [(1, xst(CPU)), (2, xst(OTHER_CPU))] {
            let hint = wire.write(TagFrom::Vector(entry), u64::from(entry) + 8);
            assert_eq!(hint, with_tag(Tag::Xst(tag)), "entry {entry}");
        }

        device.enable(StMode::NoSt, Requester::Standard);
        let hint = wire.write(TagFrom::Vector(1), 16);
        assert_eq!(hint, Some(TlpHint { ph: PH, tag: None }), "No ST");
        device.set_control(0);
        assert_eq!(wire.write(TagFrom::Vector(1), 17), None, "off");
    });
}

/// A tag of its own for each entry.
fn r39_r40_literals_arrive_on_the_wire(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let wire = Wire::new(bench, want, Gate::Unsafe);
        let offer = wire.device.tph().expect("GET of TPH");
        for mode in [StMode::InterruptVector, StMode::DeviceSpecific] {
            wire.device.enable(mode, Requester::Extended);
            let tag = |entry: u16| 0xbe00 + entry;
            let entries = 0..offer.st_entries;
            let sources: Vec<Source> = entries
                .clone()
                .map(|entry| literal(tag(entry).into()))
                .collect();
            wire.device
                .program_extended(0, &sources)
                .expect("TPH_ST of the whole table");
            for entry in entries {
                let from = match mode {
                    StMode::DeviceSpecific => TagFrom::Entry(entry),
                    _ => TagFrom::Vector(entry),
                };
                let hint = wire.write(from, 0x1122_3344_5566_7700 + u64::from(entry));
                assert_eq!(hint, with_tag(Tag::Xst(tag(entry))), "{mode:?}, {entry}");
            }
        }
    });
}

fn r46_no_tag_on_the_wire_after_a_reset(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let wire = Wire::new(bench, want, Gate::Safe);
        wire.device
            .enable(StMode::InterruptVector, Requester::Standard);
        wire.device.program(0, &[cpu(CPU)]).expect("TPH_ST");
        let hint = wire.write(TagFrom::Vector(0), 1);
        assert_eq!(hint, with_tag(Tag::St(st(CPU) as u8)));
        wire.device.reset().expect("a reset");
        assert_eq!(wire.write(TagFrom::Vector(0), 2), None);
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r39_r40_tags_arrive_on_the_wire,
        r39_r40_literals_arrive_on_the_wire,
        r46_no_tag_on_the_wire_after_a_reset,
    ])
}
