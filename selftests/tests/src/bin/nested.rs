// SPDX-License-Identifier: GPL-2.0-only

//! What a guest sees to which QEMU passes devices on: the filtered capability, on which its own
//! kernel's PCI/TPH works. The session "nested" gives QEMU and a kernel to the test VM.

use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::policy::{self, Policy};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::OpenBy;
use tph_selftests::{harness, kstate, root_port, tests};
use tph_tests::guest::{Guest, Machine};

/// A device that the guest has.
struct Passed {
    endpoint: Rc<Endpoint>,
    /// The guest's address of it.
    at: String,
    /// The guest's root port above it.
    port: String,
    /// The TPH capability, if a user has one, and its Capability register.
    capability: Option<(u16, u32)>,
}

impl Passed {
    /// What lspci in the guest says of its TPH capability, if it finds one.
    fn lspci(&self, guest: &mut Guest) -> Option<String> {
        let said = guest.ask(&format!("lspci -vvv -s {}", self.at));
        assert!(said.contains("Capabilities: ["), "{said}");
        assert!(!said.contains("chain"), "{said}");
        assert!(!said.contains("Unknown"), "{said}");
        let (_, tph) = said.split_once("Transaction Processing Hints\n")?;
        let end = tph.find("Capabilities:").unwrap_or(tph.len());
        let lines = tph[..end].lines().map(str::trim);
        let said: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        Some(said.join(", "))
    }

    /// A dword of config space, as the guest's kernel reads it.
    fn config(&self, guest: &mut Guest, offset: u16) -> u32 {
        let said = guest.ask(&format!("config {} {offset}", self.at));
        u32::from_str_radix(said.trim(), 16).unwrap_or_else(|error| panic!("{said}: {error}"))
    }

    /// Has the guest's kernel act on the device as a driver of its own would.
    #[track_caller]
    fn act(&self, guest: &mut Guest, request: &str) {
        guest.ask(&format!("kstate {} {request}", self.at));
    }

    /// The same for what the guest's kernel refuses.
    #[track_caller]
    fn refused(&self, guest: &mut Guest, request: &str) {
        let (said, status) = guest.run(&format!("kstate {} {request}", self.at));
        assert_ne!(status, 0, "{request}: {said}");
    }

    /// Fails the test unless this is in the endpoint's Control register, has come there by a
    /// write, and both kernels know it.
    #[track_caller]
    fn assert_control(&self, guest: &mut Guest, mark: u64, mode: StMode, requester: Requester) {
        let (offset, _) = self.capability.expect("a TPH capability");
        let at = u64::from(offset) + u64::from(PCI_TPH_CTRL);
        let value = control(mode, requester);
        assert_eq!(self.endpoint.control(), value, "Control");
        let writes = self.endpoint.config_writes(mark, at..at + 4);
        let last = writes.last().map(|&(_, _, written)| written);
        assert_eq!(last, Some(value.into()), "the last write of Control");
        self.endpoint.assert_kernel_agrees();
        let seen = self.config(guest, offset + PCI_TPH_CTRL as u16);
        assert_eq!(seen, value, "Control as the guest reads it");
    }
}

/// What a user of vfio_tph sees: the offset of the TPH capability, and its Capability register.
fn capability(endpoint: &Endpoint) -> Option<(u16, u32)> {
    let device = endpoint.open();
    let offset = device.find_tph()?;
    Some((offset, device.config_dword(offset + PCI_TPH_CAP as u16)))
}

/// Boots a guest with these devices. Its root ports complete extended TPH.
fn boot(endpoints: &[&Rc<Endpoint>], by: OpenBy) -> (Guest, Vec<Passed>) {
    let capabilities: Vec<_> = endpoints.iter().map(|it| capability(it)).collect();
    let bdfs: Vec<_> = endpoints.iter().map(|endpoint| &endpoint.bdf).collect();
    let mut guest = Guest::boot(&Machine {
        devices: &bdfs,
        by,
        ..Machine::default()
    });
    guest.ask("insmod /modules/tph_rp.ko && insmod /modules/tph_kstate.ko");
    let passed = endpoints
        .iter()
        .zip(capabilities)
        .enumerate()
        .map(|(number, (endpoint, capability))| {
            let (at, port) = guest.addresses(number);
            guest.ask(&format!(
                "echo {port} 3 >/sys/kernel/debug/tph_rp/completer"
            ));
            Passed {
                endpoint: Rc::clone(endpoint),
                at,
                port,
                capability,
            }
        })
        .collect();
    (guest, passed)
}

/// What the guest finds is what a user of vfio_tph finds.
#[track_caller]
fn assert_sees(guest: &mut Guest, device: &Passed, lspci: &str) {
    let (offset, value) = device.capability.expect("a TPH capability");
    assert_eq!(device.lspci(guest).as_deref(), Some(lspci));
    assert_eq!(device.config(guest, offset + PCI_TPH_CAP as u16), value);
    let state = guest.ask(&format!("kstate {}", device.at));
    assert!(state.contains(&format!("tph_cap={offset:#x} ")), "{state}");
}

