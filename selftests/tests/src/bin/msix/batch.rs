// SPDX-License-Identifier: GPL-2.0-only

//! Batches: all of one or nothing, on vectors that are allocated, whose interrupts go on working.

use std::os::fd::AsRawFd;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tph_selftests::assert_errno;
use tph_selftests::bench::{self, Bench};
use tph_selftests::engine::Engine;
use tph_selftests::module::Gate;
use tph_selftests::monitor::wait_until;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{
    cpu, literal, none, Device, Source, StRequest, Vectors, FAULT_UNTOUCHED,
};
use tph_selftests::Errno;
use tph_tests::bed::Bed;
use tph_tests::{xst, CPU};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_MSIX_IRQ_INDEX,
};

use super::{enabled, fill_distinct, masked, pick, VECTORS};

pub fn r40_every_vector_interrupts_before_and_after(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let bed = enabled(bench, gate, Requester::Extended);
        let n = usize::from(bed.msix().count());
        bed.raise_all("before");
        let sources = vec![cpu(CPU); n];
        bed.device.program(0, &sources).expect("standard tags");
        bed.raise_all("with standard tags");
        bed.device
            .program_extended(0, &sources)
            .expect("extended tags");
        bed.raise_all("with extended tags");
        assert_eq!(bed.endpoint.entries(), vec![xst(CPU); n]);
        bed.device.program(0, &vec![none(); n]).expect("no tags");
        bed.raise_all("with no tags");
        assert_eq!(bed.endpoint.entries(), vec![0; n]);
    });
}

/// All vectors of a device that has as many as there can be, in one batch. Where the machine has
/// too few interrupts, some of the vectors are without an event, but allocated.
pub fn r40_as_many_vectors_as_can_be(bench: &mut Bench) {
    const MOST: u16 = 2048;
    let endpoint = pick(bench, MOST);
    bench::bind(&endpoint, Gate::Unsafe);
    let device = endpoint.open();
    let vectors = allocate_most(&device, MOST.into());
    println!(
        "# {MOST} vectors, {} of them with an event",
        vectors.count()
    );
    device.enable(StMode::InterruptVector, Requester::Extended);
    let bed = Bed::with(endpoint, device, Some(vectors));

    let sources: Vec<Source> = (1..=MOST).map(|tag| literal(tag.into())).collect();
    bed.raise_all("before");
    bed.device
        .program_extended(0, &sources)
        .expect("TPH_ST of 2048 vectors");
    let expected: Vec<u16> = (1..=MOST).collect();
    assert!(bed.endpoint.entries() == expected, "not what was asked for");
    bed.raise_all("with 2048 tags");
    assert!(bed.endpoint.entries() == expected, "changed by interrupts");
    bed.device
        .program(0, &vec![none(); MOST.into()])
        .expect("TPH_ST of 2048 vectors");
    bed.endpoint.assert_tags(&[], "no tags");
    bed.raise_all("with no tags");
}

fn allocate_most(device: &Device, most: u32) -> Vectors {
    let mut events = most;
    loop {
        match Vectors::allocate_more(device, events, most - events) {
            Ok(vectors) => return vectors,
            Err(Errno::ENOSPC | Errno::ENOMEM) if events > 64 => {
                events -= 64;
                // vfio may have allocated vectors, or none.
                let _ = device.free_irqs(VFIO_PCI_MSIX_IRQ_INDEX);
            }
            Err(error) => panic!("SET_IRQS of {most} vectors, {events} events: {error}"),
        }
    }
}

pub fn r40_tags_survive_interrupts(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Unsafe, Requester::Extended);
    let tags = fill_distinct(&bed);
    for round in 0..3 {
        bed.raise_all("with tags");
        assert_eq!(bed.endpoint.entries(), tags, "round {round}");
    }
}

pub fn r40_tags_survive_mask_and_unmask(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Unsafe, Requester::Extended);
    let tags = fill_distinct(&bed);
    for round in 0..3 {
        bed.mask_and_unmask();
        assert_eq!(bed.endpoint.entries(), tags, "round {round}");
    }
    // vfio has no mask of its own for MSI-X; should it get one, it belongs here.
    let mask = bed.device.set_irqs_raw(
        VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_DATA_NONE,
        VFIO_PCI_MSIX_IRQ_INDEX,
        0,
        1,
        &[],
    );
    assert_errno!(mask, ENOTTY);
    bed.raise_all("after it");
    assert_eq!(bed.endpoint.entries(), tags);
}

