// SPDX-License-Identifier: GPL-2.0-only

//! What a root port says that it completes. QEMU's has no TPH completer bits: the test module
//! `tph_rp` supplies them.

use std::fs;

use tph_uapi::pci_regs::{
    PCI_CAPABILITY_LIST, PCI_CAP_ID_EXP, PCI_EXP_DEVCAP2, PCI_EXP_DEVCAP2_TPH_COMP_MASK,
};

use crate::module;
use crate::pci::Bdf;

const COMPLETER: &str = "/sys/kernel/debug/tph_rp/completer";

/// TPH Completer Supported: none.
pub const NONE: u8 = 0;
/// TPH Completer Supported: TPH.
pub const STANDARD: u8 = 1;
/// TPH Completer Supported: reserved.
pub const RESERVED: u8 = 2;
/// TPH Completer Supported: TPH and Extended TPH.
pub const EXTENDED: u8 = 3;

/// Overrides the completer field of a root port.
pub fn set(port: &Bdf, completer: u8) {
    module::ensure("tph_rp");
    fs::write(COMPLETER, format!("{port} {completer}"))
        .unwrap_or_else(|error| panic!("{COMPLETER}: {port}: {error}"));
    assert_eq!(self::completer(port), completer, "{port}");
}

/// The completer field of a device, as config reads show it.
pub fn completer(bdf: &Bdf) -> u8 {
    let config = bdf.config();
    let mut at = config.byte(PCI_CAPABILITY_LIST as u16);
    while u32::from(config.byte(at.into())) != PCI_CAP_ID_EXP {
        at = config.byte(u16::from(at) + 1);
        assert_ne!(at, 0, "{bdf} has no PCI Express capability");
    }
    let capabilities = config.dword(u16::from(at) + PCI_EXP_DEVCAP2 as u16);
    ((capabilities & PCI_EXP_DEVCAP2_TPH_COMP_MASK)
        >> PCI_EXP_DEVCAP2_TPH_COMP_MASK.trailing_zeros()) as u8
}
