// SPDX-License-Identifier: GPL-2.0-only

//! Sleep of the whole system with open devices: what was in force before is in force afterwards.
//! With a table in the capability and in MSI-X, on devices that keep their state in D3hot and on
//! such as lose it. In S3 all of them lose it.

use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::hold::{Call, Stuck};
use tph_selftests::monitor::wait_until;
use tph_selftests::policy::Policy;
use tph_selftests::root_port;
use tph_selftests::sleep::{Depth, Into, Sleep};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::cpu;
use tph_selftests::{harness, tests};
use tph_tests::bed::{states, Bed, InForce, D0, D3HOT, KINDS, STATES};
use tph_tests::{st, xst, CPU, OTHER_CPU};

/// All that drivers see of suspend to idle.
const IDLE: Sleep = Sleep(Into::Idle, Depth::Platform);
/// And to RAM.
const RAM: Sleep = Sleep(Into::Ram, Depth::Core);
/// In earnest: the machine stands still until somebody wakes it up, which resets all devices.
const S3: Sleep = Sleep(Into::Ram, Depth::Whole);
/// Up to where an image is made of the system, and as if it had been loaded.
const IMAGE: Sleep = Sleep(Into::Disk, Depth::Core);

/// One of each kind, all open at once.
fn beds(bench: &mut Bench, policy: Policy) -> [Bed; 4] {
    KINDS.map(|kind| Bed::new(bench, kind, policy))
}

fn in_force(beds: &[Bed]) -> Vec<InForce> {
    beds.iter().map(Bed::in_force).collect()
}

/// Sleeps. Fails the test if that does not go as far as it is to: the PCI core puts devices that
/// are awake into D3hot, out of which some come as out of a reset, but for an image. Out of S3 each
/// one does.
#[track_caller]
fn sleep(beds: &[Bed], how: Sleep) {
    let resets = || {
        let reset = |bed: &Bed| bed.endpoint.counters().reset;
        beds.iter().map(reset).collect::<Vec<u64>>()
    };
    let awake: Vec<bool> = beds
        .iter()
        .map(|bed| bed.power_state() == D0 as u8)
        .collect();
    let before = resets();
    how.sleep()
        .unwrap_or_else(|error| panic!("{how:?}: {error}"));
    let now = resets();
    for (index, bed) in beds.iter().enumerate() {
        let by_d3hot = awake[index] && bed.kind.loses_state && (how == IDLE || how == RAM);
        if by_d3hot || how == S3 {
            assert!(now[index] > before[index], "{how:?}, {:?}", bed.kind);
        }
    }
}

/// In every state of Control: the same after sleep as before.
fn the_same_after(bench: &mut Bench, way: Sleep) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let beds = beds(bench, policy);
        for (mode, requester) in states(policy) {
            beds.iter().for_each(|bed| bed.put(mode, requester));
            let before = in_force(&beds);
            for now in &before {
                assert_eq!(now.registers.control, control(mode, requester));
                assert_eq!(now.registers.entries[..2], [xst(CPU), xst(OTHER_CPU)]);
            }
            sleep(&beds, way);
            let what = format!("{way:?}, {policy:?}, {mode:?}, {requester:?}");
            for (bed, before) in beds.iter().zip(&before) {
                assert_eq!(&bed.in_force(), before, "{what}, {:?}", bed.kind);
            }
            beds.iter()
                .for_each(|bed| bed.device.enable(mode, Requester::Disabled));
        }
        beds.iter().for_each(Bed::works);
    });
}

fn r86_suspend_to_idle(bench: &mut Bench) {
    the_same_after(bench, IDLE);
}

fn r86_suspend_to_ram(bench: &mut Bench) {
    the_same_after(bench, RAM);
}

fn r86_power_is_cut(bench: &mut Bench) {
    the_same_after(bench, S3);
}

fn r86_hibernation(bench: &mut Bench) {
    the_same_after(bench, IMAGE);
}

/// The way down ends early: for some other device, or for want of firmware.
fn r86_turns_back(bench: &mut Bench) {
    let ways = [
        Sleep(Into::Idle, Depth::Devices),
        Sleep(Into::Ram, Depth::Devices),
        Sleep(Into::Ram, Depth::Platform),
        Sleep(Into::Disk, Depth::Devices),
        Sleep(Into::Disk, Depth::Platform),
    ];
    the_same_around(bench, &ways, |_| (), |_| ());
}