pub fn r40_tags_survive_more_vectors(bench: &mut Bench) {
    let endpoint = pick(bench, VECTORS);
    bench::bind(&endpoint, Gate::Unsafe);
    let device = endpoint.open();
    let few = Vectors::allocate(&device, 4).expect("SET_IRQS");
    device.enable(StMode::InterruptVector, Requester::Extended);
    let sources: Vec<Source> = (1..=4).map(literal).collect();
    device.program_extended(0, &sources).expect("TPH_ST");
    let before = endpoint.entries();

    let all = Vectors::allocate(&device, VECTORS.into()).expect("SET_IRQS of more");
    drop(few);
    assert_eq!(endpoint.entries(), before, "after more vectors");
    assert_eq!(
        device.control(),
        control(StMode::InterruptVector, Requester::Extended)
    );
    let bed = Bed::with(endpoint, device, Some(all));
    bed.raise_all("with more vectors");
    bed.device
        .program_extended(VECTORS - 1, &[literal(0x77)])
        .expect("a new vector");
    assert_eq!(bed.endpoint.entries()[usize::from(VECTORS) - 1], 0x77);
    assert_eq!(bed.endpoint.entries()[..4], before[..4]);
}

/// DPDK asks for all vectors each time: those that it has stay what they are, whatever events they
/// get.
pub fn r40_tags_survive_set_irqs_of_all_again(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Unsafe, Requester::Extended);
    let tags = fill_distinct(&bed);
    let same = bed.msix().descriptors();
    bed.device.set_msix(0, &same).expect("the same again");
    assert_eq!(bed.endpoint.entries(), tags, "the same again");

    let count = u32::from(bed.msix().count());
    let others = Vectors::allocate(&bed.device, count).expect("other events");
    let bed = Bed {
        vectors: Some(others),
        ..bed
    };
    assert_eq!(bed.endpoint.entries(), tags, "other events");
    bed.mask_and_unmask();
    assert_eq!(bed.endpoint.entries(), tags, "what the kernel believes");
    bed.raise_all("with other events");

    // All of them without an event, as between two runs.
    bed.device
        .set_msix(0, &vec![-1; count as usize])
        .expect("no events");
    assert_eq!(bed.endpoint.entries(), tags, "no events");
    bed.device
        .set_msix(0, &bed.msix().descriptors())
        .expect("events");
    assert_eq!(bed.endpoint.entries(), tags, "events again");
    bed.raise_all("with events again");
    assert_eq!(
        bed.device.control(),
        control(StMode::InterruptVector, Requester::Extended)
    );
}

/// QEMU allocates vector 0 without an event when the guest turns MSI-X on, and then one vector a
/// call, as the guest unmasks them. Each call leaves the tags of the others alone.
pub fn r40_vectors_one_a_call(bench: &mut Bench) {
    let endpoint = pick(bench, VECTORS);
    bench::bind(&endpoint, Gate::Unsafe);
    let device = endpoint.open();
    let events: Vec<EventFd> = (0..VECTORS)
        .map(|_| EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("eventfd"))
        .collect();
    device
        .set_msix(0, &[-1])
        .expect("vector 0, without an event");
    device.enable(StMode::InterruptVector, Requester::Extended);
    let mut tags = vec![0; endpoint.entries().len()];
    let engine = Engine::new(&device);
    for vector in (1..VECTORS).chain([0]) {
        let event = events[usize::from(vector)].as_raw_fd();
        device
            .set_msix(vector.into(), &[event])
            .unwrap_or_else(|error| panic!("vector {vector}: {error}"));
        assert_eq!(endpoint.entries(), tags, "vector {vector}, allocated");
        device
            .program_extended(vector, &[literal(u32::from(vector) + 0x100)])
            .unwrap_or_else(|error| panic!("vector {vector}: TPH_ST: {error}"));
        tags[usize::from(vector)] = vector + 0x100;
        assert_eq!(endpoint.entries(), tags, "vector {vector}, programmed");
        engine.interrupt(vector);
        let event = &events[usize::from(vector)];
        wait_until(|| event.read().is_ok());
    }
    // It masks a vector by an event of its own, and by none.
    for fd in [-1, events[3].as_raw_fd()] {
        device.set_msix(3, &[fd]).expect("vector 3");
        assert_eq!(endpoint.entries(), tags, "vector 3, event {fd}");
    }
    endpoint.assert_kernel_agrees();
}

