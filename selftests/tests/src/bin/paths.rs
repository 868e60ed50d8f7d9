// SPDX-License-Identifier: GPL-2.0-only

//! What is around a device: the path to its root port, which extended tags have to get through, and
//! who shares its IOMMU group, and so reaches an ST table in the MSI-X table.

use std::process::ExitCode;
use std::rc::Rc;
use std::time::Instant;

use tph_selftests::assert_errno;
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::harness;
use tph_selftests::kmsg::KernelLog;
use tph_selftests::module::Gate;
use tph_selftests::msix::Traits;
use tph_selftests::path::{Path, Says};
use tph_selftests::pci::Bdf;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::{Fault, Tag, TphShape};
use tph_selftests::tests;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, Device, Op, Vectors};
use tph_tests::{st, xst, CPU};

const IV: StMode = StMode::InterruptVector;

/// A device with a table in its capability below a switch.
fn pick_below_a_switch(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_where("a table in its capability, below a switch", |bdf| {
        bdf.ports().len() == 3 && Want::TABLE.fits(bdf)
    })
}

/// A device directly below a root port, whose bus it has for itself.
fn pick_below_a_root_port(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_where(
        "a table in its capability, alone below a root port",
        |bdf| bdf.ports().len() == 1 && bdf.siblings().is_empty() && Want::TABLE.fits(bdf),
    )
}

/// All that shows whether extended tags are usable, at either gate.
#[track_caller]
fn assert_extended(endpoint: &Endpoint, usable: bool, what: &str) {
    for gate in Gate::BOTH {
        let what = format!("{what}, {gate:?}");
        bench::bind(endpoint, gate);
        let device = endpoint.open();
        let shown = device.tph_capability() & PCI_TPH_CAP_EXT_TPH != 0;
        assert_eq!(shown, usable, "{what}: Capability");
        let offer = device.tph().expect("GET of TPH");
        let flag = offer.flags & VFIO_TPH_FLAG_EXTENDED != 0;
        assert_eq!(flag, usable, "{what}: {offer:x?}");

        device.set_control(control(IV, Requester::Extended));
        let requester = match usable {
            true => Requester::Extended,
            false => Requester::Standard,
        };
        assert_eq!(device.control(), control(IV, requester), "{what}: read");
        assert_eq!(endpoint.control(), control(IV, requester), "{what}: held");

        let resolved = device.resolve(&[cpu(CPU)], true);
        match usable {
            true => {
                device.program_extended(0, &[cpu(CPU)]).expect("TPH_ST");
                assert_eq!(endpoint.entries()[0], xst(CPU), "{what}");
                if gate == Gate::Unsafe {
                    assert_eq!(resolved.expect("TPH_RESOLVE")[0].st, xst(CPU), "{what}");
                }
            }
            false => {
                let programmed = device.program_extended(0, &[cpu(CPU)]);
                assert_errno!(programmed, EOPNOTSUPP, "{what}: TPH_ST");
                assert_eq!(endpoint.entries()[0], 0, "{what}");
                assert_errno!(resolved, EOPNOTSUPP, "{what}: TPH_RESOLVE");
            }
        }
        device.program(1, &[cpu(CPU)]).expect("a standard tag");
        assert_eq!(endpoint.entries()[1], st(CPU), "{what}");
    }
}

fn without_prefixes() -> TphShape {
    TphShape {
        eetlp: Some(0),
        ..TphShape::default()
    }
}

fn r74_every_number_of_prefixes(bench: &mut Bench) {
    let endpoint = pick_below_a_root_port(bench);
    for eetlp in 0..=4 {
        endpoint.reshape(TphShape {
            eetlp: Some(eetlp),
            ..TphShape::default()
        });
        assert_eq!(endpoint.kernel().eetlp_prefix_max, eetlp);
        let what = format!("a device with {eetlp} prefixes");
        assert_extended(&endpoint, eetlp != 0, &what);
    }
}

fn r74_root_port_without_prefixes(bench: &mut Bench) {
    let endpoint = pick_below_a_root_port(bench);
    assert_extended(&endpoint, true, "all have prefixes");
    let path = Path::of(&endpoint);
    path.set(&path.ports[0], Says::Prefixes(false));
    path.find_anew();
    assert_eq!(endpoint.kernel().eetlp_prefix_max, 0);
    assert_extended(&endpoint, false, "the root port has none");
    drop(path);
    assert_ne!(endpoint.kernel().eetlp_prefix_max, 0);
    assert_extended(&endpoint, true, "all have prefixes again");
}

