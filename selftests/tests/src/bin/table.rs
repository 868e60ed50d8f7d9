// SPDX-License-Identifier: GPL-2.0-only

//! Programming the ST table in the capability.

use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::cpus;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::firmware::{CPUS, CPU_SHORT_ANSWER, CPU_WRONG_TYPE};
use tph_selftests::harness;
use tph_selftests::kernel;
use tph_selftests::kmsg::KernelLog;
use tph_selftests::kstate;
use tph_selftests::module::Gate;
use tph_selftests::protocol::{Position, Table, TphShape};
use tph_selftests::root_port;
use tph_selftests::tph::{claimed_entries, control, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_BASE_SIZEOF;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{
    cpu, cpu_persistent, literal, none, open, source, Device, OpenBy, Source, StRequest,
    FAULT_UNTOUCHED,
};
use tph_selftests::{assert_errno, skip, tests, Errno};
use tph_tests::bed::{Bed, Kind, ENTRIES};
use tph_tests::{
    assert_refused_unless_enabled, each_table, each_table_and_gate, enabled, enabled_as, fill,
    needs_known_firmware, opened, opened_as, st, tag, xst, CPU, OTHER_CPU,
};

/// Sources that are refused whatever the policy, and with what.
const BAD: [(Source, Errno); 4] = [
    (source(4, 0, 0), Errno::EINVAL),
    (cpu(u32::MAX), Errno::EINVAL),
    (cpu_persistent(3), Errno::EOPNOTSUPP),
    (source(VFIO_TPH_SOURCE_NONE, 0, 1), Errno::EINVAL),
];

fn r3_a_batch_is_all_or_nothing(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let (endpoint, device) = enabled_as(bench, want, gate, Requester::Standard);
        fill(&endpoint, &device);
        let state = || (endpoint.registers(), endpoint.state().msix);
        let before = state();
        let n = before.0.entries.len();
        for (bad, errno) in BAD {
            for position in 0..n {
                let mut sources = vec![cpu(CPU); n];
                sources[position] = bad;
                let mut request = StRequest::new(0, &sources);
                let result = device.tph_st(&mut request);
                assert_eq!(result, Err(errno), "{bad:?} at {position}");
                assert_eq!(request.fault, position as u32, "{bad:?}");
                assert_eq!(state(), before, "{bad:?} at {position}");
            }
        }
    });
}

fn r4_no_write_for_a_refused_batch(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Unsafe, Requester::Standard);
        fill(&endpoint, &device);
        let n = endpoint.entries().len();
        endpoint.reset_counters();
        for (bad, _) in BAD {
            for position in 0..n {
                let mut sources = vec![literal(0x42); n];
                sources[position] = bad;
                device.program(0, &sources).expect_err("a bad source");
            }
        }
        let counters = endpoint.counters();
        let accesses = (
            counters.config_write,
            counters.mmio_read,
            counters.mmio_write,
        );
        assert_eq!(accesses, (0, 0, 0), "{counters:?}");
    });
}