/// The image has been made, and cannot be written: there is nowhere to write it to.
fn r86_hibernation_that_fails(bench: &mut Bench) {
    let beds = beds(bench, Policy::DsSt);
    for (mode, requester) in STATES {
        beds.iter().for_each(|bed| bed.put(mode, requester));
        let before = in_force(&beds);
        let swaps = fs::read_to_string("/proc/swaps").expect("/proc/swaps");
        assert_eq!(swaps.lines().count(), 1, "what this test is about: {swaps}");
        let result = Sleep(Into::Disk, Depth::Whole).sleep();
        assert!(result.is_err(), "without swap space: {result:?}");
        assert_eq!(in_force(&beds), before, "{mode:?}, {requester:?}");
    }
    beds.iter().for_each(Bed::works);
}

/// The states of Control that differ most: in use, programmed and not in use, and off.
const FEW: [(StMode, Requester); 3] = [
    (StMode::InterruptVector, Requester::Extended),
    (StMode::InterruptVector, Requester::Disabled),
    (StMode::NoSt, Requester::Disabled),
];

/// The same as before, with `before` done before and `after` after the system sleeps.
fn the_same_around(bench: &mut Bench, ways: &[Sleep], before: impl Fn(&Bed), after: impl Fn(&Bed)) {
    let beds = beds(bench, Policy::DsSt);
    for (mode, requester) in FEW {
        beds.iter().for_each(|bed| bed.put(mode, requester));
        let expected = in_force(&beds);
        for way in ways {
            beds.iter().for_each(&before);
            sleep(&beds, *way);
            beds.iter().for_each(&after);
            let what = format!("{way:?}, {mode:?}, {requester:?}");
            for (bed, expected) in beds.iter().zip(&expected) {
                assert_eq!(&bed.in_force(), expected, "{what}, {:?}", bed.kind);
            }
        }
    }
    beds.iter().for_each(Bed::works);
}

/// Runtime PM has suspended it, which the system need not wake it up for.
fn r86_asleep_already(bench: &mut Bench) {
    the_same_around(
        bench,
        &[IDLE, RAM, S3, IMAGE],
        Bed::sleep_in_low_power,
        Bed::wake_from_low_power,
    );
}

/// Its user has put it into D3hot, which the PCI core does not know of.
fn r86_in_d3hot_already(bench: &mut Bench) {
    the_same_around(
        bench,
        &[IDLE, RAM, S3, IMAGE],
        |bed| bed.device.set_power_state(D3HOT),
        |bed| bed.device.set_power_state(D0),
    );
}

fn r86_memory_disabled(bench: &mut Bench) {
    the_same_around(
        bench,
        &[IDLE, RAM, S3, IMAGE],
        |bed| bed.device.decode_memory(false),
        |bed| {
            let command = bed.endpoint.state().command;
            assert_eq!(command & 2, 0, "{:?}: memory space", bed.kind);
            bed.device.decode_memory(true);
        },
    );
}

/// A device that loses its state makes of itself what it likes, with tags that nobody has
/// programmed.
fn r86_comes_up_on(bench: &mut Bench) {
    const STRAY: u16 = 0x5a5a;
    let on = control(StMode::InterruptVector, Requester::Extended);
    the_same_around(
        bench,
        &[IDLE, RAM, S3],
        |bed| bed.endpoint.after_reset(on, STRAY),
        |bed| {
            bed.endpoint.after_reset(0, 0);
            // The PCI core puts the table in MSI-X back, and does not look at Control.
            if bed.kind.in_msix {
                bed.endpoint.clear_violations();
            }
        },
    );
}

/// So does one whose capability its user does not see, and one that is not open.
fn r86_comes_up_on_hidden_or_closed(bench: &mut Bench) {
    let ways = [(RAM, true), (RAM, false), (S3, true), (S3, false)];
    bench.each(ways, |bench, (way, hidden)| {
        let on = control(StMode::InterruptVector, Requester::Extended);
        let endpoints = beds(bench, Policy::DsSt).map(|bed| bed.endpoint.clone());
        let mut devices = Vec::new();
        for endpoint in &endpoints {
            if hidden {
                endpoint.set_root_port(root_port::NONE);
                devices.push(endpoint.open());
            }
            endpoint.after_reset(on, 0x5a5a);
        }
        way.sleep().expect("suspend to RAM");
        for (endpoint, kind) in endpoints.iter().zip(KINDS) {
            endpoint.after_reset(0, 0);
            if hidden {
                endpoint.assert_off(&format!("{way:?}, hidden, {kind:?}"));
            } else {
                let device = endpoint.open();
                endpoint.assert_off(&format!("{way:?}, then open, {kind:?}"));
                drop(device);
            }
        }
    });
}

