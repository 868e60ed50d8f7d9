// SPDX-License-Identifier: GPL-2.0-only

//! What TPH costs, in accesses to the device and calls of firmware, where `bench` does not look: of
//! batches from every entry, of an enable, of other devices of a host bridge.

use std::process::ExitCode;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::kernel;
use tph_selftests::kstate;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::protocol::Counters;
use tph_selftests::tests;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, cpu_persistent};
use tph_tests::{each_table, enabled, enabled_as, fill, opened, CPU, OTHER_CPU};

fn accesses(endpoint: &Endpoint, body: impl FnOnce()) -> u64 {
    let counters = endpoint.counted(body);
    assert_eq!(counters.mmio(), 0);
    counters.config()
}

/// Fails the test if a batch of `count` entries from `index` took too many accesses.
fn assert_few(want: &Want, index: u16, count: u16, counters: &Counters) {
    let (n, config, mmio) = (u64::from(count), counters.config(), counters.mmio());
    let what = format!("({index}, {count}): {config} of config space, {mmio} of BARs");
    if !want.in_msix {
        // Two entries are a dword. Besides: a look before, disable, enable, a look after.
        let dwords = (index + count).div_ceil(2) - index / 2;
        assert!(config <= u64::from(dwords) + 4 && mmio == 0, "{what}");
        return;
    }
    // pcie_tph_set_st_entry() takes five and two. Besides: a look before, whether the table is
    // decoded, what was in force put back, a look after; whether the first tag, and then the last
    // one, has arrived.
    assert!(config <= 5 * n + 5 && mmio <= 2 * n + 2, "{what}");
    if kernel::has("pci_msix_write_tph_tags") {
        // A write for each vector. Besides: the same, disabled before, one read after the writes.
        assert!(config + mmio <= n + 6, "{what}");
    }
}

fn r39_r40_accesses_of_a_batch(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Safe, Requester::Standard);
        let n = endpoint.entries().len() as u16;
        fill(&endpoint, &device);
        for index in 0..n {
            for count in 1..=n - index {
                // Every start with a few lengths, and every length from the first two starts.
                if index > 1 && count > 4 && index + count != n {
                    continue;
                }
                let sources = vec![cpu(CPU); count.into()];
                let counters = endpoint.counted(|| {
                    device.program(index, &sources).expect("TPH_ST");
                });
                assert_few(want, index, count, &counters);
            }
        }
    });
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

/// One call of firmware for a CPU answers for both kinds of memory and both namespaces, and for
/// all devices below the same host bridge.
fn cost_of_a_second_lookup_is_no_firmware_call(bench: &mut Bench) {
    // Another load has another cache.
    module::remove(VFIO_TPH);
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
        r39_r40_accesses_of_a_batch,
        cost_of_an_enable,
        cost_of_a_second_lookup_is_no_firmware_call,
    ])
}
