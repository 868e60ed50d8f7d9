// SPDX-License-Identifier: GPL-2.0-only

//! When tags in MSI-X are cleared: at open, at close, by resets, with the vectors that they are of.

use std::rc::Rc;

use tph_selftests::assert_errno;
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::memory::page_size;
use tph_selftests::module::Gate;
use tph_selftests::msix::Traits;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::registers::{MSIX_ENTRY, MSIX_VECTOR_CONTROL};
use tph_selftests::protocol::Fault;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, Vectors};
use tph_tests::bed::Bed;
use tph_tests::{fill, st, CPU, OTHER_CPU};
use vfio_bindings::bindings::vfio::VFIO_PCI_BAR0_REGION_INDEX;

use super::{enabled, fill_distinct, in_use, open_in_use, pick, VECTORS};

pub const IN_FORCE: u32 = control(StMode::InterruptVector, Requester::Extended);

/// A device that no reset by its own function hits: without FLR, and not alone on its bus.
fn pick_without_flr(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_with("an ST table in MSI-X, without FLR", |traits| {
        traits.in_msix && !traits.flr
    })
}

/// Tags that the user has put into the table without a call, where the policy, or hidden TPH, lets
/// users map it.
fn close_after_a_mapping(endpoint: &Endpoint, policy: Policy, allocated: u32, late: bool) {
    policy::bind(endpoint, policy);
    let device = endpoint.open();
    device.decode_memory(true);
    let allocate = |now: bool| {
        let allocate = || Vectors::allocate(&device, allocated).expect("SET_IRQS");
        (now && allocated != 0).then(allocate)
    };
    let before = allocate(!late);
    let tags = endpoint.entries();
    let table = Traits::of(&endpoint.bdf).expect("TPH").table;
    let start = table - table % page_size() as u64;
    let end = (table + tags.len() as u64 * MSIX_ENTRY).next_multiple_of(page_size() as u64);
    let mapped = device
        .map_bar(VFIO_PCI_BAR0_REGION_INDEX, start..end)
        .expect("the table");
    for vector in 0..tags.len() as u64 {
        let at = table - start + vector * MSIX_ENTRY + MSIX_VECTOR_CONTROL;
        mapped.write(at, mapped.read(at) | (0xa5 << 16));
    }
    assert!(endpoint.entries().iter().all(|&tag| tag == 0xa5));
    // The PCI core takes the tags of those over that are allocated now.
    let after = allocate(late);
    drop((mapped, before, after));
    drop(device);
    let what = format!("close at {policy:?}, {allocated} allocated, late: {late}");
    endpoint.assert_off(&what);
}

pub fn r45_close_after_a_mapping(bench: &mut Bench) {
    bench.each([false, true], |bench, without_reset| {
        let endpoint = match without_reset {
            true => pick_without_flr(bench),
            false => pick(bench, VECTORS),
        };
        for policy in [Policy::DsSt, Policy::Literal] {
            for (allocated, late) in [(0, false), (2, false), (2, true)] {
                close_after_a_mapping(&endpoint, policy, allocated, late);
            }
        }
        // Hidden: the root port takes no tags.
        endpoint.set_root_port(0);
        for late in [false, true] {
            close_after_a_mapping(&endpoint, Policy::IvSt, 2, late);
        }
    });
}

/// No reset takes the tags away.
pub fn r45_close_in_d3hot_without_flr(bench: &mut Bench) {
    bench.each([true, false], |bench, vectors_stay| {
        let endpoint = bench.take(Gate::Safe, &Want::NO_RESET);
        let bed = open_in_use(endpoint.clone());
        bed.device.set_power_state(3);
        if !vectors_stay {
            bed.device.free_msix();
        }
        drop(bed);
        endpoint.assert_off(&format!("close in D3hot, vectors stay: {vectors_stay}"));
        // The PCI core masks vectors whatever the power state.
        if !vectors_stay {
            endpoint.clear_violations();
        }
    });
}

/// A device that comes back after it has stopped answering in the middle of a batch, without a
/// reset: the requester is enabled, and the table may be anything.
pub fn r41_stopped_and_closed_without_flr(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::NO_RESET);
    let bed = Bed::with_all_vectors(endpoint.clone());
    bed.device
        .enable(StMode::InterruptVector, Requester::Standard);
    let program = || bed.device.program(0, &[cpu(CPU); 4]).expect("TPH_ST");
    let all = endpoint.counted(program).accesses();
    drop(bed);
    for accesses in [0, 1, 3, all / 2, all - 1] {
        for how in ["close", "a write to Control", "SET_IRQS"] {
            let bed = open_in_use(endpoint.clone());
            endpoint.fault(Fault::StopAfter { accesses });
            let stopped = bed.device.program(0, &[cpu(CPU); 4]);
            assert_errno!(stopped, EIO, "{accesses} accesses");
            assert!(!endpoint.kernel().tph_enabled);
            endpoint.fault(Fault::None);
            match how {
                "a write to Control" => {
                    bed.device.set_control(0);
                    assert_eq!(endpoint.control(), 0, "{accesses} accesses");
                    bed.device.set_control(IN_FORCE);
                    assert_eq!(endpoint.control(), IN_FORCE, "{accesses} accesses");
                }
                "SET_IRQS" => {
                    bed.device.free_msix();
                    endpoint.assert_tags(&[], how);
                    assert_eq!(endpoint.control(), 0, "{accesses} accesses");
                }
                _ => (),
            }
            drop(bed);
            endpoint.assert_off(&format!("stopped after {accesses} accesses, {how}"));
        }
    }
}

