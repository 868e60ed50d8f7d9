// SPDX-License-Identifier: GPL-2.0-only

//! The same over and over (R51), and everything at once (R43). TPH_SOAK_CYCLES and TPH_SOAK_SECONDS
//! say for how long.

use std::env;
use std::fs;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::eventfd::EventFd;
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::pci::Bdf;
use tph_selftests::policy::{self, Policy};
use tph_selftests::slab::InUse;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, Device, Vectors};
use tph_selftests::{debugfs, harness, tests, Errno};
use tph_tests::{each_table, CPU, OTHER_CPU};
use vfio_bindings::bindings::vfio::VFIO_PCI_MSIX_IRQ_INDEX;

const VECTORS: u32 = 4;
/// Threads that program.
const PROGRAMMERS: u32 = 4;
/// How long a device stays open in a storm.
const EPOCH: Duration = Duration::from_secs(2);

fn number(variable: &str, otherwise: u64) -> u64 {
    env::var(variable).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|error| panic!("{variable}={text}: {error}"))
    })
}

/// Bound, opened, enabled, programmed, closed, unbound.
fn cycle(endpoint: &Endpoint) {
    bench::bind(endpoint, Gate::Safe);
    let device = endpoint.open();
    let vectors = Vectors::allocate(&device, VECTORS).expect("SET_IRQS");
    device.enable(StMode::InterruptVector, Requester::Extended);
    for number in [CPU, OTHER_CPU] {
        device
            .program(0, &[cpu(number); VECTORS as usize])
            .expect("TPH_ST");
    }
    device
        .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, &[])
        .expect("SET_IRQS of none");
    drop(vectors);
    drop(device);
    endpoint.bdf.unbind();
}

fn reference_counts() -> Vec<(String, String)> {
    [VFIO_TPH, "tph_kstate", "tph_rp"]
        .into_iter()
        .filter(|name| module::loaded(name))
        .map(|name| {
            let path = format!("/sys/module/{name}/refcnt");
            let count = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            (name.to_owned(), count)
        })
        .collect()
}

fn r51_life_cycles(bench: &mut Bench) {
    /// What is made once, and kept: caches, per-CPU reserves.
    const WARM_UP: u64 = 3;
    /// Objects of a cache that are none of ours, at most.
    const NOISE: i64 = 16;

    let cycles = number("TPH_SOAK_CYCLES", 20);
    let cap = bench.pick(&Want::TABLE);
    let msix = bench.pick(&Want::MSIX);
    let both = || {
        cycle(&cap);
        cycle(&msix);
    };
    (0..WARM_UP).for_each(|_| both());
    let counts = reference_counts();
    let before = InUse::now();
    let start = Instant::now();
    (0..cycles).for_each(|_| both());
    println!("# {} life cycles in {:?}", 2 * cycles, start.elapsed());

    assert_eq!(reference_counts(), counts);
    let after = InUse::now();
    println!("# more than before: {:?}", after.grown_since(&before, 0));
    // One object that each cycle leaves behind shows as `cycles` of them, two devices twice that.
    // The kernel's own tasks come and go.
    let grown = after.grown_since(&before, (cycles as i64 / 2).min(NOISE));
    assert!(grown.is_empty(), "after {cycles} cycles: {grown:?}");
    module::unload(VFIO_TPH).expect("rmmod");
    cap.assert_off("all of it");
    msix.assert_off("all of it");
}

/// What happens to a device that is open, until `end`. Counts the batches that were written.
fn while_open(device: &Arc<Device>, end: Instant, batches: &AtomicU64) {
    let on = || Instant::now() < end;
    let events: Vec<EventFd> = (0..VECTORS)
        .map(|_| EventFd::new().expect("eventfd"))
        .collect();
    thread::scope(|scope| {
        for number in 0..PROGRAMMERS {
            // The last of them closes the device: whoever that is.
            let device = device.clone();
            scope.spawn(move || {
                while on() {
                    match device.program(0, &[cpu(number % 2); VECTORS as usize]) {
                        Ok(()) => drop(batches.fetch_add(1, Ordering::Relaxed)),
                        // Disabled, No ST, or vectors that are not allocated at the moment.
                        Err(Errno::ENXIO) => (),
                        Err(error) => panic!("TPH_ST: {error}"),
                    }
                }
            });
        }
        scope.spawn(|| {
            for round in 0.. {
                if !on() {
                    break;
                }
                let requester = match round % 4 {
                    0 => Requester::Disabled,
                    1 => Requester::Standard,
                    _ => Requester::Extended,
                };
                device.set_control(control(StMode::InterruptVector, requester));
            }
        });
        scope.spawn(|| {
            while on() {
                device.reset().expect("VFIO_DEVICE_RESET");
            }
        });
        scope.spawn(|| {
            while on() {
                device
                    .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, &events)
                    .expect("SET_IRQS");
                device
                    .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, &[])
                    .expect("SET_IRQS of none");
            }
        });
    });
}

/// What the administrator does meanwhile.
fn administrate(bdf: &Bdf, end: Instant) {
    while Instant::now() < end {
        let name = Policy::IvSt.name().as_bytes();
        match policy::write(bdf, name) {
            Ok(()) | Err(Errno::EBUSY) => (),
            Err(error) => panic!("tph_policy: {error}"),
        }
        for file in ["state", "counters"] {
            debugfs::show(bdf, file);
        }
        // Not to starve the others of the locks.
        thread::sleep(Duration::from_millis(10));
    }
}

/// Opened, raced for and closed again until the time is over.
fn storm(endpoint: &Rc<Endpoint>, seconds: u64) {
    let batches = AtomicU64::new(0);
    let mut opened = 0;
    let end = Instant::now() + Duration::from_secs(seconds);
    bench::bind(endpoint, Gate::Safe);
    let bdf = endpoint.bdf.clone();
    let administrator = thread::spawn(move || administrate(&bdf, end));
    while Instant::now() < end {
        let device = Arc::new(endpoint.open());
        opened += 1;
        while_open(&device, end.min(Instant::now() + EPOCH), &batches);
        assert_eq!(device.control(), endpoint.control(), "as read, as in force");
        endpoint.assert_kernel_agrees();
        drop(device);
        endpoint.assert_off("close");
    }
    administrator.join().expect("the administrator");
    let batches = batches.into_inner();
    println!("# {seconds} s: {opened} times open, {batches} batches");
    assert_ne!(batches, 0, "nothing was ever programmed");
}

fn r43_storm(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.pick(want);
        storm(&endpoint, number("TPH_SOAK_SECONDS", 20) / 2);
        endpoint.assert_off("the storm");
    });
}

fn main() -> ExitCode {
    harness::run(tests![r51_life_cycles, r43_storm])
}
