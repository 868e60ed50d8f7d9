// SPDX-License-Identifier: GPL-2.0-only

//! `VFIO_DEVICE_FEATURE_TPH_RESOLVE`: hints for a driver's own descriptors.

use std::process::ExitCode;
use std::rc::Rc;

use nix::sys::mman::ProtFlags;
use tph_selftests::bench::{Bench, Want};
use tph_selftests::cpus;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::firmware::{Tags, CPUS, CPU_SHORT_ANSWER, CPU_WRONG_TYPE};
use tph_selftests::kstate;
use tph_selftests::memory::{page_size, Pages};
use tph_selftests::module::Gate;
use tph_selftests::policy::{self, Policy};
use tph_selftests::root_port;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{
    call_bytes, cpu, cpu_persistent, literal, none, source, unresolved, Device, Op, Resolution,
    ResolveRequest, Source, FAULT_UNTOUCHED, FEATURE_HEADER, RESOLVE_HEADER,
};
use tph_selftests::{assert_errno, harness, skip, tests, Errno};
use tph_tests::{st, tag, CPU, OTHER_CPU};

/// A device at a policy, opened; TPH is off, and no call needs it on.
fn opened(bench: &mut Bench, policy: Policy) -> (Rc<Endpoint>, Device) {
    let endpoint = bench.pick(&Want::TABLE);
    policy::bind(&endpoint, policy);
    let device = endpoint.open();
    (endpoint, device)
}

/// All that firmware has an answer for, and the answer.
fn answers() -> Vec<(Source, Tags)> {
    (0..cpus::present())
        .zip(CPUS)
        .flat_map(|(number, answer)| {
            [
                (cpu(number), answer.volatile),
                (cpu_persistent(number), answer.persistent),
            ]
        })
        .collect()
}

fn found(source: Source, tags: &Tags, extended: bool) -> Resolution {
    let mut flags = VFIO_TPH_RESOLUTION_ST;
    if tags.ph_ignored {
        flags |= VFIO_TPH_RESOLUTION_PH_IGNORED;
    }
    Resolution {
        st: tag(tags, extended).expect("a valid tag"),
        ph: 0,
        flags: flags as u8,
        ..unresolved(source)
    }
}

fn same(a: &[Resolution], b: &[Resolution]) -> bool {
    let fields = |entry: &Resolution| {
        let source = &entry.source;
        (
            (source.type_, source.flags, source.reserved, source.value),
            (entry.st, entry.ph, entry.flags, entry.reserved),
        )
    };
    a.iter().map(fields).eq(b.iter().map(fields))
}

/// The call fails like that, names that source, and writes no result.
#[track_caller]
fn refused(device: &Device, request: &ResolveRequest, errno: Errno, fault: u32) {
    let mut answer = request.clone();
    assert_eq!(device.tph_resolve(&mut answer), Err(errno), "{request:?}");
    assert_eq!(answer.fault, fault, "{request:?}");
    assert!(same(&answer.entries, &request.entries), "{answer:?}");
}

/// What firmware says is what comes back, in both namespaces, zeros and "PH ignored" included.
fn r1_what_firmware_says(bench: &mut Bench) {
    bench.each([Policy::DsSt, Policy::Literal], |bench, policy| {
        let (_endpoint, device) = opened(bench, policy);
        let mut zeros = 0;
        for (source, tags) in answers() {
            for extended in [false, true] {
                let result = device.resolve(&[source], extended);
                match tag(&tags, extended) {
                    Some(tag) => {
                        let entries = result.expect("TPH_RESOLVE");
                        let expected = [found(source, &tags, extended)];
                        assert!(same(&entries, &expected), "{entries:?}, not {expected:?}");
                        zeros += u32::from(tag == 0);
                    }
                    None => assert_eq!(result.err(), Some(Errno::EOPNOTSUPP), "{source:?}"),
                }
            }
        }
        assert_eq!(zeros, 2, "tags of value 0, one in each namespace");
    });
}

