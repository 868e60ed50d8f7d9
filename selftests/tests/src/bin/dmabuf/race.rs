// SPDX-License-Identifier: GPL-2.0-only

//! All that happens to a dma-buf at once, from many threads: bounded, and with seeds that a failure
//! prints.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::dma_buf::count;
use tph_selftests::importer::Importer;
use tph_selftests::module::Gate;
use tph_selftests::pci::Bdf;
use tph_selftests::policy::Policy;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{dma_buf, Device, Hints};
use tph_selftests::Errno;

use super::{assert_revoked, assert_told, export, Exporter, Peer, HINTS};

const SEED: u64 = 0x7470_6864_6d61_6275;
const ROUNDS: usize = 200;
const REVOCATIONS: usize = 40;
const CLOSINGS: usize = 10;

/// Hints that show whether they are whole.
fn whole(n: u8) -> Hints {
    Hints::both(n, u16::from_be_bytes([n, !n]), n & 3)
}

/// What somebody was told is one of them, or nothing.
#[track_caller]
fn check(told: Result<(u16, u8), Errno>, extended: bool) {
    match told {
        Ok((tag, ph)) => {
            let [high, low] = tag.to_be_bytes();
            let n = if extended { high } else { low };
            let expected = (whole(n).tag(extended).expect("a tag"), n & 3);
            assert_eq!((tag, ph), expected, "half of a hint, extended: {extended}");
        }
        // Nothing in this namespace, or out of reach at the moment.
        Err(Errno::EOPNOTSUPP | Errno::ENODEV) => (),
        Err(error) => panic!("extended: {extended}: {error}"),
    }
}

/// What to publish next: mostly whole hints, now and then one namespace only, or none.
fn any_hints(random: &mut fastrand::Rng) -> Hints {
    let hints = whole(random.u8(..));
    match random.u8(..8) {
        0 => Hints::NONE,
        1 => Hints { st: None, ..hints },
        2 => Hints { xst: None, ..hints },
        _ => hints,
    }
}

/// What of an exporter threads share.
struct Shared<'a> {
    bdf: &'a Bdf,
    device: &'a Device,
    dma_buf: &'a OwnedFd,
}

fn publish(shared: &Shared<'_>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..ROUNDS {
        let hints = any_hints(&mut random);
        shared.device.publish(shared.dma_buf, hints).expect("SET");
    }
}

/// An importer in the kernel.
fn ask(importer: &Importer, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..ROUNDS {
        let extended = random.bool();
        check(super::hint(importer, extended), extended);
    }
}

/// An importer that comes and goes.
fn attach(shared: &Shared<'_>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..ROUNDS / 4 {
        let importer = Importer::new(shared.dma_buf);
        let attached = match random.bool() {
            true => importer.attach(shared.bdf),
            false => importer.attach_ignorant(shared.bdf),
        };
        match attached {
            Ok(()) => (),
            Err(Errno::ENODEV) => continue,
            Err(error) => panic!("attach: {error}"),
        }
        for _ in 0..random.usize(..4) {
            match importer.map() {
                Ok(()) | Err(Errno::ENODEV | Errno::EBUSY) => (),
                Err(error) => panic!("map: {error}"),
            }
            match importer.unmap() {
                // Invalid, and so unmapped, meanwhile.
                Ok(()) | Err(Errno::ENXIO) => (),
                Err(error) => panic!("unmap: {error}"),
            }
        }
        for (extended, answer) in [false, true]
            .into_iter()
            .zip(importer.report().when_mapped.into_iter().flatten())
        {
            let told = match answer.errno {
                0 => Ok((answer.steering_tag, answer.ph)),
                errno => Err(Errno::from_raw(errno as i32)),
            };
            check(told, extended);
        }
        // Detached by hand or by the file's end.
        if random.bool() {
            importer.detach().expect("detach");
        }
    }
}

/// The owner of another device.
fn look_up(device: &Device, shared: &Shared<'_>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let source = dma_buf(shared.dma_buf);
    for _ in 0..ROUNDS {
        let extended = random.bool();
        let found = device.resolve(&[source], extended);
        check(found.map(|found| (found[0].st, found[0].ph)), extended);
        match device.program_extended(random.u16(..8), &[source]) {
            Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENODEV) => (),
            Err(error) => panic!("TPH_ST: {error}"),
        }
    }
}

