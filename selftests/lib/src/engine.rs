// SPDX-License-Identifier: GPL-2.0-only

//! The DMA engine of the emulated endpoint, driven as its driver would: by the registers in BAR0.

use std::sync::{LazyLock, Once};
use std::{fs, thread};

use tph_protocol::registers::*;
use tph_protocol::{Tag, TlpHint};
use tph_uapi::pci_regs::{PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY};

use crate::skip;
use crate::vfio::Device;

/// Whether interrupts go by an ITS, which asks who raises them: any of them, as the kernel names
/// it.
static BY_ITS: LazyLock<bool> = LazyLock::new(|| {
    let interrupts = fs::read_to_string("/proc/interrupts").expect("/proc/interrupts");
    interrupts.contains("ITS-")
});

/// Where a request has its tag from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagFrom {
    /// Interrupt Vector mode: the ST entry of that number.
    Vector(u16),
    /// Device Specific mode: the ST entry of that number.
    Entry(u16),
    /// Device Specific mode: the driver, which writes the tag itself to the device.
    Driver(u16),
}

/// The engine of an open device.
pub struct Engine<'a> {
    device: &'a Device,
}

impl<'a> Engine<'a> {
    /// Lets the device be a bus master. The test is left out if it has no such engine.
    pub fn new(device: &'a Device) -> Self {
        let enable = (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER) as u16;
        let before = device.config_word(PCI_COMMAND as u16);
        device.set_config(PCI_COMMAND as u16, &(before | enable).to_le_bytes());
        let engine = Self { device };
        if engine.get(IDENT) != IDENT_VALUE {
            skip!("{} has no DMA engine", device.bdf());
        }
        engine
    }

    fn get(&self, register: u64) -> u32 {
        self.device.bar_dword(BAR_REGISTERS.into(), register)
    }

    fn set(&self, register: u64, value: u32) {
        self.device
            .set_bar_dword(BAR_REGISTERS.into(), register, value);
    }

    #[track_caller]
    fn run(&self, command: u32) {
        self.set(COMMAND, command);
        // As long as the harness lets a test run.
        while self.get(STATUS) == status::BUSY {
            thread::yield_now();
        }
        assert_eq!(self.get(STATUS), status::DONE, "the DMA engine's STATUS");
    }

    /// Has the device reset itself: a value of [`reset_itself`].
    pub fn reset_itself(&self, what: u32) {
        self.set(RESET_ITSELF, what);
    }

    /// Raises an MSI-X vector. Behind an ITS the kernel does so in the device's place: QEMU forgets
    /// whose write it is that comes from an emulated endpoint, and its ITS takes it for another
    /// device's.
    #[track_caller]
    pub fn interrupt(&self, vector: u16) {
        if *BY_ITS {
            static SAID: Once = Once::new();
            SAID.call_once(|| println!("# vectors are raised by the kernel, not by the endpoint"));
            return self.device.trigger_msix(vector).expect("SET_IRQS");
        }
        self.set(INDEX, vector.into());
        self.run(command::INTERRUPT);
    }

    /// Writes eight bytes to `iova`; the hint that the request carried.
    #[track_caller]
    pub fn write(&self, iova: u64, value: u64, ph: u8, tag: TagFrom) -> Option<TlpHint> {
        match tag {
            TagFrom::Vector(index) => self.set(INDEX, index.into()),
            TagFrom::Entry(index) => self.set(DS_TAG, index.into()),
            TagFrom::Driver(tag) => self.set(DS_TAG, DS_RAW | u32::from(tag)),
        }
        for (register, value) in [
            (ADDRESS_LO, iova as u32),
            (ADDRESS_HI, (iova >> 32) as u32),
            (VALUE_LO, value as u32),
            (VALUE_HI, (value >> 32) as u32),
            (LENGTH, 8),
            (HINT, ph.into()),
        ] {
            self.set(register, value);
        }
        self.run(command::WRITE);

        let hint = self.get(LAST_HINT);
        let value = (hint & last_hint::TAG) as u16;
        (hint & last_hint::PRESENT != 0).then_some(TlpHint {
            ph: (hint >> last_hint::PH_SHIFT) as u8 & 3,
            tag: match (hint & last_hint::TAG_VALID, hint & last_hint::TAG_EXTENDED) {
                (0, _) => None,
                (_, 0) => Some(Tag::St(value as u8)),
                _ => Some(Tag::Xst(value)),
            },
        })
    }
}
