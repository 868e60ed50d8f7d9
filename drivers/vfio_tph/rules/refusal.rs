// SPDX-License-Identifier: GPL-2.0-only

//! Why a request is refused, and the errno that says so.

use super::listed::listed;
use crate::uapi;

listed! {
    /// A reason to refuse a request.
    #[derive(Clone, Copy, Debug, Eq, PartialEq)]
    pub(crate) enum Refusal {
        /// TPH is not usable, or the policy leaves the feature out.
        Unsupported,
        /// An operation that the feature does not have, a reserved field, an unknown flag, a
        /// length.
        Malformed,
        /// Requester Enable is 00b, or the mode is No ST.
        NotEnabled,
        /// Extended tags where Requester Enable or the path has none.
        NoExtended,
        /// A source of unknown type, or with a flag or a value that its type does not have.
        MalformedSource,
        /// A literal tag below the policy that takes it.
        LiteralDenied,
        /// A dma-buf as a source of an ST entry, below the policy that takes it.
        DmaBufDenied,
        /// A CPU's tag, below the policy that discloses it.
        CpuDenied,
        /// A CPU that the caller may not run on, below the policy that takes any.
        ForeignCpu,
        /// A CPU that is not present.
        NoCpu,
        /// The firmware, or an exporter, has no tag in the namespace asked for.
        NoTag,
        /// An MSI-X vector that is not allocated.
        NoVector,
        /// The device does not answer.
        DeviceGone,
        /// Nothing is open where a dma-buf should be.
        BadFd,
        /// Something else is open where a dma-buf should be.
        NotDmaBuf,
        /// A dma-buf of somebody else, where one of this device should be.
        ForeignDmaBuf,
        /// A dma-buf whose memory cannot be reached now, or ever again.
        Revoked,
        /// The table has virtual tags, or their map is not the caller's to change, or not now.
        Busy,
    }
}

impl Refusal {
    /// The errno for user space, positive.
    #[inline(never)]
    pub(crate) const fn errno(self) -> i32 {
        let errno = match self {
            Self::Unsupported | Self::NoExtended | Self::NoTag => uapi::EOPNOTSUPP,
            Self::Malformed
            | Self::MalformedSource
            | Self::NoCpu
            | Self::NotDmaBuf
            | Self::ForeignDmaBuf => uapi::EINVAL,
            Self::NotEnabled | Self::NoVector => uapi::ENXIO,
            Self::LiteralDenied | Self::DmaBufDenied | Self::CpuDenied | Self::ForeignCpu => {
                uapi::EPERM
            }
            Self::DeviceGone => uapi::EIO,
            Self::BadFd => uapi::EBADF,
            Self::Revoked => uapi::ENODEV,
            Self::Busy => uapi::EBUSY,
        };
        // CAST: errnos are below 4096.
        errno as i32
    }
}
