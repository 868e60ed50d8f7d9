// SPDX-License-Identifier: GPL-2.0-only

//! Whether devices have to wait for each other.
//!
//! Time says nothing under emulation. So one of eight devices is held in the middle of an
//! operation, with all locks that its driver takes for it: test module `tph_hold` lets its first
//! write to hardware sleep, or firmware's answer to it. Meanwhile everything is done on the seven
//! others, each by its own thread. What shares a lock with the held device does not come to an end.

use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tph_bench::Row;
use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::hold::{self, Hold};
use tph_selftests::kstate;
use tph_selftests::module::{Gate, VFIO_TPH};
use tph_selftests::monitor::wait_until;
use tph_selftests::pci::Bdf;
use tph_selftests::policy;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{self, cpu, Device, OpenBy};

/// Devices, each below a root port of its own; the table of every other one is in MSI-X.
const DEVICES: usize = 8;
/// Vectors and entries of each.
const ENTRIES: usize = 8;
/// No thing takes that long. A VM that waits does not use the time up: it passes at once. The
/// kernel complains of who waits twice as long.
const DEADLINE: Duration = Duration::from_secs(60);

fn program(device: &Device) {
    device.program(0, &[cpu(0); ENTRIES]).expect("TPH_ST");
}

fn open(bdf: &Bdf) -> Device {
    vfio::open(bdf, OpenBy::Cdev).expect("open")
}

/// Allocates all vectors, and enables TPH.
fn set_up(device: &Device) {
    device.set_msix(0, &[-1; ENTRIES]).expect("SET_IRQS");
    device.enable(StMode::InterruptVector, Requester::Standard);
}

/// A thing that a user does with a device, and its name.
type Operation = (&'static str, fn(&Device));

/// Everything that a user does with an open device.
const OPERATIONS: [Operation; 9] = [
    ("set up", set_up),
    ("TPH_ST", program),
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
    ("free vectors", |device| {
        device.free_msix();
    }),
    ("reset", |device| device.reset().expect("VFIO_DEVICE_RESET")),
];
/// And what else is done in the life of a device.
const AROUND: [&str; 6] = [
    "bind",
    "enable_unsafe_tph",
    "tph_policy",
    "open",
    "close",
    "unbind",
];

/// Does all of it on one device, from bind to unbind; sends the name of each thing that is done.
fn use_up(bdf: &Bdf, done: &mpsc::Sender<&'static str>) {
    // Nobody listens to what comes too late.
    let say = |what| done.send(what).unwrap_or_default();
    bdf.bind(VFIO_TPH).expect("bind");
    say("bind");
    assert_eq!(Gate::loaded(), Gate::Unsafe);
    say("enable_unsafe_tph");
    policy::write(bdf, policy::shown(bdf).as_bytes()).expect("tph_policy");
    say("tph_policy");
    let device = open(bdf);
    say("open");
    for (name, operation) in OPERATIONS {
        operation(&device);
        say(name);
    }
    drop(device);
    say("close");
    bdf.unbind();
    say("unbind");
}

/// The bench, with one device that is held.
struct Parallel<'a> {
    held: &'a Endpoint,
    others: Vec<&'a Endpoint>,
}

impl<'a> Parallel<'a> {
    fn new(all: &'a [Rc<Endpoint>], held: usize) -> Self {
        let others = all.iter().enumerate().filter(|(number, _)| *number != held);
        Self {
            held: &all[held],
            others: others.map(|(_, endpoint)| &**endpoint).collect(),
        }
    }

    /// Uses the others while `operation` on the held one has come to where it waits.
    fn go_on(&self, name: &str, hold: Hold, operation: impl FnOnce() + Send, come: impl FnOnce()) {
        let wanted = self.others.len() * (OPERATIONS.len() + AROUND.len());
        let mut finished = 0;
        thread::scope(|scope| {
            let holder = scope.spawn(operation);
            come();
            let (done, wait) = mpsc::channel();
            for other in &self.others {
                let (bdf, done) = (other.bdf.clone(), done.clone());
                scope.spawn(move || use_up(&bdf, &done));
            }
            drop(done);
            while finished < wanted && wait.recv_timeout(DEADLINE).is_ok() {
                finished += 1;
            }
            assert!(!holder.is_finished(), "the held device is held no longer");
            // Also if something fails in here: the scope waits for the holder.
            hold.release();
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
    }

    /// The same, held in the first write of a register.
    fn in_write(&self, name: &str, register: u16, operation: impl FnOnce() + Send) {
        let hold = hold::next_write(&self.held.bdf, register);
        self.go_on(name, hold, operation, hold::wait);
    }

    /// The same, held while firmware is asked.
    fn in_firmware(&self, name: &str, operation: impl FnOnce() + Send) {
        let before = kstate::dsm_evaluations();
        let hold = hold::firmware();
        self.go_on(name, hold, operation, || {
            wait_until(|| kstate::dsm_evaluations() > before);
        });
    }

    fn control(&self) -> u16 {
        self.held.tph().offset + PCI_TPH_CTRL as u16
    }
}

/// What is done to a device that others might have to wait for.
pub fn all(bench: &mut Bench) {
    let all: Vec<Rc<Endpoint>> = (0..DEVICES)
        .map(|number| bench.named(&format!("d{number}")))
        .collect();
    for endpoint in &all {
        endpoint.bdf.unbind();
    }

    for (number, name) in [(0, "TPH_ST"), (1, "TPH_ST, table in MSI-X")] {
        let bench = Parallel::new(&all, number);
        bench::bind(bench.held, Gate::Unsafe);
        let device = open(&bench.held.bdf);
        set_up(&device);
        bench.in_write(name, bench.control(), || program(&device));
        drop(device);
        bench.held.bdf.unbind();
    }

    let bench = Parallel::new(&all, 0);
    let (bdf, control) = (&bench.held.bdf, bench.control());
    bench::bind(bench.held, Gate::Unsafe);
    let mut device = None;
    bench.in_write("open", control, || device = Some(open(bdf)));
    let device = device.expect("an open device");
    set_up(&device);
    bench.in_write("a write of Control", control, || device.set_control(0));
    set_up(&device);
    for (name, register) in [
        ("VFIO_DEVICE_RESET, turning TPH off", control),
        ("VFIO_DEVICE_RESET", PCI_COMMAND as u16),
    ] {
        bench.in_write(name, register, || {
            device.reset().expect("VFIO_DEVICE_RESET");
        });
    }
    // The tags of CPU 0 are known, those of this one are not: it is present, and offline.
    bench.in_firmware("the first lookup of a CPU", || {
        device.resolve(&[cpu(1)], false).expect("TPH_RESOLVE");
    });
    set_up(&device);
    bench.in_write("close", control, || drop(device));
    bdf.unbind();

    for endpoint in &all {
        endpoint.check();
    }
}