pub fn r46_r49_reset_without_vectors(bench: &mut Bench) {
    let bed = in_use(bench);
    bed.device.free_msix();
    bed.device.reset().expect("VFIO_DEVICE_RESET");
    bed.endpoint.assert_off("a reset without vectors");
    let vectors = Vectors::allocate(&bed.device, bed.msix().count().into()).expect("SET_IRQS");
    let bed = Bed {
        vectors: Some(vectors),
        ..bed
    };
    bed.assert_off_and_works("a reset without vectors");
}

/// Interrupts are set up anew while tags are in use: as long as no vector is freed, the requester
/// stays enabled, and nothing is written but what vfio-pci writes.
pub fn r49_nothing_is_freed_nothing_is_written(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Unsafe, Requester::Extended);
    fill_distinct(&bed);
    let counters = bed.endpoint.counted(|| bed.mask_and_unmask());
    assert_eq!(
        (counters.tph_read, counters.tph_write),
        (0, 0),
        "{counters:?}"
    );
}

pub fn r49_vectors_freed_and_allocated_again(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Safe, Requester::Extended);
    for round in 0..3 {
        fill(&bed.endpoint, &bed.device);
        bed.device.free_msix();
        bed.endpoint
            .assert_tags(&[], &format!("freed, round {round}"));
        assert_eq!(bed.endpoint.control(), IN_FORCE, "Control is as before");
        bed.allocate_again();
        bed.mask_and_unmask();
        bed.endpoint
            .assert_tags(&[], &format!("new, round {round}"));
        bed.endpoint.assert_kernel_agrees();
    }
    bed.raise_all("afterwards");
}

pub fn r49_fewer_vectors_than_before(bench: &mut Bench) {
    let bed = in_use(bench);
    bed.device.free_msix();
    let events = bed.msix().descriptors();
    bed.device.set_msix(0, &events[..4]).expect("SET_IRQS");
    bed.endpoint.assert_tags(&[], "4 vectors");
    bed.device
        .program(0, &[cpu(CPU); 4])
        .expect("4 vectors of it");
    bed.device.set_msix(0, &events).expect("SET_IRQS");
    bed.endpoint
        .assert_tags(&[st(CPU); 4], "those that came later");
}

/// What could not be reached then must not come into use later.
pub fn r49_freed_with_memory_disabled(bench: &mut Bench) {
    let bed = in_use(bench);
    bed.device.decode_memory(false);
    bed.device.free_msix();
    bed.device.decode_memory(true);
    bed.allocate_again();
    bed.endpoint.assert_tags(&[], "allocated again");
    assert_eq!(bed.endpoint.control(), IN_FORCE, "Control is as before");
    bed.mask_and_unmask();
    bed.endpoint.assert_tags(&[], "mask and unmask");
    bed.device.program(0, &[cpu(CPU)]).expect("TPH_ST");
}

/// The same of a device that takes no access at all in D3hot, and keeps what it has there.
pub fn r49_freed_in_d3hot(bench: &mut Bench) {
    let endpoint = bench.pick_with("an ST table in MSI-X and No_Soft_Reset", |traits| {
        traits.in_msix && traits.extended && traits.no_soft_reset
    });
    bench::bind(&endpoint, Gate::Safe);
    let bed = open_in_use(endpoint);
    bed.device.set_power_state(3);
    bed.device.free_msix();
    // The PCI core masks vectors whatever the power state.
    bed.endpoint.clear_violations();
    let n = usize::from(bed.msix().count());
    assert_eq!(
        bed.endpoint.entries(),
        vec![st(OTHER_CPU); n],
        "out of reach"
    );
    bed.device.set_power_state(0);
    bed.endpoint.assert_tags(&[], "in D0 again");
    assert_eq!(bed.endpoint.control(), IN_FORCE, "Control is as before");
    bed.allocate_again();
    bed.endpoint.assert_tags(&[], "allocated again");
    bed.mask_and_unmask();
    bed.endpoint.assert_tags(&[], "mask and unmask");
    bed.endpoint.assert_kernel_agrees();
    bed.device.set_control(IN_FORCE);
    bed.device.program(0, &[cpu(CPU)]).expect("TPH_ST");
    bed.raise_all("afterwards");
}

/// The table is not touched while the requester is enabled: the endpoint would say so.
pub fn r49_freed_while_enabled(bench: &mut Bench) {
    bench.each(Requester::ALL, |bench, requester| {
        let bed = in_use(bench);
        bed.device.enable(StMode::InterruptVector, requester);
        bed.device.free_msix();
        let expected = control(StMode::InterruptVector, requester);
        assert_eq!(bed.endpoint.control(), expected, "{requester:?}");
        bed.endpoint.assert_tags(&[], "freed");
    });
}
