// SPDX-License-Identifier: GPL-2.0-only

//! Batches: all of one or nothing, on vectors that are allocated, whose interrupts go on working.

use std::os::fd::AsRawFd;

use nix::sys::eventfd::EventFd;
use tph_selftests::assert_errno;
use tph_selftests::bench::{self, Bench};
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::module::Gate;
use tph_selftests::protocol::{Fault, Tag};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{
    cpu, cpu_persistent, literal, none, source, Device, Source, StRequest, Vectors, FAULT_UNTOUCHED,
};
use tph_selftests::Errno;
use tph_tests::{st, xst, CPU, OTHER_CPU};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_MSIX_IRQ_INDEX,
};

use super::{pick, Bed, VECTORS};

/// Sources that are refused whatever the policy.
fn bad() -> [(Source, Errno); 4] {
    [
        (source(4, 0, 0), Errno::EINVAL),
        (source(VFIO_TPH_SOURCE_NONE, 0, 1), Errno::EINVAL),
        (cpu(u32::MAX), Errno::EINVAL),
        (cpu_persistent(3), Errno::EOPNOTSUPP),
    ]
}

pub fn r3_a_batch_is_all_or_nothing(bench: &mut Bench) {
    for gate in Gate::BOTH {
        let bed = Bed::new(bench, gate, Requester::Standard);
        let n = usize::from(bed.count());
        let filling = vec![cpu(OTHER_CPU); n];
        bed.device.program(0, &filling).expect("TPH_ST");
        let before = (bed.endpoint.state().msix, bed.endpoint.control());
        for (bad, errno) in bad() {
            for position in 0..n {
                let mut sources = vec![cpu(CPU); n];
                sources[position] = bad;
                let mut request = StRequest::new(0, &sources);
                let result = bed.device.tph_st(&mut request);
                assert_eq!(result, Err(errno), "{bad:?} at {position}");
                assert_eq!(request.fault, position as u32, "{bad:?}");
                let after = (bed.endpoint.state().msix, bed.endpoint.control());
                assert_eq!(after, before, "{bad:?} at {position}");
            }
        }
        drop(bed);
        bench.next_round();
    }
}

pub fn r4_no_access_for_a_refused_batch(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Standard);
    bed.endpoint.reset_counters();
    let n = usize::from(bed.count());
    for (bad, _) in bad() {
        for position in 0..n {
            let mut sources = vec![literal(0x42); n];
            sources[position] = bad;
            bed.device.program(0, &sources).expect_err("a bad source");
        }
    }
    let counters = bed.endpoint.counters();
    let accesses = (
        counters.config_write,
        counters.mmio_read,
        counters.mmio_write,
    );
    assert_eq!(accesses, (0, 0, 0), "{counters:?}");
}

pub fn r40_every_vector_interrupts_before_and_after(bench: &mut Bench) {
    for gate in Gate::BOTH {
        let bed = Bed::new(bench, gate, Requester::Extended);
        let n = usize::from(bed.count());
        bed.raise_all("before");
        let sources = vec![cpu(CPU); n];
        bed.device.program(0, &sources).expect("standard tags");
        bed.raise_all("with standard tags");
        bed.device
            .program_extended(0, &sources)
            .expect("extended tags");
        bed.raise_all("with extended tags");
        assert_eq!(bed.endpoint.tags(), vec![xst(CPU); n]);
        bed.device.program(0, &vec![none(); n]).expect("no tags");
        bed.raise_all("with no tags");
        assert_eq!(bed.endpoint.tags(), vec![0; n]);
        drop(bed);
        bench.next_round();
    }
}

