// SPDX-License-Identifier: GPL-2.0-only

//! Tracepoints, declared in `helpers/tph_trace.h`; events of the group `vfio_tph` in tracefs.

use crate::rust::helper::safe_helpers;
use kernel::{
    device::Bound,
    pci, //
};

safe_helpers! {
    /// Control has a new value, with the requester enabled. Raw register fields.
    pub(crate) fn enable(pdev: &pci::Device<Bound>, st_mode: u8, requester_enable: u8) -> ()
        = trace_enable;

    /// The requester was enabled, and no longer is as far as is known.
    pub(crate) fn disable(pdev: &pci::Device<Bound>) -> () = trace_disable;

    /// A batch was written to the ST table.
    pub(crate) fn table_write(
        pdev: &pci::Device<Bound>,
        index: u16,
        count: u16,
        extended: bool
    ) -> () = trace_table_write;

    /// Hints were looked up for a user.
    pub(crate) fn resolve(pdev: &pci::Device<Bound>, count: u32, extended: bool) -> ()
        = trace_resolve;

    fn refusal_at(pdev: &pci::Device<Bound>, feature: u32, error: i32, position: i32) -> ()
        = trace_refusal;
}

/// A feature was refused, because of the source at `position` if there is one.
#[inline(always)]
pub(crate) fn refusal(pdev: &pci::Device<Bound>, feature: u32, error: i32, position: Option<u32>) {
    // CAST: positions are below 4096.
    let position = position.map_or(-1, |position| position as i32);
    refusal_at(pdev, feature, error, position);
}
