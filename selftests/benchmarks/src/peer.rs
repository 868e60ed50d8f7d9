// SPDX-License-Identifier: GPL-2.0-only

//! The C driver that uses the PCI core's own functions, test module `tph_peer`.

use std::fs::OpenOptions;
use std::io::{Read, Write};

use tph_selftests::module;
use tph_selftests::pci::Bdf;

const MODULE: &str = "tph_peer";
const RUN: &str = "/sys/kernel/debug/tph_peer/run";

/// ST Mode Select of pcie_enable_tph().
pub const INTERRUPT_VECTOR: u32 = 1;

/// A device that the C driver drives; it is unbound when this is dropped.
pub struct CPath(Bdf);

impl CPath {
    /// Binds it, and enables TPH in Interrupt Vector mode.
    pub fn enabled(bdf: &Bdf) -> Self {
        module::ensure(MODULE);
        bdf.bind(MODULE).unwrap_or_else(|error| panic!("{error}"));
        let path = Self(bdf.clone());
        path.run(&format!("enable {INTERRUPT_VECTOR}"));
        path
    }

    /// Allocates MSI-X vectors.
    pub fn vectors(&self, count: u16) {
        self.run(&format!("vectors {count}"));
    }

    /// pcie_tph_set_st_entry() for `count` entries from 0 on. Returns instructions.
    pub fn set(&self, count: u16) -> u64 {
        self.run(&format!("set 0 {count} 7"))
    }

    /// pci_msix_write_tph_tags() for `count` vectors from 0 on. Returns instructions.
    pub fn write_tags(&self, count: u16) -> u64 {
        self.run(&format!("tags 0 {count} 7"))
    }

    /// pcie_tph_get_cpu_st() for `count` CPUs from 0 on. Returns instructions.
    pub fn look_up(&self, count: u32) -> u64 {
        self.run(&format!("lookup 0 {count}"))
    }

    fn run(&self, request: &str) -> u64 {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(RUN)
            .unwrap_or_else(|error| panic!("{RUN}: {error}"));
        let request = format!("{} {request}", self.0);
        file.write_all(request.as_bytes())
            .unwrap_or_else(|error| panic!("{RUN}: {request}: {error}"));
        let mut answer = String::new();
        file.read_to_string(&mut answer).expect("an answer");
        let ticks = answer.trim().strip_prefix("ticks=");
        ticks
            .and_then(|ticks| ticks.parse().ok())
            .unwrap_or_else(|| panic!("{RUN}: {answer:?}"))
    }
}

impl Drop for CPath {
    fn drop(&mut self) {
        self.0.unbind();
    }
}