fn r74_switch_without_prefixes(bench: &mut Bench) {
    let endpoint = pick_below_a_switch(bench);
    assert_extended(&endpoint, true, "all have prefixes");
    for (port, name) in ["the root port", "the upstream port", "the downstream port"]
        .into_iter()
        .enumerate()
    {
        let path = Path::of(&endpoint);
        path.set(&path.ports[port], Says::Prefixes(false));
        path.find_anew();
        assert_extended(&endpoint, false, &format!("{name} has none"));
    }
    assert_extended(&endpoint, true, "all have prefixes again");
}

/// On links in flit mode a request has room for an extended tag without a prefix: if all are.
fn r74_flit_mode(bench: &mut Bench) {
    let layouts = [
        (false, &[0][..], true),
        (true, &[0, 1, 2], true),
        (true, &[0, 1], false),
        (true, &[2], false),
    ];
    bench.each(layouts, |bench, (switch, in_flit_mode, carried)| {
        let endpoint = match switch {
            true => pick_below_a_switch(bench),
            false => pick_below_a_root_port(bench),
        };
        endpoint.retouch(without_prefixes());
        let path = Path::of(&endpoint);
        for &port in in_flit_mode {
            path.set(&path.ports[port], Says::Flit(true));
        }
        path.find_anew();
        assert_eq!(endpoint.kernel().eetlp_prefix_max, 0);
        let what = format!("below a switch: {switch}, flit mode below {in_flit_mode:?}");
        assert_extended(&endpoint, carried, &what);
    });
}

/// There is no path.
fn r74_rciep_without_prefixes(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::RCIEP);
    endpoint.reshape(without_prefixes());
    assert_eq!(endpoint.kernel().eetlp_prefix_max, 0);
    assert_extended(&endpoint, true, "an RCiEP without prefixes");
}

/// Below a switch all is as below a root port, up to what is on the wire.
fn r74_below_a_switch(bench: &mut Bench) {
    const IOVA: u64 = 0x10_0000;
    const PH: u8 = 1;

    let endpoint = pick_below_a_switch(bench);
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    let memory = device.map_dma(1, IOVA).expect("memory for DMA");
    let engine = Engine::new(&device);
    for (requester, tag) in [
        (Requester::Standard, Tag::St(st(CPU) as u8)),
        (Requester::Extended, Tag::Xst(xst(CPU))),
    ] {
        device.enable(IV, requester);
        match requester {
            Requester::Extended => device.program_extended(2, &[cpu(CPU)]),
            _ => device.program(2, &[cpu(CPU)]),
        }
        .expect("TPH_ST");
        let value = 0x1234_5678_0000_0000 + requester as u64;
        let hint = engine.write(IOVA, value, PH, TagFrom::Vector(2));
        let hint = hint.expect("a hint");
        assert_eq!((hint.tag, hint.ph), (Some(tag), PH));
        assert_eq!(memory.pages.read(0, 8), value.to_le_bytes());
    }
}

/// What ends TPH below a root port ends it below a switch, and what does not does not.
fn r46_r50_below_a_switch(bench: &mut Bench) {
    let endpoint = pick_below_a_switch(bench);
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    let program = || {
        device.enable(IV, Requester::Extended);
        device.program_extended(1, &[cpu(CPU)]).expect("TPH_ST");
    };
    let resets: [(&str, &dyn Fn()); 3] = [
        ("VFIO_DEVICE_RESET", &|| device.reset().expect("a reset")),
        ("a hot reset", &|| device.hot_reset(&[]).expect("hot reset")),
        ("a reset through sysfs", &|| {
            endpoint.bdf.reset().expect("reset through sysfs")
        }),
    ];
    for (what, reset) in resets {
        program();
        reset();
        endpoint.assert_off(what);
    }
    program();
    device.set_power_state(3);
    device.set_power_state(0);
    assert_eq!(endpoint.control(), control(IV, Requester::Extended));
    assert_eq!(endpoint.entries()[1], xst(CPU));
    drop(device);
    endpoint.assert_off("close");
}

/// A device with its ST table in MSI-X that shares its IOMMU group with another function.
fn pick_shared(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_where(
        "an ST table in MSI-X, in an IOMMU group with another function",
        |bdf| {
            bdf.root_port().is_some()
                && bdf.shares_group()
                && Traits::of(bdf).is_some_and(|traits| traits.in_msix)
        },
    )
}

