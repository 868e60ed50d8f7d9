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

    /// The hint in the namespace asked for. A valid tag 0 is a tag; "not valid" is none. Firmware
    /// has no processing hint of its own to give: 0, bidirectional, goes with every tag.
    pub(crate) const fn hint(
        self,
        memory: MemoryType,
        namespace: Namespace,
    ) -> Result<Hint, Refusal> {
        let half = self.half(memory);
        // CAST: each takes its field.
        let tag = match namespace {
            Namespace::Standard if half & Self::ST_VALID != 0 => {
                (half >> Self::ST_SHIFT) as u8 as u16
            }
            Namespace::Extended if half & Self::XST_VALID != 0 => (half >> Self::XST_SHIFT) as u16,
            _ => return Err(Refusal::NoTag),
        };
        Ok(Hint {
            tag,
            ph: 0,
            ph_ignored: half & Self::PH_IGNORED != 0,
        })
    }
}
