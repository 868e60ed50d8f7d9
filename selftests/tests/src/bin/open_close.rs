// SPDX-License-Identifier: GPL-2.0-only

//! Open, close, and all the ways in which a user or a driver ends: nothing of one user is left for
//! the next.

use std::process::ExitCode;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::child::{Owner, Task};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::kstate;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::tph::{control, entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, Device, OpenBy};
use tph_selftests::{assert_errno, tests};
use tph_tests::bed::works_again;
use tph_tests::{each_and_gate, each_table, fill, open_with_vectors, st, CPU};

/// Enabled, every entry set.
fn in_use(endpoint: &Endpoint) -> Device {
    let device = open_with_vectors(endpoint);
    device.enable(StMode::InterruptVector, Requester::Extended);
    fill(endpoint, &device);
    device
}

/// Tags that nobody knows of are gone when a device is open, and so is TPH that is on.
fn held_before_open(bench: &mut Bench, wants: &[Want]) {
    each_and_gate(bench, wants, |bench, want, gate| {
        let endpoint = bench.take(gate, want);
        let at = endpoint.tph().offset;
        let count = endpoint.entries().len() as u16;
        for enabled in [false, true] {
            if want.in_msix {
                endpoint.bdf.unbind();
                endpoint.leave_tags(count, 0xbeef);
                bench::bind(&endpoint, gate);
            } else {
                (0..count).for_each(|index| endpoint.poke(entry_offset(at, index), 2, 0xbeef));
            }
            if enabled {
                let value = control(StMode::DeviceSpecific, Requester::Extended);
                endpoint.poke(at + PCI_TPH_CTRL as u16, 4, value.into());
            }
            let device = endpoint.open();
            endpoint.assert_off("open");
            assert_eq!(device.control(), 0);
            drop(device);
            endpoint.assert_off("close");
        }
    });
}

fn r44_what_hardware_held_before_open(bench: &mut Bench) {
    held_before_open(bench, &Want::EVERY_TABLE);
}

fn r44_what_hardware_held_before_open_without_reset(bench: &mut Bench) {
    held_before_open(bench, &[Want::NO_RESET]);
}

/// A driver in the kernel that left TPH on.
fn r44_what_a_kernel_driver_left(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    Gate::Safe.load();
    for mode in [StMode::InterruptVector, StMode::DeviceSpecific] {
        endpoint.bdf.unbind();
        let kernel = kstate::enable(&endpoint.bdf, mode as u8).expect("pcie_enable_tph()");
        assert!(kernel.tph_enabled);
        for index in 0..endpoint.entries().len() as u16 {
            kstate::set(&endpoint.bdf, index, 0xdead).expect("pcie_tph_set_st_entry()");
        }
        bench::bind(&endpoint, Gate::Safe);
        assert!(!endpoint.kernel().tph_enabled);
        assert_eq!(endpoint.control(), 0, "bound");
        let device = endpoint.open();
        endpoint.assert_off("open");
        assert_eq!(device.control(), 0);
        device.reset().expect("a reset");
        endpoint.assert_off("a reset");
        drop(device);
        endpoint.assert_off("close");
    }
    works_again(&endpoint);
}

/// With and without the vectors that a table in MSI-X is of.
fn close(bench: &mut Bench, wants: &[Want]) {
    each_and_gate(bench, wants, |bench, want, gate| {
        let endpoint = bench.take(gate, want);
        drop(in_use(&endpoint));
        endpoint.assert_off("close");
        if want.in_msix {
            let device = in_use(&endpoint);
            device.free_msix();
            drop(device);
            endpoint.assert_off("close without vectors");
        }
        works_again(&endpoint);
    });
}

fn r45_close(bench: &mut Bench) {
    close(bench, &Want::EVERY_TABLE);
}

fn r45_close_without_reset(bench: &mut Bench) {
    close(bench, &[Want::NO_RESET]);
}

fn r45_close_by_every_way_in(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    for by in [OpenBy::Cdev, OpenBy::Group] {
        if !by.possible(&endpoint.bdf) {
            continue;
        }
        let device = endpoint.open_by(by);
        device.enable(StMode::InterruptVector, Requester::Standard);
        fill(&endpoint, &device);
        drop(device);
        endpoint.assert_off(&format!("close, opened by {by:?}"));
    }
}

fn r45_close_while_disabled_but_programmed(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.take(Gate::Safe, want);
        let device = in_use(&endpoint);
        device.set_control(0);
        drop(device);
        endpoint.assert_off("close");
    });
}

