// SPDX-License-Identifier: GPL-2.0-only

//! What one user at a time does to a device, for as long as that user likes: vfio-pci-core copies
//! from user memory in the middle of it. Others who wait can be interrupted, and who need not wait
//! goes on. And what comes between: a reset that fails.

use std::process::ExitCode;
use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::hold::{self, Call, Locked, Stuck};
use tph_selftests::policy::Policy;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::{PCI_COMMAND, PCI_INTERRUPT_LINE, PCI_TPH_CTRL};
use tph_selftests::vfio::{cpu, Device, Op};
use tph_selftests::{assert_errno, errno, harness, signal, tests, Errno};
use tph_tests::bed::{each_in_use, Bed, InForce, D0, D3HOT, ENTRIES, KINDS};
use tph_tests::{xst, CPU, OTHER_CPU};
use vfio_bindings::bindings::vfio::VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;

/// What is in force, which the kernel knows.
fn in_force(bed: &Bed) -> InForce {
    bed.endpoint.assert_kernel_agrees();
    bed.in_force()
}

/// Fails the test unless the call waits, and a signal ends that.
fn waits(bed: &Bed, what: &str, call: fn(&Device) -> Result<(), Errno>) {
    let result = signal::interrupted(bed.call(call));
    assert_errno!(result, EINTR, "{what}");
}

/// What needs no hardware, or none that changes, goes on.
fn others_go_on(bed: &Bed) {
    let device = &bed.device;
    device.tph().expect("TPH");
    device.resolve(&[cpu(CPU)], false).expect("TPH_RESOLVE");
    device.set_config(PCI_INTERRUPT_LINE as u16, &[5]);
    // Asked, or refused, this changes no power state.
    for (op, expected) in [
        (Op::Probe, Ok(())),
        (Op::ProbeSet, Ok(())),
        (Op::ProbeBoth, Err(Errno::EINVAL)),
        (Op::Get, Err(Errno::EINVAL)),
    ] {
        let result = device.feature(op, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, &mut []);
        assert_eq!(result, expected, "LOW_POWER_EXIT");
    }
    assert_eq!(
        device.control(),
        control(StMode::InterruptVector, Requester::Extended)
    );
}

fn program(device: &Device) -> Result<(), Errno> {
    device.program_extended(0, &[cpu(OTHER_CPU), cpu(CPU)])
}

fn write(device: &Device, register: u16, byte: u8) -> Result<(), Errno> {
    match device.write_config(register, &[byte]) {
        Ok(1) => Ok(()),
        Ok(other) => panic!("{other} bytes of one"),
        Err(error) => Err(errno(error)),
    }
}

fn write_control(device: &Device) -> Result<(), Errno> {
    write(device, device.tph_offset() + PCI_TPH_CTRL as u16, 0)
}

fn write_power(device: &Device) -> Result<(), Errno> {
    write(device, device.power_register(), 0)
}

fn set_irqs(device: &Device) -> Result<(), Errno> {
    device.set_msix(0, &[-1; ENTRIES as usize])
}

/// The power register is only looked at of a device that loses its state or has vectors.
fn r43_write_of_the_power_state_that_takes_its_time(bench: &mut Bench) {
    each_in_use(bench, &KINDS[1..], Policy::DsSt, |bed| {
        let before = in_force(&bed);
        for kill in [true, false] {
            let power = Call::WriteConfig(bed.device.power_register());
            let stuck = Stuck::new(&bed.device, power);
            waits(&bed, "TPH_ST", program);
            waits(&bed, "Control", write_control);
            waits(&bed, "PMCSR", write_power);
            if bed.kind.in_msix {
                waits(&bed, "SET_IRQS", set_irqs);
                waits(&bed, "LOW_POWER_EXIT", Device::exit_low_power);
            }
            others_go_on(&bed);
            let waiting = signal::waiting(bed.call(program));
            assert!(!waiting.is_finished());
            match kill {
                true => stuck.kill(),
                false => stuck.go_on(),
            }
            waiting.join().expect("a thread").expect("TPH_ST");
            let after = in_force(&bed);
            assert_eq!(after.registers.control, before.registers.control);
            assert_eq!(after.seen_control, before.seen_control);
            assert_eq!(after.registers.entries[..2], [xst(OTHER_CPU), xst(CPU)]);
        }
        write_power(&bed.device).expect("PMCSR");
        set_irqs(&bed.device).expect("SET_IRQS");
    });
}

