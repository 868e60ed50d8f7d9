// SPDX-License-Identifier: GPL-2.0-only

//! Map of the endpoint's BARs.
//!
//! BAR0, [`BAR0_SIZE`] bytes or as many as `bar0` says, 32 bit, not prefetchable:
//!
//! | offset | what |
//! |---|---|
//! | 0000h, or what `msix_offset` says | MSI-X table, as long as the number of vectors says |
//! | before and after it, if it is below 8000h | free: plain memory |
//! | 8000h | MSI-X Pending Bit Array, on a page of its own |
//! | 9000h | the DMA engine's registers, 32 bit each |
//! | a000h | free: plain memory |
//! | 10000h | the same, or the table |
//!
//! BAR2, 64 bit, prefetchable: plain memory of the size asked for.
//!
//! `bar0` makes BAR0 end sooner or later, `io` adds an I/O BAR, BAR4, and `rom` an expansion ROM.
//! These two are blank: they read as all ones and take no writes.
//!
//! The engine runs one command at a time: fill the registers, write [`COMMAND`], wait until
//! [`STATUS`] is no longer [`status::BUSY`]. Registers are not to be changed while it is busy.

/// Number of the BAR with MSI-X and the engine.
pub const BAR_REGISTERS: u8 = 0;
/// Number of the BAR that is plain memory.
pub const BAR_MEMORY: u8 = 2;
/// Number of the I/O BAR.
pub const BAR_IO: u8 = 4;
/// Number of the expansion ROM's BAR.
pub const BAR_ROM: u8 = 6;
/// Size of BAR0, unless it is said to have another one. This far nothing but plain memory and the
/// MSI-X table moves.
pub const BAR0_SIZE: u64 = 0x1_0000;
/// The largest BAR0: sixteen pages of 64 KiB.
pub const BAR0_MAX: u64 = 0x10_0000;
/// Size of one MSI-X table entry.
pub const MSIX_ENTRY: u64 = 16;
/// Vector Control in an MSI-X table entry.
pub const MSIX_VECTOR_CONTROL: u64 = 12;
/// MSI-X Pending Bit Array in BAR0.
pub const MSIX_PBA: u64 = 0x8000;
/// Page of the DMA engine in BAR0.
pub const ENGINE: u64 = 0x9000;
/// Page in BAR0 that is always plain memory.
pub const SCRATCH: u64 = 0xa000;

/// Read only: [`IDENT_VALUE`].
pub const IDENT: u64 = ENGINE;
/// What [`IDENT`] reads as: "TPHE".
pub const IDENT_VALUE: u32 = 0x4548_5054;
/// Read only: how the last command ended, a value of [`status`].
pub const STATUS: u64 = ENGINE + 0x04;
/// Bus address to read or write, low and high.
pub const ADDRESS_LO: u64 = ENGINE + 0x08;
/// High part of the bus address.
pub const ADDRESS_HI: u64 = ENGINE + 0x0c;
/// What is written, little endian, repeated if LENGTH is more than 8; what was read.
pub const VALUE_LO: u64 = ENGINE + 0x10;
/// High part of the value.
pub const VALUE_HI: u64 = ENGINE + 0x14;
/// Bytes to write, 1 to [`LENGTH_MAX`]; bytes to read, 1 to 8.
pub const LENGTH: u64 = ENGINE + 0x18;
/// Most bytes that one command writes.
pub const LENGTH_MAX: u32 = 4096;
/// Processing hint of the request, bits 1:0.
pub const HINT: u64 = ENGINE + 0x1c;
/// Interrupt Vector mode: ST entry whose tag the request carries. For
/// [`command::INTERRUPT`] the vector.
pub const INDEX: u64 = ENGINE + 0x20;
/// Device Specific mode: ST entry (bits 10:0) whose tag the request carries or, with
/// [`DS_RAW`], the tag itself (bits 15:0).
pub const DS_TAG: u64 = ENGINE + 0x24;
/// In [`DS_TAG`]: a tag, not the number of an entry.
pub const DS_RAW: u32 = 1 << 31;
/// Write only: a value of [`command`] starts it.
pub const COMMAND: u64 = ENGINE + 0x28;
/// Read only: the hint that the last request carried, bits of [`last_hint`].
pub const LAST_HINT: u64 = ENGINE + 0x2c;
/// Write only: a value of [`reset_itself`] has the endpoint reset itself, without a word to the
/// host.
pub const RESET_ITSELF: u64 = ENGINE + 0x30;
/// End of the engine's registers.
pub const ENGINE_END: u64 = ENGINE + 0x34;

/// Values of [`COMMAND`].
pub mod command {
    /// Writes VALUE to ADDRESS.
    pub const WRITE: u32 = 1;
    /// Reads ADDRESS into VALUE.
    pub const READ: u32 = 2;
    /// Raises MSI-X vector INDEX.
    pub const INTERRUPT: u32 = 3;
}

/// Values of [`RESET_ITSELF`].
pub mod reset_itself {
    /// Everything that a reset takes.
    pub const EVERYTHING: u32 = 1;
    /// Control, and the ST table if it is in the capability.
    pub const TPH: u32 = 2;
}

/// Values of [`STATUS`].
pub mod status {
    /// No command since reset.
    pub const IDLE: u32 = 0;
    /// A command runs.
    pub const BUSY: u32 = 1;
    /// It succeeded.
    pub const DONE: u32 = 2;
    /// Bus Master Enable is 0: nothing was sent.
    pub const NO_BUS_MASTER: u32 = 3;
    /// The request failed on the bus: an IOMMU fault, no such address.
    pub const FAULT: u32 = 4;
    /// A register holds what the command cannot use: nothing was sent.
    pub const BAD_COMMAND: u32 = 5;
}

/// Bits of [`LAST_HINT`].
pub mod last_hint {
    /// Bits 15:0: the tag.
    pub const TAG: u32 = 0xffff;
    /// The request carried a tag.
    pub const TAG_VALID: u32 = 1 << 16;
    /// It is an extended one.
    pub const TAG_EXTENDED: u32 = 1 << 17;
    /// The request carried a hint (TH set).
    pub const PRESENT: u32 = 1 << 18;
    /// Shift of the two bits of PH.
    pub const PH_SHIFT: u32 = 20;
}
