// SPDX-License-Identifier: GPL-2.0-only

//! Devices that say of their MSI-X table that it is where none can be: Table BIR and Table Offset
//! (PCIe r6.2 7.7.2.3) lead out of a BAR, or to what is no memory BAR; and BARs that somebody else
//! has.

use std::ops::Range;
use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::hold;
use tph_selftests::module::Gate;
use tph_selftests::msix::{capability, Traits};
use tph_selftests::protocol::registers::MSIX_ENTRY;
use tph_selftests::protocol::{Access, Entry};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, none, Device, Vectors};
use tph_selftests::{assert_errno, harness, tests, Errno};
use tph_tests::{needs_tph, st, CPU};
use vfio_bindings::bindings::vfio::{VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS};

const IORESOURCE_IO: u64 = 0x100;
const IORESOURCE_MEM: u64 = 0x200;

/// Where an honest device has its table: at the start of BAR 0.
const HONEST: u32 = 0;

/// Numbers in a device's list of resources, behind its BARs.
const ROM: u32 = 6;
const FIRST_IOV: u32 = 7;

/// A device with an ST table in MSI-X and BARs of all kinds: memory at 0 and 2, where a half of the
/// address is at 3, I/O at 4, an expansion ROM, and none at 1 and 5.
fn pick(bench: &mut Bench) -> Rc<Endpoint> {
    needs_tph();
    bench.pick_where("an ST table in MSI-X, an I/O BAR and a ROM", |bdf| {
        bdf.root_port().is_some()
            && Traits::of(bdf).is_some_and(|traits| traits.in_msix)
            && bdf.resource(4).flags & IORESOURCE_IO != 0
            && bdf.resource(ROM).flags & IORESOURCE_MEM != 0
    })
}

/// Has the device say where its MSI-X table is. vfio-pci-core believes what it says at open.
fn say(endpoint: &Endpoint, word: u32) {
    let msix = capability(&endpoint.bdf.config(), PCI_CAP_ID_MSIX).expect("MSI-X");
    endpoint.lie(msix + PCI_MSIX_TABLE as u16, word);
}

fn vectors(endpoint: &Endpoint) -> u64 {
    endpoint.entries().len() as u64
}

/// What touched a BAR since `mark`.
fn touched(endpoint: &Endpoint, mark: u64) -> Vec<Entry> {
    let is_mmio = |entry: &Entry| {
        matches!(
            entry.access,
            Access::MmioRead { .. } | Access::MmioWrite { .. }
        )
    };
    let log = endpoint.log_after(mark).into_iter();
    log.filter(is_mmio).collect()
}

#[track_caller]
fn assert_untouched(endpoint: &Endpoint, mark: u64, what: &str) {
    let touched = touched(endpoint, mark);
    assert!(
        touched.is_empty(),
        "{what}: {} accesses to BARs, the first: {:x?}",
        touched.len(),
        touched[0]
    );
}

/// Fails the test unless a BAR was touched, in one place alone.
#[track_caller]
fn assert_touched_at(endpoint: &Endpoint, mark: u64, place: (u8, Range<u64>), what: &str) {
    let touched = touched(endpoint, mark);
    assert!(!touched.is_empty(), "{what}: the table was not looked at");
    for entry in touched {
        let (Access::MmioRead { bar, offset, .. } | Access::MmioWrite { bar, offset, .. }) =
            entry.access
        else {
            continue;
        };
        assert!(
            bar == place.0 && place.1.contains(&offset),
            "{what}: not in {place:x?}: {entry:x?}"
        );
    }
}

/// What a user finds out about a device.
struct Portrait {
    config: Vec<u8>,
    regions: Vec<Result<Vec<u8>, Errno>>,
    irqs: Vec<Result<Vec<u8>, Errno>>,
    /// The first dword of each region that is a BAR.
    bars: Vec<Option<Result<usize, Errno>>>,
}

impl Portrait {
    /// The BARs are read if the test does not look who else does.
    fn of(device: &Device, reads: bool) -> Self {
        let read = |bar| device.read_bar(bar, 0, &mut [0; 4]);
        Self {
            config: device.config_space(),
            regions: (0..=VFIO_PCI_NUM_REGIONS)
                .map(|index| device.region_bytes(index))
                .collect(),
            irqs: (0..=VFIO_PCI_NUM_IRQS)
                .map(|index| device.irq_bytes(index))
                .collect(),
            bars: (0..ROM).map(|bar| reads.then(|| read(bar))).collect(),
        }
    }

