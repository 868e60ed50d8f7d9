// SPDX-License-Identifier: GPL-2.0-only

//! All that changes tags and vectors at once, from many threads.

use std::os::fd::RawFd;
use std::thread;
use std::time::Duration;

use tph_selftests::bench::Bench;
use tph_selftests::module::Gate;
use tph_selftests::monitor::meanwhile;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, Device};
use tph_selftests::{kernel, kstate, Errno};
use tph_tests::{st, CPU, OTHER_CPU};

use super::enabled;

const ROUNDS: usize = 150;
const RESETS: usize = 8;
const BATCH: usize = 4;

fn program(device: &Device, number: u32) {
    for _ in 0..ROUNDS {
        match device.program(0, &[cpu(number); BATCH]) {
            // Disabled, No ST, or vectors that are not allocated at the moment.
            Ok(()) | Err(Errno::ENXIO) => (),
            Err(error) => panic!("TPH_ST: {error}"),
        }
    }
}

fn change_control(device: &Device) {
    for round in 0..ROUNDS {
        let requester = match round % 3 {
            0 => Requester::Extended,
            1 => Requester::Standard,
            _ => Requester::Disabled,
        };
        device.set_control(control(StMode::InterruptVector, requester));
    }
}

fn change_vectors(device: &Device, events: &[RawFd]) {
    for round in 0..ROUNDS {
        let count = [BATCH, 1, events.len()][round % 3];
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
    thread::scope(|scope| {
        scope.spawn(|| program(device, CPU));
        scope.spawn(|| program(device, OTHER_CPU));
        scope.spawn(|| change_control(device));
        scope.spawn(|| reset(device));
        scope.spawn(|| change_vectors(device, &events));
    });

    // No vector is allocated now, and what is read is what is in force.
    bed.endpoint.assert_tags(&[], "no vectors");
    assert_eq!(bed.device.control(), bed.endpoint.control());
    bed.endpoint.assert_kernel_agrees();
    bed.allocate_again();
    bed.works();
}

/// A batch is whole whenever somebody looks: with vectors that stay.
pub fn r43_no_half_batch(bench: &mut Bench) {
    let bed = enabled(bench, Gate::Safe, Requester::Extended);
    let device = &bed.device;
    // A thread that comes late finds the requester disabled, and programs nothing.
    device.program(0, &[cpu(CPU); BATCH]).expect("TPH_ST");
    thread::scope(|scope| {
        scope.spawn(|| program(device, CPU));
        scope.spawn(|| program(device, OTHER_CPU));
        scope.spawn(|| change_control(device));
    });
    let tags = bed.endpoint.entries();
    assert!(
        tags[..BATCH] == [st(CPU); BATCH] || tags[..BATCH] == [st(OTHER_CPU); BATCH],
        "{tags:x?}"
    );
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
