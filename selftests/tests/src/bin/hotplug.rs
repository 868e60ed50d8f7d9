// SPDX-License-Identifier: GPL-2.0-only

//! Devices that leave while they are in use: by the book, where the kernel lets go first, and torn
//! out, where it hears of it afterwards. With tables in the capability and in MSI-X.

use std::process::ExitCode;
use std::thread;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::child::{Owner, Task};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::hotplug::Plug;
use tph_selftests::kmsg::KernelLog;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::protocol::Fault;
use tph_selftests::tests;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{cpu, Device};
use tph_tests::{each_table, open_with_vectors, st, CPU};

/// What vfio says when it asks a user for a device.
const ASKED: &str = "Relaying device request to user";

/// Calls `body` with a device of each kind, which has a slot of its own, driven by vfio_tph.
fn each_kind(bench: &mut Bench, body: impl Fn(&Endpoint)) {
    each_table(bench, |bench, want| body(&bench.take(Gate::Safe, want)));
}

/// Opens a device, and programs an entry.
fn program(endpoint: &Endpoint) -> Device {
    let device = open_with_vectors(endpoint);
    endpoint.assert_off("open");
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &[cpu(CPU)]).expect("TPH_ST");
    assert_eq!(endpoint.entries()[0], st(CPU));
    device
}

/// A device that was gone: the module can be unloaded, and all of it works again.
fn as_new(endpoint: &Endpoint) {
    module::unload(VFIO_TPH).expect("rmmod");
    bench::bind(endpoint, Gate::Safe);
    drop(program(endpoint));
}

/// Takes the device away from a process that is in the middle of everything; `leave` returns when
/// the kernel has let go of it.
fn leave_while_busy(endpoint: &Endpoint, task: Task, leave: impl FnOnce() + Send) {
    dies_while_busy(endpoint, task, Fault::None, leave);
}

/// The same of a device that has a fault at that moment.
fn dies_while_busy(endpoint: &Endpoint, task: Task, fault: Fault, leave: impl FnOnce() + Send) {
    let mut kernel_log = KernelLog::from_now();
    let owner = Owner::start(&endpoint.bdf, task);
    endpoint.fault(fault);
    thread::scope(|scope| {
        let leaving = scope.spawn(leave);
        match task {
            Task::BusyUntilAsked => owner.wait(),
            _ => {
                kernel_log.wait_for(ASKED);
                assert!(!leaving.is_finished(), "gone from under its user");
                owner.kill();
            }
        }
        leaving.join().expect("a device that leaves");
    });
    assert!(!endpoint.bdf.exists(), "{} is still there", endpoint.bdf);
}

/// What the hardware was left with by the kernel, which could still reach it.
fn assert_left_clean(endpoint: &Endpoint) {
    assert_eq!(endpoint.tph().control, 0);
    endpoint.assert_tags(&[], "let go of");
}

const BUSY: [Task; 2] = [Task::BusyUntilAsked, Task::Busy];

fn r52_slot_switched_off(bench: &mut Bench) {
    each_kind(bench, |endpoint| {
        for task in BUSY {
            let plug = Plug::of(endpoint);
            let slot = plug.slot();
            leave_while_busy(endpoint, task, || slot.switch_off().expect("power"));
            assert_left_clean(endpoint);
            plug.plug_in();
            as_new(endpoint);
        }
    });
}

/// By QEMU's monitor.
fn r52_attention_button(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    let plug = Plug::of(&endpoint);
    let slot = plug.slot();
    leave_while_busy(&endpoint, Task::BusyUntilAsked, || {
        slot.press_button();
        slot.wait_until_empty();
    });
    assert_left_clean(&endpoint);
    plug.plug_in();
    as_new(&endpoint);
}

fn torn_out(bench: &mut Bench, fault: Fault) {
    each_kind(bench, |endpoint| {
        for task in BUSY {
            let plug = Plug::of(endpoint);
            let slot = plug.slot();
            dies_while_busy(endpoint, task, fault, || {
                slot.tear_out();
                slot.wait_until_empty();
            });
            endpoint.fault(Fault::None);
            plug.plug_in();
            as_new(endpoint);
        }
    });
}

fn r52_torn_out(bench: &mut Bench) {
    torn_out(bench, Fault::None);
}

/// It answers nothing any more when the kernel hears of it.
fn r52_torn_out_and_dead(bench: &mut Bench) {
    torn_out(bench, Fault::AllOnes);
}

/// Bound, and opened once, but not now.
fn r52_torn_out_while_closed(bench: &mut Bench) {
    each_kind(bench, |endpoint| {
        drop(program(endpoint));
        let plug = Plug::of(endpoint);
        let slot = plug.slot();
        slot.tear_out();
        slot.wait_until_empty();
        plug.plug_in();
        as_new(endpoint);
    });
}

/// By its file in sysfs; the hardware stays.
fn r52_removed_in_sysfs(bench: &mut Bench) {
    each_kind(bench, |endpoint| {
        for task in BUSY {
            let bdf = &endpoint.bdf;
            leave_while_busy(endpoint, task, || bdf.remove());
            assert_left_clean(endpoint);
            bdf.rescan();
            as_new(endpoint);
        }
    });
}

/// The root port goes, and all that is below it.
fn r52_root_port_removed(bench: &mut Bench) {
    each_kind(bench, |endpoint| {
        let port = endpoint.bdf.root_port().expect("a root port");
        for task in BUSY {
            leave_while_busy(endpoint, task, || port.remove());
            assert_left_clean(endpoint);
            endpoint.bdf.rescan();
            as_new(endpoint);
        }
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r52_slot_switched_off,
        r52_attention_button,
        r52_torn_out,
        r52_torn_out_and_dead,
        r52_torn_out_while_closed,
        r52_removed_in_sysfs,
        r52_root_port_removed,
    ])
}
