// SPDX-License-Identifier: GPL-2.0-only

//! What firmware answers to the query for steering tags, `_DSM` function 0Fh of a host bridge (PCI
//! Firmware Specification).

use super::{
    lookup::Hint,
    refusal::Refusal,
    source::{
        MemoryType,
        Namespace, //
    },
};
use core::fmt;

/// What firmware says of one CPU: tags of both namespaces for either memory type.
///
/// The layout is that of `union st_info` in drivers/pci/tph.c: one 32-bit half for each memory
/// type, volatile first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CpuTags(u64);

impl CpuTags {
    const ST_VALID: u32 = 1 << 0;
    const XST_VALID: u32 = 1 << 1;
    const PH_IGNORED: u32 = 1 << 2;
    const ST_SHIFT: u32 = 8;
    const XST_SHIFT: u32 = 16;

    /// From the 64-bit value that the `_DSM` returns.
    pub(crate) const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    const fn half(self, memory: MemoryType) -> u32 {
        // CAST: takes one half.
        match memory {
            MemoryType::Volatile => self.0 as u32,
            MemoryType::Persistent => (self.0 >> 32) as u32,
        }
    }

    /// Whether a tag in that namespace is valid.
    pub(crate) const fn is_valid(self, memory: MemoryType, namespace: Namespace) -> bool {
        let bit = match namespace {
            Namespace::Standard => Self::ST_VALID,
            Namespace::Extended => Self::XST_VALID,
        };
        self.half(memory) & bit != 0
    }

    /// The hint in the namespace asked for. A valid tag 0 is a tag; "not valid" is none. Firmware
    /// has no processing hint of its own to give: 0, bidirectional, goes with every tag.
    pub(crate) const fn hint(
        self,
        memory: MemoryType,
        namespace: Namespace,
    ) -> Result<Hint, Refusal> {
        let half = self.half(memory);
        // CAST: each takes its field.
        if !self.is_valid(memory, namespace) {
            return Err(Refusal::NoTag);
        }
        let tag = match namespace {
            Namespace::Standard => (half >> Self::ST_SHIFT) as u8 as u16,
            Namespace::Extended => (half >> Self::XST_SHIFT) as u16,
        };
        Ok(Hint {
            tag,
            ph: 0,
            ph_ignored: half & Self::PH_IGNORED != 0,
        })
    }
}

/// Which tags are valid, by memory type, as an administrator reads it; not what they are.
impl fmt::Display for CpuTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let valid = |memory| {
            let valid = |namespace| self.is_valid(memory, namespace);
            match (valid(Namespace::Standard), valid(Namespace::Extended)) {
                (true, true) => "st,xst",
                (true, false) => "st",
                (false, true) => "xst",
                (false, false) => "none",
            }
        };
        write!(
            f,
            "volatile {} persistent {}",
            valid(MemoryType::Volatile),
            valid(MemoryType::Persistent)
        )
    }
}
