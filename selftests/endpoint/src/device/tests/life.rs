// SPDX-License-Identifier: GPL-2.0-only

//! Resets, power states, faults, change of shape, what the client sees while it connects.

use tph_protocol::registers::{reset_itself, BAR0_MAX, IDENT, IDENT_VALUE, MSIX_PBA, RESET_ITSELF};
use tph_protocol::{Fault, Lost, Position, Space, Table, TphShape};

use super::*;
use crate::config::layout::{EXPRESS, MSIX, PM};

/// An endpoint that has something to lose.
fn programmed(spec: &str) -> Endpoint {
    let mut ep = endpoint(spec);
    if ep.spec.tph.table == Table::Msix {
        ep.mmio_u32(12, 0x1234_0000);
    } else {
        ep.set_entry(0, 0x1234);
        ep.set_entry(63, 0x5678);
    }
    ep.write_control(IV | ENABLE_EXTENDED);
    ep
}

fn assert_clear(ep: &mut Endpoint) {
    let state = ep.ask_state();
    let tph = state.tph.unwrap();
    assert_eq!(tph.control, 0);
    assert!(tph.entries.iter().all(|&tag| tag == 0));
    assert_eq!((state.command, state.power_state), (0, 0));
    for entry in state.msix.unwrap().entries {
        assert!(entry.masked && entry.tag == 0);
    }
}

type Reset = fn(&mut Endpoint);

#[test]
fn every_reset_clears() {
    let device_control = layout::DEVICE_CONTROL;
    let resets: [(&str, Reset); 5] = [
        ("bus", |ep| ep.bus_reset()),
        ("flr, word", |ep| {
            ep.write_u16(layout::DEVICE_CONTROL, 0xa810)
        }),
        ("flr, dword", |ep| {
            ep.write_u32(layout::DEVICE_CONTROL, 0x8000)
        }),
        ("flr, byte", |ep| {
            ep.config_write(layout::DEVICE_CONTROL + 1, &[0x80])
        }),
        ("power", |ep| {
            ep.write_u16(layout::PMCSR, 3);
            ep.write_u16(layout::PMCSR, 0);
        }),
    ];
    for spec in ["nosoftrst=0", "nosoftrst=0,tph=msix"] {
        for (name, reset) in &resets {
            let mut ep = programmed(spec);
            let before = ep.journal.counters();
            reset(&mut ep);
            assert_clear(&mut ep);
            let after = ep.journal.counters();
            assert_eq!(after.reset - before.reset, 1, "{name}");
            let flr = u64::from(name.starts_with("flr"));
            assert_eq!(after.flr - before.flr, flr, "{name}");
            assert_eq!(ep.config.u16(device_control), 0x2810, "{name}");
        }
    }
}

#[test]
fn no_soft_reset_keeps_all() {
    let mut ep = programmed("");
    ep.write_u16(layout::PMCSR, 3);
    assert_eq!(ep.ask_state().power_state, 3);
    ep.write_u16(layout::PMCSR, 0);
    let tph = ep.ask_state().tph.unwrap();
    assert_eq!(
        (tph.control, tph.entries[0]),
        (IV | ENABLE_EXTENDED, 0x1234)
    );
    // D1 and D2 are not there.
    ep.write_u16(layout::PMCSR, 1);
    assert_eq!(ep.ask_state().power_state, 0);
}

#[test]
fn no_flr() {
    let mut ep = programmed("flr=0");
    ep.write_u16(layout::DEVICE_CONTROL, 0x8000);
    assert_eq!(ep.ask_state().tph.unwrap().control, IV | ENABLE_EXTENDED);
    assert_eq!(ep.config.u16(layout::DEVICE_CONTROL), 0);
    assert_eq!((ep.read_u32(EXPRESS + 4) >> 28) & 1, 0);
}

#[test]
fn errors_are_sticky() {
    let mut ep = endpoint("");
    let mask = 0x100 + 0x14;
    ep.write_u32(mask, 0x1);
    ep.bus_reset();
    assert_eq!(ep.read_u32(mask), 1);
}