pub fn r40_tags_are_on_the_wire(bench: &mut Bench) {
    const IOVA: u64 = 0x10_0000;
    for (requester, extended) in [(Requester::Standard, false), (Requester::Extended, true)] {
        let bed = Bed::new(bench, Gate::Unsafe, requester);
        let memory = bed.device.map_dma(1, IOVA).expect("memory for DMA");
        let sources = bed.distinct();
        match extended {
            false => bed.device.program(0, &sources),
            true => bed.device.program_extended(0, &sources),
        }
        .expect("TPH_ST");
        let engine = Engine::new(&bed.device);
        for vector in 0..bed.count() {
            let value = 0x1122_3344_5566_7700 + u64::from(vector);
            let hint = engine.write(IOVA, value, 2, TagFrom::Vector(vector));
            let tag = match extended {
                false => Tag::St(vector as u8 + 1),
                true => Tag::Xst(vector + 1),
            };
            let hint = hint.expect("a hint");
            assert_eq!((hint.tag, hint.ph), (Some(tag), 2), "vector {vector}");
            assert_eq!(memory.pages.read(0, 8), value.to_le_bytes());
        }
        drop(bed);
        bench.next_round();
    }
}

pub fn r40_ranges(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Extended);
    let n = bed.count();
    for (index, count) in [
        (0, 1),
        (n - 1, 1),
        (1, 1),
        (0, n),
        (1, n - 1),
        (0, n - 1),
        (n / 2 - 1, 3),
        (3, 5),
        (n - 7, 7),
    ] {
        let mut expected = bed.fill();
        let sources: Vec<Source> = (0..count)
            .map(|position| literal(0x8000 + u32::from(position)))
            .collect();
        bed.device
            .program_extended(index, &sources)
            .unwrap_or_else(|error| panic!("{count} from {index}: {error}"));
        for position in 0..count {
            expected[usize::from(index + position)] = 0x8000 + position;
        }
        assert_eq!(bed.endpoint.tags(), expected, "{count} from {index}");
        bed.endpoint.assert_kernel_agrees();
    }
    bed.raise_all("after all ranges");
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
    let bed = Bed {
        endpoint,
        device,
        vectors,
    };

    let sources: Vec<Source> = (1..=MOST).map(|tag| literal(tag.into())).collect();
    bed.raise_all("before");
    bed.device
        .program_extended(0, &sources)
        .expect("TPH_ST of 2048 vectors");
    let expected: Vec<u16> = (1..=MOST).collect();
    assert!(bed.endpoint.tags() == expected, "not what was asked for");
    bed.raise_all("with 2048 tags");
    assert!(bed.endpoint.tags() == expected, "changed by interrupts");
    bed.device
        .program(0, &vec![none(); MOST.into()])
        .expect("TPH_ST of 2048 vectors");
    assert!(bed.endpoint.tags().iter().all(|&tag| tag == 0));
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
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Extended);
    let tags = bed.fill();
    for round in 0..3 {
        bed.raise_all("with tags");
        assert_eq!(bed.endpoint.tags(), tags, "round {round}");
    }
}

pub fn r40_tags_survive_mask_and_unmask(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Extended);
    let tags = bed.fill();
    for round in 0..3 {
        bed.mask_and_unmask();
        assert_eq!(bed.endpoint.tags(), tags, "round {round}");
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
    assert_eq!(bed.endpoint.tags(), tags);
}

pub fn r40_tags_survive_more_vectors(bench: &mut Bench) {
    let endpoint = pick(bench, VECTORS);
    bench::bind(&endpoint, Gate::Unsafe);
    let device = endpoint.open();
    let few = Vectors::allocate(&device, 4).expect("SET_IRQS");
    device.enable(StMode::InterruptVector, Requester::Extended);
    let sources: Vec<Source> = (1..=4).map(literal).collect();
    device.program_extended(0, &sources).expect("TPH_ST");
    let before = endpoint.tags();

    let all = Vectors::allocate(&device, VECTORS.into()).expect("SET_IRQS of more");
    drop(few);
    assert_eq!(endpoint.tags(), before, "after more vectors");
    assert_eq!(
        device.control(),
        control(StMode::InterruptVector, Requester::Extended)
    );
    let bed = Bed {
        endpoint,
        device,
        vectors: all,
    };
    bed.raise_all("with more vectors");
    bed.device
        .program_extended(VECTORS - 1, &[literal(0x77)])
        .expect("a new vector");
    assert_eq!(bed.endpoint.tags()[usize::from(VECTORS) - 1], 0x77);
    assert_eq!(bed.endpoint.tags()[..4], before[..4]);
}

