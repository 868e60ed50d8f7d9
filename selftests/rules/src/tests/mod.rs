// SPDX-License-Identifier: GPL-2.0-only

//! The tests, one file for each part of the rules.

mod batch;
mod chain;
mod control;
mod firmware;
mod hostile;
mod layout;
mod lookup;
mod model;
mod offer;
mod published;
mod registers;
mod source;
mod space;
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
const POLICIES: [Policy; 4] = [Policy::NoSt, Policy::IvSt, Policy::DsSt, Policy::Literal];

/// What can be above a device: nothing (an RCiEP), or a root port with this raw completer field.
const ROOT_PORTS: [Option<u32>; 5] = [None, Some(0b00), Some(0b01), Some(0b10), Some(0b11)];

/// The completer that a raw field of two bits in Device Capabilities 2 stands for.
fn completer(field: u32) -> Completer {
    Completer::from_device_capabilities_2(field << 12)
}

/// A device of the model, as the rules know it.
fn hardware(device: &model::Device) -> Hardware {
    Hardware {
        capability: Capability::from_raw(device.capability),
        root_port: device.root_port.map(completer),
        completer: completer(device.completer),
        room: device.room,
        msix_vectors: device.vectors,
    }
}

/// The rules' offer for a device of the model.
fn offer(device: &model::Device, policy: u32) -> Option<Offer> {
    Offer::new(&hardware(device), POLICIES[policy as usize])
}