#[test]
fn all_ones() {
    let mut ep = programmed("");
    let before = ep.ask_state().tph;
    let mode = Fault::AllOnes;
    assert_eq!(ep.ask(Command::Fault { mode }), Reply::Ok);
    assert_eq!(ep.read_u32(0), !0);
    assert_eq!(ep.mmio_read_u32(0xa000), !0);
    ep.write_control(0);
    ep.mmio_u32(0xa000, 7);
    assert_eq!(ep.violations(), []);
    assert_eq!(ep.ask_state().tph, before);
    assert!(matches!(
        ep.ask(Command::RaiseInterrupt { vector: 0 }),
        Reply::Error(_)
    ));
    let mode = Fault::None;
    ep.ask(Command::Fault { mode });
    assert_eq!(ep.mmio_read_u32(0xa000), 0);
    ep.write_control(0);
    assert_eq!(ep.ask_state().tph.unwrap().control, 0);
}

/// Until the capability is made anew; what is in the header stays as it is.
#[test]
fn lies() {
    const TABLE: u16 = layout::MSIX + 4;
    const CHAIN: u16 = layout::EXTENDED;

    let mut ep = endpoint("tph=msix,msix_offset=0x800");
    let lie = |ep: &mut Endpoint, offset, value| ep.ask(Command::Lie { offset, value });
    let chain = ep.read_u32(CHAIN);
    assert_eq!(lie(&mut ep, TABLE, 0x2006), Reply::Ok);
    assert_eq!(lie(&mut ep, CHAIN, !0), Reply::Ok);
    ep.write_u32(TABLE, 0);
    ep.bus_reset();
    ep.write_u16(layout::DEVICE_CONTROL, 0x8000);
    assert_eq!((ep.read_u32(TABLE), ep.read_u32(CHAIN)), (0x2006, !0));
    ep.ask(Command::SetTph(TphShape::default()));
    assert_eq!((ep.read_u32(TABLE), ep.read_u32(CHAIN)), (0x800, chain));
    ep.bus_reset();
    assert_eq!((ep.read_u32(TABLE), ep.read_u32(CHAIN)), (0x800, chain));
    for offset in [0x10, 0x3c, TABLE + 2, layout::SIZE] {
        assert!(
            matches!(lie(&mut ep, offset, 0), Reply::Error(_)),
            "{offset:#x}"
        );
    }
}

/// In a larger BAR, and across a border of 64 KiB: the rest of the map stays where it is.
#[test]
fn a_table_behind_the_map() {
    const TABLE: u64 = 0x2_fff0;
    let mut ep = endpoint("tph=msix,msix=16,msix_offset=0x2fff0,bar0=1M");
    assert_eq!(ep.read_u32(MSIX + 4), TABLE as u32);
    let word = |value: u16| ((u32::from(value) << 16) | 1).to_le_bytes();
    for vector in [0, 1, 15] {
        ep.mmio_write(0, TABLE + 16 * vector + 12, &word(0xa0 + vector as u16));
    }
    assert_eq!(
        [0, 1, 15].map(|v| ep.msix.entry(v).unwrap().tag),
        [0xa0, 0xa1, 0xaf]
    );
    for at in [0, TABLE - 4, TABLE + 0x100, BAR0_MAX - 4] {
        ep.mmio_write(0, at, &[0x5a; 4]);
        assert_eq!(ep.mmio_read(0, at, 4), [0x5a; 4], "{at:#x}");
    }
    assert_eq!(ep.mmio_read(0, TABLE + 0x1c, 4), word(0xa1));
    assert_eq!(ep.mmio_read(0, MSIX_PBA, 4), [0; 4]);
    assert_eq!(ep.mmio_read(0, IDENT, 4), IDENT_VALUE.to_le_bytes());
    assert_eq!(ep.mmio_read(0, BAR0_MAX, 4), [0xff; 4]);
}

