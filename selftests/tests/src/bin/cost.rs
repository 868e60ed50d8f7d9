// SPDX-License-Identifier: GPL-2.0-only

//! What TPH costs, in accesses to the device and calls of firmware.

use std::process::ExitCode;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::kstate;
use tph_selftests::module::Gate;
use tph_selftests::tests;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, cpu_persistent, Device};
use tph_tests::{enabled, fill, opened, CPU, OTHER_CPU};

fn accesses(endpoint: &Endpoint, body: impl FnOnce()) -> u64 {
    endpoint.reset_counters();
    body();
    let counters = endpoint.counters();
    assert_eq!(counters.mmio_read + counters.mmio_write, 0);
    counters.config_read + counters.config_write
}

fn cost_of_a_batch(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    let n = endpoint.entries().len() as u16;
    fill(&endpoint, &device);
    let mut worst = 0;
    for index in 0..n {
        for count in 1..=n - index {
            // Every start with a few lengths, and every length from the first two starts.
            if index > 1 && count > 4 && index + count != n {
                continue;
            }
            let cost = accesses(&endpoint, || {
                device
                    .program(index, &vec![cpu(CPU); count.into()])
                    .expect("TPH_ST");
            });
            // Two entries are a dword. Besides: a look before, disable, enable, a look after.
            let dwords = (index + count).div_ceil(2) - index / 2;
            let limit = u64::from(dwords) + 4;
            assert!(cost <= limit, "({index}, {count}): {cost} > {limit}");
            worst = worst.max(cost);
        }
    }
    let whole = accesses(&endpoint, || {
        device
            .program(0, &vec![cpu(OTHER_CPU); n.into()])
            .expect("TPH_ST");
    });
    println!("# {n} entries: {whole} config accesses, at worst {worst}");
}

/// A look before, the write, a look after; and at one entry, if there is one that a reset would
/// have cleared.
fn cost_of_an_enable(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Gate::Safe);
    let enabled = control(StMode::InterruptVector, Requester::Standard);
    // Looks for the capability.
    assert_eq!(device.control(), 0);
    let enable = || accesses(&endpoint, || device.set_control(enabled));
    let cost = enable();
    assert!(cost <= 3, "an empty table: {cost}");
    let whole = fill(&endpoint, &device);
    let disabled = control(StMode::InterruptVector, Requester::Disabled);
    for before in [0, disabled, enabled] {
        device.set_control(before);
        let cost = enable();
        println!("# {before:#x} to {enabled:#x}: {cost} config accesses");
        assert!(cost <= 4, "{before:#x} to {enabled:#x}: {cost}");
        assert_eq!(endpoint.entries(), whole);
    }
    // The mode is changed in a write of its own.
    let disable = accesses(&endpoint, || device.set_control(0));
    assert!(disable <= 4, "{disable}");
}

fn cost_of_reading_the_capability_is_nothing(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    fill(&endpoint, &device);
    let start = device.tph_offset();
    let end = start + PCI_TPH_BASE_SIZEOF as u16 + 2 * endpoint.entries().len() as u16;
    let cost = accesses(&endpoint, || {
        for offset in start..end {
            device.config_byte(offset);
        }
        for offset in (start..end).step_by(4) {
            device.config_dword(offset);
        }
        let mut all = vec![0; (end - start).into()];
        device.read_config(start, &mut all).expect("a read");
    });
    assert_eq!(cost, 0);
}

/// Accesses for each dword of config space.
fn reads(endpoint: &Endpoint, device: &Device) -> Vec<(u64, u64)> {
    (0..PCI_CFG_SPACE_EXP_SIZE as u16)
        .step_by(4)
        .map(|offset| {
            endpoint.reset_counters();
            device.config_dword(offset);
            let counters = endpoint.counters();
            (counters.config_read, counters.config_write)
        })
        .collect()
}

fn cost_of_other_reads_is_that_of_vfio_pci(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let device = endpoint.open();
    let start = usize::from(device.tph_offset()) / 4;
    let stock = reads(&endpoint, &device);
    drop(device);
    let end = start + (PCI_TPH_BASE_SIZEOF as usize + 2 * endpoint.entries().len()) / 4;
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    let ours = reads(&endpoint, &device);
    for (dword, (ours, stock)) in ours.iter().zip(&stock).enumerate() {
        if (start..end).contains(&dword) {
            assert_eq!(*ours, (0, 0), "{:#x}", 4 * dword);
        } else {
            assert_eq!(ours, stock, "{:#x}", 4 * dword);
        }
    }
}

/// One call of firmware for a CPU answers for both kinds of memory and both namespaces, and for
/// all devices below the same host bridge.
fn cost_of_a_second_lookup_is_no_firmware_call(bench: &mut Bench) {
    // Another load has another cache.
    Gate::Unsafe.load();
    Gate::Safe.load();
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Extended);
    let before = kstate::dsm_evaluations();
    let calls = || kstate::dsm_evaluations() - before;

    device.program(0, &[cpu(CPU)]).expect("TPH_ST");
    assert_eq!(calls(), 1, "the first lookup");
    device.program(0, &[cpu(CPU); 8]).expect("TPH_ST");
    device.program(1, &[cpu_persistent(CPU)]).expect("TPH_ST");
    device.program_extended(2, &[cpu(CPU)]).expect("TPH_ST");
    assert_eq!(calls(), 1, "the same CPU");
    device.program(0, &[cpu(OTHER_CPU)]).expect("TPH_ST");
    assert_eq!(calls(), 2, "another CPU");

    drop(device);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    let both = [cpu(CPU), cpu(OTHER_CPU)];
    device.program(0, &both).expect("TPH_ST");
    assert_eq!(calls(), 2, "after another open");

    drop(device);
    let other = bench.take(Gate::Safe, &Want::TABLE);
    let device = other.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &both).expect("TPH_ST");
    assert_eq!(calls(), 2, "another device of the same host bridge");
}

fn main() -> ExitCode {
    harness::run(tests![
        cost_of_a_batch,
        cost_of_an_enable,
        cost_of_reading_the_capability_is_nothing,
        cost_of_other_reads_is_that_of_vfio_pci,
        cost_of_a_second_lookup_is_no_firmware_call,
    ])
}
