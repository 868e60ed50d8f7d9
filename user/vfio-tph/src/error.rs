// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! What can go wrong, in words.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::{Address, BadAddress, Control, Source};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that is no address.
    #[error(transparent)]
    BadAddress(#[from] BadAddress),
    /// There is no such device.
    #[error("{0}: no such device")]
    NoDevice(Address),
    /// No vfio driver has the device.
    #[error("{address}: no vfio driver is bound ({})", driver.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The device.
        address: Address,
        /// The driver that it has.
        driver: Option<String>,
    },
    /// A file on the way to the device cannot be opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A system call on the way to the device fails.
    #[error("{what}: {source}")]
    Setup {
        /// What was to be done.
        what: &'static str,
        /// Why it cannot be.
        source: io::Error,
    },
    /// Config space cannot be read, or written.
    #[error("config space at {offset:#x}: {source}")]
    Config {
        /// Where.
        offset: u16,
        /// Why.
        source: io::Error,
    },
    /// The driver of the device knows nothing of TPH.
    #[error("the device's driver is not vfio_tph, and has no TPH to offer")]
    OtherDriver,
    /// TPH is not usable on this device: the capability is hidden.
    #[error("TPH is not usable on this device ('tphctl why' says why)")]
    NotUsable,
    /// What was written to Control is not in force.
    #[error("{wanted} is not offered, or the device does not take it: in force is {in_force}")]
    NotInForce {
        /// What was written.
        wanted: Control,
        /// What is read.
        in_force: Control,
    },
    /// The kernel refuses a call.
    #[error("{feature}: {refusal}{}", Of(source_at))]
    Refused {
        /// The call.
        feature: Feature,
        /// Why.
        refusal: Refusal,
        /// The source that it is about, and its position in the call.
        source_at: Option<(usize, Source)>,
        /// The number of the error.
        errno: i32,
    },
}

struct Of<'a>(&'a Option<(usize, Source)>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some((position, source)) => write!(f, " (source {position}, {source})"),
            None => Ok(()),
        }
    }
}

/// A call that can be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// `VFIO_DEVICE_FEATURE_TPH`.
    Tph,
    /// `VFIO_DEVICE_FEATURE_TPH_ST`.
    TphSt,
    /// `VFIO_DEVICE_FEATURE_TPH_RESOLVE`.
    Resolve,
    /// `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`.
    DmaBufTph,
    /// `VFIO_DEVICE_FEATURE_TPH_MAP`.
    TphMap,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tph => "TPH",
            Self::TphSt => "TPH_ST",
            Self::Resolve => "TPH_RESOLVE",
            Self::DmaBufTph => "DMA_BUF_TPH",
            Self::TphMap => "TPH_MAP",
        })
    }
}

/// Why the kernel refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The device has no such thing, or the policy leaves it out.
    #[error("not available on this device, or under its policy")]
    Unsupported,
    /// Entries beyond the table, or too many sources.
    #[error("no such entries, or a field that the driver does not know")]
    Malformed,
    /// TPH is off, or in No ST mode: after a reset, too. Or a vector is not allocated.
    #[error("TPH is not enabled in a mode with steering tags, or a vector is not allocated")]
    NotEnabled,
    /// Firmware, or the dma-buf's owner, has no valid tag in that namespace.
    #[error("there is no valid tag for it in this namespace")]
    NoTag,
    /// The CPU is none of the caller's.
    #[error("the CPU is outside of the caller's cpuset, which the policy does not allow")]
    ForeignCpu,
    /// The policy does not disclose tags of CPUs.
    #[error("the policy does not disclose steering tags")]
    Undisclosed,
    /// The policy takes no tag of the caller's choice.
    #[error("the policy takes no tags that the caller has chosen")]
    ChosenTag,
    /// There is no such CPU.
    #[error("there is no such CPU")]
    NoCpu,
    /// The descriptor is not open.
    #[error("the descriptor is not open")]
    BadDescriptor,
    /// The descriptor is no dma-buf, or not one of this device.
    #[error("the descriptor is no dma-buf, or one of another device")]
    NotDmaBuf,
    /// The memory behind the dma-buf is out of reach.
    #[error("the dma-buf's memory is disabled, or was given up")]
    Revoked,
    /// There is a guest, who programs the table by virtual tags.
    #[error("the table has virtual tags, which the guest writes")]
    VirtualTags,
    /// The map is the administrator's; or it is the first one or the last, and TPH is enabled.
    #[error("the map is the administrator's (tph_vcpus), or TPH is enabled")]
    MapInUse,
    /// The device stopped answering, or sleeps.
    #[error("the device does not answer, or is in a power state in which it cannot")]
    DeviceGone,
    /// Something else.
    #[error("{}", io::Error::from_raw_os_error(*.0))]
    Other(i32),
}
