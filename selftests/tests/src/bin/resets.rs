// SPDX-License-Identifier: GPL-2.0-only

//! Each kind of reset, one test each: TPH is off, the table 0, the kernel knows it, and enabling
//! again works.

use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::aer::{self, Severity};
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::{Gate, VFIO_TPH};
use tph_selftests::tests;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, open_beside, Device, OpenBy};
use tph_tests::{fill, st, CPU};

/// Uses a device, resets it by `reset`, and looks.
fn survives(bench: &mut Bench, want: &Want, what: &str, reset: impl Fn(&Endpoint, &Device)) {
    for gate in Gate::BOTH {
        let endpoint = bench.take(gate, want);
        let device = endpoint.open();
        let modes: &[StMode] = match gate {
            Gate::Safe => &[StMode::InterruptVector],
            Gate::Unsafe => &[StMode::DeviceSpecific],
        };
        for &mode in modes {
            for requester in [
                Requester::Standard,
                Requester::Extended,
                Requester::Disabled,
            ] {
                device.enable(mode, Requester::Standard);
                fill(&endpoint, &device);
                device.enable(mode, requester);
                reset(&endpoint, &device);
                is_off_and_works(&endpoint, &device, what);
            }
        }
        drop(device);
        endpoint.assert_off("close");
        bench.next_round();
    }
}

fn is_off_and_works(endpoint: &Endpoint, device: &Device, what: &str) {
    endpoint.assert_off(what);
    assert_eq!(device.control(), 0, "Control as the user sees it");
    assert_eq!(
        device.program(0, &[cpu(CPU)]),
        Err(tph_selftests::Errno::ENXIO),
        "{what}"
    );
    device.enable(StMode::InterruptVector, Requester::Extended);
    device
        .program(0, &[cpu(CPU)])
        .unwrap_or_else(|error| panic!("TPH_ST after {what}: {error}"));
    assert_eq!(endpoint.entries()[0], st(CPU), "{what}");
    assert!(endpoint.entries()[1..].iter().all(|&tag| tag == 0));
    endpoint.assert_kernel_agrees();
}

fn r46_device_reset(bench: &mut Bench) {
    for want in [Want::TABLE, Want::RCIEP] {
        survives(bench, &want, "VFIO_DEVICE_RESET", |_, device| {
            device.reset().expect("VFIO_DEVICE_RESET");
        });
    }
}

fn r46_function_level_reset_in_config_space(bench: &mut Bench) {
    for want in [Want::TABLE, Want::RCIEP] {
        survives(bench, &want, "Initiate FLR", |_, device| {
            let at = find_pcie(device) + PCI_EXP_DEVCTL as u16;
            let value = device.config_word(at) | PCI_EXP_DEVCTL_BCR_FLR as u16;
            device.set_config(at, &value.to_le_bytes());
        });
    }
}

/// The byte that has the bit, alone.
fn r46_function_level_reset_by_a_byte(bench: &mut Bench) {
    survives(bench, &Want::TABLE, "Initiate FLR", |_, device| {
        let at = find_pcie(device) + PCI_EXP_DEVCTL as u16 + 1;
        let value = device.config_byte(at) | (PCI_EXP_DEVCTL_BCR_FLR >> 8) as u8;
        device.set_config(at, &[value]);
    });
}

/// Offset of the PCI Express capability that the user sees.
fn find_pcie(device: &Device) -> u16 {
    let mut at = device.config_byte(PCI_CAPABILITY_LIST as u16);
    while u32::from(device.config_byte(at.into())) != PCI_CAP_ID_EXP {
        at = device.config_byte(u16::from(at) + 1);
        assert_ne!(at, 0, "no PCI Express capability");
    }
    at.into()
}

fn r46_reset_through_sysfs(bench: &mut Bench) {
    for want in [Want::TABLE, Want::RCIEP] {
        survives(bench, &want, "a reset through sysfs", |endpoint, _| {
            endpoint.bdf.reset().expect("a reset through sysfs");
        });
    }
}