/// An I/O BAR has an enable bit of its own. It and the ROM are blank.
#[test]
fn other_bars() {
    let mut ep = endpoint("bar0=4K,io=256,rom=64K");
    assert_eq!(
        [0, 1, 2, 3, 4, 5, 6, 7].map(|bar| ep.bar_size(bar)),
        [4 << 10, 0, 64 << 10, 0, 256, 0, 64 << 10, 0]
    );
    assert_eq!(ep.mmio_read(6, 0, 2), [0xff; 2]);
    assert_eq!(ep.violations(), []);
    ep.mmio_read(4, 0, 4);
    assert_eq!(ep.violations(), [ViolationKind::MmioInD3]);
    ep.write_u16(layout::COMMAND, 7);
    ep.mmio_write(4, 0, &[0; 4]);
    assert_eq!(ep.mmio_read(4, 0, 4), [0xff; 4]);
    assert_eq!(ep.violations(), []);
    assert_eq!(ep.journal.counters().mmio_read, 3);
}

/// All of it, by the register and by a command.
#[test]
fn resets_itself() {
    let by_register: Reset = |ep| ep.mmio_u32(RESET_ITSELF, reset_itself::EVERYTHING);
    let by_command: Reset = |ep| {
        let what = Lost::Everything;
        assert_eq!(ep.ask(Command::ResetItself { what }), Reply::Ok);
    };
    for spec in ["", "tph=msix", "flr=0"] {
        for reset in [by_register, by_command] {
            let mut ep = programmed(spec);
            let before = ep.journal.counters();
            reset(&mut ep);
            assert_clear(&mut ep);
            let after = ep.journal.counters();
            assert_eq!((after.reset - before.reset, after.flr), (1, before.flr));
            // It goes on answering.
            assert_eq!(ep.read_u32(0), 0x7470_1b36);
            ep.write_u16(layout::COMMAND, 6);
            assert_ne!(ep.mmio_read_u32(0x9000), !0);
            assert_eq!(ep.violations(), []);
        }
    }
}

/// Tags in MSI-X are not in the capability.
#[test]
fn resets_its_capability() {
    for spec in ["", "tph=msix"] {
        for by_register in [false, true] {
            let mut ep = programmed(spec);
            ep.mmio_u32(0xa000, 0x1234);
            if by_register {
                ep.mmio_u32(RESET_ITSELF, reset_itself::TPH);
            } else {
                let what = Lost::Tph;
                assert_eq!(ep.ask(Command::ResetItself { what }), Reply::Ok);
            }
            let state = ep.ask_state();
            let tph = state.tph.unwrap();
            assert_eq!(tph.control, 0);
            assert!(tph.entries.iter().all(|&tag| tag == 0));
            let tag = if spec.is_empty() { 0 } else { 0x1234 };
            assert_eq!(state.msix.unwrap().entries[0].tag, tag);
            assert_eq!(state.command, 6);
            assert_eq!(ep.mmio_read_u32(0xa000), 0x1234);
        }
    }
}

#[test]
fn comes_out_of_a_reset_with_tph_on() {
    let resets: [Reset; 4] = [
        |ep| ep.bus_reset(),
        |ep| ep.write_u16(layout::DEVICE_CONTROL, 0x8000),
        |ep| {
            ep.write_u16(layout::PMCSR, 3);
            ep.write_u16(layout::PMCSR, 0);
        },
        |ep| ep.mmio_u32(RESET_ITSELF, reset_itself::EVERYTHING),
    ];
    for (spec, tag) in [
        ("nosoftrst=0,entries=8", 0xabcd),
        ("nosoftrst=0,entries=8,extended=0", 0xcd),
        ("nosoftrst=0,tph=msix", 0xabcd),
        ("nosoftrst=0,tph=msix,extended=0", 0xcd),
    ] {
        for reset in resets {
            let mut ep = endpoint(spec);
            let on = Command::AfterReset {
                control: 0xffff_fd02,
                tag: 0xabcd,
            };
            assert_eq!(ep.ask(on), Reply::Ok);
            assert_eq!(ep.ask_state().tph.unwrap().control, 0, "not before");
            reset(&mut ep);
            let state = ep.ask_state();
            let tph = state.tph.unwrap();
            assert_eq!(tph.control, DS | ENABLE, "{spec}");
            let vectors: Vec<u16> = state.msix.unwrap().entries.iter().map(|e| e.tag).collect();
            let tags = if spec.contains("msix") {
                vectors
            } else {
                assert!(vectors.iter().all(|&tag| tag == 0));
                tph.entries
            };
            assert!(tags.iter().all(|&found| found == tag), "{spec}: {tags:x?}");
            assert_eq!(ep.violations(), []);

            ep.ask(Command::AfterReset { control: 0, tag: 0 });
            ep.bus_reset();
            assert_clear(&mut ep);
        }
    }
    let mut ep = endpoint("tph=absent");
    ep.ask(Command::AfterReset {
        control: 0x101,
        tag: 1,
    });
    ep.bus_reset();
    assert_eq!(ep.read_u32(0x168), 0);
}

