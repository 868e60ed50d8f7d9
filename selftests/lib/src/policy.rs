// SPDX-License-Identifier: GPL-2.0-only

//! The administrator's side of a bound device: its policy, `tph_policy` in sysfs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::bench;
use crate::endpoint::Endpoint;
use crate::errno;
use crate::module::Gate;
use crate::pci::Bdf;

/// What users of a device may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// No steering tags.
    NoSt,
    /// Tags by CPU, unseen.
    IvSt,
    /// Tags by CPU, and seen.
    DsSt,
    /// Any tag.
    Literal,
}

impl Policy {
    /// All of them, the narrowest first.
    pub const ALL: [Policy; 4] = [Policy::NoSt, Policy::IvSt, Policy::DsSt, Policy::Literal];

    /// Its name in sysfs.
    pub fn name(self) -> &'static str {
        match self {
            Policy::NoSt => "no_st",
            Policy::IvSt => "iv_st",
            Policy::DsSt => "ds_st",
            Policy::Literal => "literal",
        }
    }

    /// What a device has after it was bound, and at the most.
    pub fn of(gate: Gate) -> Self {
        match gate {
            Gate::Safe => Policy::IvSt,
            Gate::Unsafe => Policy::Literal,
        }
    }

    /// The least gate that allows it.
    pub fn gate(self) -> Gate {
        if self <= Policy::IvSt {
            Gate::Safe
        } else {
            Gate::Unsafe
        }
    }

    /// Whether users see tags.
    pub fn discloses(self) -> bool {
        self >= Policy::DsSt
    }
}

/// The file.
pub fn path(bdf: &Bdf) -> PathBuf {
    bdf.path("tph_policy")
}

/// What the file shows.
pub fn shown(bdf: &Bdf) -> String {
    let path = path(bdf);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Writes the file.
pub fn write(bdf: &Bdf, text: &[u8]) -> Result<(), Errno> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(path(bdf))
        .map_err(errno)?;
    file.write_all(text).map_err(errno)
}

/// Has vfio_tph drive a device, with that policy for whoever opens it next.
pub fn bind(endpoint: &Endpoint, policy: Policy) {
    bind_under(endpoint, policy.gate(), policy);
}

/// The same with a gate that allows it. One gate for all leaves alone what is bound already.
pub fn bind_under(endpoint: &Endpoint, gate: Gate, policy: Policy) {
    bench::bind(endpoint, gate);
    let bdf = &endpoint.bdf;
    write(bdf, policy.name().as_bytes()).unwrap_or_else(|e| panic!("{bdf}: {policy:?}: {e}"));
}
