// SPDX-License-Identifier: GPL-2.0-only

//! The tests, one file for each part of the rules; and what they compare with, which the fuzz targets
//! use too.

pub(crate) mod answers;
#[cfg(test)]
mod batch;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod control;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod firmware;
#[cfg(test)]
mod hostile;
pub(crate) mod invariants;
#[cfg(test)]
mod layout;
#[cfg(test)]
mod lookup;
pub(crate) mod model;
#[cfg(test)]
mod offer;
#[cfg(test)]
mod published;
#[cfg(test)]
mod registers;
#[cfg(test)]
mod source;
pub(crate) mod space;
#[cfg(test)]
mod table;

use crate::rules::{
    capability::{
        Hardware,
        Offer, //
    },
    policy::Policy,
    regs::{
        Capability,
        Completer, //
    },
};

/// The policies, each at the place of its number.
pub(crate) const POLICIES: [Policy; 4] =
    [Policy::NoSt, Policy::IvSt, Policy::DsSt, Policy::Literal];

/// What can be above a device: nothing (an RCiEP), or a root port with this raw completer field.
pub(crate) const ROOT_PORTS: [Option<u32>; 5] =
    [None, Some(0b00), Some(0b01), Some(0b10), Some(0b11)];

/// The completer that a raw field of two bits in Device Capabilities 2 stands for.
pub(crate) fn completer(field: u32) -> Completer {
    Completer::from_device_capabilities_2(field << 12)
}

/// A device of the model, as the rules know it.
pub(crate) fn hardware(device: &model::Device) -> Hardware {
    Hardware {
        capability: Capability::from_raw(device.capability),
        root_port: device.root_port.map(completer),
        completer: completer(device.completer),
        room: device.room,
        msix_vectors: device.vectors,
    }
}

/// The rules' offer for a device of the model.
pub(crate) fn offer(device: &model::Device, policy: u32) -> Option<Offer> {
    Offer::new(&hardware(device), POLICIES[policy as usize])
}
