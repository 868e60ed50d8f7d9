// SPDX-License-Identifier: GPL-2.0-only

//! A limit for messages that a user or a device can cause as often as they like, which
//! `helpers/ratelimit.c` keeps.

use crate::rust::{
    bindings,
    helper::safe_helpers, //
};

/// Messages, each of which has a limit of its own: what one user causes keeps no other message
/// out. As with `dev_err_ratelimited()`, all devices share it.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Message {
    /// A capability claims ST entries past the end of config space.
    PastTheEnd = bindings::tph_message_TPH_MESSAGE_PAST_THE_END,
    /// The device does not answer, or Control has a reserved value.
    Control = bindings::tph_message_TPH_MESSAGE_CONTROL,
    /// The MSI-X table refuses what is written, or does not answer.
    Table = bindings::tph_message_TPH_MESSAGE_TABLE,
    /// Another function is in the IOMMU group.
    NotAlone = bindings::tph_message_TPH_MESSAGE_NOT_ALONE,
}

safe_helpers! {
    fn allows_number(message: u32) -> bool = ratelimit;
}

/// Whether a message may be printed now, by the kernel's default limit. The kernel counts those
/// that are left out.
pub(crate) fn allows(message: Message) -> bool {
    allows_number(message as u32)
}