/// Two devices of a bus, opened by one user.
fn pair(bench: &mut Bench, by: OpenBy) -> (Rc<Endpoint>, Device, Rc<Endpoint>, Device) {
    let (first, second) = bench.pick_pair(&Want::TABLE);
    bench::bind(&first, Gate::Safe);
    bench::bind(&second, Gate::Safe);
    let device = first.open_by(by);
    let other =
        open_beside(&device, &second.bdf).unwrap_or_else(|error| panic!("{}: {error}", second.bdf));
    (first, device, second, other)
}

fn hot_reset(bench: &mut Bench, by: OpenBy) {
    let (first, device, second, other) = pair(bench, by);
    // Asked for through either of them, both are hit.
    for asked in [&device, &other] {
        for (endpoint, device) in [(&first, &device), (&second, &other)] {
            device.enable(StMode::InterruptVector, Requester::Extended);
            fill(endpoint, device);
        }
        asked
            .hot_reset(&[])
            .unwrap_or_else(|error| panic!("hot reset, {by:?}: {error}"));
        for (endpoint, device) in [(&first, &device), (&second, &other)] {
            let what = format!("a hot reset through {}", asked.bdf());
            is_off_and_works(endpoint, device, &what);
        }
    }
    drop(other);
    drop(device);
    first.assert_off("close");
    second.assert_off("close");
}

fn r46_hot_reset_also_through_the_sibling(bench: &mut Bench) {
    hot_reset(bench, OpenBy::Cdev);
}

fn r46_hot_reset_by_groups(bench: &mut Bench) {
    hot_reset(bench, OpenBy::Group);
}

/// A sibling that is bound to vfio_tph, but that nobody has open.
fn r46_hot_reset_with_an_idle_sibling(bench: &mut Bench) {
    let (first, second) = bench.pick_pair(&Want::TABLE);
    bench::bind(&first, Gate::Safe);
    bench::bind(&second, Gate::Safe);
    let device = first.open_by(OpenBy::Cdev);
    device.enable(StMode::InterruptVector, Requester::Standard);
    fill(&first, &device);
    device.hot_reset(&[]).expect("hot reset");
    is_off_and_works(&first, &device, "a hot reset");
    second.assert_off("a hot reset of its sibling");
}

fn r46_aer_recovery(bench: &mut Bench) {
    let what = "recovery from a fatal error";
    survives(bench, &Want::TABLE, what, |endpoint, _| {
        // The kernel recovers a bus if it has a driver for each device on it.
        for sibling in endpoint.bdf.siblings() {
            sibling.bind(VFIO_TPH).expect("bind");
        }
        aer::inject(&endpoint.bdf, Severity::Fatal);
    });
}

/// Before anything is read: what a reset ended does not come back through a read.
fn r46_control_reads_zero_at_once(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let device = endpoint.open();
    device.enable(StMode::DeviceSpecific, Requester::Extended);
    fill(&endpoint, &device);
    let at = device.tph_offset();
    endpoint.bdf.reset().expect("a reset through sysfs");
    let space = device.config_space();
    let start = usize::from(at) + PCI_TPH_CTRL as usize;
    let end = start + 4 + 2 * endpoint.entries().len();
    assert!(space[start..end].iter().all(|&byte| byte == 0));
}

fn main() -> ExitCode {
    harness::run(tests![
        r46_device_reset,
        r46_function_level_reset_in_config_space,
        r46_function_level_reset_by_a_byte,
        r46_reset_through_sysfs,
        r46_hot_reset_also_through_the_sibling,
        r46_hot_reset_by_groups,
        r46_hot_reset_with_an_idle_sibling,
        r46_control_reads_zero_at_once,
        // The last: lockdep is off when it has seen aer_inject.
        r46_aer_recovery,
    ])
}
