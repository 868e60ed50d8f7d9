// SPDX-License-Identifier: GPL-2.0-only

//! debugfs `why`: what stands in the way of TPH, and which tags firmware has (contract, section 7).

use std::process::ExitCode;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::msix::Traits;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::TphShape;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{cpu, cpu_persistent};
use tph_selftests::{assert_errno, debugfs, harness, kstate, root_port, skip, tests, vcpus};
use tph_tests::{booted_with_notph, bound_anew, kernel_has_tph, needs_known_firmware, needs_tph};

/// What the file says, each line by its first word.
struct Why(String);

impl Why {
    fn of(endpoint: &Endpoint) -> Self {
        Self(debugfs::show(&endpoint.bdf, "why"))
    }

    #[track_caller]
    fn assert(&self, line: &str) {
        assert!(
            self.0.lines().any(|said| said == line),
            "{line}: {}",
            self.0
        );
    }

    #[track_caller]
    fn assert_none(&self, word: &str) {
        assert!(
            !self.0.lines().any(|said| said.starts_with(word)),
            "{word}: {}",
            self.0
        );
    }
}

/// Bound, and looked at again when it is opened: both say the same.
#[track_caller]
fn at_bind_and_open(endpoint: &Endpoint, check: impl Fn(&Why)) {
    check(&Why::of(endpoint));
    let device = endpoint.open();
    check(&Why::of(endpoint));
    drop(device);
    check(&Why::of(endpoint));
}

fn r104_usable(bench: &mut Bench) {
    needs_tph();
    let endpoint = bound_anew(bench, Gate::Safe, &Want::TABLE);
    let port = endpoint.bdf.root_port().expect("a root port");
    at_bind_and_open(&endpoint, |why| {
        for line in [
            "usable yes",
            "extended yes",
            "interrupt_vector yes",
            "device_specific no: the policy leaves this mode out",
            "policy iv_st",
            &format!("root_port {port} completer 11b"),
        ] {
            why.assert(line);
        }
    });
    for policy in [Policy::NoSt, Policy::IvSt] {
        policy::write(&endpoint.bdf, policy.name().as_bytes()).expect("tph_policy");
        let why = Why::of(&endpoint);
        why.assert(&format!("policy {}", policy.name()));
        why.assert(match policy {
            Policy::NoSt => "interrupt_vector no: the policy leaves this mode out",
            _ => "interrupt_vector yes",
        });
        // What was found by whoever opened it under another policy has no say.
        vcpus::write(&endpoint.bdf, "0").expect("tph_vcpus");
        Why::of(&endpoint).assert(match policy {
            Policy::NoSt => "tph_vcpus no: the policy leaves this mode out",
            _ => "tph_vcpus yes",
        });
        vcpus::write(&endpoint.bdf, "").expect("tph_vcpus");
        drop(endpoint.open());
    }
}

fn r104_in_the_root_complex(bench: &mut Bench) {
    needs_tph();
    let endpoint = bound_anew(bench, Gate::Unsafe, &Want::RCIEP);
    at_bind_and_open(&endpoint, |why| {
        why.assert("usable yes");
        why.assert("extended yes");
        why.assert("device_specific yes");
        why.assert("policy literal");
        why.assert("root_port none: the device is in the root complex");
    });
}

fn r104_no_capability(bench: &mut Bench) {
    let endpoint = bound_anew(bench, Gate::Safe, &Want::NO_TPH);
    at_bind_and_open(&endpoint, |why| {
        why.assert("usable no: the device has no TPH Requester capability");
        why.assert_none("interrupt_vector");
        why.assert_none("extended");
    });
}

fn r104_root_port(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    for (completer, usable, extended, field) in [
        (
            root_port::NONE,
            "usable no: the root port completes no TPH requests (completer field 00b)",
            None,
            "00b",
        ),
        (
            root_port::RESERVED,
            "usable no: the root port's completer field has the reserved value 10b",
            None,
            "10b",
        ),
        (
            root_port::STANDARD,
            "usable yes",
            Some(
                "extended no: the root port completes no extended TPH requests \
                 (completer field 01b)",
            ),
            "01b",
        ),
        (
            root_port::EXTENDED,
            "usable yes",
            Some("extended yes"),
            "11b",
        ),
    ] {
        endpoint.set_root_port(completer);
        endpoint.bdf.unbind();
        bench::bind(&endpoint, Gate::Safe);
        let port = endpoint.bdf.root_port().expect("a root port");
        at_bind_and_open(&endpoint, |why| {
            why.assert(usable);
            match extended {
                Some(line) => why.assert(line),
                None => why.assert_none("extended"),
            }
            why.assert(&format!("root_port {port} completer {field}"));
        });
    }
}

/// The root port is looked at again at each open.
fn r104_root_port_at_open(bench: &mut Bench) {
    needs_tph();
    let endpoint = bound_anew(bench, Gate::Safe, &Want::TABLE);
    endpoint.set_root_port(root_port::NONE);
    Why::of(&endpoint).assert("usable yes");
    drop(endpoint.open());
    Why::of(&endpoint)
        .assert("usable no: the root port completes no TPH requests (completer field 00b)");
}

