// SPDX-License-Identifier: GPL-2.0-only

//! Dma-bufs as sources of TPH_ST and TPH_RESOLVE.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::dma_buf::udmabuf;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::importer::Importer;
use tph_selftests::module::Gate;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::Counters;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{
    cpu, dma_buf, dma_buf_fd, literal, Device, Hints, ResolveRequest, Source, StRequest, Vectors,
};
use tph_selftests::{assert_errno, Errno};
use tph_tests::{xst, CPU};

use super::{closed_fd, expected, export, export_at, hint, size, Exporter};
use super::{HINTS, OTHER_HINTS};

/// An exporter at the default policy, beside which another device may have any.
fn new(bench: &mut Bench) -> Exporter {
    Exporter::under(bench, Gate::Unsafe, Policy::IvSt)
}

/// A device whose requests may go to an exporter's memory.
pub struct Peer {
    pub endpoint: Rc<Endpoint>,
    pub device: Device,
}

impl Peer {
    /// Another device with a table in its capability, at a policy, TPH off.
    pub fn beside(bench: &mut Bench, exporter: &Exporter, policy: Policy) -> Self {
        let endpoint = bench.pick(&Want::TABLE);
        policy::bind_under(&endpoint, exporter.gate, policy);
        let device = exporter.open_other(&endpoint);
        Self { endpoint, device }
    }
}

/// Each namespace has its own tag, or none.
fn variants() -> [Hints; 4] {
    [
        HINTS,
        Hints { xst: None, ..HINTS },
        Hints { st: None, ..HINTS },
        Hints::NONE,
    ]
}

/// In TPH_ST and in TPH_RESOLVE, for each pair of what is published and what is asked for.
pub fn r64_namespace_asked_for_or_none(bench: &mut Bench) {
    let exporter = new(bench);
    let requester = Peer::beside(bench, &exporter, Policy::DsSt);
    let device = &requester.device;
    let source = dma_buf(&exporter.dma_buf);
    device.enable(StMode::InterruptVector, Requester::Extended);
    for hints in variants() {
        exporter.publish(hints).expect("SET");
        for extended in [false, true] {
            let what = format!("{hints:?}, extended: {extended}");
            device.program_extended(0, &[cpu(CPU)]).expect("TPH_ST");
            let programmed = device.program_in(extended, 0, &[source]);
            let found = device.resolve(&[source], extended);
            match expected(hints, extended) {
                Ok((tag, ph)) => {
                    assert_eq!(programmed, Ok(()), "{what}");
                    assert_eq!(requester.endpoint.entries()[0], tag, "{what}");
                    let found = found.unwrap_or_else(|error| panic!("{what}: {error}"));
                    let flags = VFIO_TPH_RESOLUTION_ST as u8;
                    assert_eq!(
                        (found[0].st, found[0].ph, found[0].flags),
                        (tag, ph, flags),
                        "{what}"
                    );
                }
                Err(errno) => {
                    assert_eq!(programmed, Err(errno), "{what}");
                    assert_eq!(requester.endpoint.entries()[0], xst(CPU), "{what}");
                    assert_eq!(found.err(), Some(errno), "{what}");
                }
            }
        }
    }
}

/// What of a peer's hint each policy gives: always the processing hint; a tag, to the user and into
/// the table, only where tags are disclosed.
pub fn r64_policies(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        let exporter = new(bench);
        exporter.publish(HINTS).expect("SET");
        let requester = Peer::beside(bench, &exporter, policy);
        let device = &requester.device;
        let source = dma_buf(&exporter.dma_buf);
        for extended in [false, true] {
            let what = format!("{policy:?}, extended: {extended}");
            let found = device.resolve(&[source], extended).expect("TPH_RESOLVE");
            let tag = HINTS.tag(extended).expect("a tag");
            let told = match policy.discloses() {
                true => (tag, HINTS.ph, VFIO_TPH_RESOLUTION_ST as u8),
                false => (0, HINTS.ph, 0),
            };
            assert_eq!((found[0].st, found[0].ph, found[0].flags), told, "{what}");
            if policy == Policy::NoSt {
                assert_errno!(device.program(0, &[source]), EOPNOTSUPP, "{what}");
                continue;
            }
            device.set_control(0);
            device.enable(StMode::InterruptVector, Requester::Extended);
            let mut request = StRequest::new(3, &[source, source]).extended_if(extended);
            if !policy.discloses() {
                assert_errno!(device.tph_st(&mut request), EPERM, "{what}");
                continue;
            }
            device.tph_st(&mut request).expect("TPH_ST");
            assert_eq!(requester.endpoint.entries()[3..5], [tag; 2], "{what}");
        }
    });
}

