// SPDX-License-Identifier: GPL-2.0-only

//! A `VFIO_DEVICE_FEATURE` ioctl on its way to a driver.

use crate::rust::bindings;
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// What a feature can be asked to do.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Operation {
    /// `VFIO_DEVICE_FEATURE_GET`.
    Get,
    /// `VFIO_DEVICE_FEATURE_SET`.
    Set,
}

impl Operation {
    const fn flag(self) -> u32 {
        match self {
            Self::Get => bindings::VFIO_DEVICE_FEATURE_GET,
            Self::Set => bindings::VFIO_DEVICE_FEATURE_SET,
        }
    }
}

/// One call. The vfio core has checked that no flag is unknown, and that GET and SET come together
/// only with PROBE.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    pub(super) flags: u32,
    pub(super) arg: UserPtr,
    pub(super) argsz: usize,
}

impl Call {
    /// The feature's index.
    pub(crate) fn index(&self) -> u32 {
        self.flags & bindings::VFIO_DEVICE_FEATURE_MASK
    }

    /// The length of the feature's data in bytes, without the header of the ioctl.
    pub(crate) fn len(&self) -> usize {
        self.argsz
    }

    /// The feature's data from `offset` on.
    pub(crate) fn data(&self, offset: usize) -> UserSlice {
        UserSlice::new(
            self.arg.wrapping_byte_add(offset),
            self.argsz.saturating_sub(offset),
        )
    }

    /// Checks the call against the one operation that the feature has, as vfio_check_feature()
    /// does: whether it is to be done. `false` for PROBE, which is answered now.
    ///
    /// EINVAL for another operation, for none, and for data shorter than `min_size` bytes.
    pub(crate) fn check(&self, operation: Operation, min_size: usize) -> Result<bool> {
        const BOTH: u32 = bindings::VFIO_DEVICE_FEATURE_GET | bindings::VFIO_DEVICE_FEATURE_SET;

        let asked = self.flags & BOTH;
        if asked & !operation.flag() != 0 {
            return Err(EINVAL);
        }
        if self.flags & bindings::VFIO_DEVICE_FEATURE_PROBE != 0 {
            return Ok(false);
        }
        if asked == 0 || self.argsz < min_size {
            return Err(EINVAL);
        }
        Ok(true)
    }
}
