// SPDX-License-Identifier: GPL-2.0-only

//! The hints that the owner of a device publishes for a dma-buf of its memory, by
//! `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`.

use super::{
    lookup::Hint,
    refusal::Refusal,
    regs::Completer,
    source::Namespace, //
};
use crate::uapi;

/// What is published for a dma-buf.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Published {
    standard: Option<u8>,
    extended: Option<u16>,
    ph: u8,
}

impl Published {
    /// Whether a device may publish: it has to complete TPH requests. The first check, which PROBE
    /// makes too.
    pub(crate) fn available(completer: Completer) -> Result<(), Refusal> {
        match completer {
            Completer::None => Err(Refusal::Unsupported),
            Completer::Standard | Completer::Extended => Ok(()),
        }
    }

    /// Decodes what a user wants to publish: all of it, or nothing with no flag set. The file
    /// descriptor is not looked at.
    pub(crate) fn from_user(
        raw: &uapi::vfio_device_feature_dma_buf_tph,
        completer: Completer,
    ) -> Result<Self, Refusal> {
        const FLAGS: u32 = uapi::VFIO_DMA_BUF_TPH_ST | uapi::VFIO_DMA_BUF_TPH_ST_EXT;
        const MAX_PH: u8 = 3;

        if raw.flags & !FLAGS != 0 || raw.ph > MAX_PH {
            return Err(Refusal::Malformed);
        }
        let has = |flag| raw.flags & flag != 0;
        if has(uapi::VFIO_DMA_BUF_TPH_ST_EXT) && completer != Completer::Extended {
            return Err(Refusal::NoExtended);
        }
        Ok(Self {
            standard: has(uapi::VFIO_DMA_BUF_TPH_ST).then_some(raw.steering_tag),
            extended: has(uapi::VFIO_DMA_BUF_TPH_ST_EXT).then_some(raw.steering_tag_ext),
            ph: raw.ph,
        })
    }

    /// As one word. 0 if nothing is published.
    pub(crate) fn to_word(self) -> u64 {
        let [extended_low, extended_high] = self.extended.unwrap_or(0).to_le_bytes();
        let mut ph = self.ph;
        if self.standard.is_none() && self.extended.is_none() {
            ph = 0;
        }
        u64::from_le_bytes([
            self.standard.is_some().into(),
            self.standard.unwrap_or(0),
            self.extended.is_some().into(),
            extended_low,
            extended_high,
            ph,
            0,
            0,
        ])
    }

    /// From what [`Self::to_word`] made.
    pub(crate) fn from_word(word: u64) -> Self {
        let [has_standard, standard, has_extended, extended_low, extended_high, ph, _, _] =
            word.to_le_bytes();
        Self {
            standard: (has_standard != 0).then_some(standard),
            extended: (has_extended != 0)
                .then_some(u16::from_le_bytes([extended_low, extended_high])),
            ph,
        }
    }

    /// The hint in one namespace; never made of a tag of the other.
    pub(crate) fn hint(&self, namespace: Namespace) -> Option<Hint> {
        let tag = match namespace {
            Namespace::Standard => self.standard.map(u16::from),
            Namespace::Extended => self.extended,
        };
        tag.map(|tag| Hint {
            tag,
            ph: self.ph,
            ph_ignored: false,
        })
    }
}