pub fn r40_a_masked_vector_is_programmed(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Unsafe, Requester::Extended);
    let none = vec![-1; usize::from(bed.msix().count())];
    bed.device.set_msix(0, &none).expect("no events");
    assert!(masked(&bed).iter().all(|&masked| masked));
    let tags = fill_distinct(&bed);
    assert!(masked(&bed).iter().all(|&masked| masked));
    bed.device
        .set_msix(0, &bed.msix().descriptors())
        .expect("events again");
    assert_eq!(bed.endpoint.entries(), tags, "unmasked");
    bed.raise_all("unmasked");
}

/// Refused with nothing read or written, whatever of the range it is that is not allocated.
fn refused(bed: &Bed, index: u16, count: u16) {
    let before = bed.endpoint.state().msix;
    bed.endpoint.reset_counters();
    let sources = vec![literal(0x42); count.into()];
    for request in [
        StRequest::new(index, &sources),
        StRequest::new(index, &sources).extended(),
        StRequest::new(index, &vec![none(); count.into()]),
    ] {
        let mut request = request;
        let result = bed.device.tph_st(&mut request);
        assert_errno!(result, ENXIO, "{count} from {index}");
        assert_eq!(request.fault, FAULT_UNTOUCHED, "{count} from {index}");
    }
    let counters = bed.endpoint.counters();
    let accesses = (
        counters.config_write,
        counters.mmio_read,
        counters.mmio_write,
    );
    assert_eq!(accesses, (0, 0, 0), "{count} from {index}: {counters:?}");
    assert_eq!(bed.endpoint.state().msix, before, "{count} from {index}");
    bed.endpoint.assert_kernel_agrees();
}

fn with_few(bench: &mut Bench, count: u32) -> Bed {
    let endpoint = pick(bench, VECTORS);
    bench::bind(&endpoint, Gate::Unsafe);
    let device = endpoint.open();
    let vectors = Vectors::allocate(&device, count).expect("SET_IRQS");
    device.enable(StMode::InterruptVector, Requester::Extended);
    Bed::with(endpoint, device, Some(vectors))
}

pub fn r40_unallocated_vector(bench: &mut Bench) {
    const ALLOCATED: u16 = 5;
    let bed = with_few(bench, ALLOCATED.into());
    let n = bed.endpoint.entries().len() as u16;
    for index in 0..n {
        for count in [1, 2, n / 2, n - index] {
            if index + count > n {
                continue;
            }
            if index + count > ALLOCATED {
                refused(&bed, index, count);
            }
        }
    }
    bed.device
        .program(0, &[literal(1); ALLOCATED as usize])
        .expect("those that are allocated");
    bed.raise_all("afterwards");
}

pub fn r40_no_vectors_at_all(bench: &mut Bench) {
    let bed = with_few(bench, 1);
    bed.device.free_msix();
    let n = bed.endpoint.entries().len() as u16;
    for (index, count) in [(0, 1), (0, n), (n - 1, 1)] {
        refused(&bed, index, count);
    }
}

pub fn r40_vectors_with_gaps(bench: &mut Bench) {
    let bed = with_few(bench, 4);
    let event = EventFd::new().expect("eventfd");
    // vfio allocates a vector beyond the others alone.
    bed.device
        .set_msix(8, &[event.as_raw_fd()])
        .expect("vector 8 alone");
    for (index, count) in [(4, 1), (7, 1), (3, 2), (7, 2), (0, 9), (9, 1)] {
        refused(&bed, index, count);
    }
    bed.device.program(0, &[literal(7); 4]).expect("0 to 3");
    bed.device.program(8, &[literal(9)]).expect("vector 8");
    assert_eq!(bed.endpoint.entries()[..10], [7, 7, 7, 7, 0, 0, 0, 0, 9, 0]);
}
