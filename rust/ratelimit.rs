// SPDX-License-Identifier: GPL-2.0-only

//! A limit on how often something is said that a user, or a device, can bring about.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use super::bindings;

/// Whether it can be said now. All messages share one limit, the kernel's default; what it keeps
/// back, the kernel counts.
pub(crate) fn allows() -> bool {
    // SAFETY: The function can be called in any context.
    unsafe { bindings::tph_helper_ratelimit() }
}
