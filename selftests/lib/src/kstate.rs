// SPDX-License-Identifier: GPL-2.0-only

//! What the PCI core believes of a device's TPH, and how often it asked firmware, by the test
//! module `tph_kstate`.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::time::Duration;

use crate::module;
use crate::pci::Bdf;

const DEVICE: &str = "/sys/kernel/debug/tph_kstate/device";
const DSM: &str = "/sys/kernel/debug/tph_kstate/dsm_evaluations";

/// The fields of `struct pci_dev` that are about TPH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Offset of the capability, 0 without one.
    pub tph_cap: u16,
    /// Whether TPH is on.
    pub tph_enabled: bool,
    /// ST Mode Select.
    pub tph_mode: u8,
    /// Requester Enable.
    pub tph_req_type: u8,
    /// Power state.
    pub current_state: i32,
    /// End-End TLP prefixes that the path to the root port carries.
    pub eetlp_prefix_max: u8,
}

fn ask(request: &str) -> io::Result<KernelState> {
    module::ensure("tph_kstate");
    let mut file = OpenOptions::new().read(true).write(true).open(DEVICE)?;
    file.write_all(request.as_bytes())?;
    let mut answer = String::new();
    file.read_to_string(&mut answer)?;

    let mut state = KernelState::default();
    for (name, value) in answer
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
    {
        let number = match value.strip_prefix("0x") {
            Some(hex) => i32::from_str_radix(hex, 16),
            None => value.parse(),
        }
        .unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        match name {
            "tph_cap" => state.tph_cap = number as u16,
            "tph_enabled" => state.tph_enabled = number != 0,
            "tph_mode" => state.tph_mode = number as u8,
            "tph_req_type" => state.tph_req_type = number as u8,
            "current_state" => state.current_state = number,
            "eetlp_prefix_max" => state.eetlp_prefix_max = number as u8,
            _ => (),
        }
    }
    Ok(state)
}

/// What the PCI core believes of a device.
pub fn of(bdf: &Bdf) -> KernelState {
    ask(&format!("{bdf}")).unwrap_or_else(|error| panic!("tph_kstate: {bdf}: {error}"))
}

/// Has the PCI core enable TPH on an unbound device, as a driver in the kernel would.
pub fn enable(bdf: &Bdf, mode: u8) -> io::Result<KernelState> {
    ask(&format!("{bdf} enable {mode}"))
}

/// Has the PCI core set an ST entry of an unbound device.
pub fn set(bdf: &Bdf, index: u16, tag: u16) -> io::Result<KernelState> {
    ask(&format!("{bdf} set {index} {tag}"))
}

/// Has the PCI core disable TPH on an unbound device.
pub fn disable(bdf: &Bdf) -> io::Result<KernelState> {
    ask(&format!("{bdf} disable"))
}

/// Has the driver of a bound device shut it down, as the kernel does before it restarts.
pub fn shut_down(bdf: &Bdf) -> io::Result<KernelState> {
    ask(&format!("{bdf} shutdown"))
}

/// Has the kernel write a bit of the device that may lie beside the one of TPH, over and over for
/// some time. ESTALE if somebody else has changed it meanwhile.
pub fn toggle_neighbour(bdf: &Bdf, time: Duration) -> io::Result<KernelState> {
    ask(&format!("{bdf} toggle {}", time.as_millis()))
}

/// How often the kernel asked firmware for a CPU's tags since boot.
pub fn dsm_evaluations() -> u64 {
    module::ensure("tph_kstate");
    let text = fs::read_to_string(DSM).unwrap_or_else(|error| panic!("{DSM}: {error}"));
    text.trim().parse().expect("a number")
}
