// SPDX-License-Identifier: GPL-2.0-only

//! What a bound device has in `/sys/bus/pci/devices/<bdf>/`: `tph_policy`, its policy by name, and
//! `tph_vcpus`, the CPUs that the virtual tags of its user stand for.

use crate::{
    device::{
        vcpus_map,
        VfioTph, //
    },
    events,
    rules::{
        guest::Map,
        policy::Policy,
        vcpus, //
    },
    rust::{
        cpu::PresentCpu,
        vfio::pci::{
            Attribute,
            MaybeOpen, //
        },
    },
};
use kernel::{
    fmt,
    prelude::*,
    str::CString, //
};

/// The attributes.
pub(crate) const ATTRIBUTES: &[Attribute<VfioTph>] = &[
    Attribute {
        name: c"tph_policy",
        mode: 0o644,
        show: |device| Ok(CString::try_from(device.policy().name())?),
        store: store_policy,
    },
    Attribute {
        name: c"tph_vcpus",
        mode: 0o644,
        show: |device| {
            let vcpus = device.files.visible().vcpus.lock();
            CString::try_from_fmt(fmt!("{}", List(&vcpus)))
        },
        store: store_vcpus,
    },
];

/// EINVAL for a name that is none, EPERM for a policy beyond the gate of when the device was bound,
/// EBUSY while the device is open.
fn store_policy(device: &VfioTph, handle: MaybeOpen<'_, VfioTph>, value: &[u8]) -> Result {
    let policy = Policy::from_name(value).ok_or(EINVAL)?;
    if policy > Policy::default_for(device.gate) {
        return Err(EPERM);
    }
    handle.unless_open(|| device.set_policy(policy))
}

/// CPUs as a list that is read back.
struct List<'a>(&'a [Option<u32>]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, cpu) in self.0.iter().enumerate() {
            if place != 0 {
                f.write_str(",")?;
            }
            match cpu {
                Some(cpu) => write!(f, "{cpu}")?,
                None => f.write_str("-")?,
            }
        }
        Ok(())
    }
}

/// EINVAL for what is no list of CPUs that are present, or too long a one. While the device is
/// open, the map of its user is replaced; EBUSY if it is not the administrator's, or would go.
fn store_vcpus(device: &VfioTph, handle: MaybeOpen<'_, VfioTph>, value: &[u8]) -> Result {
    let mut list = KVec::with_capacity(Map::MAX, GFP_KERNEL)?;
    vcpus::parse(value, &mut |cpu| {
        if let Some(cpu) = cpu {
            PresentCpu::from_number(cpu)?;
        }
        list.push_within_capacity(cpu).ok()
    })
    .ok_or(EINVAL)?;
    let map = vcpus_map(&list)?;

    let vcpus = &device.files.visible().vcpus;
    let mut list = Some(list);
    let mut store = || {
        if let Some(list) = &mut list {
            core::mem::swap(&mut *vcpus.lock(), list);
        }
    };
    match handle.unless_open(&mut store) {
        Err(error) if error == EBUSY => (),
        stored => return stored,
    }
    let open = handle.visit().ok_or(EBUSY)?;
    if map.is_none() || open.handle().terms().guest.is_none() {
        return Err(EBUSY);
    }
    Ok(events::set_map(open.handle(), map, true, &mut store)?)
}
