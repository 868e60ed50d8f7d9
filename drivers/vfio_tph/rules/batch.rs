// SPDX-License-Identifier: GPL-2.0-only

//! The checks of `VFIO_DEVICE_FEATURE_TPH_ST` that come before its sources, in their order.

use super::{
    capability::Offer,
    refusal::Refusal,
    regs::{
        Control,
        RequesterEnable,
        StMode, //
    },
    source::Namespace,
};
use crate::uapi;
use core::ops::Range;

/// A well-formed request to program a range of entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Batch {
    /// First entry.
    pub(crate) index: u16,
    /// Number of entries, at least 1; `index + count` is within the table.
    pub(crate) count: u16,
    /// Which tags are meant.
    pub(crate) namespace: Namespace,
}

impl Batch {
    /// The positions of the entries in the table.
    pub(crate) fn entries(&self) -> Range<usize> {
        let start = usize::from(self.index);
        start..start + usize::from(self.count)
    }

    /// Whether there is a table to program: the first check, which PROBE makes too.
    pub(crate) fn available(offer: Option<&Offer>) -> Result<&Offer, Refusal> {
        offer
            .filter(|offer| offer.programmable())
            .ok_or(Refusal::Unsupported)
    }

    /// Checks the shape of a request: `argsz` is the length of header and sources, in bytes.
    pub(crate) fn shape(
        header: &uapi::vfio_device_feature_tph_st,
        offer: &Offer,
        argsz: usize,
    ) -> Result<Self, Refusal> {
        let namespace = Namespace::from_flags(header.flags)?;
        let sources = usize::from(header.count) * size_of::<uapi::vfio_tph_source>();
        let end = u32::from(header.index) + u32::from(header.count);

        if header.reserved != 0
            || header.count == 0
            || end > u32::from(offer.entries)
            || argsz < size_of::<uapi::vfio_device_feature_tph_st>() + sources
        {
            return Err(Refusal::Malformed);
        }
        Ok(Self {
            index: header.index,
            count: header.count,
            namespace,
        })
    }

    /// Checks a request against the Control register in force.
    pub(crate) fn admit(&self, control: Control, offer: &Offer) -> Result<(), Refusal> {
        if !control.enabled() || control.st_mode == StMode::NoSt {
            return Err(Refusal::NotEnabled);
        }
        match self.namespace {
            Namespace::Extended
                if control.requester_enable != RequesterEnable::Extended || !offer.extended() =>
            {
                Err(Refusal::NoExtended)
            }
            _ => Ok(()),
        }
    }
}