/// Users who go on calling are stopped at the end of a call, and go on afterwards.
fn r86_amid_calls(bench: &mut Bench) {
    let beds = beds(bench, Policy::DsSt);
    for way in [IDLE, RAM, S3, IMAGE] {
        let over = AtomicBool::new(false);
        let calls = beds.each_ref().map(|_| AtomicUsize::new(0));
        thread::scope(|scope| {
            for (bed, calls) in beds.iter().zip(&calls) {
                let call = |device: &tph_selftests::vfio::Device| {
                    device.enable(StMode::InterruptVector, Requester::Standard);
                    while !over.load(Ordering::Relaxed) {
                        device
                            .program(0, &[cpu(CPU), cpu(OTHER_CPU)])
                            .expect("TPH_ST of two");
                        device.program(1, &[cpu(CPU)]).expect("TPH_ST of one");
                        device.enable(StMode::InterruptVector, Requester::Disabled);
                        device.enable(StMode::InterruptVector, Requester::Standard);
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                };
                let device = bed.device.clone();
                scope.spawn(move || call(&device));
            }
            let go_on = || {
                let before = calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
                wait_until(|| {
                    calls
                        .iter()
                        .zip(before)
                        .all(|(calls, before)| calls.load(Ordering::Relaxed) > before)
                });
            };
            go_on();
            sleep(&beds, way);
            go_on();
            over.store(true, Ordering::Relaxed);
        });
        for bed in &beds {
            assert_eq!(
                bed.endpoint.entries()[..2],
                [st(CPU), st(CPU)],
                "{way:?}, {:?}",
                bed.kind
            );
            bed.endpoint.assert_kernel_agrees();
        }
    }
    beds.iter().for_each(Bed::works);
}

/// A user who is about to take a device to D3hot is frozen in the middle of it. When the system
/// wakes up the device is left alone until they are done: the PCI core is not to save TPH.
fn r86_amid_a_change_of_power(bench: &mut Bench) {
    let beds = beds(bench, Policy::DsSt);
    for bed in beds.iter().filter(|bed| bed.kind.loses_state) {
        for way in [IDLE, RAM, S3, IMAGE] {
            let what = format!("{way:?}, {:?}", bed.kind);
            bed.put(StMode::InterruptVector, Requester::Extended);
            let before = bed.in_force();
            let to_d3hot = Call::WriteByte(bed.device.power_register(), D3HOT as u8);
            let stuck = Stuck::new(&bed.device, to_d3hot);
            sleep(&beds, way);
            bed.endpoint.assert_kernel_has_it_off(&what);
            stuck.go_on();
            assert_eq!(bed.power_state(), D3HOT as u8, "{what}");
            bed.endpoint.assert_kernel_has_it_off(&what);
            bed.device.set_power_state(D0);
            assert_eq!(bed.in_force(), before, "{what}");
        }
    }
    beds.iter().for_each(Bed::works);
}

/// What is on the wire is what was before.
fn r86_tag_on_the_wire(bench: &mut Bench) {
    const IOVA: u64 = 0x10_0000;
    let beds = beds(bench, Policy::IvSt);
    let memory = beds
        .each_ref()
        .map(|bed| bed.device.map_dma(1, IOVA).expect("memory for DMA"));
    let hints = || {
        beds.each_ref()
            .map(|bed| Engine::new(&bed.device).write(IOVA, 1, 2, TagFrom::Vector(1)))
    };
    for bed in &beds {
        bed.put(StMode::InterruptVector, Requester::Extended);
    }
    let before = hints();
    for hint in &before {
        assert!(hint.is_some_and(|hint| hint.tag.is_some()), "{hint:?}");
    }
    for way in [IDLE, RAM, S3, IMAGE] {
        sleep(&beds, way);
        assert_eq!(hints(), before, "{way:?}");
    }
    drop(memory);
}

fn main() -> ExitCode {
    harness::run(tests![
        r86_suspend_to_idle,
        r86_suspend_to_ram,
        r86_power_is_cut,
        r86_hibernation,
        r86_turns_back,
        r86_hibernation_that_fails,
        r86_asleep_already,
        r86_in_d3hot_already,
        r86_memory_disabled,
        r86_comes_up_on,
        r86_comes_up_on_hidden_or_closed,
        r86_amid_calls,
        r86_amid_a_change_of_power,
        r86_tag_on_the_wire,
    ])
}