pub fn r64_table_in_msix(bench: &mut Bench) {
    let exporter = new(bench);
    exporter.publish(HINTS).expect("SET");
    let endpoint = bench.pick(&Want::MSIX);
    policy::bind_under(&endpoint, exporter.gate, Policy::DsSt);
    let device = exporter.open_other(&endpoint);
    let _vectors = Vectors::allocate(&device, 4).expect("SET_IRQS");
    device.enable(StMode::InterruptVector, Requester::Extended);
    let source = dma_buf(&exporter.dma_buf);
    device
        .program_extended(1, &[source, cpu(CPU), source])
        .expect("TPH_ST");
    let tag = HINTS.xst.expect("a tag");
    assert_eq!(endpoint.entries()[..4], [0, tag, xst(CPU), tag]);
    device.program(2, &[source]).expect("TPH_ST");
    assert_eq!(endpoint.entries()[2], HINTS.tag(false).expect("a tag"));
}

/// A batch with a source that is refused changes nothing, and says which it was.
#[track_caller]
fn refuses(requester: &Peer, sources: &[Source], errno: Errno, fault: u32) {
    for extended in [false, true] {
        let what = format!("{sources:?}, extended: {extended}");
        let before = requester.endpoint.registers();
        let mut request = StRequest::new(0, sources).extended_if(extended);
        let mut lookup = ResolveRequest::new(sources).extended_if(extended);
        let programmed = requester.device.tph_st(&mut request);
        assert_eq!(programmed, Err(errno), "TPH_ST: {what}");
        assert_eq!(request.fault, fault, "TPH_ST: {what}");
        assert_eq!(requester.endpoint.registers(), before, "{what}");

        let found = requester.device.tph_resolve(&mut lookup);
        assert_eq!(found, Err(errno), "TPH_RESOLVE: {what}");
        assert_eq!(lookup.fault, fault, "TPH_RESOLVE: {what}");
        let written = lookup
            .entries
            .iter()
            .any(|e| (e.st, e.ph, e.flags) != (0, 0, 0));
        assert!(!written, "TPH_RESOLVE: {what}: {:?}", lookup.entries);
    }
}

pub fn r64_all_or_nothing(bench: &mut Bench) {
    let exporter = new(bench);
    exporter.publish(HINTS).expect("SET");
    let silent = export_at(&exporter.device, size());
    let requester = Peer::beside(bench, &exporter, Policy::Literal);
    requester
        .device
        .enable(StMode::InterruptVector, Requester::Extended);
    requester
        .device
        .program_extended(0, &[literal(0x1234); 5])
        .expect("TPH_ST");
    let good = dma_buf(&exporter.dma_buf);
    for position in 0..5 {
        let mut sources = [good, cpu(CPU), good, cpu(CPU), good];
        sources[position] = dma_buf(&silent);
        refuses(&requester, &sources, Errno::EOPNOTSUPP, position as u32);
    }
    // The first of two.
    let sources = [good, dma_buf_fd(-1), dma_buf(&silent)];
    refuses(&requester, &sources, Errno::EBADF, 1);
}

/// What can be wrong with a descriptor, at each position.
pub fn r56_fds_as_sources(bench: &mut Bench) {
    let exporter = new(bench);
    exporter.publish(HINTS).expect("SET");
    let requester = Peer::beside(bench, &exporter, Policy::DsSt);
    requester
        .device
        .enable(StMode::InterruptVector, Requester::Extended);
    let memory = udmabuf(1);
    let file = File::open("/proc/self/exe").expect("a file");
    let good = dma_buf(&exporter.dma_buf);
    let own = {
        requester.device.decode_memory(true);
        export(&requester.device)
    };
    for (source, errno) in [
        (dma_buf(&memory), Errno::EOPNOTSUPP),
        (dma_buf(&own), Errno::EOPNOTSUPP),
        (dma_buf(&file), Errno::EINVAL),
        (dma_buf(&requester.device), Errno::EINVAL),
        (dma_buf_fd(closed_fd()), Errno::EBADF),
        (dma_buf_fd(-1), Errno::EBADF),
        (dma_buf_fd(i32::MIN), Errno::EBADF),
        (dma_buf_fd(i32::MAX), Errno::EBADF),
        (Source { flags: 1, ..good }, Errno::EINVAL),
        (
            Source {
                flags: 0x80,
                ..good
            },
            Errno::EINVAL,
        ),
        (
            Source {
                reserved: 1,
                ..good
            },
            Errno::EINVAL,
        ),
    ] {
        refuses(&requester, &[source], errno, 0);
        refuses(&requester, &[good, good, source], errno, 2);
    }
    let number = exporter.dma_buf.as_raw_fd();
    requester
        .device
        .program(0, &[dma_buf_fd(number)])
        .expect("the descriptor itself");
}

/// Memory that is out of reach has no hint, and what was programmed stays.
pub fn r64_revoked_source(bench: &mut Bench) {
    let exporter = new(bench);
    exporter.publish(HINTS).expect("SET");
    let requester = Peer::beside(bench, &exporter, Policy::DsSt);
    requester
        .device
        .enable(StMode::InterruptVector, Requester::Extended);
    let source = dma_buf(&exporter.dma_buf);
    requester
        .device
        .program_extended(0, &[source])
        .expect("TPH_ST");
    let tag = HINTS.xst.expect("a tag");
    exporter.device.decode_memory(false);
    refuses(&requester, &[cpu(CPU), source], Errno::ENODEV, 1);
    assert_eq!(requester.endpoint.entries()[0], tag);
    exporter.device.decode_memory(true);
    requester
        .device
        .program_extended(1, &[source])
        .expect("TPH_ST");
    assert_eq!(requester.endpoint.entries()[..2], [tag; 2]);
}

