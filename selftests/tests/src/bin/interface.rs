// SPDX-License-Identifier: GPL-2.0-only

//! The shape of the interface: features, fields, pointers, PROBE, `fault`.

use std::process::ExitCode;

use nix::sys::mman::ProtFlags;
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::harness;
use tph_selftests::memory::{page_size, Pages};
use tph_selftests::module::Gate;
use tph_selftests::protocol::{Position, Table, TphShape};
use tph_selftests::root_port;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{
    call_bytes, cpu, cpu_persistent, literal, none, source, Device, Offer, Op, Source, StRequest,
    FAULT_UNTOUCHED, FEATURE_HEADER, ST_HEADER,
};
use tph_selftests::{assert_errno, tests, Errno};
use tph_tests::{each_table, enabled, enabled_as, fill, opened, CPU};
use vfio_bindings::bindings::vfio::{
    vfio_device_feature_dma_buf, VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_MASK,
};

const OURS: [u32; 5] = [
    VFIO_DEVICE_FEATURE_TPH,
    VFIO_DEVICE_FEATURE_TPH_ST,
    VFIO_DEVICE_FEATURE_TPH_RESOLVE,
    VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
    VFIO_DEVICE_FEATURE_TPH_MAP,
];

fn r1_each_feature_has_its_operation_alone(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (_endpoint, device) = enabled(bench, gate, Requester::Standard);
        let mut data = [0; size_of::<Offer>()];
        device
            .feature(Op::Get, VFIO_DEVICE_FEATURE_TPH, &mut data)
            .expect("GET of TPH");
        for op in [Op::Set, Op::ProbeSet, Op::ProbeBoth] {
            let result = device.feature(op, VFIO_DEVICE_FEATURE_TPH, &mut data);
            assert_errno!(result, EINVAL, "{op:?}");
        }
    });
}

fn r1_enabling_leaves_the_table_and_programming_leaves_control(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Extended);
    let before = fill(&endpoint, &device);
    let control = endpoint.registers().control;
    device.tph().expect("GET of TPH");
    assert_eq!(endpoint.registers().control, control);
    assert_eq!(endpoint.entries(), before);
    device.set_control(0);
    assert_eq!(endpoint.entries(), before, "disabling leaves the table");
    device.enable(StMode::InterruptVector, Requester::Standard);
    assert_eq!(endpoint.entries(), before, "enabling leaves the table");
}

fn r2_no_get_of_entries(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = enabled(bench, gate, Requester::Standard);
        fill(&endpoint, &device);
        for op in [Op::Get, Op::ProbeGet, Op::ProbeBoth] {
            let mut data = StRequest::new(0, &[none(); 4]).bytes();
            let before = data.clone();
            assert_errno!(
                device.feature(op, VFIO_DEVICE_FEATURE_TPH_ST, &mut data),
                EINVAL,
                "{op:?}"
            );
            assert_eq!(data, before, "{op:?} wrote to the user's memory");
        }
    });
}

fn r5_index_and_count_do_not_wrap(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Safe, Requester::Standard);
        let before = fill(&endpoint, &device);
        let n = before.len() as u16;
        let offer = device.tph().expect("GET of TPH");
        assert_eq!(offer.st_entries, n);
        let location = match want.in_msix {
            true => VFIO_TPH_FLAG_ST_MSIX,
            false => VFIO_TPH_FLAG_ST_CAP,
        };
        let both = VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_ST_MSIX;
        assert_eq!(offer.flags & both, location, "{offer:x?}");
        let clear = |index, count: u16| {
            let mut request = StRequest::new(index, &vec![none(); count.into()]);
            let result = device.tph_st(&mut request);
            assert_eq!(request.fault, FAULT_UNTOUCHED);
            result
        };
        for (index, count) in [
            (0xffff, 1),
            (0, 0xffff),
            (0xffff, 0xffff),
            (1, 0xffff),
            (n - 1, 2),
            (n, 1),
            (0, n + 1),
            (1, n),
            (0x8000, 0x8000),
            (0, 0),
            (n, 0),
        ] {
            assert_errno!(clear(index, count), EINVAL, "({index:#x}, {count:#x})");
            assert_eq!(endpoint.entries(), before, "({index:#x}, {count:#x})");
        }
        clear(n - 1, 1).expect("the last entry");
        clear(0, n).expect("all entries");
        endpoint.assert_tags(&[], "cleared");
    });
}