/// Of a device whose vectors may have tags. Otherwise nobody waits, as under vfio-pci.
fn r43_set_irqs_that_takes_its_time(bench: &mut Bench) {
    let bed = Bed::in_use(bench, KINDS[1], Policy::DsSt);
    let stuck = Stuck::new(&bed.device, Call::SetIrqs);
    set_irqs(&bed.device).expect("SET_IRQS");
    write_power(&bed.device).expect("PMCSR");
    stuck.go_on();
    drop(bed);
    bench.next_round();

    each_in_use(bench, &KINDS[2..], Policy::DsSt, |bed| {
        for kill in [true, false] {
            let stuck = Stuck::new(&bed.device, Call::SetIrqs);
            waits(&bed, "PMCSR", write_power);
            waits(&bed, "SET_IRQS", set_irqs);
            others_go_on(&bed);
            program(&bed.device).expect("TPH_ST");
            write_control(&bed.device).expect("Control");
            bed.device
                .enable(StMode::InterruptVector, Requester::Extended);
            match kill {
                true => stuck.kill(),
                false => stuck.go_on(),
            }
            write_power(&bed.device).expect("PMCSR");
            set_irqs(&bed.device).expect("SET_IRQS");
        }
    });
}

/// A write that has to wait in its middle ends there: what was done is not done again.
fn r43_interrupted_in_the_middle_of_a_write(bench: &mut Bench) {
    let bed = Bed::in_use(bench, KINDS[1], Policy::DsSt);
    let before = in_force(&bed);
    let power = Call::WriteConfig(bed.device.power_register());
    let stuck = Stuck::new(&bed.device, power);
    let capability = bed.device.tph_offset();
    let written = signal::interrupted(bed.call(move |device| {
        let bytes = [0; 4 + PCI_TPH_CTRL as usize + 4];
        device.write_config(capability - 4, &bytes)
    }));
    // Up to the register; the capability's other bytes are the driver's, and take nothing.
    assert!(matches!(written, Ok(4)), "{written:?}");
    stuck.kill();
    assert_eq!(in_force(&bed), before);
}

/// A reset that is refused is refused at once, whatever goes on.
fn r43_reset_beside_another_one(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::DsSt, |bed| {
        let bdf = bed.endpoint.bdf.clone();
        let held = hold::next_write(&bdf, PCI_COMMAND as u16);
        let other = thread::spawn(move || bdf.reset());
        hold::wait();
        assert_errno!(bed.device.reset(), EAGAIN);
        held.release();
        other.join().expect("who resets").expect("a reset by sysfs");
        assert_eq!(bed.device.control(), 0);
    });
}

/// vfio-pci-core has taken the device to D0 by then.
fn r48_reset_that_fails_in_d3hot(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::DsSt, |bed| {
        let before = in_force(&bed);
        bed.device.set_power_state(D3HOT);
        let locked = Locked::new(&bed.endpoint.bdf);
        assert_errno!(bed.device.reset(), EAGAIN);
        assert_eq!(bed.endpoint.state().power_state, D0 as u8);
        assert_eq!(in_force(&bed), before);
        drop(locked);
        assert_eq!(in_force(&bed), before);
        bed.device.reset().expect("VFIO_DEVICE_RESET");
    });
}

/// The reset waits for who writes the power state, who then looks at what came of it.
fn r48_reset_that_fails_right_after_d3hot(bench: &mut Bench) {
    each_in_use(bench, &KINDS, Policy::DsSt, |bed| {
        let before = in_force(&bed);
        let locked = Locked::new(&bed.endpoint.bdf);
        // vfio-pci-core writes what is not the power state as the user has written it, without its
        // lock, and the power state by the word, with it.
        let held = hold::next_word(&bed.endpoint.bdf, bed.device.power_register());
        let register = bed.device.power_register();
        let writer = signal::waiting(bed.call(move |device| write(device, register, D3HOT as u8)));
        hold::wait();
        let reset = signal::waiting(bed.call(Device::reset));
        assert!(!reset.is_finished());
        held.release();
        let written = writer.join().expect("who writes PMCSR");
        written.expect("PMCSR");
        assert_errno!(reset.join().expect("who resets"), EAGAIN);
        assert_eq!(bed.endpoint.state().power_state, D0 as u8);
        assert_eq!(in_force(&bed), before);
        drop(locked);
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r43_interrupted_in_the_middle_of_a_write,
        r43_reset_beside_another_one,
        r43_set_irqs_that_takes_its_time,
        r43_write_of_the_power_state_that_takes_its_time,
        r48_reset_that_fails_in_d3hot,
        r48_reset_that_fails_right_after_d3hot,
    ])
}
