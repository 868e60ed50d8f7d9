// SPDX-License-Identifier: GPL-2.0-only

//! A device with virtual functions: QEMU's igb, on the test VM. It has no TPH: the test module
//! `tph_rp` supplies that.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use nix::errno::Errno;

use crate::errno;
use crate::kstate;
use crate::module;
use crate::pci::Bdf;
use crate::skip;

const REQUESTERS: &str = "/sys/kernel/debug/tph_rp/requester";
/// Where a supplied capability is: no device of QEMU has anything there.
const OFFSET: u16 = 0xa00;

/// A physical function; puts everything back when it is dropped.
pub struct Physical {
    /// Its address.
    pub bdf: Bdf,
}

fn total(bdf: &Bdf) -> Option<u16> {
    let text = fs::read_to_string(bdf.path("sriov_totalvfs")).ok()?;
    text.trim().parse().ok()
}

impl Physical {
    /// The first one below a root port. The test is left out if there is none.
    pub fn find() -> Self {
        let mut all: Vec<Bdf> = fs::read_dir("/sys/bus/pci/devices")
            .expect("sysfs")
            .filter_map(|entry| Some(Bdf::unchecked(entry.ok()?.file_name().to_str()?)))
            .collect();
        all.sort();
        match all
            .into_iter()
            .find(|bdf| total(bdf).is_some_and(|vfs| vfs > 1) && bdf.root_port().is_some())
        {
            Some(bdf) => Self { bdf },
            None => skip!("no device with virtual functions"),
        }
    }

    /// Writes sriov_numvfs.
    pub fn set_vfs(&self, count: u16) -> Result<(), Errno> {
        OpenOptions::new()
            .write(true)
            .open(self.bdf.path("sriov_numvfs"))
            .and_then(|mut file| file.write_all(count.to_string().as_bytes()))
            .map_err(errno)
    }

    /// Number of its virtual functions.
    pub fn count(&self) -> u16 {
        let path = self.bdf.path("sriov_numvfs");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        text.trim().parse().expect("a number")
    }

    /// Its virtual functions.
    pub fn vfs(&self) -> Vec<Bdf> {
        (0..self.count())
            .map(|index| {
                let path = self.bdf.path(&format!("virtfn{index}"));
                let link =
                    fs::read_link(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                let name = link.file_name().and_then(|name| name.to_str());
                Bdf::unchecked(name.expect("the address of a function"))
            })
            .collect()
    }

    /// Gives a TPH Requester capability with so many ST entries to its first virtual functions, and
    /// returns those; the driver that it has is bound to them.
    pub fn vfs_with_tph(&self, count: u16, entries: u16) -> Vec<Supplied> {
        let create = || {
            self.set_vfs(count)
                .unwrap_or_else(|error| panic!("{}: {count} VFs: {error}", self.bdf));
            self.vfs()
        };
        let vfs = create();
        let supplied = vfs.iter().map(|vf| Supplied::new(vf, entries)).collect();
        // The kernel looks for capabilities when it finds a device.
        self.set_vfs(0).expect("no VFs");
        assert_eq!(create(), vfs);
        supplied
    }
}

impl Drop for Physical {
    fn drop(&mut self) {
        if self.bdf.driver().is_some() {
            // Fails if there are none, or if the driver has no mind for them.
            let _ = self.set_vfs(0);
            self.bdf.unbind();
        }
    }
}

/// A TPH Requester capability, with a table in it, of a device that has none; gone when this is
/// dropped.
pub struct Supplied {
    /// The device's address.
    pub bdf: Bdf,
}

impl Supplied {
    /// Supplies it. The kernel finds it when it finds the device anew.
    pub fn new(bdf: &Bdf, entries: u16) -> Self {
        module::ensure("tph_rp");
        tell(bdf, &format!("{OFFSET} {entries}"));
        Self { bdf: bdf.clone() }
    }

    /// Its Control register, and its table.
    pub fn registers(&self) -> (u32, Vec<u16>) {
        let text = fs::read_to_string(REQUESTERS).unwrap_or_else(|e| panic!("{REQUESTERS}: {e}"));
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(&self.bdf.to_string()))
            .unwrap_or_else(|| panic!("{}: {text:?}", self.bdf));
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["control", control, "table", table @ ..] = &words[..] else {
            panic!("{REQUESTERS}: {line:?}");
        };
        let control = control.trim_start_matches("0x");
        (
            u32::from_str_radix(control, 16).expect("Control"),
            table
                .iter()
                .map(|tag| u16::from_str_radix(tag, 16).expect("a tag"))
                .collect(),
        )
    }

    /// Fails the test unless the registers are these, and the kernel knows what is on.
    #[track_caller]
    pub fn assert_is(&self, control: u32, table: &[u16]) {
        assert_eq!(self.registers(), (control, table.to_vec()), "{}", self.bdf);
        let kernel = kstate::of(&self.bdf);
        let (mode, requester) = ((control & 7) as u8, (control >> 8) as u8);
        assert_eq!(
            (kernel.tph_enabled, kernel.tph_mode, kernel.tph_req_type),
            (requester != 0, mode, requester),
            "{}: (enabled, mode, type) of the kernel",
            self.bdf
        );
    }
}

impl Drop for Supplied {
    fn drop(&mut self) {
        tell(&self.bdf, "off");
    }
}

fn tell(bdf: &Bdf, words: &str) {
    File::options()
        .write(true)
        .open(Path::new(REQUESTERS))
        .and_then(|mut file| file.write_all(format!("{bdf} {words}").as_bytes()))
        .unwrap_or_else(|error| panic!("{REQUESTERS}: {bdf} {words}: {error}"));
}
