// SPDX-License-Identifier: GPL-2.0-only

//! Power states: what was in force before a device slept is in force after, and nothing reaches one
//! that sleeps. With a table in the capability and in MSI-X, on devices that keep their state in
//! D3hot and on such as lose it.

use std::fs;
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tph_selftests::bench::Bench;
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::module::Gate;
use tph_selftests::monitor::wait_until;
use tph_selftests::pci;
use tph_selftests::policy::Policy;
use tph_selftests::protocol::Fault;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL_REQ_EN_MASK;
use tph_selftests::vfio::{cpu, wait_for};
use tph_selftests::{harness, skip, tests, Errno};
use tph_tests::bed::{each_in_use, states, Bed, Kind, D0, D3HOT, KINDS};
use tph_tests::{st, xst, CPU, OTHER_CPU};

/// In every state of Control: the same after `sleep`, which wakes the device up again, as before.
fn the_same_after(bench: &mut Bench, kind: Kind, sleep: impl Fn(&Bed)) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let bed = Bed::new(bench, kind, policy);
        for (mode, requester) in states(policy) {
            bed.put(mode, requester);
            let before = bed.in_force();
            assert_eq!(before.registers.control, control(mode, requester));
            assert_eq!(before.registers.entries[..2], [xst(CPU), xst(OTHER_CPU)]);
            for round in 0..2 {
                sleep(&bed);
                let what = format!("{kind:?}, {policy:?}, {mode:?}, {requester:?}, round {round}");
                assert_eq!(bed.in_force(), before, "{what}");
            }
            bed.device.enable(mode, Requester::Disabled);
        }
        bed.works();
    });
}

fn r48_d3hot_capability(bench: &mut Bench) {
    the_same_after(bench, KINDS[0], Bed::d3hot_and_back);
}

fn r48_d3hot_capability_that_is_lost(bench: &mut Bench) {
    the_same_after(bench, KINDS[1], Bed::d3hot_and_back);
}

fn r48_d3hot_msix(bench: &mut Bench) {
    the_same_after(bench, KINDS[2], Bed::d3hot_and_back);
}

fn r48_d3hot_msix_that_is_lost(bench: &mut Bench) {
    the_same_after(bench, KINDS[3], Bed::d3hot_and_back);
}

fn r48_low_power_capability(bench: &mut Bench) {
    for kind in &KINDS[..2] {
        the_same_after(bench, *kind, Bed::low_power_and_back);
    }
}

fn r48_low_power_msix(bench: &mut Bench) {
    for kind in &KINDS[2..] {
        the_same_after(bench, *kind, Bed::low_power_and_back);
    }
}

/// The administrator wakes the device up, after `asleep`.
fn low_power_until_wakeup(bed: &Bed, asleep: impl Fn(&Bed)) {
    let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC).expect("eventfd");
    bed.device
        .enter_low_power_with_wakeup(&event)
        .expect("LOW_POWER_ENTRY_WITH_WAKEUP");
    wait_until(|| bed.power_state() == D3HOT as u8);
    asleep(bed);
    let control = bed.endpoint.bdf.path("power/control");
    pci::write(&control, "on").expect("runtime PM off");
    wait_for(&event);
    pci::write(&control, "auto").expect("runtime PM on");
    assert_eq!(bed.power_state(), D0 as u8);
}

fn r48_low_power_with_wakeup(bench: &mut Bench) {
    for kind in KINDS {
        the_same_after(bench, kind, |bed| low_power_until_wakeup(bed, |_| ()));
    }
}

/// Waits until the port above sleeps, too: it does when all below it do.
fn wait_for_the_port(bed: &Bed) {
    let port = bed.endpoint.bdf.root_port().expect("a root port");
    wait_until(|| port.is_suspended());
}

/// A port below which devices come and go sleeps only if it is told to.
fn needs_ports_that_sleep() {
    let line = fs::read_to_string("/proc/cmdline").expect("/proc/cmdline");
    if !line.contains("pcie_port_pm=force") {
        skip!("the kernel was booted without pcie_port_pm=force");
    }
}

fn r48_low_power_below_a_port_asleep(bench: &mut Bench) {
    needs_ports_that_sleep();
    the_same_after(bench, KINDS[1], |bed| {
        bed.sleep_in_low_power();
        wait_for_the_port(bed);
        bed.wake_from_low_power();
    });
}

fn r48_low_power_below_a_port_asleep_with_wakeup(bench: &mut Bench) {
    needs_ports_that_sleep();
    the_same_after(bench, KINDS[3], |bed| {
        low_power_until_wakeup(bed, wait_for_the_port);
    });
}

