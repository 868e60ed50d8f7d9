// SPDX-License-Identifier: GPL-2.0-only

//! What a test in the guest and the emulated TPH endpoint on the host say to each other.
//!
//! The control channel is a byte stream (a unix socket on the host, a virtio-serial port in the
//! guest) of JSON lines: one [`Request`] is answered by one [`Reply`]. [`Client`] speaks it.
//! [`registers`] is the other common ground: what lies where in the endpoint's BARs.

mod client;
mod command;
mod log;
pub mod registers;
mod state;

pub use client::{Client, Error};
pub use command::{Command, Fault, LogPage, Lost, Reply, Request, Space, TphShape};
pub use log::{Access, Counters, Entry, ResetCause, Tag, TlpHint, Violation, ViolationKind};
pub use state::{ExtendedCapability, MsixEntry, MsixState, State, TphState};

use serde::{Deserialize, Serialize};

/// Where the ST table is: the ST Table Location field, or no TPH capability at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// In the TPH capability (01b).
    Cap,
    /// In the Vector Control words of the MSI-X table (10b).
    Msix,
    /// A TPH capability without an ST table (00b).
    None,
    /// No TPH capability.
    Absent,
}

/// Place of the TPH capability in the chain of extended capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// TPH, AER, DSN.
    First,
    /// AER, TPH, DSN.
    Middle,
    /// AER, DSN, TPH.
    Last,
    /// TPH alone.
    Only,
}

/// Modes in the Capability register's low bits and of ST Mode Select.
pub mod modes {
    /// No ST Mode Supported.
    pub const NS: u8 = 1 << 0;
    /// Interrupt Vector Mode Supported.
    pub const IV: u8 = 1 << 1;
    /// Device Specific Mode Supported.
    pub const DS: u8 = 1 << 2;
}
