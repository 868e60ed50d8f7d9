// SPDX-License-Identifier: GPL-2.0-only

//! The module parameters, which `helpers/param.c` declares.

use crate::rust::{
    helper::safe_helpers,
    vfio::pci::Settings, //
};
use kernel::prelude::*;

safe_helpers! {
    /// The value of `enable_unsafe_tph` at load. It cannot change: mode 0444.
    pub(crate) fn enable_unsafe_tph() -> bool = enable_unsafe_tph;

    /// The value of `tph_policy` at load, if there is one. It cannot change: mode 0444.
    pub(crate) fn tph_policy() -> Option<&'static CStr> = tph_policy;

    /// The value of `ids` at load: nobody sees it afterwards, or changes it.
    pub(crate) fn ids() -> Option<&'static CStr> = ids;

    /// The value of `disable_denylist` at load. It cannot change: mode 0444.
    pub(crate) fn disable_denylist() -> bool = disable_denylist;

    /// The value of `enable_sriov` now.
    pub(crate) fn enable_sriov() -> bool = enable_sriov;

    fn nointxmask() -> bool = nointxmask;
    fn disable_idle_d3() -> bool = disable_idle_d3;
    fn disable_vga() -> bool = disable_vga;
}

/// The values of `nointxmask`, `disable_idle_d3` and `disable_vga` now.
pub(crate) fn settings() -> Settings {
    Settings {
        nointxmask: nointxmask(),
        disable_idle_d3: disable_idle_d3(),
        disable_vga: disable_vga(),
    }
}
