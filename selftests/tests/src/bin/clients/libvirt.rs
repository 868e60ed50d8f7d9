// SPDX-License-Identifier: GPL-2.0-only

//! libvirt's daemon, which gives devices to vfio-pci as it does for `managed='yes'`.

use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use tph_selftests::pci::Bdf;

use crate::root::{ask, command, ROOT};

/// Where it listens, in the root.
const SOCKET: &str = "run/libvirt/libvirt-sock";

/// The daemon, as long as this lives.
pub struct Daemon(Child);

impl Daemon {
    /// Starts it. Returns when it can be asked.
    pub fn start() -> Self {
        let child = command("libvirtd", &[])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("libvirtd: {error}"));
        let socket = Path::new(ROOT).join(SOCKET);
        let mut daemon = Self(child);
        while !socket.exists() && !daemon.has_ended() {
            thread::sleep(Duration::from_millis(10));
        }
        assert!(!daemon.has_ended(), "libvirtd has ended");
        ask("virsh", &["-c", "qemu:///system", "uri"]);
        daemon
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().expect("wait").is_some()
    }

    /// Takes a device from its driver, and gives it to vfio-pci.
    pub fn detach(&self, bdf: &Bdf) -> String {
        virsh("nodedev-detach", bdf)
    }

    /// Gives it back.
    pub fn reattach(&self, bdf: &Bdf) -> String {
        virsh("nodedev-reattach", bdf)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn virsh(word: &str, bdf: &Bdf) -> String {
    let name = format!("pci_{}", bdf.to_string().replace([':', '.'], "_"));
    ask("virsh", &["-c", "qemu:///system", word, &name])
}
