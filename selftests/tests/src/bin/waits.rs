// SPDX-License-Identifier: GPL-2.0-only

//! What one user at a time does to a device, for as long as he likes: core copies from his memory in
//! the middle of it. Who waits for him can be interrupted, and who need not wait goes on. And what
//! comes between: a reset that fails.

use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::endpoint::{Endpoint, Registers};
use tph_selftests::hold::{self, Call, Locked, Stuck};
use tph_selftests::policy::{self, Policy};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::{PCI_COMMAND, PCI_INTERRUPT_LINE, PCI_TPH_CTRL};
use tph_selftests::vfio::{cpu, Device, Vectors};
use tph_selftests::{assert_errno, errno, harness, signal, tests, Errno};
use tph_tests::{xst, CPU, OTHER_CPU};

const D0: u16 = 0;
const D3HOT: u16 = 3;
const ENTRIES: u32 = 4;

/// An open device, enabled, with tags.
struct Bed {
    endpoint: Rc<Endpoint>,
    device: Arc<Device>,
    vectors: Option<Vectors>,
}

/// What must be the same after as before.
#[derive(Debug, PartialEq, Eq)]
struct InForce {
    registers: Registers,
    tags: Vec<u16>,
    seen: u32,
}

impl Bed {
    fn new(bench: &mut Bench, in_msix: bool, loses_state: bool) -> Self {
        let what = format!("in MSI-X: {in_msix}, loses its state: {loses_state}");
        let endpoint = bench.pick_with(&what, |traits| {
            traits.in_msix == in_msix
                && traits.no_soft_reset != loses_state
                && traits.extended
                && traits.flr
                && traits.vectors < 512
        });
        policy::bind(&endpoint, Policy::DsSt);
        let device = endpoint.open();
        let vectors =
            in_msix.then(|| Vectors::allocate(&device, ENTRIES).expect("SET_IRQS of some vectors"));
        device.enable(StMode::InterruptVector, Requester::Extended);
        device
            .program_extended(0, &[cpu(CPU), cpu(OTHER_CPU)])
            .expect("TPH_ST");
        Self {
            endpoint,
            device: Arc::new(device),
            vectors,
        }
    }

    fn in_force(&self) -> InForce {
        self.endpoint.assert_kernel_agrees();
        InForce {
            registers: self.endpoint.registers(),
            tags: match self.vectors {
                Some(_) => self.endpoint.tags(),
                None => self.endpoint.entries(),
            },
            seen: self.device.control(),
        }
    }

    /// A call on the device, for another thread.
    fn call<T>(&self, call: impl FnOnce(&Device) -> T) -> impl FnOnce() -> T {
        let device = self.device.clone();
        move || call(&device)
    }

    /// Fails the test unless the call waits, and a signal ends that.
    fn waits(&self, what: &str, call: fn(&Device) -> Result<(), Errno>) {
        let result = signal::interrupted(self.call(call));
        assert_errno!(result, EINTR, "{what}");
    }

