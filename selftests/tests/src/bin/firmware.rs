// SPDX-License-Identifier: GPL-2.0-only

//! Firmware that is wrong, `guest/wrong.asl` and `guest/denied.asl`, or that says nothing of
//! steering tags at all: no tag is made of that, nobody falls over it, and users cannot keep it
//! busy.

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use tph_selftests::bench::{Bench, Want};
use tph_selftests::cpus;
use tph_selftests::kmsg::KernelLog;
use tph_selftests::kstate;
use tph_selftests::module::Gate;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{cpu, cpu_persistent, none, Device, ResolveRequest, StRequest};
use tph_selftests::{assert_errno, harness, skip, tests};

/// What is wrong with the answer for CPU n, from 1 on.
const WRONG: [&str; 8] = [
    "a byte is missing",
    "an empty buffer",
    "an integer",
    "a package",
    "a string",
    "an error in AML",
    "one byte",
    "reserved bits alone",
];
/// A CPU whose answer is longer than it should be.
const LONG: u32 = 9;

/// The one of these CPUs at which firmware aborts.
const ABORTS: u32 = 6;

/// How long a failure is kept.
const KEPT: Duration = Duration::from_secs(10);

/// Whether there is a table of this name among firmware's SSDTs.
fn has_ssdt(name: &str) -> bool {
    let tables = "/sys/firmware/acpi/tables";
    fs::read_dir(tables)
        .unwrap_or_else(|error| panic!("{tables}: {error}"))
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("SSDT"))
        .any(|entry| {
            // OEM Table ID: eight bytes at offset 16 of the header.
            let table = fs::read(entry.path()).unwrap_or_default();
            table
                .get(16..24)
                .is_some_and(|id| id.trim_ascii_end().starts_with(name.as_bytes()))
        })
}

fn needs(name: &str) {
    if !has_ssdt(name) {
        skip!("firmware has no SSDT {name}");
    }
}

/// No source of that CPU is resolved, in any way, and the table stays what it is.
fn assert_no_tag(device: &Device, number: u32, what: &str) {
    for source in [cpu(number), cpu_persistent(number)] {
        for extended in [false, true] {
            let mut request = ResolveRequest::new(&[source]).extended_if(extended);
            let mut batch = StRequest::new(1, &[none(), source]).extended_if(extended);
            let asked = request.clone();
            assert_errno!(device.tph_resolve(&mut request), EOPNOTSUPP, "{what}");
            assert_eq!(request.fault, 0, "{what}");
            assert_eq!(request.entries[0].st, asked.entries[0].st, "{what}");
            assert_errno!(device.tph_st(&mut batch), EOPNOTSUPP, "{what}");
            assert_eq!(batch.fault, 1, "{what}");
        }
    }
}

fn r38_every_wrong_answer(bench: &mut Bench) {
    needs("WRONG");
    assert_eq!(cpus::present(), LONG + 1, "one CPU for each answer");
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Extended);
    device
        .program(0, &[cpu(0), cpu(0), cpu(0)])
        .expect("TPH_ST of the CPU that is right");
    let before = endpoint.registers();
    assert_eq!(before.entries[..3], [0x10; 3]);
    for (number, what) in (1..).zip(WRONG) {
        assert_no_tag(&device, number, what);
        assert_eq!(endpoint.registers(), before, "{what}");
    }
    // Nor does it keep the others from being answered.
    device
        .program_extended(0, &[cpu(0)])
        .expect("TPH_ST of the CPU that is right");
    assert_eq!(endpoint.entries()[0], 0x1100);
}

/// What is longer than it need be is read as the PCI core reads it: the first eight bytes count.
fn r38_an_answer_that_is_too_long(bench: &mut Bench) {
    needs("WRONG");
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let device = endpoint.open();
    let entries = device.resolve(&[cpu(LONG)], false).expect("TPH_RESOLVE");
    assert_eq!(entries[0].st, 0x19);
    let entries = device
        .resolve(&[cpu_persistent(LONG)], true)
        .expect("TPH_RESOLVE");
    assert_eq!(entries[0].st, 0x5509);
}

/// Many threads ask for a CPU again and again: firmware is asked once in a while, and the log has a
/// few lines of each time. Nothing of what is asked for has been asked for before.
fn ask_in_vain(bench: &mut Bench, number: u32) {
    const THREADS: usize = 8;
    const CALLS: usize = 1_250;
    /// More than ACPICA has to say of a method that it gives up.
    const LINES: usize = 30;

    // Another load keeps nothing of this one.
    Gate::Safe.load();
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let device = endpoint.open();
    let before = kstate::dsm_evaluations();
    let mut log = KernelLog::from_now();
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..CALLS {
                    assert_errno!(device.resolve(&[cpu(number)], false), EOPNOTSUPP);
                }
            });
        }
    });
    let asked = kstate::dsm_evaluations() - before;
    let most = 1 + start.elapsed().as_secs() / KEPT.as_secs();
    assert!(asked >= 1, "firmware was not asked");
    assert!(
        asked <= most,
        "{asked} evaluations, more than {most}, of {} calls",
        THREADS * CALLS
    );
    let lines = log.until_now();
    let lines = lines.iter().filter(|line| line.contains("ACPI")).count();
    assert!(lines <= LINES * most as usize, "{lines} lines in the log");

    // It is not for ever.
    thread::sleep(KEPT + Duration::from_secs(1));
    let before = kstate::dsm_evaluations();
    for _ in 0..2 {
        assert_errno!(device.resolve(&[cpu(number)], false), EOPNOTSUPP);
    }
    assert_eq!(kstate::dsm_evaluations(), before + 1, "after a while");
}

fn r81_an_aborted_answer_is_kept_for_a_while(bench: &mut Bench) {
    needs("WRONG");
    ask_in_vain(bench, ABORTS);
}

fn r81_a_malformed_answer_is_kept_for_a_while(bench: &mut Bench) {
    needs("WRONG");
    ask_in_vain(bench, 1);
}

fn r81_a_denied_question_is_asked_seldom(bench: &mut Bench) {
    needs("DENIED");
    ask_in_vain(bench, 0);
}

fn r38_no_dsm(bench: &mut Bench) {
    if ["WRONG", "DENIED", "TPH"].into_iter().any(has_ssdt) {
        skip!("firmware has a _DSM");
    }
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Extended);
    for number in 0..cpus::present() {
        assert_no_tag(&device, number, "no _DSM");
    }
    endpoint.assert_tags(&[], "no _DSM");
}

fn main() -> ExitCode {
    harness::run(tests![
        r38_every_wrong_answer,
        r38_an_answer_that_is_too_long,
        r38_no_dsm,
        r81_an_aborted_answer_is_kept_for_a_while,
        r81_a_malformed_answer_is_kept_for_a_while,
        r81_a_denied_question_is_asked_seldom,
    ])
}