/// All that shows whether Interrupt Vector mode is offered on a device with its table in MSI-X.
#[track_caller]
fn assert_interrupt_vector(endpoint: &Endpoint, device: &Device, offered: bool, what: &str) {
    let offer = device.tph().expect("GET of TPH");
    let capability = device.tph_capability();
    assert_eq!(u32::from(offer.modes), capability & 7, "{what}");
    let shown = capability & PCI_TPH_CAP_ST_IV != 0;
    assert_eq!(shown, offered, "{what}: Capability {capability:#x}");
    let in_msix = capability & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_MSIX;
    assert_eq!(in_msix, offered, "{what}: Capability {capability:#x}");
    let table = VFIO_TPH_FLAG_ST | VFIO_TPH_FLAG_ST_MSIX;
    let flags = if offered { table } else { 0 };
    assert_eq!(offer.flags & table, flags, "{what}: {offer:x?}");
    assert_eq!(offer.st_entries != 0, offered, "{what}: {offer:x?}");
    let probed = device.feature(Op::ProbeSet, VFIO_DEVICE_FEATURE_TPH_ST, &mut []);
    match offered {
        true => assert_eq!(probed, Ok(()), "{what}: PROBE of TPH_ST"),
        false => assert_errno!(probed, EOPNOTSUPP, "{what}: PROBE of TPH_ST"),
    }

    let wanted = control(IV, Requester::Standard);
    device.set_control(wanted);
    let in_force = if offered { wanted } else { 0 };
    assert_eq!(device.control(), in_force, "{what}: Control");
    assert_eq!(endpoint.control(), in_force, "{what}: Control in hardware");
    let vectors = Vectors::allocate(device, 2).expect("SET_IRQS");
    let programmed = device.program(0, &[cpu(CPU)]);
    let tag = match offered {
        true => {
            assert_eq!(programmed, Ok(()), "{what}: TPH_ST");
            st(CPU)
        }
        false => {
            assert_errno!(programmed, EOPNOTSUPP, "{what}: TPH_ST");
            0
        }
    };
    assert_eq!(endpoint.entries()[0], tag, "{what}");
    drop(vectors);
    device.set_control(0);
}

/// At each policy, on either function.
fn r73_shared_group(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        for _ in 0..2 {
            let endpoint = pick_shared(bench);
            policy::bind(&endpoint, policy);
            let device = endpoint.open();
            let what = format!("{policy:?}");
            assert_interrupt_vector(&endpoint, &device, policy.discloses(), &what);
            // Hints without tags are nobody's business.
            device.enable(StMode::NoSt, Requester::Standard);
            assert_eq!(
                endpoint.control(),
                control(StMode::NoSt, Requester::Standard)
            );
            drop(device);
            endpoint.assert_off("close");
        }
    });
}

