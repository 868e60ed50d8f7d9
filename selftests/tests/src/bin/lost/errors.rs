// SPDX-License-Identifier: GPL-2.0-only

//! Errors that devices report, and resets of the link that come of them.

use std::thread;

use tph_selftests::aer::{self, Severity};
use tph_selftests::bench::Bench;
use tph_selftests::hold::{self, Call, Stuck};
use tph_selftests::module;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::{Access, Entry, Lost};
use tph_selftests::root_port;
use tph_selftests::skip;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::{
    PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_MASK, PCI_COMMAND, PCI_COMMAND_MEMORY,
};
use tph_tests::bed::{states, Bed, InForce, Kind, D0, D3HOT, STATES};
use tph_tests::needs_tph;

use super::resets::{assert_control_left_alone, reset_and_come_up};
use super::{
    agreed, assert_on_with_these_or_none, disabled, is_enabled, lose, pair, Tally, CAPABILITY,
    ENABLED, LOSING, LOSSES, MSIX, ON,
};

/// A fatal error resets the link, and takes BARs and Command with it: nobody restores them but the
/// user, and tags in MSI-X are out of reach until then.
pub fn r77_on_after_a_reset_of_the_link(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        for on in ON {
            let what = format!("a reset of the link, {on:#x}, {kind:?}");
            bed.put(StMode::InterruptVector, Requester::Extended);
            reset_and_come_up(&bed, on, |bed| {
                aer::inject(&bed.endpoint.bdf, Severity::Fatal);
            });
            assert_eq!(bed.endpoint.control(), 0, "{what}");
            bed.endpoint.assert_kernel_agrees();
            assert_eq!(bed.device.control(), 0, "{what}");
            bed.device.decode_memory(true);
            bed.device.set_control(ENABLED);
            agreed(&bed, &what);
            assert_on_with_these_or_none(&bed.endpoint, &[], &what);
            bed.restore_interrupts();
            bed.works();
        }
    });
}

/// A driver of the kernel's.
const NEIGHBOUR: &str = "tph_peer";

/// The neighbour's driver wants the link reset at an error that leaves it as it is, whoever of both
/// has it: the user's device is told of a channel that works, and is reset all the same.
pub fn r46_link_is_reset_for_a_neighbour(bench: &mut Bench) {
    let beds = pair(bench);
    let [first, second] = beds.map(|bed| bed.endpoint.clone());
    module::ensure(NEIGHBOUR);
    for (ours, neighbour) in [(&first, &second), (&second, &first)] {
        neighbour.bdf.bind(NEIGHBOUR).expect("bind");
        let bed = Bed::open(ours.clone(), Kind::of(ours));
        for hit in [ours, neighbour] {
            let what = format!("{:?}, an error of {}", bed.kind, hit.bdf);
            bed.put(StMode::InterruptVector, Requester::Extended);
            let resets = ours.counters().reset;
            aer::inject(&hit.bdf, Severity::NonFatal);
            assert!(ours.counters().reset > resets, "{what}: no reset");
            assert_eq!(agreed(&bed, &what).registers.control, 0, "{what}");

            // The user does what is left to do, and TPH stays off.
            bed.device.decode_memory(true);
            bed.restore_interrupts();
            bed.assert_off_and_works(&what);
        }
        drop(bed);
        policy::bind(neighbour, Policy::DsSt);
    }
}

/// The register of BAR 0, where the MSI-X table is.
const BAR0: u64 = PCI_BASE_ADDRESS_0 as u64;
const COMMAND: u64 = PCI_COMMAND as u64;

/// The address in it.
fn address_in(bar: u64) -> u64 {
    bar & u64::from(PCI_BASE_ADDRESS_MEM_MASK as u32)
}

