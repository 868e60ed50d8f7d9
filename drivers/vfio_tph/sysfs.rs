// SPDX-License-Identifier: GPL-2.0-only

//! `/sys/bus/pci/devices/<bdf>/tph_policy`: the policy of a bound device, by its name.

use crate::{
    device::VfioTph,
    rules::policy::Policy, //
    rust::vfio::pci::{
        Attribute,
        MaybeOpen, //
    },
};
use kernel::prelude::*;

/// The attribute.
pub(crate) const TPH_POLICY: Attribute<VfioTph> = Attribute {
    name: c"tph_policy",
    mode: 0o644,
    show: |device| device.policy().name(),
    store: store_policy,
};

/// EINVAL for a name that is none, EPERM for a policy beyond the gate of when the device was bound,
/// EBUSY while the device is open.
fn store_policy(device: &VfioTph, handle: MaybeOpen<'_, VfioTph>, value: &[u8]) -> Result {
    let policy = Policy::from_name(value).ok_or(EINVAL)?;
    if policy > Policy::default_for(device.gate) {
        return Err(EPERM);
    }
    handle.unless_open(|| device.set_policy(policy))
}
