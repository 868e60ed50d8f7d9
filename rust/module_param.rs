// SPDX-License-Identifier: GPL-2.0-only

//! The module parameters that are declared in the C shim.

use super::bindings;

/// The value of `enable_unsafe_tph` at load. It cannot change: mode 0444.
pub(crate) fn enable_unsafe_tph() -> bool {
    // SAFETY: Reads a variable of this module.
    unsafe { bindings::tph_helper_gate() }
}

/// The value of `enable_sriov` now.
pub(crate) fn enable_sriov() -> bool {
    // SAFETY: Reads a variable of this module.
    unsafe { bindings::tph_helper_sriov() }
}
