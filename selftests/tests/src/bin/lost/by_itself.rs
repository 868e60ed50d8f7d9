// SPDX-License-Identifier: GPL-2.0-only

//! Devices that reset themselves while they go on answering.

use tph_selftests::assert_errno;
use tph_selftests::bench::Bench;
use tph_selftests::engine::Engine;
use tph_selftests::policy::Policy;
use tph_selftests::protocol::registers::reset_itself;
use tph_selftests::protocol::Lost;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, none};
use tph_tests::bed::{states, Bed, Kind, ENTRIES, STATES};
use tph_tests::{xst, CPU};

use super::{
    agreed, disabled, is_enabled, lose, lose_and_have, programmed, Tally, CAPABILITY, ENABLED,
    LOSSES, MSIX, ON, STRAY,
};

/// TPH_ST of one entry when all were lost.
fn then_one_entry(bench: &mut Bench, kind: Kind) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let bed = Bed::new(bench, kind, policy);
        let mut tally = Tally::default();
        for (mode, requester) in states(policy) {
            let usable = requester != Requester::Disabled && mode != StMode::NoSt;
            for loss in LOSSES {
                for index in [0, ENTRIES - 1] {
                    let what = format!("{kind:?}, {mode:?}, {requester:?}, {loss:?}, {index}");
                    bed.put(mode, requester);
                    lose(&bed, loss);
                    if usable {
                        tally.program_one(&bed, index, &what);
                    } else {
                        let result = bed.device.program(index, &[cpu(CPU)]);
                        assert_errno!(result, ENXIO, "{what}");
                    }
                }
            }
        }
        tally.check();
        bed.restore_interrupts();
        bed.works();
    });
}

pub fn r77_lost_then_tph_st_capability(bench: &mut Bench) {
    then_one_entry(bench, CAPABILITY);
}

pub fn r77_lost_then_tph_st_msix(bench: &mut Bench) {
    then_one_entry(bench, MSIX);
}

/// Every write of Control in every state when all was lost; then TPH is enabled at the latest.
fn then_control(bench: &mut Bench, kind: Kind) {
    let bed = Bed::new(bench, kind, Policy::DsSt);
    let mut tally = Tally::default();
    for (mode, requester) in STATES {
        let before = control(mode, requester);
        for loss in LOSSES {
            for (mode, requester) in STATES {
                let value = control(mode, requester);
                let what = format!("{kind:?}, {before:#x} to {value:#x}, {loss:?}");
                bed.put_control(before);
                lose(&bed, loss);
                tally.write_control(&bed, before, value, &what);
                let before = bed.device.control();
                tally.write_control(&bed, before, ENABLED, &format!("{what}, enabled"));
            }
        }
    }
    tally.check();
    bed.restore_interrupts();
    bed.works();
}

pub fn r77_lost_then_control_capability(bench: &mut Bench) {
    then_control(bench, CAPABILITY);
}

pub fn r77_lost_then_control_msix(bench: &mut Bench) {
    then_control(bench, MSIX);
}

/// Control is the same before and after: TPH is off, in No ST mode, and the table has tags.
pub fn r77_lost_while_off_then_enabled(bench: &mut Bench) {
    for kind in [CAPABILITY, MSIX] {
        bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
            let bed = Bed::new(bench, kind, policy);
            // The last entry alone, then others.
            for index in [ENTRIES - 1, 1, 0] {
                let what = format!("{kind:?}, {policy:?}, {index}");
                bed.device
                    .enable(StMode::InterruptVector, Requester::Extended);
                bed.device
                    .program_extended(0, &[none(); ENTRIES as usize])
                    .expect("TPH_ST");
                bed.device
                    .program_extended(index, &[cpu(CPU)])
                    .expect("TPH_ST");
                bed.device.enable(StMode::NoSt, Requester::Disabled);
                let before = bed.endpoint.entries();
                assert_eq!(before[usize::from(index)], xst(CPU), "{what}");
                lose(&bed, Lost::Everything);
                bed.device.set_control(ENABLED);
                let now = agreed(&bed, &what);
                assert_eq!(now.registers.control, ENABLED, "{what}");
                assert_eq!(now.registers.entries, before, "{what}");
            }
        });
    }
}

