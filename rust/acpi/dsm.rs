// SPDX-License-Identifier: GPL-2.0-only

//! Evaluation of `_DSM`, ACPI 6.5 section 9.1.1.
//!
//! C header: [`include/acpi/acpi_bus.h`](srctree/include/acpi/acpi_bus.h)

use crate::rust::bindings;
use core::ptr::NonNull;
use kernel::prelude::*;

/// A node of the ACPI namespace that has methods.
///
/// # Invariants
///
/// The handle is valid: nodes with a device attached stay for as long as the device.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct AcpiHandle(NonNull<kernel::ffi::c_void>);

// SAFETY: A handle is a name for a node; ACPICA locks for itself.
unsafe impl Send for AcpiHandle {}
// SAFETY: As for `Send`.
unsafe impl Sync for AcpiHandle {}

impl AcpiHandle {
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
    /// Whether the node says, by function 0, that it has `function`.
    ///
    /// Not by `acpi_check_dsm()` and `acpi_evaluate_dsm()`: to them a node without the function and
    /// one that there was no memory to ask are the same.
    ///
    /// ENODEV if function 0 does not evaluate, ENOMEM without memory.
    #[cfg(CONFIG_ACPI)]
    pub(crate) fn has(&self, handle: AcpiHandle, function: u32) -> Result<bool> {
        let wanted = 1u64.checked_shl(function).unwrap_or(0);
        let known = self.call(handle, 0, &mut [])?.as_mask().unwrap_or(0);
        // Bit 0 says that there is any function besides this one.
        Ok(wanted != 0 && known & 1 != 0 && known & wanted != 0)
    }

    /// No node has any function: this kernel has no ACPI.
    #[cfg(not(CONFIG_ACPI))]
    pub(crate) fn has(&self, _: AcpiHandle, _: u32) -> Result<bool> {
        Ok(false)
    }

    /// Evaluates `function`, which the node has, with a package of integers.
    ///
    /// ENODEV if it does not evaluate, ENOMEM without memory.
    #[cfg(CONFIG_ACPI)]
    pub(crate) fn evaluate(
        &self,
        handle: AcpiHandle,
        function: u32,
        arguments: [u64; 3],
    ) -> Result<Object> {
        self.call(handle, function, &mut arguments.map(integer))
    }

    /// Evaluates nothing: this kernel has no ACPI.
    #[cfg(not(CONFIG_ACPI))]
    pub(crate) fn evaluate(&self, _: AcpiHandle, _: u32, _: [u64; 3]) -> Result<Object> {
        Err(ENODEV)
    }

    /// Evaluates a function, whether it is there or not.
    #[cfg(CONFIG_ACPI)]
    #[inline(never)]
    fn call(
        &self,
        handle: AcpiHandle,
        function: u32,
        arguments: &mut [bindings::acpi_object],
    ) -> Result<Object> {
        let mut guid = self.guid;
        let mut parameters = [
            bindings::acpi_object {
                buffer: bindings::acpi_object__bindgen_ty_3 {
                    type_: bindings::ACPI_TYPE_BUFFER,
                    // CAST: sixteen.
                    length: guid.len() as u32,
                    pointer: guid.as_mut_ptr(),
                },
            },
            integer(self.revision),
            integer(function.into()),
            bindings::acpi_object {
                package: bindings::acpi_object__bindgen_ty_4 {
                    type_: bindings::ACPI_TYPE_PACKAGE,
                    // CAST: at most three.
                    count: arguments.len() as u32,
                    elements: arguments.as_mut_ptr(),
                },
            },
        ];
        let mut list = bindings::acpi_object_list {
            // CAST: four.
            count: parameters.len() as u32,
            pointer: parameters.as_mut_ptr(),
        };
        let mut result = bindings::acpi_buffer {
            // ACPI_ALLOCATE_BUFFER
            length: bindings::acpi_size::MAX,
            pointer: core::ptr::null_mut(),
        };
        // SAFETY: The handle is valid by its invariant. The parameters, and what they point to,
        // live until the call returns, and are only read. ACPICA allocates the result.
        let status = unsafe {
            bindings::acpi_evaluate_object(
                handle.0.as_ptr(),
                c"_DSM".as_char_ptr().cast_mut(),
                &mut list,
                &mut result,
            )
        };
        if status != 0 {
            // SAFETY: The function takes any number.
            let no_memory = unsafe { bindings::tph_helper_acpi_no_memory(status) };
            return Err(if no_memory { ENOMEM } else { ENODEV });
        }
        // INVARIANT: The object is ours.
        NonNull::new(result.pointer.cast())
            .map(Object)
            .ok_or(ENODEV)
    }
}

#[cfg(CONFIG_ACPI)]
fn integer(value: u64) -> bindings::acpi_object {
    bindings::acpi_object {
        integer: bindings::acpi_object__bindgen_ty_1 {
            type_: bindings::ACPI_TYPE_INTEGER,
            value,
        },
    }
}

/// What a method returned.
///
/// # Invariants
///
/// The object is valid, and owned by this value.
pub(crate) struct Object(NonNull<bindings::acpi_object>);

impl Object {
    /// A mask of functions: a buffer, or an integer of old firmware; `None` if the object is of
    /// another type.
    #[cfg(CONFIG_ACPI)]
    fn as_mask(&self) -> Option<u64> {
        // SAFETY: The object is valid, by the type's invariant, and every variant starts with its
        // type.
        if unsafe { self.0.as_ref().type_ } == bindings::ACPI_TYPE_INTEGER {
            // SAFETY: The object is valid, by the type's invariant, and its type says which variant
            // it is.
            return Some(unsafe { self.0.as_ref().integer.value });
        }
        let bytes = self.as_buffer()?;
        let mut mask = [0; size_of::<u64>()];
        for (to, from) in mask.iter_mut().zip(bytes) {
            *to = *from;
        }
        Some(u64::from_le_bytes(mask))
    }

    /// The bytes of a buffer; `None` if the object is of another type.
    pub(crate) fn as_buffer(&self) -> Option<&[u8]> {
        // SAFETY: The object is valid, by the type's invariant, and every variant starts with its
        // type.
        if unsafe { self.0.as_ref().type_ } != bindings::ACPI_TYPE_BUFFER {
            return None;
        }
        // SAFETY: The object is valid, by the type's invariant, and its type says which variant it
        // is.
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
        unsafe { bindings::tph_helper_acpi_free(self.0.as_ptr().cast()) };
    }
}
