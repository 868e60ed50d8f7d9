// SPDX-License-Identifier: GPL-2.0-only

//! Virtual functions: created as under vfio-pci, each with a TPH capability and a policy of its
//! own, below the physical function's root port.

use std::process::ExitCode;

use tph_selftests::bench::{bind_bdf, Bench};
use tph_selftests::harness;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::pci::Bdf;
use tph_selftests::policy::{self, Policy};
use tph_selftests::root_port;
use tph_selftests::sriov::{Physical, Supplied};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{self, cpu, Device, Op, OpenBy, VfToken};
use tph_selftests::{assert_errno, tests, Errno};
use tph_tests::{st, xst, CPU, OTHER_CPU};
use vfio_bindings::bindings::vfio::VFIO_DEVICE_FEATURE_PCI_VF_TOKEN;

const TOKEN: VfToken = *b"the users' token";
const OTHER_TOKEN: VfToken = *b"some other token";
const ENTRIES: u16 = 8;
const DRIVERS: [&str; 2] = ["vfio-pci", VFIO_TPH];

/// A physical function, driven by vfio_tph or vfio-pci, that may have virtual ones.
fn bound(driver: &str) -> Physical {
    let physical = Physical::find();
    Gate::Safe.load();
    physical
        .bdf
        .bind(driver)
        .unwrap_or_else(|error| panic!("{error}"));
    module::enable_sriov(driver, true);
    physical
}

/// Opens a virtual function with its token.
#[track_caller]
fn open(vf: &Bdf) -> Device {
    vfio::open_with(vf, OpenBy::Cdev, Some(&TOKEN)).unwrap_or_else(|e| panic!("{vf}: {e}"))
}

/// A physical function, whose user has set the token, and two virtual ones with TPH below a root
/// port that completes it.
fn with_tph(gate: Gate) -> (Physical, Vec<Supplied>) {
    gate.load();
    let physical = Physical::find();
    let port = physical.bdf.root_port().expect("a root port");
    root_port::set(&port, root_port::EXTENDED);
    bind_bdf(&physical.bdf, gate);
    module::enable_sriov(VFIO_TPH, true);
    let vfs = physical.vfs_with_tph(2, ENTRIES);
    drop(
        vfio::open_with(&physical.bdf, OpenBy::Cdev, Some(&TOKEN))
            .unwrap_or_else(|error| panic!("{}: {error}", physical.bdf)),
    );
    (physical, vfs)
}

/// What comes of writing sriov_numvfs in every state, and who drives the virtual functions.
fn configure(driver: &str) -> Vec<String> {
    let physical = bound(driver);
    let mut seen = Vec::new();
    let mut step = |what: &str, result: Result<(), Errno>| {
        let drivers: Vec<bool> = physical
            .vfs()
            .iter()
            .map(|vf| vf.driver().as_deref() == Some(driver))
            .collect();
        seen.push(format!(
            "{what}: {result:?}, VFs are the driver's: {drivers:?}"
        ));
    };
    module::enable_sriov(driver, false);
    step("not enabled", physical.set_vfs(1));
    step("not enabled, none", physical.set_vfs(0));
    module::enable_sriov(driver, true);
    step("none", physical.set_vfs(0));
    step("one", physical.set_vfs(1));
    step("another number", physical.set_vfs(2));
    step("one again", physical.set_vfs(1));
    step("none again", physical.set_vfs(0));
    step("too many", physical.set_vfs(1000));
    step("two", physical.set_vfs(2));
    let device = vfio::open_with(&physical.bdf, OpenBy::Cdev, Some(&TOKEN)).map(drop);
    step("open of the physical function", device);
    physical.bdf.unbind();
    step("unbind", Ok(()));
    seen
}

fn r32_sriov_configure_as_vfio_pci(_: &mut Bench) {
    let [stock, ours] = DRIVERS.map(configure);
    for wanted in ["ENOENT", "[true, true]"] {
        let some = stock.iter().any(|line| line.contains(wanted));
        assert!(some, "no {wanted}: {stock:#?}");
    }
    assert_eq!(ours, stock);
}

/// Every open with every token, in every state of the other side.
fn tokens(driver: &str) -> Vec<String> {
    let physical = bound(driver);
    physical.set_vfs(1).expect("a VF");
    let vf = &physical.vfs()[0];
    let mut seen = Vec::new();
    for by in [OpenBy::Cdev, OpenBy::Group] {
        let mut attempts = |state: &str, bdf: &Bdf| {
            for token in [None, Some(&OTHER_TOKEN), Some(&TOKEN)] {
                let result = vfio::open_with(bdf, by, token).map(drop);
                let word = token.map(|token| token == &TOKEN);
                seen.push(format!("{by:?}, {state}, the token {word:?}: {result:?}"));
            }
        };
        attempts("PF, unused VF", &physical.bdf);
        attempts("VF, unused PF", vf);
        let used = vfio::open_with(&physical.bdf, by, Some(&TOKEN)).expect("open of the PF");
        attempts("VF, used PF", vf);
        let mut other = OTHER_TOKEN;
        let set = used.feature(Op::Set, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, &mut other);
        attempts(&format!("VF, PF's token set: {set:?}"), vf);
        let mut token = TOKEN;
        let set = used.feature(Op::Set, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, &mut token);
        drop(used);
        let used = vfio::open_with(vf, by, Some(&TOKEN)).expect("open of the VF");
        attempts(&format!("PF, used VF, {set:?}"), &physical.bdf);
        drop(used);
    }
    seen
}