/// A device that claims more ST entries than are there: more than a capability can hold, or than
/// fit below the end of config space.
fn r9_a_table_that_claims_too_much(bench: &mut Bench) {
    const DEFAULT: u16 = 0x160;

    let endpoint = bench.pick(&Want::TABLE);
    for (offset, claimed, there) in [
        (DEFAULT, 65, 64),
        (DEFAULT, 128, 64),
        (DEFAULT, 1024, 64),
        (DEFAULT, 2048, 64),
        (0xfe0, 11, 10),
        (0xfe0, 64, 10),
        (0xff0, 2048, 2),
    ] {
        let what = format!("{claimed} at {offset:#x}");
        endpoint.reshape(TphShape {
            table: Some(Table::Cap),
            entries: Some(claimed),
            position: Some(Position::Last),
            offset: Some(offset),
            ..TphShape::default()
        });
        let mut log = KernelLog::from_now();
        bench::bind(&endpoint, Gate::Safe);
        let past_the_end =
            usize::from(offset) + PCI_TPH_BASE_SIZEOF as usize + 2 * usize::from(claimed) > 0x1000;
        if past_the_end && !kernel::is_patched() {
            // vfio-pci-core would write past a buffer of its own.
            assert_errno!(open(&endpoint.bdf, OpenBy::Cdev), EIO, "{what}");
            continue;
        }
        for _ in 0..2 {
            let device = endpoint.open();
            let last = there - 1;
            assert_eq!(
                device.tph().expect("GET of TPH").st_entries,
                there,
                "{what}"
            );
            assert_eq!(claimed_entries(device.tph_capability()), there, "{what}");
            device.enable(StMode::InterruptVector, Requester::Standard);
            device
                .program(0, &vec![none(); there.into()])
                .expect("all that there is");
            device.program(last, &[cpu(CPU)]).expect("the last one");
            assert_eq!(endpoint.entries()[usize::from(last)], st(CPU), "{what}");
            assert_errno!(device.program(there, &[none()]), EINVAL, "{what}");
            assert_errno!(
                device.program(0, &vec![none(); usize::from(there) + 1]),
                EINVAL,
                "{what}"
            );
        }
        let warnings = log
            .until_now()
            .iter()
            .filter(|line| line.contains(&endpoint.bdf.to_string()) && line.contains("ST entries"))
            .count();
        assert_eq!(warnings, 1, "{what}: warnings");
    }
}

/// In all of Control's states in which no tag is used.
fn r34_not_enabled(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let (endpoint, device) = opened_as(bench, want, gate);
        assert_refused_unless_enabled(&device);
        assert_eq!(endpoint.entries()[0], st(CPU), "what was programmed stays");
    });
}

fn r34_device_specific_mode_works(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Gate::Unsafe);
    device.enable(StMode::DeviceSpecific, Requester::Disabled);
    assert_errno!(device.program(0, &[cpu(CPU)]), ENXIO);
    device.enable(StMode::DeviceSpecific, Requester::Standard);
    device.program(0, &[cpu(CPU)]).expect("DS mode");
    assert_eq!(endpoint.entries()[0], st(CPU));
}

fn r35_extended_while_standard_is_enabled(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let (endpoint, device) = enabled_as(bench, want, gate, Requester::Standard);
        let before = fill(&endpoint, &device);
        let mut request = StRequest::new(0, &[cpu(CPU)]).extended();
        assert_errno!(device.tph_st(&mut request), EOPNOTSUPP);
        assert_eq!(request.fault, FAULT_UNTOUCHED);
        assert_eq!(endpoint.entries(), before);
    });
}

/// Where extended tags are not usable: a write of 11b is one of 01b, and standard tags work.
fn assert_without_extended(endpoint: &Rc<Endpoint>, what: &str) {
    let bed = Bed::open(endpoint.clone(), Kind::of(endpoint));
    let device = &bed.device;
    let offer = device.tph().expect("GET of TPH");
    assert_eq!(offer.flags & VFIO_TPH_FLAG_EXTENDED, 0, "{what}");
    device.set_control(control(StMode::InterruptVector, Requester::Extended));
    let standard = control(StMode::InterruptVector, Requester::Standard);
    assert_eq!(device.control(), standard, "{what}");
    device
        .program(0, &[literal(0xff); ENTRIES as usize])
        .expect("standard tags");
    let before = endpoint.entries();
    assert_eq!(
        before[..ENTRIES as usize],
        [0xff; ENTRIES as usize],
        "{what}"
    );
    assert_errno!(device.program(0, &[literal(0x100)]), EINVAL, "{what}");
    for source in [cpu(CPU), literal(0), literal(1)] {
        let refused = device.program_extended(0, &[source]);
        assert_errno!(refused, EOPNOTSUPP, "{what}: {source:?}");
    }
    assert_eq!(endpoint.entries(), before, "{what}");
    bed.works();
}