fn r6_no_entries(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (_endpoint, device) = enabled(bench, gate, Requester::Standard);
        for index in [0, 1, 0xffff] {
            let mut request = StRequest {
                count: Some(0),
                ..StRequest::new(index, &[none()])
            };
            assert_errno!(device.tph_st(&mut request), EINVAL, "index {index}");
            request.sources.clear();
            assert_errno!(device.tph_st(&mut request), EINVAL, "index {index}");
        }
    });
}

/// A well-formed request of one source, made wrong by `spoil`.
fn spoilt(device: &Device, what: &str, good: Source, spoil: impl FnOnce(&mut StRequest)) {
    let mut request = StRequest::new(0, &[good]);
    spoil(&mut request);
    assert_errno!(device.tph_st(&mut request), EINVAL, "{what} in {request:?}");
}

fn r7_reserved_fields_and_unknown_flags(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = enabled(bench, gate, Requester::Extended);
        let before = fill(&endpoint, &device);
        endpoint.reset_counters();
        for good in [none(), cpu(CPU), cpu_persistent(CPU)] {
            for bit in 1..32 {
                spoilt(&device, "flags", good, |r| r.flags |= 1 << bit);
            }
            for bit in 0..32 {
                spoilt(&device, "reserved", good, |r| r.reserved = 1 << bit);
            }
            for bit in 0..16 {
                spoilt(&device, "source.reserved", good, |r| {
                    r.sources[0].reserved = 1 << bit;
                });
            }
            for bit in 0..8 {
                let known = good.type_ == VFIO_TPH_SOURCE_CPU as u8 && bit == 0;
                if !known {
                    spoilt(&device, "source.flags", good, |r| {
                        r.sources[0].flags |= 1 << bit;
                    });
                }
            }
            for kind in VFIO_TPH_SOURCE_LITERAL + 1..=0xff {
                spoilt(&device, "source.type", good, |r| {
                    r.sources[0].type_ = kind as u8;
                });
            }
        }
        for bit in 0..32 {
            spoilt(&device, "value of NONE", none(), |r| {
                r.sources[0].value = 1 << bit;
            });
        }
        for bit in 0..8 {
            for kind in [VFIO_TPH_SOURCE_DMABUF, VFIO_TPH_SOURCE_LITERAL] {
                spoilt(
                    &device,
                    "flags of that type",
                    source(kind, 1 << bit, 0),
                    |_| {},
                );
            }
        }
        assert_eq!(endpoint.entries(), before);
        assert_eq!(endpoint.counters().config_write, 0);
    });
}

fn r7_argsz_shorter_than_header_and_sources(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    let before = fill(&endpoint, &device);
    let sources = [cpu(CPU); 4];
    let whole = StRequest::new(0, &sources).bytes().len();
    for short in 0..whole {
        let mut request = StRequest {
            data_size: Some(short),
            ..StRequest::new(0, &sources)
        };
        assert_errno!(device.tph_st(&mut request), EINVAL, "argsz of {short}");
        assert_eq!(request.fault, FAULT_UNTOUCHED);
    }
    let mut data = [0; size_of::<Offer>()];
    for short in 0..data.len() {
        let flags = Op::Get.flags() | VFIO_DEVICE_FEATURE_TPH;
        assert_errno!(device.feature_sized(flags, &mut data, short), EINVAL);
    }
    assert_eq!(data, [0; size_of::<Offer>()], "nothing is written");
    assert_eq!(endpoint.entries(), before);
    let mut longer = StRequest {
        data_size: Some(whole + 64),
        ..StRequest::new(0, &sources)
    };
    device.tph_st(&mut longer).expect("a longer argsz");
}

