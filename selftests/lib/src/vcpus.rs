// SPDX-License-Identifier: GPL-2.0-only

//! The administrator's side of a guest's tags: `tph_vcpus` in sysfs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::errno;
use crate::pci::Bdf;

/// The file.
pub fn path(bdf: &Bdf) -> PathBuf {
    bdf.path("tph_vcpus")
}

/// What the file shows, without the newline.
pub fn shown(bdf: &Bdf) -> String {
    let path = path(bdf);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.strip_suffix('\n').expect("a line").to_owned()
}

/// Writes the file.
pub fn write(bdf: &Bdf, text: &str) -> Result<(), Errno> {
    let mut file = OpenOptions::new()
        .write(true)
        .open(path(bdf))
        .map_err(errno)?;
    // sysfs sees no write of nothing.
    file.write_all(format!("{text}\n").as_bytes())
        .map_err(errno)
}
