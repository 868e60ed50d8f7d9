// SPDX-License-Identifier: GPL-2.0-only

//! Devices that do not take what is written to them, or make something else of it.

use tph_selftests::aer::{self, Severity};
use tph_selftests::bench::Bench;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::policy::Policy;
use tph_selftests::protocol::{Fault, Lost};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL;
use tph_selftests::vfio::{cpu, none, Source};
use tph_selftests::{assert_errno, kernel};
use tph_tests::bed::{Bed, Kind, D0, D3HOT, STATES};
use tph_tests::{CPU, OTHER_CPU};

use super::{
    agreed, assert_on_with_these_or_none, disabled, is_enabled, lose, programmed, CAPABILITY,
    ENABLED, HANDFUL, LOSING, MSIX, RESERVED,
};

/// BARs that take no writes: a batch for them has not been done.
pub fn r77_batch_that_is_dropped(bench: &mut Bench) {
    let faults = [Fault::MmioAllOnes, Fault::MmioWritesDropped];
    bench.each(faults, |bench, fault| {
        let bed = Bed::new(bench, MSIX, Policy::DsSt);
        let batches: [&[Source]; 3] = [
            &[cpu(OTHER_CPU), cpu(CPU), cpu(OTHER_CPU), cpu(CPU)],
            &[cpu(OTHER_CPU)],
            &[none(), none()],
        ];
        for batch in batches {
            for requester in [Requester::Standard, Requester::Extended] {
                let what = format!("{fault:?}, {} entries, {requester:?}", batch.len());
                bed.put(StMode::InterruptVector, requester);
                let before = programmed(&bed);
                bed.endpoint.fault(fault);
                let extended = requester == Requester::Extended;
                let programmed = bed.device.program_in(extended, 0, batch);
                assert_errno!(programmed, EIO, "{what}");
                bed.endpoint.fault(Fault::None);
                disabled(&bed, &what);
                assert_eq!(
                    bed.endpoint.entries(),
                    before,
                    "{what}: nothing came through"
                );

                // What it had before, or nothing: not what nobody knows.
                bed.device.set_control(ENABLED);
                agreed(&bed, &what);
                assert_on_with_these_or_none(&bed.endpoint, &before, &what);
            }
        }
        bed.works();
    });
}

/// Control that takes no write, enabled or not: the driver gives up after a few, and the user is
/// shown what hardware has. What is dropped comes to an end, or a driver that does not give up
/// would never be done.
pub fn r77_control_that_takes_no_write(bench: &mut Bench) {
    const WRITES: u64 = 1000;

    let values = || {
        let all = STATES.into_iter().map(|(mode, on)| control(mode, on));
        all.chain([0])
    };
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        // A PCI core without our patch writes it around each tag.
        let most = match kind.in_msix && !kernel::is_patched() {
            true => HANDFUL + 2 * bed.sources().len() as u64,
            false => HANDFUL,
        };
        for stays in values() {
            bed.put_control(stays);
            bed.endpoint
                .fault(Fault::ControlWritesDropped { writes: WRITES });
            for value in values() {
                let what = format!("{kind:?}: {value:#x} where {stays:#x} stays");
                let written = written_to_control(&bed.endpoint, || bed.device.set_control(value));
                assert!(written <= HANDFUL, "{what}: written {written} times");
                assert_eq!(agreed(&bed, &what).registers.control, stays, "{what}");
            }
            let what = format!("{kind:?}: TPH_ST where {stays:#x} stays");
            let written = written_to_control(&bed.endpoint, || {
                let _ = bed.device.program_extended(0, &bed.sources());
            });
            assert!(written <= most, "{what}: written {written} times");
            assert_eq!(agreed(&bed, &what).registers.control, stays, "{what}");
            bed.endpoint.fault(Fault::None);
            // It was told to be disabled before its entries were written.
            bed.endpoint.clear_violations();
        }
        bed.works();
        bed.endpoint
            .fault(Fault::ControlWritesDropped { writes: WRITES });
        let Bed {
            endpoint, device, ..
        } = bed;
        let written = written_to_control(&endpoint, || drop(device));
        assert!(written <= most, "{kind:?}: close: {written} writes");
        endpoint.fault(Fault::None);
        endpoint.clear_violations();
        endpoint.assert_off("close");
    });
}

/// A device that makes something else of an enable: what its user may have is in force, and what
/// they may not have is off.
pub fn r77_control_that_becomes_something_else(bench: &mut Bench) {
    let standard = control(StMode::InterruptVector, Requester::Standard);
    let no_st = control(StMode::NoSt, Requester::Extended);
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::IvSt);
        for (becomes, stays) in [
            (standard, standard),
            (no_st, no_st),
            (control(StMode::InterruptVector, Requester::Disabled), 1),
            (control(StMode::DeviceSpecific, Requester::Extended), 0),
            (control(StMode::DeviceSpecific, Requester::Standard), 0),
            (control(StMode::DeviceSpecific, Requester::Disabled), 0),
            (RESERVED[0], 0),
            (RESERVED[1], 0),
        ] {
            let what = format!("{kind:?}: {becomes:#x} where {ENABLED:#x} was written");
            bed.put(StMode::InterruptVector, Requester::Disabled);
            bed.endpoint
                .fault(Fault::ControlBecomes { control: becomes });
            bed.device.set_control(ENABLED);
            let now = agreed(&bed, &what).registers.control;
            bed.endpoint.fault(Fault::None);
            // The device itself has changed the mode of an enabled requester.
            bed.endpoint.clear_violations();
            assert_eq!(now, stays, "{what}");
        }
        bed.works();
    });
}