fn r10_bad_pointer_at_every_boundary(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    let before = fill(&endpoint, &device);
    let control = endpoint.registers().control;
    endpoint.reset_counters();

    let data = StRequest::new(0, &[cpu(CPU); 8]).bytes();
    let bytes = call_bytes(Op::Set, VFIO_DEVICE_FEATURE_TPH_ST, &data);
    let pages = Pages::new(1);
    for readable in 0..bytes.len() {
        // Only the first bytes are on the page, the others are on the barrier behind it.
        let start = page_size() - readable;
        pages.write(start, &bytes[..readable]);
        assert_errno!(
            device.feature_raw(pages.at(start)),
            EFAULT,
            "{readable} bytes"
        );
    }
    assert_errno!(device.feature_raw(std::ptr::null_mut()), EFAULT);
    assert_eq!(endpoint.counters().config_write, 0);
    assert_eq!(endpoint.entries(), before);
    assert_eq!(endpoint.registers().control, control);

    let start = page_size() - bytes.len();
    pages.write(start, &bytes);
    device
        .feature_raw(pages.at(start))
        .expect("all of it readable");
    assert_ne!(endpoint.entries(), before);
}

fn r10_argument_across_two_pages(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    let data = StRequest::new(0, &vec![cpu(CPU); endpoint.entries().len()]).bytes();
    let bytes = call_bytes(Op::Set, VFIO_DEVICE_FEATURE_TPH_ST, &data);
    let pages = Pages::new(2);
    for on_first in (0..=bytes.len()).step_by(4) {
        pages.write(page_size() - on_first, &bytes);
        device
            .feature_raw(pages.at(page_size() - on_first))
            .unwrap_or_else(|error| panic!("{on_first} bytes on the first page: {error}"));
    }
}

