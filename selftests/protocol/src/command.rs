// SPDX-License-Identifier: GPL-2.0-only

//! Requests and replies of the control channel.

use serde::{Deserialize, Serialize};

use crate::{Counters, Entry, Position, State, Table, Violation};

/// One line to the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Name of the endpoint; of no meaning for [`Command::Exit`] and [`Command::List`].
    #[serde(default)]
    pub device: String,
    /// What to do.
    pub command: Command,
}

/// What can be asked of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Names of all endpoints of the process: [`Reply::Names`].
    List,
    /// [`Reply::State`].
    State,
    /// [`Reply::Counters`].
    Counters,
    /// Counters to 0; the log stays.
    ResetCounters,
    /// Log entries with that sequence number or a later one, oldest first, at most `limit`:
    /// [`Reply::Log`].
    Log {
        /// First sequence number wanted.
        from: u64,
        /// Most entries in the reply.
        limit: u32,
    },
    /// [`Reply::Violations`].
    Violations,
    /// Forgets violations.
    ClearViolations,
    /// Adds a marker to the log: [`Reply::Seq`] is its sequence number.
    Marker {
        /// Any text.
        text: String,
    },
    /// Reads behind the driver's back, no access is logged: [`Reply::Value`].
    Peek {
        /// Where.
        space: Space,
        /// Offset in it.
        offset: u64,
        /// 1, 2, 4 or 8 bytes.
        width: u8,
    },
    /// Changes bytes behind the driver's back, read-only ones too: no access is logged, no
    /// violation counted, nothing set off.
    Poke {
        /// Where.
        space: Space,
        /// Offset in it.
        offset: u64,
        /// 1, 2, 4 or 8 bytes.
        width: u8,
        /// Little endian.
        value: u64,
    },
    /// Changes what a dword of configuration space holds, now and after each reset, until
    /// [`Command::SetTph`]: what a device says of itself that lies.
    Lie {
        /// Where, a multiple of 4, behind the header: in there the client answers for BARs.
        offset: u16,
        /// What it says.
        value: u32,
    },
    /// Says what the root port above supports (TPH Completer Supported).
    SetRootPort {
        /// 0, 1 or 3.
        completer: u8,
    },
    /// Injects a fault, or ends it.
    Fault {
        /// From now on.
        mode: Fault,
    },
    /// Has the endpoint reset itself by its own means, as firmware does: the host knows nothing of
    /// it. The register [`crate::registers::RESET_ITSELF`] does the same.
    ResetItself {
        /// What goes to its reset values.
        what: Lost,
    },
    /// What the TPH registers hold after each reset from now on, whatever resets: some firmware
    /// turns TPH on in the way up. All 0 is what resets leave otherwise.
    AfterReset {
        /// Control; only its defined bits count.
        control: u32,
        /// Each ST entry, wherever the table is.
        tag: u16,
    },
    /// Raises an MSI-X vector, as the device would; the reply comes when it is delivered.
    RaiseInterrupt {
        /// Its number.
        vector: u16,
    },
    /// Changes the shape of the TPH capability. Control and entries become 0.
    SetTph(TphShape),
    /// Ends the process.
    Exit,
}

/// Address spaces of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// Configuration space.
    Config,
    /// MSI-X table, PBA and engine.
    Bar0,
    /// Memory.
    Bar2,
}

/// What an endpoint loses that resets itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lost {
    /// What any reset takes: Command and the MSI-X table, too.
    Everything,
    /// Control, and the ST table if it is in the capability. Tags in the MSI-X table stay.
    Tph,
}

/// Ways in which the endpoint can stop answering. Resets of the bus are obeyed all the same, and
/// its own requests (DMA, interrupts) are not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// None: the endpoint works.
    #[default]
    None,
    /// Reads of configuration space and BARs answer all ones, writes are dropped.
    AllOnes,
    /// Works for this many more accesses, then as [`Fault::AllOnes`].
    StopAfter {
        /// Accesses to configuration space or a BAR.
        accesses: u64,
    },
    /// Reads of BARs answer all ones and writes to them are dropped; configuration space lives.
    MmioAllOnes,
    /// Writes to BARs are dropped; all the rest works.
    MmioWritesDropped,
    /// Writes to Control of the TPH capability are dropped, so many of them; all the rest works.
    /// Who writes it over and over comes to an end then.
    ControlWritesDropped {
        /// Writes that are still to be dropped.
        writes: u64,
    },
    /// Writes to BARs are dropped, and so many to Control; all the rest works.
    WritesDropped {
        /// Writes to Control that are still to be dropped.
        writes: u64,
    },
    /// A write that enables the requester puts this into Control; all the rest works.
    ControlBecomes {
        /// What Control has then.
        control: u32,
    },
}

/// Shape of the TPH capability; a field that is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TphShape {
    /// ST Table Location, or no capability.
    pub table: Option<Table>,
    /// Modes offered, bits of [`crate::modes`].
    pub modes: Option<u8>,
    /// Number of entries that ST Table Size claims, 1 to 2048.
    pub entries: Option<u16>,
    /// Extended TPH Requester Supported.
    pub extended: Option<bool>,
    /// TPH Completer Supported of the device itself, 0 to 3.
    pub completer: Option<u8>,
    /// End-End TLP prefixes in a request, 0 to 4: 0 if none is supported.
    pub eetlp: Option<u8>,
    /// Place in the chain; the offset becomes the default for that place.
    pub position: Option<Position>,
    /// Offset in configuration space.
    pub offset: Option<u16>,
}

/// One line from the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Done.
    Ok,
    /// Refused: why.
    Error(String),
    /// To [`Command::List`].
    Names(Vec<String>),
    /// To [`Command::State`].
    State(Box<State>),
    /// To [`Command::Counters`].
    Counters(Counters),
    /// To [`Command::Log`].
    Log(LogPage),
    /// To [`Command::Violations`].
    Violations(Vec<Violation>),
    /// To [`Command::Marker`].
    Seq(u64),
    /// To [`Command::Peek`].
    Value(u64),
}

/// Part of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// Entries, oldest first.
    pub entries: Vec<Entry>,
    /// Where to go on; `None` if the newest entry is among these.
    pub next: Option<u64>,
    /// Entries at or after `from` that the bounded log no longer has.
    pub lost: u64,
}
