// SPDX-License-Identifier: GPL-2.0-only

//! `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`: what is taken, what is refused, and in which order.

use std::fs::File;
use std::mem::offset_of;
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::mman::ProtFlags;
use tph_selftests::bench::{bind, Bench, Want};
use tph_selftests::dma_buf::udmabuf;
use tph_selftests::importer::Importer;
use tph_selftests::kernel;
use tph_selftests::memory::{page_size, Pages};
use tph_selftests::module::Gate;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::TphShape;
use tph_selftests::root_port;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{call_bytes, dma_buf_tph_bytes, DmaBufTph, Hints, Op};
use tph_selftests::{assert_errno, skip, Errno};

use super::{
    assert_told, closed_fd, export, export_at, pick_completer, size, Exporter, HINTS, OTHER_HINTS,
};

const INDEX: u32 = VFIO_DEVICE_FEATURE_DMA_BUF_TPH;

/// The contract's, to the byte; and the kernel reads it so.
pub fn r53_layout(bench: &mut Bench) {
    assert_eq!(size_of::<DmaBufTph>(), 12);
    assert_eq!(offset_of!(DmaBufTph, dmabuf_fd), 0);
    assert_eq!(offset_of!(DmaBufTph, flags), 4);
    assert_eq!(offset_of!(DmaBufTph, steering_tag_ext), 8);
    assert_eq!(offset_of!(DmaBufTph, steering_tag), 10);
    assert_eq!(offset_of!(DmaBufTph, ph), 11);
    assert_eq!((VFIO_DMA_BUF_TPH_ST, VFIO_DMA_BUF_TPH_ST_EXT), (1, 2));

    let exporter = Exporter::new(bench);
    let importer = Importer::new(&exporter.dma_buf);
    let [f0, f1, f2, f3] = exporter.dma_buf.as_raw_fd().to_le_bytes();
    let mut bytes = [f0, f1, f2, f3, 3, 0, 0, 0, 0xd2, 0xc3, 0x5a, 2];
    exporter
        .device
        .feature(Op::Set, INDEX, &mut bytes)
        .expect("SET");
    assert_told(&importer, HINTS, "bytes as the contract lays them out");
    // Longer than the struct is no harm.
    let mut longer = [0xff; 20];
    longer[..12].copy_from_slice(&dma_buf_tph_bytes(
        &OTHER_HINTS.request(exporter.dma_buf.as_raw_fd()),
    ));
    exporter
        .device
        .feature(Op::Set, INDEX, &mut longer)
        .expect("SET");
    assert_told(&importer, OTHER_HINTS, "with more behind it");
}

/// Completer, shape, EXT versus completer, fd, owner: all combinations of what can be wrong, and
/// the first in this order decides.
pub fn r53_order_of_checks(bench: &mut Bench) {
    drop(Exporter::new(bench));
    bench.next_round();
    let memory = udmabuf(1);
    bench.each(0..=3, |bench, completer| {
        let exporter = with_completer(bench, completer, Gate::Safe);
        let (own, foreign) = (exporter.dma_buf.as_raw_fd(), memory.as_raw_fd());
        let verdict = |malformed: bool, extended: bool, fd: RawFd| {
            if matches!(completer, root_port::NONE | root_port::RESERVED) {
                Err(Errno::EOPNOTSUPP)
            } else if malformed {
                Err(Errno::EINVAL)
            } else if extended && completer != root_port::EXTENDED {
                Err(Errno::EOPNOTSUPP)
            } else if fd < 0 {
                Err(Errno::EBADF)
            } else if fd == foreign {
                Err(Errno::EINVAL)
            } else {
                Ok(())
            }
        };
        for flags in 0..8 {
            for ph in [0, 3, 4] {
                for fd in [own, foreign, -1] {
                    let request = DmaBufTph {
                        flags,
                        ph,
                        ..HINTS.request(fd)
                    };
                    let malformed = flags > 3 || ph > 3;
                    let extended = flags & VFIO_DMA_BUF_TPH_ST_EXT != 0;
                    assert_eq!(
                        exporter.device.dma_buf_tph(&request),
                        verdict(malformed, extended, fd),
                        "completer {completer}: {request:?}"
                    );
                }
            }
        }
    });
}