fn assert_off(endpoints: &[&Rc<Endpoint>]) {
    for endpoint in endpoints {
        if kstate::of(&endpoint.bdf).tph_cap != 0 {
            endpoint.assert_off("the nested guest's end");
        }
    }
}

/// Policies iv_st and no_st, a device whose TPH is not usable, and legacy groups.
fn r68_guest_without_tags(bench: &mut Bench) {
    let table = bench.take(Gate::Safe, &Want::TABLE);
    let none = bench.take(Gate::Safe, &Want::TABLE);
    let hidden = bench.take(Gate::Safe, &Want::TABLE);
    policy::bind(&table, Policy::IvSt);
    policy::bind(&none, Policy::NoSt);
    hidden.set_root_port(root_port::NONE);
    let all = [&table, &none, &hidden];
    let (mut guest, passed) = boot(&all, OpenBy::Group);
    let [device, tagless, without] = &passed[..] else {
        unreachable!("as many as were passed")
    };

    assert_sees(
        &mut guest,
        device,
        "Interrupt vector mode supported, Extended requester support, \
         Steering table in TPH capability structure",
    );
    let mark = device.endpoint.mark();
    device.act(&mut guest, "enable 1");
    let (vector, extended) = (StMode::InterruptVector, Requester::Extended);
    device.assert_control(&mut guest, mark, vector, extended);
    // The guest's kernel writes a tag of its own, which goes nowhere: its host looks tags up.
    let mark = device.endpoint.mark();
    device.act(&mut guest, "set 1 0x55");
    device.assert_control(&mut guest, mark, vector, extended);
    device.endpoint.assert_tags(&[], "enabled");
    device.act(&mut guest, "disable");
    assert_eq!(device.endpoint.control(), 0);
    device.refused(&mut guest, "enable 2");
    // Past the guest's kernel: Device Specific mode, enabled.
    let at = device.capability.expect("TPH").0 + PCI_TPH_CTRL as u16;
    guest.ask(&format!(
        r"config {} {at} '\0002\0003\0000\0000'",
        device.at
    ));
    assert_eq!(device.endpoint.control(), 0);
    assert_eq!(device.config(&mut guest, at), 0);
    // A root port that knows no extended tags.
    guest.ask(&format!(
        "echo {} 1 >/sys/kernel/debug/tph_rp/completer",
        device.port
    ));
    let mark = device.endpoint.mark();
    device.act(&mut guest, "enable 1");
    device.assert_control(&mut guest, mark, vector, Requester::Standard);

    assert_sees(
        &mut guest,
        tagless,
        "Extended requester support, No steering table available",
    );
    tagless.refused(&mut guest, "enable 1");
    let mark = tagless.endpoint.mark();
    tagless.act(&mut guest, "enable 0");
    tagless.assert_control(&mut guest, mark, StMode::NoSt, extended);

    assert_eq!(without.capability, None);
    assert_eq!(without.lspci(&mut guest), None);
    let state = guest.ask(&format!("kstate {}", without.at));
    assert!(state.contains("tph_cap=0x0 "), "{state}");
    without.refused(&mut guest, "enable 0");

    drop(guest);
    assert_off(&all);
}

/// Policy literal, tables in the capability and in MSI-X, and iommufd.
fn r68_guest_with_tags(bench: &mut Bench) {
    let table = bench.take(Gate::Unsafe, &Want::TABLE);
    let vectors = bench.pick_with("a table in MSI-X", |traits| traits.in_msix);
    bench::bind(&vectors, Gate::Unsafe);
    policy::bind(&table, Policy::Literal);
    policy::bind(&vectors, Policy::Literal);
    let all = [&table, &vectors];
    let (mut guest, passed) = boot(&all, OpenBy::Cdev);

    for (device, place) in passed.iter().zip([
        "Steering table in TPH capability structure",
        "Steering table in MSI-X table",
    ]) {
        assert_sees(
            &mut guest,
            device,
            &format!(
                "Interrupt vector mode supported, Device specific mode supported, \
                 Extended requester support, {place}"
            ),
        );
        for (request, mode) in [
            ("enable 1", StMode::InterruptVector),
            ("enable 2", StMode::DeviceSpecific),
            ("enable 0", StMode::NoSt),
        ] {
            let mark = device.endpoint.mark();
            device.act(&mut guest, request);
            device.assert_control(&mut guest, mark, mode, Requester::Extended);
            device.act(&mut guest, "disable");
            assert_eq!(device.endpoint.control(), 0, "disable");
        }
        // For the end of the guest.
        device.act(&mut guest, "enable 2");
    }

    drop(guest);
    assert_off(&all);
}

fn main() -> ExitCode {
    harness::run(tests![r68_guest_without_tags, r68_guest_with_tags])
}