    /// What needs no hardware, or none that changes, goes on.
    fn others_go_on(&self) {
        let device = &self.device;
        device.tph().expect("TPH");
        device.resolve(&[cpu(CPU)], false).expect("TPH_RESOLVE");
        device.set_config(PCI_INTERRUPT_LINE as u16, &[5]);
        assert_eq!(
            device.control(),
            control(StMode::InterruptVector, Requester::Extended)
        );
    }
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

/// Calls `body` on one of each kind.
fn each_kind(bench: &mut Bench, body: impl Fn(&Bed)) {
    for in_msix in [false, true] {
        for loses_state in [false, true] {
            body(&Bed::new(bench, in_msix, loses_state));
            bench.next_round();
        }
    }
}

/// The power register is only looked at of a device that loses its state or has vectors.
fn r43_write_of_the_power_state_that_takes_its_time(bench: &mut Bench) {
    for (in_msix, loses_state) in [(false, true), (true, false), (true, true)] {
        let bed = Bed::new(bench, in_msix, loses_state);
        let before = bed.in_force();
        for kill in [true, false] {
            let power = Call::WriteConfig(bed.device.power_register());
            let stuck = Stuck::new(&bed.device, power);
            bed.waits("TPH_ST", program);
            bed.waits("Control", write_control);
            bed.waits("PMCSR", write_power);
            if in_msix {
                bed.waits("SET_IRQS", set_irqs);
            }
            bed.others_go_on();
            let waiting = signal::waiting(bed.call(program));
            assert!(!waiting.is_finished());
            match kill {
                true => stuck.kill(),
                false => stuck.go_on(),
            }
            waiting.join().expect("a thread").expect("TPH_ST");
            let after = bed.in_force();
            assert_eq!(after.registers.control, before.registers.control);
            assert_eq!(after.seen, before.seen);
            assert_eq!(after.tags[..2], [xst(OTHER_CPU), xst(CPU)]);
        }
        write_power(&bed.device).expect("PMCSR");
        set_irqs(&bed.device).expect("SET_IRQS");
        drop(bed);
        bench.next_round();
    }
}

/// Of a device whose vectors may have tags. Otherwise nobody waits, as under vfio-pci.
fn r43_set_irqs_that_takes_its_time(bench: &mut Bench) {
    let bed = Bed::new(bench, false, true);
    let stuck = Stuck::new(&bed.device, Call::SetIrqs);
    set_irqs(&bed.device).expect("SET_IRQS");
    write_power(&bed.device).expect("PMCSR");
    stuck.go_on();
    drop(bed);
    bench.next_round();

    for loses_state in [false, true] {
        let bed = Bed::new(bench, true, loses_state);
        for kill in [true, false] {
            let stuck = Stuck::new(&bed.device, Call::SetIrqs);
            bed.waits("PMCSR", write_power);
            bed.waits("SET_IRQS", set_irqs);
            bed.others_go_on();
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
        drop(bed);
        bench.next_round();
    }
}

/// A write that has to wait in its middle ends there: what was done is not done again.
fn r43_interrupted_in_the_middle_of_a_write(bench: &mut Bench) {
    let bed = Bed::new(bench, false, true);
    let before = bed.in_force();
    let power = Call::WriteConfig(bed.device.power_register());
    let stuck = Stuck::new(&bed.device, power);
    let capability = bed.device.tph_offset();
    let written = signal::interrupted(bed.call(move |device| {
        let bytes = [0; 4 + PCI_TPH_CTRL as usize + 4];
        device.write_config(capability - 4, &bytes)
    }));
    // Up to the register; the capability's other bytes are not core's, and take nothing.
    assert!(matches!(written, Ok(4)), "{written:?}");
    stuck.kill();
    assert_eq!(bed.in_force(), before);
}

/// A reset that is refused is refused at once, whatever goes on.
fn r43_reset_beside_another_one(bench: &mut Bench) {
    each_kind(bench, |bed| {
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
    each_kind(bench, |bed| {
        let before = bed.in_force();
        bed.device.set_power_state(D3HOT);
        let locked = Locked::new(&bed.endpoint.bdf);
        assert_errno!(bed.device.reset(), EAGAIN);
        assert_eq!(bed.endpoint.state().power_state, D0 as u8);
        assert_eq!(bed.in_force(), before);
        drop(locked);
        assert_eq!(bed.in_force(), before);
        bed.device.reset().expect("VFIO_DEVICE_RESET");
    });
}

/// The reset waits for who writes the power state, who then looks at what came of it.
fn r48_reset_that_fails_right_after_d3hot(bench: &mut Bench) {
    each_kind(bench, |bed| {
        let before = bed.in_force();
        let locked = Locked::new(&bed.endpoint.bdf);
        // core writes what is not the power state as the user has written it, without its lock, and
        // the power state by the word, with it.
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
        assert_eq!(bed.in_force(), before);
        drop(locked);
    });
}

fn main() -> ExitCode {
    if let Some(code) = hold::main() {
        return code;
    }
    harness::run(tests![
        r43_interrupted_in_the_middle_of_a_write,
        r43_reset_beside_another_one,
        r43_set_irqs_that_takes_its_time,
        r43_write_of_the_power_state_that_takes_its_time,
        r48_reset_that_fails_in_d3hot,
        r48_reset_that_fails_right_after_d3hot,
    ])
}
