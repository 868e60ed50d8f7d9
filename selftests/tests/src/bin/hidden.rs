// SPDX-License-Identifier: GPL-2.0-only

//! The capability of a device on which TPH is not usable.

use std::process::ExitCode;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::Gate;
use tph_selftests::pci;
use tph_selftests::protocol::{Access, Fault, Position, Table, TphShape};
use tph_selftests::root_port;
use tph_selftests::tph::{self, Link};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{none, Device, Op};
use tph_selftests::{assert_errno, skip, tests};
use tph_tests::{booted_with_notph, kernel_has_tph, lspci, needs_tph};

/// The bytes of the hardware's capability: header, registers and the table that it claims.
fn extent(endpoint: &Endpoint) -> (Link, std::ops::Range<usize>) {
    let config = endpoint.bdf.config();
    let link = tph::find(|offset| config.dword(offset));
    let link = link.expect("hardware with a TPH capability");
    let entries = tph::claimed_entries(config.dword(link.offset + PCI_TPH_CAP as u16));
    let start = usize::from(link.offset);
    let end = start + PCI_TPH_BASE_SIZEOF as usize + 2 * usize::from(entries);
    (link, start..end)
}

/// Fails the test unless all that contract says about a hidden capability holds.
fn assert_hidden(endpoint: &Endpoint, device: &Device, what: &str) {
    assert_eq!(device.find_tph(), None, "{what}");

    let mark = endpoint.is_emulated().then(|| endpoint.registers());
    let (_, bytes) = extent(endpoint);
    let zeros = |after: &str| {
        let space = device.config_space();
        // Of the first capability in the chain the header stays, with nothing but the way on.
        let from = match bytes.start {
            start if start == PCI_CFG_SPACE_SIZE as usize => {
                let header = device.config_dword(start as u16);
                assert_eq!(header & 0xf_ffff, 0, "{what}: {header:#x}");
                start + 4
            }
            start => start,
        };
        assert!(
            space[from..bytes.end].iter().all(|&byte| byte == 0),
            "{what}{after}: {:x?}",
            &space[from..bytes.end]
        );
    };
    zeros("");
    for offset in bytes.clone() {
        device.set_config(offset as u16, &[0xff]);
    }
    for offset in bytes.clone().step_by(4) {
        device.set_config(offset as u16, &[0xff; 4]);
    }
    zeros(" after writes");
    if let Some(before) = mark {
        assert_eq!(endpoint.registers(), before, "{what}: written through");
    }

    for (index, ops) in [
        (VFIO_DEVICE_FEATURE_TPH, [Op::Get, Op::ProbeGet]),
        (VFIO_DEVICE_FEATURE_TPH_ST, [Op::Set, Op::ProbeSet]),
        (VFIO_DEVICE_FEATURE_TPH_RESOLVE, [Op::Get, Op::ProbeGet]),
        (VFIO_DEVICE_FEATURE_DMA_BUF_TPH, [Op::Set, Op::ProbeSet]),
        (VFIO_DEVICE_FEATURE_TPH_MAP, [Op::Set, Op::ProbeSet]),
    ] {
        // The endpoint as a completer is another matter.
        if index == VFIO_DEVICE_FEATURE_DMA_BUF_TPH && root_port::completer(&endpoint.bdf) != 0 {
            continue;
        }
        for op in ops.into_iter().chain([Op::Probe]) {
            assert_errno!(
                device.feature(op, index, &mut [0; 32]),
                EOPNOTSUPP,
                "{what}: {op:?} of {index:#x}"
            );
        }
    }
    assert_errno!(device.program(0, &[none()]), EOPNOTSUPP, "{what}");
}

fn r19_notph(bench: &mut Bench) {
    if !booted_with_notph() {
        skip!("the kernel was booted without pci=notph");
    }
    for want in [Want::TABLE, Want::RCIEP] {
        bench.each(Gate::BOTH, |bench, gate| {
            let endpoint = bench.take(gate, &want);
            let device = endpoint.open();
            assert_hidden(&endpoint, &device, &format!("pci=notph, {gate:?}"));
            device.reset().expect("a reset");
            assert_hidden(&endpoint, &device, &format!("pci=notph, {gate:?}, reset"));
        });
    }
}

fn r70_kernel_without_tph(bench: &mut Bench) {
    if kernel_has_tph() {
        skip!("the kernel has CONFIG_PCIE_TPH");
    }
    bench.each(Gate::BOTH, |bench, gate| {
        let endpoint = bench.take(gate, &Want::TABLE);
        let device = endpoint.open();
        assert_hidden(&endpoint, &device, &format!("no CONFIG_PCIE_TPH, {gate:?}"));
        device.reset().expect("a reset");
    });
}

fn r24_root_port(bench: &mut Bench) {
    needs_tph();
    bench.each(Gate::BOTH, |bench, gate| {
        let endpoint = bench.take(gate, &Want::TABLE);
        for (completer, shown) in [
            (root_port::NONE, None),
            (root_port::STANDARD, Some(false)),
            (root_port::RESERVED, None),
            (root_port::EXTENDED, Some(true)),
        ] {
            endpoint.set_root_port(completer);
            let device = endpoint.open();
            match shown {
                None => {
                    assert_hidden(&endpoint, &device, &format!("completer {completer}"));
                }
                Some(extended) => {
                    let (link, _) = extent(&endpoint);
                    assert_eq!(device.tph_offset(), link.offset);
                    let capability = device.tph_capability();
                    assert_eq!(
                        capability & PCI_TPH_CAP_EXT_TPH != 0,
                        extended,
                        "completer {completer}"
                    );
                }
            }
        }
    });
}

