// SPDX-License-Identifier: GPL-2.0-only

//! All that changes tags and vectors at once, from many threads.

use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

use tph_selftests::bench::Bench;
use tph_selftests::module::Gate;
use tph_selftests::monitor::meanwhile;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL_REQ_EN_MASK;
use tph_selftests::vfio::{cpu, Device};
use tph_selftests::{kernel, kstate, Errno};
use tph_tests::{st, CPU, OTHER_CPU};

use super::enabled;

/// Batches of each thread.
const BATCHES: usize = 50;
const RESETS: usize = 8;
const BATCH: usize = 4;

/// Programs batches, until enough of them are taken.
fn program(device: &Device, number: u32) {
    let mut taken = 0;
    while taken < BATCHES {
        match device.program(0, &[cpu(number); BATCH]) {
            Ok(()) => taken += 1,
            // Disabled, No ST, or vectors that are not allocated at the moment.
            Err(Errno::ENXIO) => (),
            Err(error) => panic!("TPH_ST: {error}"),
        }
    }
}

fn change_control(device: &Device) {
    for requester in [
        Requester::Extended,
        Requester::Standard,
        Requester::Disabled,
    ] {
        device.set_control(control(StMode::InterruptVector, requester));
    }
}

fn change_vectors(device: &Device, events: &[RawFd]) {
    for count in [BATCH, 1, events.len()] {
        device.set_msix(0, &events[..count]).expect("SET_IRQS");
        device.free_msix();
    }
}

/// Through vfio, which keeps others off the device meanwhile. Of a reset through sysfs vfio knows
/// nothing: it changes vectors of a device that does not decode then.
fn reset(device: &Device) {
    for _ in 0..RESETS {
        device.reset().expect("VFIO_DEVICE_RESET");
    }
}

pub fn r43_many_threads(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Safe, Requester::Extended);
    bed.device.free_msix();
    let device = &bed.device;
    let events = bed.msix().descriptors();
    let program_and_reset = || {
        thread::scope(|scope| {
            scope.spawn(|| program(device, CPU));
            scope.spawn(|| program(device, OTHER_CPU));
            scope.spawn(|| reset(device));
        });
    };
    meanwhile(
        || change_vectors(device, &events),
        || meanwhile(|| change_control(device), program_and_reset),
    );

    // No vector is allocated now, and what is read is what is in force.
    bed.endpoint.assert_tags(&[], "no vectors");
    assert_eq!(bed.device.control(), bed.endpoint.control());
    bed.endpoint.assert_kernel_agrees();
    bed.allocate_again();
    bed.works();
}

/// The device uses a batch whole, or none of it, whenever somebody looks: with vectors that stay.
pub fn r43_no_half_batch(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Safe, Requester::Extended);
    let (device, endpoint) = (&bed.device, &bed.endpoint);
    device.program(0, &[cpu(CPU); BATCH]).expect("TPH_ST");
    let whole = [[st(CPU); BATCH], [st(OTHER_CPU); BATCH]];
    let look = || {
        let now = endpoint.registers();
        let in_use = now.control & PCI_TPH_CTRL_REQ_EN_MASK != 0;
        assert!(
            !in_use || whole.iter().any(|batch| now.entries.starts_with(batch)),
            "{now:x?}"
        );
    };
    let program_and_look = || {
        thread::scope(|scope| {
            let threads = [CPU, OTHER_CPU].map(|cpu| scope.spawn(move || program(device, cpu)));
            while threads.iter().any(|thread| !thread.is_finished()) {
                look();
            }
        });
    };
    meanwhile(|| change_control(device), program_and_look);
    let tags = endpoint.entries();
    let is_whole = whole.iter().any(|batch| tags.starts_with(batch));
    assert!(is_whole, "{tags:x?}");
    bed.works();
}

/// The kernel has no lock for the bits of a device: who writes one beside another one's loses
/// either. Without a patch of ours tph_enabled is such a bit, and a batch leaves it alone; with it,
/// it is none.
pub fn r88_bits_beside_tph_enabled(bench: &mut Bench) {
    const ROUNDS: usize = 20;
    const AT_ONCE: Duration = Duration::from_millis(100);
    let bed = enabled(bench, Gate::Safe, Requester::Standard);
    let (device, endpoint, bdf) = (&bed.device, &bed.endpoint, &bed.endpoint.bdf);
    let toggle = || {
        let toggled = kstate::toggle_neighbour(bdf, AT_ONCE);
        toggled.expect("the bit beside it is what was written last");
    };
    meanwhile(toggle, || {
        for _ in 0..ROUNDS {
            device
                .program(0, &[cpu(CPU), cpu(OTHER_CPU)])
                .expect("TPH_ST");
            endpoint.assert_kernel_agrees();
            if kernel::is_patched() {
                for requester in [Requester::Disabled, Requester::Standard] {
                    device.set_control(control(StMode::InterruptVector, requester));
                    endpoint.assert_kernel_agrees();
                }
            }
        }
    });
    bed.works();
}
