// SPDX-License-Identifier: GPL-2.0-only

//! Devices whose ST table is in the MSI-X table: which ones there are, and what the table holds.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use nix::sys::mman::ProtFlags;
use tph_protocol::registers::{MSIX_ENTRY, MSIX_VECTOR_CONTROL};
use tph_uapi::pci_regs::*;

use crate::bench::Bench;
use crate::endpoint::Endpoint;
use crate::memory::page_size;
use crate::pci::{Bdf, Config};
use crate::tph;
use crate::vfio::Mapped;

/// Offset of a capability of the first 256 bytes, if it is there.
pub fn capability(config: &Config, id: u32) -> Option<u16> {
    let mut at = config.byte(PCI_CAPABILITY_LIST as u16);
    while at != 0 {
        if u32::from(config.byte(at.into())) == id {
            return Some(at.into());
        }
        at = config.byte(u16::from(at) + 1);
    }
    None
}

/// What a device says of itself that matters to its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// ST Table Location is MSI-X.
    pub in_msix: bool,
    /// Number of MSI-X vectors.
    pub vectors: u16,
    /// Where the MSI-X table is in its BAR.
    pub table: u64,
    /// Size of that BAR.
    pub bar: u64,
    /// Function Level Reset Capability.
    pub flr: bool,
    /// No_Soft_Reset: D3hot to D0 keeps state.
    pub no_soft_reset: bool,
    /// Extended TPH Requester Supported.
    pub extended: bool,
}

impl Traits {
    /// Reads them; none if the device has no TPH.
    pub fn of(bdf: &Bdf) -> Option<Self> {
        let config = bdf.config();
        let link = tph::find(|offset| config.dword(offset))?;
        let tph = config.dword(link.offset + PCI_TPH_CAP as u16);
        let msix = capability(&config, PCI_CAP_ID_MSIX);
        let express = capability(&config, PCI_CAP_ID_EXP)?;
        let power = capability(&config, PCI_CAP_ID_PM);
        Some(Self {
            in_msix: tph & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_MSIX,
            vectors: msix.map_or(0, |at| {
                let flags = config.word(at + PCI_MSIX_FLAGS as u16);
                (flags & PCI_MSIX_FLAGS_QSIZE as u16) + 1
            }),
            table: msix.map_or(0, |at| {
                u64::from(config.dword(at + PCI_MSIX_TABLE as u16) & PCI_MSIX_TABLE_OFFSET)
            }),
            bar: msix.map_or(0, |at| {
                let word = config.dword(at + PCI_MSIX_TABLE as u16);
                bdf.resource(word & PCI_MSIX_TABLE_BIR).length
            }),
            flr: config.dword(express + PCI_EXP_DEVCAP as u16) & PCI_EXP_DEVCAP_FLR != 0,
            no_soft_reset: power.is_some_and(|at| {
                let control = config.word(at + PCI_PM_CTRL as u16);
                control & PCI_PM_CTRL_NO_SOFT_RESET as u16 != 0
            }),
            extended: tph & PCI_TPH_CAP_EXT_TPH != 0,
        })
    }
}

impl Bench {
    /// A device with TPH below a root port, as it is, that has certain traits. The test is left
    /// out, with `what` it needs, if there is none.
    pub fn pick_with(&mut self, what: &str, fits: impl Fn(&Traits) -> bool) -> Rc<Endpoint> {
        self.pick_where(what, |bdf| {
            bdf.root_port().is_some() && Traits::of(bdf).is_some_and(|traits| fits(&traits))
        })
    }
}

impl Endpoint {
    /// Leaves tags in the table of a device that nobody drives, as an earlier driver may have done
    /// it; the kernel knows nothing of them.
    pub fn leave_tags(&self, count: u16, tag: u16) {
        assert_eq!(self.bdf.driver(), None, "{} has a driver", self.bdf);
        let config = self.bdf.config();
        let before = config.dword(PCI_COMMAND as u16);
        config.set_dword(PCI_COMMAND as u16, (before & 0xffff) | PCI_COMMAND_MEMORY);
        {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .open(self.bdf.path("resource0"))
                .expect("resource0");
            let start = Traits::of(&self.bdf).expect("TPH").table;
            let page = start - start % page_size() as u64;
            let length = (start - page + u64::from(count) * MSIX_ENTRY) as usize;
            let table = Mapped::new(
                file.as_raw_fd(),
                page,
                length.next_multiple_of(page_size()),
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            )
            .expect("mmap of resource0");
            for vector in 0..u64::from(count) {
                let at = start - page + vector * MSIX_ENTRY + MSIX_VECTOR_CONTROL;
                table.write(at, (u32::from(tag) << 16) | PCI_MSIX_ENTRY_CTRL_MASKBIT);
            }
        }
        config.set_dword(PCI_COMMAND as u16, before & 0xffff);
        let tags = self.entries();
        assert!(
            tags.iter().take(count.into()).all(|&left| left == tag),
            "{tags:x?}"
        );
    }
}
