// SPDX-License-Identifier: GPL-2.0-only

//! Entries that hardware cannot have yet: without a vector, without memory, asleep, reset.

use nix::sys::eventfd::EventFd;
use tph_selftests::bench::{Bench, Want};
use tph_selftests::hold::{Call, Stuck};
use tph_selftests::memory::{page_size, Pages};
use tph_selftests::module::Gate;
use tph_selftests::monitor::wait_until;
use tph_selftests::protocol::Lost;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, Vectors};
use tph_selftests::{assert_errno, errno, pci, signal, vcpus};
use tph_tests::{each_table, raise_all, st, xst};

use super::{map, take, vcpus_gone, Bed, EXTENDED, STANDARD};

pub fn r94_vectors_that_come_later(bench: &mut Bench) {
    let endpoint = take(bench, &Want::MSIX, Gate::Safe);
    let bed = Bed::open(endpoint, false);
    bed.device.set_map(&map()).expect("TPH_MAP");
    bed.write(0, &[1, 2, 4, 5]);
    bed.enable(EXTENDED);
    bed.assert_holds(&[], "no vector");
    // As QEMU does it: the first one alone, then one more a call.
    bed.device.set_msix(0, &[-1]).expect("SET_IRQS");
    bed.assert_means(&[1], true, "one vector");
    let vectors = Vectors::allocate(&bed.device, 3).expect("SET_IRQS");
    bed.assert_means(&[1, 2, 4], true, "three vectors");
    assert_eq!(bed.device.control(), control(EXTENDED.0, EXTENDED.1));
    raise_all(&bed.device, &vectors, "three vectors");
    bed.device.free_msix();
    bed.assert_holds(&[], "freed");
    assert_eq!(bed.read(4), [1, 2, 4, 5], "the guest's are there");
    bed.write(1, &[1]);
    bed.assert_holds(&[], "freed");
    let vectors = Vectors::allocate(&bed.device, 4).expect("SET_IRQS");
    bed.assert_means(&[1, 1, 4, 5], true, "again");
    raise_all(&bed.device, &vectors, "again");
    // In the guest's way, off: written at the enable.
    bed.device.set_control(1);
    bed.write(3, &[2]);
    bed.enable(STANDARD);
    bed.assert_means(&[1, 1, 4, 2], false, "the other namespace");
}

pub fn r94_memory_not_decoded(bench: &mut Bench) {
    let bed = Bed::new(bench, &Want::MSIX, Gate::Safe);
    let device = &bed.device;
    bed.write(0, &[1, 2]);
    bed.enable(STANDARD);
    device.decode_memory(false);
    let quiet = |body: &dyn Fn()| {
        let [.., mmio_read, mmio_write] = bed.accesses(body);
        assert_eq!((mmio_read, mmio_write), (0, 0));
    };
    quiet(&|| bed.write(0, &[2]));
    bed.assert_means(&[1, 2], false, "recorded only");
    assert_eq!(bed.read(2), [2, 2]);
    assert_eq!(device.control(), control(STANDARD.0, STANDARD.1));
    device.decode_memory(true);
    bed.assert_means(&[2, 2], false, "decoded");
    assert_eq!(bed.endpoint.control(), control(STANDARD.0, STANDARD.1));

    // An enable with an entry in hardware that is neither 0 nor what is wanted.
    device.set_control(1);
    device.decode_memory(false);
    bed.write(0, &[1]);
    device.set_control(control(STANDARD.0, STANDARD.1));
    assert_eq!(device.control(), 1, "dropped");
    device.decode_memory(true);
    bed.assert_means(&[2, 2], false, "off: not written");
    bed.enable(STANDARD);
    bed.assert_means(&[1, 2], false, "enabled");

    // One that is 0 waits.
    device.set_control(1);
    device.decode_memory(false);
    bed.write(2, &[4]);
    device.set_control(control(STANDARD.0, STANDARD.1));
    assert_eq!(device.control(), control(STANDARD.0, STANDARD.1), "taken");
    bed.assert_means(&[1, 2], false, "not yet");
    device.decode_memory(true);
    bed.assert_means(&[1, 2, 4], false, "decoded");
    // A map that comes meanwhile.
    device.decode_memory(false);
    device.set_map(&[cpu(1), cpu(0)]).expect("TPH_MAP");
    bed.assert_holds(&[st(1), st(0)], "moved, not decoded");
    let memory = device.config_word(PCI_COMMAND as u16) & PCI_COMMAND_MEMORY as u16;
    assert_eq!(memory, 0, "as the user has it");
    device.decode_memory(true);
    bed.assert_holds(&[st(1), st(0)], "moved");
    bed.raise_all("decoded");
}

