// SPDX-License-Identifier: GPL-2.0-only

//! The kernel is about to be restarted, and its drivers are told: TPH is off, no tag is left, and
//! what users ask of the device from then on is dropped or refused. The program `kexec` shows what
//! the next kernel finds.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::hold::{Call, Stuck};
use tph_selftests::module::Gate;
use tph_selftests::monitor::wait_until;
use tph_selftests::policy::Policy;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::vfio_tph::VFIO_DEVICE_FEATURE_TPH_ST;
use tph_selftests::vfio::{cpu, Op};
use tph_selftests::{assert_errno, harness, kstate, tests, Errno};
use tph_tests::bed::{Bed, D0, D3HOT, KINDS, STATES};
use tph_tests::CPU;

const ON: u32 = control(StMode::InterruptVector, Requester::Extended);

/// A device that was shut down stays so until it is bound anew.
fn over(bench: &mut Bench, bed: Bed) {
    let endpoint = bed.endpoint.clone();
    drop(bed);
    endpoint.bdf.unbind();
    bench.next_round();
}

#[track_caller]
fn shut_down(bed: &Bed) {
    kstate::shut_down(&bed.endpoint.bdf).expect("shutdown");
}

/// Whatever its user asks for, TPH stays off.
#[track_caller]
fn assert_stays_off(bed: &Bed, what: &str) {
    bed.endpoint.assert_off(what);
    let device = &bed.device;
    assert_eq!(device.control(), 0, "{what}");
    for value in [control(StMode::InterruptVector, Requester::Disabled), ON] {
        device.set_control(value);
        assert_eq!(device.control(), 0, "{what}");
        assert_errno!(device.program(0, &[cpu(CPU)]), EIO, "{what}");
        assert_errno!(device.program_extended(0, &[cpu(CPU)]), EIO, "{what}");
        bed.endpoint.assert_off(what);
    }
    // A call that is no call is none now; what needs no device goes on.
    let refused = device.feature(Op::Set, VFIO_DEVICE_FEATURE_TPH_ST, &mut []);
    assert_eq!(refused, Err(Errno::EINVAL), "{what}");
    device.tph().expect("TPH");
    device.resolve(&[cpu(CPU)], false).expect("TPH_RESOLVE");
}

/// Runs `before` and `after` around a shutdown, with each kind of device.
fn with_each_kind(bench: &mut Bench, before: impl Fn(&Bed), after: impl Fn(&Bed)) {
    for kind in KINDS {
        let bed = Bed::in_use(bench, kind, Policy::DsSt);
        before(&bed);
        shut_down(&bed);
        assert_stays_off(&bed, &format!("shutdown, {kind:?}"));
        after(&bed);
        over(bench, bed);
    }
}

fn r87_off_in_each_state(bench: &mut Bench) {
    for kind in KINDS {
        bench.each(STATES, |bench, (mode, requester)| {
            let bed = Bed::new(bench, kind, Policy::DsSt);
            bed.put(mode, requester);
            shut_down(&bed);
            assert_stays_off(&bed, &format!("{kind:?}, {mode:?}, {requester:?}"));
            // A device that was bound anew is another one.
            let bdf = bed.endpoint.bdf.clone();
            drop(bed);
            bdf.unbind();
        });
        let bed = Bed::new(bench, kind, Policy::DsSt);
        bed.works();
        over(bench, bed);
    }
}

fn r87_in_d3hot(bench: &mut Bench) {
    with_each_kind(
        bench,
        |bed| bed.device.set_power_state(D3HOT),
        |bed| {
            bed.device.set_power_state(D0);
            assert_stays_off(bed, "D0 after it");
        },
    );
}

fn r87_in_low_power(bench: &mut Bench) {
    with_each_kind(bench, Bed::sleep_in_low_power, |bed| {
        bed.device.exit_low_power().expect("LOW_POWER_EXIT");
        assert_stays_off(bed, "the end of low power after it");
    });
}

fn r87_with_memory_disabled(bench: &mut Bench) {
    with_each_kind(
        bench,
        |bed| bed.device.decode_memory(false),
        |bed| {
            bed.device.decode_memory(true);
            assert_stays_off(bed, "memory enabled after it");
        },
    );
}