/// A mode that is selected is all that there is to lose.
pub fn r77_lost_mode_alone(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        for mode in [StMode::InterruptVector, StMode::DeviceSpecific] {
            for loss in LOSSES {
                let what = format!("{kind:?}, {mode:?}, {loss:?}");
                bed.device.enable(mode, Requester::Disabled);
                lose(&bed, loss);
                assert_errno!(bed.device.program(0, &[cpu(CPU)]), ENXIO, "{what}");
                bed.device.set_control(control(mode, Requester::Standard));
                agreed(&bed, &what);
                bed.endpoint.assert_tags(&[], &what);
                bed.device.set_control(0);
            }
        }
    });
}

/// By a register of the device's own, at its user's hand.
pub fn r77_reset_by_a_register(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::IvSt);
        let mut tally = Tally::default();
        for value in [reset_itself::EVERYTHING, reset_itself::TPH] {
            let what = format!("{kind:?}, {value}");
            bed.put(StMode::InterruptVector, Requester::Standard);
            Engine::new(&bed.device).reset_itself(value);
            assert_eq!(bed.endpoint.control(), 0, "{what}");
            bed.device.decode_memory(true);
            tally.program_one(&bed, 1, &what);
        }
        tally.check();
    });
}

/// Memory space stays off, and so the MSI-X table out of its user's reach: TPH does, too.
pub fn r77_lost_and_not_decoded(bench: &mut Bench) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let bed = Bed::new(bench, MSIX, policy);
        for write in [false, true] {
            let what = format!("not decoded, {policy:?}, Control is written: {write}");
            bed.put(StMode::InterruptVector, Requester::Extended);
            let before = programmed(&bed);
            bed.endpoint.reset_itself(Lost::Everything);
            bed.endpoint.reset_counters();
            if write {
                // The driver has the device decode memory for it.
                let on = control(StMode::InterruptVector, Requester::Standard);
                bed.device.set_control(on);
                let now = agreed(&bed, &what).registers;
                assert_eq!((now.control, now.entries), (on, before.clone()), "{what}");
            } else {
                let result = bed.device.program_extended(1, &[cpu(CPU)]);
                assert_errno!(result, EIO, "{what}");
                let counters = bed.endpoint.counters();
                let mmio = counters.mmio();
                assert_eq!(mmio, 0, "{what}: {counters:?}");
                disabled(&bed, &what);
            }

            bed.device.decode_memory(true);
            bed.device.set_control(ENABLED);
            let now = agreed(&bed, &what).registers;
            assert_eq!((now.control, now.entries), (ENABLED, before), "{what}");
        }
        bed.restore_interrupts();
        bed.works();
    });
}

/// The device turns TPH on while it resets itself, in a way that nobody asked for.
pub fn r77_on_after_its_own_reset(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        let mut tally = Tally::default();
        for on in ON {
            for (mode, requester) in STATES {
                let before = control(mode, requester);
                // Nothing would tell.
                if before == on {
                    continue;
                }
                for loss in LOSSES {
                    let what = format!("{kind:?}, {before:#x}, comes up with {on:#x}, {loss:?}");
                    let lost = || {
                        bed.put_control(before);
                        bed.endpoint.after_reset(on, STRAY);
                        lose_and_have(&bed, loss, on);
                        bed.endpoint.after_reset(0, 0);
                    };
                    if is_enabled(before) && mode != StMode::NoSt {
                        lost();
                        tally.program_one(&bed, 1, &what);
                    }
                    for value in [0, before, ENABLED] {
                        lost();
                        let what = format!("{what}, then {value:#x} is written");
                        tally.write_control(&bed, before, value, &what);
                    }
                }
            }
        }
        tally.check();
        bed.restore_interrupts();
        bed.works();
    });
}
