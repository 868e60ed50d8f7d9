// SPDX-License-Identifier: GPL-2.0-only

//! The capability layouts of real devices: where the capability is, what lies around it, and what
//! it says. What users of each see, by every policy and below every root port, is written down here
//! by hand.

use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::bench::Bench;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::pci;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::{modes, Position, Table, TphShape};
use tph_selftests::root_port;
use tph_selftests::tph::claimed_entries;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{Offer, Op};
use tph_selftests::{assert_errno, harness, tests};
use tph_tests::lspci;

const VENDOR: u32 = PCI_EXT_CAP_ID_VNDR;
const DSN: u32 = PCI_EXT_CAP_ID_DSN;
const PASID: u32 = PCI_EXT_CAP_ID_PASID;
const TPH: u32 = PCI_EXT_CAP_ID_TPH;
/// The first of every chain here, which the endpoint has: Advanced Error Reporting.
const AER: (u16, u32) = (0x100, PCI_EXT_CAP_ID_ERR);
/// Device Capabilities 2 of the endpoint.
const DEVICE_CAPABILITIES_2: u16 = 0x60 + PCI_EXP_DEVCAP2 as u16;

const ST_CAP: u32 = VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_ST;
const ST_MSIX: u32 = VFIO_TPH_FLAG_ST_MSIX | VFIO_TPH_FLAG_ST;
const RESOLVE: u32 = VFIO_TPH_FLAG_RESOLVE_ST;
const BY_DMABUF: u32 = VFIO_TPH_FLAG_ST_DMABUF;
const LITERAL: u32 = VFIO_TPH_FLAG_LITERAL;
const EXTENDED: u32 = VFIO_TPH_FLAG_EXTENDED;
/// What a user has who sees tags, with a table in the capability and in MSI-X.
const DS_CAP: u32 = ST_CAP | RESOLVE | BY_DMABUF;
const DS_MSIX: u32 = ST_MSIX | RESOLVE | BY_DMABUF;
const COMPLETER: u32 = VFIO_TPH_FLAG_COMPLETER;

const NO_TABLE: &str = "No steering table available";
const TABLE_HERE: &str = "Steering table in TPH capability structure";
const TABLE_IN_MSIX: &str = "Steering table in MSI-X table";
const DS_MODE: &str = "Device specific mode supported";
const IV_MODE: &str = "Interrupt vector mode supported";
const XST: &str = "Extended requester support";
const DS_HERE: &[&str] = &[DS_MODE, TABLE_HERE];
const BOTH_IN_MSIX: &[&str] = &[IV_MODE, DS_MODE, TABLE_IN_MSIX];

/// A device.
struct Layout {
    /// The endpoint's name in the session.
    name: &'static str,
    /// The extended capabilities behind AER, in their order.
    chain: &'static [(u16, u32)],
    /// The Capability register.
    capability: u32,
    /// Device Capabilities 2, if it is known.
    device_capabilities_2: Option<u32>,
    /// What Control and the table hold when the driver gets the device.
    found: (u32, &'static [u16]),
    /// What users see by the policies `no_st`, `iv_st`, `ds_st`, `literal`.
    seen: [Seen; 4],
}

/// What users see.
struct Seen {
    capability: u32,
    flags: u32,
    entries: u16,
    lspci: &'static [&'static str],
}

const fn seen(capability: u32, flags: u32, entries: u16, lspci: &'static [&'static str]) -> Seen {
    Seen {
        capability,
        flags,
        entries,
        lspci,
    }
}

/// Two entries, behind which the next capability begins at once; its driver in the kernel has left
/// TPH on.
const ACCELERATOR: Layout = Layout {
    name: "accelerator",
    chain: &[(0x160, TPH), (0x170, DSN)],
    capability: 0x0001_0205,
    device_capabilities_2: Some(0x1073_0810),
    found: (0x0102, &[0, 0x000a]),
    seen: [
        seen(0x0000_0001, 0, 0, &[NO_TABLE]),
        seen(0x0000_0001, 0, 0, &[NO_TABLE]),
        seen(0x0001_0205, DS_CAP, 2, DS_HERE),
        seen(0x0001_0205, DS_CAP | LITERAL, 2, DS_HERE),
    ],
};