fn r10_offer_and_fault_that_cannot_be_written(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    let before = fill(&endpoint, &device);

    let bytes = call_bytes(Op::Get, VFIO_DEVICE_FEATURE_TPH, &[0; size_of::<Offer>()]);
    let pages = Pages::new(1);
    for readable in FEATURE_HEADER..bytes.len() {
        pages.write(page_size() - readable, &bytes[..readable]);
        assert_errno!(
            device.feature_raw(pages.at(page_size() - readable)),
            EFAULT,
            "{readable} bytes of TPH"
        );
    }

    // `fault` is written for a refused source only.
    let call = |sources: &[Source]| {
        let data = StRequest::new(0, sources).bytes();
        pages.protect(0, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        pages.write(0, &call_bytes(Op::Set, VFIO_DEVICE_FEATURE_TPH_ST, &data));
        pages.protect(0, ProtFlags::PROT_READ);
        device.feature_raw(pages.at(0))
    };
    assert_errno!(call(&[cpu(CPU), cpu(u32::MAX)]), EFAULT);
    assert_eq!(endpoint.entries(), before);
    call(&[cpu(CPU), cpu(CPU)]).expect("read-only memory, nothing refused");
}

fn r11_dma_buf_is_not_reinterpreted(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    let answers = |device: &Device| -> Vec<Result<(), Errno>> {
        (0..32)
            .map(|bit| {
                let request = vfio_device_feature_dma_buf {
                    region_index: 2,
                    flags: 1 << bit,
                    nr_ranges: 1,
                    ..Default::default()
                };
                let mut data = Vec::new();
                for field in [
                    request.region_index,
                    request.open_flags,
                    request.flags,
                    request.nr_ranges,
                ] {
                    data.extend(field.to_ne_bytes());
                }
                data.extend(0u64.to_ne_bytes());
                data.extend((page_size() as u64).to_ne_bytes());
                device.feature(Op::Get, VFIO_DEVICE_FEATURE_DMA_BUF, &mut data)
            })
            .collect()
    };
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let stock = answers(&endpoint.open());
    bench::bind(&endpoint, Gate::Safe);
    let ours = answers(&endpoint.open());
    assert_eq!(ours, stock);
    assert!(
        ours.iter()
            .all(|answer| *answer == Err(Errno::EINVAL) || *answer == Err(Errno::EOPNOTSUPP)),
        "{ours:?}"
    );
}

fn r11_every_other_feature_goes_to_core(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    let answers = |device: &Device, op: Op| -> Vec<Result<(), Errno>> {
        (0..=VFIO_DEVICE_FEATURE_MASK)
            .map(|index| device.feature(op, index, &mut []))
            .collect()
    };
    let ops = [Op::Probe, Op::ProbeGet, Op::ProbeSet];
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let stock = ops.map(|op| answers(&endpoint.open(), op));
    bench::bind(&endpoint, Gate::Unsafe);
    let ours = ops.map(|op| answers(&endpoint.open(), op));
    for ((op, stock), ours) in ops.iter().zip(stock).zip(ours) {
        for (index, (stock, ours)) in (0..).zip(stock.iter().zip(&ours)) {
            if OURS.contains(&index) {
                assert_eq!(
                    *stock,
                    Err(Errno::ENOTTY),
                    "{index:#x} is taken in mainline"
                );
            } else {
                assert_eq!(ours, stock, "feature {index:#x}, {op:?}");
            }
        }
    }
}

/// What contract and shape say: TPH usable, TPH_ST available.
fn expected(shape: &TphShape, completer: u8, gate: Gate) -> (bool, bool) {
    let path = completer == root_port::STANDARD || completer == root_port::EXTENDED;
    let usable = path && shape.table != Some(Table::Absent);
    let with_table = match gate {
        Gate::Safe => VFIO_TPH_MODE_IV,
        Gate::Unsafe => VFIO_TPH_MODE_IV | VFIO_TPH_MODE_DS,
    };
    let modes = u32::from(shape.modes.unwrap_or(7)) & with_table;
    (
        usable,
        usable && modes != 0 && shape.table == Some(Table::Cap),
    )
}

fn r12_probe_says_what_the_call_says(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    let shape = |table, modes| TphShape {
        table: Some(table),
        modes: Some(modes),
        position: Some(Position::Last),
        ..TphShape::default()
    };
    let extended = [root_port::EXTENDED];
    for (shape, completers) in [
        (shape(Table::Cap, 7), &[0, 1, 2, 3][..]),
        (shape(Table::Cap, 1), &extended),
        (shape(Table::Cap, 5), &extended),
        (shape(Table::Cap, 3), &extended),
        (shape(Table::None, 7), &[0, 3]),
        (shape(Table::Absent, 7), &extended),
    ] {
        endpoint.reshape(shape);
        for gate in Gate::BOTH {
            bench::bind(&endpoint, gate);
            for &completer in completers {
                endpoint.set_root_port(completer);
                let (usable, programmable) = expected(&shape, completer, gate);
                let what = format!("{shape:?}, {gate:?}, completer {completer}");
                let device = endpoint.open();

                let offer = device.tph();
                assert_eq!(offer.is_ok(), usable, "{what}: {offer:?}");
                if let Ok(offer) = offer {
                    let flag = offer.flags & VFIO_TPH_FLAG_ST != 0;
                    assert_eq!(flag, programmable, "{what}: {offer:x?}");
                    assert_eq!(offer.st_entries != 0, programmable, "{what}: {offer:x?}");
                }
                let answer = |available: bool| {
                    if available {
                        Ok(())
                    } else {
                        Err(Errno::EOPNOTSUPP)
                    }
                };
                for (index, op, available) in [
                    (VFIO_DEVICE_FEATURE_TPH, Op::ProbeGet, usable),
                    (VFIO_DEVICE_FEATURE_TPH_ST, Op::ProbeSet, programmable),
                ] {
                    for op in [op, Op::Probe] {
                        let probe = device.feature(op, index, &mut []);
                        assert_eq!(probe, answer(available), "{what}: {op:?} of {index:#x}");
                    }
                }
                // Not enabled yet: what is available says so.
                let call = device.program(0, &[none()]);
                let expected = if programmable {
                    Errno::ENXIO
                } else {
                    Errno::EOPNOTSUPP
                };
                assert_eq!(call, Err(expected), "{what}");
                for (index, op, probe_op) in [
                    (VFIO_DEVICE_FEATURE_TPH_RESOLVE, Op::Get, Op::ProbeGet),
                    (VFIO_DEVICE_FEATURE_DMA_BUF_TPH, Op::Set, Op::ProbeSet),
                ] {
                    let mut data = [0; 32];
                    if let Err(probe) = device.feature(probe_op, index, &mut []) {
                        let call = device.feature(op, index, &mut data);
                        assert_eq!(call, Err(probe), "{what}: {index:#x}");
                    }
                }
            }
        }
    }
}

fn r12_probe_needs_no_memory(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Gate::Safe);
    let pages = Pages::new(1);
    for (index, op) in [
        (VFIO_DEVICE_FEATURE_TPH, Op::ProbeGet),
        (VFIO_DEVICE_FEATURE_TPH_ST, Op::ProbeSet),
    ] {
        let start = page_size() - FEATURE_HEADER;
        let bytes = call_bytes(op, index, &[]);
        pages.write(start, &bytes);
        device
            .feature_raw(pages.at(start))
            .unwrap_or_else(|error| panic!("{op:?} of {index:#x}: {error}"));
    }
}

