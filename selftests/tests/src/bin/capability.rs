// SPDX-License-Identifier: GPL-2.0-only

//! The virtual TPH Requester capability: what is read, and what writes do.

use std::process::ExitCode;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::Gate;
use tph_selftests::protocol::{Table, TphShape};
use tph_selftests::root_port;
use tph_selftests::tests;
use tph_selftests::tph::{control, entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, literal, Device, Source};
use tph_tests::{enabled, fill, opened, st, CPU, OTHER_CPU};

const CONTROL: u16 = PCI_TPH_CTRL as u16;

/// The Capability register that the contract asks for.
fn filtered(raw: u32, gate: Gate, extended_path: bool) -> u32 {
    let allowed = match gate {
        Gate::Safe => PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV,
        Gate::Unsafe => PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS,
    };
    let mut value = raw & allowed;
    if value & (PCI_TPH_CAP_ST_IV | PCI_TPH_CAP_ST_DS) != 0 {
        value |= raw & PCI_TPH_CAP_LOC_MASK;
        if raw & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_CAP {
            value |= raw & PCI_TPH_CAP_ST_MASK;
        }
    }
    if extended_path {
        value |= raw & PCI_TPH_CAP_EXT_TPH;
    }
    value
}

/// A sample: the host tests have all combinations.
fn r26_filtered_capability(bench: &mut Bench) {
    let endpoint = bench.pick_where("alone in its IOMMU group", |bdf| {
        Want::TABLE.fits(bdf) && !bdf.shares_group()
    });
    let shape = |table, modes, extended| TphShape {
        table: Some(table),
        extended: Some(extended),
        modes: Some(modes),
        entries: Some(8),
        ..TphShape::default()
    };
    let mut shapes: Vec<TphShape> = (0..8).map(|modes| shape(Table::Cap, modes, true)).collect();
    for table in [Table::None, Table::Msix] {
        shapes.extend([1, 4, 7].map(|modes| shape(table, modes, false)));
    }
    for gate in Gate::BOTH {
        for &shape in &shapes {
            check_filtered(&endpoint, gate, shape, root_port::EXTENDED);
        }
        let shape = shape(Table::Cap, 7, true);
        check_filtered(&endpoint, gate, shape, root_port::STANDARD);
    }
}

fn check_filtered(endpoint: &Endpoint, gate: Gate, shape: TphShape, path: u8) {
    endpoint.retouch(shape);
    endpoint.set_root_port(path);
    bench::bind(endpoint, gate);
    let device = endpoint.open();
    let raw = endpoint.tph().capability;
    let what = format!("{gate:?}, completer {path}, {shape:?}, raw {raw:#x}");

    let shown = device.tph_capability();
    let expected = filtered(raw, gate, path == root_port::EXTENDED);
    // With the table in MSI-X the size field means nothing.
    let size = match raw & PCI_TPH_CAP_LOC_MASK {
        PCI_TPH_LOC_MSIX if expected & PCI_TPH_CAP_LOC_MASK != 0 => PCI_TPH_CAP_ST_MASK,
        _ => 0,
    };
    assert_eq!(shown & !size, expected, "{what}");

    let offer = device
        .tph()
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(u32::from(offer.modes), shown & 7, "{what}: {offer:x?}");
    for (flag, bit) in [
        (VFIO_TPH_FLAG_EXTENDED, shown & PCI_TPH_CAP_EXT_TPH != 0),
        (
            VFIO_TPH_FLAG_ST_CAP,
            shown & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_CAP,
        ),
        (
            VFIO_TPH_FLAG_ST_MSIX,
            shown & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_MSIX,
        ),
    ] {
        assert_eq!(offer.flags & flag != 0, bit, "{what}: {offer:x?}");
    }
}

/// What a write of `bytes` at `offset` of Control makes of `current`, by the contract.
fn judged(current: u32, capability: u32, offset: u16, bytes: &[u8]) -> u32 {
    let mut raw = current.to_le_bytes();
    for (place, byte) in (usize::from(offset)..4).zip(bytes) {
        raw[place] = *byte;
    }
    let value = u32::from_le_bytes(raw);
    let mode = value & PCI_TPH_CTRL_MODE_SEL_MASK;
    let offered = mode < 3 && capability & (1 << mode) != 0;
    let requester = (value & PCI_TPH_CTRL_REQ_EN_MASK) >> 8;
    match requester {
        _ if !offered => current,
        2 => current,
        3 if capability & PCI_TPH_CAP_EXT_TPH == 0 => mode | (1 << 8),
        _ => mode | (requester << 8),
    }
}

