// SPDX-License-Identifier: GPL-2.0-only

//! What a user can do to an open device: any of it, at random.

use std::fmt;

use fastrand::Rng;
use tph_selftests::memory::page_size;
use tph_selftests::protocol::registers::{BAR_REGISTERS, COMMAND};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::number;
use vfio_bindings::bindings::vfio::*;

/// Size of every ioctl's argument; the kernel is never told of more than that.
pub const ARGUMENT: usize = 1024;
/// Events that each side has for interrupts and writes.
pub const EVENTS: usize = 6;

/// Bytes of the user's memory, shown without what is 0 at their end.
#[derive(Clone, PartialEq, Eq)]
pub struct Memory(pub Vec<u8>);

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.0.iter().rposition(|&byte| byte != 0);
        let shown = &self.0[..used.map_or(0, |last| last + 1)];
        write!(f, "{} bytes: ", self.0.len())?;
        shown.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A file descriptor in an argument, which is not the same number for both sides.
#[derive(Clone, Copy, Debug)]
pub enum Descriptor {
    /// One of the side's events.
    Event(usize),
    /// The event for the end of low power: when that comes is not the user's to say, so it must
    /// not start a write.
    Wakeup,
    /// The device itself.
    Device,
}

/// One operation.
#[derive(Clone, Debug)]
pub enum Operation {
    /// pread() of a region.
    Read {
        region: u32,
        offset: u64,
        length: usize,
    },
    /// pwrite() of a region.
    Write {
        region: u32,
        offset: u64,
        bytes: Memory,
    },
    /// mmap() of a region.
    Map {
        region: u32,
        offset: u64,
        length: usize,
        writable: bool,
    },
    /// ioctl(), with descriptors that stand at places of the argument.
    Ioctl {
        number: u32,
        argument: Memory,
        descriptors: Vec<(usize, Descriptor)>,
    },
}

const CONFIG: u32 = VFIO_PCI_CONFIG_REGION_INDEX;

/// Where something happens more often than elsewhere: the header, and the beginning of what is
/// extended.
fn config_offset(rng: &mut Rng) -> u64 {
    match rng.u8(..10) {
        0..=3 => rng.u64(..PCI_STD_HEADER_SIZEOF as u64),
        4..=5 => rng.u64(..u64::from(PCI_CFG_SPACE_SIZE)),
        6..=8 => rng.u64(..u64::from(PCI_CFG_SPACE_EXP_SIZE)),
        // Around the end, and far beyond it.
        _ => u64::from(PCI_CFG_SPACE_EXP_SIZE) - 8 + rng.u64(..4096),
    }
}

fn length(rng: &mut Rng) -> usize {
    // A long one is a thousand accesses of the device.
    match rng.u16(..1000) {
        0..=3 => rng.usize(..5000),
        4..=150 => rng.usize(..64),
        _ => [1, 2, 4, 8][rng.usize(..4)],
    }
}

fn bytes(rng: &mut Rng, length: usize) -> Memory {
    let mut bytes = vec![0; length];
    match rng.u8(..4) {
        0 => bytes.fill(0),
        1 => bytes.fill(0xff),
        _ => rng.fill(&mut bytes),
    }
    Memory(bytes)
}

/// A region that is not config space, also one that there is not.
fn bar(rng: &mut Rng) -> u32 {
    match rng.u8(..8) {
        0..=2 => 0,
        3..=5 => 2,
        6 => rng.u32(..VFIO_PCI_NUM_REGIONS),
        _ => rng.u32(..20),
    }
}

fn bar_offset(rng: &mut Rng) -> u64 {
    match rng.u8(..8) {
        0..=2 => rng.u64(..256),
        3..=5 => rng.u64(..0x1_0000),
        6 => 0x1_0000 - 8 + rng.u64(..16),
        _ => rng.u64(..1 << 41),
    }
}

fn read(rng: &mut Rng) -> Operation {
    let (region, offset) = match rng.u8(..10) {
        0..=6 => (CONFIG, config_offset(rng)),
        _ => (bar(rng), bar_offset(rng)),
    };
    Operation::Read {
        region,
        offset,
        length: length(rng),
    }
}