fn killed(bench: &mut Bench, wants: &[Want]) {
    each_and_gate(bench, wants, |bench, want, gate| {
        let endpoint = bench.take(gate, want);
        let entries = endpoint.entries().len() as u16;
        let owner = Owner::start(&endpoint.bdf, Task::Program(entries));
        let registers = endpoint.registers();
        assert_eq!(
            registers.control,
            control(StMode::InterruptVector, Requester::Extended)
        );
        assert_eq!(registers.entries[0], st(CPU));
        owner.kill();
        endpoint.assert_off("kill -9");
        works_again(&endpoint);
    });
}

fn r45_owner_is_killed(bench: &mut Bench) {
    killed(bench, &Want::TABLES);
}

fn r45_owner_is_killed_without_reset(bench: &mut Bench) {
    killed(bench, &[Want::NO_RESET]);
}

fn r45_unbind(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.take(Gate::Safe, want);
        drop(in_use(&endpoint));
        endpoint.bdf.unbind();
        endpoint.assert_off("unbind");
    });
}

/// vfio asks the user to let go, and waits.
fn r45_unbind_while_open(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.take(Gate::Safe, want);
        let device = in_use(&endpoint);
        let unbind = device.begin_unbind();
        assert_eq!(
            endpoint.registers().control,
            control(StMode::InterruptVector, Requester::Extended),
            "still the user's"
        );
        drop(device);
        unbind.join().expect("unbind");
        endpoint.assert_off("unbind while open");
        assert_eq!(endpoint.bdf.driver(), None);
        bench::bind(&endpoint, Gate::Safe);
        works_again(&endpoint);
    });
}

fn r45_rmmod(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.take(Gate::Safe, want);
        let device = in_use(&endpoint);
        assert_errno!(module::unload(VFIO_TPH), EAGAIN, "rmmod while open");
        drop(device);
        module::unload(VFIO_TPH).expect("rmmod");
        endpoint.assert_off("rmmod");
        bench::bind(&endpoint, Gate::Safe);
        works_again(&endpoint);
    });
}

fn r45_the_next_driver_finds_nothing(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.take(Gate::Safe, want);
        drop(in_use(&endpoint));
        endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
        endpoint.assert_off("another driver");
        let device = endpoint.open();
        endpoint.assert_off("another driver's open");
        drop(device);
    });
}

/// The snapshot that vfio-pci-core takes at open and loads at a reset and at close was made while a
/// driver before had TPH on.
fn r47_snapshot_of_an_earlier_state(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    Gate::Safe.load();
    endpoint.bdf.unbind();
    kstate::enable(&endpoint.bdf, StMode::InterruptVector as u8).expect("pcie_enable_tph()");
    kstate::set(&endpoint.bdf, 0, 0xdead).expect("pcie_tph_set_st_entry()");
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    endpoint.assert_off("open");
    // Live state that differs from the snapshot.
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(1, &[cpu(CPU)]).expect("TPH_ST");
    let live = endpoint.registers();
    assert_eq!(live.entries[0], 0);
    device.reset().expect("a reset");
    endpoint.assert_off("a reset");
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(1, &[cpu(CPU)]).expect("TPH_ST");
    drop(device);
    endpoint.assert_off("close");
    endpoint.bdf.unbind();
    endpoint.assert_off("unbind");
    // And once more by the administrator, when nobody has it.
    endpoint.bdf.reset().expect("a reset through sysfs");
    endpoint.assert_off("a reset through sysfs");
}

fn r46_r47_reset_at_close_leaves_nothing_behind(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.take(Gate::Safe, want);
        for _ in 0..3 {
            let device = in_use(&endpoint);
            device.reset().expect("a reset");
            endpoint.assert_off("a reset");
            device.enable(StMode::NoSt, Requester::Standard);
            drop(device);
            endpoint.assert_off("close");
        }
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r44_what_hardware_held_before_open,
        r44_what_hardware_held_before_open_without_reset,
        r44_what_a_kernel_driver_left,
        r45_close,
        r45_close_without_reset,
        r45_close_by_every_way_in,
        r45_close_while_disabled_but_programmed,
        r45_owner_is_killed,
        r45_owner_is_killed_without_reset,
        r45_unbind,
        r45_unbind_while_open,
        r45_rmmod,
        r45_the_next_driver_finds_nothing,
        r47_snapshot_of_an_earlier_state,
        r46_r47_reset_at_close_leaves_nothing_behind,
    ])
}