fn revoke(device: &Device) {
    for _ in 0..REVOCATIONS {
        device.decode_memory(false);
        device.decode_memory(true);
    }
}

/// Other dma-bufs of the device, gone as soon as they have come.
fn come_and_go(device: &Device, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..ROUNDS / 4 {
        let fd = export(device);
        let importer = random.bool().then(|| Importer::new(&fd));
        device.publish(&fd, whole(random.u8(..))).expect("SET");
        drop(fd);
        if let Some(importer) = importer {
            check(super::hint(&importer, true), true);
        }
    }
}

/// SET against the callback, revocation, lookups of a peer, importers and descriptors that come and
/// go.
pub fn r58_many_threads(bench: &mut Bench) {
    let exporter = Exporter::under(bench, Gate::Unsafe, Policy::IvSt);
    println!("# seed {SEED:#x}");
    let peer = Peer::beside(bench, &exporter, Policy::DsSt);
    peer.device
        .enable(StMode::InterruptVector, Requester::Extended);
    let importer = Importer::new(&exporter.dma_buf);
    let before = count();
    let shared = Shared {
        bdf: &exporter.endpoint.bdf,
        device: &exporter.device,
        dma_buf: &exporter.dma_buf,
    };
    let device = &peer.device;
    thread::scope(|scope| {
        scope.spawn(|| publish(&shared, SEED));
        scope.spawn(|| publish(&shared, SEED + 1));
        scope.spawn(|| ask(&importer, SEED + 2));
        scope.spawn(|| attach(&shared, SEED + 3));
        scope.spawn(|| look_up(device, &shared, SEED + 4));
        scope.spawn(|| revoke(shared.device));
        scope.spawn(|| come_and_go(shared.device, SEED + 5));
    });
    assert_eq!(count(), before, "dma-bufs that nobody has");
    exporter.publish(HINTS).expect("SET");
    assert_told(&importer, HINTS, "afterwards");
    for entry in &peer.endpoint.entries()[..8] {
        if *entry != 0 {
            check(Ok((*entry, entry.to_be_bytes()[0] & 3)), true);
        }
    }
}

/// The device is closed while importers ask, over and over.
pub fn r58_closing_all_the_time(bench: &mut Bench) {
    let first = Exporter::new(bench);
    println!("# seed {SEED:#x}");
    let endpoint = first.endpoint.clone();
    drop(first);
    let mut random = fastrand::Rng::with_seed(SEED);
    let before = count();
    let answers = AtomicUsize::new(0);
    for _ in 0..CLOSINGS {
        let (_, device, dma_buf) = Exporter::open(endpoint.clone()).parts();
        device.publish(&dma_buf, HINTS).expect("SET");
        let importers = [(); 3].map(|()| Importer::new(&dma_buf));
        for importer in &importers {
            importer.attach(&endpoint.bdf).expect("attach");
            importer.map().expect("map");
        }
        let (sets, seed) = (random.usize(1..60), random.u64(..));
        thread::scope(|scope| {
            for importer in &importers {
                // Until the device is closed: memory stays on, so ENODEV means just that.
                scope.spawn(|| loop {
                    match super::hint(importer, true) {
                        Err(Errno::ENODEV) => break,
                        told => check_or(told),
                    }
                    answers.fetch_add(1, Ordering::Relaxed);
                });
            }
            let fd = &dma_buf;
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..sets {
                    device.publish(fd, whole(random.u8(..))).expect("SET");
                }
                drop(device);
            });
        });
        for importer in &importers {
            assert_revoked(importer, "closed");
            assert!(!importer.report().mapped);
        }
    }
    assert_eq!(count(), before, "dma-bufs that nobody has");
    println!("# {} answers", answers.into_inner());
}

/// The hint of the beginning, or a whole one.
#[track_caller]
fn check_or(told: Result<(u16, u8), Errno>) {
    if told != super::expected(HINTS, true) {
        check(told, true);
    }
}
