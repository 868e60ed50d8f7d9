// SPDX-License-Identifier: GPL-2.0-only

//! TPH_ST to a device that does not decode memory, or sleeps: what is out of reach is not touched.
//! Memory matters to a table in MSI-X, and not to one in the capability.

use tph_selftests::bench::Bench;
use tph_selftests::policy::Policy;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_COMMAND_MEMORY;
use tph_selftests::vfio::{cpu, StRequest, FAULT_UNTOUCHED};
use tph_selftests::Errno;
use tph_tests::bed::{each_in_use, Bed, D0, D3HOT, KINDS};
use tph_tests::{st, CPU, OTHER_CPU};

use super::cleared::IN_FORCE;

/// Fails the test if table or Control were touched since the counters were reset.
fn assert_untouched(bed: &Bed, what: &str) {
    let counters = bed.endpoint.counters();
    assert_eq!(
        (counters.mmio_read, counters.mmio_write, counters.tph_write),
        (0, 0, 0),
        "{what}: {counters:?}"
    );
}

/// A batch in either namespace is refused.
fn refused(bed: &Bed, what: &str) {
    bed.endpoint.reset_counters();
    for request in [
        StRequest::new(0, &[cpu(CPU)]),
        StRequest::new(0, &bed.sources()).extended(),
    ] {
        let mut request = request;
        assert_eq!(bed.device.tph_st(&mut request), Err(Errno::EIO), "{what}");
        assert_eq!(request.fault, FAULT_UNTOUCHED, "{what}");
    }
    assert_untouched(bed, what);
}

pub fn r50_memory_disabled(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::IvSt, |bed| {
        let kind = bed.kind;
        let before = bed.in_force();
        bed.device.decode_memory(false);
        if kind.in_msix {
            refused(&bed, "memory disabled");
            bed.endpoint.assert_kernel_agrees();
        } else {
            bed.device.program(0, &[cpu(OTHER_CPU)]).expect("TPH_ST");
            assert_eq!(bed.endpoint.entries()[0], st(OTHER_CPU));
            bed.device.program_extended(0, &[cpu(CPU)]).expect("TPH_ST");
        }
        assert_eq!(bed.in_force(), before, "{kind:?}");
        bed.device.decode_memory(true);
        assert_eq!(bed.in_force(), before, "{kind:?}: decoded again");
        bed.works();
    });
}

/// Whatever the user asks of it in D3hot: refused or dropped, and nothing has changed afterwards.
pub fn r48_r50_nothing_reaches_a_device_in_d3hot(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::Literal, |bed| {
        let kind = bed.kind;
        let before = bed.in_force();
        bed.device.set_power_state(D3HOT);
        assert_eq!(bed.power_state(), D3HOT as u8);
        let what = format!("D3hot, {kind:?}");
        assert_eq!(bed.device.control(), before.seen_control, "{what}");
        refused(&bed, &what);
        // Dropped.
        for value in [0, control(StMode::DeviceSpecific, Requester::Standard)] {
            bed.device.set_control(value);
            assert_eq!(bed.device.control(), before.seen_control, "{what}");
        }
        assert_untouched(&bed, &what);
        // A lookup needs no device.
        bed.device.resolve(&[cpu(CPU)], false).expect("TPH_RESOLVE");

        bed.device.set_power_state(D0);
        assert_eq!(bed.power_state(), D0 as u8);
        assert_eq!(bed.in_force(), before, "{kind:?}");
        bed.works();
    });
}

/// A device that loses its state in D3hot, and is reset there, has lost Memory Space Enable after
/// that, although the user's Command register has it.
pub fn r50_reset_in_d3hot_that_loses_memory_space(bench: &mut Bench) {
    let bed = Bed::new(bench, KINDS[3], Policy::IvSt);
    bed.device.set_power_state(D3HOT);
    bed.endpoint.bdf.reset().expect("a reset through sysfs");
    bed.device.set_power_state(D0);
    let command = u32::from(bed.endpoint.state().command);
    assert_eq!(command & PCI_COMMAND_MEMORY, 0, "what this test is about");
    bed.device
        .enable(StMode::InterruptVector, Requester::Extended);
    refused(&bed, "memory space lost");
    assert_eq!(bed.endpoint.control(), IN_FORCE, "Control is as before");
    bed.device.decode_memory(true);
    bed.device.program(0, &[cpu(CPU)]).expect("decoded again");
    assert_eq!(bed.endpoint.entries()[0], st(CPU));
}
