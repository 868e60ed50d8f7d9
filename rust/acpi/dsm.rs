// SPDX-License-Identifier: GPL-2.0-only

//! Evaluation of `_DSM`, ACPI 6.5 section 9.1.1.
//!
//! C header: [`include/acpi/acpi_bus.h`](srctree/include/acpi/acpi_bus.h)

use crate::abstractions::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

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

/// A set of functions of `_DSM`: a GUID and a revision.
pub(crate) struct FunctionSet {
    /// The GUID in its memory layout, the first three fields in little-endian order.
    pub(crate) guid: [u8; 16],
    /// The revision.
    pub(crate) revision: u64,
}

impl FunctionSet {
    /// Whether the node says that it has `function`. Evaluates it to find out.
    #[cfg(CONFIG_ACPI)]
    pub(crate) fn has(&self, handle: Handle, function: u32) -> bool {
        let guid = bindings::guid_t { b: self.guid };
        // SAFETY: The handle is valid by its invariant, and the GUID is only read.
        unsafe {
            bindings::acpi_check_dsm(
                handle.0.as_ptr(),
                &guid,
                self.revision,
                1u64.checked_shl(function).unwrap_or(0),
            )
        }
    }

    /// Nothing has any: this kernel has no ACPI.
    #[cfg(not(CONFIG_ACPI))]
    pub(crate) fn has(&self, _: Handle, _: u32) -> bool {
        false
    }

    /// Evaluates `function`, which the node has, with a package of integers.
    ///
    /// ENODEV if it does not evaluate.
    #[cfg(CONFIG_ACPI)]
    pub(crate) fn evaluate(
        &self,
        handle: Handle,
        function: u32,
        arguments: [u64; 3],
    ) -> Result<Object> {
        let guid = bindings::guid_t { b: self.guid };
        let mut elements = arguments.map(|value| bindings::acpi_object {
            integer: bindings::acpi_object__bindgen_ty_1 {
                type_: bindings::ACPI_TYPE_INTEGER,
                value,
            },
        });
        let mut package = bindings::acpi_object {
            package: bindings::acpi_object__bindgen_ty_4 {
                type_: bindings::ACPI_TYPE_PACKAGE,
                // CAST: three.
                count: elements.len() as u32,
                elements: elements.as_mut_ptr(),
            },
        };
        // SAFETY: The handle is valid by its invariant; the package and its elements live until
        // the call returns, and are only read.
        let object = unsafe {
            bindings::acpi_evaluate_dsm(
                handle.0.as_ptr(),
                &guid,
                self.revision,
                function.into(),
                &mut package,
            )
        };
        // INVARIANT: The object is ours.
        NonNull::new(object).map(Object).ok_or(ENODEV)
    }

    /// Evaluates nothing: this kernel has no ACPI.
    #[cfg(not(CONFIG_ACPI))]
    pub(crate) fn evaluate(&self, _: Handle, _: u32, _: [u64; 3]) -> Result<Object> {
        Err(ENODEV)
    }
}

/// What a method returned.
///
/// # Invariants
///
/// The object is valid, and owned by this value.
pub(crate) struct Object(NonNull<bindings::acpi_object>);

impl Object {
    /// The bytes of a buffer; `None` if the object is of another type.
    pub(crate) fn as_buffer(&self) -> Option<&[u8]> {
        // SAFETY: The object is valid, and every variant starts with its type.
        if unsafe { self.0.as_ref().type_ } != bindings::ACPI_TYPE_BUFFER {
            return None;
        }
        // SAFETY: The object is valid, and the type says which variant it is.
        let buffer = unsafe { self.0.as_ref().buffer };
        if buffer.pointer.is_null() {
            return Some(&[]);
        }
        // SAFETY: A buffer object holds `length` bytes, and lives as long as `self`.
        Some(unsafe { core::slice::from_raw_parts(buffer.pointer, buffer.length as usize) })
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: The object is ours, and not used after this.
        unsafe { bindings::tph_helper_acpi_free(self.0.as_ptr()) };
    }
}