/// Below policy 2 a tag that somebody has published for a memory does not get into the table: it
/// would go out with a vector's requests to any memory, and who publishes may be who programs.
pub fn r71_own_tag_at_the_default_gate(bench: &mut Bench) {
    let exporter = Exporter::at(bench, Policy::IvSt);
    let (endpoint, device) = (&exporter.endpoint, &exporter.device);
    exporter.publish(HINTS).expect("SET");
    let offer = device.tph().expect("TPH");
    assert_eq!(offer.flags & VFIO_TPH_FLAG_ST_DMABUF, 0);
    device.enable(StMode::InterruptVector, Requester::Extended);
    let before = endpoint.registers();

    let file = File::open("/proc/self/exe").expect("a file");
    let importer = Importer::new(&exporter.dma_buf);
    // Who looks at the dma-buf waits for this.
    let held = importer.hold();
    for extended in [false, true] {
        for source in [
            dma_buf(&exporter.dma_buf),
            dma_buf(&file),
            dma_buf_fd(closed_fd()),
            dma_buf_fd(-1),
        ] {
            for position in 0..3 {
                let mut sources = [cpu(CPU); 3];
                sources[position] = source;
                let mut request = StRequest::new(0, &sources).extended_if(extended);
                let what = format!("{source:?} at {position}, extended: {extended}");
                assert_errno!(device.tph_st(&mut request), EPERM, "{what}");
                assert_eq!(request.fault, position as u32, "{what}");
                assert_eq!(endpoint.registers(), before, "{what}");
            }
        }
        // Its form is looked at first.
        let mut request = StRequest::new(
            0,
            &[Source {
                flags: 1,
                ..dma_buf_fd(-1)
            }],
        );
        assert_errno!(device.tph_st(&mut request), EINVAL);
    }
    drop(held);
    for extended in [false, true] {
        let found = device.resolve(&[dma_buf(&exporter.dma_buf)], extended);
        let found = found.expect("TPH_RESOLVE");
        assert_eq!((found[0].st, found[0].ph, found[0].flags), (0, HINTS.ph, 0));
    }
}

/// Whether dma-bufs are sources is said beforehand.
pub fn r71_flag_says_what_is_taken(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        let endpoint = bench.pick(&Want::TABLE);
        policy::bind_under(&endpoint, Gate::Unsafe, policy);
        let device = endpoint.open();
        let taken = device.tph().expect("TPH").flags & VFIO_TPH_FLAG_ST_DMABUF != 0;
        assert_eq!(taken, policy >= Policy::DsSt, "{policy:?}");
        if policy > Policy::NoSt {
            device.enable(StMode::InterruptVector, Requester::Standard);
            let denied = device.program(0, &[dma_buf_fd(-1)]) == Err(Errno::EPERM);
            assert_eq!(denied, !taken, "{policy:?}");
        }
    });
}

/// A device asks for its own memory.
pub fn r64_same_device(bench: &mut Bench) {
    let exporter = Exporter::at(bench, Policy::DsSt);
    let device = &exporter.device;
    let source = dma_buf(&exporter.dma_buf);
    device.enable(StMode::InterruptVector, Requester::Extended);
    for hints in [HINTS, OTHER_HINTS] {
        exporter.publish(hints).expect("SET");
        let tag = hints.xst.expect("a tag");
        device.program_extended(2, &[source]).expect("TPH_ST");
        assert_eq!(exporter.endpoint.entries()[2], tag);
        let found = device.resolve(&[source], true).expect("TPH_RESOLVE");
        assert_eq!((found[0].st, found[0].ph), (tag, hints.ph));
    }
    exporter.publish(Hints::NONE).expect("SET");
    assert_errno!(device.program_extended(2, &[source]), EOPNOTSUPP);
    let tag = OTHER_HINTS.xst.expect("a tag");
    assert_eq!(exporter.endpoint.entries()[2], tag, "what was there");
}

/// The answer is the kernel's: neither device sees an access, however many ask.
pub fn r64_asking_touches_no_device(bench: &mut Bench) {
    let exporter = new(bench);
    exporter.publish(HINTS).expect("SET");
    let peer = Peer::beside(bench, &exporter, Policy::DsSt);
    let importer = Importer::new(&exporter.dma_buf);
    let sources = [dma_buf(&exporter.dma_buf); 64];
    let endpoints = [&exporter.endpoint, &peer.endpoint];
    for endpoint in endpoints {
        endpoint.reset_counters();
    }
    for extended in [false, true] {
        peer.device
            .resolve(&sources, extended)
            .expect("TPH_RESOLVE");
        hint(&importer, extended).expect("a hint");
        exporter.publish(OTHER_HINTS).expect("SET");
    }
    for endpoint in endpoints {
        let seen = endpoint.counters();
        assert_eq!(seen, Counters::default(), "{}", endpoint.bdf);
    }
}
