// SPDX-License-Identifier: GPL-2.0-only

//! Errors for the kernel's Advanced Error Reporting, by `aer_inject`.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use tph_uapi::pci_regs::{
    PCI_ERR_UNCOR_MASK, PCI_ERR_UNC_COMP_TIME, PCI_ERR_UNC_DLP, PCI_EXT_CAP_ID_ERR,
};

use crate::kmsg::KernelLog;
use crate::pci::{self, Bdf};
use crate::skip;
use crate::tph::chain;

const DEVICE: &str = "/dev/aer_inject";

/// What becomes of an uncorrectable error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The link is fine.
    NonFatal,
    /// The link is reset.
    Fatal,
}

/// A device that does not go to sleep while this lives.
struct Awake(PathBuf);

impl Awake {
    fn new(bdf: &Bdf) -> Self {
        let file = bdf.path("power/control");
        pci::write(&file, "on").unwrap_or_else(|error| panic!("{error}"));
        Self(file)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        // Gone with the device, if that is gone.
        let _ = pci::write(&self.0, "auto");
    }
}

/// Has the device mask no error. One that fell asleep while it answered all ones masks all of them
/// from then on: the PCI core saved the mask as it read it, and restored that.
fn unmask(bdf: &Bdf) {
    let config = bdf.config();
    let aer = chain(|offset| config.dword(offset))
        .into_iter()
        .find(|link| u32::from(link.id) == PCI_EXT_CAP_ID_ERR)
        .unwrap_or_else(|| panic!("{bdf} has no AER"));
    config.set_dword(aer.offset + PCI_ERR_UNCOR_MASK as u16, 0);
}

/// Has the root port report an error of a device, and waits until the kernel has recovered from
/// it.
pub fn inject(bdf: &Bdf, severity: Severity) {
    // The PCI core wakes all of the bus up under pci_bus_sem. A sleeping device of vfio-pci takes
    // its memory_lock then, which is held around pci_bus_sem in a hot reset: lockdep tells of it,
    // whatever vfio driver it is, and then looks no further.
    let _awake: Vec<Awake> = bdf.siblings().iter().chain([bdf]).map(Awake::new).collect();
    let Ok(mut device) = OpenOptions::new().write(true).open(DEVICE) else {
        skip!("there is no {DEVICE} (CONFIG_PCIEAER_INJECT)");
    };
    unmask(bdf);
    let mut log = KernelLog::from_now();
    // By default a completion time-out is not fatal and a data link protocol error is.
    let status = match severity {
        Severity::NonFatal => PCI_ERR_UNC_COMP_TIME,
        Severity::Fatal => PCI_ERR_UNC_DLP,
    };
    let (bus, devfn) = bdf.bus_devfn();
    // struct aer_error_inj: bus, dev, fn, a byte of padding, two status words, four words of
    // header log, the domain.
    let mut error = vec![bus, devfn >> 3, devfn & 7, 0];
    for word in [status, 0, 0, 1, 2, 3, 0] {
        error.extend(word.to_ne_bytes());
    }
    device
        .write_all(&error)
        .unwrap_or_else(|error| panic!("{DEVICE}: {error}"));
    log.wait_for_either("device recovery successful", "device recovery failed");
}
