// SPDX-License-Identifier: GPL-2.0-only

//! `VFIO_DEVICE_IOEVENTFD` where vfio-pci-core takes an access that not every architecture can
//! make.

use crate::rust::bindings;
use core::mem::offset_of;
use kernel::{
    prelude::*,
    transmute::FromBytes,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// How `struct vfio_device_ioeventfd` begins.
#[repr(C)]
struct Head {
    _argsz: u32,
    flags: u32,
    offset: u64,
}

// SAFETY: Every bit pattern is a value, and there is no padding.
unsafe impl FromBytes for Head {}

/// Whether the `struct vfio_device_ioeventfd` at `arg` names an offset that is no multiple of the
/// width. One that cannot be read, or is wrong otherwise, is left to vfio-pci-core to refuse.
///
/// vfio-pci-core makes one access of that width when the eventfd is signalled. On arm64 a
/// misaligned one is an oops, with interrupts disabled.
///
/// vfio-pci-core copies the struct again, and cannot be given this copy: a thread that changes the
/// offset in between gets past the check. Only vfio_pci_ioeventfd() can refuse that, and does with
/// `kernel/patches`.
pub(super) fn is_misaligned(arg: c_ulong) -> bool {
    const_assert!(
        offset_of!(Head, flags) == offset_of!(bindings::vfio_device_ioeventfd, flags)
            && offset_of!(Head, offset) == offset_of!(bindings::vfio_device_ioeventfd, offset),
        "struct vfio_device_ioeventfd must begin with these fields"
    );
    let user = UserPtr::from_addr(arg);
    let head: Result<Head> = UserSlice::new(user, size_of::<Head>()).reader().read();
    head.is_ok_and(|head| {
        let width = head.flags & bindings::VFIO_DEVICE_IOEVENTFD_SIZE_MASK;
        width.is_power_of_two() && head.offset & u64::from(width).wrapping_sub(1) != 0
    })
}