fn r35_path_or_device_without_extended(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.take(Gate::Unsafe, want);
        endpoint.set_root_port(root_port::STANDARD);
        assert_without_extended(&endpoint, "the path");
        endpoint.set_root_port(root_port::EXTENDED);
        endpoint.reshape(TphShape {
            extended: Some(false),
            ..TphShape::default()
        });
        bench::bind(&endpoint, Gate::Unsafe);
        assert_without_extended(&endpoint, "the device");
    });
}

fn r35_standard_while_extended_is_enabled(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let (endpoint, device) = enabled_as(bench, want, gate, Requester::Extended);
        device
            .program(0, &[cpu(CPU), cpu(OTHER_CPU)])
            .expect("standard tags");
        assert_eq!(endpoint.entries()[..2], [st(CPU), st(OTHER_CPU)]);
    });
}

fn r36_the_namespaces_are_independent(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Safe, Requester::Extended);
        needs_known_firmware();
        for (number, answer) in (0..cpus::present()).zip(CPUS) {
            for (kind, source, tags) in [
                ("volatile", cpu(number), answer.volatile),
                ("persistent", cpu_persistent(number), answer.persistent),
            ] {
                for extended in [false, true] {
                    let what = format!("CPU {number}, {kind}, extended: {extended}");
                    device.program(0, &[cpu(OTHER_CPU)]).expect("a tag");
                    let mut request = StRequest::new(0, &[source]).extended_if(extended);
                    let result = device.tph_st(&mut request);
                    match tag(&tags, extended) {
                        Some(tag) => {
                            assert_eq!(result, Ok(()), "{what}");
                            assert_eq!(endpoint.entries()[0], tag, "{what}");
                        }
                        None => {
                            assert_eq!(result, Err(Errno::EOPNOTSUPP), "{what}");
                            assert_eq!(endpoint.entries()[0], st(OTHER_CPU), "{what}");
                        }
                    }
                }
            }
        }
    });
}

fn r36_zero_is_valid_in_both(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Extended);
    let zero = (0..cpus::present())
        .find(|&number| CPUS[number as usize].volatile.st == Some(0))
        .expect("a CPU whose tag is 0");
    assert_eq!(CPUS[zero as usize].volatile.xst, Some(0));
    fill(&endpoint, &device);
    device.program(0, &[cpu(zero)]).expect("the standard tag 0");
    device
        .program_extended(1, &[cpu(zero)])
        .expect("the extended tag 0");
    assert_eq!(endpoint.entries()[..3], [0, 0, st(OTHER_CPU)]);
}

fn r37_cpu_that_cannot_be(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Safe, Requester::Extended);
        let before = fill(&endpoint, &device);
        let calls = kstate::dsm_evaluations();
        let beyond = cpus::possible();
        for number in [beyond, 63, 64, 65, 4096, 8192, 1 << 31, u32::MAX] {
            if number >= beyond {
                not_present(&device, number);
            }
        }
        assert_eq!(kstate::dsm_evaluations(), calls, "firmware was asked");
        assert_eq!(endpoint.entries(), before);
    });
}

fn not_present(device: &Device, number: u32) {
    for source in [cpu(number), cpu_persistent(number)] {
        assert_errno!(device.program(0, &[source]), EINVAL, "CPU {number}");
        assert_errno!(
            device.program_extended(0, &[source]),
            EINVAL,
            "CPU {number}, extended"
        );
    }
}

/// A CPU for which firmware has tags, taken out.
fn r37_cpu_that_is_not_present(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Safe, Requester::Extended);
        let before = fill(&endpoint, &device);
        let number = cpus::present() - 1;
        let unplugged = cpus::Unplugged::new(number);
        assert!(cpus::possible() > number);
        let calls = kstate::dsm_evaluations();
        not_present(&device, number);
        assert_eq!(kstate::dsm_evaluations(), calls, "firmware was asked");
        assert_eq!(endpoint.entries(), before);
        drop(unplugged);
    });
}

fn r37_cpu_that_is_offline(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Unsafe, Requester::Extended);
    let offline = cpus::Offline::new(OTHER_CPU);
    let standard = device.program(0, &[cpu(OTHER_CPU)]);
    let extended = device.program_extended(1, &[cpu(OTHER_CPU)]);
    drop(offline);
    assert_eq!((standard, extended), (Ok(()), Ok(())));
    assert_eq!(endpoint.entries()[..2], [st(OTHER_CPU), xst(OTHER_CPU)]);
}

