// SPDX-License-Identifier: GPL-2.0-only

//! A process that owns a device, and can be killed: this program once more.

use std::io;
use std::process::{self, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Barrier;
use std::thread;

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;

use crate::errno;
use crate::pci::Bdf;
use crate::process::{arguments, say, wait_for_end, Process};
use crate::tph::{control, Requester, StMode};
use crate::vfio::{self, cpu, wait_for, Device, OpenBy, Source, Vectors};

const ARGUMENT: &str = "--own";

/// What the other process does with a device that it has enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Programs so many entries, of vectors that it allocates if that is where they are, and waits.
    Program(u16),
    /// Programs, looks up, writes and reads Control, over and over, until vfio asks for the device.
    BusyUntilAsked,
    /// The same for ever.
    Busy,
}

impl Task {
    fn words(self) -> [String; 2] {
        let (name, count) = match self {
            Task::Program(count) => ("program", count),
            Task::BusyUntilAsked => ("busy-until-asked", 0),
            Task::Busy => ("busy", 0),
        };
        [name.to_owned(), count.to_string()]
    }

    fn parse(name: &str, count: u16) -> Option<Self> {
        Some(match name {
            "program" => Task::Program(count),
            "busy-until-asked" => Task::BusyUntilAsked,
            "busy" => Task::Busy,
            _ => return None,
        })
    }
}

/// A process that has opened a device, enabled TPH and programmed entries.
pub struct Owner(Process);

impl Owner {
    /// Starts it; returns when it has done all that.
    pub fn start(bdf: &Bdf, task: Task) -> Self {
        let [name, count] = task.words();
        let mut process = Process::again(ARGUMENT, [&bdf.to_string()[..], &name, &count]);
        process.line();
        Self(process)
    }

    /// Kills it, and waits until its files are closed.
    pub fn kill(self) {}

    /// Waits until it has ended by itself. Fails the test if it has something to complain about.
    pub fn wait(self) {
        self.0.wait();
    }
}

/// CPUs whose tags are known, in turn.
fn sources(count: u16) -> Vec<Source> {
    (0..count).map(|entry| cpu(u32::from(entry) % 2)).collect()
}

/// Ends all threads, which a panic in one of them would not.
fn complain(what: &str, error: Errno) -> ! {
    eprintln!("{what}: {error}");
    process::exit(1)
}

/// What a user may be told of a device that is gone, or on its way.
fn tolerate(what: &str, result: Result<(), Errno>) {
    match result {
        Ok(()) | Err(Errno::EIO | Errno::ENXIO | Errno::ENODEV) => (),
        Err(error) => complain(what, error),
    }
}

/// Everything that reaches for the device, until `stop`.
fn busy(device: &Device, entries: u16, stop: &AtomicBool, started: &Barrier) {
    let at = device.tph_offset() + tph_uapi::pci_regs::PCI_TPH_CTRL as u16;
    let control_values = [Requester::Standard, Requester::Extended]
        .map(|requester| control(StMode::InterruptVector, requester));
    let done = |result: io::Result<usize>| result.map(drop).map_err(errno);
    let rounds: [&(dyn Fn() + Sync); 3] = [
        &|| tolerate("TPH_ST", device.program(0, &sources(entries))),
        &|| {
            for value in control_values {
                tolerate(
                    "Control",
                    done(device.write_config(at, &value.to_le_bytes())),
                );
                tolerate("Control", done(device.read_config(at, &mut [0; 4])));
            }
        },
        // Of a device that is gone, the hints of CPUs are what they were.
        &|| match device.resolve(&sources(2), false) {
            Ok(_) | Err(Errno::EPERM) => (),
            Err(error) => complain("TPH_RESOLVE", error),
        },
    ];
    thread::scope(|scope| {
        for round in rounds {
            scope.spawn(move || {
                round();
                started.wait();
                while !stop.load(Ordering::Relaxed) {
                    round();
                }
            });
        }
    });
}

fn busy_until_asked(device: &Device, entries: u16, asked: Option<&EventFd>) {
    let (stop, started) = (AtomicBool::new(false), Barrier::new(4));
    thread::scope(|scope| {
        scope.spawn(|| busy(device, entries, &stop, &started));
        started.wait();
        say("ready");
        if let Some(event) = asked {
            wait_for(event);
            stop.store(true, Ordering::Relaxed);
        }
    });
}

/// What the other process does, if this is it.
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = arguments(ARGUMENT)?;
    let bdf = Bdf::unchecked(&arguments.next()?);
    let task = Task::parse(&arguments.next()?, arguments.next()?.parse().ok()?)?;

    let device = vfio::open(&bdf, OpenBy::Cdev).expect("open");
    let offer = device.tph().expect("GET of TPH");
    let count = match task {
        Task::Program(count) => count,
        Task::BusyUntilAsked | Task::Busy => offer.st_entries,
    };
    let in_msix = offer.flags & tph_uapi::vfio_tph::VFIO_TPH_FLAG_ST_MSIX != 0;
    let _vectors =
        in_msix.then(|| Vectors::allocate(&device, count.into()).expect("SET_IRQS of the vectors"));
    device.enable(StMode::InterruptVector, Requester::Extended);
    device.program(0, &sources(count)).expect("TPH_ST");

    let asked = device.request_event();
    match task {
        Task::Program(_) => {
            say("ready");
            wait_for_end();
        }
        Task::BusyUntilAsked => busy_until_asked(&device, count, Some(&asked)),
        Task::Busy => busy_until_asked(&device, count, None),
    }
    Some(ExitCode::SUCCESS)
}