fn r1_all_in_one_call_in_their_order(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Policy::DsSt);
    for extended in [false, true] {
        let valid: Vec<_> = answers()
            .into_iter()
            .filter(|(_, tags)| tag(tags, extended).is_some())
            .collect();
        for count in [1, 2, 3, 63, 64, 65, 1000, VFIO_TPH_RESOLVE_MAX as usize] {
            let picked: Vec<_> = valid.iter().rev().cycle().take(count).collect();
            let sources: Vec<Source> = picked.iter().map(|(source, _)| *source).collect();
            let expected: Vec<Resolution> = picked
                .iter()
                .map(|(source, tags)| found(*source, tags, extended))
                .collect();
            let entries = device.resolve(&sources, extended).expect("TPH_RESOLVE");
            assert!(same(&entries, &expected), "{count}, extended: {extended}");
        }
    }
}

/// An answer may be handed in again: what it holds is for the next answer.
fn r1_an_answer_is_a_question(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Policy::DsSt);
    let mut request = ResolveRequest::new(&[cpu(CPU), cpu(OTHER_CPU)]);
    device.tph_resolve(&mut request).expect("TPH_RESOLVE");
    let first = request.entries.clone();
    for entry in &mut request.entries {
        entry.st = 0xdead;
        entry.ph = 3;
        entry.flags = (VFIO_TPH_RESOLUTION_ST | VFIO_TPH_RESOLUTION_PH_IGNORED) as u8;
    }
    device.tph_resolve(&mut request).expect("TPH_RESOLVE");
    assert!(same(&request.entries, &first), "{request:?}");
    assert_eq!(request.fault, FAULT_UNTOUCHED);
}

/// In every state of Control; it changes nothing of it.
fn r1_needs_no_requester_enable(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Policy::DsSt);
    for mode in StMode::ALL {
        for requester in Requester::ALL {
            device.enable(mode, Requester::Disabled);
            device.enable(mode, requester);
            for extended in [false, true] {
                device
                    .resolve(&[cpu(CPU)], extended)
                    .unwrap_or_else(|error| panic!("{mode:?}, {requester:?}: {error}"));
            }
            assert_eq!(endpoint.control(), control(mode, requester));
            device.enable(mode, Requester::Disabled);
        }
    }
    assert!(endpoint.entries().iter().all(|&entry| entry == 0));
}

/// A lookup writes nothing: what was programmed stays, and so does what was not.
fn r1_programs_nothing(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Policy::Literal);
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &[cpu(OTHER_CPU)]).expect("TPH_ST");
    let before = endpoint.registers();
    device.resolve(&[cpu(CPU)], false).expect("TPH_RESOLVE");
    assert_eq!(endpoint.registers(), before);
    assert_eq!(before.entries[0], st(OTHER_CPU));
}

fn r5_count(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Policy::DsSt);
    let sources = vec![cpu(CPU); VFIO_TPH_RESOLVE_MAX as usize + 1];
    for count in [0, VFIO_TPH_RESOLVE_MAX + 1, 1 << 31, u32::MAX] {
        let mut request = ResolveRequest::new(&sources);
        request.count = Some(count);
        refused(&device, &request, Errno::EINVAL, FAULT_UNTOUCHED);
    }
    // argsz shorter than what the count asks for.
    for (count, entries) in [(2, 1), (4096, 4095), (1, 0)] {
        let mut request = ResolveRequest::new(&sources[..entries]);
        request.count = Some(count);
        refused(&device, &request, Errno::EINVAL, FAULT_UNTOUCHED);
    }
    let entry = size_of::<Resolution>();
    for short in 1..=RESOLVE_HEADER + entry {
        let mut request = ResolveRequest::new(&sources[..1]);
        request.data_size = Some(RESOLVE_HEADER + entry - short);
        refused(&device, &request, Errno::EINVAL, FAULT_UNTOUCHED);
    }
    // More than it needs is as good.
    let mut request = ResolveRequest::new(&sources[..2]);
    request.count = Some(1);
    device.tph_resolve(&mut request).expect("a longer argsz");
    assert_eq!(request.entries[0].st, st(CPU));
    assert_eq!(request.entries[1].st, 0, "beyond count");
}

