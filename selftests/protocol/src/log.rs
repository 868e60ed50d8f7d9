// SPDX-License-Identifier: GPL-2.0-only

//! What the endpoint records: accesses, their counters, and violations.

use serde::{Deserialize, Serialize};

/// One thing that happened to the endpoint, or that it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Sequence number, from 1, never used twice while the process lives.
    pub seq: u64,
    /// What happened.
    #[serde(flatten)]
    pub access: Access,
}

/// An access by the host to the endpoint, or by the endpoint to the host.
///
/// `value` holds the first eight bytes, little endian; an access may be wider. What a host
/// reads is recorded as it was answered, what it writes as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Access {
    /// Configuration space was read.
    ConfigRead {
        /// In configuration space.
        offset: u64,
        /// Bytes.
        width: u32,
        /// Answer.
        value: u64,
    },
    /// Configuration space was written.
    ConfigWrite {
        /// In configuration space.
        offset: u64,
        /// Bytes.
        width: u32,
        /// As asked for.
        value: u64,
    },
    /// A BAR was read.
    MmioRead {
        /// Its number.
        bar: u8,
        /// In the BAR.
        offset: u64,
        /// Bytes.
        width: u32,
        /// Answer.
        value: u64,
    },
    /// A BAR was written.
    MmioWrite {
        /// Its number.
        bar: u8,
        /// In the BAR.
        offset: u64,
        /// Bytes.
        width: u32,
        /// As asked for.
        value: u64,
    },
    /// The endpoint was reset.
    Reset {
        /// By what.
        cause: ResetCause,
    },
    /// The endpoint wrote to memory.
    DmaWrite {
        /// Bus address.
        offset: u64,
        /// Bytes.
        width: u32,
        /// What was written.
        value: u64,
        /// The hint that the request carried.
        hint: Option<TlpHint>,
    },
    /// The endpoint read from memory.
    DmaRead {
        /// Bus address.
        offset: u64,
        /// Bytes.
        width: u32,
        /// The hint that the request carried.
        hint: Option<TlpHint>,
    },
    /// The endpoint raised an interrupt, a write of a message.
    Interrupt {
        /// MSI-X vector.
        vector: u16,
        /// Message address.
        offset: u64,
        /// Bytes: 4.
        width: u32,
        /// Message data.
        value: u64,
    },
    /// Somebody asked for a line in the log.
    Marker {
        /// As given.
        text: String,
    },
}

/// What reset the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetCause {
    /// Initiate Function Level Reset was written.
    Flr,
    /// The bus was reset: a secondary bus reset, or the machine's.
    Bus,
    /// D3hot to D0 with No_Soft_Reset 0.
    Power,
    /// The endpoint itself.
    Own,
}

/// TLP processing hint of one request; a request without one has TH clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlpHint {
    /// Processing hint, 0 to 3.
    pub ph: u8,
    /// Steering tag; none in No ST mode.
    pub tag: Option<Tag>,
}

/// A steering tag on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tag {
    /// 8 bit.
    St(u8),
    /// 16 bit.
    Xst(u16),
}

/// Number of entries of each kind since the last reset of the counters.
///
/// Reads and writes that are answered in error because of an injected fault count, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Reads of configuration space.
    pub config_read: u64,
    /// Writes of configuration space.
    pub config_write: u64,
    /// Of these, reads that touch the TPH capability.
    pub tph_read: u64,
    /// Of these, writes that touch the TPH capability.
    pub tph_write: u64,
    /// Reads of a BAR.
    pub mmio_read: u64,
    /// Writes of a BAR.
    pub mmio_write: u64,
    /// All resets.
    pub reset: u64,
    /// Of these, function level resets.
    pub flr: u64,
    /// Requests that write memory, interrupts aside.
    pub dma_write: u64,
    /// Requests that read memory.
    pub dma_read: u64,
    /// Interrupt messages.
    pub interrupt: u64,
}

impl Counters {
    /// Accesses to configuration space.
    pub fn config(&self) -> u64 {
        self.config_read + self.config_write
    }

    /// Accesses to BARs.
    pub fn mmio(&self) -> u64 {
        self.mmio_read + self.mmio_write
    }

    /// Both.
    pub fn accesses(&self) -> u64 {
        self.config() + self.mmio()
    }
}

/// Something that software must not do to a TPH requester.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Log entry that did it.
    pub seq: u64,
    /// What it was.
    pub kind: ViolationKind,
    /// The access in words.
    pub detail: String,
}

/// Kinds of [`Violation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// TPH Requester Enable 10b was written.
    RequesterEnableReserved,
    /// 11b was written and the requester has no Extended TPH Requester Supported.
    ExtendedNotSupported,
    /// 11b was written and the root port is no extended completer.
    ExtendedBeyondPath,
    /// Enabled with an ST mode that the Capability register does not offer.
    ModeNotSupported,
    /// Reserved bits of Control were written as 1.
    ControlReserved,
    /// ST Mode Select was changed while enabled, and stayed enabled.
    ModeChangedWhileEnabled,
    /// An ST entry got another value while the requester was enabled.
    TableChangedWhileEnabled,
    /// An ST entry in the capability was written, with its present value, while the requester
    /// was enabled (as the PCI core's own restore does).
    TableWrittenWhileEnabled,
    /// A write would have changed a read-only bit of the TPH capability: header, Capability, or
    /// the upper byte of an ST entry of a requester without extended support.
    WriteToReadOnly,
    /// A write behind the last ST entry, where the capability could have one.
    StWriteBeyondTable,
    /// A BAR was accessed in D3, or while Memory Space Enable was 0.
    MmioInD3,
    /// A request would have been sent while Bus Master Enable was 0.
    DmaWithoutBusMaster,
}