/// It says that it has no mode at all: there is nothing to enable.
const CXL: Layout = Layout {
    name: "cxl",
    chain: &[(0x5b0, TPH), (0x6e0, DSN)],
    capability: 0x000f_0300,
    device_capabilities_2: Some(0x0078_0b9f),
    found: (0, &[]),
    seen: [
        seen(0x0000_0100, EXTENDED, 0, &[XST, NO_TABLE]),
        seen(0x0000_0100, EXTENDED, 0, &[XST, NO_TABLE]),
        seen(0x0000_0100, EXTENDED | RESOLVE, 0, &[XST, NO_TABLE]),
        seen(0x0000_0100, EXTENDED | RESOLVE, 0, &[XST, NO_TABLE]),
    ],
};

/// The capability is the last one.
const GIGABIT: Layout = Layout {
    name: "gigabit",
    chain: &[(0x150, DSN), (0x1a0, TPH)],
    capability: 0x0007_0205,
    device_capabilities_2: None,
    found: (0, &[]),
    seen: [
        seen(0x0000_0001, 0, 0, &[NO_TABLE]),
        seen(0x0000_0001, 0, 0, &[NO_TABLE]),
        seen(0x0007_0205, DS_CAP, 8, DS_HERE),
        seen(0x0007_0205, DS_CAP | LITERAL, 8, DS_HERE),
    ],
};

/// Its table is in MSI-X; before it in the chain is a capability that vfio hides.
const STORAGE: Layout = Layout {
    name: "storage",
    chain: &[(0x198, PASID), (0x1f8, TPH), (0x284, DSN)],
    capability: 0x0000_0406,
    device_capabilities_2: None,
    found: (0, &[]),
    seen: [
        seen(0x0000_0000, 0, 0, &[NO_TABLE]),
        seen(0x0000_0402, ST_MSIX, 129, &[IV_MODE, TABLE_IN_MSIX]),
        seen(0x0000_0406, DS_MSIX, 129, BOTH_IN_MSIX),
        seen(0x0000_0406, DS_MSIX | LITERAL, 129, BOTH_IN_MSIX),
    ],
};

/// It takes tags by means of its own: there is no table.
const SERVER: Layout = Layout {
    name: "server",
    chain: &[(0x300, TPH), (0x450, VENDOR)],
    capability: 0x0000_0004,
    device_capabilities_2: None,
    found: (0, &[]),
    seen: [
        seen(0x0000_0000, 0, 0, &[NO_TABLE]),
        seen(0x0000_0000, 0, 0, &[NO_TABLE]),
        seen(0x0000_0004, RESOLVE, 0, &[DS_MODE, NO_TABLE]),
        seen(0x0000_0004, RESOLVE, 0, &[DS_MODE, NO_TABLE]),
    ],
};

/// Hints without tags are all that it has; it completes TPH itself.
const WIRELESS: Layout = Layout {
    name: "wireless",
    chain: &[(0x158, TPH), (0x1e4, VENDOR)],
    capability: 0x0000_0001,
    device_capabilities_2: Some(0x0000_1000),
    found: (0, &[]),
    seen: [
        seen(0x0000_0001, COMPLETER, 0, &[NO_TABLE]),
        seen(0x0000_0001, COMPLETER, 0, &[NO_TABLE]),
        seen(0x0000_0001, COMPLETER | RESOLVE, 0, &[NO_TABLE]),
        seen(0x0000_0001, COMPLETER | RESOLVE, 0, &[NO_TABLE]),
    ],
};

impl Layout {
    fn offset(&self) -> u16 {
        let (offset, _) = self.chain.iter().find(|(_, id)| *id == TPH).expect("TPH");
        *offset
    }

