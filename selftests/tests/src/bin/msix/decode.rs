// SPDX-License-Identifier: GPL-2.0-only

//! A table in MSI-X that the device does not decode: TPH_ST refuses, and touches nothing.

use tph_selftests::assert_errno;
use tph_selftests::bench::{self, Bench};
use tph_selftests::module::Gate;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_COMMAND_MEMORY;
use tph_selftests::vfio::{cpu, StRequest, FAULT_UNTOUCHED};
use tph_tests::{st, CPU};

use super::lifetime::{in_d3hot, IN_FORCE};
use super::Bed;

fn refused(bed: &Bed, what: &str) {
    bed.endpoint.reset_counters();
    let mut request = StRequest::new(0, &[cpu(CPU)]);
    assert_errno!(bed.device.tph_st(&mut request), EIO, "{what}");
    assert_eq!(request.fault, FAULT_UNTOUCHED, "{what}");
    let counters = bed.endpoint.counters();
    assert_eq!(
        (counters.mmio_read, counters.mmio_write),
        (0, 0),
        "{what}: {counters:?}"
    );
}

pub fn r50_memory_disabled(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Safe, Requester::Extended);
    bed.fill_standard();
    let before = bed.endpoint.entries();
    bed.device.decode_memory(false);
    refused(&bed, "memory disabled");
    assert_eq!(bed.endpoint.control(), IN_FORCE, "Control is as before");
    bed.endpoint.assert_kernel_agrees();
    bed.device.decode_memory(true);
    assert_eq!(bed.endpoint.entries(), before);
    bed.device.program(0, &[cpu(CPU)]).expect("decoded again");
    assert_eq!(bed.endpoint.entries()[0], st(CPU));
    bed.raise_all("decoded again");
}

pub fn r50_d3hot(bench: &mut Bench) {
    let bed = in_d3hot(bench);
    assert_eq!(bed.endpoint.state().power_state, 3);
    refused(&bed, "D3hot");
    bed.device.set_power_state(0);
    assert_eq!(bed.endpoint.state().power_state, 0);
    bed.device.program(0, &[cpu(CPU)]).expect("in D0 again");
    assert_eq!(bed.endpoint.entries()[0], st(CPU));
}

/// A device that loses its state in D3hot, and is reset there, has lost Memory Space Enable after
/// that, although the user's Command register has it.
pub fn r50_reset_in_d3hot_that_loses_memory_space(bench: &mut Bench) {
    let endpoint = bench.pick_with("an ST table in MSI-X and no No_Soft_Reset", |traits| {
        traits.in_msix && traits.extended && !traits.no_soft_reset
    });
    bench::bind(&endpoint, Gate::Safe);
    let bed = Bed::open(endpoint);
    bed.device.set_power_state(3);
    bed.endpoint.bdf.reset().expect("a reset through sysfs");
    bed.device.set_power_state(0);
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
