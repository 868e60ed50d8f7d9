// SPDX-License-Identifier: GPL-2.0-only

//! One of the two devices, and what an operation comes to on it.

use std::cell::Cell;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::rc::Rc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::ProtFlags;
use nix::sys::uio::{pread, pwrite};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{number, Device, Mapped};
use tph_selftests::Errno;
use vfio_bindings::bindings::vfio::*;

use super::operation::{Descriptor, LowPower, Memory, Operation, EVENTS};

/// What an operation came to: all that a user sees of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What the call returned.
    pub result: Result<i64, Errno>,
    /// What it has written to the user's memory.
    pub data: Memory,
    /// Counts of the side's events.
    pub signals: Vec<u64>,
}

/// One of the two devices.
pub struct Side {
    pub endpoint: Rc<Endpoint>,
    device: Device,
    events: Vec<EventFd>,
    wakeup: EventFd,
    /// Whether it is in low power, or goes there again after each operation.
    low_power: Cell<bool>,
    /// Distance of regions in the device's file.
    spacing: u64,
}

impl Side {
    /// Opens a device that a driver is bound to.
    pub fn open(endpoint: Rc<Endpoint>) -> Self {
        let device = endpoint.open();
        let place = |index| device.region(index).expect("a region").offset;
        let spacing = place(1) - place(0);
        let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("eventfd");
        let side = Self {
            events: (0..EVENTS).map(|_| event()).collect(),
            wakeup: event(),
            low_power: Cell::new(false),
            spacing,
            device,
            endpoint,
        };
        side.level();
        side
    }

    /// What depends on where a device is: its addresses and its interrupt line. Both are vfio's own
    /// memory, and the user's from the first write on.
    fn level(&self) {
        let bars = (PCI_BASE_ADDRESS_0..=PCI_BASE_ADDRESS_5).step_by(4);
        for register in bars.chain([PCI_ROM_ADDRESS]) {
            self.device.set_config(register as u16, &[0; 4]);
        }
        self.device.set_config(PCI_INTERRUPT_LINE as u16, &[0]);
    }

    fn place(&self, region: u32, offset: u64) -> i64 {
        (u64::from(region) * self.spacing + offset) as i64
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the device is open as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.device.fd()) }
    }

    /// All of config space.
    pub fn config_space(&self) -> Vec<u8> {
        self.device.config_space()
    }

    /// Does it, and waits until the device sleeps again if it is in low power: the kernel has it
    /// fall asleep in its own time, which ends D3hot, too.
    pub fn apply(&self, operation: &Operation) -> Outcome {
        let outcome = self.apply_at_once(operation);
        match operation.low_power() {
            Some(LowPower::Entry) if outcome.result.is_ok() => self.low_power.set(true),
            Some(LowPower::Exit) if outcome.result.is_ok() => {
                self.low_power.set(false);
                // It may have been awake already when it was told to be.
                let _ = self.wakeup.read();
            }
            _ => (),
        }
        while self.low_power.get() && !self.endpoint.bdf.is_suspended() {
            if self.wakeup.read().is_ok() {
                self.low_power.set(false);
            }
        }
        outcome
    }

    fn apply_at_once(&self, operation: &Operation) -> Outcome {
        match operation {
            &Operation::Read {
                region,
                offset,
                length,
            } => {
                let mut data = vec![0xa5; length];
                let result = pread(self.fd(), &mut data, self.place(region, offset));
                Outcome::new(result.map(|count| count as i64), data)
            }
            Operation::Write {
                region,
                offset,
                bytes,
            } => {
                let result = pwrite(self.fd(), &bytes.0, self.place(*region, *offset));
                Outcome::new(result.map(|count| count as i64), Vec::new())
            }
            &Operation::Map {
                region,
                offset,
                length,
                writable,
            } => {
                let mut protection = ProtFlags::PROT_READ;
                protection.set(ProtFlags::PROT_WRITE, writable);
                let place = self.place(region, offset) as u64;
                let mapped = Mapped::new(self.device.fd(), place, length, protection);
                Outcome::new(mapped.map(|_| 0), Vec::new())
            }
            Operation::Ioctl {
                number,
                argument,
                descriptors,
            } => self.ioctl(*number, argument.0.clone(), descriptors),
        }
    }

    fn ioctl(
        &self,
        number: u32,
        mut argument: Vec<u8>,
        descriptors: &[(usize, Descriptor)],
    ) -> Outcome {
        for &(at, descriptor) in descriptors {
            let fd = match descriptor {
                Descriptor::Event(index) => self.events[index].as_raw_fd(),
                Descriptor::Wakeup => self.wakeup.as_raw_fd(),
                Descriptor::Device => self.device.fd(),
            };
            argument[at..at + 4].copy_from_slice(&fd.to_ne_bytes());
        }
        let mut result = self.device.any_ioctl(number, &mut argument).map(i64::from);
        for &(at, _) in descriptors {
            argument[at..at + 4].fill(0);
        }
        match number {
            // Any new descriptor is as good as another.
            number::DEVICE_FEATURE => {
                if let Ok(fd @ 1..) = result {
                    // SAFETY: the kernel has just made this descriptor, for us alone.
                    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
                    result = Ok(1);
                }
            }
            // Which devices are hit is another matter for each; how many is not.
            number::DEVICE_GET_PCI_HOT_RESET_INFO => {
                argument[size_of::<vfio_pci_hot_reset_info>()..].fill(0);
            }
            _ => (),
        }
        let mut outcome = Outcome::new(result, argument);
        if number == number::DEVICE_SET_IRQS {
            outcome.signals = self
                .events
                .iter()
                .map(|it| it.read().unwrap_or(0))
                .collect();
        }
        outcome
    }
}

impl Outcome {
    fn new(result: Result<i64, Errno>, data: Vec<u8>) -> Self {
        Self {
            result,
            data: Memory(data),
            signals: Vec::new(),
        }
    }
}
