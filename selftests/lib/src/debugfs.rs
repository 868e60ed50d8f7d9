// SPDX-License-Identifier: GPL-2.0-only

//! What vfio_tph says of a device in debugfs.

use std::fs;
use std::path::PathBuf;

use crate::pci::Bdf;

/// The directory of a device, or a file in it.
pub fn path(bdf: &Bdf, file: &str) -> PathBuf {
    PathBuf::from(format!("/sys/kernel/debug/vfio_tph/{bdf}/{file}"))
}

/// What is in a file.
pub fn show(bdf: &Bdf, file: &str) -> String {
    let path = path(bdf, file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One of the counters.
pub fn counter(bdf: &Bdf, name: &str) -> u64 {
    let counters = show(bdf, "counters");
    counters
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {counters}"))
}
