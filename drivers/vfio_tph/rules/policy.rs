// SPDX-License-Identifier: GPL-2.0-only

//! How much of TPH an administrator lets a user have: `VFIO_TPH_POLICY_*`.

use super::regs::{
    Modes,
    StMode, //
};
use crate::uapi;
use core::ffi::CStr;

/// The policy of a device; each includes all that the ones before it allow.
///
/// The line that matters is the one below [`Policy::DsSt`]: below it a user neither sees nor
/// chooses the value of a steering tag. A tag acts on caches that are shared with other tenants,
/// and no IOMMU checks it. So below it a user may name CPUs alone, and no others than they may
/// run on: what a dma-buf's owner publishes is a value of somebody's choice, and the owner may be
/// the user.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
#[repr(u8)]
pub(crate) enum Policy {
    /// `no_st`: hints without tags.
    NoSt = uapi::VFIO_TPH_POLICY_NO_ST as u8,
    /// `iv_st`: tags for interrupt vectors, named by the CPUs that the caller may run on.
    IvSt = uapi::VFIO_TPH_POLICY_IV_ST as u8,
    /// `ds_st`: tags are seen, any CPU and dma-bufs name them, and Device Specific mode may be
    /// used.
    DsSt = uapi::VFIO_TPH_POLICY_DS_ST as u8,
    /// `literal`: any tag.
    Literal = uapi::VFIO_TPH_POLICY_LITERAL as u8,
}

/// Why no device can have the policy that was named when the module was loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BadName {
    /// There is no policy of that name.
    Unknown,
    /// The gate does not allow it.
    BeyondGate,
}

impl Policy {
    /// The widest policy that the `enable_unsafe_tph` gate allows.
    pub(crate) const fn default_for(gate: bool) -> Self {
        if gate {
            Self::Literal
        } else {
            Self::IvSt
        }
    }

    /// The policy of a freshly bound device: of the name that was given when the module was
    /// loaded, if one was.
    pub(crate) fn at_bind(gate: bool, name: Option<&[u8]>) -> Result<Self, BadName> {
        let widest = Self::default_for(gate);
        let Some(name) = name else {
            return Ok(widest);
        };
        match Self::from_name(name) {
            None => Err(BadName::Unknown),
            Some(policy) if policy > widest => Err(BadName::BeyondGate),
            Some(policy) => Ok(policy),
        }
    }

    /// The policy of a value; the narrowest for one that is none.
    pub(crate) const fn from_value(value: u32) -> Self {
        match value {
            uapi::VFIO_TPH_POLICY_IV_ST => Self::IvSt,
            uapi::VFIO_TPH_POLICY_DS_ST => Self::DsSt,
            uapi::VFIO_TPH_POLICY_LITERAL => Self::Literal,
            _ => Self::NoSt,
        }
    }

    /// The policy of this name.
    #[inline(never)]
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        [Self::NoSt, Self::IvSt, Self::DsSt, Self::Literal]
            .into_iter()
            .find(|policy| policy.name().to_bytes() == name)
    }

    /// The name that administrators know it by.
    pub(crate) const fn name(self) -> &'static CStr {
        match self {
            Self::NoSt => c"no_st",
            Self::IvSt => c"iv_st",
            Self::DsSt => c"ds_st",
            Self::Literal => c"literal",
        }
    }

    /// The ST modes that a user may select, whatever the device has.
    pub(crate) fn modes(self) -> Modes {
        let mut modes = Modes::NONE.with(StMode::NoSt);
        if self >= Self::IvSt {
            modes = modes.with(StMode::InterruptVector);
        }
        if self >= Self::DsSt {
            modes = modes.with(StMode::DeviceSpecific);
        }
        modes
    }

    /// Whether a user may program the ST table at all.
    pub(crate) fn programs_table(self) -> bool {
        self >= Self::IvSt
    }

    /// Whether a user may see the value of a tag.
    pub(crate) fn discloses_tags(self) -> bool {
        self >= Self::DsSt
    }

    /// Whether a user may name a CPU that they may not run on.
    pub(crate) fn takes_any_cpu(self) -> bool {
        self >= Self::DsSt
    }

    /// Whether the tag that a dma-buf's owner has published may get into an ST table.
    pub(crate) fn takes_dma_bufs(self) -> bool {
        self >= Self::DsSt
    }

    /// Whether a user may choose the value of a tag.
    pub(crate) fn takes_literals(self) -> bool {
        self >= Self::Literal
    }
}