/// Of any width, as many as was said; a reset is none of them.
#[test]
fn control_that_takes_no_writes() {
    const ON: u32 = 0x101;

    for mode in [
        Fault::ControlWritesDropped { writes: 3 },
        Fault::WritesDropped { writes: 3 },
    ] {
        let mut ep = endpoint("");
        let control = |ep: &mut Endpoint| ep.ask_state().tph.unwrap().control;
        ep.write_control(ON);
        assert_eq!(ep.ask(Command::Fault { mode }), Reply::Ok);
        let at = ep.ask_state().tph.unwrap().offset + 8;
        ep.write_u16(at, 0);
        assert_eq!(control(&mut ep), ON);
        ep.write_u32(at + 4, 0);
        ep.bus_reset();
        assert_eq!(control(&mut ep), 0);
        for _ in 0..2 {
            ep.write_control(ON);
            assert_eq!(control(&mut ep), 0);
        }
        ep.write_control(ON);
        assert_eq!(control(&mut ep), ON);
    }
}

/// Whatever the write was, if it enables; until the fault is over.
#[test]
fn control_that_becomes_something_else() {
    const ON: u32 = 0x101;
    const OTHER: u32 = 0x302;

    let mut ep = endpoint("");
    let control = |ep: &mut Endpoint| ep.ask_state().tph.unwrap().control;
    let mode = Fault::ControlBecomes { control: OTHER };
    assert_eq!(ep.ask(Command::Fault { mode }), Reply::Ok);
    ep.write_control(1);
    assert_eq!(control(&mut ep), 1);
    ep.write_control(ON);
    assert_eq!(control(&mut ep), OTHER);
    ep.write_control(0);
    assert_eq!(control(&mut ep), 0);
    let mode = Fault::None;
    assert_eq!(ep.ask(Command::Fault { mode }), Reply::Ok);
    ep.write_control(ON);
    assert_eq!(control(&mut ep), ON);
}

#[test]
fn memory_that_does_not_answer() {
    for (mode, reads) in [
        (Fault::MmioAllOnes, !0),
        (Fault::MmioWritesDropped, 7),
        (Fault::WritesDropped { writes: 0 }, 7),
    ] {
        let mut ep = programmed("tph=msix");
        ep.mmio_u32(0xa000, 7);
        let before = ep.ask_state();
        assert_eq!(ep.ask(Command::Fault { mode }), Reply::Ok);
        let counters = ep.journal.counters();
        assert_eq!(ep.mmio_read_u32(0xa000), reads);
        ep.mmio_u32(0xa000, 8);
        ep.mmio_u32(12, 0x5678_0000);
        ep.mmio_u32(RESET_ITSELF, reset_itself::EVERYTHING);
        let after = ep.journal.counters();
        assert_eq!(after.mmio_read - counters.mmio_read, 1);
        assert_eq!(after.mmio_write - counters.mmio_write, 3);
        // Nothing came through, nor was anything done wrong; configuration space is as ever.
        assert_eq!(ep.ask_state().msix, before.msix);
        assert_eq!(ep.violations(), []);
        assert_eq!(ep.read_u32(0), 0x7470_1b36);
        ep.write_control(0);
        assert_eq!(ep.ask_state().tph.unwrap().control, 0);
        // What is not decoded is a violation all the same.
        ep.write_u16(layout::COMMAND, 4);
        ep.mmio_read_u32(0xa000);
        assert_eq!(ep.violations(), [ViolationKind::MmioInD3]);
        ep.write_u16(layout::COMMAND, 6);
        let mode = Fault::None;
        ep.ask(Command::Fault { mode });
        assert_eq!(ep.mmio_read_u32(0xa000), 7);
    }
}