/// A device with that completer field, bound anew.
fn with_completer(bench: &mut Bench, completer: u8, gate: Gate) -> Exporter {
    let endpoint = pick_completer(bench);
    endpoint.retouch(TphShape {
        completer: Some(completer),
        ..TphShape::default()
    });
    policy::bind(&endpoint, Policy::of(gate));
    assert_eq!(root_port::completer(&endpoint.bdf), completer);
    Exporter::open(endpoint)
}

/// What PROBE says is what the call says of the device; an operation that is not SET is EINVAL.
pub fn r53_probe(bench: &mut Bench) {
    let patched = kernel::is_patched();
    bench.each(0..=3, |bench, completer| {
        let exporter = with_completer(bench, completer, Gate::Safe);
        let device = &exporter.device;
        let there = patched && matches!(completer, root_port::STANDARD | root_port::EXTENDED);
        let or_absent = |verdict| {
            if there {
                verdict
            } else {
                Err(Errno::EOPNOTSUPP)
            }
        };
        let data = dma_buf_tph_bytes(&Hints::NONE.request(exporter.dma_buf.as_raw_fd()));
        for (op, verdict) in [
            (Op::Probe, Ok(())),
            (Op::ProbeSet, Ok(())),
            (Op::Set, Ok(())),
            (Op::ProbeGet, Err(Errno::EINVAL)),
            (Op::ProbeBoth, Err(Errno::EINVAL)),
            (Op::Get, Err(Errno::EINVAL)),
        ] {
            let result = device.feature(op, INDEX, &mut data.clone());
            assert_eq!(result, or_absent(verdict), "completer {completer}: {op:?}");
        }
        for length in 0..data.len() {
            let result = device.feature(Op::Set, INDEX, &mut data[..length].to_vec());
            let verdict = or_absent(Err(Errno::EINVAL));
            assert_eq!(result, verdict, "completer {completer}: {length} bytes");
        }
        // What GET of TPH says of the completer.
        let flags = device.tph().expect("GET of TPH").flags;
        let said = flags & (VFIO_TPH_FLAG_COMPLETER | VFIO_TPH_FLAG_COMPLETER_EXT);
        let known = match completer {
            root_port::STANDARD => VFIO_TPH_FLAG_COMPLETER,
            root_port::EXTENDED => VFIO_TPH_FLAG_COMPLETER | VFIO_TPH_FLAG_COMPLETER_EXT,
            _ => 0,
        };
        assert_eq!(said, known, "completer {completer}");
    });
}

/// Every unknown flag and every ph that there is not, when publishing and when clearing: EINVAL,
/// and what was published stays. Every value that there is: taken.
pub fn r53_every_field(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    let importer = Importer::new(&exporter.dma_buf);
    exporter.publish(HINTS).expect("SET");
    let fd = exporter.dma_buf.as_raw_fd();
    for hints in [OTHER_HINTS, Hints::NONE] {
        for bit in 2..32 {
            let mut request = hints.request(fd);
            request.flags |= 1 << bit;
            assert_errno!(exporter.device.dma_buf_tph(&request), EINVAL, "bit {bit}");
        }
        for ph in 4..=u8::MAX {
            let request = Hints { ph, ..hints }.request(fd);
            assert_errno!(exporter.device.dma_buf_tph(&request), EINVAL, "ph {ph}");
        }
    }
    assert_told(&importer, HINTS, "after requests that were refused");
    for ph in 0..=3 {
        for st in [0, 1, 0x80, 0xff] {
            for xst in [0, 0xff, 0x100, 0xffff] {
                let hints = Hints::both(st, xst, ph);
                exporter.publish(hints).expect("SET");
                assert_told(&importer, hints, &format!("{hints:?}"));
            }
        }
    }
    // A tag whose flag is not set is not looked at.
    let mut request = Hints::NONE.request(fd);
    request.steering_tag = 0xff;
    request.steering_tag_ext = 0xffff;
    request.ph = 3;
    exporter.device.dma_buf_tph(&request).expect("SET");
    assert_told(&importer, Hints::NONE, "tags without their flags");
}

