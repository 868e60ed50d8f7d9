// SPDX-License-Identifier: GPL-2.0-only

//! The module parameters, which `rust/helpers/param.c` declares.

use super::{
    bindings,
    vfio::pci::Settings, //
};
use kernel::prelude::*;

/// The value of `enable_unsafe_tph` at load. It cannot change: mode 0444.
pub(crate) fn enable_unsafe_tph() -> bool {
    // SAFETY: The function reads a variable of this module, which is there as long as its code.
    unsafe { bindings::tph_helper_gate() }
}

/// The value of `tph_policy` at load, if there is one. It cannot change: mode 0444.
pub(crate) fn tph_policy() -> Option<&'static CStr> {
    // SAFETY: The function reads a variable of this module, which is there as long as its code.
    let name = unsafe { bindings::tph_helper_policy() };
    // SAFETY: `name` is a string that ends in NUL, which nobody changes or frees while the module
    // is there.
    (!name.is_null()).then(|| unsafe { CStr::from_char_ptr(name) })
}

/// The value of `ids` at load: nobody sees it afterwards, or changes it.
pub(crate) fn ids() -> &'static CStr {
    // SAFETY: The function returns a string of this module, which the kernel has ended with NUL.
    unsafe { CStr::from_char_ptr(bindings::tph_helper_ids()) }
}

/// The values of `nointxmask`, `disable_idle_d3` and `disable_vga` now.
pub(crate) fn settings() -> Settings {
    // SAFETY: The functions read variables of this module, which are there as long as its code.
    unsafe {
        Settings {
            nointxmask: bindings::tph_helper_nointxmask(),
            disable_idle_d3: bindings::tph_helper_disable_idle_d3(),
            disable_vga: bindings::tph_helper_disable_vga(),
        }
    }
}

/// The value of `disable_denylist` at load. It cannot change: mode 0444.
pub(crate) fn disable_denylist() -> bool {
    // SAFETY: The function reads a variable of this module, which is there as long as its code.
    unsafe { bindings::tph_helper_disable_denylist() }
}

/// The value of `enable_sriov` now.
pub(crate) fn enable_sriov() -> bool {
    // SAFETY: The function reads a variable of this module, which is there as long as its code.
    unsafe { bindings::tph_helper_sriov() }
}