fn r7_reserved_and_unknown(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Policy::Literal);
    let good = || ResolveRequest::new(&[cpu(CPU), cpu(OTHER_CPU)]);
    for bit in 0..32 {
        if 1 << bit != VFIO_DEVICE_TPH_EXTENDED {
            let mut request = good();
            request.flags |= 1 << bit;
            refused(&device, &request, Errno::EINVAL, FAULT_UNTOUCHED);
        }
        let mut request = good();
        request.reserved = 1 << bit;
        refused(&device, &request, Errno::EINVAL, FAULT_UNTOUCHED);

        // In an entry: that entry is at fault.
        let mut request = good();
        request.entries[1].reserved = 1 << bit;
        refused(&device, &request, Errno::EINVAL, 1);
    }
    for bit in 0..16 {
        let mut request = good();
        request.entries[1].source.reserved = 1 << bit;
        refused(&device, &request, Errno::EINVAL, 1);
    }
    for bit in 0..8 {
        let known = VFIO_TPH_RESOLUTION_ST | VFIO_TPH_RESOLUTION_PH_IGNORED;
        if known & (1 << bit) == 0 {
            let mut request = good();
            request.entries[1].flags = 1 << bit;
            refused(&device, &request, Errno::EINVAL, 1);
        }
        if 1 << bit != VFIO_TPH_SOURCE_MEM_PM {
            let mut request = good();
            request.entries[1].source.flags = 1 << bit;
            refused(&device, &request, Errno::EINVAL, 1);
        }
    }
}

/// At each position, with what the contract says for that source; policy literal takes no literals
/// either: nothing is to be looked up.
fn r3_one_bad_entry_writes_no_result(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Policy::Literal);
    let bad = [
        (none(), Errno::EINVAL),
        (literal(0), Errno::EINVAL),
        (literal(0x10), Errno::EINVAL),
        (source(4, 0, 0), Errno::EINVAL),
        (source(0xff, 0, 0), Errno::EINVAL),
        (cpu(u32::MAX), Errno::EINVAL),
        (cpu(cpus::possible()), Errno::EINVAL),
        (cpu_persistent(3), Errno::EOPNOTSUPP),
        (source(VFIO_TPH_SOURCE_DMABUF, 1, 0), Errno::EINVAL),
    ];
    for (source, errno) in bad {
        for position in 0..5 {
            let mut sources = [cpu(CPU); 5];
            sources[position] = source;
            let request = ResolveRequest::new(&sources);
            refused(&device, &request, errno, position as u32);
        }
    }
    // The first of two is named.
    let request = ResolveRequest::new(&[cpu(CPU), cpu_persistent(3), none()]);
    refused(&device, &request, Errno::EOPNOTSUPP, 1);
}

fn r37_no_firmware_call_for_a_cpu_that_cannot_be(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Policy::DsSt);
    let calls = kstate::dsm_evaluations();
    for number in [cpus::possible(), 4096, 1 << 31, u32::MAX] {
        let request = ResolveRequest::new(&[cpu(number)]);
        refused(&device, &request, Errno::EINVAL, 0);
    }
    assert_eq!(kstate::dsm_evaluations(), calls, "firmware was asked");
}

fn r38_firmware_that_is_wrong(bench: &mut Bench) {
    if cpus::present() <= CPU_WRONG_TYPE {
        skip!("only {} CPUs are present", cpus::present());
    }
    let (_endpoint, device) = opened(bench, Policy::DsSt);
    for number in [CPU_SHORT_ANSWER, CPU_WRONG_TYPE] {
        for source in [cpu(number), cpu_persistent(number)] {
            for extended in [false, true] {
                let result = device.resolve(&[source], extended);
                assert_errno!(result, EOPNOTSUPP, "CPU {number}");
            }
        }
    }
}