fn r104_prefixes(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick_where(
        "a table in its capability, alone below a root port",
        |bdf| bdf.ports().len() == 1 && bdf.siblings().is_empty() && Want::TABLE.fits(bdf),
    );
    endpoint.reshape(TphShape {
        eetlp: Some(0),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    at_bind_and_open(&endpoint, |why| {
        why.assert("usable yes");
        why.assert(
            "extended no: not every port up to the root port has End-End TLP prefixes, and not \
             every link is in flit mode",
        );
    });
}

/// Another function of the group reaches a table in MSI-X. With a policy that leaves the mode out
/// anyway, that is what stands in the way first.
fn r104_group(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick_where("a table in MSI-X, and a neighbour in its group", |bdf| {
        bdf.shares_group() && Traits::of(bdf).is_some_and(|traits| traits.in_msix)
    });
    Gate::Unsafe.load();
    for neighbour in endpoint.bdf.group() {
        if neighbour != endpoint.bdf && !neighbour.is_bridge() {
            neighbour.bind(VFIO_TPH).expect("the neighbour");
        }
    }
    endpoint.bdf.unbind();
    bench::bind(&endpoint, Gate::Unsafe);
    for (policy, words) in [
        (Policy::Literal, "yes"),
        (Policy::DsSt, "yes"),
        (
            Policy::IvSt,
            "no: the ST table is in MSI-X, and another function of the IOMMU group reaches it",
        ),
        (Policy::NoSt, "no: the policy leaves this mode out"),
    ] {
        policy::write(&endpoint.bdf, policy.name().as_bytes()).expect("tph_policy");
        at_bind_and_open(&endpoint, |why| {
            why.assert("usable yes");
            why.assert(&format!("interrupt_vector {words}"));
        });
    }
}

fn r104_notph(bench: &mut Bench) {
    if !booted_with_notph() {
        skip!("the kernel was booted without pci=notph");
    }
    let endpoint = bound_anew(bench, Gate::Safe, &Want::TABLE);
    at_bind_and_open(&endpoint, |why| {
        why.assert("usable no: hidden by the kernel, which was booted with pci=notph");
    });
    // What comes first is said first.
    endpoint.set_root_port(root_port::NONE);
    drop(endpoint.open());
    Why::of(&endpoint)
        .assert("usable no: the root port completes no TPH requests (completer field 00b)");
}

fn r104_kernel_without_tph(bench: &mut Bench) {
    if kernel_has_tph() {
        skip!("the kernel has CONFIG_PCIE_TPH");
    }
    let endpoint = bound_anew(bench, Gate::Safe, &Want::TABLE);
    at_bind_and_open(&endpoint, |why| {
        why.assert("usable no: hidden by the kernel, which was built without CONFIG_PCIE_TPH");
    });
}

/// What firmware has said of which CPU, and of no other; asking it nothing more.
fn r104_validity_of_cpus(bench: &mut Bench) {
    needs_tph();
    needs_known_firmware();
    let endpoint = bench.pick(&Want::TABLE);
    // The answers are the module's.
    module::remove(VFIO_TPH);
    bench::bind(&endpoint, Gate::Safe);
    Why::of(&endpoint).assert("firmware was not asked yet");

    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &[cpu(0), cpu(3)]).expect("TPH_ST");
    assert_errno!(device.program(0, &[cpu_persistent(2)]), EOPNOTSUPP);
    let asked = kstate::dsm_evaluations();
    let why = Why::of(&endpoint);
    why.assert("cpu 0 volatile st,xst persistent st,xst");
    why.assert_none("cpu 1 ");
    why.assert("cpu 2 volatile st,xst persistent xst");
    why.assert("cpu 3 volatile st persistent none");
    why.assert_none("firmware");
    assert_eq!(kstate::dsm_evaluations(), asked, "firmware was asked");

    // The order in which a device was opened does not matter: they are the host bridge's.
    drop(device);
    Why::of(&endpoint).assert("cpu 0 volatile st,xst persistent st,xst");
}

fn r104_firmware_without_tags(bench: &mut Bench) {
    needs_tph();
    let endpoint = bound_anew(bench, Gate::Safe, &Want::TABLE);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    if device.program(0, &[cpu(0)]).is_ok() {
        skip!("firmware has tags");
    }
    Why::of(&endpoint)
        .assert("firmware has no function that gives tags of CPUs (_DSM function 0Fh)");
}

fn main() -> ExitCode {
    harness::run(tests![
        r104_usable,
        r104_in_the_root_complex,
        r104_no_capability,
        r104_root_port,
        r104_root_port_at_open,
        r104_prefixes,
        r104_group,
        r104_notph,
        r104_kernel_without_tph,
        r104_validity_of_cpus,
        r104_firmware_without_tags,
    ])
}
