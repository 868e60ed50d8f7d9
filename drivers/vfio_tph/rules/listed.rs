// SPDX-License-Identifier: GPL-2.0-only

//! An enum and the list of its variants, from one source: a variant that is not listed would not be
//! counted.

/// Defines an enum, and `ALL`: every variant, in the order of their values.
macro_rules! listed {
    (
        $(#[$attribute:meta])*
        $visible:vis enum $name:ident {
            $($(#[$about:meta])* $variant:ident,)*
        }
    ) => {
        $(#[$attribute])*
        $visible enum $name {
            $($(#[$about])* $variant,)*
        }

        impl $name {
            /// Every one, in the order of their values.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant,)*];
        }
    };
}
pub(crate) use listed;
