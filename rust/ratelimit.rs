// SPDX-License-Identifier: GPL-2.0-only

//! A limit for messages that a user or a device can cause as often as they like.
//!
//! C header: [`include/linux/ratelimit.h`](srctree/include/linux/ratelimit.h)

use super::bindings;

/// Messages, each of which has a limit of its own: what one user causes keeps no other message
/// out. As with `dev_err_ratelimited()`, all devices share it.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Message {
    /// A capability claims ST entries past the end of config space.
    PastTheEnd = bindings::tph_message_TPH_MESSAGE_PAST_THE_END,
    /// Control reads as nobody has written it.
    Control = bindings::tph_message_TPH_MESSAGE_CONTROL,
    /// Another function is in the IOMMU group.
    NotAlone = bindings::tph_message_TPH_MESSAGE_NOT_ALONE,
}

/// Whether a message may be printed now, by the kernel's default limit. The kernel counts those
/// that are left out.
pub(crate) fn allows(message: Message) -> bool {
    // SAFETY: The function can be called in any context, and there is such a message.
    unsafe { bindings::tph_helper_ratelimit(message as u32) }
}