/// TPH went off while the table was out of reach: a map, for which memory is decoded, does not turn
/// it on.
pub fn r93_map_after_a_loss(bench: &mut Bench) {
    let bed = Bed::bare(bench, &Want::MSIX, Gate::Safe);
    let device = &bed.device;
    let sources = [cpu(0), cpu(1)];
    bed.enable(STANDARD);
    device.program(0, &sources).expect("TPH_ST");
    device.decode_memory(false);
    bed.endpoint.reset_itself(Lost::Tph);
    assert_errno!(device.program(0, &sources), EIO, "out of reach");
    let off = control(StMode::InterruptVector, Requester::Disabled);
    assert_eq!(device.control(), off);
    device.set_map(&map()).expect("TPH_MAP");
    assert_eq!((device.control(), bed.endpoint.control()), (off, off));
    bed.assert_holds(&[], "a map");
    device.decode_memory(true);
    bed.write(0, &[1, 2]);
    assert_eq!((device.control(), bed.endpoint.control()), (off, off));
    bed.assert_holds(&[], "off");
    bed.enable(STANDARD);
    bed.assert_means(&[1, 2], false, "enabled");
}

/// A mode that a guest is not offered does not stay selected: what it writes to one byte of Control
/// would be dropped.
pub fn r93_map_beside_device_specific(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Unsafe);
        let device = &bed.device;
        let selected = control(StMode::DeviceSpecific, Requester::Disabled);
        device.set_control(selected);
        assert_eq!(device.control(), selected);
        device.set_map(&map()).expect("TPH_MAP");
        assert_eq!((device.control(), bed.endpoint.control()), (0, 0));
        bed.endpoint.assert_kernel_agrees();
    });
}

/// A guest's kernel restores Control and entries before Command.
pub fn r94_flr(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let device = &bed.device;
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        let command = device.config_word(PCI_COMMAND as u16);
        device.initiate_flr();
        bed.endpoint.assert_off("FLR");
        assert_eq!((bed.read(2), device.control()), (vec![0, 0], 0));
        device.set_config(PCI_COMMAND as u16, &[0, 0]);
        device.set_control(control(EXTENDED.0, EXTENDED.1));
        assert_eq!(device.control(), control(EXTENDED.0, EXTENDED.1));
        bed.write(0, &[1, 2]);
        device.set_config(PCI_COMMAND as u16, &command.to_le_bytes());
        bed.assert_means(&[1, 2], true, "restored");
        assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
        // The map has outlived it.
        assert_ne!(device.tph().expect("GET").flags & VFIO_TPH_FLAG_VIRTUAL, 0);
        device.reset().expect("VFIO_DEVICE_RESET");
        bed.endpoint.assert_off("a reset");
        assert_eq!((bed.read(2), device.control()), (vec![0, 0], 0));
        bed.write(0, &[2]);
        bed.enable(STANDARD);
        bed.assert_means(&[2], false, "after a reset");
    });
}

pub fn r94_d3hot(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let device = &bed.device;
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        device.set_power_state(3);
        bed.write(0, &[4, 4]);
        device.set_map(&[cpu(1), cpu(0)]).expect("moved in D3hot");
        device.set_power_state(0);
        assert_eq!(bed.read(2), [1, 2], "dropped");
        bed.assert_holds(&[xst(1), xst(0)], "awake");
        assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
        assert_eq!(device.control(), control(EXTENDED.0, EXTENDED.1));
    });
}

