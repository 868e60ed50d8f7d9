// SPDX-License-Identifier: GPL-2.0-only

//! All that changes tags and vectors at once, from many threads.

use std::os::fd::RawFd;
use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::module::Gate;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, Device};
use tph_selftests::Errno;
use tph_tests::{st, CPU, OTHER_CPU};
use vfio_bindings::bindings::vfio::VFIO_PCI_MSIX_IRQ_INDEX;

use super::Bed;

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
        device
            .free_irqs(VFIO_PCI_MSIX_IRQ_INDEX)
            .expect("SET_IRQS of none");
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
    let bed = Bed::new(bench, Gate::Safe, Requester::Extended);
    bed.device
        .free_irqs(VFIO_PCI_MSIX_IRQ_INDEX)
        .expect("SET_IRQS of none");
    let device = &bed.device;
    let events = bed.vectors.descriptors();
    thread::scope(|scope| {
        scope.spawn(|| program(device, CPU));
        scope.spawn(|| program(device, OTHER_CPU));
        scope.spawn(|| change_control(device));
        scope.spawn(|| reset(device));
        scope.spawn(|| change_vectors(device, &events));
    });

    // No vector is allocated now, and what is read is what is in force.
    let tags = bed.endpoint.tags();
    assert!(tags.iter().all(|&tag| tag == 0), "{tags:x?}");
    assert_eq!(bed.device.control(), bed.endpoint.control());
    bed.endpoint.assert_kernel_agrees();
    works(&bed);
}

/// A batch is whole whenever somebody looks: with vectors that stay.
pub fn r43_no_half_batch(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Safe, Requester::Extended);
    let device = &bed.device;
    // A thread that comes late finds the requester disabled, and programs nothing.
    device.program(0, &[cpu(CPU); BATCH]).expect("TPH_ST");
    thread::scope(|scope| {
        scope.spawn(|| program(device, CPU));
        scope.spawn(|| program(device, OTHER_CPU));
        scope.spawn(|| change_control(device));
    });
    let tags = bed.endpoint.tags();
    assert!(
        tags[..BATCH] == [st(CPU); BATCH] || tags[..BATCH] == [st(OTHER_CPU); BATCH],
        "{tags:x?}"
    );
    works(&bed);
}

fn works(bed: &Bed) {
    bed.device
        .set_msix(0, &bed.vectors.descriptors())
        .expect("SET_IRQS");
    bed.device.set_control(0);
    bed.device
        .enable(StMode::InterruptVector, Requester::Standard);
    bed.device
        .program(0, &[cpu(OTHER_CPU), cpu(CPU)])
        .expect("TPH_ST");
    assert_eq!(bed.endpoint.tags()[..2], [st(OTHER_CPU), st(CPU)]);
    bed.raise_all("afterwards");
}