#[test]
fn stops_after() {
    for accesses in 0..6 {
        let mut ep = endpoint("");
        let mode = Fault::StopAfter { accesses };
        ep.ask(Command::Fault { mode });
        let answered = (0..10).take_while(|_| ep.read_u32(0) != !0).count();
        assert_eq!(answered as u64, accesses);
        let mode = Fault::StopAfter { accesses: 0 };
        assert_eq!(ep.ask_state().fault, mode);
    }
}

#[test]
fn concealed_until_the_first_reset() {
    let mut ep = endpoint("");
    ep.connect();
    assert_eq!(ep.config_read(MSIX, 2), [0, EXPRESS as u8]);
    assert_eq!(ep.config_read(PM, 2), [0, MSIX as u8]);
    assert_eq!(ep.read_u32(0x100), 0);
    assert_eq!(ep.config_read(0, 4096)[0x100..0x104], [0; 4]);
    ep.bus_reset();
    assert_eq!(ep.config_read(MSIX, 1), [0x11]);
    assert_eq!(ep.config_read(PM, 1), [0x01]);
    assert_eq!(ep.read_u32(0x100) & 0xffff, 0x01);
}

#[test]
fn poke_and_peek() {
    let mut ep = endpoint("tph=msix,msix=2");
    let offset = ep.tph(CONTROL).into();
    let poke = |space, offset, width, value| Command::Poke {
        space,
        offset,
        width,
        value,
    };
    let peek = |space, offset, width| Command::Peek {
        space,
        offset,
        width,
    };
    let seq = ep.journal.last();
    ep.ask(poke(Space::Config, offset, 4, 0x301));
    ep.ask(poke(Space::Bar0, 12, 4, 0x4321_0000));
    ep.ask(poke(Space::Bar2, 8, 8, 0x1122_3344_5566_7788));
    assert_eq!(ep.ask(peek(Space::Config, offset, 2)), Reply::Value(0x301));
    assert_eq!(ep.ask(peek(Space::Bar0, 14, 2)), Reply::Value(0x4321));
    assert_eq!(
        ep.ask(peek(Space::Bar2, 8, 8)),
        Reply::Value(0x1122_3344_5566_7788)
    );
    assert_eq!(ep.ask_state().msix.unwrap().entries[0].tag, 0x4321);
    assert_eq!(ep.journal.last(), seq);
    assert_eq!(ep.violations(), []);
    for bad in [
        peek(Space::Config, 4095, 2),
        peek(Space::Config, u64::MAX, 8),
        peek(Space::Bar0, 0, 3),
        poke(Space::Bar2, 0x1_0000, 1, 0),
    ] {
        assert!(matches!(ep.ask(bad), Reply::Error(_)));
    }
}

#[test]
fn another_shape() {
    let mut ep = programmed("");
    let reply = ep.ask(Command::SetTph(TphShape {
        table: Some(Table::Msix),
        position: Some(Position::First),
        extended: Some(false),
        completer: Some(3),
        eetlp: Some(2),
        ..TphShape::default()
    }));
    assert_eq!(reply, Reply::Ok);
    let state = ep.ask_state();
    assert_eq!((state.completer, state.eetlp), (3, 2));
    assert_eq!(ep.read_u32(layout::DEVICE_CAPABILITIES_2), 0xa0_3000);
    let tph = state.tph.unwrap();
    assert_eq!((tph.offset, tph.control), (0x100, 0));
    assert_eq!(tph.capability, 0x000f_0407);
    let ids: Vec<_> = state.extended_capabilities.iter().map(|c| c.id).collect();
    assert_eq!(ids, [0x17, 0x01, 0x03]);
    ep.mmio_u32(12, 0x1234_0000);
    assert_eq!(ep.ask_state().msix.unwrap().entries[0].tag, 0x34);

    // What cannot be leaves everything as it is.
    let before = ep.ask_state();
    let reply = ep.ask(Command::SetTph(TphShape {
        offset: Some(0x123),
        ..TphShape::default()
    }));
    assert!(matches!(reply, Reply::Error(_)));
    assert_eq!(ep.ask_state(), before);
}
