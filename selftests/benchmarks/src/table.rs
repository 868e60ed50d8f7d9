// SPDX-License-Identifier: GPL-2.0-only

//! TPH_ST against a loop over pcie_tph_set_st_entry(): accesses and instructions, over size.

use std::rc::Rc;

use tph_bench::{point, Row};
use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::kernel;
use tph_selftests::module::Gate;
use tph_selftests::protocol::Counters;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL;
use tph_selftests::uapi::vfio_tph::VFIO_DEVICE_FEATURE_TPH_ST;
use tph_selftests::vfio::{cpu, feature_bytes, Device, Op, StRequest, FEATURE_HEADER};

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_MSIX_IRQ_INDEX,
};

use crate::clock::SystemCall;
use crate::peer::CPath;
use crate::DEVICE_FEATURE;

/// Number of `VFIO_DEVICE_SET_IRQS`.
const SET_IRQS: u32 = 10;
const PEER: &str = "pcie_tph_set_st_entry()";

/// Accesses and instructions of one batch.
#[derive(Clone, Copy)]
struct Cost {
    config: f64,
    mmio: f64,
    instructions: f64,
}

impl Cost {
    fn new(counters: &Counters, instructions: f64) -> Self {
        Self {
            config: counters.config() as f64,
            mmio: counters.mmio() as f64,
            instructions,
        }
    }

    fn accesses(&self) -> f64 {
        self.config + self.mmio
    }
}

/// A TPH_ST of the first `count` entries, and the memory that it is in.
pub struct Batch {
    bytes: Vec<u8>,
}

impl Batch {
    /// All of them for CPU 0.
    pub fn new(count: u16) -> Self {
        Self::at(0, count)
    }

    /// The same for `count` entries from `index` on.
    fn at(index: u16, count: u16) -> Self {
        let data = StRequest::new(index, &vec![cpu(0); count.into()]).bytes();
        let flags = Op::Set.flags() | VFIO_DEVICE_FEATURE_TPH_ST;
        Self {
            bytes: feature_bytes(flags, (FEATURE_HEADER + data.len()) as u32, &data),
        }
    }

    /// The system call that programs them.
    pub fn call(&mut self, device: &Device) -> SystemCall {
        SystemCall::ioctl(device, DEVICE_FEATURE, self.bytes.as_mut_ptr())
    }
}

fn batch(endpoint: &Endpoint, device: &Device, count: u16) -> Cost {
    let mut batch = Batch::new(count);
    let call = batch.call(device);
    let instructions = call.instructions(1);
    endpoint.reset_counters();
    assert_eq!(call.result(), 0, "TPH_ST of {count} entries");
    Cost::new(&endpoint.counters(), instructions)
}

fn c_path(endpoint: &Endpoint, path: &CPath, count: u16) -> Cost {
    let instructions = (0..3).map(|_| path.set(count)).min().expect("some runs");
    endpoint.reset_counters();
    path.set(count);
    Cost::new(&endpoint.counters(), instructions as f64)
}

fn costs(
    bench: &mut Bench,
    name: &str,
    vectors: Option<u16>,
    sizes: &[u16],
) -> Vec<(u16, Cost, Cost)> {
    let endpoint: Rc<Endpoint> = bench.named(name);
    let theirs: Vec<Cost> = {
        let path = CPath::enabled(&endpoint.bdf);
        if let Some(count) = vectors {
            path.vectors(count);
        }
        let sizes = sizes.iter();
        sizes
            .map(|&count| c_path(&endpoint, &path, count))
            .collect()
    };
    // The C path writes entries while it is another's turn to judge them.
    endpoint.clear_violations();

    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    if let Some(count) = vectors {
        device
            .set_msix(0, &vec![-1; count.into()])
            .expect("SET_IRQS of all vectors");
    }
    device.enable(StMode::InterruptVector, Requester::Standard);
    let rows = sizes
        .iter()
        .zip(theirs)
        .map(|(&count, theirs)| (count, batch(&endpoint, &device, count), theirs))
        .collect();
    endpoint.check();
    rows
}

/// The row of what a batch costs in the kernel. The peer is called in there, for one entry each
/// time: a batch has a system call to pay for, which one entry alone does not make up for.
fn instructions(operation: &str, size: &str, ours: &Cost, theirs: &Cost, count: u16) {
    let row = Row::new(operation, size, "instructions", ours.instructions)
        .peer(PEER, theirs.instructions);
    match count {
        1 => row,
        _ => row.less_than_peer(),
    }
    .print();
}

/// Whether a user who may see tags pays for more than those that are written.
pub fn disclosed(bench: &mut Bench) {
    let endpoint = bench.named("cap");
    let [hidden, shown] = Gate::BOTH.map(|gate| {
        bench::bind(&endpoint, gate);
        let device = endpoint.open();
        device.enable(StMode::InterruptVector, Requester::Standard);
        batch(&endpoint, &device, 1).instructions
    });
    Row::new(
        "TPH_ST, table in the capability, tags disclosed",
        "1 of 64 entries",
        "instructions",
        shown,
    )
    .peer("tags not disclosed", hidden)
    .limit(hidden, "only what is written is shown")
    .at_most_times(1.05)
    .print();
    endpoint.check();
}