fn write(rng: &mut Rng) -> Operation {
    let mut length = length(rng);
    if rng.u8(..10) < 6 {
        return Operation::Write {
            region: CONFIG,
            offset: config_offset(rng),
            // More would be a reset and a power state each time.
            bytes: bytes(rng, length.min(64)),
        };
    }
    let (region, mut offset) = (bar(rng), bar_offset(rng));
    // The engine's requests end when they like, and what they find is not vfio's.
    if region == u32::from(BAR_REGISTERS)
        && offset <= COMMAND + 3
        && offset + length as u64 > COMMAND
    {
        offset = COMMAND + 4;
        length = length.min(16);
    }
    let bytes = bytes(rng, length);
    Operation::Write {
        region,
        offset,
        bytes,
    }
}

/// Memory decoding and bus mastering, on more often than off.
fn command(rng: &mut Rng) -> Operation {
    let decoding = (PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER) as u16;
    let value = match rng.u8(..4) {
        0 => rng.u16(..),
        _ => decoding | rng.u16(..) & PCI_COMMAND_INTX_DISABLE as u16,
    };
    Operation::Write {
        region: CONFIG,
        offset: PCI_COMMAND.into(),
        bytes: Memory(value.to_le_bytes().into()),
    }
}

/// A power state, D0 more often than others. `power` is the offset of the capability.
fn power(rng: &mut Rng, power: u16) -> Operation {
    let state = [0, 0, 0, 0, 1, 2, 3, 3][rng.usize(..8)];
    Operation::Write {
        region: CONFIG,
        offset: u64::from(power) + u64::from(PCI_PM_CTRL),
        bytes: Memory(vec![state, 0]),
    }
}

fn map(rng: &mut Rng) -> Operation {
    Operation::Map {
        region: if rng.u8(..10) == 0 { CONFIG } else { bar(rng) },
        offset: match rng.u8(..4) {
            0 => rng.u64(..0x2_0000),
            _ => page_size() as u64 * rng.u64(..20),
        },
        length: match rng.u8(..4) {
            0 => 1 + rng.usize(..0x2_0000),
            _ => page_size() * (1 + rng.usize(..16)),
        },
        writable: rng.bool(),
    }
}

/// An argument that begins with these fields.
fn argument(fields: &[u32]) -> Vec<u8> {
    let mut argument: Vec<u8> = fields.iter().flat_map(|it| it.to_ne_bytes()).collect();
    argument.resize(ARGUMENT, 0);
    argument
}

fn ioctl(number: u32, fields: &[u32]) -> Operation {
    Operation::Ioctl {
        number,
        argument: Memory(argument(fields)),
        descriptors: Vec::new(),
    }
}

/// argsz: what is right, or a little or much beside it.
fn argsz(rng: &mut Rng, right: usize) -> u32 {
    match rng.u8(..10) {
        0 => rng.u32(..ARGUMENT as u32),
        1 => right as u32 - 1 - rng.u32(..8),
        2 => ARGUMENT as u32,
        _ => right as u32,
    }
}

/// An index below a number, or not.
fn index(rng: &mut Rng, below: u32) -> u32 {
    match rng.u8(..10) {
        0 => rng.u32(..),
        1 => below,
        _ => rng.u32(..below),
    }
}

fn info(rng: &mut Rng) -> Operation {
    let flags = if rng.u8(..10) == 0 { rng.u32(..) } else { 0 };
    match rng.u8(..8) {
        0 => {
            let argsz = argsz(rng, size_of::<vfio_device_info>());
            ioctl(number::DEVICE_GET_INFO, &[argsz, flags])
        }
        1..=4 => {
            let argsz = argsz(rng, size_of::<vfio_region_info>());
            let index = index(rng, VFIO_PCI_NUM_REGIONS);
            ioctl(number::DEVICE_GET_REGION_INFO, &[argsz, flags, index])
        }
        5..=6 => {
            let argsz = argsz(rng, size_of::<vfio_irq_info>());
            let index = index(rng, VFIO_PCI_NUM_IRQS);
            ioctl(number::DEVICE_GET_IRQ_INFO, &[argsz, flags, index])
        }
        _ => {
            let argsz = argsz(rng, size_of::<vfio_pci_hot_reset_info>());
            ioctl(number::DEVICE_GET_PCI_HOT_RESET_INFO, &[argsz, flags])
        }
    }
}

