// SPDX-License-Identifier: GPL-2.0-only

//! Which bytes of config space the capabilities of hardware own.
//!
//! Hardware's chain has more in it than the one that users see: vfio-pci-core hides what it does
//! not know. And what is in it need not keep clear of each other.

use super::regs::{
    Capability,
    BASE_SIZE, //
};
use crate::uapi::*;
use core::ops::Range;

/// Where extended capabilities begin.
pub(crate) const EXTENDED_SPACE: usize = 256;

/// What config space has at most.
const MOST: usize = 4096;
/// The bytes of the header of an extended capability.
pub(super) const HEADER: usize = size_of::<u32>();
/// Advanced Error Reporting with its log of prefixes.
const ERR_SIZE: usize = PCI_ERR_PREFIX_LOG as usize + 16;

/// A set of bytes of config space, by their offsets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ByteSet([u64; MOST / 64]);

impl ByteSet {
    pub(crate) const EMPTY: Self = Self([0; MOST / 64]);

    #[inline(never)]
    pub(crate) fn contains(&self, at: usize) -> bool {
        let word = self.0.get(at / 64).copied().unwrap_or(0);
        (word >> (at % 64)) & 1 != 0
    }

    /// Adds bytes; there are none beyond 4096.
    #[inline(never)]
    pub(crate) fn insert(&mut self, bytes: Range<usize>) {
        for at in bytes.start..bytes.end.min(MOST) {
            if let Some(word) = self.0.get_mut(at / 64) {
                *word |= 1 << (at % 64);
            }
        }
    }

    /// Adds all of another set.
    pub(crate) fn insert_all(&mut self, bytes: &Self) {
        for (word, more) in self.0.iter_mut().zip(&bytes.0) {
            *word |= more;
        }
    }

    /// From the first byte to the last one; `0..0` if there is none.
    pub(crate) fn hull(&self) -> Range<usize> {
        let Some(start) = (0..MOST).find(|&at| self.contains(at)) else {
            return 0..0;
        };
        let mut end = MOST;
        while !self.contains(end - 1) {
            end -= 1;
        }
        start..end
    }
}

/// The bytes that the capabilities of a chain in hardware own, except one of them.
#[derive(Debug)]
pub(crate) struct Owners {
    size: usize,
    /// The bytes of TPH Requester capabilities.
    tph: ByteSet,
    /// Their registers.
    registers: ByteSet,
    /// The bytes of all other capabilities.
    others: ByteSet,
    /// Headers of capabilities whose length is not known.
    unknown: ByteSet,
    /// What capabilities may have behind what vfio-pci-core knows of them.
    behind: ByteSet,
}

impl Owners {
    /// A config space of `size` bytes in which nobody owns anything. The value has 2.5 KiB, more
    /// than a kernel's stack has room for.
    pub(crate) const fn new(size: usize) -> Self {
        Self {
            size,
            tph: ByteSet::EMPTY,
            registers: ByteSet::EMPTY,
            others: ByteSet::EMPTY,
            unknown: ByteSet::EMPTY,
            behind: ByteSet::EMPTY,
        }
    }

    /// Follows the chain, and leaves out the capability at `except`. `read` reads the dword at an
    /// offset.
    ///
    /// As vfio-pci-core has it, a chain ends at a pointer that leads nowhere; and where it has been
    /// before, so that a loop in it is no loop here.
    pub(crate) fn find(&mut self, except: Option<u16>, read: impl Fn(usize) -> u32) {
        let size = self.size;
        let mut visited = ByteSet::EMPTY;
        let mut at = EXTENDED_SPACE;
        while at >= EXTENDED_SPACE && at + HEADER <= size && !visited.contains(at) {
            visited.insert(at..at + 1);
            let header = read(at);
            if Some(at) != except.map(usize::from) {
                let id = header & 0xffff;
                let set = match id {
                    PCI_EXT_CAP_ID_TPH => &mut self.tph,
                    _ => &mut self.others,
                };
                let len = length(id, &|register| read(at + register as usize));
                if len == 0 {
                    self.unknown.insert(at..at + HEADER);
                }
                if id == PCI_EXT_CAP_ID_TPH {
                    self.registers.insert(at..(at + BASE_SIZE).min(size));
                }
                if id == PCI_EXT_CAP_ID_ERR {
                    self.behind.insert(at + len..at + ERR_SIZE);
                }
                set.insert(at..at.saturating_add(len.max(HEADER)).min(size));
            }
            at = next_pointer(header);
        }
    }

    /// The size of config space.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether a capability owns a byte.
    #[inline(never)]
    pub(crate) fn own(&self, at: usize) -> bool {
        self.tph.contains(at) || self.others.contains(at)
    }

    /// Whether a byte is TPH Requester's: one of the registers, or no other capability owns it.
    pub(crate) fn is_of_tph(&self, at: usize) -> bool {
        self.registers.contains(at) || self.tph.contains(at) && !self.others_own(at)
    }

    /// Whether a capability other than TPH Requester owns a byte.
    pub(crate) fn others_own(&self, at: usize) -> bool {
        self.others.contains(at)
    }

    /// Whether a byte is in the header of a capability whose length is not known.
    pub(crate) fn is_of_unknown_length(&self, at: usize) -> bool {
        self.unknown.contains(at)
    }

    /// Whether a capability may have a byte that vfio-pci-core does not know of.
    pub(crate) fn may_own(&self, at: usize) -> bool {
        self.behind.contains(at)
    }

