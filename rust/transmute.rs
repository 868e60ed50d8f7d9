// SPDX-License-Identifier: GPL-2.0-only

//! Structs of a user ABI as bytes: what `kernel::transmute` needs to be told of each of them.

/// Says of structs that they are [`FromBytes`](kernel::transmute::FromBytes) and
/// [`AsBytes`](kernel::transmute::AsBytes), after a look at their fields: all of them are listed,
/// except for a flexible array at the end. Does not compile for a struct with a hole, or with a
/// field that is not both itself.
macro_rules! plain_structs {
    ($($name:ident { $($field:ident: $kind:ty),+ $(,)? })+) => {$(
        const _: () = {
            const fn is_plain<T: kernel::transmute::FromBytes + kernel::transmute::AsBytes>() {}
            $(is_plain::<$kind>();)+
            // A pattern has each field once.
            let _ = |$name { $($field,)+ .. }: &$name| {
                $(let _: &$kind = $field;)+
            };
            assert!(size_of::<$name>() == 0 $(+ size_of::<$kind>())+, "there is a hole");
        };
        // SAFETY: The fields above take all of the bytes, and every bit pattern is a value of each.
        unsafe impl kernel::transmute::FromBytes for $name {}
        // SAFETY: The fields above take all of the bytes, so that there is no padding, and none of
        // them has interior mutability.
        unsafe impl kernel::transmute::AsBytes for $name {}
    )+};
}
pub(crate) use plain_structs;
