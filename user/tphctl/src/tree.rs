// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! Made trees that look like machines, for tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use crate::machine::{Machine, Pci};

/// A machine without devices.
pub struct Tree {
    directory: TempDir,
    /// The machine.
    pub machine: Machine,
}

/// Config space with PCI Express and, for requesters, TPH.
pub fn config(port_type: u8, completer: u32, prefixes: bool, tph: Option<u32>) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    let mut put = |at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    put(0x34, 0x40);
    put(0x40, 0x10 | (u32::from(port_type) << 20) | 0x2_0000);
    put(0x64, (completer << 12) | if prefixes { 1 << 21 } else { 0 });
    if let Some(capability) = tph {
        put(0x100, 0x0001_0017);
        put(0x104, capability);
    }
    bytes
}

/// A requester with all modes, extended tags and 64 entries in its capability.
pub const REQUESTER: u32 = 0x003f_0307;

impl Tree {
    /// Makes it.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Self {
            machine: Machine::new(directory.path()),
            directory,
        };
        for path in [
            "sys/bus/pci/devices",
            "sys/bus/pci/drivers",
            "proc/sys/kernel",
            "boot",
        ] {
            fs::create_dir_all(tree.path(path)).unwrap();
        }
        tree.write("sys/bus/pci/drivers_probe", "");
        tree.write("proc/cmdline", "console=ttyS0");
        tree.write("proc/sys/kernel/osrelease", "7.3.4\n");
        tree.write("boot/config-7.3.4", "CONFIG_PCIE_TPH=y\n");
        tree
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    /// Writes a file, and makes the directories above it.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A driver that is loaded.
    pub fn driver(&self, name: &str) {
        self.write(&format!("sys/bus/pci/drivers/{name}/bind"), "");
        self.write(&format!("sys/bus/pci/drivers/{name}/unbind"), "");
    }

    /// A function at a path below the root bus, `0000:00:10.0/0000:01:00.0`, say.
    pub fn function(&self, path: &str, config: &[u8], driver: Option<&str>) -> Pci {
        let address = Path::new(path).file_name().unwrap().to_str().unwrap();
        let at = format!("sys/devices/pci0000:00/{path}");
        self.write(&format!("{at}/config"), config);
        self.write(&format!("{at}/vendor"), "0x1234\n");
        self.write(&format!("{at}/device"), "0x5678\n");
        self.write(&format!("{at}/class"), "0x020000\n");
        self.write(&format!("{at}/driver_override"), "(null)\n");
        let link = self.path(&format!("sys/bus/pci/devices/{address}"));
        symlink(self.path(&at), link).unwrap();
        if let Some(driver) = driver {
            self.driver(driver);
            let driver = self.path(&format!("sys/bus/pci/drivers/{driver}"));
            symlink(driver, self.path(&format!("{at}/driver"))).unwrap();
        }
        self.machine.device(address).unwrap()
    }

    /// An endpoint with TPH below a root port that completes it, in a group of its own.
    pub fn endpoint(&self, address: &str, driver: Option<&str>) -> Pci {
        let port = "0000:00:10.0";
        if !self.path(&format!("sys/bus/pci/devices/{port}")).exists() {
            self.function(port, &config(4, 0b11, true, None), None);
            self.write(
                &format!("sys/devices/pci0000:00/{port}/class"),
                "0x060400\n",
            );
        }
        let endpoint = config(0, 0, true, Some(REQUESTER));
        let device = self.function(&format!("{port}/{address}"), &endpoint, driver);
        let group = format!(
            "sys/kernel/iommu_groups/{}/devices/{address}",
            &address[5..7]
        );
        self.write(&group, "");
        let group = Path::new(&group).parent().unwrap().parent().unwrap();
        symlink(
            self.directory.path().join(group),
            device.path("iommu_group"),
        )
        .unwrap();
        device
    }
}