pub fn r40_a_masked_vector_is_programmed(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Extended);
    let none = vec![-1; usize::from(bed.count())];
    bed.device.set_msix(0, &none).expect("no events");
    assert!(bed.masked().iter().all(|&masked| masked));
    let tags = bed.fill();
    assert!(bed.masked().iter().all(|&masked| masked));
    bed.device
        .set_msix(0, &bed.vectors.descriptors())
        .expect("events again");
    assert_eq!(bed.endpoint.tags(), tags, "unmasked");
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
    Bed {
        endpoint,
        device,
        vectors,
    }
}

pub fn r40_unallocated_vector(bench: &mut Bench) {
    const ALLOCATED: u16 = 5;
    let bed = with_few(bench, ALLOCATED.into());
    let n = bed.endpoint.tags().len() as u16;
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
    bed.device
        .free_irqs(VFIO_PCI_MSIX_IRQ_INDEX)
        .expect("SET_IRQS");
    let n = bed.endpoint.tags().len() as u16;
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
    assert_eq!(bed.endpoint.tags()[..10], [7, 7, 7, 7, 0, 0, 0, 0, 9, 0]);
}

/// The device stops after each number of accesses that a batch takes.
pub fn r41_stops_in_a_batch(bench: &mut Bench) {
    const SOURCES: [u32; 3] = [0x11, 0x22, 0x33];
    let sources = SOURCES.map(literal);
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Standard);
    bed.endpoint.reset_counters();
    bed.device.program(1, &sources).expect("TPH_ST");
    let counters = bed.endpoint.counters();
    let accesses =
        counters.config_read + counters.config_write + counters.mmio_read + counters.mmio_write;

    for before_fault in 0..=accesses {
        let what = format!("stopped after {before_fault} of {accesses} accesses");
        bed.endpoint.fault(Fault::StopAfter {
            accesses: before_fault,
        });
        let result = bed.device.program(1, &sources);
        if before_fault == accesses {
            assert_eq!(result, Ok(()), "{what}");
        } else {
            assert_eq!(result, Err(Errno::EIO), "{what}");
            let kernel = bed.endpoint.kernel();
            let off = !kernel.tph_enabled && kernel.tph_mode == 0 && kernel.tph_req_type == 0;
            assert!(off, "{what}: {kernel:?}");
        }
        bed.endpoint.fault(Fault::None);
        bed.device
            .reset()
            .unwrap_or_else(|error| panic!("{what}: a reset afterwards: {error}"));
        bed.endpoint.assert_msix_off(&what);
        bed.device
            .enable(StMode::InterruptVector, Requester::Standard);
        bed.mask_and_unmask();
        assert!(bed.endpoint.tags().iter().all(|&tag| tag == 0), "{what}");
        bed.device
            .program(0, &[cpu(CPU)])
            .unwrap_or_else(|error| panic!("{what}: TPH_ST afterwards: {error}"));
        assert_eq!(bed.endpoint.tags()[0], st(CPU), "{what}");
        bed.device.program(0, &[none()]).expect("TPH_ST");
    }
    bed.raise_all("after the last fault");
}

pub fn r42_control_is_as_before(bench: &mut Bench) {
    let bed = Bed::off(bench, Gate::Unsafe);
    for mode in [StMode::InterruptVector, StMode::DeviceSpecific] {
        for requester in [Requester::Standard, Requester::Extended] {
            bed.device.enable(mode, requester);
            let expected = control(mode, requester);
            for (count, refused) in [(1, false), (bed.count(), false), (2, true)] {
                let mut sources = vec![cpu(CPU); count.into()];
                if refused {
                    sources[1] = cpu(u32::MAX);
                }
                let result = bed.device.program(0, &sources);
                assert_eq!(result.is_err(), refused, "{mode:?}, {requester:?}");
                assert_eq!(bed.endpoint.control(), expected, "{mode:?}, {requester:?}");
                assert_eq!(bed.device.control(), expected, "{mode:?}, {requester:?}");
                bed.endpoint.assert_kernel_agrees();
            }
            bed.device.enable(mode, Requester::Disabled);
        }
    }
}
