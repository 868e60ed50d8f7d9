// SPDX-License-Identifier: GPL-2.0-only

//! Everything that has nothing to do with TPH, against stock vfio-pci on the same device:
//! instructions in the kernel.

use std::ops::Range;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::ProtFlags;
use tph_bench::Row;
use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::engine::Engine;
use tph_selftests::memory::page_size;
use tph_selftests::module::Gate;
use tph_selftests::protocol::registers::*;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{feature_bytes, Device, Mapped, Op, FEATURE_HEADER};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
};

use crate::clock::{least, spin, ticks, SystemCall};
use crate::DEVICE_FEATURE;

const STOCK: &str = "vfio-pci";
const MOST: f64 = 1.02;
const WHY: &str = "vfio-pci-core does the work";

const GET_INFO: u32 = 7;
const GET_REGION_INFO: u32 = 8;
const GET_IRQ_INFO: u32 = 9;

/// Repetitions of a call, for what is served by the kernel and for what goes to the device.
const MANY: u32 = 32;
const FEW: u32 = 2;
/// What is mapped, and touched page by page to see what a fault takes.
const MAPPED: u64 = 64 << 10;
/// Iterations in which a raised interrupt has time to arrive.
const ARRIVAL: u64 = 2_000_000;

/// One thing that is measured.
struct Cost {
    operation: &'static str,
    size: String,
    instructions: f64,
}

/// Cost of a config access at each offset, for one way of accessing.
type Sweep = Vec<(u16, f64)>;

/// What is measured of a device under one driver.
struct Costs {
    rows: Vec<Cost>,
    reads: [Sweep; 3],
    writes: Sweep,
    /// Reads of the TPH capability, which is not core's alone.
    capability: Sweep,
    /// Accesses that the device sees of a read of every dword.
    accesses: u64,
}

fn config_start(device: &Device) -> u64 {
    device
        .region(VFIO_PCI_CONFIG_REGION_INDEX)
        .expect("config space")
        .offset
}

/// Reads config space by accesses of `width` bytes.
fn reads(device: &Device, width: u16, skip: &Range<u16>) -> Sweep {
    let start = config_start(device);
    let mut buffer = vec![0; width.into()];
    (0..PCI_CFG_SPACE_EXP_SIZE as u16)
        // Bytes and words: every one of them in the first 256, where the kinds of registers are.
        .step_by(width.into())
        .filter(|at| width == 4 || u32::from(*at) < PCI_CFG_SPACE_SIZE)
        .filter(|at| !skip.contains(at))
        .map(|at| {
            let call = SystemCall::read(device, &mut buffer, start + u64::from(at));
            (at, call.instructions(FEW))
        })
        .collect()
}

/// Reads the dwords of a range.
fn reads_of(device: &Device, range: &Range<u16>) -> Sweep {
    let start = config_start(device);
    let mut buffer = [0; 4];
    range
        .clone()
        .step_by(4)
        .map(|at| {
            let call = SystemCall::read(device, &mut buffer, start + u64::from(at));
            (at, call.instructions(FEW))
        })
        .collect()
}

/// Accesses that reach the device when every dword is read.
fn accesses(endpoint: &Endpoint, device: &Device) -> u64 {
    let counters = endpoint.counted(|| {
        for at in (0..PCI_CFG_SPACE_EXP_SIZE as u16).step_by(4) {
            device.config_dword(at);
        }
    });
    counters.accesses()
}

/// Writes to every dword what is read there.
fn writes(device: &Device, skip: &Range<u16>) -> Sweep {
    let start = config_start(device);
    (0..PCI_CFG_SPACE_EXP_SIZE as u16)
        .step_by(4)
        .filter(|at| !skip.contains(at))
        .map(|at| {
            let buffer = device.config_dword(at).to_le_bytes();
            let call = SystemCall::write(device, &buffer, start + u64::from(at));
            (at, call.instructions(FEW))
        })
        .collect()
}