/// The same before firmware was ever asked for that CPU: the answer is not one that is cached.
fn r37_cpu_that_is_offline_and_unknown(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    // Another load has another cache.
    Gate::Safe.load();
    bench::bind(&endpoint, Gate::Unsafe);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    let calls = kstate::dsm_evaluations();
    let offline = cpus::Offline::new(OTHER_CPU);
    let result = device.program(0, &[cpu(OTHER_CPU)]);
    drop(offline);
    assert_eq!(result, Ok(()));
    assert_eq!(endpoint.entries()[0], st(OTHER_CPU));
    assert_eq!(kstate::dsm_evaluations(), calls + 1);
}

fn r38_firmware_marks_a_tag_invalid(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let (endpoint, device) = enabled_as(bench, want, gate, Requester::Extended);
        if !endpoint.is_emulated() {
            skip!("needs firmware whose tags are known");
        }
        let before = fill(&endpoint, &device);
        let mut seen = 0;
        for (number, answer) in (0..cpus::present()).zip(CPUS) {
            for (source, tags) in [
                (cpu(number), answer.volatile),
                (cpu_persistent(number), answer.persistent),
            ] {
                for extended in [false, true] {
                    if tag(&tags, extended).is_some() {
                        continue;
                    }
                    let mut request = StRequest::new(0, &[source]).extended_if(extended);
                    assert_errno!(device.tph_st(&mut request), EOPNOTSUPP, "{source:?}");
                    assert_eq!(request.fault, 0);
                    seen += 1;
                }
            }
        }
        assert!(seen > 0, "no CPU has an invalid tag");
        assert_eq!(endpoint.entries(), before);
    });
}

fn r38_firmware_that_is_wrong(bench: &mut Bench) {
    if cpus::present() <= CPU_WRONG_TYPE {
        skip!("only {} CPUs are present", cpus::present());
    }
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Extended);
    let before = fill(&endpoint, &device);
    for number in [CPU_SHORT_ANSWER, CPU_WRONG_TYPE] {
        for source in [cpu(number), cpu_persistent(number)] {
            assert_errno!(device.program(0, &[source]), EOPNOTSUPP);
            assert_errno!(device.program_extended(0, &[source]), EOPNOTSUPP);
        }
    }
    assert_eq!(endpoint.entries(), before);
}

/// Programs `count` entries from `index` on and looks at all of them.
fn program_range(endpoint: &Endpoint, device: &Device, index: u16, count: u16) {
    let before = endpoint.registers();
    let sources: Vec<Source> = (0..count)
        .map(|i| if i % 2 == 0 { cpu(CPU) } else { none() })
        .collect();
    device
        .program(index, &sources)
        .unwrap_or_else(|error| panic!("({index}, {count}): {error}"));
    let mut expected = before.clone();
    for i in 0..count {
        let tag = if i % 2 == 0 { st(CPU) } else { 0 };
        expected.entries[usize::from(index + i)] = tag;
    }
    assert_eq!(endpoint.registers(), expected, "({index}, {count})");
    // Back to what it was.
    device
        .program(index, &vec![cpu(OTHER_CPU); count.into()])
        .expect("TPH_ST");
    assert_eq!(endpoint.registers(), before, "({index}, {count})");
}

/// Opens the device with a table of so many entries in the capability, enabled and filled.
fn open_with_table(endpoint: &Endpoint, entries: u16) -> Device {
    endpoint.reshape(TphShape {
        table: Some(Table::Cap),
        entries: Some(entries),
        ..TphShape::default()
    });
    bench::bind(endpoint, Gate::Safe);
    let device = endpoint.open();
    assert_eq!(device.tph().expect("GET of TPH").st_entries, entries);
    device.enable(StMode::InterruptVector, Requester::Standard);
    fill(endpoint, &device);
    device
}