/// The map moves while the device sleeps, and it is woken up by other ways than its user's write:
/// the tags of the new one are in force when the call returns.
pub fn r93_moved_in_d3hot(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::with_vcpus(bench, want, Gate::Safe, "0,1");
        let (device, bdf) = (&bed.device, &bed.endpoint.bdf);
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        device.set_power_state(3);
        vcpus::write(bdf, "1,0").expect("tph_vcpus");
        device.enter_low_power().expect("LOW_POWER_ENTRY");
        wait_until(|| bdf.is_suspended());
        device.exit_low_power().expect("LOW_POWER_EXIT");
        assert_eq!(bed.endpoint.state().power_state, 0);
        bed.assert_holds(&[xst(1), xst(0)], "awake");
        assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
        assert_eq!(device.control(), control(EXTENDED.0, EXTENDED.1));
        vcpus_gone(bed);
    });
}

/// Woken up by somebody else than its user, the device has the tags of the new map at once.
pub fn r93_moved_until_it_wakes_up(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::with_vcpus(bench, want, Gate::Safe, "0,1");
        let bdf = &bed.endpoint.bdf;
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        bed.device.set_power_state(3);
        vcpus::write(bdf, "1,0").expect("tph_vcpus");
        let event = EventFd::new().expect("eventfd");
        bed.device
            .enter_low_power_with_wakeup(&event)
            .expect("LOW_POWER_ENTRY_WITH_WAKEUP");
        wait_until(|| bdf.is_suspended());
        let runtime = bdf.path("power/control");
        pci::write(&runtime, "on").expect("runtime PM off");
        event.read().expect("an event");
        pci::write(&runtime, "auto").expect("runtime PM on");
        bed.assert_holds(&[xst(1), xst(0)], "awake");
        assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
        vcpus_gone(bed);
    });
}

/// Entries of a device whose memory is not decoded, which hardware does not have yet.
fn out_of_reach(bench: &mut Bench) -> Bed {
    let bed = Bed::new(bench, &Want::MSIX, Gate::Safe);
    bed.enable(STANDARD);
    bed.device.decode_memory(false);
    bed.write(0, &[1, 2]);
    bed.assert_holds(&[], "recorded only");
    bed
}

/// A write of Command that waits for another user, and is interrupted, has written nothing. When it
/// has, the tags are there.
pub fn r94_command_that_is_interrupted(bench: &mut Bench) {
    let bed = out_of_reach(bench);
    let memory = bed.device.config_word(PCI_COMMAND as u16) | PCI_COMMAND_MEMORY as u16;
    let stuck = Stuck::new(&bed.device, Call::WriteConfig(bed.device.power_register()));
    let device = bed.device.clone();
    let written = signal::interrupted(move || {
        let written = device.write_config(PCI_COMMAND as u16, &memory.to_le_bytes());
        written.map_err(errno)
    });
    assert_errno!(written, EINTR);
    let command = bed.device.config_word(PCI_COMMAND as u16);
    assert_eq!(command & PCI_COMMAND_MEMORY as u16, 0, "nothing is written");
    bed.assert_holds(&[], "interrupted");
    stuck.go_on();
    bed.device.decode_memory(true);
    bed.assert_means(&[1, 2], false, "decoded");
    assert_eq!(bed.endpoint.control(), control(STANDARD.0, STANDARD.1));
}

/// A write of which Command is in memory that is there, and the rest is not: Command is written.
pub fn r94_command_that_faults_half_way(bench: &mut Bench) {
    let bed = out_of_reach(bench);
    let memory = bed.device.config_dword(PCI_COMMAND as u16) | PCI_COMMAND_MEMORY;
    let pages = Pages::new(1);
    let start = page_size() - size_of_val(&memory);
    pages.write(start, &memory.to_le_bytes());
    let written = bed
        .device
        .write_config_from(PCI_COMMAND as u16, pages.at(start), 8);
    assert_errno!(written, EFAULT);
    let command = bed.device.config_dword(PCI_COMMAND as u16);
    assert_ne!(command & PCI_COMMAND_MEMORY, 0, "written");
    bed.assert_means(&[1, 2], false, "decoded");
}

pub fn r94_closed_and_opened(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        bed.write(0, &[1, 2]);
        bed.enable(STANDARD);
        let endpoint = bed.endpoint.clone();
        drop(bed);
        endpoint.assert_off("close");
        let bed = Bed::open(endpoint, want.in_msix);
        let flags = bed.device.tph().expect("GET").flags;
        assert_eq!(
            flags & VFIO_TPH_FLAG_VIRTUAL,
            0,
            "the map went with its user"
        );
    });
}