    /// The first byte of `bytes` that a capability owns.
    #[inline(never)]
    pub(crate) fn first_in(&self, mut bytes: Range<usize>) -> Option<usize> {
        bytes.find(|&at| self.own(at))
    }
}

/// Next Capability Offset of an extended capability header.
pub(crate) const fn next_pointer(header: u32) -> usize {
    // CAST: twelve bits.
    ((header >> 20) & 0xffc) as usize
}

/// The bytes of the ST table that a TPH Requester capability at `offset` of a config space of
/// `size` bytes claims.
#[inline(never)]
pub(crate) fn claimed_table(capability: Capability, offset: usize, size: usize) -> Range<usize> {
    let start = offset.saturating_add(BASE_SIZE).min(size);
    start..(start + capability.table_bytes()).min(size)
}

/// How many bytes an extended capability has, 0 if that is not known. `read` reads one of its
/// registers.
///
/// PCIe r6.2 7.7 to 7.9; where drivers/vfio/pci/vfio_pci_config.c knows of a length, it is the
/// same.
fn length(id: u32, read: &dyn Fn(u32) -> u32) -> usize {
    let len = match id {
        PCI_EXT_CAP_ID_ERR => PCI_ERR_ROOT_COMMAND,
        PCI_EXT_CAP_ID_VC | PCI_EXT_CAP_ID_VC9 | PCI_EXT_CAP_ID_MFVC => virtual_channels(read),
        PCI_EXT_CAP_ID_DSN => PCI_EXT_CAP_DSN_SIZEOF,
        PCI_EXT_CAP_ID_PWR => PCI_EXT_CAP_PWR_SIZEOF,
        PCI_EXT_CAP_ID_VNDR => (read(PCI_VNDR_HEADER) >> 20) & 0xfff,
        PCI_EXT_CAP_ID_ACS => access_control(read(PCI_ACS_CAP)),
        PCI_EXT_CAP_ID_ARI => PCI_EXT_CAP_ARI_SIZEOF,
        PCI_EXT_CAP_ID_ATS => PCI_EXT_CAP_ATS_SIZEOF,
        PCI_EXT_CAP_ID_SRIOV => PCI_EXT_CAP_SRIOV_SIZEOF,
        PCI_EXT_CAP_ID_MCAST => PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF,
        PCI_EXT_CAP_ID_PRI => PCI_EXT_CAP_PRI_SIZEOF,
        PCI_EXT_CAP_ID_REBAR | PCI_EXT_CAP_ID_VF_REBAR => {
            let bars = (read(PCI_REBAR_CTRL) & PCI_REBAR_CTRL_NBAR_MASK)
                >> PCI_REBAR_CTRL_NBAR_MASK.trailing_zeros();
            PCI_REBAR_CAP + 8 * bars
        }
        PCI_EXT_CAP_ID_DPA => {
            PCI_DPA_BASE_SIZEOF + (read(PCI_DPA_CAP) & PCI_DPA_CAP_SUBSTATE_MASK) + 1
        }
        PCI_EXT_CAP_ID_TPH => {
            let capability = Capability::from_raw(read(PCI_TPH_CAP));
            return BASE_SIZE + capability.table_bytes();
        }
        PCI_EXT_CAP_ID_LTR => PCI_EXT_CAP_LTR_SIZEOF,
        PCI_EXT_CAP_ID_DVSEC => (read(PCI_DVSEC_HEADER1) >> 20) & 0xfff,
        // vfio-pci-core hides these, whose length is no secret.
        PCI_EXT_CAP_ID_PASID => PCI_EXT_CAP_PASID_SIZEOF,
        PCI_EXT_CAP_ID_L1SS => PCI_L1SS_CTL2 + 4,
        PCI_EXT_CAP_ID_PTM => PCI_PTM_CTRL + 4,
        PCI_EXT_CAP_ID_DLF => PCI_DLF_CAP + 8,
        PCI_EXT_CAP_ID_DOE => PCI_DOE_READ + 4,
        _ => 0,
    };
    // CAST: widens.
    len as usize
}

/// The length of a Virtual Channel or Multi-Function Virtual Channel capability, without its port
/// arbitration tables, which endpoints do not have.
fn virtual_channels(read: &dyn Fn(u32) -> u32) -> u32 {
    let channels = 1 + (read(PCI_VC_PORT_CAP1) & PCI_VC_CAP1_EVCC);
    let len = PCI_CAP_VC_BASE_SIZEOF + channels * PCI_CAP_VC_PER_VC_SIZEOF;
    let phases = match read(PCI_VC_PORT_CAP2) {
        arbitration if arbitration & PCI_VC_CAP2_128_PHASE != 0 => 128,
        arbitration if arbitration & PCI_VC_CAP2_64_PHASE != 0 => 64,
        arbitration if arbitration & PCI_VC_CAP2_32_PHASE != 0 => 32,
        _ => return len,
    };
    // Four bits for each phase.
    len.next_multiple_of(16) + phases / 2
}

/// The length of an Access Control Services capability, by its Capability register.
fn access_control(capability: u32) -> u32 {
    const EGRESS_BITS: u32 = 8 * (PCI_ACS_EGRESS_BITS - PCI_ACS_CAP);

    let len = PCI_ACS_EGRESS_CTL_V;
    if capability & PCI_ACS_EC == 0 {
        return len;
    }
    match (capability >> EGRESS_BITS) & 0xff {
        0 => len + 256 / 8,
        bits => len + bits.next_multiple_of(32) / 8,
    }
}
