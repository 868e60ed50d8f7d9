// SPDX-License-Identifier: GPL-2.0-only

//! The steps of the demo, in their order.

use std::fs;
use std::process::Command;

use tph_selftests::assert_errno;
use tph_selftests::bench::{bind, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::firmware::{Tags, CPUS};
use tph_selftests::kstate;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::protocol::{Access, Entry, Tag, TlpHint};
use tph_selftests::root_port;
use tph_selftests::tph::{self, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL;
use tph_selftests::uapi::vfio_tph::{
    VFIO_TPH_FLAG_EXTENDED, VFIO_TPH_FLAG_ST, VFIO_TPH_FLAG_ST_CAP, VFIO_TPH_MODE_IV,
    VFIO_TPH_MODE_NS, VFIO_TPH_POLICY_IV_ST,
};
use tph_selftests::vfio::{self, Device, Source, StRequest};

/// What a user asks for: the tag of the memory near a CPU.
#[derive(Clone, Copy)]
struct Target {
    cpu: u32,
    persistent: bool,
}

impl Target {
    const fn volatile(cpu: u32) -> Self {
        Self {
            cpu,
            persistent: false,
        }
    }

    const fn persistent(cpu: u32) -> Self {
        Self {
            cpu,
            persistent: true,
        }
    }

    fn source(self) -> Source {
        if self.persistent {
            vfio::cpu_persistent(self.cpu)
        } else {
            vfio::cpu(self.cpu)
        }
    }

    /// What firmware has for it.
    fn tags(self) -> Tags {
        let cpu = CPUS[self.cpu as usize];
        if self.persistent {
            cpu.persistent
        } else {
            cpu.volatile
        }
    }

    fn name(self) -> String {
        let memory = if self.persistent {
            "persistent"
        } else {
            "volatile"
        };
        format!("CPU {}, {memory} memory", self.cpu)
    }
}

/// What the test VM's firmware has extended tags for, all of them distinct and none 0.
const TARGETS: [Target; 5] = [
    Target::volatile(0),
    Target::volatile(1),
    Target::persistent(0),
    Target::persistent(1),
    Target::persistent(2),
];
/// A CPU that firmware has no extended tag for.
const TAGLESS: Target = Target::volatile(3);
/// The interrupt vector of the DMA write, and so its ST entry.
const VECTOR: u16 = 1;
/// Processing hint of the DMA write: Target, the host reads it soon.
const PH: u8 = 0b10;
/// What it writes.
const TEXT: [u8; 8] = *b"steered!";
/// Where the device finds the buffer.
const IOVA: u64 = 0x1_0000_0000;

/// Tells the whole story; returns what it came to.
pub fn run() -> String {
    let mut bench = Bench::new(&[]);
    let endpoint = bench.pick(&Want::TABLE);

    show(&endpoint);
    let device = open(&endpoint);
    enable(&endpoint, &device);
    program(&endpoint, &device);
    refuse(&endpoint, &device);
    let tag = write(&endpoint, &device);
    drop(device);
    closed(&endpoint);
    bench.check();
    format!(
        "{} entries programmed unseen, a DMA write steered by tag {tag:#06x}, nothing left behind",
        TARGETS.len()
    )
}

fn heading(text: &str) {
    println!("\n{text}");
}

/// The device as an administrator sees it.
fn show(endpoint: &Endpoint) {
    let bdf = endpoint.bdf.to_string();
    println!("The device: lspci -vv -s {bdf}");
    let output = Command::new("lspci")
        .args(["-vv", "-s", &bdf])
        .output()
        .expect("lspci");
    let text = String::from_utf8_lossy(&output.stdout);
    let capability = text
        .lines()
        .skip_while(|line| !line.contains("Transaction Processing Hints"));
    let body = capability
        .clone()
        .skip(1)
        .take_while(|line| line.starts_with("\t\t"));
    let lines: Vec<&str> = text.lines().take(1).chain(capability.take(1)).collect();
    assert_eq!(lines.len(), 2, "lspci shows no TPH: {text}");
    lines
        .into_iter()
        .chain(body)
        .for_each(|line| println!("  {}", line.replace('\t', "  ").trim_end()));

    let port = endpoint.bdf.root_port().expect("a root port above");
    assert_eq!(root_port::completer(&port), root_port::EXTENDED);
    println!("  below root port {port}, which completes TPH and extended TPH");
}

/// Bound and opened, with the gate as it is by default.
fn open(endpoint: &Endpoint) -> Device {
    heading("Bound by driver_override, opened by its character device and iommufd");
    bind(endpoint, Gate::Safe);
    let gate = module::parameter(VFIO_TPH, "enable_unsafe_tph");
    assert_eq!(gate, "N");
    let policy = fs::read_to_string(endpoint.bdf.path("tph_policy")).expect("tph_policy");
    assert_eq!(policy, "iv_st\n");
    println!("  enable_unsafe_tph={gate}, so tph_policy is iv_st: tags are given, never seen");

    let device = endpoint.open();
    let offer = device.tph().expect("VFIO_DEVICE_FEATURE_TPH");
    let entries = endpoint.entries().len();
    assert_eq!(u32::from(offer.policy), VFIO_TPH_POLICY_IV_ST);
    assert_eq!(usize::from(offer.st_entries), entries);
    assert_eq!(
        u32::from(offer.modes),
        VFIO_TPH_MODE_NS | VFIO_TPH_MODE_IV,
        "modes"
    );
    assert_eq!(
        offer.flags,
        VFIO_TPH_FLAG_EXTENDED | VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_ST,
        "flags"
    );
    println!("  offered: No ST and Interrupt Vector mode, {entries} ST entries, extended tags");
    device
}

/// Control, written and read as any register of config space.
fn enable(endpoint: &Endpoint, device: &Device) {
    let at = device.tph_offset() + PCI_TPH_CTRL as u16;
    heading("Interrupt Vector mode, Requester Enable 11b: a dword written to config space");
    let before = device.control();
    assert_eq!(before, 0);
    device.enable(StMode::InterruptVector, Requester::Extended);
    let asked = tph::control(StMode::InterruptVector, Requester::Extended);
    let held = endpoint.registers().control;
    assert!(held == asked, "Control: {held:#x}, not {asked:#x}");
    endpoint.assert_kernel_agrees();
    println!(
        "  Control at {at:#x}: was {before:#06x}, written {asked:#06x}, \
         reads {:#06x}, the endpoint holds {held:#06x}",
        device.control()
    );
}

/// Entries given to CPUs, and what everybody makes of it.
fn program(endpoint: &Endpoint, device: &Device) {
    heading("ST entries given to CPUs: one VFIO_DEVICE_FEATURE_TPH_ST call, extended tags");
    let asked_firmware = kstate::dsm_evaluations();
    endpoint.reset_counters();
    let sources = TARGETS.map(Target::source);
    device.program_extended(0, &sources).expect("TPH_ST");
    let counters = endpoint.counters();
    let asked_firmware = kstate::dsm_evaluations() - asked_firmware;

    let held = endpoint.entries();
    let capability = device.tph_offset();
    println!("  entry  the user asked for        firmware says  endpoint holds  user reads");
    for (index, target) in (0..).zip(TARGETS) {
        let said = target.tags().xst.expect("an extended tag");
        let got = held[usize::from(index)];
        let seen = device.config_word(tph::entry_offset(capability, index));
        let name = target.name();
        println!("  {index:5}  {name:24}  {said:#06x}         {got:#06x}          {seen:#06x}");
        assert!(got == said, "entry {index}: {got:#06x}, not {said:#06x}");
        assert!(seen == 0, "entry {index}: the user sees {seen:#06x}");
    }
    let rest = &held[TARGETS.len()..];
    assert!(rest.iter().all(|&tag| tag == 0), "the rest: {rest:x?}");

    let mut cpus = TARGETS.map(|target| target.cpu).to_vec();
    cpus.sort_unstable();
    cpus.dedup();
    assert_eq!(asked_firmware, cpus.len() as u64, "firmware queries");
    let accesses = counters.config();
    let limit = TARGETS.len().div_ceil(2) + 4;
    assert!(
        accesses <= limit as u64,
        "{accesses} config accesses, at most {limit}"
    );
    println!(
        "  cost: {accesses} config accesses, firmware asked once for each of {} CPUs",
        cpus.len()
    );
}

/// What does not work, and leaves everything as it is.
fn refuse(endpoint: &Endpoint, device: &Device) {
    heading("Refused, with the table left as it was");
    let before = endpoint.registers();

    assert_eq!(TAGLESS.tags().xst, None, "firmware's table");
    let sources = [Target::volatile(1).source(), TAGLESS.source()];
    let mut batch = StRequest::new(0, &sources).extended();
    assert_errno!(device.tph_st(&mut batch), EOPNOTSUPP);
    assert_eq!(batch.fault, 1, "fault");
    println!(
        "  EOPNOTSUPP  CPU 1 and CPU {}: firmware has no extended tag for the second, fault = {}",
        TAGLESS.cpu, batch.fault
    );

    let tag = TARGETS[0].tags().xst.expect("an extended tag");
    let mut literal = StRequest::new(0, &[vfio::literal(tag.into())]).extended();
    assert_errno!(device.tph_st(&mut literal), EPERM);
    assert_eq!(literal.fault, 0, "fault");
    println!("  EPERM       LITERAL {tag:#06x}: under iv_st no user chooses a tag");

    assert_eq!(endpoint.registers(), before, "the endpoint");
}

/// One DMA write into our memory, and the tag that it carried.
fn write(endpoint: &Endpoint, device: &Device) -> u16 {
    heading("One DMA write by the endpoint into memory of this process, as its log has it");
    let mapping = device.map_dma(1, IOVA).expect("a mapped page");
    let engine = Engine::new(device);
    let target = TARGETS[usize::from(VECTOR)];
    let tag = target.tags().xst.expect("an extended tag");
    let hint = Some(TlpHint {
        ph: PH,
        tag: Some(Tag::Xst(tag)),
    });

    let mark = endpoint.mark();
    let value = u64::from_le_bytes(TEXT);
    let sent = engine.write(mapping.iova, value, PH, TagFrom::Vector(VECTOR));
    assert_eq!(sent, hint, "the hint of the request");
    let log = endpoint.log_after(mark);
    let requests: Vec<&Entry> = log
        .iter()
        .filter(|entry| matches!(entry.access, Access::DmaWrite { .. }))
        .collect();
    let [request] = requests[..] else {
        panic!("not one DMA write: {requests:?}");
    };
    let expected = Access::DmaWrite {
        offset: IOVA,
        width: TEXT.len() as u32,
        value,
        hint,
    };
    assert_eq!(request.access, expected, "the endpoint's log");
    println!(
        "  log entry {}: {} bytes to {IOVA:#x}, PH {PH:02b}b, XST {tag:#06x}, \
         by ST entry {VECTOR}: {}",
        request.seq,
        TEXT.len(),
        target.name()
    );

    let memory = mapping.pages.read(0, mapping.pages.length());
    let (written, rest) = memory.split_at(TEXT.len());
    assert_eq!(written, TEXT, "what arrived in memory");
    assert!(rest.iter().all(|&byte| byte == 0), "written past the end");
    println!(
        "  memory: \"{}\" has arrived, and nothing else",
        String::from_utf8_lossy(written)
    );
    tag
}

/// What the next user finds.
fn closed(endpoint: &Endpoint) {
    heading("Closed");
    endpoint.assert_off("close");
    println!("  Control 0, all entries 0, TPH off in the kernel's books");
}
