// SPDX-License-Identifier: GPL-2.0-only

//! What is refused before the table comes into it: the same as for a table in the capability, with
//! the number of vectors as its size.

use tph_selftests::bench::{self, Bench};
use tph_selftests::cpus;
use tph_selftests::firmware::CPUS;
use tph_selftests::kstate;
use tph_selftests::module::Gate;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{
    cpu, cpu_persistent, literal, source, Source, StRequest, FAULT_UNTOUCHED,
};
use tph_selftests::{assert_errno, Errno};
use tph_tests::{assert_refused_unless_enabled, st, tag, CPU, OTHER_CPU};
use vfio_bindings::bindings::vfio::VFIO_PCI_MSIX_IRQ_INDEX;

use super::Bed;

pub fn r5_index_and_count(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Standard);
    let n = bed.count();
    let offer = bed.device.tph().expect("GET of TPH");
    assert_eq!(offer.st_entries, n);
    let location = offer.flags & (VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_ST_MSIX);
    assert_eq!(location, VFIO_TPH_FLAG_ST_MSIX, "{offer:x?}");
    let request = |index, count: u16| StRequest::new(index, &vec![literal(5); count.into()]);

    for (index, count) in [
        (0xffff, 1),
        (0, 0xffff),
        (0xffff, 0xffff),
        (n - 1, 2),
        (n, 1),
        (0, n + 1),
        (1, n),
        (0, 0),
        (n, 0),
    ] {
        let mut request = request(index, count);
        let result = bed.device.tph_st(&mut request);
        assert_errno!(result, EINVAL, "{count} from {index}");
        assert_eq!(request.fault, FAULT_UNTOUCHED);
    }
    assert!(bed.endpoint.tags().iter().all(|&tag| tag == 0));
    for (index, count) in [(0, n), (n - 1, 1)] {
        let result = bed.device.tph_st(&mut request(index, count));
        assert_eq!(result, Ok(()), "{count} from {index}");
    }
}

/// In all of Control's states in which no tag is used.
pub fn r34_not_enabled(bench: &mut Bench) {
    for gate in Gate::BOTH {
        let bed = Bed::off(bench, gate);
        assert_refused_unless_enabled(&bed.device);
        assert_eq!(bed.endpoint.tags()[0], st(CPU), "what was programmed stays");
        drop(bed);
        bench.next_round();
    }
}

pub fn r35_extended_while_standard_is_enabled(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Safe, Requester::Standard);
    let mut request = StRequest::new(0, &[cpu(CPU)]).extended();
    assert_errno!(bed.device.tph_st(&mut request), EOPNOTSUPP);
    assert_eq!(request.fault, FAULT_UNTOUCHED);
    bed.device
        .enable(StMode::InterruptVector, Requester::Extended);
    bed.device.program(0, &[cpu(CPU)]).expect("a standard tag");
    assert_eq!(bed.endpoint.tags()[0], st(CPU));
}

pub fn r35_device_without_extended(bench: &mut Bench) {
    let endpoint = bench.pick_with("an ST table in MSI-X, without extended TPH", |traits| {
        traits.in_msix && !traits.extended
    });
    bench::bind(&endpoint, Gate::Unsafe);
    let bed = Bed::open(endpoint);
    let offer = bed.device.tph().expect("GET of TPH");
    assert_eq!(offer.flags & VFIO_TPH_FLAG_EXTENDED, 0, "{offer:x?}");
    bed.device
        .set_control(control(StMode::InterruptVector, Requester::Extended));
    assert_eq!(
        bed.device.control(),
        control(StMode::InterruptVector, Requester::Standard)
    );
    let n = usize::from(bed.count());
    bed.device
        .program(0, &vec![literal(0xff); n])
        .expect("standard tags");
    assert_eq!(bed.endpoint.tags(), vec![0xff; n]);
    assert_errno!(bed.device.program(0, &[literal(0x100)]), EINVAL);
    for source in [cpu(CPU), literal(1)] {
        assert_errno!(bed.device.program_extended(0, &[source]), EOPNOTSUPP);
    }
    assert_eq!(bed.endpoint.tags(), vec![0xff; n]);
    bed.raise_all("with tags");
}

