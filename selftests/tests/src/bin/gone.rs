// SPDX-License-Identifier: GPL-2.0-only

//! A device that stops answering.

use std::process::ExitCode;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::Gate;
use tph_selftests::protocol::Fault;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, literal, none, Device, Source};
use tph_selftests::{tests, Errno};
use tph_tests::bed::assert_off_and_works;
use tph_tests::{each_table, each_table_and_gate, enabled, enabled_as, fill, opened_as, CPU};

const ENABLED: u32 = control(StMode::InterruptVector, Requester::Extended);

/// After a fault: the device answers again, and after a reset all of it works again.
fn recover(endpoint: &Endpoint, device: &Device, what: &str) {
    endpoint.fault(Fault::None);
    device
        .reset()
        .unwrap_or_else(|error| panic!("{what}: a reset afterwards: {error}"));
    assert_off_and_works(endpoint, device, None, what);
}

/// The device stops after each number of accesses that a batch takes.
fn stop_in_the_middle(bench: &mut Bench, want: &Want, sources: &[Source], index: u16) {
    let (endpoint, device) = enabled_as(bench, want, Gate::Unsafe, Requester::Extended);
    let program = || device.program(index, sources).expect("TPH_ST");
    let accesses = endpoint.counted(program).accesses();
    let complete = endpoint.entries();

    for before_fault in 0..=accesses {
        let what = format!("stopped after {before_fault} of {accesses} accesses");
        recover(&endpoint, &device, &what);
        fill(&endpoint, &device);
        endpoint.fault(Fault::StopAfter {
            accesses: before_fault,
        });
        let result = device.program(index, sources);
        if result.is_ok() {
            // Success is what it says: all of it is there.
            let registers = endpoint.registers();
            assert_eq!(registers.control, ENABLED, "{what}");
            for (entry, complete) in (registers.entries.iter().zip(&complete))
                .skip(index.into())
                .take(sources.len())
            {
                assert_eq!(entry, complete, "{what}");
            }
            assert_eq!(before_fault, accesses, "{what}, and nobody saw it");
            continue;
        }
        assert_eq!(result, Err(Errno::EIO), "{what}");
        endpoint.assert_kernel_has_it_off(&what);
    }
    recover(&endpoint, &device, "the last fault");
}

fn r41_stops_in_a_batch(bench: &mut Bench) {
    let sources: Vec<Source> = (1..=7).map(literal).collect();
    each_table(bench, |bench, want| {
        stop_in_the_middle(bench, want, &sources, 1)
    });
}

fn r41_stops_in_a_batch_of_one(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        stop_in_the_middle(bench, want, &[literal(0x42)], 0);
    });
}

fn r41_stops_in_a_clearing_batch(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        stop_in_the_middle(bench, want, &[none(); 4], 2);
    });
}

fn r41_all_ones_while_open(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let (endpoint, device) = enabled_as(bench, want, gate, Requester::Extended);
        endpoint.fault(Fault::AllOnes);
        assert_eq!(device.program(0, &[cpu(CPU)]), Err(Errno::EIO));
        assert!(!endpoint.kernel().tph_enabled);
        // Off for TPH_ST, too: what the kernel knows counts, not all ones.
        let again = device.program(0, &[cpu(CPU)]);
        assert!(matches!(again, Err(Errno::EIO | Errno::ENXIO)), "{again:?}");
        recover(&endpoint, &device, "all ones");
    });
}

fn r41_control_write_to_a_device_that_is_gone(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = opened_as(bench, want, Gate::Safe);
        endpoint.fault(Fault::AllOnes);
        device.set_control(ENABLED);
        assert!(
            !endpoint.kernel().tph_enabled,
            "dropped, the kernel knows it"
        );
        assert_eq!(device.tph().map(|offer| offer.st_entries > 0), Ok(true));
        recover(&endpoint, &device, "a write to a device that is gone");
    });
}

/// With a table in the capability alone: the kernel gives a device that has a slot of its own some
/// minutes to come out of a reset.
fn r41_close_while_gone(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Extended);
    endpoint.fault(Fault::AllOnes);
    drop(device);
    assert!(!endpoint.kernel().tph_enabled);
    endpoint.fault(Fault::None);
    // What the hardware kept is for the next open to clear.
    let device = endpoint.open();
    endpoint.assert_off("open");
    device.enable(StMode::InterruptVector, Requester::Extended);
    device.program(0, &[cpu(CPU)]).expect("TPH_ST");
}

/// A batch that half came through is not what its user sees, and must not come into use.
fn r41_back_without_a_reset(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let sources: Vec<Source> = (1..=7).map(literal).collect();
        let (endpoint, device) = enabled_as(bench, want, Gate::Unsafe, Requester::Extended);
        let program = || device.program(1, &sources).expect("TPH_ST");
        let accesses = endpoint.counted(program).accesses();

        let mut torn = 0;
        for before_fault in 0..accesses {
            let what = format!("stopped after {before_fault} of {accesses} accesses");
            fill(&endpoint, &device);
            let before = endpoint.entries();
            endpoint.fault(Fault::StopAfter {
                accesses: before_fault,
            });
            assert_eq!(device.program(1, &sources), Err(Errno::EIO), "{what}");
            endpoint.fault(Fault::None);
            torn += u32::from(endpoint.entries() != before);
            device.set_control(ENABLED);
            let registers = endpoint.registers();
            assert_eq!(registers.control, ENABLED, "{what}");
            assert_eq!(registers.entries, before, "{what}");
            endpoint.assert_kernel_agrees();
        }
        assert_ne!(torn, 0, "no batch came through by half");
    });
}

/// Nobody can tell whether a write to Control came through before the device stopped.
fn r41_stops_in_a_control_write(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = opened_as(bench, want, Gate::Safe);
        let enable = || device.set_control(ENABLED);
        let accesses = endpoint.counted(enable).accesses();
        for (value, other) in [(ENABLED, 0), (0, ENABLED)] {
            for before_fault in 0..=accesses {
                let what =
                    format!("{value:#x}, stopped after {before_fault} of {accesses} accesses");
                device.set_control(other);
                assert_eq!(endpoint.control(), other, "{what}");
                endpoint.fault(Fault::StopAfter {
                    accesses: before_fault,
                });
                device.set_control(value);
                endpoint.fault(Fault::None);
                // What is seen is what another write, which changes nothing, makes sure of.
                let seen = device.control();
                device.set_control(seen);
                assert_eq!(endpoint.control(), seen, "{what}");
                endpoint.assert_kernel_agrees();
            }
        }
        // And close does, too, if there is no such write.
        drop(device);
        for before_fault in 0..=accesses {
            let device = endpoint.open();
            endpoint.fault(Fault::StopAfter {
                accesses: before_fault,
            });
            device.set_control(ENABLED);
            endpoint.fault(Fault::None);
            drop(device);
            endpoint.assert_off(&format!("close, stopped after {before_fault}"));
        }
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r41_stops_in_a_batch,
        r41_stops_in_a_batch_of_one,
        r41_stops_in_a_clearing_batch,
        r41_all_ones_while_open,
        r41_control_write_to_a_device_that_is_gone,
        r41_close_while_gone,
        r41_back_without_a_reset,
        r41_stops_in_a_control_write,
    ])
}