fn r39_every_range_of_small_tables(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    for size in [1, 2, 3, 7, 8] {
        let device = open_with_table(&endpoint, size);
        for index in 0..size {
            for count in 1..=size - index {
                program_range(&endpoint, &device, index, count);
            }
        }
        assert_errno!(device.program(size, &[none()]), EINVAL);
    }
}

fn ranges(endpoint: &Endpoint, device: &Device, size: u16) {
    for (index, count) in [
        (0, 1),
        (0, 2),
        (0, size),
        (0, size - 1),
        (1, 1),
        (1, 2),
        (1, size - 1),
        (1, size - 2),
        (size / 2 - 1, 2),
        (size / 2 - 1, 3),
        (size / 2, 2),
        (size - 1, 1),
        (size - 2, 1),
        (size - 2, 2),
        (size - 3, 3),
    ] {
        program_range(endpoint, device, index, count);
    }
}

fn r39_r40_ranges_of_large_tables(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    for size in [63, 64] {
        ranges(&endpoint, &open_with_table(&endpoint, size), size);
    }
    let (endpoint, device) = enabled_as(bench, &Want::MSIX, Gate::Safe, Requester::Standard);
    fill(&endpoint, &device);
    ranges(&endpoint, &device, endpoint.entries().len() as u16);
}

fn r39_r40_all_tags_of_both_namespaces(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Unsafe, Requester::Extended);
        let n = endpoint.entries().len() as u32;
        for first in (0..=0xff).step_by(n as usize) {
            let values: Vec<u32> = (first..first + n).map(|value| value & 0xff).collect();
            let sources: Vec<Source> = values.iter().map(|&value| literal(value)).collect();
            device.program(0, &sources).expect("standard tags");
            let held: Vec<u32> = endpoint.entries().into_iter().map(u32::from).collect();
            assert_eq!(held, values);
        }
        let values: Vec<u32> = (0..n).map(|i| (i * 0x1357 + 0xa5) & 0xffff).collect();
        let sources: Vec<Source> = values.iter().map(|&value| literal(value)).collect();
        device.program_extended(0, &sources).expect("extended tags");
        let held: Vec<u32> = endpoint.entries().into_iter().map(u32::from).collect();
        assert_eq!(held, values);
    });
}

fn r33_r42_control_is_what_it_was(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let (endpoint, device) = opened_as(bench, want, gate);
        let modes: &[StMode] = match gate {
            Gate::Safe => &[StMode::InterruptVector],
            Gate::Unsafe => &[StMode::InterruptVector, StMode::DeviceSpecific],
        };
        for &mode in modes {
            for requester in [Requester::Standard, Requester::Extended] {
                device.enable(mode, requester);
                let expected = control(mode, requester);
                let same = |after: &str| {
                    assert_eq!(device.control(), expected, "{after}");
                    assert_eq!(endpoint.registers().control, expected, "{after}");
                    endpoint.assert_kernel_agrees();
                };
                device.program(0, &[cpu(CPU); 3]).expect("TPH_ST");
                same("a batch");
                device.program(1, &[cpu(u32::MAX)]).expect_err("a bad CPU");
                same("a refused batch");
                if requester == Requester::Extended {
                    device.program_extended(1, &[cpu(CPU)]).expect("TPH_ST");
                    same("an extended batch");
                }
            }
        }
    });
}

/// For each adjacent pair of checks: a request that both refuse, and who is first.
fn r13_r40_the_first_check_wins(bench: &mut Bench) {
    each_table(bench, first_check_wins);
}