fn r24_rciep_needs_no_root_port(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.take(Gate::Safe, &Want::RCIEP);
    let device = endpoint.open();
    let (link, _) = extent(&endpoint);
    assert_eq!(device.tph_offset(), link.offset);
    assert_ne!(device.tph_capability() & PCI_TPH_CAP_EXT_TPH, 0);
}

/// A device that stops answering while it is being opened: all ones are neither modes nor a table.
fn r24_nobody_answers(bench: &mut Bench) {
    needs_tph();
    bench.each(Gate::BOTH, |bench, gate| {
        let endpoint = bench.take(gate, &Want::TABLE);
        // How many accesses an open makes until it asks what there is: the same each time of a
        // device that does not go to sleep in between.
        let control = endpoint.bdf.path("power/control");
        pci::write(&control, "on").expect("runtime PM off");
        let at = u64::from(endpoint.tph().offset) + u64::from(PCI_TPH_CAP);
        let mark = endpoint.mark();
        let device = endpoint.open();
        let accesses: Vec<Access> = endpoint
            .log_after(mark)
            .into_iter()
            .map(|entry| entry.access)
            .filter(|access| {
                matches!(
                    access,
                    Access::ConfigRead { .. }
                        | Access::ConfigWrite { .. }
                        | Access::MmioRead { .. }
                        | Access::MmioWrite { .. }
                )
            })
            .collect();
        drop(device);
        let asked = accesses
            .iter()
            .rposition(
                |access| matches!(access, Access::ConfigRead { offset, .. } if *offset == at),
            )
            .expect("a read of the Capability register");

        endpoint.fault(Fault::StopAfter {
            accesses: asked as u64,
        });
        let device = endpoint.open();
        endpoint.fault(Fault::None);
        assert_hidden(&endpoint, &device, &format!("all ones, {gate:?}"));
        drop(device);
        assert!(endpoint.open().find_tph().is_some());
        pci::write(&control, "auto").expect("runtime PM on");
    });
}

fn r24_no_capability(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Unsafe, &Want::NO_TPH);
    let device = endpoint.open();
    assert_eq!(device.find_tph(), None);
    for index in VFIO_DEVICE_FEATURE_TPH..=VFIO_DEVICE_FEATURE_TPH_RESOLVE {
        for op in [Op::Probe, Op::Get, Op::Set] {
            assert_errno!(
                device.feature(op, index, &mut [0; 32]),
                EOPNOTSUPP,
                "{op:?} of {index:#x}"
            );
        }
    }
}

const POSITIONS: [Position; 4] = [
    Position::First,
    Position::Middle,
    Position::Last,
    Position::Only,
];

/// Calls `body` with the capability in each place of the chain.
fn at_each_position(bench: &mut Bench, body: impl Fn(&Endpoint, &str)) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    for position in POSITIONS {
        endpoint.reshape(TphShape {
            table: Some(Table::Cap),
            position: Some(position),
            ..TphShape::default()
        });
        bench::bind(&endpoint, Gate::Safe);
        body(&endpoint, &format!("{position:?}"));
    }
}

fn r25_hidden_anywhere_in_the_chain(bench: &mut Bench) {
    at_each_position(bench, |endpoint, what| {
        let config = endpoint.bdf.config();
        let hardware = tph::chain(|offset| config.dword(offset));
        let is_tph = |link: &&Link| u32::from(link.id) == PCI_EXT_CAP_ID_TPH;
        assert_eq!(hardware.iter().filter(is_tph).count(), 1, "{what}");

        endpoint.set_root_port(root_port::EXTENDED);
        let shown: Vec<u16> = endpoint.open().chain().iter().map(|link| link.id).collect();
        let ids: Vec<u16> = hardware.iter().map(|link| link.id).collect();
        assert_eq!(shown, ids, "{what}: all of the chain");

        endpoint.set_root_port(root_port::NONE);
        let device = endpoint.open();
        assert_hidden(endpoint, &device, what);
        let mut left: Vec<(u16, u16, u8)> = hardware
            .iter()
            .filter(|link| !is_tph(link))
            .map(|link| (link.offset, link.id, link.version))
            .collect();
        let mut shown: Vec<(u16, u16, u8)> = device
            .chain()
            .iter()
            .map(|link| (link.offset, link.id, link.version))
            .collect();
        if is_tph(&&hardware[0]) {
            assert_eq!(shown.remove(0), (PCI_CFG_SPACE_SIZE as u16, 0, 0), "{what}");
        }
        shown.sort();
        left.sort();
        assert_eq!(shown, left, "{what}: the others stay");
    });
}

/// lspci's own walk through what the user sees.
fn r25_lspci_walks_clean(bench: &mut Bench) {
    at_each_position(bench, |endpoint, what| {
        for (completer, hidden) in [(root_port::NONE, true), (root_port::EXTENDED, false)] {
            endpoint.set_root_port(completer);
            let text = lspci(&endpoint.bdf, &endpoint.open().config_space());
            assert!(text.contains("Express (v2) "), "{what}: {text}");
            for complaint in ["<chain", "Unknown header", "!!!"] {
                assert!(!text.contains(complaint), "{what}: {complaint}: {text}");
            }
            let shows = text.contains("Transaction Processing Hints");
            assert_eq!(shows, !hidden, "{what}, completer {completer}: {text}");
        }
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r19_notph,
        r70_kernel_without_tph,
        r24_root_port,
        r24_rciep_needs_no_root_port,
        r24_nobody_answers,
        r24_no_capability,
        r25_hidden_anywhere_in_the_chain,
        r25_lspci_walks_clean,
    ])
}
