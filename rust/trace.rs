// SPDX-License-Identifier: GPL-2.0-only

//! Tracepoints, declared in `rust/helpers/tph_trace.h`; events of the group `vfio_tph` in tracefs.

use super::{
    bindings,
    pci::as_raw, //
};
use kernel::{
    device::Bound,
    pci, //
};

/// Control has a new value, with the requester enabled. Raw register fields.
pub(crate) fn enable(pdev: &pci::Device<Bound>, st_mode: u8, requester_enable: u8) {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_trace_enable(as_raw(pdev), st_mode, requester_enable) };
}

/// The requester was enabled, and no longer is.
pub(crate) fn disable(pdev: &pci::Device<Bound>) {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_trace_disable(as_raw(pdev)) };
}

/// A batch was written to the ST table.
pub(crate) fn table_write(pdev: &pci::Device<Bound>, index: u16, count: u16, extended: bool) {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_trace_table_write(as_raw(pdev), index, count, extended) };
}

/// Hints were looked up for a user.
pub(crate) fn resolve(pdev: &pci::Device<Bound>, count: u32, extended: bool) {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_trace_resolve(as_raw(pdev), count, extended) };
}

/// A feature was refused, because of the source at `position` if there is one.
pub(crate) fn refusal(pdev: &pci::Device<Bound>, feature: u32, error: i32, position: Option<u32>) {
    // CAST: positions are below 4096.
    let position = position.map_or(-1, |position| position as i32);
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_trace_refusal(as_raw(pdev), feature, error, position) };
}