    /// The TPH capability is another one than vfio-pci's.
    #[track_caller]
    fn assert_same(&self, stock: &Self, tph: Range<usize>, what: &str) {
        for (offset, (ours, stock)) in self.config.iter().zip(&stock.config).enumerate() {
            assert!(
                ours == stock || tph.contains(&offset),
                "{what}: config space at {offset:#x}: {ours:#x}, with vfio-pci {stock:#x}"
            );
        }
        for (index, (ours, stock)) in self.regions.iter().zip(&stock.regions).enumerate() {
            assert_eq!(ours, stock, "{what}: region {index}");
        }
        assert_eq!(self.irqs, stock.irqs, "{what}: irqs");
        assert_eq!(self.bars, stock.bars, "{what}: reads of BARs");
    }
}

fn portrait_under_vfio_pci(endpoint: &Endpoint, reads: bool) -> Portrait {
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    Portrait::of(&endpoint.open(), reads)
}

/// Fails the test unless TPH is on offer without a table.
fn has_no_table(endpoint: &Endpoint, device: &Device, what: &str) {
    let table = VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_ST_MSIX | VFIO_TPH_FLAG_ST;
    let offer = device
        .tph()
        .unwrap_or_else(|e| panic!("{what}: no TPH: {e}"));
    assert_eq!(offer.st_entries, 0, "{what}: {offer:?}");
    assert_eq!(offer.flags & table, 0, "{what}: {offer:?}");
    let shown = device.tph_capability();
    assert_eq!(
        shown & (PCI_TPH_CAP_LOC_MASK | PCI_TPH_CAP_ST_MASK),
        PCI_TPH_LOC_NONE,
        "{what}: {shown:#x}"
    );

    // What such a device would send nobody has cleared.
    assert_eq!(
        offer.modes & (1 << StMode::InterruptVector as u8),
        0,
        "{what}"
    );
    device.set_control(control(StMode::InterruptVector, Requester::Standard));
    assert_eq!(endpoint.control(), 0, "{what}: Interrupt Vector mode");
    for mode in [StMode::NoSt, StMode::DeviceSpecific] {
        if offer.modes & (1 << mode as u8) == 0 {
            assert_ne!(mode, StMode::NoSt, "{what}: {offer:?}");
            continue;
        }
        device.enable(mode, Requester::Standard);
        let expected = control(mode, Requester::Standard);
        assert_eq!(endpoint.control(), expected, "{what}: {mode:?}");
        assert_errno!(device.program(0, &[none()]), EOPNOTSUPP, "{what}: {mode:?}");
        assert_errno!(
            device.program(0, &[cpu(CPU)]),
            EOPNOTSUPP,
            "{what}: {mode:?}"
        );
        device.set_control(0);
    }
    device.enable(StMode::NoSt, Requester::Standard);
}

/// Everything that clears a table, or looks at it.
fn reset_in_all_ways(endpoint: &Endpoint, device: &Device, what: &str) {
    let off = |how: &str| {
        assert_eq!(endpoint.control(), 0, "{what}: after {how}");
        device.enable(StMode::NoSt, Requester::Standard);
    };
    device.reset().expect("VFIO_DEVICE_RESET");
    off("VFIO_DEVICE_RESET");
    device.initiate_flr();
    off("FLR");
    device.hot_reset(&[]).expect("hot reset");
    off("a hot reset");
    endpoint.bdf.reset().expect("a reset by the administrator");
    off("a reset by the administrator");
    device.set_power_state(3);
    device.set_power_state(0);
    let enabled = control(StMode::NoSt, Requester::Standard);
    assert_eq!(endpoint.control(), enabled, "{what}: in D0 again");
}

