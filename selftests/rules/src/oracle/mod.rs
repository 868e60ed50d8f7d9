// SPDX-License-Identifier: GPL-2.0-only

//! What the rules are compared with, by the tests and by the fuzz targets: the contract once more,
//! in plain integers, and what must hold of any device.

pub(crate) mod answers;
pub(crate) mod invariants;
pub(crate) mod model;
pub(crate) mod space;

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
        path_carries_extended: device.prefixes,
        completer: completer(device.completer),
        room: device.room,
        overlapped: device.overlapped,
        msix_vectors: device.vectors,
        alone_in_group: !device.shares_group,
    }
}

/// The rules' offer for a device of the model.
pub(crate) fn offer(device: &model::Device, policy: u32) -> Option<Offer> {
    Offer::new(&hardware(device), POLICIES[policy as usize])
}