/// All states that Control can be in.
fn states(capability: u32) -> Vec<u32> {
    StMode::ALL
        .into_iter()
        .filter(|&mode| capability & (1 << mode as u32) != 0)
        .flat_map(|mode| Requester::ALL.map(|requester| control(mode, requester)))
        .map(|value| judged(0, capability, 0, &value.to_le_bytes()))
        .collect()
}

/// Writes, and compares what is read and what the endpoint holds with what the contract says.
fn write_and_compare(endpoint: &Endpoint, device: &Device, at: u16, offset: u16, bytes: &[u8]) {
    let capability = device.tph_capability();
    let before = device.control();
    let expected = judged(before, capability, offset, bytes);
    device.set_config(at + CONTROL + offset, bytes);
    let what = format!("{bytes:x?} at {offset} over {before:#x}");
    assert_eq!(device.control(), expected, "{what}: read");
    assert_eq!(endpoint.control(), expected, "{what}: held");
}

/// Significant bits in all combinations, with all other bits clear or set.
fn words() -> Vec<u16> {
    let significant = (0..32u16).map(|n| (n & 7) | (n >> 3 << 8));
    [0, 0xfcf8]
        .into_iter()
        .flat_map(|reserved| significant.clone().map(move |value| value | reserved))
        .collect()
}

fn r28_what_is_read_is_in_force(bench: &mut Bench) {
    let paths = [root_port::STANDARD, root_port::EXTENDED];
    let both = Gate::BOTH.map(|gate| paths.map(|path| (gate, path)));
    bench.each(both.concat(), |bench, (gate, path)| {
        let endpoint = bench.take(gate, &Want::TABLE);
        endpoint.set_root_port(path);
        let device = endpoint.open();
        let at = device.tph_offset();
        for state in states(device.tph_capability()) {
            for value in words() {
                device.set_control(state);
                write_and_compare(&endpoint, &device, at, 0, &value.to_le_bytes());
            }
            for byte in 0..=0xff {
                for offset in 0..4 {
                    // Bytes of which no bit matters, by a few values.
                    if offset >= 2 && byte % 0x55 != 0 {
                        continue;
                    }
                    device.set_control(state);
                    write_and_compare(&endpoint, &device, at, offset, &[byte]);
                }
            }
        }
    });
}

fn r28_writes_of_other_widths(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Gate::Unsafe);
    let at = device.tph_offset();
    let values = [
        0x0000u32,
        0x0101,
        0x0302,
        0x0201,
        0x0003,
        0xffff_ffff,
        0xffff_0101,
    ];
    for state in states(device.tph_capability()) {
        for value in values {
            let bytes = value.to_le_bytes();
            for offset in 0..4usize {
                for width in 1..=4 - offset {
                    device.set_control(state);
                    let part = &bytes[offset..offset + width];
                    write_and_compare(&endpoint, &device, at, offset as u16, part);
                }
            }
        }
    }
}

/// One write over the whole capability: of it, Control counts.
fn r28_a_write_that_covers_more(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Unsafe, Requester::Standard);
    let before = fill(&endpoint, &device);
    let at = device.tph_offset();
    let mut bytes = vec![0xff; PCI_TPH_BASE_SIZEOF as usize + 2 * before.len()];
    let value = control(StMode::DeviceSpecific, Requester::Extended);
    bytes[CONTROL.into()..usize::from(CONTROL) + 4].copy_from_slice(&value.to_le_bytes());
    device.set_config(at, &bytes);
    assert_eq!(device.control(), value);
    assert_eq!(endpoint.control(), value);
    assert_eq!(endpoint.entries(), before);
}

