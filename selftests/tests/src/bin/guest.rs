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
use tph_selftests::{harness, tests};
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

    /// A dword of config space, as the guest's kernel reads it.
    fn config(&self, guest: &mut Guest, offset: u16) -> u32 {
        let said = guest.ask(&format!("config {} {offset}", self.at));
        u32::from_str_radix(said.trim(), 16).unwrap_or_else(|error| panic!("{said}: {error}"))
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
        for (number, vector) in vectors.iter().enumerate() {
            let at = entry_offset(self.capability, number as u16);
            let dword = self.config(guest, at & !3);
            let seen = (dword >> (8 * (at & 3))) & 0xffff;
            assert_eq!(
                seen,
                vector.vcpu + 1,
                "{when}: entry {number} as it is read"
            );
        }
        let mark = self.endpoint.mark();
        for number in 0..vectors.len() {
            guest.ask(&format!("echo {number} >{}", self.file("write")));
        }
        let hints: Vec<Option<TlpHint>> = self
            .endpoint
            .log_after(mark)
            .into_iter()
            .filter_map(|entry| match entry.access {
                Access::DmaWrite { hint, .. } => Some(hint),
                _ => None,
            })
            .collect();
        let expected: Vec<Option<TlpHint>> = expected[..vectors.len()]
            .iter()
            .map(|&tag| {
                let tag = match self.requester {
                    Requester::Extended => Tag::Xst(tag),
                    _ => Tag::St(tag as u8),
                };
                Some(TlpHint {
                    ph: 0,
                    tag: Some(tag),
                })
            })
            .collect();
        assert_eq!(hints, expected, "{when}: the requests");
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
        let (_, vectors) = self.vectors(guest);
        assert_eq!(vectors[number].vcpu, vcpu, "{vectors:?}");
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

    /// After a guest has booted: finds it there, and loads its driver.
    fn begin(&mut self, guest: &mut Guest) {
        self.requester = Requester::Extended;
        if !qemu_is_patched() {
            self.complete(guest, Requester::Extended);
        }
        guest.ask("test -d /sys/module/tph_guest || insmod /modules/tph_guest.ko");
    }
}

fn tag_u64(tags: &tph_selftests::firmware::Tags, extended: bool) -> Option<u64> {
    tag(tags, extended).map(u64::from)
}

/// The offset of the TPH capability as a user sees it.
fn capability(endpoint: &Endpoint) -> u16 {
    endpoint.open().find_tph().expect("a TPH capability")
}

/// Boots a guest whose vCPUs run where it is said, with one device that has the map of that.
fn boot(endpoint: &Rc<Endpoint>, name: &str, by: OpenBy) -> (Guest, Steered) {
    write_vcpus(&endpoint.bdf, &list(&PLACES));
    let capability = capability(endpoint);
    let mark = endpoint.mark();
    let mut guest = Guest::boot(&Machine {
        name,
        devices: &[&endpoint.bdf],
        by,
        vcpus: VCPUS,
        table: Some(&table()),
    });
    guest.pin(&PLACES);
    let (at, port) = guest.addresses(0);
    let mut device = Steered {
        endpoint: Rc::clone(endpoint),
        at,
        port,
        capability,
        mark,
        allowed: PLACES.to_vec(),
        requester: Requester::Extended,
        places: PLACES.to_vec(),
    };
    device.begin(&mut guest);
    (guest, device)
}

/// Moves the vCPUs of a running guest, and says so as an administrator does.
fn move_vcpus(guest: &Guest, device: &mut Steered, places: &[u32]) {
    guest.pin(places);
    device.allowed.extend(places);
    device.places = places.to_vec();
    let (bdf, pid) = (device.endpoint.bdf.to_string(), guest.pid().to_string());
    tphctl(&["vcpus", &bdf, "--qemu", &pid]);
}