/// Goes through a log from the reset in it on. Fails the test if the device is made to decode
/// memory while its BAR is not at `address`, or if anybody reaches for the BAR before both is so.
/// How often it was reached.
#[track_caller]
fn reached_in_place(log: &[Entry], address: u64, what: &str) -> usize {
    let reset = log
        .iter()
        .position(|entry| matches!(entry.access, Access::Reset { .. }))
        .unwrap_or_else(|| panic!("{what}: no reset in the log"));
    let (mut in_place, mut decodes, mut reached) = (false, false, 0);
    for entry in &log[reset + 1..] {
        match entry.access {
            Access::ConfigWrite {
                offset: BAR0,
                value,
                ..
            } => in_place = address_in(value) == address,
            Access::ConfigWrite {
                offset: COMMAND,
                value,
                ..
            } => decodes = value & u64::from(PCI_COMMAND_MEMORY) != 0,
            Access::MmioRead { .. } | Access::MmioWrite { .. } => {
                assert!(decodes && in_place, "{what}: {entry:?}");
                reached += 1;
            }
            _ => (),
        }
        assert!(!decodes || in_place, "{what}: {entry:?}");
    }
    reached
}

/// A reset of the link takes the BARs away. Whatever the user asks for, the driver does not have
/// the device decode memory before they are back, and does not reach for them.
pub fn r78_bars_are_not_there_after_a_reset_of_the_link(bench: &mut Bench) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let bed = Bed::new(bench, MSIX, policy);
        let bar = bed.endpoint.bdf.config().dword(PCI_BASE_ADDRESS_0 as u16);
        let address = address_in(bar.into());
        for (mode, requester) in states(policy) {
            let what = format!("{policy:?}, {mode:?}, {requester:?}");
            bed.put(mode, requester);
            let mark = bed.endpoint.mark();
            aer::inject(&bed.endpoint.bdf, Severity::Fatal);
            let reached = || reached_in_place(&bed.endpoint.log_after(mark), address, &what);
            assert_eq!(reached(), 0, "{what}: recovered");

            bed.device.set_control(ENABLED);
            let _ = bed.device.program_extended(0, &bed.sources());
            bed.device.set_control(0);
            assert_eq!(reached(), 0, "{what}: nobody has restored the BARs");

            bed.device.decode_memory(true);
            bed.device.set_control(ENABLED);
            assert!(reached() > 0, "{what}: the user has restored the BARs");
            assert_eq!(agreed(&bed, &what).registers.control, ENABLED, "{what}");
            bed.restore_interrupts();
            bed.works();
        }
    });
}

/// The hidden capability's, too.
pub fn r77_on_after_a_reset_of_the_link_while_hidden(bench: &mut Bench) {
    needs_tph();
    let endpoint = Bed::new(bench, CAPABILITY, Policy::DsSt).endpoint.clone();
    endpoint.set_root_port(root_port::NONE);
    let bed = Bed::open(endpoint, CAPABILITY);
    for on in ON {
        reset_and_come_up(&bed, on, |bed| {
            aer::inject(&bed.endpoint.bdf, Severity::Fatal);
        });
        bed.endpoint.assert_off("a reset of the link, hidden");
    }
}

/// An error that resets nothing takes nothing away, from whoever has it and from who is beside it.
pub fn r80_non_fatal_error(bench: &mut Bench) {
    let beds = pair(bench);
    for (mode, requester) in STATES {
        for bed in &beds {
            bed.put(mode, requester);
        }
        let before: Vec<InForce> = beds.iter().map(|bed| agreed(bed, "before")).collect();
        for hit in &beds {
            let resets = hit.endpoint.counters().reset;
            aer::inject(&hit.endpoint.bdf, Severity::NonFatal);
            assert_eq!(hit.endpoint.counters().reset, resets, "no reset");
            for (bed, before) in beds.iter().zip(&before) {
                let what = format!(
                    "{mode:?}, {requester:?}, {:?} after an error of {}",
                    bed.kind, hit.endpoint.bdf
                );
                assert_eq!(&agreed(bed, &what), before, "{what}");
            }
        }
    }
    beds.iter().for_each(Bed::works);
}

/// An error comes while the device sleeps, and nobody can look what it has. Runtime PM saves its
/// state then: TPH is not what the PCI core saves, and puts back before the table is.
pub fn r80_non_fatal_error_asleep(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        bed.put(StMode::InterruptVector, Requester::Extended);
        let before = agreed(&bed, "before");
        bed.device.set_power_state(D3HOT);
        aer::inject(&bed.endpoint.bdf, Severity::NonFatal);
        bed.sleep_in_low_power();
        let kernel = bed.endpoint.kernel();
        assert!(!kernel.tph_enabled, "{kind:?}: the PCI core's record");
        bed.wake_from_low_power();
        assert_eq!(agreed(&bed, "awake"), before, "{kind:?}");
        bed.works();
    });
}