/// Two bytes, one at a time: what is in force in between is a state of its own right.
fn r28_byte_by_byte(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Gate::Safe);
    let at = device.tph_offset() + CONTROL;
    // Enable first: the mode in force is No ST, and that is what gets enabled.
    device.set_config(at + 1, &[Requester::Standard as u8]);
    assert_eq!(
        endpoint.control(),
        control(StMode::NoSt, Requester::Standard)
    );
    // A mode that is not on offer, then another try to enable.
    device.set_config(at, &[StMode::DeviceSpecific as u8]);
    assert_eq!(
        endpoint.control(),
        control(StMode::NoSt, Requester::Standard)
    );
    device.set_config(at, &[StMode::InterruptVector as u8]);
    assert_eq!(
        endpoint.control(),
        control(StMode::InterruptVector, Requester::Standard)
    );
    // Nothing is kept for later.
    device.set_config(at, &[7]);
    device.set_control(0);
    device.set_config(at + 1, &[Requester::Standard as u8]);
    assert_eq!(
        endpoint.control(),
        control(StMode::NoSt, Requester::Standard)
    );
}

/// Every write to Control that the endpoint has seen.
fn control_writes(endpoint: &Endpoint, mark: u64) -> Vec<u32> {
    let at = u64::from(endpoint.tph().offset + CONTROL);
    let writes = endpoint.config_writes(mark, at..at + 4).into_iter();
    writes
        .map(|(offset, width, value)| {
            assert_eq!((offset, width), (at, 4), "Control is written whole");
            value as u32
        })
        .collect()
}

fn r27_reserved_enable_never_reaches_hardware(bench: &mut Bench) {
    for gate in Gate::BOTH {
        bench.each([root_port::STANDARD, root_port::EXTENDED], |bench, path| {
            let endpoint = bench.take(gate, &Want::TABLE);
            endpoint.set_root_port(path);
            let mark = endpoint.mark();
            let device = endpoint.open();
            let at = device.tph_offset() + CONTROL;
            for state in states(device.tph_capability()) {
                device.set_control(state);
                for value in words() {
                    device.set_config(at, &value.to_le_bytes());
                }
                for byte in 0..=0xff {
                    device.set_config(at + 1, &[byte]);
                }
            }
            device.reset().expect("a reset");
            drop(device);
            let writes = control_writes(&endpoint, mark);
            assert!(!writes.is_empty());
            for value in writes {
                let requester = (value & PCI_TPH_CTRL_REQ_EN_MASK) >> 8;
                assert_ne!(requester, 2, "{gate:?}: 10b was written");
                assert!(
                    requester != 3 || path == root_port::EXTENDED,
                    "{gate:?}: 11b was written on a path without extended"
                );
            }
        });
    }
}

fn r29_widths_and_alignments_agree(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = enabled(bench, gate, Requester::Extended);
        fill(&endpoint, &device);
        endpoint.reset_counters();
        let whole = device.config_space();
        assert_eq!(whole.len(), PCI_CFG_SPACE_EXP_SIZE as usize);
        let bytes: Vec<u8> = (0..whole.len())
            .map(|offset| device.config_byte(offset as u16))
            .collect();
        assert_eq!(bytes, whole, "byte by byte");
        for offset in 0..whole.len() - 1 {
            let word = device.config_word(offset as u16);
            assert_eq!(word.to_le_bytes(), whole[offset..offset + 2], "{offset:#x}");
        }
        for offset in 0..whole.len() - 3 {
            let dword = device.config_dword(offset as u16);
            assert_eq!(
                dword.to_le_bytes(),
                whole[offset..offset + 4],
                "{offset:#x}"
            );
        }
        // Around the capability, every start with every length.
        let start = usize::from(device.tph_offset());
        for offset in start - 8..start + 32 {
            for length in 1..=40 {
                let mut part = vec![0; length];
                let got = device.read_config(offset as u16, &mut part);
                assert!(
                    matches!(got, Ok(n) if n == length),
                    "{offset:#x} {length}: {got:?}"
                );
                assert_eq!(part, whole[offset..offset + length], "{offset:#x} {length}");
            }
        }
        let counters = endpoint.counters();
        assert_eq!(counters.tph_read, 0, "nothing of it is read: {counters:?}");
    });
}

fn table_as_read(device: &Device, entries: usize) -> Vec<u16> {
    let at = device.tph_offset();
    (0..entries as u16)
        .map(|index| device.config_word(entry_offset(at, index)))
        .collect()
}