/// An info ioctl whose struct has the index in its third dword.
fn info(device: &Device, number: u32, index: u32) -> f64 {
    let mut bytes = vec![0u8; 1024];
    bytes[..4].copy_from_slice(&1024u32.to_ne_bytes());
    bytes[8..12].copy_from_slice(&index.to_ne_bytes());
    SystemCall::ioctl(device, number, bytes.as_mut_ptr()).instructions(MANY)
}

fn probe(device: &Device, feature: u32, works: bool) -> f64 {
    let mut bytes = feature_bytes(Op::ProbeGet.flags() | feature, FEATURE_HEADER as u32, &[]);
    let call = SystemCall::ioctl(device, DEVICE_FEATURE, bytes.as_mut_ptr());
    assert_eq!(call.result() == 0, works, "PROBE of feature {feature}");
    call.instructions_whatever(MANY)
}

fn map(device: &Device) -> Mapped {
    device
        .map_bar_as(BAR_MEMORY.into(), 0..MAPPED, ProtFlags::PROT_READ)
        .expect("mmap of BAR 2")
}

fn faults(device: &Device) -> f64 {
    let touch = |mapped: &Mapped| {
        let start = ticks();
        for page in (0..MAPPED).step_by(page_size()) {
            mapped.read(page);
        }
        ticks() - start
    };
    let with = least(|| touch(&map(device)));
    let mapped = map(device);
    touch(&mapped);
    let without = least(|| touch(&mapped));
    (with - without) as f64 / (MAPPED as f64 / page_size() as f64)
}

fn mappings(device: &Device) -> f64 {
    least(|| {
        let start = ticks();
        drop(map(device));
        ticks() - start
    }) as f64
}

/// From the device's message to the eventfd.
fn interrupt(device: &Device) -> f64 {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("eventfd");
    device
        .set_irqs(VFIO_PCI_MSIX_IRQ_INDEX, std::slice::from_ref(&event))
        .expect("SET_IRQS");
    Engine::new(device);
    let page = page_size() as u64;
    let start = ENGINE - ENGINE % page;
    let registers = device
        .map_bar(BAR_REGISTERS.into(), start..start + page)
        .expect("mmap of the engine");
    registers.write(INDEX - start, 0);
    let wait = |go: bool| {
        let before = ticks();
        registers.write(
            if go { COMMAND } else { HINT } - start,
            if go { command::INTERRUPT } else { 0 },
        );
        spin(ARRIVAL);
        ticks() - before
    };
    let with = least(|| loop {
        let ticks = wait(true);
        if event.read().is_ok() {
            break ticks;
        }
        // The emulator was late: not one to be counted.
        while event.read().is_err() {
            spin(ARRIVAL);
        }
    });
    let without = least(|| wait(false));
    device.free_msix();
    (with - without) as f64
}

fn costs(endpoint: &Endpoint, device: &Device, tph: &Range<u16>) -> Costs {
    let mut rows = Vec::new();
    let mut add = |operation, size: &str, instructions| {
        rows.push(Cost {
            operation,
            size: size.to_owned(),
            instructions,
        });
    };
    for (index, name) in [(0, "BAR 0"), (2, "BAR 2"), (7, "config space")] {
        add("region info", name, info(device, GET_REGION_INFO, index));
    }
    add("device info", "", info(device, GET_INFO, 0));
    add("interrupt info", "MSI-X", info(device, GET_IRQ_INFO, 2));
    let feature = probe(device, VFIO_DEVICE_FEATURE_DMA_BUF, true);
    add(
        "DEVICE_FEATURE of another feature",
        "PROBE DMA_BUF",
        feature,
    );
    let token = probe(device, VFIO_DEVICE_FEATURE_PCI_VF_TOKEN, false);
    add(
        "DEVICE_FEATURE of another feature",
        "PROBE VF_TOKEN, refused",
        token,
    );

    let bar = device.region(BAR_MEMORY.into()).expect("BAR 2").offset;
    let mut buffer = [0; 4];
    let read = SystemCall::read(device, &mut buffer, bar).instructions(MANY);
    add("BAR read", "4 bytes", read);
    let write = SystemCall::write(device, &buffer, bar).instructions(MANY);
    add("BAR write", "4 bytes", write);
    add("mmap and munmap of a BAR", "64 KiB", mappings(device));
    add("mmap fault", "1 page", faults(device));
    add("interrupt", "MSI-X to eventfd", interrupt(device));
    Costs {
        rows,
        reads: [1, 2, 4].map(|width| reads(device, width, tph)),
        writes: writes(device, tph),
        capability: reads_of(device, tph),
        accesses: accesses(endpoint, device),
    }
}