    /// The endpoint of that name becomes such a device.
    fn make(&self, bench: &mut Bench) -> Rc<Endpoint> {
        let endpoint = bench.named(self.name);
        let mut supported = 0;
        for (bit, mode) in [
            (PCI_TPH_CAP_ST_NS, modes::NS),
            (PCI_TPH_CAP_ST_IV, modes::IV),
            (PCI_TPH_CAP_ST_DS, modes::DS),
        ] {
            if self.capability & bit != 0 {
                supported |= mode;
            }
        }
        endpoint.reshape(TphShape {
            table: Some(match self.capability & PCI_TPH_CAP_LOC_MASK {
                PCI_TPH_LOC_CAP => Table::Cap,
                PCI_TPH_LOC_MSIX => Table::Msix,
                _ => Table::None,
            }),
            modes: Some(supported),
            entries: Some(claimed_entries(self.capability).max(1)),
            extended: Some(self.capability & PCI_TPH_CAP_EXT_TPH != 0),
            position: Some(Position::Middle),
            offset: Some(self.offset()),
            ..TphShape::default()
        });
        endpoint.lie(self.offset() + PCI_TPH_CAP as u16, self.capability);
        if let Some(value) = self.device_capabilities_2 {
            endpoint.lie(DEVICE_CAPABILITIES_2, value);
        }
        let links = [&[AER], self.chain].concat();
        let next = links.iter().skip(1).map(|(offset, _)| *offset).chain([0]);
        for ((offset, id), next) in links.iter().zip(next) {
            let version = if *id == PCI_EXT_CAP_ID_ERR { 2 } else { 1 };
            endpoint.lie(*offset, id | (version << 16) | (u32::from(next) << 20));
            if *id == VENDOR {
                // Its length, in the upper bits, with a header alone.
                endpoint.lie(offset + PCI_VNDR_HEADER as u16, 0x00c << 20);
            }
        }
        endpoint.bdf.rediscover();
        endpoint
    }

    /// Puts into the device what it is found with.
    fn leave(&self, endpoint: &Endpoint) {
        let (control, entries) = self.found;
        endpoint.poke(self.offset() + PCI_TPH_CTRL as u16, 4, control.into());
        let table = self.offset() + PCI_TPH_BASE_SIZEOF as u16;
        for (at, &tag) in (table..).step_by(2).zip(entries) {
            endpoint.poke(at, 2, tag.into());
        }
    }

    /// What one policy makes of it.
    fn check(&self, endpoint: &Endpoint, policy: Policy, what: &str) {
        let expected = &self.seen[policy as usize];
        let device = endpoint.open();
        assert_eq!(device.tph_offset(), self.offset(), "{what}");
        assert_eq!(device.tph_capability(), expected.capability, "{what}");
        assert_eq!(
            device.tph(),
            Ok(Offer {
                flags: expected.flags,
                st_entries: expected.entries,
                modes: (expected.capability & 7) as u8,
                policy: policy as u8,
            }),
            "{what}"
        );
        // Nothing that was left is in force, and nothing of it is shown.
        assert_eq!(device.control(), 0, "{what}");
        let shown = device.config_space();
        let table = usize::from(self.offset()) + PCI_TPH_BASE_SIZEOF as usize;
        let table = &shown[table..table + 2 * usize::from(claimed_entries(self.capability))];
        assert!(table.iter().all(|&byte| byte == 0), "{what}: {table:x?}");

        let said = lspci(&endpoint.bdf, &shown);
        let (_, tph) = said
            .split_once("Transaction Processing Hints\n")
            .unwrap_or_else(|| panic!("{what}: {said}"));
        let end = tph.find("Capabilities:").unwrap_or(tph.len());
        let lines: Vec<_> = tph[..end].lines().map(str::trim).collect();
        let lines: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, expected.lspci, "{what}: {said}");
    }
}