/// Reading the capability, and changing it, while the device may sleep: the same as awake.
fn r48_access_in_low_power(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::DsSt, |bed| {
        let kind = bed.kind;
        let before = bed.in_force();

        bed.sleep_in_low_power();
        assert_eq!(bed.device.control(), before.seen_control, "{kind:?}");
        bed.device.exit_low_power().expect("LOW_POWER_EXIT");
        assert_eq!(bed.in_force(), before, "{kind:?}: after a read");

        bed.sleep_in_low_power();
        let value = control(StMode::InterruptVector, Requester::Standard);
        bed.device.set_control(value);
        bed.device.exit_low_power().expect("LOW_POWER_EXIT");
        assert_eq!(bed.device.control(), value, "{kind:?}: written");
        assert_eq!(bed.endpoint.control(), value, "{kind:?}: written");
        assert_eq!(
            bed.endpoint.entries(),
            before.registers.entries,
            "{kind:?}: written"
        );
        bed.endpoint.assert_kernel_agrees();

        bed.sleep_in_low_power();
        let sources = [cpu(OTHER_CPU), cpu(CPU)];
        let result = bed.device.program(0, &sources);
        bed.device.exit_low_power().expect("LOW_POWER_EXIT");
        let expected = match result {
            Ok(()) => [st(OTHER_CPU), st(CPU)],
            Err(Errno::EIO) => [before.registers.entries[0], before.registers.entries[1]],
            Err(error) => panic!("{kind:?}: TPH_ST: {error}"),
        };
        println!("# {kind:?}: TPH_ST in low power: {result:?}");
        assert_eq!(bed.endpoint.entries()[..2], expected, "{kind:?}: TPH_ST");
        assert_eq!(bed.endpoint.control(), value, "{kind:?}: TPH_ST");
        bed.works();
    });
}

fn r48_memory_disabled_and_enabled(bench: &mut Bench) {
    for kind in KINDS {
        the_same_after(bench, kind, |bed| {
            bed.device.decode_memory(false);
            bed.device.decode_memory(true);
        });
    }
}

/// Sleeping with memory space disabled.
fn r48_d3hot_with_memory_disabled(bench: &mut Bench) {
    for kind in KINDS {
        the_same_after(bench, kind, |bed| {
            bed.device.decode_memory(false);
            bed.d3hot_and_back();
            bed.device.decode_memory(true);
        });
    }
}

fn r46_reset_in_d3hot(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::IvSt, |bed| {
        let kind = bed.kind;
        bed.device.set_power_state(D3HOT);
        bed.device.reset().expect("VFIO_DEVICE_RESET");
        bed.device.set_power_state(D0);
        let what = format!("a reset in D3hot, {kind:?}");
        bed.endpoint.assert_off(&what);
        assert_eq!(bed.device.control(), 0, "{what}");
        bed.works();
    });
}

fn r45_close_in_d3hot(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::IvSt, |bed| {
        let kind = bed.kind;
        bed.device.set_power_state(D3HOT);
        let endpoint = bed.endpoint.clone();
        drop(bed);
        endpoint.assert_off(&format!("close in D3hot, {kind:?}"));
        let device = endpoint.open();
        endpoint.assert_off(&format!("open again, {kind:?}"));
        drop(device);
    });
}

fn r45_close_in_low_power(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::IvSt, |bed| {
        let kind = bed.kind;
        bed.sleep_in_low_power();
        let endpoint = bed.endpoint.clone();
        drop(bed);
        endpoint.assert_off(&format!("close in low power, {kind:?}"));
    });
}

/// What is on the wire is what was before.
fn r48_tag_on_the_wire_after_d3hot(bench: &mut Bench) {
    const IOVA: u64 = 0x10_0000;
    bench.each(KINDS, |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::of(Gate::Safe));
        let _memory = bed.device.map_dma(1, IOVA).expect("memory for DMA");
        bed.put(StMode::InterruptVector, Requester::Extended);
        let hint = || Engine::new(&bed.device).write(IOVA, 1, 2, TagFrom::Vector(1));
        let before = hint();
        assert!(before.is_some_and(|hint| hint.tag.is_some()), "{before:?}");
        bed.d3hot_and_back();
        assert_eq!(hint(), before, "{kind:?}");
    });
}

