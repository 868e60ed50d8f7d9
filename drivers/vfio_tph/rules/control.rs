// SPDX-License-Identifier: GPL-2.0-only

//! Writes of a user to the TPH Requester Control register, PCIe r6.2 7.9.13.3.

use super::{
    capability::Offer,
    guest::used,
    regs::{
        Control,
        RequesterEnable,
        CONTROL, //
    },
};
use core::ops::Range;

/// What a write of `bytes` at `offset` of the Control register makes of `current`; `None` if the
/// write is dropped.
///
/// The written bytes replace those bytes, then the value is judged as a whole. Going back to the
/// reset state is always possible, also on a device that does not list No ST mode.
pub(crate) fn judge(
    current: Control,
    offer: &Offer,
    offset: usize,
    bytes: &[u8],
) -> Option<Control> {
    let mut raw = current.raw().to_le_bytes();
    raw.get_mut(offset..)?
        .get_mut(..bytes.len())?
        .copy_from_slice(bytes);

    let mut next = Control::from_raw(u32::from_le_bytes(raw))?;
    if next != Control::RESET && !offer.modes().contains(next.st_mode) {
        return None;
    }
    if next.requester_enable == RequesterEnable::Extended && !offer.extended() {
        next.requester_enable = RequesterEnable::Standard;
    }
    Some(next)
}

/// Whether a device may keep `found`, which it has made of `wanted`: its user may have it, and no
/// entry is used that is `due` or that, of a guest, is in the other namespace.
pub(crate) fn may_stay(
    offer: &Offer,
    wanted: Control,
    found: Control,
    due: bool,
    is_guests: bool,
) -> bool {
    let other_namespace = || used(found).is_some() && used(found) != used(wanted);
    offer.allows(found) && !(due && found.enabled()) && !(is_guests && other_namespace())
}

/// What a write of `count` bytes at `offset` of a capability does to Control: the bytes of the
/// register that are written, and where they are in the write.
///
/// All else in the capability ignores writes.
pub(crate) fn overlap(offset: usize, count: usize) -> Option<(Range<usize>, Range<usize>)> {
    let register = usize::from(CONTROL);
    let start = offset.max(register);
    let end = offset
        .saturating_add(count)
        .min(register + size_of::<u32>());
    (start < end).then(|| {
        (
            start - register..end - register,
            start - offset..end - offset,
        )
    })
}
