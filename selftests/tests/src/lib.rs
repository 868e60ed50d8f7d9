// SPDX-License-Identifier: GPL-2.0-only

//! Fixtures that several test programs share.

pub mod bed;
pub mod guest;

use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::rc::Rc;

use tph_selftests::bench::{self, in_test_vm, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::engine::Engine;
use tph_selftests::firmware::{Tags, CPUS};
use tph_selftests::kernel;
use tph_selftests::module::Gate;
use tph_selftests::msix::Traits;
use tph_selftests::pci::Bdf;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{cpu, Device, Source, StRequest, Vectors, FAULT_UNTOUCHED};
use tph_selftests::{assert_errno, skip, Errno};

/// Whether the kernel was booted with a word.
pub fn booted_with(wanted: &str) -> bool {
    fs::read_to_string("/proc/cmdline")
        .expect("/proc/cmdline")
        .split_whitespace()
        .any(|word| word == wanted)
}

/// Whether the kernel was booted with `pci=notph`.
pub fn booted_with_notph() -> bool {
    booted_with("pci=notph")
}

/// Whether the kernel was built with `CONFIG_PCIE_TPH`.
pub fn kernel_has_tph() -> bool {
    kernel::has("pcie_enable_tph")
}

/// Leaves the test out if the kernel cannot use TPH, or was told not to.
pub fn needs_tph() {
    if !kernel_has_tph() {
        skip!("the kernel has no CONFIG_PCIE_TPH");
    }
    if booted_with_notph() {
        skip!("the kernel was booted with pci=notph");
    }
}

/// What lspci says of a device whose config space is that. The test is left out if there is no
/// lspci.
#[track_caller]
pub fn lspci(bdf: &Bdf, space: &[u8]) -> String {
    if Command::new("lspci").arg("--version").output().is_err() {
        skip!("there is no lspci");
    }
    let mut dump = format!("{} Class: device\n", &bdf.to_string()[5..]);
    for (row, bytes) in space.chunks(16).enumerate() {
        write!(dump, "{:02x}:", 16 * row).expect("a String grows");
        for byte in bytes {
            write!(dump, " {byte:02x}").expect("a String grows");
        }
        dump.push('\n');
    }
    let file = "/tmp/lspci-dump";
    fs::write(file, dump).unwrap_or_else(|error| panic!("{file}: {error}"));
    let output = Command::new("lspci")
        .args(["-F", file, "-vvv"])
        .output()
        .expect("lspci");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    text
}

/// Opens a device that vfio_tph drives. All vectors are allocated if its table is in MSI-X, each
/// with an event that nobody waits for.
pub fn open_with_vectors(endpoint: &Endpoint) -> Device {
    let device = endpoint.open();
    if Traits::of(&endpoint.bdf).is_some_and(|traits| traits.in_msix) {
        let count = endpoint.entries().len() as u32;
        Vectors::allocate(&device, count).expect("SET_IRQS of all vectors");
    }
    device
}

/// A device that is bound anew: the policy that an earlier test chose is gone.
pub fn bound_anew(bench: &mut Bench, gate: Gate, want: &Want) -> Rc<Endpoint> {
    let endpoint = bench.pick(want);
    endpoint.bdf.unbind();
    bench::bind(&endpoint, gate);
    endpoint
}

/// A device, opened, with all that its table takes.
pub fn opened_as(bench: &mut Bench, want: &Want, gate: Gate) -> (Rc<Endpoint>, Device) {
    let endpoint = bench.take(gate, want);
    let device = open_with_vectors(&endpoint);
    (endpoint, device)
}

/// The same, enabled in Interrupt Vector mode.
pub fn enabled_as(
    bench: &mut Bench,
    want: &Want,
    gate: Gate,
    requester: Requester,
) -> (Rc<Endpoint>, Device) {
    let (endpoint, device) = opened_as(bench, want, gate);
    device.enable(StMode::InterruptVector, requester);
    (endpoint, device)
}

/// A device with a table in its capability, opened.
pub fn opened(bench: &mut Bench, gate: Gate) -> (Rc<Endpoint>, Device) {
    opened_as(bench, &Want::TABLE, gate)
}

/// The same, enabled in Interrupt Vector mode.
pub fn enabled(bench: &mut Bench, gate: Gate, requester: Requester) -> (Rc<Endpoint>, Device) {
    enabled_as(bench, &Want::TABLE, gate, requester)
}

/// Has a device raise each of its vectors; each must arrive, and no other one.
#[track_caller]
pub fn raise_all(device: &Device, vectors: &Vectors, when: &str) {
    let engine = Engine::new(device);
    for vector in 0..vectors.count() {
        engine.interrupt(vector);
        vectors.wait(vector);
    }
    let stray: Vec<u16> = (0..vectors.count())
        .filter(|&vector| vectors.raised(vector))
        .collect();
    assert!(stray.is_empty(), "{when}: raised again: {stray:?}");
}

/// Takes the interrupt of each vector away and puts it back: the kernel masks and unmasks all of
/// them, and writes what it believes is in their control words.
#[track_caller]
pub fn mask_and_unmask(endpoint: &Endpoint, device: &Device, vectors: &Vectors) {
    let events = vectors.descriptors();
    for (events, are_masked) in [(&vec![-1; events.len()], true), (&events, false)] {
        device.set_msix(0, events).expect("SET_IRQS");
        let msix = endpoint.state().msix.expect("MSI-X");
        let entries = msix.entries.iter().take(events.len());
        let masked: Vec<bool> = entries.map(|entry| entry.masked).collect();
        assert!(
            masked.iter().all(|&masked| masked == are_masked),
            "{masked:?}"
        );
    }
}

/// Calls `body` with each gate for each of `wants`.
pub fn each_and_gate(bench: &mut Bench, wants: &[Want], body: impl Fn(&mut Bench, &Want, Gate)) {
    for gate in Gate::BOTH {
        bench.each(wants, |bench, want| body(bench, want, gate));
    }
}

/// Calls `body` with each place of a table and each gate.
pub fn each_table_and_gate(bench: &mut Bench, body: impl Fn(&mut Bench, &Want, Gate)) {
    each_and_gate(bench, &Want::TABLES, body);
}

/// Calls `body` with each place of a table.
pub fn each_table(bench: &mut Bench, body: impl Fn(&mut Bench, &Want)) {
    bench.each(&Want::TABLES, body);
}

/// A CPU's volatile memory, all of whose tags the test VM's firmware knows.
pub const CPU: u32 = 0;
/// Another one.
pub const OTHER_CPU: u32 = 1;

/// Leaves the test out where firmware is not the test VM's, whose tags are known.
pub fn needs_known_firmware() {
    if !in_test_vm() {
        skip!("needs firmware whose tags are known");
    }
}

/// The standard tag of a CPU's volatile memory.
pub fn st(number: u32) -> u16 {
    needs_known_firmware();
    CPUS[number as usize]
        .volatile
        .st
        .expect("a valid tag")
        .into()
}

/// The extended tag of a CPU's volatile memory.
pub fn xst(number: u32) -> u16 {
    needs_known_firmware();
    CPUS[number as usize].volatile.xst.expect("a valid tag")
}

/// The tag that firmware has in a namespace.
pub fn tag(tags: &Tags, extended: bool) -> Option<u16> {
    if extended {
        tags.xst
    } else {
        tags.st.map(u16::from)
    }
}

/// Fills the table with the tag of [`OTHER_CPU`], so that a write where none belongs shows.
pub fn fill(endpoint: &Endpoint, device: &Device) -> Vec<u16> {
    let sources: Vec<Source> = endpoint.entries().iter().map(|_| cpu(OTHER_CPU)).collect();
    if !in_test_vm() && device.program(0, &sources[..1]) == Err(Errno::EOPNOTSUPP) {
        skip!("firmware has no tag for CPU {OTHER_CPU}");
    }
    device
        .program(0, &sources)
        .expect("TPH_ST of the whole table");
    let entries = endpoint.entries();
    let expected = match in_test_vm() {
        true => st(OTHER_CPU),
        false => entries[0],
    };
    assert!(entries.iter().all(|&tag| tag == expected), "{entries:x?}");
    entries
}

/// Fails the test unless TPH_ST is refused, in both namespaces, in all of Control's states in which
/// no tag is used; on a device that was just opened. The tag of [`CPU`] is in the first entry
/// afterwards.
pub fn assert_refused_unless_enabled(device: &Device) {
    let refused = |state: &str| {
        for request in [
            StRequest::new(0, &[cpu(CPU)]),
            StRequest::new(0, &[cpu(CPU)]).extended(),
        ] {
            let mut request = request;
            assert_errno!(device.tph_st(&mut request), ENXIO, "{state}: {request:?}");
            assert_eq!(request.fault, FAULT_UNTOUCHED, "{state}");
        }
    };
    refused("open");
    for requester in [Requester::Standard, Requester::Extended] {
        device.enable(StMode::InterruptVector, Requester::Disabled);
        refused("mode selected, disabled");
        device.enable(StMode::InterruptVector, requester);
        device.program(0, &[cpu(CPU)]).expect("enabled");
        device.enable(StMode::InterruptVector, Requester::Disabled);
        refused("disabled again");
        device.enable(StMode::NoSt, requester);
        refused("No ST, enabled");
        device.enable(StMode::NoSt, Requester::Disabled);
        refused("off");
    }
}