/// Below policy 2 no CPU, whatever else is wrong with it: not even whether it has a tag.
fn r14_no_cpu_below_policy_2(bench: &mut Bench) {
    bench.each([Policy::NoSt, Policy::IvSt], |bench, policy| {
        let (_endpoint, device) = opened(bench, policy);
        let calls = kstate::dsm_evaluations();
        for source in [cpu(CPU), cpu_persistent(3), cpu(u32::MAX)] {
            let request = ResolveRequest::new(&[source]);
            refused(&device, &request, Errno::EPERM, 0);
            refused(&device, &request.extended(), Errno::EPERM, 0);
        }
        for source in [none(), literal(0), source(4, 0, 0)] {
            let request = ResolveRequest::new(&[source]);
            refused(&device, &request, Errno::EINVAL, 0);
        }
        assert_eq!(kstate::dsm_evaluations(), calls, "firmware was asked");
    });
}

fn r35_extended_on_a_path_without(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.set_root_port(root_port::STANDARD);
    policy::bind(&endpoint, Policy::DsSt);
    let device = endpoint.open();
    let request = ResolveRequest::new(&[cpu(CPU)]).extended();
    refused(&device, &request, Errno::EOPNOTSUPP, FAULT_UNTOUCHED);
    device.resolve(&[cpu(CPU)], false).expect("a standard tag");
    // Shape comes first.
    let mut request = request;
    request.reserved = 1;
    refused(&device, &request, Errno::EINVAL, FAULT_UNTOUCHED);
}

/// Without TPH on the path, before anything is looked at.
fn r12_not_usable(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.set_root_port(root_port::NONE);
    policy::bind(&endpoint, Policy::Literal);
    let device = endpoint.open();
    let mut request = ResolveRequest::new(&[cpu(CPU)]);
    assert_errno!(device.tph_resolve(&mut request), EOPNOTSUPP);
    request.reserved = 1;
    assert_errno!(device.tph_resolve(&mut request), EOPNOTSUPP);
    for op in [Op::Get, Op::Set, Op::Probe, Op::ProbeGet, Op::ProbeSet] {
        let result = device.feature(op, VFIO_DEVICE_FEATURE_TPH_RESOLVE, &mut request.bytes());
        assert_errno!(result, EOPNOTSUPP, "{op:?}");
    }
}

fn r12_probe(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        let (_endpoint, device) = opened(bench, policy);
        let probe = |op| device.feature(op, VFIO_DEVICE_FEATURE_TPH_RESOLVE, &mut []);
        assert_eq!(probe(Op::ProbeGet), Ok(()), "{policy:?}");
        assert_eq!(probe(Op::Probe), Ok(()), "{policy:?}");
        assert_errno!(probe(Op::ProbeSet), EINVAL, "{policy:?}");
        assert_errno!(probe(Op::ProbeBoth), EINVAL, "{policy:?}");
        let mut bytes = ResolveRequest::new(&[cpu(CPU)]).bytes();
        let set = device.feature(Op::Set, VFIO_DEVICE_FEATURE_TPH_RESOLVE, &mut bytes);
        assert_errno!(set, EINVAL, "{policy:?}");
        let flags = device.tph().expect("GET of TPH").flags;
        let discloses = flags & VFIO_TPH_FLAG_RESOLVE_ST != 0;
        assert_eq!(discloses, policy.discloses(), "{policy:?}");
    });
}