/// One open under vfio_tph, which is bound: nobody touches a BAR, and TPH is on offer without a
/// table.
fn leads_nowhere(endpoint: &Endpoint, stock: &Portrait, what: &str) {
    let at = usize::from(endpoint.tph().offset);
    let tph = at + PCI_TPH_CAP as usize..at + PCI_TPH_BASE_SIZEOF as usize;
    let reads = stock.bars.iter().any(Option::is_some);

    let mark = endpoint.mark();
    let device = endpoint.open();
    assert_untouched(endpoint, mark, &format!("{what}: open"));
    Portrait::of(&device, reads).assert_same(stock, tph, what);

    let mark = endpoint.mark();
    has_no_table(endpoint, &device, what);
    assert_untouched(endpoint, mark, &format!("{what}: features and Control"));
    reset_in_all_ways(endpoint, &device, what);
    assert_untouched(endpoint, mark, &format!("{what}: resets"));
    drop(device);
    assert_untouched(endpoint, mark, &format!("{what}: close"));
    endpoint.assert_off(what);
}

/// The same for several places, with both gates, beside vfio-pci.
fn lead_nowhere(endpoint: &Endpoint, places: &[(&str, u32)]) {
    let stock: Vec<Portrait> = places
        .iter()
        .map(|&(_, word)| {
            say(endpoint, word);
            portrait_under_vfio_pci(endpoint, false)
        })
        .collect();
    for gate in Gate::BOTH {
        bench::bind(endpoint, gate);
        for (&(what, word), stock) in places.iter().zip(&stock) {
            say(endpoint, word);
            leads_nowhere(endpoint, stock, &format!("{what}, {word:#x}, {gate:?}"));
        }
    }
}

/// A number that is none of a memory BAR. The ROM is larger than BAR 0, so that the offset is good
/// for the one and leads out of the other.
fn r76_bir_of_no_memory_bar(bench: &mut Bench) {
    let endpoint = pick(bench);
    let bar = endpoint.bdf.resource(0);
    assert_eq!(bar.flags & IORESOURCE_MEM, IORESOURCE_MEM, "{bar:?}");
    let rom = endpoint.bdf.resource(ROM);
    assert!(
        bar.length <= 0x2000 && rom.length >= 0x2000 + vectors(&endpoint) * MSIX_ENTRY,
        "{bar:?}, {rom:?}"
    );
    lead_nowhere(
        &endpoint,
        &[
            ("no BAR", 1),
            ("the upper half of a BAR's address", 3),
            ("an I/O BAR", 4),
            ("no BAR", 5),
            ("the ROM", ROM),
            ("the ROM", 0x2000 | ROM),
            ("nothing at all", FIRST_IOV),
        ],
    );
}

/// A table that reaches past the end of its BAR, or starts there, up to where 32 bits end.
fn r76_table_past_its_bar(bench: &mut Bench) {
    let endpoint = pick(bench);
    let size = vectors(&endpoint) * MSIX_ENTRY;
    let mut places = Vec::new();
    for bar in [0, 2] {
        let end = endpoint.bdf.resource(bar).length;
        for (what, offset) in [
            ("its last dwords are behind the BAR", end - size + 8),
            ("behind the BAR", end),
            ("at the end of what can be said", 0xffff_fff8),
        ] {
            places.push((what, offset as u32 | bar));
        }
    }
    lead_nowhere(&endpoint, &places);
}

/// Behind the ROM in the kernel's list is what belongs to virtual functions, if a device has some.
fn r76_bir_of_virtual_functions(bench: &mut Bench) {
    const DSN: u16 = 0x200;
    const SRIOV: u16 = 0x300;
    let header = |id: u32, next: u16| id | (1 << 16) | (u32::from(next) << 20);

    let endpoint = pick(bench);
    let links = endpoint.state().extended_capabilities;
    let last = links.last().expect("a chain");
    assert_eq!((last.offset, u32::from(last.id)), (DSN, PCI_EXT_CAP_ID_DSN));
    endpoint.lie(DSN, header(PCI_EXT_CAP_ID_DSN, SRIOV));
    let one = |low: u32, high: u32| low | (high << 16);
    for (register, value) in [
        (0, header(PCI_EXT_CAP_ID_SRIOV, 0)),
        (PCI_SRIOV_INITIAL_VF, one(1, 1)), // and TotalVFs
        (PCI_SRIOV_VF_OFFSET, one(1, 1)),  // and VF Stride
        (PCI_SRIOV_SUP_PGSIZE, 1),
        (PCI_SRIOV_SYS_PGSIZE, 1),
        (PCI_SRIOV_BAR, 0xffff_0000), // 64 KiB
    ] {
        endpoint.lie(SRIOV + register as u16, value);
    }
    endpoint.bdf.rediscover();
    let iov = endpoint.bdf.resource(FIRST_IOV);
    assert!(
        iov.flags & IORESOURCE_MEM != 0 && iov.length >= 0x1_0000,
        "{iov:?}"
    );
    lead_nowhere(
        &endpoint,
        &[
            ("a BAR of virtual functions", FIRST_IOV),
            ("a BAR of virtual functions", 0x2000 | FIRST_IOV),
        ],
    );
}

