// SPDX-License-Identifier: GPL-2.0-only

//! Fuzz targets: a string of bytes becomes a hostile device or a careless user, and the rules'
//! answers are compared with the model's. `fuzz/` runs them under libFuzzer; what was worth keeping
//! in its corpus runs with the other tests.

pub mod calls;
pub mod capability;
pub mod control;
pub mod guest;
pub mod hints;

use crate::oracle::{
    model::Device,
    ROOT_PORTS, //
};
use arbitrary::{
    Result,
    Unstructured, //
};

/// Runs the rules on what the bytes mean; panics if they break a rule.
pub type Target = fn(&[u8]);

/// All targets, by the names of their programs and corpora.
pub const TARGETS: [(&str, Target); 5] = [
    ("capability", capability::run),
    ("control", control::run),
    ("calls", calls::run),
    ("hints", hints::run),
    ("guest", guest::run),
];

/// A device whose registers hold anything, also what the specification reserves.
fn device(input: &mut Unstructured<'_>) -> Result<Device> {
    Ok(Device {
        capability: input.arbitrary()?,
        root_port: *input.choose(&ROOT_PORTS)?,
        completer: input.int_in_range(0..=3)?,
        room: input.int_in_range(0..=64)?,
        overlapped: input.arbitrary()?,
        vectors: *input.choose(&[0, 1, 2, 16, 2047, 2048])?,
        prefixes: input.arbitrary()?,
        shares_group: input.arbitrary()?,
    })
}
