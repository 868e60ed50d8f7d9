// SPDX-License-Identifier: GPL-2.0-only

//! A guest that steers with its own kernel: its driver, modules/tph_guest.c, knows nothing but
//! the PCI core's API, and its tags are those of the guest's firmware, one for each vCPU. What the
//! endpoint holds and sends are the host's tags of the CPUs that the vCPUs stand for.
//!
//! The session "guest" gives QEMU and a kernel to the test VM.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::rc::Rc;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::firmware::CPUS;
use tph_selftests::module::Gate;
use tph_selftests::msix::Traits;
use tph_selftests::pci::{self, Bdf};
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::registers::{MSIX_ENTRY, MSIX_VECTOR_CONTROL};
use tph_selftests::protocol::{Access, Tag, TlpHint};
use tph_selftests::tph::{control, entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::OpenBy;
use tph_selftests::{harness, monitor, tests};
use tph_tests::guest::{Guest, Machine};
use tph_tests::tag;

/// CPUs of each guest. More of them take minutes to boot, TCG in TCG.
const VCPUS: u32 = 2;
/// Where they run.
const PLACES: [u32; VCPUS as usize] = [1, 0];
/// Where they run after they were moved: one on a CPU with a standard tag alone.
const OTHER_PLACES: [u32; VCPUS as usize] = [3, 1];

/// Whether QEMU says itself that its root port completes TPH.
fn qemu_is_patched() -> bool {
    env::var_os("NESTED_QEMU").is_some()
}

fn list(cpus: &[u32]) -> String {
    let cpus: Vec<String> = cpus.iter().map(u32::to_string).collect();
    cpus.join(",")
}

fn write_vcpus(bdf: &Bdf, text: &str) {
    let path = bdf.path("tph_vcpus");
    pci::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Runs the command line for administrators.
#[track_caller]
fn tphctl(words: &[&str]) {
    let output = Command::new("/bin/tphctl")
        .args(words)
        .output()
        .expect("tphctl");
    assert!(output.status.success(), "{words:?}: {output:?}");
}

/// The guest's firmware.
fn table() -> PathBuf {
    let path = Path::new("/tmp/guest.aml").to_owned();
    let (vcpus, file) = (VCPUS.to_string(), path.display().to_string());
    tphctl(&["guest-acpi", "--vcpus", &vcpus, "-o", &file]);
    path
}

/// A vector, as the guest's driver shows it.
#[derive(Clone, Copy, Debug)]
struct Vector {
    irq: u32,
    vcpu: u32,
}

/// A device that a guest steers.
struct Steered {
    endpoint: Rc<Endpoint>,
    /// The guest's address of it, and of the root port above.
    at: String,
    port: String,
    /// The TPH capability as the guest sees it.
    capability: u16,
    /// Where in the endpoint's log nothing was looked at yet.
    mark: u64,
    /// All CPUs that a vCPU stood for.
    allowed: Vec<u32>,
    requester: Requester,
    /// Where the vCPUs run.
    places: Vec<u32>,
}

impl Steered {
    fn file(&self, name: &str) -> String {
        format!("/sys/bus/pci/devices/{}/{name}", self.at)
    }

    /// The tag that the host has for a vCPU, or 0.
    fn tag_of(&self, vcpu: u32) -> u16 {
        let cpu = self.places[vcpu as usize];
        let extended = self.requester == Requester::Extended;
        tag(&CPUS[cpu as usize].volatile, extended).unwrap_or(0)
    }

    /// What the driver says: whether TPH is on, and its vectors.
    fn vectors(&self, guest: &mut Guest) -> (bool, Vec<Vector>) {
        let said = guest.ask(&format!("cat {}", self.file("vectors")));
        let mut lines = said.lines();
        let on = lines.next() == Some("tph 1");
        let vectors = lines.map(|line| {
            let words: Vec<&str> = line.split(' ').collect();
            let number = |at: usize| words[at].parse().unwrap_or_else(|_| panic!("{line}"));
            Vector {
                irq: number(2),
                vcpu: number(4),
            }
        });
        (on, vectors.collect())
    }

    /// The first entries of the table, as the guest's kernel reads them.
    fn entries(&self, guest: &mut Guest, count: usize) -> Vec<u16> {
        let config = self.file("config");
        words(&guest.ask(&format!(
            "od -An -v -tx2 -j {} -N {} {config}",
            entry_offset(self.capability, 0),
            2 * count
        )))
    }

    /// The hints of all that the device has written to memory.
    fn hints_after(&self, mark: u64) -> Vec<Option<TlpHint>> {
        let log = self.endpoint.log_after(mark).into_iter();
        log.filter_map(|entry| match entry.access {
            Access::DmaWrite { hint, .. } => Some(hint),
            _ => None,
        })
        .collect()
    }

    /// The hint of a request with the tag of a vCPU.
    fn hint_of(&self, vcpu: u32) -> Option<TlpHint> {
        let tag = self.tag_of(vcpu);
        let tag = match self.requester {
            Requester::Extended => Tag::Xst(tag),
            _ => Tag::St(tag as u8),
        };
        Some(TlpHint {
            ph: 0,
            tag: Some(tag),
        })
    }

    /// Fails the test unless table and requests have the host's tags of the CPUs that the vectors'
    /// vCPUs stand for, and the guest reads its own.
    #[track_caller]
    fn assert_steered(&mut self, guest: &mut Guest, when: &str) {
        let (on, vectors) = self.vectors(guest);
        assert!(on, "{when}: the guest's driver has no TPH");
        let wanted = control(StMode::InterruptVector, self.requester);
        assert_eq!(self.endpoint.control(), wanted, "{when}: Control");
        let mut expected: Vec<u16> = vectors.iter().map(|it| self.tag_of(it.vcpu)).collect();
        let entries = self.endpoint.entries();
        expected.resize(entries.len(), 0);
        assert_eq!(entries, expected, "{when}: {vectors:?}");
        let own: Vec<u16> = vectors.iter().map(|it| it.vcpu as u16 + 1).collect();
        let read = self.entries(guest, vectors.len());
        assert_eq!(read, own, "{when}: entries as they are read");
        let mark = self.endpoint.mark();
        guest.ask(&format!(
            "for n in $(seq 0 {}); do echo $n >{} || break; done",
            vectors.len() - 1,
            self.file("write")
        ));
        let expected: Vec<_> = vectors.iter().map(|it| self.hint_of(it.vcpu)).collect();
        assert_eq!(self.hints_after(mark), expected, "{when}: the requests");
        self.endpoint.assert_kernel_agrees();
        self.audit(when);
    }

    /// Fails the test if an entry was written since the last time with anything but a tag of a CPU
    /// that a vCPU stands for.
    #[track_caller]
    fn audit(&mut self, when: &str) {
        let is_known = |tag: u64| {
            tag == 0
                || self.allowed.iter().any(|&cpu| {
                    let tags = &CPUS[cpu as usize].volatile;
                    [true, false]
                        .map(|extended| tag_u64(tags, extended))
                        .contains(&Some(tag))
                })
        };
        let state = self.endpoint.state();
        let tph = state.tph.expect("TPH");
        let in_msix = tph.capability & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_MSIX;
        let first = u64::from(entry_offset(tph.offset, 0));
        let table = first..first + 2 * tph.entries.len() as u64;
        let vectors = state.msix.map_or(0, |msix| msix.entries.len() as u64);
        for entry in self.endpoint.log_after(self.mark) {
            let (value, width) = match entry.access {
                Access::ConfigWrite {
                    offset,
                    value,
                    width,
                } if table.contains(&offset) => (value, u64::from(width)),
                Access::MmioWrite {
                    bar: 0,
                    offset,
                    value,
                    width: 4,
                } if in_msix
                    && offset < vectors * MSIX_ENTRY
                    && offset % MSIX_ENTRY == MSIX_VECTOR_CONTROL =>
                {
                    (value >> 16, 2)
                }
                _ => continue,
            };
            for at in (0..width).step_by(2) {
                let tag = (value >> (8 * at)) & 0xffff;
                assert!(is_known(tag), "{when}: {tag:#x} was written: {entry:?}");
            }
        }
        self.mark = self.endpoint.mark();
    }

    /// Moves a vector of the guest to another of its CPUs.
    fn move_vector(&self, guest: &mut Guest, number: usize, vcpu: u32) {
        let (_, vectors) = self.vectors(guest);
        let irq = vectors[number].irq;
        guest.ask(&format!("echo {vcpu} >/proc/irq/{irq}/smp_affinity_list"));
    }

    /// Says which requests the guest's root port completes, unless QEMU does.
    fn complete(&mut self, guest: &mut Guest, requester: Requester) {
        let completer = match requester {
            Requester::Extended => 3,
            _ => 1,
        };
        guest.ask(&format!(
            "echo {} {completer} >/sys/kernel/debug/tph_rp/completer",
            self.port
        ));
        self.requester = requester;
    }
}

/// The numbers in what od prints.
fn words(said: &str) -> Vec<u16> {
    said.split_whitespace()
        .map(|word| u16::from_str_radix(word, 16).unwrap_or_else(|error| panic!("{said}: {error}")))
        .collect()
}

/// After a guest has booted: loads its driver, and what makes its root ports complete TPH unless
/// QEMU does.
fn begin(guest: &mut Guest, devices: &mut [Steered]) {
    if !qemu_is_patched() {
        guest.ask("insmod /modules/tph_rp.ko");
    }
    for device in devices {
        device.requester = Requester::Extended;
        if !qemu_is_patched() {
            device.complete(guest, Requester::Extended);
        }
    }
    guest.ask("insmod /modules/tph_guest.ko");
}

fn tag_u64(tags: &tph_selftests::firmware::Tags, extended: bool) -> Option<u64> {
    tag(tags, extended).map(u64::from)
}

/// The offset of the TPH capability as a user sees it.
fn capability(endpoint: &Endpoint) -> u16 {
    endpoint.open().find_tph().expect("a TPH capability")
}

/// Boots a guest whose vCPUs run where it is said, with devices that have the map of that.
fn boot(name: &str, endpoints: &[&Rc<Endpoint>], by: OpenBy) -> (Guest, Vec<Steered>) {
    let mut devices: Vec<Steered> = endpoints
        .iter()
        .map(|endpoint| {
            write_vcpus(&endpoint.bdf, &list(&PLACES));
            Steered {
                capability: capability(endpoint),
                mark: endpoint.mark(),
                endpoint: Rc::clone(endpoint),
                at: String::new(),
                port: String::new(),
                allowed: PLACES.to_vec(),
                requester: Requester::Extended,
                places: PLACES.to_vec(),
            }
        })
        .collect();
    let passed: Vec<_> = endpoints.iter().map(|it| &it.bdf).collect();
    let mut guest = Guest::boot(&Machine {
        name,
        devices: &passed,
        by,
        vcpus: VCPUS,
        table: Some(&table()),
    });
    guest.pin(&PLACES);
    for (number, device) in devices.iter_mut().enumerate() {
        (device.at, device.port) = guest.addresses(number);
    }
    begin(&mut guest, &mut devices);
    (guest, devices)
}

/// A device of each kind of table.
fn either_table(bench: &mut Bench) -> [Rc<Endpoint>; 2] {
    let inside = bench.take(Gate::Safe, &Want::TABLE);
    let in_msix = bench.pick_with("a table in MSI-X", |traits: &Traits| traits.in_msix);
    bench::bind(&in_msix, Gate::Safe);
    for endpoint in [&inside, &in_msix] {
        policy::bind(endpoint, Policy::IvSt);
    }
    [inside, in_msix]
}

/// Moves the vCPUs of a running guest, and says so as an administrator does.
fn move_vcpus(guest: &Guest, devices: &mut [Steered], places: &[u32]) {
    guest.pin(places);
    for device in devices {
        device.allowed.extend(places);
        device.places = places.to_vec();
        let (bdf, pid) = (device.endpoint.bdf.to_string(), guest.pid().to_string());
        tphctl(&["vcpus", &bdf, "--qemu", &pid]);
    }
}

/// The same while the device writes: with the one CPU's tag up to the call, with the other's after
/// it, and perhaps without any for a while, as entries change under a disabled requester.
fn move_vcpus_while_it_writes(guest: &mut Guest, device: &mut Steered, places: &[u32]) {
    let (_, vectors) = device.vectors(guest);
    let before = device.hint_of(vectors[0].vcpu);
    let start = device.endpoint.mark();
    let write = device.file("write");
    guest.ask(&format!("while echo 0 >{write}; do :; done & writer=$!"));
    monitor::wait_until(|| !device.hints_after(start).is_empty());
    move_vcpus(guest, std::slice::from_mut(device), places);
    let moved = device.endpoint.mark();
    monitor::wait_until(|| !device.hints_after(moved).is_empty());
    guest.ask("kill $writer; wait $writer || :");

    let after = device.hint_of(vectors[0].vcpu);
    assert_ne!(before, after, "nothing would be seen of this move");
    let mut hints = device.hints_after(start);
    assert_eq!(hints[0], before, "the first one came before the move");
    hints.dedup();
    hints.retain(Option::is_some);
    assert_eq!(hints, [before, after], "while the vCPUs were moved");
    let hints = device.hints_after(moved);
    assert!(hints.iter().all(|it| *it == after), "{hints:?}");
}

/// What a driver does with its device, in a guest that runs.
fn drive(guest: &mut Guest, device: &mut Steered) {
    let endpoint = Rc::clone(&device.endpoint);
    device.assert_steered(guest, "at the start");

    // As irqbalance, or its administrator, would have it.
    device.move_vector(guest, 0, 1);
    device.move_vector(guest, 3, 0);
    device.assert_steered(guest, "after vectors were moved");

    move_vcpus_while_it_writes(guest, device, &OTHER_PLACES);
    device.assert_steered(guest, "after vCPUs were moved");

    guest.ask(&format!("echo 0 >{}", device.file("tph")));
    assert_eq!(endpoint.control(), 0, "after the driver has disabled TPH");
    device.move_vector(guest, 0, 0);
    guest.ask(&format!("echo 1 >{}", device.file("tph")));
    device.assert_steered(guest, "enabled again");

    for keep in [0, 1] {
        let flr = endpoint.counters().flr;
        guest.ask(&format!(
            "echo {keep} >/sys/module/tph_guest/parameters/keep && echo 1 >{}",
            device.file("reset")
        ));
        assert!(endpoint.counters().flr > flr, "no FLR");
        device.assert_steered(guest, &format!("after FLR, keep={keep}"));
    }

    let driver = "/sys/bus/pci/drivers/tph_guest";
    guest.ask(&format!("echo {} >{driver}/unbind", device.at));
    assert_eq!(endpoint.control(), 0, "after unbind");
    if !qemu_is_patched() {
        device.complete(guest, Requester::Standard);
    }
    guest.ask(&format!("echo {} >{driver}/bind", device.at));
    device.assert_steered(guest, "bound again");
}

/// All that its driver does, on a device of each kind in one guest, which is killed with TPH on.
fn r96_either_table(bench: &mut Bench) {
    let endpoints = either_table(bench);
    let (mut guest, mut devices) = boot("steers", &endpoints.each_ref(), OpenBy::Group);
    for device in &mut devices {
        drive(&mut guest, device);
    }
    drop(guest);
    for endpoint in endpoints {
        endpoint.assert_off("the guest was killed");
    }
}

/// A guest that restarts with TPH on; its vCPUs stay where they were moved to.
fn r96_reboot(bench: &mut Bench) {
    let endpoints = either_table(bench);
    let (mut guest, mut devices) = boot("restarts", &endpoints.each_ref(), OpenBy::Cdev);
    move_vcpus(&guest, &mut devices, &OTHER_PLACES);
    for device in &mut devices {
        device.assert_steered(&mut guest, "before a reboot");
    }
    guest.reboot();
    for endpoint in &endpoints {
        endpoint.assert_off("the guest's reboot");
    }
    begin(&mut guest, &mut devices);
    for device in &mut devices {
        device.assert_steered(&mut guest, "after a reboot");
    }
}

/// Two guests on the same CPUs, each with a device and a map of its own.
fn r96_two_guests(bench: &mut Bench) {
    let one = bench.take(Gate::Safe, &Want::TABLE);
    let other = bench.take(Gate::Safe, &Want::TABLE);
    let (mut first, mut devices) = boot("first", &[&one], OpenBy::Group);
    let (mut second, mut others) = boot("second", &[&other], OpenBy::Cdev);
    move_vcpus(&second, &mut others, &OTHER_PLACES);
    devices[0].assert_steered(&mut first, "beside another guest");
    others[0].assert_steered(&mut second, "beside the first guest");
    drop(first);
    one.assert_off("the first guest was killed");
    others[0].assert_steered(&mut second, "alone");
    drop(second);
    other.assert_off("the second guest was killed");
}

/// The bytes of a number, as the guest's `config` takes them.
fn escaped(value: u32) -> String {
    value
        .to_le_bytes()
        .map(|byte| format!("\\0{byte:03o}"))
        .concat()
}

/// Past the guest's kernel: tags of the host, as a guest may have heard of them, in both
/// namespaces; beyond the map; and in Device Specific mode, which is not there.
fn write_past_the_kernel(guest: &mut Guest, device: &mut Steered) {
    let tph = device.capability;
    let at = device.at.clone();
    let control = tph + PCI_TPH_CTRL as u16;
    let entry = entry_offset(tph, 4);
    let used = [0x1100, 0x0010_1102, 0x0016_0012, 0xffff_0005, 0x0101_0100]
        .into_iter()
        .flat_map(|value| [(value, 0x301), (value, 0x101)]);
    let unused = [0x301, 0x302, 0x300].map(|mode| (0x1102_1100, mode));
    for (value, mode) in used.chain(unused) {
        let writes: String = [(control, 0), (entry, value), (control, mode)]
            .map(|(offset, value)| format!("config {at} {offset} '{}' && ", escaped(value)))
            .concat();
        let said = guest.ask(&format!("{writes} config {at} {entry}"));
        let what = format!("{value:#x}, Control {mode:#x}");
        let read = u32::from_str_radix(said.trim(), 16).expect("hexadecimal");
        assert_eq!(read, value, "{what}");
        assert_eq!(device.endpoint.entries()[4..6], [0, 0], "{what}");
        device.audit(&what);
    }
    // Where the table is in MSI-X, were this the host's.
    let entries = device.endpoint.entries();
    let file = device.file("control");
    guest.ask(&format!(
        "echo 1 11000000 >{file} && echo 2 00100000 >{file}"
    ));
    assert_eq!(device.endpoint.entries(), entries, "Vector Control");
    device.audit("Vector Control");
}

/// All that a guest can read of a device that holds the host's tags, and that reads otherwise when
/// it holds none.
fn read_everything(guest: &mut Guest, device: &mut Steered) {
    let (driver, at) = ("/sys/bus/pci/drivers/tph_guest", &device.at);
    let dump = format!("od -An -v -tx2 {}", device.file("config"));
    let reset = device.file("reset");
    let without = words(&guest.ask(&format!(
        "echo {at} >{driver}/unbind && echo 1 >{reset} && {dump}"
    )));
    device.endpoint.assert_tags(&[], "a reset");
    let with = words(&guest.ask(&format!("echo {at} >{driver}/bind && {dump}")));
    let mut held = device.endpoint.entries();
    held.retain(|&tag| tag != 0);
    assert!(!held.is_empty(), "no tags to look for");
    assert_eq!((with.len(), without.len()), (2048, 2048));
    for (place, (word, before)) in with.iter().zip(&without).enumerate() {
        let is_new = word != before;
        assert!(
            !is_new || !held.contains(word),
            "{word:#x} at {:#x}",
            2 * place
        );
    }
    let control = guest.ask(&format!("cat {}", device.file("control")));
    for line in control.lines() {
        let value = u32::from_str_radix(line, 16).expect("hexadecimal");
        assert_eq!(value >> 16, 0, "Vector Control: {control}");
    }
}

/// A guest that goes past its kernel: whatever it writes, the device holds tags of its map or
/// none, and whatever it reads is no tag of the host.
fn r97_nothing_of_the_host(bench: &mut Bench) {
    let endpoints = either_table(bench);
    let (mut guest, mut devices) = boot("curious", &endpoints.each_ref(), OpenBy::Cdev);
    for device in &mut devices {
        device.assert_steered(&mut guest, "before the attack");
        read_everything(&mut guest, device);
        write_past_the_kernel(&mut guest, device);
    }
}

fn main() -> ExitCode {
    // Two guests' memory, in large pages.
    let pages = fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    println!("# huge pages: {}", pages.trim());
    harness::run(tests![
        r96_either_table,
        r96_reboot,
        r96_two_guests,
        r97_nothing_of_the_host,
    ])
}