fn r30_table_as_read(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = enabled(bench, gate, Requester::Extended);
        fill(&endpoint, &device);
        device.program(3, &[cpu(CPU)]).expect("TPH_ST");
        let held = endpoint.entries();
        assert_eq!(held[3], st(CPU));
        let shown = table_as_read(&device, held.len());
        match gate {
            Gate::Safe => assert!(shown.iter().all(|&tag| tag == 0), "{shown:x?}"),
            Gate::Unsafe => assert_eq!(shown, held),
        }
    });
}

fn r30_extended_tags_as_read(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Unsafe, Requester::Extended);
    let n = endpoint.entries().len();
    let sources: Vec<Source> = (0..n as u32).map(|i| literal(0xff00 - i * 0x101)).collect();
    device.program_extended(0, &sources).expect("TPH_ST");
    assert_eq!(table_as_read(&device, n), endpoint.entries());
    device.set_control(0);
    assert_eq!(
        table_as_read(&device, n),
        endpoint.entries(),
        "also while disabled"
    );
}

fn r30_writes_change_nothing(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = opened(bench, gate);
        let at = device.tph_offset();
        for requester in [Requester::Standard, Requester::Disabled] {
            device.enable(StMode::InterruptVector, Requester::Standard);
            let before = fill(&endpoint, &device);
            device.enable(StMode::InterruptVector, requester);
            let shown = device.config_space();
            endpoint.reset_counters();
            let table = entry_offset(at, 0)..entry_offset(at, before.len() as u16);
            for offset in table.clone() {
                device.set_config(offset, &[0x5a]);
                device.set_config(offset, &[0x00]);
            }
            for offset in table.clone().step_by(2) {
                device.set_config(offset, &[0x5a; 2]);
            }
            for offset in table.clone().step_by(4) {
                device.set_config(offset, &[0xa5; 4]);
            }
            device.set_config(table.start, &vec![0; table.len()]);
            // Header and Capability.
            device.set_config(at, &[0xff; 8]);
            for offset in at..at + 8 {
                device.set_config(offset, &[0]);
            }
            let counters = endpoint.counters();
            assert_eq!(counters.config_write, 0, "{counters:?}");
            assert_eq!(endpoint.entries(), before);
            assert_eq!(device.config_space(), shown);
        }
    });
}

fn r31_mode_change_passes_through_disabled(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = opened(bench, gate);
        let states = states(device.tph_capability());
        for &from in &states {
            for &to in &states {
                device.set_control(from);
                let mark = endpoint.mark();
                device.set_control(to);
                let mut held = from;
                for value in control_writes(&endpoint, mark) {
                    let enabled = |value: u32| value & PCI_TPH_CTRL_REQ_EN_MASK != 0;
                    let mode = |value: u32| value & PCI_TPH_CTRL_MODE_SEL_MASK;
                    assert!(
                        !(enabled(held) && enabled(value) && mode(held) != mode(value)),
                        "{from:#x} to {to:#x}: {held:#x}, then {value:#x}"
                    );
                    held = value;
                }
                assert_eq!(held, to, "from {from:#x}");
            }
        }
    });
}

fn r33_the_kernel_knows_every_state(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = opened(bench, gate);
        endpoint.assert_kernel_agrees();
        let states = states(device.tph_capability());
        for &from in &states {
            for &to in &states {
                device.set_control(from);
                endpoint.assert_kernel_agrees();
                device.set_control(to);
                endpoint.assert_kernel_agrees();
            }
        }
        device.enable(StMode::InterruptVector, Requester::Extended);
        device.program(0, &[cpu(OTHER_CPU)]).expect("TPH_ST");
        endpoint.assert_kernel_agrees();
        device.set_config(device.tph_offset() + CONTROL, &[0xff; 4]);
        endpoint.assert_kernel_agrees();
        device.reset().expect("a reset");
        endpoint.assert_kernel_agrees();
        drop(device);
        endpoint.assert_kernel_agrees();
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r26_filtered_capability,
        r27_reserved_enable_never_reaches_hardware,
        r28_what_is_read_is_in_force,
        r28_writes_of_other_widths,
        r28_a_write_that_covers_more,
        r28_byte_by_byte,
        r29_widths_and_alignments_agree,
        r30_table_as_read,
        r30_extended_tags_as_read,
        r30_writes_change_nothing,
        r31_mode_change_passes_through_disabled,
        r33_the_kernel_knows_every_state,
    ])
}