fn set_irqs(rng: &mut Rng) -> Operation {
    let kinds = [
        VFIO_IRQ_SET_DATA_NONE,
        VFIO_IRQ_SET_DATA_BOOL,
        VFIO_IRQ_SET_DATA_EVENTFD,
        VFIO_IRQ_SET_DATA_EVENTFD,
    ];
    let actions = [
        VFIO_IRQ_SET_ACTION_TRIGGER,
        VFIO_IRQ_SET_ACTION_TRIGGER,
        VFIO_IRQ_SET_ACTION_TRIGGER,
        VFIO_IRQ_SET_ACTION_MASK,
        VFIO_IRQ_SET_ACTION_UNMASK,
    ];
    let kind = kinds[rng.usize(..kinds.len())];
    let mut flags = kind | actions[rng.usize(..actions.len())];
    if rng.u8(..20) == 0 {
        flags = rng.u32(..64);
    }
    let index = match rng.u8(..4) {
        0 => index(rng, VFIO_PCI_NUM_IRQS),
        _ => VFIO_PCI_MSIX_IRQ_INDEX,
    };
    let start = if rng.bool() { 0 } else { rng.u32(..6) };
    let count = match rng.u8(..20) {
        0 => rng.u32(..),
        _ => rng.u32(..6),
    };
    let header = size_of::<vfio_irq_set>();
    let each = match kind {
        VFIO_IRQ_SET_DATA_EVENTFD => 4,
        VFIO_IRQ_SET_DATA_BOOL => 1,
        _ => 0,
    };
    let argsz = argsz(rng, header + each * count.min(8) as usize);
    let mut argument = argument(&[argsz, flags, index, start, count]);
    let mut descriptors = Vec::new();
    for position in 0..8 {
        let at = header + 4 * position;
        if kind != VFIO_IRQ_SET_DATA_EVENTFD {
            argument[header + position] = rng.u8(..2);
            continue;
        }
        match rng.u8(..12) {
            0 => argument[at..at + 4].copy_from_slice(&(-2_i32).to_ne_bytes()),
            1 => argument[at..at + 4].copy_from_slice(&9999_i32.to_ne_bytes()),
            2 => descriptors.push((at, Descriptor::Device)),
            3..=4 => argument[at..at + 4].copy_from_slice(&(-1_i32).to_ne_bytes()),
            _ => descriptors.push((at, Descriptor::Event(rng.usize(..EVENTS)))),
        }
    }
    Operation::Ioctl {
        number: number::DEVICE_SET_IRQS,
        argument: Memory(argument),
        descriptors,
    }
}

/// A feature, but none of TPH: those are what differs (see `r66_the_features_that_differ`).
fn feature(rng: &mut Rng) -> Operation {
    let ours = VFIO_DEVICE_FEATURE_TPH..=VFIO_DEVICE_FEATURE_TPH_MAP;
    let index = loop {
        let index = match rng.u8(..10) {
            0 => rng.u32(..=VFIO_DEVICE_FEATURE_MASK),
            1 => VFIO_DEVICE_FEATURE_TPH - 4 + rng.u32(..16),
            _ => rng.u32(..16),
        };
        if !ours.contains(&index) {
            break index;
        }
    };
    let flags = match rng.u8(..8) {
        0 => rng.u32(..) & !VFIO_DEVICE_FEATURE_MASK,
        1..=2 => VFIO_DEVICE_FEATURE_PROBE | (rng.u32(..4) << VFIO_DEVICE_FEATURE_GET.ilog2()),
        3..=4 => VFIO_DEVICE_FEATURE_GET,
        _ => VFIO_DEVICE_FEATURE_SET,
    };
    let header = size_of::<vfio_device_feature>();
    let size = match index {
        VFIO_DEVICE_FEATURE_BUS_MASTER => 4,
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP => 8,
        VFIO_DEVICE_FEATURE_DMA_BUF => size_of::<vfio_device_feature_dma_buf>() + 16,
        _ => [0, 4, 8, 16, 32][rng.usize(..5)],
    };
    let argsz = argsz(rng, header + size);
    let mut argument = argument(&[argsz, flags | index]);
    let mut descriptors = Vec::new();
    match index {
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP => {
            descriptors.push((header, Descriptor::Wakeup));
        }
        VFIO_DEVICE_FEATURE_DMA_BUF => {
            let page = |rng: &mut Rng| page_size() as u64 * rng.u64(..20);
            let open_flags = (libc::O_RDWR | libc::O_CLOEXEC) as u32;
            let fields = [bar(rng), open_flags, 0, 1];
            let mut data: Vec<u8> = fields.iter().flat_map(|it| it.to_ne_bytes()).collect();
            data.extend(page(rng).to_ne_bytes());
            data.extend(page(rng).to_ne_bytes());
            argument[header..header + data.len()].copy_from_slice(&data);
        }
        _ => rng.fill(&mut argument[header..header + size]),
    }
    Operation::Ioctl {
        number: number::DEVICE_FEATURE,
        argument: Memory(argument),
        descriptors,
    }
}