/// Neither a reset nor another user, nor vectors that are allocated anew, bring anything back.
fn r87_for_good(bench: &mut Bench) {
    with_each_kind(
        bench,
        |_| (),
        |bed| {
            bed.device.reset().expect("VFIO_DEVICE_RESET");
            assert_stays_off(bed, "a reset after it");
            bed.d3hot_and_back();
            assert_stays_off(bed, "D3hot and back after it");
            if bed.vectors.is_some() {
                bed.device.set_msix(0, &[-1]).expect("SET_IRQS");
                assert_stays_off(bed, "other vectors after it");
            }
        },
    );
    let kind = KINDS[0];
    let bed = Bed::new(bench, kind, Policy::IvSt);
    shut_down(&bed);
    let endpoint = bed.endpoint.clone();
    drop(bed);
    // Opened again, with the same binding.
    let device = endpoint.open();
    device.set_control(ON);
    assert_eq!(device.control(), 0);
    assert_errno!(device.program(0, &[cpu(CPU)]), EIO);
    endpoint.assert_off("another user");
}

/// One that is not open, and one that has no TPH, are left alone.
fn r87_nothing_to_do(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::NO_TPH);
    let device = endpoint.open();
    let before = device.config_space();
    kstate::shut_down(&endpoint.bdf).expect("shutdown");
    let counters = endpoint.counted(|| {
        kstate::shut_down(&endpoint.bdf).expect("shutdown");
    });
    assert_eq!(counters.config_write, 0, "{counters:?}");
    assert!(device.config_space() == before);
    drop(device);
    bench.next_round();

    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    kstate::shut_down(&endpoint.bdf).expect("shutdown");
    endpoint.assert_off("shutdown of a device that nobody has open");
    bench::bind(&endpoint, Gate::Safe);
}

/// A user from whose memory the power state is being copied is not waited for.
fn r87_does_not_wait_for_a_user(bench: &mut Bench) {
    for kind in KINDS {
        let bed = Bed::in_use(bench, kind, Policy::DsSt);
        let calls = if kind.in_msix || kind.loses_state {
            vec![
                Call::WriteConfig(bed.device.power_register()),
                Call::SetIrqs,
            ]
        } else {
            vec![Call::SetIrqs]
        };
        for call in calls {
            let stuck = Stuck::new(&bed.device, call);
            shut_down(&bed);
            bed.endpoint.assert_off(&format!("{kind:?}, {call:?}"));
            stuck.go_on();
            assert_stays_off(&bed, &format!("{kind:?}, {call:?} over"));
        }
        over(bench, bed);
    }
}

/// Users go on while it happens.
fn r87_amid_calls(bench: &mut Bench) {
    for kind in KINDS {
        for _ in 0..4 {
            let bed = Bed::in_use(bench, kind, Policy::DsSt);
            let stop = AtomicBool::new(false);
            let rounds = AtomicU32::new(0);
            let device = &bed.device;
            let sources = bed.sources();
            device.tph_offset();
            let until_stop = |call: &dyn Fn()| {
                while !stop.load(Ordering::Relaxed) {
                    call();
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            };
            thread::scope(|scope| {
                scope.spawn(|| until_stop(&|| device.set_control(ON)));
                scope.spawn(|| until_stop(&|| device.set_control(0)));
                scope.spawn(|| {
                    until_stop(&|| match device.program_extended(0, &sources) {
                        Ok(()) | Err(Errno::ENXIO | Errno::EIO) => (),
                        Err(error) => panic!("{error}"),
                    })
                });
                wait_until(|| rounds.load(Ordering::Relaxed) > 50);
                shut_down(&bed);
                bed.endpoint.assert_off("shutdown");
                stop.store(true, Ordering::Relaxed);
            });
            assert_stays_off(&bed, &format!("{kind:?}"));
            over(bench, bed);
        }
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r87_off_in_each_state,
        r87_in_d3hot,
        r87_in_low_power,
        r87_with_memory_disabled,
        r87_for_good,
        r87_nothing_to_do,
        r87_does_not_wait_for_a_user,
        r87_amid_calls,
    ])
}
