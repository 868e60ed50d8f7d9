// SPDX-License-Identifier: GPL-2.0-only

//! Which bytes of a BAR a user may not map or export, spec section 6: where the ST table is in the
//! MSI-X table and the policy does not disclose tags, the pages that hold it.

use super::{
    capability::Offer,
    regs::TableLocation, //
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