/// Every policy and root port, each with a device as it is found. Config space is the same before
/// and after, but for what was left in the capability.
fn all(bench: &mut Bench, layout: &Layout) {
    let endpoint = layout.make(bench);
    enable_once(&endpoint);
    let completers = match endpoint.bdf.root_port() {
        None => vec![None],
        Some(_) => [root_port::NONE, root_port::STANDARD, root_port::EXTENDED]
            .map(Some)
            .into(),
    };
    for policy in Policy::ALL {
        for &completer in &completers {
            let what = format!("{}, {policy:?}, completer {completer:?}", layout.name);
            if let Some(completer) = completer {
                endpoint.set_root_port(completer);
            }
            let before = dump(&endpoint);
            policy::bind(&endpoint, policy);
            layout.leave(&endpoint);
            if completer == Some(root_port::NONE) {
                let device = endpoint.open();
                assert_eq!(device.find_tph(), None, "{what}");
                assert_errno!(device.tph(), EOPNOTSUPP, "{what}");
            } else {
                layout.check(&endpoint, policy, &what);
            }
            endpoint.assert_off(&what);
            endpoint.bdf.unbind();
            assert_same(&dump(&endpoint), &before, &what);
        }
    }
}

/// Has the kernel decode the device's memory, which vfio-pci does not undo: firmware has done so
/// on x86-64, and leaves it to the kernel on arm64.
fn enable_once(endpoint: &Endpoint) {
    for value in ["1", "0"] {
        pci::write(&endpoint.bdf.path("enable"), value).expect("enable");
    }
}

/// Config space as the machine has it.
fn dump(endpoint: &Endpoint) -> Vec<u8> {
    let config = endpoint.bdf.config();
    (0..PCI_CFG_SPACE_EXP_SIZE as u16)
        .step_by(4)
        .flat_map(|at| config.dword(at).to_le_bytes())
        .collect()
}

/// Fails the test, and says where, unless two dumps are the same.
#[track_caller]
fn assert_same(after: &[u8], before: &[u8], what: &str) {
    let differ: Vec<_> = (0..before.len())
        .filter(|&at| after[at] != before[at])
        .map(|at| (at, before[at], after[at]))
        .collect();
    assert!(differ.is_empty(), "{what}: {differ:x?}");
}

fn r26_data_accelerator(bench: &mut Bench) {
    all(bench, &ACCELERATOR);
}

fn r26_cxl_device(bench: &mut Bench) {
    all(bench, &CXL);
}

fn r26_gigabit_nic(bench: &mut Bench) {
    all(bench, &GIGABIT);
}

fn r26_storage_nic(bench: &mut Bench) {
    all(bench, &STORAGE);
}

fn r26_server_nic(bench: &mut Bench) {
    all(bench, &SERVER);
}

fn r26_wireless_nic(bench: &mut Bench) {
    all(bench, &WIRELESS);
}

/// An NVMe drive has no TPH capability, and completes TPH: nothing is offered to its users but
/// hints for those who send requests to it.
fn r26_nvme_drive(bench: &mut Bench) {
    let endpoint = bench.named("drive");
    enable_once(&endpoint);
    for policy in Policy::ALL {
        let what = format!("{policy:?}");
        let before = dump(&endpoint);
        policy::bind(&endpoint, policy);
        let device = endpoint.open();
        assert_eq!(device.find_tph(), None, "{what}");
        assert_errno!(device.tph(), EOPNOTSUPP, "{what}");
        let probe = device.feature(Op::Probe, VFIO_DEVICE_FEATURE_DMA_BUF_TPH, &mut []);
        assert_eq!(probe, Ok(()), "{what}");
        drop(device);
        endpoint.bdf.unbind();
        assert_same(&dump(&endpoint), &before, &what);
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r26_data_accelerator,
        r26_cxl_device,
        r26_gigabit_nic,
        r26_storage_nic,
        r26_server_nic,
        r26_wireless_nic,
        r26_nvme_drive,
    ])
}
