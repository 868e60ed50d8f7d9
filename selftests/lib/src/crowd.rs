// SPDX-License-Identifier: GPL-2.0-only

//! A process whose threads are all in the middle of a call that names sources, by the test module
//! `tph_hold`: what the kernel needs for their calls is allocated, and stays so.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Barrier;
use std::thread;

use nix::sched::{sched_setaffinity, CpuSet};
use nix::sys::mman::{mmap, MapFlags, ProtFlags};
use nix::unistd::Pid;
use tph_uapi::vfio_tph::{VFIO_DEVICE_FEATURE_TPH_RESOLVE, VFIO_DEVICE_FEATURE_TPH_ST};

use crate::cgroup::{self, Cgroup};
use crate::hold;
use crate::memory::{page_size, Pages};
use crate::pci::Bdf;
use crate::process::{arguments, say, Process};
use crate::tph::{Requester, StMode};
use crate::vfio::{self, feature_bytes, Device, Op, OpenBy, ResolveRequest, StRequest};

const ARGUMENT: &str = "--crowd";
const STACK: usize = 64 * 1024;

/// Where all of it runs: what a group is charged ahead of time is kept by CPU.
pub const CPU: u32 = 0;

/// Which call they make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `VFIO_DEVICE_FEATURE_TPH_RESOLVE`.
    Resolve,
    /// `VFIO_DEVICE_FEATURE_TPH_ST`, of a device that is enabled for it.
    Program,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Call::Resolve => "resolve",
            Call::Program => "program",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Call::Resolve, Call::Program]
            .into_iter()
            .find(|call| call.name() == name)
    }

    /// Everything before the sources, and how long the sources are.
    fn argument(self, count: u16) -> (Vec<u8>, usize) {
        let (flags, header, each) = match self {
            Call::Resolve => {
                let mut request = ResolveRequest::new(&[]);
                request.count = Some(count.into());
                let flags = Op::Get.flags() | VFIO_DEVICE_FEATURE_TPH_RESOLVE;
                (flags, request.bytes(), 16)
            }
            Call::Program => {
                let mut request = StRequest::new(0, &[]);
                request.count = Some(count);
                let flags = Op::Set.flags() | VFIO_DEVICE_FEATURE_TPH_ST;
                (flags, request.bytes(), 8)
            }
        };
        let sources = usize::from(count) * each;
        let mut bytes = feature_bytes(flags, 0, &header);
        let argsz = (bytes.len() + sources) as u32;
        bytes[..4].copy_from_slice(&argsz.to_ne_bytes());
        (bytes, sources)
    }
}

/// The process.
pub struct Crowd(Process);

impl Crowd {
    /// Starts it in a control group, with so many threads, each to make a call with `count` sources
    /// on a device that nobody has open. Returns when they are about to.
    pub fn new(group: &Cgroup, bdf: &Bdf, call: Call, count: u16, threads: usize) -> Self {
        hold::memory();
        let group = group.path().to_str().expect("UTF-8");
        let (bdf, count, threads) = (bdf.to_string(), count.to_string(), threads.to_string());
        let mut process = Process::again(ARGUMENT, [group, &bdf, call.name(), &count, &threads]);
        process.line();
        Self(process)
    }

    /// Lets its threads call; returns when all of them are held.
    pub fn call(&mut self, threads: usize) {
        self.0.tell("go");
        for _ in 0..threads {
            hold::wait();
        }
    }

    /// Lets them go on, to their end.
    pub fn go_on(self) {
        hold::release();
        self.0.wait();
    }
}

/// An argument whose sources are not there before they are released.
fn argument(call: Call, count: u16) -> (Pages, usize) {
    let (bytes, sources) = call.argument(count);
    let pages = Pages::new(1 + sources.div_ceil(page_size()));
    let start = page_size() - bytes.len();
    pages.write(start, &bytes);
    let file = File::open(hold::MEMORY).unwrap_or_else(|e| panic!("{}: {e}", hold::MEMORY));
    // SAFETY: takes the place of our own pages, to which no reference exists.
    let mapped = unsafe {
        mmap(
            NonZeroUsize::new(pages.address() + page_size()),
            NonZeroUsize::new(pages.length() - page_size()).expect("some pages"),
            ProtFlags::PROT_READ,
            MapFlags::MAP_SHARED | MapFlags::MAP_FIXED,
            &file,
            0,
        )
    };
    mapped.unwrap_or_else(|error| panic!("{}: {error}", hold::MEMORY));
    (pages, start)
}

/// Has `threads` threads call, when told to.
fn call(device: &Device, call: Call, count: u16, threads: usize) {
    let arguments: Vec<_> = (0..threads).map(|_| argument(call, count)).collect();
    let barrier = Barrier::new(threads + 1);
    thread::scope(|scope| {
        for (pages, start) in &arguments {
            let (barrier, address) = (&barrier, pages.at(*start) as usize);
            let body = move || {
                barrier.wait();
                barrier.wait();
                // Zeros, once they are there: refused or not.
                let _ = device.feature_raw(address as *mut u8);
            };
            thread::Builder::new()
                .stack_size(STACK)
                .spawn_scoped(scope, body)
                .expect("a thread");
        }
        barrier.wait();
        say("ready");
        io::stdin().read_exact(&mut [0]).expect("stdin");
        barrier.wait();
    });
}

/// What the other process does, if this is it.
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = arguments(ARGUMENT)?;
    let group = arguments.next()?;
    let bdf = Bdf::unchecked(&arguments.next()?);
    let what = Call::parse(&arguments.next()?)?;
    let count = arguments.next()?.parse().ok()?;
    let threads = arguments.next()?.parse().ok()?;

    cgroup::enter(Path::new(&group));
    let mut cpus = CpuSet::new();
    cpus.set(CPU as usize).expect("CPU 0");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("sched_setaffinity");

    let device = vfio::open(&bdf, OpenBy::Cdev).expect("open");
    if what == Call::Program {
        device.enable(StMode::InterruptVector, Requester::Standard);
    }
    call(&device, what, count, threads);
    Some(ExitCode::SUCCESS)
}
