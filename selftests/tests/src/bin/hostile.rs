// SPDX-License-Identifier: GPL-2.0-only

//! Devices that lie about themselves.

use std::collections::BTreeSet;
use std::fs;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::kernel;
use tph_selftests::module::{Gate, VFIO_TPH};
use tph_selftests::monitor::meanwhile;
use tph_selftests::msix;
use tph_selftests::protocol::{Access, Fault, Position, Table, TphShape};
use tph_selftests::root_port;
use tph_selftests::tph::{control, Link, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::VFIO_TPH_FLAG_ST_MSIX;
use tph_selftests::vfio::{self, cpu, none, Device, OpenBy};
use tph_selftests::{assert_errno, harness, skip, tests, Errno};
use tph_tests::{fill, needs_tph, st, CPU};

const IV_ENABLED: u32 = control(StMode::InterruptVector, Requester::Standard);

/// A header of an extended capability.
fn header(id: u32, next: u16) -> u32 {
    id | (1 << 16) | (u32::from(next) << 20)
}

/// A table of so many entries in the capability, which is in the middle of the chain.
fn has_table(endpoint: &Endpoint, entries: u16) {
    endpoint.reshape(TphShape {
        table: Some(Table::Cap),
        entries: Some(entries),
        position: Some(Position::Middle),
        ..TphShape::default()
    });
}

/// The links of a chain, each once, wherever it leads.
fn links(read: impl Fn(u16) -> u32) -> Vec<Link> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    let mut offset = PCI_CFG_SPACE_SIZE as u16;
    while offset >= PCI_CFG_SPACE_SIZE as u16 && offset % 4 == 0 && seen.insert(offset) {
        let header = read(offset);
        found.push(Link {
            offset,
            id: header as u16,
            version: (header >> 16) as u8 & 0xf,
            next: (header >> 20) as u16,
        });
        offset = (header >> 20) as u16;
    }
    found
}

/// The links that a user meets.
fn links_of(device: &Device) -> Vec<Link> {
    links(|offset| device.config_dword(offset))
}

fn is_tph(link: &Link) -> bool {
    u32::from(link.id) == PCI_EXT_CAP_ID_TPH
}

/// What there is besides TPH, by place and name.
fn others(links: &[Link]) -> BTreeSet<(u16, u16)> {
    let others = links.iter().filter(|link| !is_tph(link) && link.id != 0);
    others.map(|link| (link.offset, link.id)).collect()
}

