// SPDX-License-Identifier: GPL-2.0-only

//! A tag from the user's request to the device's DMA write.

use std::process::ExitCode;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::Gate;
use tph_selftests::monitor::wait_until;
use tph_selftests::protocol::registers::*;
use tph_selftests::protocol::{Access, Tag, TlpHint};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, literal, Device, Mapping};
use tph_selftests::{skip, tests};
use tph_tests::{st, xst, CPU, OTHER_CPU};

const IOVA: u64 = 0x10_0000;
const PH: u8 = 2;

/// An opened device that may send requests, and memory for it.
fn ready(bench: &mut Bench, gate: Gate) -> (std::rc::Rc<Endpoint>, Device, Mapping) {
    let endpoint = bench.take(gate, &Want::TABLE);
    if !endpoint.is_emulated() {
        skip!("needs the emulated endpoint's DMA engine");
    }
    let device = endpoint.open();
    let command =
        device.config_word(PCI_COMMAND as u16) | (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY) as u16;
    device.set_config(PCI_COMMAND as u16, &command.to_le_bytes());
    let memory = device.map_dma(1, IOVA).expect("memory for DMA");
    (endpoint, device, memory)
}

/// Has the device write `value`, with the hint of an ST entry, and returns that hint.
fn dma_write(
    endpoint: &Endpoint,
    device: &Device,
    memory: &Mapping,
    entry: u16,
    value: u32,
) -> Option<TlpHint> {
    let bar = u32::from(BAR_REGISTERS);
    let mark = endpoint.mark();
    for (register, value) in [
        (ADDRESS_LO, IOVA as u32),
        (ADDRESS_HI, 0),
        (VALUE_LO, value),
        (VALUE_HI, 0),
        (LENGTH, 4),
        (HINT, PH.into()),
        (INDEX, entry.into()),
        (DS_TAG, entry.into()),
        (COMMAND, command::WRITE),
    ] {
        device.set_bar_dword(bar, register, value);
    }
    wait_until(|| device.bar_dword(bar, STATUS) != status::BUSY);
    assert_eq!(device.bar_dword(bar, STATUS), status::DONE);
    assert_eq!(memory.pages.read(0, 4), value.to_le_bytes());
    let mut writes = endpoint
        .log_after(mark)
        .into_iter()
        .filter_map(|entry| match entry.access {
            Access::DmaWrite { hint, .. } => Some(hint),
            _ => None,
        });
    let hint = writes.next().expect("a DMA write");
    assert!(writes.next().is_none());
    hint
}

fn with_tag(tag: Tag) -> Option<TlpHint> {
    Some(TlpHint {
        ph: PH,
        tag: Some(tag),
    })
}

fn r39_tags_arrive_on_the_wire(bench: &mut Bench) {
    for gate in Gate::BOTH {
        let (endpoint, device, memory) = ready(bench, gate);
        assert_eq!(dma_write(&endpoint, &device, &memory, 0, 1), None, "off");

        device.enable(StMode::InterruptVector, Requester::Standard);
        device
            .program(1, &[cpu(CPU), cpu(OTHER_CPU)])
            .expect("TPH_ST");
        for (entry, tag) in [(0, 0), (1, st(CPU)), (2, st(OTHER_CPU)), (3, 0)] {
            let hint = dma_write(&endpoint, &device, &memory, entry, u32::from(entry) + 2);
            assert_eq!(hint, with_tag(Tag::St(tag as u8)), "entry {entry}");
        }

        device.enable(StMode::InterruptVector, Requester::Extended);
        device
            .program_extended(1, &[cpu(CPU), cpu(OTHER_CPU)])
            .expect("TPH_ST");
        for (entry, tag) in [(1, xst(CPU)), (2, xst(OTHER_CPU))] {
            let hint = dma_write(&endpoint, &device, &memory, entry, u32::from(entry) + 8);
            assert_eq!(hint, with_tag(Tag::Xst(tag)), "entry {entry}");
        }

        device.enable(StMode::NoSt, Requester::Standard);
        let hint = dma_write(&endpoint, &device, &memory, 1, 16);
        assert_eq!(hint, Some(TlpHint { ph: PH, tag: None }), "No ST");
        device.set_control(0);
        assert_eq!(dma_write(&endpoint, &device, &memory, 1, 17), None, "off");
        drop(device);
        bench.next_round();
    }
}

fn r39_literals_arrive_on_the_wire(bench: &mut Bench) {
    let (endpoint, device, memory) = ready(bench, Gate::Unsafe);
    bench::bind(&endpoint, Gate::Unsafe);
    for mode in [StMode::InterruptVector, StMode::DeviceSpecific] {
        device.enable(mode, Requester::Extended);
        device
            .program_extended(5, &[literal(0xbeef)])
            .expect("TPH_ST");
        let hint = dma_write(&endpoint, &device, &memory, 5, 0x100 + mode as u32);
        assert_eq!(hint, with_tag(Tag::Xst(0xbeef)), "{mode:?}");
    }
}

fn r46_no_tag_on_the_wire_after_a_reset(bench: &mut Bench) {
    let (endpoint, device, memory) = ready(bench, Gate::Safe);
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &[cpu(CPU)]).expect("TPH_ST");
    let hint = dma_write(&endpoint, &device, &memory, 0, 1);
    assert_eq!(hint, with_tag(Tag::St(st(CPU) as u8)));
    device.reset().expect("a reset");
    let command = (PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY) as u16;
    device.set_config(PCI_COMMAND as u16, &command.to_le_bytes());
    assert_eq!(dma_write(&endpoint, &device, &memory, 0, 2), None);
}

fn main() -> ExitCode {
    harness::run(tests![
        r39_tags_arrive_on_the_wire,
        r39_literals_arrive_on_the_wire,
        r46_no_tag_on_the_wire_after_a_reset,
    ])
}
