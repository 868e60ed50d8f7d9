// SPDX-License-Identifier: GPL-2.0-only

//! What a guest's entry costs: beside TPH_ST of one entry, and by how much the table holds.

use tph_bench::Row;
use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::tph::{control, entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL;
use tph_selftests::vfio::{cpu, Device};

use crate::clock::SystemCall;
use crate::table::Batch;

const ENTRIES: u16 = 64;
const OFF: u32 = control(StMode::InterruptVector, Requester::Disabled);
const ON: u32 = control(StMode::InterruptVector, Requester::Standard);

/// Accesses and instructions.
struct Cost {
    accesses: f64,
    instructions: f64,
}

fn accesses(endpoint: &Endpoint, body: impl FnOnce()) -> f64 {
    endpoint.counted(body).accesses() as f64
}

/// A write to config space.
struct Write {
    bytes: Vec<u8>,
    position: u64,
}

impl Write {
    fn entry(device: &Device, index: u16, tag: u16) -> Self {
        Self {
            bytes: tag.to_le_bytes().to_vec(),
            position: device.position(entry_offset(device.tph_offset(), index)),
        }
    }

    fn control(device: &Device, value: u32) -> Self {
        Self {
            bytes: value.to_le_bytes().to_vec(),
            position: device.position(device.tph_offset() + PCI_TPH_CTRL as u16),
        }
    }

    fn call(&self, device: &Device) -> SystemCall {
        SystemCall::write(device, &self.bytes, self.position)
    }
}

/// What a guest does for one entry.
#[derive(Clone, Copy)]
struct Way {
    /// Whether it is written at all.
    entry: bool,
    /// Whether TPH is disabled before, and enabled after it.
    around: bool,
}

/// One entry that changes, in a sequence of writes.
fn change(endpoint: &Endpoint, device: &Device, index: u16, way: Way) -> Cost {
    let (off, on) = (Write::control(device, OFF), Write::control(device, ON));
    let [one, other] = [1, 2].map(|tag| Write::entry(device, index, tag));
    let sequence = |entry: &Write| -> Vec<SystemCall> {
        let mut calls = Vec::new();
        calls.extend(way.around.then(|| off.call(device)));
        calls.extend(way.entry.then(|| entry.call(device)));
        calls.extend(way.around.then(|| on.call(device)));
        calls
    };
    let (before, after) = (sequence(&one), sequence(&other));
    let make = |calls: &[SystemCall]| {
        for call in calls {
            assert!(call.result() > 0, "{call:?}");
        }
    };
    let instructions = SystemCall::instructions_after(&after, || make(&before));
    make(&before);
    let accesses = accesses(endpoint, || make(&after));
    Cost {
        accesses,
        instructions,
    }
}

fn of_device(bench: &mut Bench, name: &str, vectors: bool, place: &str) {
    let endpoint = bench.named(name);
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    if vectors {
        device
            .set_msix(0, &vec![-1; ENTRIES.into()])
            .expect("SET_IRQS of 64 vectors");
    }
    device.enable(StMode::InterruptVector, Requester::Standard);
    let mut batch = Batch::new(1);
    let call = batch.call(&device);
    let by_call = Cost {
        instructions: call.instructions(1),
        accesses: accesses(&endpoint, || assert_eq!(call.result(), 0)),
    };
    device.set_control(OFF);
    device.set_map(&[cpu(0), cpu(1)]).expect("TPH_MAP");
    device.set_control(ON);

    let way = |entry, around| Way { entry, around };
    let enabled = change(&endpoint, &device, 0, way(true, false));
    let empty = change(&endpoint, &device, 0, way(true, true));
    let at = entry_offset(device.tph_offset(), 0);
    device.set_config(at, &[1, 0].repeat(ENTRIES.into()));
    let full = change(&endpoint, &device, 1, way(true, true));
    let around = change(&endpoint, &device, 1, way(false, true));

    let operation = format!("a guest's entry, table in {place}");
    let row = |size: &str, what: &str, ours: f64, peer: &str, theirs: f64| {
        Row::new(&operation, size, what, ours).peer(peer, theirs)
    };
    let one = "TPH_ST of 1 entry";
    row(
        "enabled",
        "accesses",
        enabled.accesses,
        one,
        by_call.accesses,
    )
    .exactly(by_call.accesses)
    .print();
    row(
        "enabled",
        "instructions",
        enabled.instructions,
        one,
        by_call.instructions,
    )
    .at_most_times(1.1)
    .print();
    let size = "within disable, enable; 64 entries";
    let accesses = full.accesses - around.accesses;
    row(size, "accesses", accesses, one, by_call.accesses)
        .at_most(by_call.accesses)
        .print();
    let instructions = full.instructions - around.instructions;
    row(
        size,
        "instructions",
        instructions,
        one,
        by_call.instructions,
    )
    .at_most_times(1.1)
    .print();
    let (way, other) = ("disable, write, enable; 64 entries", "1 entry");
    row(way, "accesses", full.accesses, other, empty.accesses)
        // A reset would have cleared the others: one of them is looked at.
        .at_most(empty.accesses + 1.0)
        .print();
    row(
        way,
        "instructions",
        full.instructions,
        other,
        empty.instructions,
    )
    .at_most_times(1.2)
    .print();
    endpoint.check();
}

/// All of it.
pub fn all(bench: &mut Bench) {
    of_device(bench, "cap", false, "the capability");
    of_device(bench, "msix", true, "MSI-X");
}
