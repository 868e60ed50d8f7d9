// SPDX-License-Identifier: GPL-2.0-only

//! `/sys/bus/pci/devices/<bdf>/tph_policy`, spec section 7: the policy of a bound device, by its
//! name.

use crate::{
    device::VfioTph,
    rules::policy::Policy, //
    rust::vfio::pci::{
        Attribute,
        MaybeOpen, //
    },
};
use kernel::{
    c_str,
    prelude::*, //
};

/// The attribute.
pub(crate) struct TphPolicy;

impl Attribute<VfioTph> for TphPolicy {
    const NAME: &'static CStr = c_str!("tph_policy");
    const MODE: u16 = 0o644;

    fn show(device: &VfioTph) -> &'static CStr {
        device.policy().name()
    }

    /// EINVAL for a name that is none, EPERM for a policy beyond the gate of when the device was
    /// bound, EBUSY while the device is open.
    fn store(device: &VfioTph, handle: MaybeOpen<'_, VfioTph>, value: &[u8]) -> Result {
        let policy = Policy::from_name(value).ok_or(EINVAL)?;
        if policy > Policy::default_for(device.gate) {
            return Err(EPERM);
        }
        handle.unless_open(|| device.set_policy(policy))
    }
}
