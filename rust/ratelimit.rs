// SPDX-License-Identifier: GPL-2.0-only

//! A limit for messages that a user or a device can cause as often as they like.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use super::bindings;

/// Whether a message may be printed now. All messages share one limit, the kernel's default. The
/// kernel counts those that are left out.
pub(crate) fn allows() -> bool {
    // SAFETY: The function can be called in any context.
    unsafe { bindings::tph_helper_ratelimit() }
}