/// The PCI core takes the word of a vector that it allocates from the device, which has all ones
/// for it.
fn r49_allocated_in_d3hot(bench: &mut Bench) {
    each_in_use(bench, &KINDS[2..], Policy::IvSt, |bed| {
        let kind = bed.kind;
        let before = bed.in_force();
        bed.device.free_msix();
        bed.device.set_msix(0, &[-1]).expect("SET_IRQS of one");
        bed.device.program_extended(0, &[cpu(CPU)]).expect("TPH_ST");
        bed.device.set_power_state(D3HOT);
        // One without an event gets no vector.
        let events = [(); 3].map(|()| EventFd::new().expect("eventfd"));
        let fds = events.each_ref().map(|event| event.as_raw_fd());
        bed.device
            .set_msix(1, &fds[1..])
            .expect("SET_IRQS in D3hot");
        // The PCI core's own look at the table.
        bed.endpoint.clear_violations();
        bed.device.set_power_state(D0);
        let tags = |after: &str| {
            let what = format!("{kind:?}, {after}");
            bed.endpoint.assert_tags(&[xst(CPU)], &what);
            let in_force = bed.endpoint.control();
            assert_eq!(in_force, before.registers.control, "{what}");
        };
        tags("D0");
        // Writes the words that the PCI core has.
        bed.device.set_msix(0, &fds).expect("SET_IRQS of events");
        tags("events");
        bed.device.set_power_state(D3HOT);
        bed.device.set_power_state(D0);
        tags("D3hot and back");
    });
}

/// And wakes up by other means than its user's write to PMCSR: TPH is not in use with such a tag.
fn r49_allocated_in_d3hot_before_low_power(bench: &mut Bench) {
    each_in_use(bench, &KINDS[2..], Policy::IvSt, |bed| {
        let kind = bed.kind;
        bed.device.free_msix();
        bed.device.set_msix(0, &[-1]).expect("SET_IRQS of one");
        bed.device.set_power_state(D3HOT);
        let event = EventFd::new().expect("eventfd");
        bed.device
            .set_msix(1, &[event.as_raw_fd()])
            .expect("SET_IRQS in D3hot");
        bed.endpoint.clear_violations();
        bed.low_power_and_back();
        let stray = bed.endpoint.entries()[1..].iter().any(|&tag| tag != 0);
        let enabled = bed.endpoint.control() & PCI_TPH_CTRL_REQ_EN_MASK != 0;
        println!("# {kind:?}: a stray tag: {stray}, enabled: {enabled}");
        assert!(!(stray && enabled), "{kind:?}");
        bed.device.program_extended(0, &[cpu(CPU)]).expect("TPH_ST");
        bed.endpoint.assert_tags(&[xst(CPU)], &format!("{kind:?}"));
        let expected = control(StMode::InterruptVector, Requester::Extended);
        assert_eq!(bed.endpoint.control(), expected, "{kind:?}");
        assert_eq!(bed.device.control(), expected, "{kind:?}");
    });
}

/// What is due is cleared with the requester disabled, also where nobody can tell what the device
/// has.
fn r49_freed_while_gone_before_a_write_of_the_power_state(bench: &mut Bench) {
    each_in_use(bench, &KINDS[2..], Policy::IvSt, |bed| {
        let kind = bed.kind;
        let expected = bed.endpoint.control();
        bed.endpoint.fault(Fault::AllOnes);
        bed.device.free_msix();
        bed.endpoint.fault(Fault::None);
        bed.device.set_power_state(D0);
        bed.endpoint.assert_tags(&[], &format!("{kind:?}"));
        assert_eq!(bed.device.control(), expected, "{kind:?}");
        assert_eq!(bed.endpoint.control(), expected, "{kind:?}");
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r45_close_in_d3hot,
        r45_close_in_low_power,
        r46_reset_in_d3hot,
        r48_d3hot_capability,
        r48_d3hot_capability_that_is_lost,
        r48_d3hot_msix,
        r48_d3hot_msix_that_is_lost,
        r48_d3hot_with_memory_disabled,
        r48_low_power_capability,
        r48_low_power_msix,
        r48_low_power_with_wakeup,
        r48_low_power_below_a_port_asleep,
        r48_low_power_below_a_port_asleep_with_wakeup,
        r48_access_in_low_power,
        r48_memory_disabled_and_enabled,
        r48_tag_on_the_wire_after_d3hot,
        r49_allocated_in_d3hot,
        r49_allocated_in_d3hot_before_low_power,
        r49_freed_while_gone_before_a_write_of_the_power_state,
    ])
}