fn r32_token_as_vfio_pci(_: &mut Bench) {
    let [stock, ours] = DRIVERS.map(tokens);
    for wanted in ["EACCES", "Ok(())"] {
        let some = stock.iter().any(|line| line.contains(wanted));
        assert!(some, "no {wanted}: {stock:#?}");
    }
    assert_eq!(ours, stock);
}

/// The capability is the virtual function's, and the root port the physical one's.
fn r32_root_port_of_the_physical_function(_: &mut Bench) {
    let (physical, vfs) = with_tph(Gate::Safe);
    let port = physical.bdf.root_port().expect("a root port");
    for (completer, shown) in [
        (root_port::NONE, None),
        (root_port::STANDARD, Some(false)),
        (root_port::RESERVED, None),
        (root_port::EXTENDED, Some(true)),
    ] {
        root_port::set(&port, completer);
        let device = open(&vfs[0].bdf);
        let Some(extended) = shown else {
            assert_eq!(device.find_tph(), None, "completer {completer}");
            assert_errno!(device.tph(), EOPNOTSUPP, "completer {completer}");
            continue;
        };
        let offer = device.tph().expect("GET of TPH");
        assert_eq!(offer.flags & VFIO_TPH_FLAG_EXTENDED != 0, extended);
        assert_ne!(offer.flags & VFIO_TPH_FLAG_ST_CAP, 0);
        assert_eq!(offer.st_entries, ENTRIES);
        let capability = device.tph_capability();
        assert_eq!(capability & PCI_TPH_CAP_EXT_TPH != 0, extended);
    }
    // The physical function has none.
    let device = open(&physical.bdf);
    assert_eq!(device.find_tph(), None);
    assert_errno!(device.tph(), EOPNOTSUPP);
}

/// A physical function's capability is not its virtual functions'.
fn r32_capability_of_the_physical_function(_: &mut Bench) {
    Gate::Safe.load();
    let physical = Physical::find();
    let port = physical.bdf.root_port().expect("a root port");
    root_port::set(&port, root_port::EXTENDED);
    {
        let supplied = Supplied::new(&physical.bdf, ENTRIES);
        physical.bdf.rediscover();
        let physical = bound(VFIO_TPH);
        physical.set_vfs(1).expect("a VF");
        let device = open(&physical.bdf);
        assert_eq!(device.tph().map(|offer| offer.st_entries), Ok(ENTRIES));
        device.enable(StMode::InterruptVector, Requester::Standard);
        device.program(0, &[cpu(CPU)]).expect("TPH_ST");
        assert_eq!(supplied.registers().1[0], st(CPU));

        let vf = open(&physical.vfs()[0]);
        assert_eq!(vf.find_tph(), None);
        assert_errno!(vf.tph(), EOPNOTSUPP);
        drop((vf, device));
        supplied.assert_is(0, &[0; ENTRIES as usize]);
    }
    physical.bdf.rediscover();
}

fn r32_policy_of_its_own(_: &mut Bench) {
    let (_physical, vfs) = with_tph(Gate::Unsafe);
    let [first, second] = &vfs[..] else {
        panic!("two virtual functions");
    };
    for policy in Policy::ALL {
        policy::write(&first.bdf, policy.name().as_bytes()).expect("tph_policy");
        assert_eq!(policy::shown(&first.bdf).trim(), policy.name());
        assert_eq!(policy::shown(&second.bdf).trim(), Policy::Literal.name());
        let (one, other) = (open(&first.bdf), open(&second.bdf));
        assert_eq!(one.tph().expect("GET of TPH").policy, policy as u8);
        assert_eq!(
            other.tph().expect("GET of TPH").policy,
            Policy::Literal as u8
        );
        let busy = policy::write(&first.bdf, b"no_st");
        assert_errno!(busy, EBUSY, "while open");
    }
}

fn r32_table_of_its_own(_: &mut Bench) {
    const OFF: [u16; ENTRIES as usize] = [0; ENTRIES as usize];
    for gate in Gate::BOTH {
        let (_physical, vfs) = with_tph(gate);
        let [first, second] = &vfs[..] else {
            panic!("two virtual functions");
        };
        let (one, other) = (open(&first.bdf), open(&second.bdf));
        let extended = control(StMode::InterruptVector, Requester::Extended);
        let standard = control(StMode::InterruptVector, Requester::Standard);
        one.enable(StMode::InterruptVector, Requester::Extended);
        one.program_extended(1, &[cpu(CPU), cpu(OTHER_CPU)])
            .expect("TPH_ST");
        let mut table = OFF;
        table[1..3].copy_from_slice(&[xst(CPU), xst(OTHER_CPU)]);
        first.assert_is(extended, &table);
        second.assert_is(0, &OFF);

        other.enable(StMode::InterruptVector, Requester::Standard);
        other.program(7, &[cpu(OTHER_CPU)]).expect("TPH_ST");
        let mut others = OFF;
        others[7] = st(OTHER_CPU);
        first.assert_is(extended, &table);
        second.assert_is(standard, &others);

        one.reset().expect("a reset");
        first.assert_is(0, &OFF);
        second.assert_is(standard, &others);
        drop((one, other));
        second.assert_is(0, &OFF);
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r32_sriov_configure_as_vfio_pci,
        r32_token_as_vfio_pci,
        r32_root_port_of_the_physical_function,
        r32_capability_of_the_physical_function,
        r32_policy_of_its_own,
        r32_table_of_its_own,
    ])
}