/// An error comes while a user is about to take the device to D3hot, which may or may not come to
/// pass. The device is left alone, whatever it has lost: the PCI core is not to save TPH. When the
/// call is over, or the device awake again, it has what it had.
pub fn r80_non_fatal_error_before_d3hot(bench: &mut Bench) {
    const LOSSES: [Option<Lost>; 3] = [None, Some(Lost::Tph), Some(Lost::Everything)];
    bench.each(LOSING, |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        for (kill, loss) in LOSSES.map(|loss| [(true, loss), (false, loss)]).concat() {
            let what = format!("{kind:?}, killed: {kill}, {loss:?}");
            bed.put(StMode::InterruptVector, Requester::Extended);
            let before = agreed(&bed, "before");
            let sleep = Call::WriteByte(bed.device.power_register(), D3HOT as u8);
            let stuck = Stuck::new(&bed.device, sleep);
            if let Some(loss) = loss {
                lose(&bed, loss);
            }
            let mark = bed.endpoint.mark();
            aer::inject(&bed.endpoint.bdf, Severity::NonFatal);
            bed.endpoint.assert_kernel_has_it_off(&what);
            assert_control_left_alone(&bed, mark, &what);
            if kill {
                stuck.kill();
                assert_eq!(bed.power_state(), D0 as u8, "{what}");
            } else {
                stuck.go_on();
                assert_eq!(bed.power_state(), D3HOT as u8, "{what}");
                bed.endpoint.assert_kernel_has_it_off(&what);
                bed.device.set_power_state(D0);
            }
            assert_eq!(agreed(&bed, &what), before, "{what}");
            bed.restore_interrupts();
        }
        bed.works();
    });
}

/// An error comes while a user takes the device out of D3hot. It answers already, with its BARs
/// and its MSI-X table yet to be restored: it is left alone until they are.
///
/// Before other tests of errors: once aer_inject has had a bus, it makes all accesses to config
/// space there under a spinlock.
pub fn r80_non_fatal_error_on_the_way_to_d0(bench: &mut Bench) {
    if cfg!(target_arch = "aarch64") {
        skip!("config space is written under a spinlock: nobody can be held there");
    }
    bench.each(LOSING, |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        let what = format!("{kind:?}");
        bed.put(StMode::InterruptVector, Requester::Extended);
        let before = agreed(&bed, "before");
        bed.device.set_power_state(D3HOT);
        let mark = bed.endpoint.mark();
        let held = hold::next_write(&bed.endpoint.bdf, PCI_BASE_ADDRESS_0 as u16);
        let wake = thread::spawn(bed.call(|device| device.set_power_state(D0)));
        hold::wait();
        assert_eq!(bed.power_state(), D0 as u8, "what this test is about");
        aer::inject(&bed.endpoint.bdf, Severity::NonFatal);
        assert_control_left_alone(&bed, mark, &what);
        bed.endpoint.assert_kernel_has_it_off(&what);
        held.release();
        wake.join().expect("who wakes the device up");
        assert_eq!(agreed(&bed, &what), before, "{what}");
        bed.works();
    });
}

/// The device of the error has reset itself: that is found out as it is without an error, and who
/// is beside it has nothing to do with it.
pub fn r80_non_fatal_error_with_a_loss(bench: &mut Bench) {
    let beds = pair(bench);
    let mut tally = Tally::default();
    for (hit, other) in [(&beds[0], &beds[1]), (&beds[1], &beds[0])] {
        for loss in LOSSES {
            for bed in &beds {
                bed.put(StMode::InterruptVector, Requester::Extended);
            }
            let before = agreed(other, "before");
            let what = format!("{:?}, {loss:?}, and an error", hit.kind);
            lose(hit, loss);
            aer::inject(&hit.endpoint.bdf, Severity::NonFatal);
            if is_enabled(hit.device.control()) {
                tally.program_one(hit, 1, &what);
            } else {
                disabled(hit, &what);
            }
            assert_eq!(agreed(other, &what), before, "{what}: beside it");
        }
    }
}
