// SPDX-License-Identifier: GPL-2.0-only

//! QEMU's block driver for NVMe, which drives the device from user space, by `qemu-io`.

use tph_selftests::pci::Bdf;

use crate::root::ask;

/// Bytes that are written and read: more than one command's.
const LENGTH: &str = "1M";

/// Runs one of qemu-io's commands on the first namespace.
fn io(drive: &Bdf, command: &str) {
    let file = format!("nvme://{drive}/1");
    let said = ask("qemu-io", &["-f", "raw", "-c", command, &file]);
    assert!(said.contains("1048576/1048576 bytes"), "{command}: {said}");
    // That it does not say by its status.
    assert!(!said.contains("failed"), "{command}: {said}");
}

/// Writes a pattern.
pub fn write(drive: &Bdf, byte: u8) {
    io(drive, &format!("write -P {byte} 4096 {LENGTH}"));
}

/// Reads, and compares.
pub fn read(drive: &Bdf, byte: u8) {
    io(drive, &format!("read -P {byte} 4096 {LENGTH}"));
}
