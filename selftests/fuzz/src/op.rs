// SPDX-License-Identifier: GPL-2.0-only

//! What a user, and an administrator beside it, can do: one operation with all of its arguments.

use tph_selftests::protocol::Lost;
use tph_selftests::vfio::{Resolution, Source};

/// Where a file descriptor comes from, so that a sequence can be replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fd {
    /// The dma-buf in a slot.
    Slot(usize),
    /// A number: nothing is open there, or what the process was started with.
    Number(i32),
}

/// A source before its descriptor is known.
#[derive(Clone, Copy, Debug)]
pub struct SourceOf {
    /// All but the value of a dma-buf.
    pub source: Source,
    /// That value.
    pub fd: Option<Fd>,
}

/// Where a call's argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// In the program.
    Own,
    /// In a mapping of the device's own BAR: a page fault in there takes its locks.
    Bar,
}

/// TPH_ST.
#[derive(Clone, Debug)]
pub struct Program {
    /// Flags.
    pub flags: u32,
    /// First entry.
    pub index: u16,
    /// Number of entries if it is not that of the sources.
    pub count: Option<u16>,
    /// 0, or not.
    pub reserved: u32,
    /// Sources.
    pub sources: Vec<SourceOf>,
    /// Bytes to leave out at the end.
    pub short: usize,
    /// Where it is.
    pub memory: Memory,
}

/// TPH_RESOLVE.
#[derive(Clone, Debug)]
pub struct Resolve {
    /// Flags.
    pub flags: u32,
    /// 0, or not.
    pub reserved: u32,
    /// Entries, the source's value aside.
    pub entries: Vec<(Resolution, Option<Fd>)>,
    /// Bytes to leave out at the end.
    pub short: usize,
}

/// TPH_MAP.
#[derive(Clone, Debug)]
pub struct MapOf {
    /// 0, or not.
    pub flags: u32,
    /// 0, or not.
    pub reserved: u32,
    /// Sources.
    pub sources: Vec<Source>,
    /// Bytes to leave out at the end.
    pub short: usize,
}

/// A reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// `VFIO_DEVICE_RESET`.
    Device,
    /// `VFIO_DEVICE_PCI_HOT_RESET`.
    Hot,
    /// FLR written to config space.
    Flr,
    /// By the administrator.
    Sysfs,
}

/// One operation on one device.
#[derive(Clone, Debug)]
pub enum Op {
    /// Opens it.
    Open,
    /// Closes it.
    Close,
    /// Reads config space.
    Read(u16, usize),
    /// Writes config space.
    Write(u16, Vec<u8>),
    /// Resets it.
    Reset(Reset),
    /// Has it reset itself, by a register of its own, and decode memory again.
    ResetItself(Lost),
    /// GET of TPH.
    Offer,
    /// TPH_ST.
    Program(Program),
    /// TPH_RESOLVE.
    Resolve(Resolve),
    /// DMA_BUF_TPH: descriptor, flags, XST, ST, PH.
    Publish(Fd, u32, u16, u8, u8),
    /// Any feature, by any verb, with any data.
    Feature(u32, Vec<u8>),
    /// SET_IRQS: flags, index, start, and events by their numbers.
    Irqs(u32, u32, u32, Vec<Option<usize>>),
    /// SET_IRQS of none: frees all of an index.
    FreeIrqs(u32),
    /// A low-power feature.
    LowPower(LowPower),
    /// Maps a range of pages of a BAR into a slot.
    Map(usize, u32, u64, u64),
    /// Unmaps a slot.
    Unmap(usize),
    /// Reads or writes the memory of a slot.
    Touch(usize, u64, bool),
    /// Reads a BAR.
    ReadBar(u32, u64, usize),
    /// Writes a BAR.
    WriteBar(u32, u64, Vec<u8>),
    /// Exports a range of pages of a BAR into a slot.
    Export(usize, u32, u64, u64),
    /// Closes the dma-buf of a slot.
    CloseBuffer(usize),
    /// TPH_MAP.
    SetMap(MapOf),
    /// Writes tph_vcpus: what each virtual tag stands for.
    Vcpus(Vec<Option<u32>>),
    /// Writes tph_policy.
    Policy(&'static str),
    /// Reads debugfs and sysfs.
    Look,
}

/// The low-power features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowPower {
    /// Entry.
    Enter,
    /// Entry with wakeup.
    EnterWithWakeup,
    /// Exit.
    Exit,
}
