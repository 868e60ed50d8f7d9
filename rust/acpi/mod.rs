// SPDX-License-Identifier: GPL-2.0-only

//! ACPI: nodes, and device-specific methods.

use crate::rust::bindings;
use core::ptr::NonNull;

#[cfg(not(VFIO_TPH_CPU_ST_INFO))]
pub(crate) mod dsm;

/// A node of the ACPI namespace that has methods.
///
/// # Invariants
///
/// The handle is valid: nodes with a device attached stay for as long as the device.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct Handle(NonNull<kernel::ffi::c_void>);

// SAFETY: A handle is a name for a node; ACPICA locks for itself.
unsafe impl Send for Handle {}
// SAFETY: As for `Send`.
unsafe impl Sync for Handle {}

impl Handle {
    /// Wraps a handle; `None` for a null one.
    ///
    /// # Safety
    ///
    /// `raw` is null, or valid for as long as the result is used.
    pub(crate) unsafe fn from_raw(raw: bindings::acpi_handle) -> Option<Self> {
        // INVARIANT: By the safety requirement.
        NonNull::new(raw).map(Self)
    }
}
