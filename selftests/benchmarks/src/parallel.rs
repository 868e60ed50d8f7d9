// SPDX-License-Identifier: GPL-2.0-only

//! Whether devices have to wait for each other.
//!
//! Time says nothing under emulation. So one of eight devices is held in the middle of an
//! operation, with all locks that its driver takes for it: test module `tph_hold` lets its first
//! write to hardware sleep. Meanwhile everything is done on the seven others, each by its own
//! thread. What shares a lock with the held device does not come to an end.

use std::fs;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tph_bench::Row;
use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::pci::Bdf;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{self, cpu, Device, OpenBy, Vectors};

const MODULE: &str = "tph_hold";
const HOLD: &str = "/sys/kernel/debug/tph_hold/hold";
const HELD: &str = "/sys/kernel/debug/tph_hold/held";

/// Devices, each below a root port of its own.
const DEVICES: usize = 8;
/// Nothing takes that long. A VM that waits does not use the time up: it passes at once.
const DEADLINE: Duration = Duration::from_secs(300);

fn tell(request: &str) {
    fs::write(HOLD, request).unwrap_or_else(|error| panic!("{HOLD}: {request}: {error}"));
}

/// A thing that a user does with a device, and its name.
type Operation = (&'static str, fn(&Device));

/// Everything that a user does with a device.
const OPERATIONS: [Operation; 8] = [
    ("TPH_ST", |device| {
        device.program(0, &[cpu(0); 8]).expect("TPH_ST")
    }),
    ("TPH_RESOLVE", |device| {
        device.resolve(&[cpu(0)], false).expect("TPH_RESOLVE");
    }),
    ("Control", |device| {
        let control = device.control();
        device.set_control(0);
        device.set_control(control);
    }),
    ("config read", |device| drop(device.config_space())),
    ("region info", |device| {
        device.region(0).expect("BAR 0");
    }),
    ("BAR read", |device| {
        device.bar_dword(2, 0);
    }),
    ("interrupts", |device| {
        Vectors::allocate(device, 4).expect("SET_IRQS");
        device.free_irqs(2).expect("SET_IRQS");
    }),
    ("reset", |device| device.reset().expect("VFIO_DEVICE_RESET")),
];

/// Does all of it on one device, from bind to unbind; sends the name of each thing that is done.
fn use_up(bdf: &Bdf, done: &mpsc::Sender<&'static str>) {
    let say = |what| done.send(what).expect("somebody listens");
    bdf.bind(VFIO_TPH).expect("bind");
    say("bind");
    let device = vfio::open(bdf, OpenBy::Cdev).expect("open");
    say("open");
    device.enable(StMode::InterruptVector, Requester::Standard);
    for (name, operation) in OPERATIONS {
        operation(&device);
        say(name);
    }
    drop(device);
    say("close");
    bdf.unbind();
    say("unbind");
}

/// Holds a device in the write of a register that `operation` makes, and uses all others.
fn while_held(all: &[Rc<Endpoint>], name: &str, register: u16, operation: fn(&Device)) {
    let (held, others) = all.split_first().expect("devices");
    bench::bind(held, Gate::Unsafe);
    let device = held.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    tell(&format!("{} {register:#x}", held.bdf));

    let wanted = others.len() * (OPERATIONS.len() + 4);
    let mut finished = 0;
    thread::scope(|scope| {
        let holder = scope.spawn(|| operation(&device));
        fs::read_to_string(HELD).expect("somebody is held");
        let (done, wait) = mpsc::channel();
        for other in others {
            let (bdf, done) = (other.bdf.clone(), done.clone());
            scope.spawn(move || use_up(&bdf, &done));
        }
        drop(done);
        while finished < wanted && wait.recv_timeout(DEADLINE).is_ok() {
            finished += 1;
        }
        assert!(!holder.is_finished(), "the held device is held no longer");
        tell("release");
    });
    Row::new(
        "others go on",
        format!("one of {DEVICES} devices held in {name}"),
        "operations done",
        finished as f64,
    )
    .limit(wanted as f64, "each of 7 devices, from bind to unbind")
    .exactly(wanted as f64)
    .print();
    drop(device);
    held.bdf.unbind();
}

/// One device held in TPH_ST, in a write of Control, and in a reset.
pub fn all(bench: &mut Bench) {
    module::ensure(MODULE);
    let all: Vec<Rc<Endpoint>> = (0..DEVICES)
        .map(|number| bench.named(&format!("d{number}")))
        .collect();
    for endpoint in &all {
        endpoint.bdf.unbind();
    }
    let control = all[0].tph().offset + PCI_TPH_CTRL as u16;
    while_held(&all, "TPH_ST", control, |device| {
        device.program(0, &[cpu(0); 8]).expect("TPH_ST");
    });
    while_held(&all, "a write of Control", control, |device| {
        device.set_control(0);
    });
    while_held(&all, "VFIO_DEVICE_RESET", PCI_COMMAND as u16, |device| {
        device.reset().expect("VFIO_DEVICE_RESET");
    });
    for endpoint in &all {
        endpoint.check();
    }
}