/// The argument ends at a page that is not there, and lies in memory that cannot be written.
fn r10_bad_pointers(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Policy::DsSt);
    // Two pages of entries and a bit, or as many as there can be.
    let count = 2 * page_size() / size_of::<Resolution>() + 3;
    let count = count.min(VFIO_TPH_RESOLVE_MAX as usize);
    let request = ResolveRequest::new(&vec![cpu(CPU); count]);
    let bytes = call_bytes(Op::Get, VFIO_DEVICE_FEATURE_TPH_RESOLVE, &request.bytes());
    // On more than one page, also where a page is larger than all of it.
    let start = page_size() / 2;
    let count = (start + bytes.len()).div_ceil(page_size());
    let pages = Pages::new(count);
    assert!(count > 1, "all of it is on one page");

    for missing in 0..=count {
        // The last `missing` pages are not there.
        pages.write(start, &bytes);
        let first = count - missing;
        for page in first..count {
            pages.protect(page, ProtFlags::PROT_NONE);
        }
        let result = device.feature_raw(pages.at(start));
        match missing {
            0 => assert_eq!(result, Ok(())),
            _ => assert_errno!(result, EFAULT, "{missing} pages missing"),
        }
        for page in first..count {
            pages.protect(page, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        }
    }
    // At the very end: every length of a header that is cut off.
    for there in 0..FEATURE_HEADER + RESOLVE_HEADER {
        let at = pages.length() - there;
        pages.write(at, &bytes[..there]);
        let result = device.feature_raw(pages.at(at));
        assert_errno!(result, EFAULT, "{there} bytes are there");
    }
    // Read only: the answer has no place.
    pages.write(start, &bytes);
    for page in 0..count {
        pages.protect(page, ProtFlags::PROT_READ);
    }
    assert_errno!(device.feature_raw(pages.at(start)), EFAULT, "read only");
}

/// Firmware is asked once for each CPU, however often and through whichever device.
fn r1_no_firmware_call_no_device_access_for_known_cpus(bench: &mut Bench) {
    const ENTRIES: usize = 64;
    let endpoint = bench.pick(&Want::TABLE);
    // Another load of the module knows nothing yet.
    Gate::Safe.load();
    policy::bind(&endpoint, Policy::DsSt);
    let device = endpoint.open();
    let known: Vec<Source> = answers()
        .into_iter()
        .filter(|(_, tags)| tags.st.is_some())
        .map(|(source, _)| source)
        .collect();
    let sources: Vec<Source> = known.iter().copied().cycle().take(ENTRIES).collect();
    let mut numbers: Vec<u32> = known.iter().map(|source| source.value).collect();
    numbers.dedup();

    let before = kstate::dsm_evaluations();
    device.resolve(&sources, false).expect("TPH_RESOLVE");
    let first = kstate::dsm_evaluations() - before;
    assert_eq!(first, numbers.len() as u64, "once for each CPU");

    endpoint.reset_counters();
    for _ in 0..3 {
        device.resolve(&sources, false).expect("TPH_RESOLVE");
    }
    let calls = kstate::dsm_evaluations() - before - first;
    let counters = endpoint.counters();
    let accesses = counters.accesses();
    println!(
        "# {ENTRIES} entries, {} CPUs: {first} firmware calls, then {calls}; {accesses} device accesses",
        numbers.len()
    );
    assert_eq!((calls, accesses), (0, 0), "{counters:?}");
}

fn main() -> ExitCode {
    harness::run(tests![
        r1_what_firmware_says,
        r1_all_in_one_call_in_their_order,
        r1_an_answer_is_a_question,
        r1_needs_no_requester_enable,
        r1_programs_nothing,
        r1_no_firmware_call_no_device_access_for_known_cpus,
        r3_one_bad_entry_writes_no_result,
        r5_count,
        r7_reserved_and_unknown,
        r10_bad_pointers,
        r12_not_usable,
        r12_probe,
        r14_no_cpu_below_policy_2,
        r35_extended_on_a_path_without,
        r37_no_firmware_call_for_a_cpu_that_cannot_be,
        r38_firmware_that_is_wrong,
    ])
}