/// An eventfd that is to write a BAR, or a number that vfio does not have.
fn other(rng: &mut Rng) -> Operation {
    if rng.bool() {
        return ioctl(19 + rng.u32(..40), &[ARGUMENT as u32, 0]);
    }
    let argsz = argsz(rng, size_of::<vfio_device_ioeventfd>());
    let flags = [1, 2, 4, 8, 3, 0][rng.usize(..6)];
    let mut argument = argument(&[argsz, flags]);
    // At a multiple of the width: at others the one driver refuses what the other takes on some
    // kernels.
    let width = u64::from(flags).checked_next_power_of_two().unwrap_or(1);
    let offset = (u64::from(rng.u32(..3)) << 40) | (bar_offset(rng) & !(width - 1));
    argument[8..16].copy_from_slice(&offset.to_ne_bytes());
    let at = std::mem::offset_of!(vfio_device_ioeventfd, fd);
    Operation::Ioctl {
        number: number::DEVICE_IOEVENTFD,
        argument: Memory(argument),
        descriptors: vec![(at, Descriptor::Event(rng.usize(..EVENTS)))],
    }
}

/// What an ioctl has to do with low power.
pub enum LowPower {
    /// It begins.
    Entry,
    /// It ends.
    Exit,
}

/// Ends low power. While it lasts, each operation wakes the device up and lets it fall asleep
/// again, at a hundred times the cost: it must not last for most of the time.
fn end_low_power() -> Operation {
    let flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
    let argsz = size_of::<vfio_device_feature>() as u32;
    ioctl(number::DEVICE_FEATURE, &[argsz, flags])
}

impl Operation {
    /// What it has to do with low power, if it succeeds.
    pub fn low_power(&self) -> Option<LowPower> {
        let Self::Ioctl {
            number: number::DEVICE_FEATURE,
            argument,
            ..
        } = self
        else {
            return None;
        };
        let flags = u32::from_ne_bytes(argument.0[4..8].try_into().expect("4 bytes"));
        if flags & VFIO_DEVICE_FEATURE_SET == 0 || flags & VFIO_DEVICE_FEATURE_PROBE != 0 {
            return None;
        }
        match flags & VFIO_DEVICE_FEATURE_MASK {
            VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY
            | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP => Some(LowPower::Entry),
            VFIO_DEVICE_FEATURE_LOW_POWER_EXIT => Some(LowPower::Exit),
            _ => None,
        }
    }

    /// Any operation. `power` is the offset of the power management capability.
    pub fn random(rng: &mut Rng, power: u16) -> Self {
        match rng.u32(..10_000) {
            0..=2 => ioctl(number::DEVICE_RESET, &[]),
            3 => ioctl(number::DEVICE_PCI_HOT_RESET, &[12, 0, 0]),
            4..=30 => self::power(rng, power),
            31..=150 => command(rng),
            151..=500 => map(rng),
            501..=600 => other(rng),
            601..=1200 => info(rng),
            1201..=1900 => set_irqs(rng),
            1901..=2300 => feature(rng),
            2301..=2600 => end_low_power(),
            2601..=6000 => write(rng),
            _ => read(rng),
        }
    }
}