/// What a device may make of the Control that it has lost and gets back, and what is in force then
/// at a policy without Device Specific mode.
const MADE_OF_IT: [(u32, u32); 8] = [
    (ENABLED, ENABLED),
    (
        control(StMode::InterruptVector, Requester::Standard),
        control(StMode::InterruptVector, Requester::Standard),
    ),
    (
        control(StMode::InterruptVector, Requester::Disabled),
        control(StMode::InterruptVector, Requester::Disabled),
    ),
    (control(StMode::DeviceSpecific, Requester::Extended), 0),
    (control(StMode::DeviceSpecific, Requester::Standard), 0),
    (control(StMode::DeviceSpecific, Requester::Disabled), 0),
    (RESERVED[0], 0),
    (RESERVED[1], 0),
];

/// The same where no user writes Control: a device that has lost it, and makes something else of it
/// when `restore` has the driver put it back.
fn made_of_what_is_restored(
    bench: &mut Bench,
    kinds: [Kind; 2],
    lose: fn(&Bed),
    restore: fn(&Bed),
) {
    bench.each(kinds, |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::IvSt);
        for (becomes, stays) in MADE_OF_IT {
            let what = format!("{kind:?}: {becomes:#x} where {ENABLED:#x} was");
            bed.put(StMode::InterruptVector, Requester::Extended);
            lose(&bed);
            bed.endpoint
                .fault(Fault::ControlBecomes { control: becomes });
            restore(&bed);
            let now = agreed(&bed, &what).registers;
            bed.endpoint.fault(Fault::None);
            bed.endpoint.clear_violations();
            assert_eq!(now.control, stays, "{what}");
            if is_enabled(stays) {
                assert_eq!(now.entries, programmed(&bed), "{what}");
            }
        }
        bed.works();
    });
}

pub fn r77_what_becomes_of_control_in_d3hot(bench: &mut Bench) {
    made_of_what_is_restored(
        bench,
        LOSING,
        |bed| bed.device.set_power_state(D3HOT),
        |bed| bed.device.set_power_state(D0),
    );
}

pub fn r77_what_becomes_of_control_in_low_power(bench: &mut Bench) {
    made_of_what_is_restored(
        bench,
        LOSING,
        |bed| bed.sleep_in_low_power(),
        |bed| bed.device.exit_low_power().expect("LOW_POWER_EXIT"),
    );
}

pub fn r77_what_becomes_of_control_after_an_error(bench: &mut Bench) {
    made_of_what_is_restored(
        bench,
        [CAPABILITY, MSIX],
        |bed| lose(bed, Lost::Tph),
        |bed| aer::inject(&bed.endpoint.bdf, Severity::NonFatal),
    );
}

/// Vectors are freed, and neither the table nor Control takes a write, not at first: their entries
/// are not used as soon as Control takes one.
pub fn r77_on_beside_entries_of_freed_vectors(bench: &mut Bench) {
    let bed = Bed::new(bench, MSIX, Policy::IvSt);
    for writes in 0..3 {
        let what = format!("{writes} writes to Control dropped");
        bed.put(StMode::InterruptVector, Requester::Extended);
        bed.endpoint.fault(Fault::WritesDropped { writes });
        bed.device.free_msix();
        disabled(&bed, &what);
        bed.endpoint.fault(Fault::None);
        bed.endpoint.clear_violations();
        let vectors = bed.vectors.as_ref().expect("a table in MSI-X");
        let events = vectors.descriptors();
        bed.device.set_msix(0, &events).expect("SET_IRQS");
    }
    bed.works();
}

/// A device that takes no batch, and then not that TPH is off: its user is shown that it is on.
pub fn r77_off_that_is_not_taken(bench: &mut Bench) {
    let bed = Bed::new(bench, MSIX, Policy::DsSt);
    bed.put(StMode::InterruptVector, Requester::Extended);
    bed.endpoint
        .fault(Fault::WritesDropped { writes: u64::MAX });
    let batch = [cpu(OTHER_CPU)];
    assert_errno!(bed.device.program_extended(0, &batch), EIO, "TPH_ST");
    let now = agreed(&bed, "TPH_ST");
    assert_eq!(now.registers.control, ENABLED, "what this test is about");
    bed.endpoint.fault(Fault::None);
    bed.endpoint.clear_violations();
    bed.works();
}

/// Writes to Control meanwhile.
fn written_to_control(endpoint: &Endpoint, body: impl FnOnce()) -> u64 {
    let at = u64::from(endpoint.tph().offset + PCI_TPH_CTRL as u16);
    let mark = endpoint.mark();
    body();
    endpoint.config_writes(mark, at..at + 4).len() as u64
}

/// A table in the capability has nothing to do with BARs.
pub fn r77_dead_bars_beside_a_table_in_the_capability(bench: &mut Bench) {
    let bed = Bed::new(bench, CAPABILITY, Policy::DsSt);
    bed.endpoint.fault(Fault::MmioAllOnes);
    bed.put(StMode::InterruptVector, Requester::Extended);
    assert_eq!(bed.endpoint.entries(), programmed(&bed));
    let now = agreed(&bed, "dead BARs");
    assert_eq!(now.registers.control, ENABLED);
    bed.endpoint.fault(Fault::None);
}
