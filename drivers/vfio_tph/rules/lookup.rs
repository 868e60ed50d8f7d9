// SPDX-License-Identifier: GPL-2.0-only

//! The checks of `VFIO_DEVICE_FEATURE_TPH_RESOLVE`, and how much of an answer a policy discloses.

use super::{
    capability::Offer,
    policy::Policy,
    refusal::Refusal,
    source::{
        Namespace,
        Source, //
    },
};
use crate::uapi;

/// A well-formed request to look hints up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Lookup {
    /// Number of entries, 1 to `VFIO_TPH_RESOLVE_MAX`.
    pub(crate) count: u32,
    /// Which tags are meant.
    pub(crate) namespace: Namespace,
}

/// What was found for a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Hint {
    /// The tag, in the namespace asked for.
    pub(crate) tag: u16,
    /// The processing hint, 0 to 3.
    pub(crate) ph: u8,
    /// Whether the completer ignores the processing hint.
    pub(crate) ph_ignored: bool,
}

impl Lookup {
    /// Checks the shape of a request: `argsz` is the length of header and entries, in bytes.
    pub(crate) fn shape(
        header: &uapi::vfio_device_feature_tph_resolve,
        offer: &Offer,
        argsz: usize,
    ) -> Result<Self, Refusal> {
        let namespace = Namespace::from_flags(header.flags)?;
        if header.reserved != 0
            || header.count == 0
            || header.count > uapi::VFIO_TPH_RESOLVE_MAX
            || argsz < Self::size(header.count)
        {
            return Err(Refusal::Malformed);
        }
        if namespace == Namespace::Extended && !offer.extended() {
            return Err(Refusal::NoExtended);
        }
        Ok(Self {
            count: header.count,
            namespace,
        })
    }

    // CAST: `count` is at most 4096.
    const fn size(count: u32) -> usize {
        size_of::<uapi::vfio_device_feature_tph_resolve>()
            + count as usize * size_of::<uapi::vfio_tph_resolution>()
    }

    /// Decodes the source of an entry, and whether `policy` lets it be looked up. The other fields
    /// of the entry are for the answer, and may hold an earlier one.
    pub(crate) fn source(
        &self,
        entry: &uapi::vfio_tph_resolution,
        policy: Policy,
    ) -> Result<Source, Refusal> {
        const FLAGS: u32 = uapi::VFIO_TPH_RESOLUTION_ST | uapi::VFIO_TPH_RESOLUTION_PH_IGNORED;

        if entry.reserved != 0 || u32::from(entry.flags) & !FLAGS != 0 {
            return Err(Refusal::MalformedSource);
        }
        match Source::decode(&entry.source, self.namespace)? {
            Source::None | Source::Literal { .. } => Err(Refusal::MalformedSource),
            Source::Cpu { .. } if !policy.discloses_tags() => Err(Refusal::CpuDenied),
            source => Ok(source),
        }
    }
}

impl Hint {
    /// What an exporter answered for `namespace`. `NoTag` if that is no hint at all.
    pub(crate) fn from_exporter(tag: u16, ph: u8, namespace: Namespace) -> Result<Self, Refusal> {
        const MAX_PH: u8 = 3;

        if u32::from(tag) > namespace.max_tag() || ph > MAX_PH {
            return Err(Refusal::NoTag);
        }
        Ok(Self {
            tag,
            ph,
            ph_ignored: false,
        })
    }

    /// Answers `entry`, with what `policy` discloses.
    pub(crate) fn disclose(self, entry: &mut uapi::vfio_tph_resolution, policy: Policy) {
        let mut flags = 0;
        entry.st = 0;
        if policy.discloses_tags() {
            flags |= uapi::VFIO_TPH_RESOLUTION_ST;
            entry.st = self.tag;
        }
        if self.ph_ignored {
            flags |= uapi::VFIO_TPH_RESOLUTION_PH_IGNORED;
        }
        entry.ph = self.ph;
        // CAST: two bits.
        entry.flags = flags as u8;
    }
}
