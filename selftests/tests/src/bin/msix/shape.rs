// SPDX-License-Identifier: GPL-2.0-only

//! What is refused before the table comes into it: the same as for a table in the capability, with
//! the number of vectors as its size.

use tph_selftests::bench::{self, Bench};
use tph_selftests::module::Gate;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, cpu_persistent, literal, source, StRequest, FAULT_UNTOUCHED};
use tph_selftests::{assert_errno, Errno};
use tph_tests::CPU;
use vfio_bindings::bindings::vfio::VFIO_PCI_MSIX_IRQ_INDEX;

use super::Bed;

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
    assert_eq!(bed.endpoint.entries(), vec![0xff; n]);
    assert_errno!(bed.device.program(0, &[literal(0x100)]), EINVAL);
    for source in [cpu(CPU), literal(1)] {
        assert_errno!(bed.device.program_extended(0, &[source]), EOPNOTSUPP);
    }
    assert_eq!(bed.endpoint.entries(), vec![0xff; n]);
    bed.raise_all("with tags");
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