/// A table in the capability.
pub fn in_capability(bench: &mut Bench, plots: bool) {
    let mut sizes = vec![1, 8, 64];
    if plots {
        sizes.extend((4..64).step_by(4));
    }
    sizes.sort_unstable();
    sizes.dedup();
    for (count, ours, theirs) in costs(bench, "cap", None, &sizes) {
        let n = f64::from(count);
        let limit = (n / 2.0).ceil() + 2.0;
        if matches!(count, 1 | 8 | 64) {
            let operation = "TPH_ST, table in the capability";
            let size = format!("{count} entries");
            Row::new(operation, &size, "config accesses", ours.config)
                .peer(PEER, theirs.config)
                .limit(limit, "a dword holds two entries; disable, enable")
                .at_most((n / 2.0).ceil() + 4.0)
                .print();
            instructions(operation, &size, &ours, &theirs, count);
        }
        point("st-capability", "vfio_tph", n, ours.config);
        point("st-capability", PEER, n, theirs.config);
        point("st-capability", "limit", n, limit);
    }
}

/// The kernel's part of a batch in MSI-X, if the kernel has one for many vectors.
fn tags_at_once(bench: &mut Bench) {
    const MOST: f64 = 250.0;
    if !kernel::has("pci_msix_write_tph_tags") {
        return;
    }
    let endpoint = bench.named("msix");
    let path = CPath::enabled(&endpoint.bdf);
    path.vectors(2048);
    for count in [64, 2048] {
        let runs = (0..3).map(|_| path.write_tags(count));
        let instructions = runs.min().expect("some runs") as f64 / f64::from(count);
        Row::new(
            "pci_msix_write_tph_tags()",
            format!("{count} vectors"),
            "instructions a vector",
            instructions,
        )
        .at_most(MOST)
        .print();
    }
    // It leaves the requester alone, which is up to the caller.
    endpoint.clear_violations();
}

/// A table in MSI-X.
pub fn in_msix(bench: &mut Bench, plots: bool) {
    tags_at_once(bench);
    let mut sizes = vec![1, 64, 2048];
    if plots {
        sizes.extend((256..2048).step_by(256));
    }
    sizes.sort_unstable();
    sizes.dedup();
    for (count, ours, theirs) in costs(bench, "msix", Some(2048), &sizes) {
        let n = f64::from(count);
        let limit = n + 3.0;
        if matches!(count, 1 | 64 | 2048) {
            let operation = "TPH_ST, table in MSI-X";
            let size = format!("{count} vectors");
            let detail = format!("{} config, {} MMIO", ours.config, ours.mmio);
            let peer = format!("{PEER}: {} config, {} MMIO", theirs.config, theirs.mmio);
            Row::new(operation, &size, "accesses", ours.accesses())
                .peer(PEER, theirs.accesses())
                .limit(limit, "a write for each vector, one flush, disable, enable")
                // Besides, whether the table is decoded, and what the device has, before and after.
                .at_most(limit + 3.0)
                .detail(vec![detail, peer])
                .print();
            instructions(operation, &size, &ours, &theirs, count);
        }
        point("st-msix", "vfio_tph", n, ours.accesses());
        point("st-msix", PEER, n, theirs.accesses());
        point("st-msix", "limit", n, limit);
        point("st-msix-instructions", "vfio_tph", n, ours.instructions);
        point("st-msix-instructions", PEER, n, theirs.instructions);
    }
}

/// The argument of SET_IRQS that leaves an MSI-X vector without an event.
fn irq_set(vector: u16) -> Vec<u8> {
    let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD;
    [
        24,
        flags,
        VFIO_PCI_MSIX_IRQ_INDEX,
        vector.into(),
        1,
        u32::MAX,
    ]
    .iter()
    .flat_map(|word| word.to_ne_bytes())
    .collect()
}

/// What one vector takes of a device that has some.
struct OneOf {
    program: f64,
    enable: f64,
    irqs: f64,
}

impl OneOf {
    /// The last vector, whose tag is the only one.
    fn measure(bench: &mut Bench, name: &str, vectors: u16) -> Self {
        let endpoint = bench.named(name);
        bench::bind(&endpoint, Gate::Safe);
        let device = endpoint.open();
        device
            .set_msix(0, &vec![-1; vectors.into()])
            .expect("SET_IRQS of all vectors");
        device.enable(StMode::InterruptVector, Requester::Standard);
        let program = Batch::at(vectors - 1, 1).call(&device).instructions(1);

        let [off, on] = [Requester::Disabled, Requester::Standard]
            .map(|requester| control(StMode::InterruptVector, requester).to_le_bytes());
        let position = device.position(device.tph_offset() + PCI_TPH_CTRL as u16);
        let [off, on] = [&off, &on].map(|bytes| SystemCall::write(&device, bytes, position));
        let enable = SystemCall::instructions_after(&[on], || assert_eq!(off.result(), 4));

        let mut argument = irq_set(vectors - 1);
        let irqs = SystemCall::ioctl(&device, SET_IRQS, argument.as_mut_ptr()).instructions(1);
        endpoint.check();
        Self {
            program,
            enable,
            irqs,
        }
    }
}

/// What is done to one vector does not look at all that there are.
pub fn one_of_many(bench: &mut Bench) {
    let few = OneOf::measure(bench, "msix16", 16);
    let many = OneOf::measure(bench, "msix", 2048);
    let row = |operation, ours, peer| {
        Row::new(operation, "1 of 2048 vectors", "instructions", ours).peer("1 of 16 vectors", peer)
    };
    row("TPH_ST, table in MSI-X", many.program, few.program)
        .at_most_times(1.25)
        .print();
    row("enable, table in MSI-X", many.enable, few.enable)
        // The tag that is looked at is found in a bitmap, 64 vectors at a time.
        .at_most_times(1.5)
        .print();
    row("SET_IRQS, table in MSI-X", many.irqs, few.irqs).print();
}