/// What a guest does with its device, from its boot to its end.
fn a_guests_life(endpoint: &Rc<Endpoint>, by: OpenBy) {
    let (mut guest, mut device) = boot(endpoint, "steers", by);
    let (guest, device) = (&mut guest, &mut device);
    device.assert_steered(guest, "at the start");

    // As irqbalance, or its administrator, would have it.
    device.move_vector(guest, 0, 1);
    device.move_vector(guest, 3, 0);
    device.assert_steered(guest, "after vectors were moved");

    move_vcpus(guest, device, &OTHER_PLACES);
    device.assert_steered(guest, "after vCPUs were moved");

    guest.ask(&format!("echo 0 >{}", device.file("tph")));
    assert_eq!(endpoint.control(), 0, "after the driver has disabled TPH");
    device.move_vector(guest, 0, 0);
    guest.ask(&format!("echo 1 >{}", device.file("tph")));
    device.assert_steered(guest, "enabled again");

    for keep in [0, 1] {
        guest.ask(&format!(
            "echo {keep} >/sys/module/tph_guest/parameters/keep"
        ));
        let flr = endpoint.counters().flr;
        guest.ask(&format!("echo 1 >{}", device.file("reset")));
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

    guest.reboot();
    endpoint.assert_off("the guest's reboot");
    device.begin(guest);
    device.assert_steered(guest, "after a reboot");
    // With TPH on, into the end of the guest.
}

fn r96_table_in_the_capability(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    policy::bind(&endpoint, Policy::IvSt);
    a_guests_life(&endpoint, OpenBy::Group);
    endpoint.assert_off("the guest was killed");
}

fn r96_table_in_msix(bench: &mut Bench) {
    let endpoint = bench.pick_with("a table in MSI-X", |traits: &Traits| traits.in_msix);
    bench::bind(&endpoint, Gate::Safe);
    a_guests_life(&endpoint, OpenBy::Cdev);
    endpoint.assert_off("the guest was killed");
}

/// Two guests on the same CPUs, each with a device and a map of its own.
fn r96_two_guests(bench: &mut Bench) {
    let one = bench.take(Gate::Safe, &Want::TABLE);
    let other = bench.take(Gate::Safe, &Want::TABLE);
    let (mut first, mut first_device) = boot(&one, "first", OpenBy::Group);
    let (mut second, mut second_device) = boot(&other, "second", OpenBy::Group);
    move_vcpus(&second, &mut second_device, &OTHER_PLACES);
    first_device.assert_steered(&mut first, "beside another guest");
    second_device.assert_steered(&mut second, "beside the first guest");
    drop(first);
    one.assert_off("the first guest was killed");
    second_device.assert_steered(&mut second, "alone");
    drop(second);
    other.assert_off("the second guest was killed");
}

/// A guest that goes past its kernel: whatever it writes, the device holds tags of its map or
/// none, and whatever it reads is no tag of the host.
fn r97_nothing_of_the_host(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    let (mut guest, mut device) = boot(&endpoint, "curious", OpenBy::Group);
    device.assert_steered(&mut guest, "before the attack");
    let at = device.at.clone();
    let tph = device.capability;
    let entry = |number: u16| entry_offset(tph, number);
    // Tags of the host, as a guest may have heard of them, in both namespaces; beyond the map; and
    // in Device Specific mode, which is not there.
    for value in [
        0x1100u32,
        0x0010_1102,
        0x0016_0012,
        0xffff_0005,
        0x0101_0100,
    ] {
        for mode in ["0001\\0003", "0001\\0001", "0002\\0003", "0000\\0003"] {
            let bytes: String = value
                .to_le_bytes()
                .map(|byte| format!("\\0{byte:03o}"))
                .concat();
            guest.ask(&format!(r"config {at} {} '\0000\0000\0000\0000'", tph + 8));
            guest.ask(&format!("config {at} {} '{bytes}'", entry(2)));
            guest.ask(&format!(r"config {at} {} '\{mode}\0000\0000'", tph + 8));
            let entries = endpoint.entries();
            assert_eq!(entries[2..4], [0, 0], "{value:#x} in {mode}");
            assert_eq!(device.config(&mut guest, entry(2)), value, "{mode}");
            device.audit(&format!("{value:#x} in {mode}"));
        }
    }
    // All that the guest can read, while the device holds the host's tags.
    guest.ask(&format!("echo {at} >/sys/bus/pci/drivers/tph_guest/unbind"));
    guest.ask(&format!("echo {at} >/sys/bus/pci/drivers/tph_guest/bind"));
    let held: Vec<u16> = endpoint
        .entries()
        .into_iter()
        .filter(|&it| it != 0)
        .collect();
    assert!(!held.is_empty(), "no tags to look for");
    let said = guest.ask(&format!("od -An -v -tx2 /sys/bus/pci/devices/{at}/config"));
    let words: Vec<u16> = said
        .split_whitespace()
        .map(|word| u16::from_str_radix(word, 16).expect("hexadecimal"))
        .collect();
    assert_eq!(words.len(), 2048, "{said}");
    let whole = usize::from(tph / 2)..usize::from(entry(64) / 2);
    for (place, word) in words
        .iter()
        .enumerate()
        .filter(|(at, _)| whole.contains(at))
    {
        assert!(!held.contains(word), "{word:#x} at {:#x}", 2 * place);
    }
}

fn main() -> ExitCode {
    // Two guests' memory, in large pages.
    let pages = fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    println!("# huge pages: {}", pages.trim());
    harness::run(tests![
        r96_table_in_the_capability,
        r96_table_in_msix,
        r96_two_guests,
        r97_nothing_of_the_host,
    ])
}