fn first_check_wins(bench: &mut Bench, want: &Want) {
    let endpoint = bench.take(Gate::Safe, want);
    let malformed = |request: StRequest| StRequest {
        reserved: 1,
        ..request
    };
    let answer = |device: &Device, mut request: StRequest| {
        let result = device.tph_st(&mut request);
        (result.expect_err("refused twice"), request.fault)
    };

    // Not usable, then shape.
    endpoint.set_root_port(root_port::NONE);
    let device = endpoint.open();
    let request = malformed(StRequest::new(0, &[cpu(CPU)]));
    assert_eq!(
        answer(&device, request),
        (Errno::EOPNOTSUPP, FAULT_UNTOUCHED)
    );
    drop(device);
    endpoint.set_root_port(root_port::EXTENDED);

    // Shape, then Control.
    let device = endpoint.open();
    let request = malformed(StRequest::new(0, &[cpu(CPU)]));
    assert_eq!(answer(&device, request), (Errno::EINVAL, FAULT_UNTOUCHED));

    // Control, then the namespace.
    device.enable(StMode::InterruptVector, Requester::Disabled);
    let request = StRequest::new(0, &[cpu(CPU)]).extended();
    assert_eq!(answer(&device, request), (Errno::ENXIO, FAULT_UNTOUCHED));

    // The end of the table, then the sources.
    let entries = endpoint.entries().len() as u16;
    let request = StRequest::new(entries, &[cpu(u32::MAX)]);
    assert_eq!(answer(&device, request), (Errno::EINVAL, FAULT_UNTOUCHED));

    // The namespace, then the sources.
    device.enable(StMode::InterruptVector, Requester::Standard);
    let request = StRequest::new(0, &[cpu(u32::MAX)]).extended();
    assert_eq!(
        answer(&device, request),
        (Errno::EOPNOTSUPP, FAULT_UNTOUCHED)
    );

    // Of sources, the first in the array, whatever is wrong with the others.
    let unknown = source(0xff, 0, 0);
    for (first, second, errno) in [
        (cpu_persistent(3), unknown, Errno::EOPNOTSUPP),
        (literal(1), unknown, Errno::EPERM),
        (unknown, literal(1), Errno::EINVAL),
        (cpu(u32::MAX), cpu_persistent(3), Errno::EINVAL),
        (cpu_persistent(3), cpu(u32::MAX), Errno::EOPNOTSUPP),
        (literal(1), cpu_persistent(3), Errno::EPERM),
    ] {
        let request = StRequest::new(0, &[cpu(CPU), first, second]);
        assert_eq!(
            answer(&device, request),
            (errno, 1),
            "{first:?}, then {second:?}"
        );
    }

    // Within a source: its form, then the policy.
    for form in [literal(0x100), source(VFIO_TPH_SOURCE_LITERAL, 1, 1)] {
        let request = StRequest::new(0, &[form]);
        assert_eq!(answer(&device, request), (Errno::EINVAL, 0), "{form:?}");
    }
    // A flag, then whether the CPU is there.
    let request = StRequest::new(0, &[source(VFIO_TPH_SOURCE_CPU, 2, u32::MAX)]);
    assert_eq!(answer(&device, request), (Errno::EINVAL, 0));

    // Last of all, whether the vectors are allocated: none of them was, all the time.
    let mut request = StRequest::new(0, &[cpu(CPU)]);
    let expected = if want.in_msix {
        Err(Errno::ENXIO)
    } else {
        Ok(())
    };
    assert_eq!(device.tph_st(&mut request), expected);
    assert_eq!(request.fault, FAULT_UNTOUCHED);
}

fn main() -> ExitCode {
    harness::run(tests![
        r3_a_batch_is_all_or_nothing,
        r4_no_write_for_a_refused_batch,
        r9_a_table_that_claims_too_much,
        r13_r40_the_first_check_wins,
        r34_not_enabled,
        r34_device_specific_mode_works,
        r35_extended_while_standard_is_enabled,
        r35_path_or_device_without_extended,
        r35_standard_while_extended_is_enabled,
        r36_the_namespaces_are_independent,
        r36_zero_is_valid_in_both,
        r37_cpu_that_cannot_be,
        r37_cpu_that_is_not_present,
        r37_cpu_that_is_offline,
        r37_cpu_that_is_offline_and_unknown,
        r38_firmware_marks_a_tag_invalid,
        r38_firmware_that_is_wrong,
        r39_every_range_of_small_tables,
        r39_r40_ranges_of_large_tables,
        r39_r40_all_tags_of_both_namespaces,
        r33_r42_control_is_what_it_was,
    ])
}