/// A table in the capability is in nobody's reach.
fn r73_table_in_the_capability(bench: &mut Bench) {
    let endpoint = pick_shared(bench);
    endpoint.retouch(TphShape {
        table: Some(tph_selftests::protocol::Table::Cap),
        entries: Some(8),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    device.enable(IV, Requester::Standard);
    device.program(0, &[cpu(CPU)]).expect("TPH_ST");
    assert_eq!(endpoint.entries()[0], st(CPU));
}

/// The ports of a switch without ACS are in the group of what is below them.
fn r73_ports_do_not_count(bench: &mut Bench) {
    let endpoint = bench.pick_where("an ST table in MSI-X, in a group with ports", |bdf| {
        let group = bdf.group();
        group.len() > 1
            && group.iter().all(|other| other == bdf || other.is_bridge())
            && Traits::of(bdf).is_some_and(|traits| traits.in_msix)
    });
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    assert_interrupt_vector(&endpoint, &device, true, "ports in the group");
}

/// Takes a function out of the kernel's sight until this is dropped.
struct Removed(Bdf);

impl Removed {
    fn new(bdf: &Bdf) -> Self {
        bdf.remove();
        Self(bdf.clone())
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        self.0.rescan();
    }
}

/// What the administrator is told of an enable that is dropped.
const DROPPED: &str = "TPH: not enabled: another function is in the IOMMU group";
/// And of one that the device itself made of something else.
const TURNED_OFF: &str = "TPH: turned off: another function is in the IOMMU group";

/// The kernel's default limit of messages that may be repeated: so many in so many seconds.
const RATELIMIT_BURST: usize = 10;
const RATELIMIT_SECONDS: u64 = 5;

/// A function that is plugged in while the device is open: what is enabled stays so, and nothing is
/// enabled any more until it has gone.
fn r73_plugged_in_later(bench: &mut Bench) {
    const STANDARD: u32 = control(IV, Requester::Standard);
    const SELECTED: u32 = control(IV, Requester::Disabled);
    const NO_ST: u32 = control(StMode::NoSt, Requester::Standard);

    let endpoint = pick_shared(bench);
    let siblings = endpoint.bdf.siblings();
    let [sibling] = &siblings[..] else {
        panic!("{siblings:?}: not two functions");
    };
    sibling.unbind();
    let removed = Removed::new(sibling);
    assert!(!endpoint.bdf.shares_group());
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    assert_interrupt_vector(&endpoint, &device, true, "alone");
    let holds = |value: u32, what: &str| {
        assert_eq!(device.control(), value, "{what}: read");
        assert_eq!(endpoint.control(), value, "{what}: held");
    };
    device.set_control(STANDARD);
    holds(STANDARD, "enabled while alone");

    drop(removed);
    assert!(endpoint.bdf.shares_group(), "not in the group");
    holds(STANDARD, "plugged in");
    device.set_control(SELECTED);
    holds(SELECTED, "disabled");
    let mut log = KernelLog::from_now();
    device.set_control(STANDARD);
    holds(SELECTED, "an enable");
    let lines = log.until_now();
    let said = |line: &&String| line.contains(&format!("{}: {DROPPED}", endpoint.bdf));
    assert_eq!(lines.iter().filter(said).count(), 1, "{lines:?}");
    device.set_config(device.tph_offset() + PCI_TPH_CTRL as u16 + 1, &[3]);
    holds(SELECTED, "an enable by its byte");
    device.set_control(NO_ST);
    holds(NO_ST, "No ST");
    device.set_control(STANDARD);
    holds(NO_ST, "another mode while enabled");
    device.set_control(0);
    holds(0, "off");
    device.set_control(control(IV, Requester::Extended));
    holds(0, "mode and enable at once");
    let vectors = Vectors::allocate(&device, 1).expect("SET_IRQS");
    assert_errno!(device.program(0, &[cpu(CPU)]), ENXIO, "TPH_ST");
    drop(vectors);

    // A device that makes what would be dropped of what is not.
    let mut log = KernelLog::from_now();
    endpoint.fault(Fault::ControlBecomes { control: STANDARD });
    device.set_control(NO_ST);
    endpoint.fault(Fault::None);
    holds(0, "Interrupt Vector mode by the device's own choice");
    let lines = log.until_now();
    let said = |line: &&String| line.contains(&format!("{}: {TURNED_OFF}", endpoint.bdf));
    assert_eq!(lines.iter().filter(said).count(), 1, "{lines:?}");
    endpoint.clear_violations();

    // A user who goes on and on is not told each time, and keeps no other message out. The slower
    // the machine, the more may be said of it: once an interval is over, as much as in the last.
    const TIMES: usize = 60;
    let mut log = KernelLog::from_now();
    let start = Instant::now();
    for _ in 0..TIMES {
        device.set_control(STANDARD);
    }
    let intervals = start.elapsed().as_secs() / RATELIMIT_SECONDS + 2;
    endpoint.fault(Fault::AllOnes);
    device.set_control(STANDARD);
    endpoint.fault(Fault::None);
    let lines = log.until_now();
    let count = |words: &str| {
        let message = format!("{}: {words}", endpoint.bdf);
        lines.iter().filter(|line| line.contains(&message)).count()
    };
    let told = count(DROPPED);
    let most = intervals as usize * RATELIMIT_BURST;
    assert!((1..=most).contains(&told), "told {told} times: {lines:?}");
    assert_eq!(count("TPH: the device does not answer"), 1, "{lines:?}");
    holds(0, "answers again");

    let removed = Removed::new(sibling);
    device.set_control(STANDARD);
    holds(STANDARD, "alone again");
    drop(device);
    drop(removed);
    // From policy 2 on the user may choose tags anyway.
    bench::bind(&endpoint, Gate::Unsafe);
    let device = endpoint.open();
    device.enable(IV, Requester::Standard);
}

fn main() -> ExitCode {
    harness::run(tests![
        r74_every_number_of_prefixes,
        r74_root_port_without_prefixes,
        r74_switch_without_prefixes,
        r74_flit_mode,
        r74_rciep_without_prefixes,
        r74_below_a_switch,
        r46_r50_below_a_switch,
        r73_shared_group,
        r73_table_in_the_capability,
        r73_ports_do_not_count,
        r73_plugged_in_later,
    ])
}
