// SPDX-License-Identifier: GPL-2.0-only

//! Who is kept away from an ST table in the MSI-X table, where the policy does not disclose tags:
//! the user from the pages that hold it, and the device from sending its tags while others reach
//! them.

use super::{
    capability::Offer,
    regs::{
        Control,
        StMode,
        TableLocation, //
    },
};
use core::ops::Range;

/// The pages of `page_size` bytes that hold a table of `size` bytes at `offset`, as a range of
/// bytes.
pub(crate) fn pages(offset: u32, size: u32, page_size: u64) -> Range<u64> {
    let start = u64::from(offset);
    let end = start + u64::from(size);
    start - start % page_size..end.next_multiple_of(page_size)
}

/// Whether the user of `offer` must be kept away from the MSI-X table.
///
/// Goes by where the device has its table, not by what the user is shown: a policy that offers no
/// mode with tags shows no table either.
pub(crate) fn isolates(offer: &Offer) -> bool {
    offer.hardware_table == TableLocation::Msix && !offer.policy.discloses_tags()
}

/// Whether going from `before` to `next` starts to send tags of a table that the user is kept away
/// from: it must still be out of everybody else's reach then.
pub(crate) fn must_be_alone(offer: &Offer, before: Control, next: Control) -> bool {
    let sends_entries =
        |control: Control| control.enabled() && control.st_mode == StMode::InterruptVector;
    isolates(offer) && sends_entries(next) && !sends_entries(before)
}