fn answers() -> Vec<(Source, bool, Option<u16>)> {
    (0..cpus::present())
        .zip(CPUS)
        .flat_map(|(number, answer)| {
            [
                (cpu(number), answer.volatile),
                (cpu_persistent(number), answer.persistent),
            ]
        })
        .flat_map(|(source, tags)| [false, true].map(|e| (source, e, tag(&tags, e))))
        .collect()
}

fn program(bed: &Bed, source: Source, extended: bool) -> Result<(), Errno> {
    match extended {
        false => bed.device.program(0, &[source]),
        true => bed.device.program_extended(0, &[source]),
    }
}

pub fn r36_the_namespaces_are_independent(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Safe, Requester::Extended);
    for (source, extended, tag) in answers() {
        let Some(tag) = tag else { continue };
        program(&bed, source, extended).unwrap_or_else(|e| panic!("{source:?}: {e}"));
        assert_eq!(bed.endpoint.tags()[0], tag, "{source:?}, {extended}");
    }
}

pub fn r37_cpu_that_cannot_be(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Safe, Requester::Extended);
    let calls = kstate::dsm_evaluations();
    for number in [cpus::possible(), 4096, 1 << 31, u32::MAX] {
        for extended in [false, true] {
            let result = program(&bed, cpu(number), extended);
            assert_errno!(result, EINVAL, "CPU {number}");
        }
    }
    assert_eq!(kstate::dsm_evaluations(), calls, "firmware was asked");
    assert!(bed.endpoint.tags().iter().all(|&tag| tag == 0));
}

pub fn r38_firmware_marks_a_tag_invalid(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Safe, Requester::Extended);
    bed.device.program(0, &[cpu(OTHER_CPU)]).expect("TPH_ST");
    let mut seen = 0;
    for (source, extended, tag) in answers() {
        if tag.is_none() {
            let result = program(&bed, source, extended);
            assert_errno!(result, EOPNOTSUPP, "{source:?}, extended: {extended}");
            assert_eq!(bed.endpoint.tags()[0], st(OTHER_CPU));
            seen += 1;
        }
    }
    assert!(seen > 0, "no CPU has an invalid tag");
}

/// A vector that is not allocated comes last: all other faults win over it.
pub fn r40_order_of_checks(bench: &mut Bench) {
    let bed = Bed::off(bench, Gate::Safe);
    let device = &bed.device;
    device.free_irqs(VFIO_PCI_MSIX_IRQ_INDEX).expect("SET_IRQS");
    let n = bed.count();

    device.enable(StMode::InterruptVector, Requester::Standard);
    let mut beyond = StRequest::new(n, &[cpu(CPU)]);
    assert_errno!(device.tph_st(&mut beyond), EINVAL, "beyond the table");
    let extended = device.program_extended(0, &[cpu(CPU)]);
    assert_errno!(extended, EOPNOTSUPP, "extended at 01b");
    for (source, errno) in [
        (source(4, 0, 0), Errno::EINVAL),
        (literal(0x1ff), Errno::EINVAL),
        (literal(1), Errno::EPERM),
        (cpu(u32::MAX), Errno::EINVAL),
        (cpu_persistent(3), Errno::EOPNOTSUPP),
    ] {
        let mut request = StRequest::new(0, &[cpu(CPU), source]);
        assert_eq!(device.tph_st(&mut request), Err(errno), "{source:?}");
        assert_eq!(request.fault, 1, "{source:?}");
    }
    let mut request = StRequest::new(0, &[cpu(CPU)]);
    assert_errno!(device.tph_st(&mut request), ENXIO);
    assert_eq!(request.fault, FAULT_UNTOUCHED);
}