/// What a link says: its offset, id and next pointer.
type Lie = (u16, u32, u16);
/// What a chain is, its links, and other dwords that say something else, by their offsets.
type Chain = (&'static str, &'static [Lie], &'static [(u16, u32)]);

const AER: u32 = PCI_EXT_CAP_ID_ERR;
const DSN: u32 = PCI_EXT_CAP_ID_DSN;
const TPH: u32 = PCI_EXT_CAP_ID_TPH;
const VENDOR: u32 = PCI_EXT_CAP_ID_VNDR;
const DVSEC: u32 = PCI_EXT_CAP_ID_DVSEC;
/// vfio-pci-core hides it.
const SECONDARY: u32 = PCI_EXT_CAP_ID_SECPCI;
/// Chains that never end, or lead astray. TPH is at 0x160, the others at 0x100 and 0x200.
const CHAINS: [(&str, &[Lie]); 7] = [
    ("the last leads to TPH", &[(0x200, DSN, 0x160)]),
    ("the last leads to itself", &[(0x200, DSN, 0x200)]),
    ("TPH leads to itself", &[(0x160, TPH, 0x160)]),
    ("TPH leads below 100h", &[(0x160, TPH, 0x40)]),
    ("TPH leads to the last dword", &[(0x160, TPH, 0xffc)]),
    ("TPH leads into its own table", &[(0x160, TPH, 0x170)]),
    (
        "two TPH capabilities in a circle",
        &[(0x160, TPH, 0x200), (0x200, TPH, 0x160)],
    ),
];

/// Keeps the kernel's console quiet while it lives, not its log. vfio-pci-core prints a line for
/// each byte of a capability that it meets again, at most 960 times.
struct QuietConsole(String);

impl QuietConsole {
    const FILE: &str = "/proc/sys/kernel/printk";

    fn new() -> Self {
        let before = fs::read_to_string(Self::FILE).expect(Self::FILE);
        fs::write(Self::FILE, "4").expect(Self::FILE);
        Self(before)
    }
}

impl Drop for QuietConsole {
    fn drop(&mut self) {
        fs::write(Self::FILE, &self.0).expect(Self::FILE);
    }
}

/// A chain of the hardware that does not end: vfio-pci's walk ends, so does the driver's. Hidden,
/// no TPH capability is met; shown, it works; all others are where hardware has them.
fn r25_chains_that_do_not_end(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    let _quiet = QuietConsole::new();
    for (what, lies) in CHAINS {
        has_table(&endpoint, 2);
        for &(offset, id, next) in lies {
            endpoint.lie(offset, header(id, next));
        }
        endpoint.bdf.rediscover();
        let config = endpoint.bdf.config();
        let expected = others(&links(|offset| config.dword(offset)));

        bench::bind(&endpoint, Gate::Safe);
        endpoint.set_root_port(root_port::NONE);
        let device = endpoint.open();
        let met = links_of(&device);
        assert!(!met.iter().any(is_tph), "{what}: hidden: {met:x?}");
        assert_eq!(device.tph().map(drop), Err(Errno::EOPNOTSUPP), "{what}");
        drop(device);

        endpoint.set_root_port(root_port::EXTENDED);
        let device = endpoint.open();
        let met = links_of(&device);
        assert_eq!(others(&met), expected, "{what}: {met:x?}");
        let found = met.iter().filter(|link| is_tph(link)).count();
        match device.tph() {
            Ok(_) => {
                assert_eq!(found, 1, "{what}: {met:x?}");
                works(&endpoint, &device, what);
            }
            // Only what nobody can find is not on offer.
            Err(error) => assert_eq!((error, found), (Errno::EOPNOTSUPP, 0), "{what}"),
        }
        drop(device);
        if endpoint.kernel().tph_cap != 0 {
            endpoint.assert_kernel_agrees();
        }
    }
}

/// Chains in which vfio-pci-core shows hardware's pointer, each begun by the first capability; the
/// endpoint's own are at 0x100, 0x160 and 0x200. What is said besides headers is a length.
const POINTERS_OF_HARDWARE: [Chain; 5] = [
    ("a first header without an id", &[(0x100, 0, 0x160)], &[]),
    (
        "two vendor's capabilities, one behind the other",
        &[
            (0x100, AER, 0x300),
            (0x300, VENDOR, 0x320),
            (0x320, VENDOR, 0x160),
        ],
        &[(0x304, 0x020 << 20), (0x324, 0x020 << 20)],
    ),
    (
        "two designated vendor's capabilities",
        &[
            (0x100, AER, 0x300),
            (0x300, DVSEC, 0x320),
            (0x320, DVSEC, 0x160),
        ],
        &[(0x304, 0x020 << 20), (0x324, 0x020 << 20)],
    ),
    (
        "a header inside a vendor's capability",
        &[
            (0x100, AER, 0x310),
            (0x310, DSN, 0x160),
            (0x160, TPH, 0x300),
            (0x300, VENDOR, 0x200),
        ],
        &[(0x304, 0x040 << 20)],
    ),
    (
        "through a hidden capability to a second TPH capability",
        &[
            (0x100, AER, 0x160),
            (0x160, TPH, 0x400),
            (0x400, SECONDARY, 0x150),
            (0x150, VENDOR, 0x300),
            (0x300, TPH, 0x200),
        ],
        &[
            (0x154, 0x040 << 20),
            (0x304, 7 | PCI_TPH_LOC_CAP | PCI_TPH_CAP_EXT_TPH | (7 << 16)),
        ],
    ),
];

/// What is behind a hidden TPH capability is found, as it is under vfio-pci, also where
/// vfio-pci-core shows a pointer of hardware's; and no TPH capability shows anything.
fn r25_pointers_of_hardware(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    let _quiet = QuietConsole::new();
    endpoint.set_root_port(root_port::NONE);
    for (what, lies, registers) in POINTERS_OF_HARDWARE {
        has_table(&endpoint, 2);
        for &(offset, id, next) in lies {
            endpoint.lie(offset, header(id, next));
        }
        for &(offset, value) in registers {
            endpoint.lie(offset, value);
        }
        endpoint.bdf.unbind();
        endpoint.bdf.rediscover();
        let config = endpoint.bdf.config();
        let hardware = links(|offset| config.dword(offset));

        endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
        let stock = links_of(&endpoint.open());
        let last = stock.last().map(|link| (link.offset, link.next));
        assert_eq!(last, Some((0x200, 0)), "{what}: {stock:x?}");

        bench::bind(&endpoint, Gate::Safe);
        let device = endpoint.open();
        let met = links_of(&device);
        assert!(!met.iter().any(is_tph), "{what}: {met:x?}");
        assert_eq!(others(&met), others(&stock), "{what}: {met:x?}");
        let space = device.config_space();
        for link in hardware.iter().filter(|link| is_tph(link)) {
            let start = usize::from(link.offset);
            let shown = &space[start..start + PCI_TPH_BASE_SIZEOF as usize];
            assert!(shown.iter().all(|&byte| byte == 0), "{what}: {shown:x?}");
        }
    }
}

/// Enables, programs as many entries as are on offer, and no more.
fn works(endpoint: &Endpoint, device: &Device, what: &str) {
    let offer = device.tph().expect("TPH");
    let Some(link) = links_of(device).into_iter().find(is_tph) else {
        panic!("{what}: TPH is on offer and nowhere to be found");
    };
    let at = link.offset + PCI_TPH_CTRL as u16;
    device.set_config(at, &IV_ENABLED.to_le_bytes());
    let in_force = device.config_dword(at);
    let has_iv = offer.modes & (1 << StMode::InterruptVector as u8) != 0;
    assert_eq!(in_force == IV_ENABLED, has_iv, "{what}: {in_force:#x}");
    assert_eq!(endpoint.control(), in_force, "{what}");
    if offer.st_entries == 0 {
        assert_errno!(device.program(0, &[none()]), EOPNOTSUPP, "{what}");
        return;
    }
    let entries = usize::from(offer.st_entries);
    assert_errno!(
        device.program(offer.st_entries, &[none()]),
        EINVAL,
        "{what}: the entry behind the last"
    );
    let programmed = device.program(0, &vec![cpu(CPU); entries]);
    if offer.flags & VFIO_TPH_FLAG_ST_MSIX != 0 {
        assert_errno!(programmed, ENXIO, "{what}: no vector is allocated");
        return;
    }
    assert_eq!(programmed, Ok(()), "{what}");
    let written = &endpoint.entries()[..entries];
    assert!(
        written.iter().all(|&tag| tag == st(CPU)),
        "{what}: {written:x?}"
    );
}

/// A capability in the middle of the table, on a device of which tags can be chosen: the table ends
/// in front of it, and no tag is seen through it.
fn r14_capability_inside_the_table(bench: &mut Bench) {
    const INSIDE: u16 = 0x180;

    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    for entered in [INSIDE, 0x100] {
        has_table(&endpoint, 64);
        // Met after TPH, or before it.
        if entered == INSIDE {
            endpoint.lie(0x160, header(TPH, INSIDE));
            endpoint.lie(INSIDE, header(DSN, 0));
        } else {
            endpoint.lie(0x100, header(AER, INSIDE));
            endpoint.lie(INSIDE, header(DSN, 0x160));
        }
        endpoint.bdf.rediscover();
        bench::bind(&endpoint, Gate::Unsafe);
        let device = endpoint.open();
        let offer = device.tph().expect("TPH");
        assert_eq!(offer.st_entries, (INSIDE - 0x160 - 0xc) / 2, "{entered:#x}");
        works(&endpoint, &device, "a capability in the table");
        let space = device.config_space();
        let behind = &space[usize::from(INSIDE) + 12..0x1ec];
        assert!(
            behind.iter().all(|&byte| byte == 0),
            "a tag shows: {behind:x?}"
        );
        assert!(links_of(&device).iter().any(|link| link.offset == INSIDE));
        drop(device);
        // What the other capability covers is not the driver's: an honest device has no table
        // there.
        endpoint.clear_violations();
    }
}

/// Every shape after every other, between two opens: what the kernel knows is that of long ago. The
/// table never gets longer than it was when the kernel looked, for which the PCI core has room.
fn r44_capability_that_changes_between_opens(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    if endpoint.state().msix.is_none() {
        skip!("no device with MSI-X and a table in the capability");
    }
    has_table(&endpoint, 64);
    let vectors = endpoint
        .state()
        .msix
        .map_or(0, |msix| msix.entries.len() as u16);
    bench::bind(&endpoint, Gate::Safe);
    let shape = |table, entries, modes| TphShape {
        table: Some(table),
        entries: Some(entries),
        modes: Some(modes),
        ..TphShape::default()
    };
    let extended = |extended| TphShape {
        extended: Some(extended),
        ..TphShape::default()
    };
    let rounds = [
        (shape(Table::Cap, 64, 7), Some(64)),
        (shape(Table::Cap, 1, 7), Some(1)),
        (shape(Table::Msix, 16, 7), Some(vectors)),
        (shape(Table::Cap, 8, 3), Some(8)),
        (shape(Table::None, 1, 7), Some(0)),
        (shape(Table::Cap, 8, 1), Some(0)),
        (shape(Table::Absent, 1, 7), None),
        (shape(Table::Cap, 63, 7), Some(63)),
        (extended(false), Some(63)),
        (extended(true), Some(63)),
        (shape(Table::Cap, 2, 0), Some(0)),
        (shape(Table::Cap, 64, 7), Some(64)),
    ];
    for (shape, entries) in rounds {
        endpoint.retouch(shape);
        bench::bind(&endpoint, Gate::Safe);
        let device = endpoint.open();
        let what = format!("{shape:?}");
        match entries {
            None => assert_errno!(device.tph(), EOPNOTSUPP, "{what}"),
            Some(entries) => {
                let offer = device.tph().expect("TPH");
                assert_eq!(offer.st_entries, entries, "{what}: {offer:?}");
                works(&endpoint, &device, &what);
            }
        }
        drop(device);
        let Some(tph) = endpoint.state().tph else {
            continue;
        };
        assert_eq!(tph.control, 0, "{what}");
        assert!(tph.entries.iter().all(|&tag| tag == 0), "{what}");
    }
}

/// Capability registers that no honest device has.
fn r9_capability_registers_that_lie(bench: &mut Bench) {
    const SIZE: u32 = PCI_TPH_CAP_ST_MASK;
    const RESERVED_LOCATION: u32 = PCI_TPH_CAP_LOC_MASK;

    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    let vectors = endpoint
        .state()
        .msix
        .map_or(0, |msix| msix.entries.len() as u16);
    has_table(&endpoint, 64);
    let at = endpoint.tph().offset + PCI_TPH_CAP as u16;
    for (what, raw, entries) in [
        ("all zeros", 0, Some(0)),
        ("no mode at all", PCI_TPH_LOC_CAP | SIZE, Some(0)),
        // Over the capability behind it.
        ("2048 entries", 7 | PCI_TPH_LOC_CAP | SIZE, Some(0)),
        ("65 entries", 7 | PCI_TPH_LOC_CAP | (64 << 16), Some(64)),
        ("2048 vectors", 7 | PCI_TPH_LOC_MSIX | SIZE, Some(vectors)),
        ("a reserved location", 7 | RESERVED_LOCATION | SIZE, Some(0)),
        ("reserved bits", 0xf800_f8f8 | 7 | PCI_TPH_LOC_CAP, Some(1)),
        ("all but one bit", 0xffff_fffe, Some(0)),
    ] {
        endpoint.lie(at, raw);
        endpoint.bdf.unbind();
        endpoint.bdf.rediscover();
        bench::bind(&endpoint, Gate::Safe);
        let device = endpoint.open();
        let offer = device.tph().map(|offer| offer.st_entries).ok();
        assert_eq!(offer, entries, "{what}");
        if offer.is_some() {
            works(&endpoint, &device, what);
        }
        let shown = device.config_dword(at);
        let known = 7 | PCI_TPH_CAP_EXT_TPH | PCI_TPH_CAP_LOC_MASK | PCI_TPH_CAP_ST_MASK;
        assert_eq!(shown & !known, 0, "{what}: {shown:#x}");
        drop(device);
        endpoint.assert_kernel_agrees();
    }
    // The emulated endpoint judges by the table that it really has.
    endpoint.clear_violations();
}

/// The device stops in the middle of an open, behind the reset that an open begins with: the open
/// fails, or TPH is not on offer, or it is what it is. Then it comes back, and all is well.
fn r41_stops_while_it_is_opened(bench: &mut Bench) {
    /// Of the accesses of an open these come after its reset.
    const TAIL: u64 = 90;
    /// The driver's own are among the last, and are taken one by one.
    const OWN: u64 = 20;
    /// Not a divisor of anything.
    const STEP: u64 = 7;

    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    let honest = endpoint.open().tph().expect("TPH");
    endpoint.reset_counters();
    let device = endpoint.open();
    let accesses = endpoint.counters().config();
    drop(device);
    let each = (accesses - TAIL..accesses).filter(|at| accesses - at <= OWN || at % STEP == 0);
    for before_fault in each {
        let what = format!("stopped after {before_fault} of {accesses} accesses");
        endpoint.fault(Fault::StopAfter {
            accesses: before_fault,
        });
        let device = vfio::open(&endpoint.bdf, OpenBy::Cdev);
        endpoint.fault(Fault::None);
        match device {
            Err(error) => assert_eq!(error, Errno::EIO, "{what}"),
            Ok(device) => match device.tph() {
                Ok(offer) => assert_eq!(offer, honest, "{what}"),
                Err(error) => assert_eq!(error, Errno::EOPNOTSUPP, "{what}"),
            },
        }
        let device = endpoint.open();
        assert_eq!(device.tph(), Ok(honest), "{what}: afterwards");
        device.enable(StMode::InterruptVector, Requester::Standard);
        device.program(0, &[cpu(CPU)]).expect("TPH_ST afterwards");
        drop(device);
        endpoint.assert_off(&what);
    }
}

/// A table that gets longer while it is in use, on the way to D3hot: the PCI core, which has room
/// for what the device claimed when it was found, would save as much as the device claims by then.
/// It must not know that the table is in use, whoever writes Control at the same time.
fn r48_table_that_grows_before_it_sleeps(bench: &mut Bench) {
    /// What the kernel has room for.
    const ENTRIES: u16 = 2;
    const SIZE: u32 = PCI_TPH_CAP_ST_MASK;
    /// Where the next capability is.
    const NEXT: u64 = 0x200;
    const ROUNDS: usize = 30;

    needs_tph();
    let endpoint = bench.pick_with(
        "a table in the capability, and no No_Soft_Reset",
        |traits| !traits.in_msix && !traits.no_soft_reset,
    );
    has_table(&endpoint, ENTRIES);
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    fill(&endpoint, &device);
    let before = endpoint.entries();
    let offset = endpoint.tph().offset;
    endpoint.lie(
        offset + PCI_TPH_CAP as u16,
        7 | PCI_TPH_LOC_CAP | PCI_TPH_CAP_EXT_TPH | SIZE,
    );

    // The driver knows what is in the table: who reads it is the PCI core.
    let table = u64::from(offset) + u64::from(PCI_TPH_BASE_SIZEOF)..NEXT;
    let read = |mark| {
        endpoint.log_after(mark).into_iter().find(|entry| {
            matches!(entry.access, Access::ConfigRead { offset, .. } if table.contains(&offset))
        })
    };
    let mark = endpoint.mark();
    device.set_power_state(3);
    assert_eq!(read(mark), None, "on the way to D3hot");
    device.set_power_state(0);
    assert_eq!(endpoint.control(), IV_ENABLED, "in D0 again");
    assert_eq!(endpoint.entries()[..before.len()], before, "in D0 again");
    endpoint.assert_kernel_agrees();

    // Awake all the time: nothing to put back, and the kernel knows that TPH is on.
    let mark = endpoint.mark();
    device.set_power_state(0);
    let written = endpoint.config_writes(mark, offset.into()..NEXT);
    assert_eq!(written, [], "D0 in D0");
    endpoint.assert_kernel_agrees();

    let mark = endpoint.mark();
    let writes = AtomicU64::new(0);
    let write = || {
        device.set_control(IV_ENABLED);
        writes.fetch_add(1, Ordering::Relaxed);
    };
    meanwhile(write, || {
        // However few CPUs there are: until Control was written meanwhile.
        let before = writes.load(Ordering::Relaxed);
        let mut rounds = 0;
        while rounds < ROUNDS || writes.load(Ordering::Relaxed) == before {
            device.set_power_state(3);
            device.set_power_state(0);
            rounds += 1;
        }
    });
    assert_eq!(read(mark), None, "while Control is written");
    assert_eq!(endpoint.control(), IV_ENABLED, "afterwards");
    endpoint.assert_kernel_agrees();
}

/// Fails the test if config space was accessed behind its first 256 bytes.
#[track_caller]
fn assert_none_behind(endpoint: &Endpoint, mark: u64, what: &str) {
    let end = u64::from(PCI_CFG_SPACE_SIZE);
    let behind = |access: &Access| match *access {
        Access::ConfigRead { offset, width, .. } | Access::ConfigWrite { offset, width, .. } => {
            offset + u64::from(width) > end
        }
        _ => false,
    };
    let mut log = endpoint.log_after(mark).into_iter();
    assert_eq!(log.find(|entry| behind(&entry.access)), None, "{what}");
}

/// Capabilities of the first 256 bytes that reach past them, on a device that has no more: they say
/// a length that is too large, or start too late for the one that they have. Nothing is read or
/// written behind the end, and the user sees the bytes before it.
fn r66_standard_capabilities_past_the_end(bench: &mut Bench) {
    /// The last dword.
    const LAST: u16 = PCI_CFG_SPACE_SIZE as u16 - 4;

    if !kernel::is_patched() {
        skip!("vfio-pci-core writes past its buffers without kernel/patches");
    }
    let endpoint = bench.pick(&Want::TABLE);
    let config = endpoint.bdf.config();
    let express = msix::capability(&config, PCI_CAP_ID_EXP).expect("PCI Express");
    let link = config.dword(express) & !0xff00;
    // As where requests for extended config space do not get through: nobody answers there.
    endpoint.lie(PCI_CFG_SPACE_SIZE as u16, u32::MAX);
    endpoint.bdf.rediscover();

    let longest = PCI_CAP_ID_VNDR | (255 << 16);
    let msi = (PCI_MSI_FLAGS_64BIT | PCI_MSI_FLAGS_MASKBIT) << 16;
    Gate::Safe.load();
    for (what, at, header) in [
        ("vendor specific, 255 bytes", 0x80, longest),
        ("vendor specific, 255 bytes", LAST, longest),
        ("power management", LAST, PCI_CAP_ID_PM | (3 << 16)),
        ("MSI", LAST, PCI_CAP_ID_MSI | msi),
        ("MSI-X", LAST, PCI_CAP_ID_MSIX),
        ("advanced features", LAST, PCI_CAP_ID_AF | (6 << 16)),
        ("HyperTransport", LAST, PCI_CAP_ID_HT),
    ] {
        endpoint.lie(express, link | (u32::from(at) << 8));
        endpoint.lie(at, header);
        let mut spaces = Vec::new();
        for driver in ["vfio-pci", VFIO_TPH] {
            let what = format!("{what} at {at:#x}, {driver}");
            endpoint.bdf.bind(driver).expect("bind");
            let mark = endpoint.mark();
            let device = endpoint.open();
            let space = device.config_space();
            assert_eq!(space.len(), PCI_CFG_SPACE_SIZE as usize, "{what}");
            assert_eq!(space[usize::from(at)], header as u8, "{what}");
            if driver == VFIO_TPH {
                assert_eq!(device.tph(), Err(Errno::EOPNOTSUPP), "{what}");
            }
            device.reset().expect("VFIO_DEVICE_RESET");
            assert!(device.config_space() == space, "{what}: after a reset");
            drop(device);
            assert_none_behind(&endpoint, mark, &what);
            spaces.push(space);
        }
        assert!(spaces[0] == spaces[1], "{what} at {at:#x}: config space");
        endpoint.lie(at, 0);
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r25_chains_that_do_not_end,
        r25_pointers_of_hardware,
        r14_capability_inside_the_table,
        r44_capability_that_changes_between_opens,
        r9_capability_registers_that_lie,
        r41_stops_while_it_is_opened,
        r48_table_that_grows_before_it_sleeps,
        r66_standard_capabilities_past_the_end,
    ])
}
