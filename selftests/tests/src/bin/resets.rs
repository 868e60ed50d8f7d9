// SPDX-License-Identifier: GPL-2.0-only

//! Each kind of reset, one test each: TPH is off, the table 0, the kernel knows it, and enabling
//! again works.

use std::fs;
use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::aer::{self, Severity};
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::{Gate, VFIO_TPH};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{open_beside, Device, OpenBy};
use tph_selftests::{skip, tests};
use tph_tests::bed::{Bed, Kind};
use tph_tests::{each_and_gate, each_table, fill, opened};

/// Uses devices, resets them by `reset`, and looks.
fn survives(bench: &mut Bench, wants: &[Want], what: &str, reset: impl Fn(&Bed)) {
    each_and_gate(bench, wants, |bench, want, gate| {
        let endpoint = bench.take(gate, want);
        let bed = Bed::open(endpoint.clone(), Kind::of(&endpoint));
        let mode = match gate {
            Gate::Safe => StMode::InterruptVector,
            Gate::Unsafe => StMode::DeviceSpecific,
        };
        for requester in Requester::ALL {
            bed.put(mode, requester);
            let before = endpoint.counters().reset;
            reset(&bed);
            assert!(endpoint.counters().reset > before, "{what}: no reset");
            bed.assert_off_and_works(what);
            bed.device.set_control(0);
        }
        drop(bed);
        endpoint.assert_off("close");
    });
}

fn r46_r85_device_reset(bench: &mut Bench) {
    survives(bench, &Want::EVERY_TABLE, "VFIO_DEVICE_RESET", |bed| {
        bed.device.reset().expect("VFIO_DEVICE_RESET");
    });
}

fn r46_reset_with_memory_disabled(bench: &mut Bench) {
    let what = "a reset with memory disabled";
    survives(bench, &Want::EVERY_TABLE, what, |bed| {
        bed.device.decode_memory(false);
        bed.device.reset().expect("VFIO_DEVICE_RESET");
        bed.endpoint.assert_off(what);
        bed.device.decode_memory(true);
    });
}

fn r46_function_level_reset_in_config_space(bench: &mut Bench) {
    survives(bench, &Want::EVERY_TABLE, "Initiate FLR", |bed| {
        bed.device.initiate_flr();
    });
}

/// The byte that has the bit, alone.
fn r46_function_level_reset_by_a_byte(bench: &mut Bench) {
    survives(bench, &Want::TABLES, "Initiate FLR", |bed| {
        let device = &bed.device;
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
    survives(bench, &Want::EVERY_TABLE, "a reset through sysfs", |bed| {
        bed.endpoint.bdf.reset().expect("a reset through sysfs");
    });
}

/// Two devices of a bus, with tables in one place, bound. They share a group: with tables in MSI-X
/// they have Interrupt Vector mode for the trusted alone.
fn pair(bench: &mut Bench, want: &Want) -> (Rc<Endpoint>, Rc<Endpoint>) {
    let (first, second) = bench.pick_pair(want);
    let gate = match want.in_msix {
        true => Gate::Unsafe,
        false => Gate::Safe,
    };
    bench::bind(&first, gate);
    bench::bind(&second, gate);
    (first, second)
}

fn hot_reset(bench: &mut Bench, by: OpenBy, want: &Want) {
    let (first, second) = pair(bench, want);
    let device = first.open_by(by);
    let other =
        open_beside(&device, &second.bdf).unwrap_or_else(|error| panic!("{}: {error}", second.bdf));
    let kind = Kind::of(&first);
    let beds = [Bed::of(first, device, kind), Bed::of(second, other, kind)];
    // Asked for through either of them, both are hit.
    for asked in &beds {
        for bed in &beds {
            bed.put(StMode::InterruptVector, Requester::Extended);
        }
        asked
            .device
            .hot_reset(&[])
            .unwrap_or_else(|error| panic!("hot reset, {by:?}: {error}"));
        for bed in &beds {
            let what = format!("a hot reset through {}", asked.device.bdf());
            bed.assert_off_and_works(&what);
        }
    }
    let endpoints = beds.map(|bed| bed.endpoint.clone());
    for endpoint in endpoints {
        endpoint.assert_off("close");
    }
}

fn r46_r85_hot_reset_also_through_the_sibling(bench: &mut Bench) {
    each_table(bench, |bench, want| hot_reset(bench, OpenBy::Cdev, want));
}

fn r46_hot_reset_by_groups(bench: &mut Bench) {
    hot_reset(bench, OpenBy::Group, &Want::TABLE);
}

/// Whether type1 fails to map the ITS's doorbell for a device, so that vfio-pci has no vectors for
/// those who open it by its group: behind the virtio IOMMU of QEMU's arm64.
fn has_no_vectors_by_group(endpoint: &Endpoint) -> bool {
    let iommu = fs::canonicalize(endpoint.bdf.path("iommu")).expect("an IOMMU");
    cfg!(target_arch = "aarch64") && iommu.to_string_lossy().contains("/virtio")
}

fn r46_hot_reset_by_groups_with_vectors(bench: &mut Bench) {
    let want = &Want::MSIX;
    if has_no_vectors_by_group(&bench.pick(want)) {
        skip!("behind this IOMMU vfio-pci has no vectors for groups, either");
    }
    bench.next_round();
    hot_reset(bench, OpenBy::Group, want);
}

/// A sibling that is bound to vfio_tph, but that nobody has open.
fn r46_hot_reset_with_an_idle_sibling(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (first, second) = pair(bench, want);
        let kind = Kind::of(&first);
        let bed = Bed::open(first, kind);
        bed.put(StMode::InterruptVector, Requester::Standard);
        bed.device.hot_reset(&[]).expect("hot reset");
        bed.assert_off_and_works("a hot reset");
        second.assert_off("a hot reset of its sibling");
    });
}

/// As a guest does it: a fatal error has reset the link, and with it BARs and MSI-X of the device,
/// which nobody restores but the user.
fn r46_aer_recovery(bench: &mut Bench) {
    let what = "recovery from a fatal error";
    survives(bench, &Want::TABLES, what, |bed| {
        // The kernel recovers a bus if it has a driver for each device on it.
        for sibling in bed.endpoint.bdf.siblings() {
            sibling.bind(VFIO_TPH).expect("bind");
        }
        aer::inject(&bed.endpoint.bdf, Severity::Fatal);
        bed.endpoint.assert_off(what);
        bed.device.decode_memory(true);
        bed.restore_interrupts();
    });
}

/// Before anything is read: what a reset ended does not come back through a read.
fn r46_control_reads_zero_at_once(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Gate::Unsafe);
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
        r46_r85_device_reset,
        r46_reset_with_memory_disabled,
        r46_function_level_reset_in_config_space,
        r46_function_level_reset_by_a_byte,
        r46_reset_through_sysfs,
        r46_r85_hot_reset_also_through_the_sibling,
        r46_hot_reset_by_groups,
        r46_hot_reset_by_groups_with_vectors,
        r46_hot_reset_with_an_idle_sibling,
        r46_control_reads_zero_at_once,
        // The last: lockdep is off when it has seen aer_inject.
        r46_aer_recovery,
    ])
}
