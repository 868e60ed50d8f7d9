// SPDX-License-Identifier: GPL-2.0-only

//! Hot plug: the slot that a device is in, and the ways in which it leaves and comes back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::endpoint::Endpoint;
use crate::module;
use crate::monitor::{self, wait_until};
use crate::pci::{self, Bdf};
use crate::skip;

const SLOTS: &str = "/sys/bus/pci/slots";
/// What QEMU's device_add takes to plug an endpoint in, by name: written by selftests/run.
const PLUGS: &str = "/etc/tph/plug";
const TORN_OUT: &str = "/sys/kernel/debug/tph_rp/slot";

/// The slot of a device, and how it leaves.
pub struct Slot {
    directory: PathBuf,
    port: Bdf,
    bdf: Bdf,
    name: String,
}

/// How a device comes back, which it does at the latest when this is dropped.
pub struct Plug<'a>(&'a Endpoint, Slot);

impl Slot {
    /// The slot of an emulated endpoint. The test is left out if it is in none.
    fn of(endpoint: &Endpoint) -> Self {
        let bdf = endpoint.bdf.clone();
        let (Some(port), Some(name)) = (bdf.root_port(), endpoint.name()) else {
            skip!("{bdf} is in no slot that can be emptied");
        };
        // An address without the function.
        let address = bdf.to_string()[..10].to_owned();
        let found = fs::read_dir(SLOTS)
            .unwrap_or_else(|error| panic!("{SLOTS}: {error}"))
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|slot| {
                fs::read_to_string(slot.join("address")).is_ok_and(|text| text.trim() == address)
            });
        let Some(directory) = found else {
            skip!("{bdf} is in no slot");
        };
        Self {
            directory,
            port,
            bdf,
            name: name.to_owned(),
        }
    }

    fn power_file(&self) -> PathBuf {
        self.directory.join("power")
    }

    /// Has the kernel let go of the device and switch the slot off, as an administrator does it:
    /// with that QEMU takes the device out. Returns when all that is done.
    pub fn switch_off(&self) -> io::Result<()> {
        pci::write(&self.power_file(), "0")
    }

    /// Presses the attention button: the same happens, five seconds later.
    pub fn press_button(&self) {
        monitor::command(&format!("device_del {}", self.name));
    }

    /// Tears the device out, as far as the kernel can see: it hears of it when it is gone.
    pub fn tear_out(&self) {
        module::ensure("tph_rp");
        pci::write(Path::new(TORN_OUT), &format!("{} empty", self.port))
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Whether the slot is switched on.
    pub fn is_on(&self) -> bool {
        let file = self.power_file();
        let text =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim() == "1"
    }

    /// Waits until the kernel has let go of the device and switched the slot off.
    pub fn wait_until_empty(&self) {
        wait_until(|| !self.is_on());
        assert!(!self.bdf.exists(), "{} is still there", self.bdf);
    }
}

impl<'a> Plug<'a> {
    /// The slot's of an emulated endpoint. The test is left out if it is in none.
    pub fn of(endpoint: &'a Endpoint) -> Self {
        Self(endpoint, Slot::of(endpoint))
    }

    /// The slot.
    pub fn slot(&self) -> &Slot {
        &self.1
    }

    /// Plugs the device in again, and waits until the kernel has found it.
    pub fn plug_in(&self) {
        let Self(endpoint, slot) = self;
        let torn_out = fs::read_to_string(TORN_OUT).unwrap_or_default();
        if torn_out.contains(&slot.port.to_string()) {
            pci::write(Path::new(TORN_OUT), &format!("{} off", slot.port))
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let file = Path::new(PLUGS).join(&slot.name);
        let arguments =
            fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // QEMU does not get round to the end of the old one while it waits for the new one.
        wait_until(|| !endpoint.state().connected);
        monitor::execute("device_add", &arguments);
        wait_until(|| slot.bdf.exists());
        // Who finds a device has the lock of a rescan until it is all there.
        pci::write(Path::new("/sys/bus/pci/rescan"), "1").unwrap_or_else(|error| panic!("{error}"));
    }
}

impl Drop for Plug<'_> {
    fn drop(&mut self) {
        if !self.1.bdf.exists() && fs::exists(&self.1.directory).unwrap_or(false) {
            wait_until(|| !self.1.is_on());
            self.plug_in();
        }
    }
}