/// Whether the device can issue TPH requests does not matter, nor whether its path completes them.
pub fn r53_independent_of_the_requester(bench: &mut Bench) {
    drop(Exporter::new(bench));
    bench.next_round();
    let works = |exporter: &Exporter, what: &str| {
        let importer = Importer::new(&exporter.dma_buf);
        exporter
            .publish(HINTS)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_told(&importer, HINTS, what);
    };

    let endpoint = pick_completer(bench);
    endpoint.set_root_port(root_port::NONE);
    policy::bind(&endpoint, Policy::IvSt);
    let exporter = Exporter::open(endpoint);
    assert_errno!(exporter.device.tph(), EOPNOTSUPP);
    works(&exporter, "below a root port that completes nothing");
    drop(exporter);
    bench.next_round();

    let endpoint = bench.pick_where("no TPH Requester capability that is a completer", |bdf| {
        root_port::completer(bdf) == root_port::EXTENDED && Want::NO_TPH.fits(bdf)
    });
    policy::bind(&endpoint, Policy::IvSt);
    let exporter = Exporter::open(endpoint);
    assert_errno!(exporter.device.tph(), EOPNOTSUPP);
    works(&exporter, "a completer that is no requester");
}

pub fn r53_bad_pointers(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    let importer = Importer::new(&exporter.dma_buf);
    exporter.publish(HINTS).expect("SET");
    let pages = Pages::new(1);
    let data = dma_buf_tph_bytes(&OTHER_HINTS.request(exporter.dma_buf.as_raw_fd()));
    let bytes = call_bytes(Op::Set, INDEX, &data);
    for there in 0..bytes.len() {
        let start = page_size() - there;
        pages.write(start, &bytes[..there]);
        assert_errno!(
            exporter.device.feature_raw(pages.at(start)),
            EFAULT,
            "{there} bytes"
        );
    }
    assert_told(&importer, HINTS, "after requests that were not there");
    pages.write(page_size() - bytes.len(), &bytes);
    pages.protect(0, ProtFlags::PROT_READ);
    exporter
        .device
        .feature_raw(pages.at(page_size() - bytes.len()))
        .expect("memory that is only read");
    assert_told(&importer, OTHER_HINTS, "at the end of a page");
}

pub fn r54_each_set_replaces_all(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    let importer = Importer::new(&exporter.dma_buf);
    assert_told(&importer, Hints::NONE, "at first");
    let only_st = Hints {
        xst: None,
        ..OTHER_HINTS
    };
    let only_xst = Hints { st: None, ..HINTS };
    let zeros = Hints::both(0, 0, 0);
    let all = [HINTS, OTHER_HINTS, only_st, only_xst, Hints::NONE, zeros];
    // Each after each, itself included.
    for before in all {
        for after in all {
            exporter.publish(before).expect("SET");
            exporter.publish(after).expect("SET");
            assert_told(&importer, after, &format!("{after:?} after {before:?}"));
        }
    }
}

/// An answer is a copy: what is published later does not change it, and no mapping becomes invalid.
pub fn r54_what_was_fetched_stays(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    importer.attach(&exporter.endpoint.bdf).expect("attach");
    importer.map().expect("map");
    let fetched = importer.report();
    assert_eq!(fetched.when_mapped, super::noted(HINTS));
    for hints in [OTHER_HINTS, Hints::NONE] {
        exporter.publish(hints).expect("SET");
        assert_eq!(importer.report(), fetched, "after {hints:?}");
        assert_told(&importer, hints, "who asks again");
    }
}

