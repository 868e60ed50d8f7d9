// SPDX-License-Identifier: GPL-2.0-only

//! Functions in C that a driver has of its own, for what is a macro of the kernel.
//!
//! The driver declares them in a header that `Kbuild.bindings` is told of. A function whose name
//! begins with `safe_helper_` promises there that it can be called whenever its caller may sleep:
//! with numbers of any value, and with any bound device. What it returns is a number, or NULL, or
//! a string that stays as it is as long as the module is there.

use super::{
    bindings,
    pci::as_raw, //
};
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};

/// What such a function takes.
pub(crate) trait Argument {
    /// As C takes it.
    type Raw;

    /// Turns it into that.
    fn into_raw(self) -> Self::Raw;
}

/// What such a function returns.
pub(crate) trait Returned {
    /// As C returns it.
    type Raw;

    /// Takes it from C.
    ///
    /// # Safety
    ///
    /// A function whose name begins with `safe_helper_` has returned `raw`.
    unsafe fn from_raw(raw: Self::Raw) -> Self;
}

macro_rules! numbers {
    ($($kind:ty),+) => {$(
        impl Argument for $kind {
            type Raw = $kind;

            #[inline(always)]
            fn into_raw(self) -> $kind {
                self
            }
        }

        impl Returned for $kind {
            type Raw = $kind;

            #[inline(always)]
            unsafe fn from_raw(raw: $kind) -> Self {
                raw
            }
        }
    )+};
}

numbers!(bool, u8, u16, u32, i32, ());

impl Argument for &pci::Device<Bound> {
    type Raw = *mut bindings::pci_dev;

    #[inline(always)]
    fn into_raw(self) -> *mut bindings::pci_dev {
        as_raw(self)
    }
}

impl Returned for Option<&'static CStr> {
    type Raw = *const c_char;

    #[inline(always)]
    unsafe fn from_raw(raw: *const c_char) -> Self {
        // SAFETY: What is not NULL is a string that stays as it is, by the safety requirement.
        (!raw.is_null()).then(|| unsafe { CStr::from_char_ptr(raw) })
    }
}

/// Makes a function of each `safe_helper_NAME`, which is given as `NAME`.
macro_rules! safe_helpers {
    ($(
        $(#[$attribute:meta])*
        $vis:vis fn $name:ident($($argument:ident: $kind:ty),*) -> $returned:ty = $helper:ident;
    )+) => { kernel::macros::paste! {$(
        $(#[$attribute])*
        #[inline(always)]
        $vis fn $name($($argument: $kind),*) -> $returned {
            // SAFETY: The name of the function promises that it can be called, and what it returns.
            unsafe {
                $crate::rust::helper::Returned::from_raw(
                    $crate::rust::bindings::[<safe_helper_ $helper>](
                        $($crate::rust::helper::Argument::into_raw($argument)),*
                    ),
                )
            }
        }
    )+} };
}
pub(crate) use safe_helpers;
