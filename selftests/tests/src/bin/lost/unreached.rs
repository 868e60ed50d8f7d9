// SPDX-License-Identifier: GPL-2.0-only

//! Tables that cannot be reached when a device is opened or closed, or when vectors are freed.

use std::rc::Rc;

use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::Fault;
use tph_selftests::root_port;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::cpu;
use tph_tests::bed::Bed;
use tph_tests::CPU;

use super::{agreed, assert_on_with_these_or_none, mmio, ENABLED, HANDFUL, MSIX};

/// A device with the most vectors that there are.
fn pick_most(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_with("hundreds of vectors and an ST table in MSI-X", |traits| {
        traits.in_msix && traits.vectors >= 512
    })
}

pub fn r79_open(bench: &mut Bench) {
    let endpoint = pick_most(bench);
    let count = |endpoint: &Endpoint| {
        endpoint.fault(Fault::MmioAllOnes);
        let mut device = None;
        let count = mmio(endpoint, || device = Some(endpoint.open()));
        drop(device);
        endpoint.fault(Fault::None);
        count
    };
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let stock = count(&endpoint);
    for completer in [root_port::EXTENDED, root_port::NONE] {
        bench::bind(&endpoint, Gate::Safe);
        endpoint.set_root_port(completer);
        let ours = count(&endpoint);
        println!("# open, root port {completer}: {ours} accesses; vfio-pci: {stock}");
        assert!(ours <= stock + HANDFUL, "{ours} accesses");
    }
}

/// With vectors that stay allocated until then, and with such as were freed in vain.
pub fn r79_close(bench: &mut Bench) {
    let endpoint = pick_most(bench);
    let n = endpoint.entries().len();
    let count = |used: bool, free: bool| {
        let device = endpoint.open();
        // Without events: there are not interrupts enough for so many.
        device
            .set_msix(0, &vec![-1; n])
            .expect("SET_IRQS of all vectors");
        if used {
            device.enable(StMode::InterruptVector, Requester::Standard);
            let batch = vec![cpu(CPU); n];
            device.program(0, &batch).expect("TPH_ST of all vectors");
        }
        endpoint.fault(Fault::MmioAllOnes);
        let freed = mmio(&endpoint, || {
            if free {
                device.free_msix();
            }
        });
        let closed = mmio(&endpoint, || drop(device));
        endpoint.fault(Fault::None);
        (freed, closed)
    };
    for free in [false, true] {
        endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
        let stock = count(false, free);
        bench::bind(&endpoint, Gate::Safe);
        let ours = count(true, free);
        println!("# freed before: {free}; SET_IRQS, close: {ours:?}; vfio-pci: {stock:?}");
        assert!(ours.0 <= stock.0 + HANDFUL, "SET_IRQS: {ours:?}");
        assert!(ours.1 <= stock.1 + HANDFUL, "close: {ours:?}");
        let device = endpoint.open();
        endpoint.assert_off("open");
        drop(device);
    }
}

/// A device that no reset by its own function hits: what was not cleared stays.
fn pick_without_reset(bench: &mut Bench) -> Rc<Endpoint> {
    let endpoint = bench.pick_with("an ST table in MSI-X, without FLR", |traits| {
        traits.in_msix && !traits.flr
    });
    policy::bind(&endpoint, Policy::DsSt);
    endpoint
}

/// TPH is on at last, and there was no tag in the table then.
#[track_caller]
fn enabled_without_tags(bed: &Bed, what: &str) {
    bed.device.set_control(ENABLED);
    let now = agreed(bed, what);
    assert_eq!(now.registers.control, ENABLED, "{what}");
    bed.endpoint.assert_tags(&[], what);
    bed.works();
}

pub fn r79_left_behind_before_open(bench: &mut Bench) {
    let endpoint = pick_without_reset(bench);
    for allocated in [false, true] {
        endpoint.bdf.unbind();
        endpoint.leave_tags(endpoint.entries().len() as u16, 0xa5);
        policy::bind(&endpoint, Policy::DsSt);
        endpoint.fault(Fault::MmioAllOnes);
        let device = endpoint.open();
        endpoint.fault(Fault::None);
        let what = format!("left before open, vectors are allocated first: {allocated}");
        if !allocated {
            device.set_control(ENABLED);
            assert_on_with_these_or_none(&endpoint, &[], &what);
            device.set_control(0);
        }
        let bed = Bed::of(endpoint.clone(), device, MSIX);
        enabled_without_tags(&bed, &what);
        drop(bed);
        endpoint.assert_off("close");
    }
}

pub fn r79_freed_in_vain(bench: &mut Bench) {
    let endpoint = pick_without_reset(bench);
    for fault in [Fault::MmioAllOnes, Fault::MmioWritesDropped] {
        for requester in [Requester::Disabled, Requester::Extended] {
            let what = format!("freed in vain, {fault:?}, {requester:?}");
            let bed = Bed::open(endpoint.clone(), MSIX);
            bed.put(StMode::InterruptVector, requester);
            endpoint.fault(fault);
            bed.device.free_msix();
            assert_on_with_these_or_none(&endpoint, &[], &what);
            endpoint.fault(Fault::None);
            bed.allocate_again();
            enabled_without_tags(&bed, &what);
            drop(bed);
            endpoint.assert_off(&what);
        }
    }
}

pub fn r79_closed_in_vain(bench: &mut Bench) {
    let endpoint = pick_without_reset(bench);
    for requester in [Requester::Disabled, Requester::Extended] {
        let what = format!("closed in vain, {requester:?}");
        let bed = Bed::open(endpoint.clone(), MSIX);
        bed.put(StMode::InterruptVector, requester);
        endpoint.fault(Fault::MmioAllOnes);
        drop(bed);
        endpoint.fault(Fault::None);
        endpoint.assert_off(&what);
        let bed = Bed::open(endpoint.clone(), MSIX);
        endpoint.assert_off("open");
        enabled_without_tags(&bed, &what);
        drop(bed);
        endpoint.assert_off("close");
    }
}