/// Where two sweeps differ most, and all places where vfio_tph takes more.
fn worst(operation: &str, size: &str, ours: &Sweep, theirs: &Sweep) -> Row {
    let ratio = |(ours, theirs): &(&(u16, f64), &(u16, f64))| ours.1 / theirs.1;
    let pairs = || ours.iter().zip(theirs);
    let (mine, stock) = pairs()
        .max_by(|a, b| ratio(a).total_cmp(&ratio(b)))
        .expect("config space is not empty");
    let above = pairs().filter(|pair| ratio(pair) > MOST).count();
    let detail = format!(
        "worst of {} at {:#x}; above {MOST} x: {above}",
        ours.len(),
        mine.0
    );
    row(operation, size, mine.1, stock.1).detail(vec![detail])
}

fn row(operation: &str, size: &str, ours: f64, theirs: f64) -> Row {
    Row::new(operation, size, "instructions", ours)
        .peer(STOCK, theirs)
        .limit(theirs, WHY)
}

/// The bytes of the TPH capability.
fn capability(endpoint: &Endpoint) -> Range<u16> {
    let tph = endpoint.tph();
    tph.offset..tph.offset + PCI_TPH_BASE_SIZEOF as u16 + 2 * tph.entries.len() as u16
}

/// All that is compared.
pub fn all(bench: &mut Bench) {
    let endpoint = bench.named("cap");
    let tph = capability(&endpoint);
    endpoint.bdf.bind(STOCK).expect(STOCK);
    let theirs = costs(&endpoint, &endpoint.open(), &tph);
    bench::bind(&endpoint, Gate::Safe);
    let ours = {
        let device = endpoint.open();
        device.enable(StMode::InterruptVector, Requester::Standard);
        costs(&endpoint, &device, &tph)
    };
    bench::bind(&endpoint, Gate::Unsafe);
    let disclosed = {
        let device = endpoint.open();
        device.enable(StMode::InterruptVector, Requester::Standard);
        reads_of(&device, &tph)
    };

    for (ours, theirs) in ours.rows.iter().zip(&theirs.rows) {
        row(
            ours.operation,
            &ours.size,
            ours.instructions,
            theirs.instructions,
        )
        .at_most_times(MOST)
        .print();
    }
    let sizes = [
        "every byte below 100h",
        "every word below 100h",
        "every dword",
    ];
    for ((size, ours), theirs) in sizes.iter().zip(&ours.reads).zip(&theirs.reads) {
        worst("config read", size, ours, theirs)
            .at_most_times(MOST)
            .print();
    }
    worst(
        "config read",
        "TPH capability",
        &ours.capability,
        &theirs.capability,
    )
    .at_most_times(MOST)
    .print();
    // Read again under a lock, so that nobody sees half a batch.
    worst(
        "config read",
        "TPH capability, tags disclosed",
        &disclosed,
        &theirs.capability,
    )
    .print();
    let elsewhere = theirs.accesses as f64 - f64::from(tph.end - tph.start) / 4.0;
    Row::new(
        "config read",
        "every dword",
        "device accesses",
        ours.accesses as f64,
    )
    .peer(STOCK, theirs.accesses as f64)
    .limit(elsewhere, "none for the capability, as ever for the rest")
    .exactly(elsewhere)
    .print();
    worst("config write", "every dword", &ours.writes, &theirs.writes)
        .at_most_times(MOST)
        .print();
}