fn r13_fault_names_the_source(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = enabled(bench, gate, Requester::Standard);
        let n = endpoint.entries().len();
        for bad in [
            cpu(u32::MAX),
            source(VFIO_TPH_SOURCE_LITERAL + 1, 0, 0),
            literal(0x100),
            cpu_persistent(3),
        ] {
            for position in 0..n {
                let mut sources = vec![cpu(CPU); n];
                sources[position] = bad;
                let mut request = StRequest::new(0, &sources);
                device.tph_st(&mut request).expect_err("a bad source");
                assert_eq!(request.fault, position as u32, "{bad:?}");
            }
            // Of two, the first.
            let mut request = StRequest::new(1, &[cpu(CPU), bad, cpu(CPU), bad]);
            device.tph_st(&mut request).expect_err("two bad sources");
            assert_eq!(request.fault, 1, "{bad:?}");
        }
    });
}

fn r13_fault_is_left_alone_otherwise(bench: &mut Bench) {
    let (_endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    let untouched = |mut request: StRequest, errno: Option<Errno>| {
        let result = device.tph_st(&mut request);
        assert_eq!(result.err(), errno, "{request:?}");
        assert_eq!(request.fault, FAULT_UNTOUCHED, "{request:?}");
    };
    let good = || StRequest::new(0, &[cpu(CPU), none()]);
    untouched(good(), None);
    untouched(good().extended(), Some(Errno::EOPNOTSUPP));
    untouched(
        StRequest {
            reserved: 1,
            ..good()
        },
        Some(Errno::EINVAL),
    );
    untouched(
        StRequest {
            index: 0xffff,
            ..good()
        },
        Some(Errno::EINVAL),
    );
    untouched(
        StRequest {
            data_size: Some(ST_HEADER),
            ..good()
        },
        Some(Errno::EINVAL),
    );
    device.set_control(0);
    untouched(StRequest::new(0, &[cpu(u32::MAX)]), Some(Errno::ENXIO));
}

fn main() -> ExitCode {
    harness::run(tests![
        r1_each_feature_has_its_operation_alone,
        r1_enabling_leaves_the_table_and_programming_leaves_control,
        r2_no_get_of_entries,
        r5_index_and_count_do_not_wrap,
        r6_no_entries,
        r7_reserved_fields_and_unknown_flags,
        r7_argsz_shorter_than_header_and_sources,
        r10_bad_pointer_at_every_boundary,
        r10_argument_across_two_pages,
        r10_offer_and_fault_that_cannot_be_written,
        r11_dma_buf_is_not_reinterpreted,
        r11_every_other_feature_goes_to_core,
        r12_probe_says_what_the_call_says,
        r12_probe_needs_no_memory,
        r13_fault_names_the_source,
        r13_fault_is_left_alone_otherwise,
    ])
}
