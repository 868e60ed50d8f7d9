// SPDX-License-Identifier: GPL-2.0-only

//! Firmware that is wrong, `guest/wrong.asl`, or that says nothing of steering tags at all: no tag
//! is made of that, and nobody falls over it.

use std::fs;
use std::process::ExitCode;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::cpus;
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
            let mut request = ResolveRequest::new(&[source]);
            let mut batch = StRequest::new(1, &[none(), source]);
            if extended {
                request = request.extended();
                batch = batch.extended();
            }
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

fn r38_no_dsm(bench: &mut Bench) {
    if has_ssdt("WRONG") || has_ssdt("TPH") {
        skip!("firmware has a _DSM");
    }
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Extended);
    for number in 0..cpus::present() {
        assert_no_tag(&device, number, "no _DSM");
    }
    assert!(endpoint.entries().iter().all(|&tag| tag == 0));
}

fn main() -> ExitCode {
    harness::run(tests![
        r38_every_wrong_answer,
        r38_an_answer_that_is_too_long,
        r38_no_dsm,
    ])
}
