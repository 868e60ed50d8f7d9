// SPDX-License-Identifier: GPL-2.0-only

//! IOMMU groups: devices whose DMA no IOMMU keeps apart.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use crate::rust::bindings;
use core::ptr::NonNull;
use kernel::{
    device::Device,
    prelude::*, //
};

/// An IOMMU group.
///
/// # Invariants
///
/// Holds one reference to the group.
pub(crate) struct Group(NonNull<bindings::iommu_group>);

impl Group {
    /// The group of a device that a driver is bound to; `None` without an IOMMU.
    ///
    /// In vfio's no-IOMMU mode a device has a group of its own.
    pub(crate) fn of(dev: &Device) -> Option<Self> {
        // SAFETY: The device is valid, by the invariant of `Device`, and as long as a driver is
        // bound it stays in its group.
        let group = unsafe { bindings::iommu_group_get(as_raw(dev)) };
        // INVARIANT: The call took a reference.
        NonNull::new(group).map(Self)
    }

    /// Whether `predicate` holds for any device of the group.
    ///
    /// Sleeps. The group does not change meanwhile, and so `predicate` must not wait for a device
    /// that comes or goes.
    pub(crate) fn any<F: FnMut(&Device) -> bool>(&self, mut predicate: F) -> bool {
        // SAFETY: The group is valid by the invariant. `visit` gets `predicate`, which nobody
        // else uses until the call returns.
        let found = unsafe {
            bindings::iommu_group_for_each_dev(
                self.0.as_ptr(),
                (&raw mut predicate).cast(),
                Some(visit::<F>),
            )
        };
        found != 0
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the invariant.
        unsafe { bindings::iommu_group_put(self.0.as_ptr()) };
    }
}

/// The C side of a device.
pub(crate) fn as_raw(dev: &Device) -> *mut bindings::device {
    // CAST: `Device` is a transparent wrapper of `struct device`.
    core::ptr::from_ref(dev).cast_mut().cast()
}

/// Asks the predicate behind `data` about a device; 1 ends the walk.
///
/// # Safety
///
/// `dev` is a valid device for the length of the call, and `data` points to an `F` that nobody
/// else uses meanwhile.
unsafe extern "C" fn visit<F: FnMut(&Device) -> bool>(
    dev: *mut bindings::device,
    data: *mut c_void,
) -> c_int {
    // SAFETY: `dev` is valid, and `data` points to an `F` that nobody else uses, by the safety
    // requirement.
    let (dev, predicate) = unsafe { (Device::from_raw(dev), &mut *data.cast::<F>()) };
    c_int::from(predicate(dev))
}
