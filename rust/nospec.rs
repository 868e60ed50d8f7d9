// SPDX-License-Identifier: GPL-2.0-only

//! Numbers that a user or a device chooses, and that say where in memory to go: clamped while the
//! CPU speculates past the check that found them good (Spectre v1, bounds check bypass).
//!
//! A bounds check of Rust is a branch, and a mispredicted branch is followed. What comes out of
//! here was masked by arithmetic on the number itself, which no prediction gets past.
//!
//! C header: [`include/linux/nospec.h`](srctree/include/linux/nospec.h)

use super::bindings;
use core::ops::Range;

/// `index` if it is below `size`, otherwise 0, also under speculation; array_index_nospec().
///
/// To be called behind the check, with what was checked: this is no check.
#[inline]
pub(crate) fn index(index: usize, size: usize) -> usize {
    // SAFETY: The function takes any numbers.
    unsafe { bindings::tph_helper_index_nospec(index, size) }
}

/// `range` if it is within `0..size`, otherwise some range that is, also under speculation.
///
/// As with [`index`], behind the check.
#[inline]
pub(crate) fn range(range: Range<usize>, size: usize) -> Range<usize> {
    let start = index(range.start, size.saturating_add(1));
    let len = index(
        range.end.wrapping_sub(range.start),
        (size - start).saturating_add(1),
    );
    start..start + len
}
