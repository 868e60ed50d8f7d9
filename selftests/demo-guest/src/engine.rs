// SPDX-License-Identifier: GPL-2.0-only

//! The endpoint's DMA engine, driven as its driver would: by the registers in BAR0.

use std::thread;
use std::time::{Duration, Instant};

use tph_selftests::protocol::registers::{
    command, status, ADDRESS_HI, ADDRESS_LO, BAR_REGISTERS, COMMAND, HINT, IDENT, IDENT_VALUE,
    INDEX, LENGTH, STATUS, VALUE_HI, VALUE_LO,
};
use tph_selftests::uapi::pci_regs::{PCI_COMMAND, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY};
use tph_selftests::vfio::Device;

/// No engine takes that long.
const DEADLINE: Duration = Duration::from_secs(5);

/// One DMA write, as the engine is told to do it.
pub struct Write {
    /// Where the device finds the memory.
    pub iova: u64,
    /// What it writes, over and over.
    pub pattern: [u8; 8],
    /// How many bytes.
    pub length: u32,
    /// Processing hint of the request.
    pub ph: u8,
    /// The interrupt vector that the request belongs to, and so the ST entry in Interrupt Vector
    /// mode.
    pub vector: u16,
}

impl Write {
    /// Has the engine do it, and waits until it is done.
    pub fn run(&self, device: &Device) {
        let enable = (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER) as u16;
        let before = device.config_word(PCI_COMMAND as u16);
        device.set_config(PCI_COMMAND as u16, &(before | enable).to_le_bytes());
        assert_eq!(read(device, IDENT), IDENT_VALUE, "the DMA engine's IDENT");

        let pattern = u64::from_le_bytes(self.pattern);
        for (register, value) in [
            (ADDRESS_LO, self.iova as u32),
            (ADDRESS_HI, (self.iova >> 32) as u32),
            (VALUE_LO, pattern as u32),
            (VALUE_HI, (pattern >> 32) as u32),
            (LENGTH, self.length),
            (HINT, self.ph.into()),
            (INDEX, self.vector.into()),
            (COMMAND, command::WRITE),
        ] {
            device.set_bar_dword(BAR_REGISTERS.into(), register, value);
        }

        let start = Instant::now();
        while read(device, STATUS) == status::BUSY {
            assert!(start.elapsed() < DEADLINE, "the DMA engine does not end");
            thread::yield_now();
        }
        assert_eq!(
            read(device, STATUS),
            status::DONE,
            "the DMA engine's STATUS"
        );
    }

    /// The bytes that arrive.
    pub fn bytes(&self) -> Vec<u8> {
        let bytes = self.pattern.into_iter().cycle();
        bytes.take(self.length as usize).collect()
    }
}

fn read(device: &Device, register: u64) -> u32 {
    device.bar_dword(BAR_REGISTERS.into(), register)
}