/// A BAR that vfio-pci-core cannot reserve, and has not mapped.
fn r76_bar_that_somebody_else_has(bench: &mut Bench) {
    let endpoint = pick(bench);
    for bar in [0, 2] {
        say(&endpoint, bar);
        for gate in Gate::BOTH {
            let what = format!("BAR {bar}, {gate:?}");
            let reserved = hold::reserve(&endpoint.bdf, bar);
            let stock = portrait_under_vfio_pci(&endpoint, true);
            assert_eq!(stock.bars[bar as usize], Some(Err(Errno::EBUSY)), "{what}");
            bench::bind(&endpoint, gate);
            leads_nowhere(&endpoint, &stock, &what);
            drop(reserved);

            let device = endpoint.open();
            let offer = device.tph().expect("TPH");
            assert_eq!(
                u64::from(offer.st_entries),
                vectors(&endpoint),
                "{what}: free"
            );
        }
    }
}

/// A memory BAR: the table is where it is said to be, and nothing is touched anywhere else.
fn r76_bir_of_a_memory_bar(bench: &mut Bench) {
    let endpoint = pick(bench);
    let size = vectors(&endpoint) * MSIX_ENTRY;
    for (bar, offset) in [
        (0, 0),
        (0, endpoint.bdf.resource(0).length - size),
        (2, 0x8000),
        (2, endpoint.bdf.resource(2).length - size),
    ] {
        let what = format!("BAR {bar} at {offset:#x}");
        say(&endpoint, offset as u32 | u32::from(bar));
        bench::bind(&endpoint, Gate::Safe);
        let place = || (bar, offset..offset + size);
        let mark = endpoint.mark();
        let device = endpoint.open();
        assert_touched_at(&endpoint, mark, place(), &format!("{what}: open"));
        let offer = device.tph().expect("TPH");
        assert_eq!(u64::from(offer.st_entries), vectors(&endpoint), "{what}");
        assert_ne!(offer.flags & VFIO_TPH_FLAG_ST_MSIX, 0, "{what}: {offer:?}");
        drop(device);
        assert_touched_at(&endpoint, mark, place(), &format!("{what}: close"));
    }
}

/// What is said of the table while the device is open counts at the next open: what was programmed
/// is cleared where it is.
fn r76_bir_that_changes_in_use(bench: &mut Bench) {
    let endpoint = pick(bench);
    let size = vectors(&endpoint) * MSIX_ENTRY;
    for word in [1, 2, 4, ROM, 0x2000 | ROM, FIRST_IOV, 0xffff_fff8] {
        let what = format!("{word:#x}");
        say(&endpoint, HONEST);
        bench::bind(&endpoint, Gate::Safe);
        let device = endpoint.open();
        device.enable(StMode::InterruptVector, Requester::Standard);
        let _vectors = Vectors::allocate(&device, 2).expect("vectors");
        device.program(0, &[cpu(CPU); 2]).expect("TPH_ST");
        assert_eq!(endpoint.entries()[..2], [st(CPU); 2], "{what}");

        say(&endpoint, word);
        let mark = endpoint.mark();
        device.reset().expect("VFIO_DEVICE_RESET");
        endpoint.assert_off(&format!("{what}: a reset"));
        device.enable(StMode::InterruptVector, Requester::Standard);
        device.program(0, &[cpu(CPU); 2]).expect("TPH_ST");
        assert_eq!(endpoint.entries()[..2], [st(CPU); 2], "{what}");
        drop(device);
        endpoint.assert_off(&format!("{what}: close"));
        assert_touched_at(&endpoint, mark, (0, 0..size), &what);
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r76_bir_of_a_memory_bar,
        r76_bir_of_no_memory_bar,
        r76_table_past_its_bar,
        r76_bir_of_virtual_functions,
        r76_bar_that_somebody_else_has,
        r76_bir_that_changes_in_use,
    ])
}