pub fn r54_each_dma_buf_has_its_own(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    // One more of the same memory, and one of other memory.
    let others = [
        export(&exporter.device),
        export_at(&exporter.device, size()),
    ];
    exporter.publish(HINTS).expect("SET");
    for other in &others {
        assert_told(&Importer::new(other), Hints::NONE, "another dma-buf");
        exporter.device.publish(other, OTHER_HINTS).expect("SET");
    }
    assert_told(&Importer::new(&exporter.dma_buf), HINTS, "the first");
    let [same, _] = &others;
    exporter.device.publish(same, Hints::NONE).expect("SET");
    assert_told(&Importer::new(&exporter.dma_buf), HINTS, "the first");
    // Another descriptor is the same dma-buf.
    let again = exporter.dma_buf.try_clone().expect("dup");
    exporter.device.publish(&again, OTHER_HINTS).expect("SET");
    assert_told(&Importer::new(&exporter.dma_buf), OTHER_HINTS, "by dup");
}

/// With the module's gate shut and open, for every completer field: the same.
pub fn r55_gate_is_the_completer_field(bench: &mut Bench) {
    drop(Exporter::new(bench));
    bench.next_round();
    for completer in 0..=3 {
        bench.each(Gate::BOTH, |bench, gate| {
            let exporter = with_completer(bench, completer, gate);
            let st = Hints { xst: None, ..HINTS };
            let xst = Hints { st: None, ..HINTS };
            let results = [st, xst, HINTS].map(|hints| exporter.publish(hints));
            let no = Err(Errno::EOPNOTSUPP);
            let expected = match completer {
                root_port::STANDARD => [Ok(()), no, no],
                root_port::EXTENDED => [Ok(()); 3],
                _ => [no; 3],
            };
            assert_eq!(results, expected, "completer {completer}, {gate:?}");
            let published = match completer {
                root_port::STANDARD => st,
                root_port::EXTENDED => HINTS,
                _ => Hints::NONE,
            };
            let importer = Importer::new(&exporter.dma_buf);
            assert_told(&importer, published, &format!("{completer}, {gate:?}"));
        });
    }
}

pub fn r55_policy_plays_no_part(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        let exporter = Exporter::at(bench, policy);
        exporter.publish(HINTS).expect("SET");
        let importer = Importer::new(&exporter.dma_buf);
        assert_told(&importer, HINTS, &format!("{policy:?}"));
    });
}

/// Descriptors of anything else.
pub fn r56_fds(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    let other = bench.pick(&Want::TABLE);
    bind(&other, exporter.gate);
    let other_device = exporter.open_other(&other);
    other_device.decode_memory(true);
    let foreign = export(&other_device);
    let memory = udmabuf(1);
    let file = File::open("/proc/self/exe").expect("a file");
    let refused = |fd: RawFd, errno: Errno, what: &str| {
        for hints in [HINTS, Hints::NONE] {
            let result = exporter.device.dma_buf_tph(&hints.request(fd));
            assert_eq!(result, Err(errno), "{what}: {hints:?}");
        }
    };
    exporter.publish(HINTS).expect("SET");
    refused(foreign.as_raw_fd(), Errno::EINVAL, "another device's");
    refused(memory.as_raw_fd(), Errno::EINVAL, "udmabuf's");
    refused(file.as_raw_fd(), Errno::EINVAL, "a plain file");
    refused(exporter.device.as_raw_fd(), Errno::EINVAL, "the device");
    refused(closed_fd(), Errno::EBADF, "a closed one");
    for number in [-1, i32::MIN, i32::MAX] {
        refused(number, Errno::EBADF, "a number");
    }
    assert_told(&Importer::new(&exporter.dma_buf), HINTS, "its own");
    assert_told(&Importer::new(&foreign), Hints::NONE, "another device's");
    drop(other_device);
}

/// Without `kernel/patches`: nothing of dma-bufs, and everything else as ever, which is what all
/// other programs show.
pub fn r62_kernel_without_the_patch(bench: &mut Bench) {
    if kernel::is_patched() {
        skip!("the kernel's dma-bufs know TPH");
    }
    bench.each(Policy::ALL, |bench, policy| {
        let endpoint = pick_completer(bench);
        policy::bind(&endpoint, policy);
        Exporter::open(endpoint).assert_unsupported();
    });
}
