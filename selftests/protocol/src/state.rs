// SPDX-License-Identifier: GPL-2.0-only

//! What the endpoint holds at one moment.

use serde::{Deserialize, Serialize};

use crate::Fault;

/// State of an endpoint. Asking for it is no access: nothing is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The TPH capability, if there is one.
    pub tph: Option<TphState>,
    /// The MSI-X capability and table, if there is one.
    pub msix: Option<MsixState>,
    /// Command register.
    pub command: u16,
    /// PowerState of PMCSR: 0 is D0, 3 is D3hot.
    pub power_state: u8,
    /// TPH Completer Supported in Device Capabilities 2.
    pub completer: u8,
    /// Max End-End TLP Prefixes there, 0 if none is supported.
    pub eetlp: u8,
    /// What the root port above is taken to support.
    pub root_port_completer: u8,
    /// Chain of extended capabilities, as it is walked.
    pub extended_capabilities: Vec<ExtendedCapability>,
    /// The injected fault.
    pub fault: Fault,
    /// A client (QEMU) is connected.
    pub connected: bool,
    /// Sequence number of the newest log entry, 0 if there is none.
    pub seq: u64,
}

/// The TPH Requester capability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TphState {
    /// Where it is in configuration space.
    pub offset: u16,
    /// TPH Requester Capability register.
    pub capability: u32,
    /// TPH Requester Control register.
    pub control: u32,
    /// Of that, ST Mode Select.
    pub st_mode: u8,
    /// Of that, TPH Requester Enable.
    pub requester_enable: u8,
    /// All ST entries in the capability that exist; empty if the table is elsewhere.
    pub entries: Vec<u16>,
}

/// The MSI-X capability and its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsixState {
    /// MSI-X Enable.
    pub enabled: bool,
    /// Function Mask.
    pub masked: bool,
    /// The table.
    pub entries: Vec<MsixEntry>,
}

/// One MSI-X vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MsixEntry {
    /// Message address.
    pub address: u64,
    /// Message data.
    pub data: u32,
    /// Vector Control.
    pub control: u32,
    /// Of that, the ST entry (bits 31:16); 0 if the ST table is not in MSI-X.
    pub tag: u16,
    /// Of that, the mask bit.
    pub masked: bool,
    /// Pending bit.
    pub pending: bool,
}

/// One header in the chain of extended capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedCapability {
    /// Capability id.
    pub id: u16,
    /// Version.
    pub version: u8,
    /// Where it is.
    pub offset: u16,
    /// Next one, 0 at the end.
    pub next: u16,
}
