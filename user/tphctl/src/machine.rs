// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! The machine as sysfs and procfs show it.

use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use vfio_tph::registers::ReadConfig;
use vfio_tph::Address;

use crate::failure::{Failure, Kind};

/// The driver.
pub const DRIVER: &str = "vfio_tph";

/// Its name in vfio-pci's place, which is also the name of the kernel's own driver.
pub const IN_PLACE: &str = "vfio-pci";

/// A machine, or a tree that looks like one.
pub struct Machine {
    root: PathBuf,
    kernel_has_tph: OnceCell<Option<bool>>,
}

impl Machine {
    /// The machine whose file system has this root.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            kernel_has_tph: OnceCell::new(),
        }
    }

    /// The root of its file system.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A file, by its path without the first slash.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// What a small file says, without the end of the line.
    pub fn read(&self, path: &str) -> Option<String> {
        read(&self.path(path))
    }

    /// All PCI devices, by their addresses.
    pub fn devices(&self) -> Result<Vec<Pci>, Failure> {
        let directory = self.path("sys/bus/pci/devices");
        let entries =
            fs::read_dir(&directory).map_err(|error| Failure::file(&directory, &error))?;
        let mut devices: Vec<Pci> = entries
            .flatten()
            .filter_map(|entry| Some(self.pci(entry.file_name().to_str()?.parse().ok()?)))
            .collect();
        devices.sort_by_key(|device| device.address);
        Ok(devices)
    }

    /// A device by what somebody has typed.
    pub fn device(&self, text: &str) -> Result<Pci, Failure> {
        let address: Address = text
            .parse()
            .map_err(|error| Failure::new(Kind::Usage, error))?;
        let device = self.pci(address);
        if !device.path("").exists() {
            return Err(Failure::new(
                Kind::NoDevice,
                format_args!("{address}: no such device: 'tphctl list' shows those that have TPH"),
            ));
        }
        Ok(device)
    }

    /// The device of an address, whether it is there or not.
    pub fn pci(&self, address: Address) -> Pci {
        Pci {
            address,
            directory: self.path(&format!("sys/bus/pci/devices/{address}")),
        }
    }

    /// Whether the kernel was booted with `pci=notph`.
    pub fn booted_with_notph(&self) -> bool {
        self.read("proc/cmdline").is_some_and(|line| {
            line.split_whitespace()
                .filter_map(|word| word.strip_prefix("pci="))
                .any(|options| options.split(',').any(|option| option == "notph"))
        })
    }

    /// Whether the kernel was built with `CONFIG_PCIE_TPH`; `None` if nothing tells.
    pub fn kernel_has_tph(&self) -> Option<bool> {
        *self
            .kernel_has_tph
            .get_or_init(|| self.find_kernel_has_tph())
    }

    fn find_kernel_has_tph(&self) -> Option<bool> {
        if let Some(release) = self.read("proc/sys/kernel/osrelease") {
            for file in [
                format!("boot/config-{release}"),
                format!("lib/modules/{release}/config"),
                format!("lib/modules/{release}/build/.config"),
            ] {
                if let Ok(config) = fs::read_to_string(self.path(&file)) {
                    return Some(config.lines().any(|line| line == "CONFIG_PCIE_TPH=y"));
                }
            }
        }
        // Names are shown to everybody, addresses to some.
        let symbols = fs::read_to_string(self.path("proc/kallsyms")).ok()?;
        (!symbols.is_empty()).then(|| symbols.contains(" pcie_enable_tph\n"))
    }

    /// Whether vfio_tph is there to be bound to.
    pub fn driver_is_loaded(&self) -> bool {
        self.path("sys/bus/pci/drivers").join(DRIVER).exists()
    }

    /// The name of the driver that has a device, if it is this one, under either name.
    pub fn ours(&self, device: &Pci) -> Option<String> {
        device
            .driver()
            .filter(|name| name == DRIVER || name == IN_PLACE && self.unsafe_gate(name).is_some())
    }

    /// The parameter `enable_unsafe_tph` of a driver; the kernel's vfio-pci has none.
    pub fn unsafe_gate(&self, driver: &str) -> Option<String> {
        let module = driver.replace('-', "_");
        self.read(&format!("sys/module/{module}/parameters/enable_unsafe_tph"))
    }

    /// The name that this driver has for a device: where another one has it, its own.
    pub fn name(&self, device: &Pci) -> String {
        self.ours(device).unwrap_or_else(|| DRIVER.to_owned())
    }

    /// debugfs' file of a bound device.
    pub fn debugfs(&self, device: &Pci, file: &str) -> PathBuf {
        let driver = self.name(device);
        self.path(&format!(
            "sys/kernel/debug/{driver}/{}/{file}",
            device.address
        ))
    }
}

/// What a small file says, without the end of the line.
pub fn read(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

/// Writes a file of sysfs, in one go.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    try_write(path, text).map_err(|error| Failure::file(path, &error))
}

/// The same, for who looks at the error.
pub fn try_write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
}

/// A PCI function.
#[derive(Clone, Debug)]
pub struct Pci {
    /// Its address.
    pub address: Address,
    directory: PathBuf,
}

impl Pci {
    /// A file of the device.
    pub fn path(&self, file: &str) -> PathBuf {
        match file {
            "" => self.directory.clone(),
            _ => self.directory.join(file),
        }
    }

    /// What a small file of the device says.
    pub fn read(&self, file: &str) -> Option<String> {
        read(&self.path(file))
    }

    fn link(&self, name: &str) -> Option<String> {
        let link = fs::read_link(self.path(name)).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    /// The driver that is bound.
    pub fn driver(&self) -> Option<String> {
        self.link("driver")
    }

    /// Its IOMMU group.
    pub fn group(&self) -> Option<String> {
        self.link("iommu_group")
    }

    /// The other devices of its IOMMU group.
    pub fn neighbours(&self, machine: &Machine) -> Vec<Pci> {
        let Ok(entries) = fs::read_dir(self.path("iommu_group/devices")) else {
            return Vec::new();
        };
        let mut neighbours: Vec<Pci> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|address| *address != self.address)
            .map(|address| machine.pci(address))
            .collect();
        neighbours.sort_by_key(|device| device.address);
        neighbours
    }

    /// The ports above it, from the root port down.
    pub fn ports(&self, machine: &Machine) -> Vec<Pci> {
        let path = fs::canonicalize(&self.directory).unwrap_or_default();
        path.components()
            .filter_map(|part| part.as_os_str().to_str()?.parse().ok())
            .filter(|address| *address != self.address)
            .map(|address| machine.pci(address))
            .collect()
    }

    /// Vendor and device id.
    pub fn ids(&self) -> (u16, u16) {
        let id = |file| {
            let text = self.read(file)?;
            u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        (id("vendor").unwrap_or(0), id("device").unwrap_or(0))
    }

    /// Whether it is a bridge, by its class.
    pub fn is_bridge(&self) -> bool {
        self.read("class")
            .is_some_and(|class| class.starts_with("0x0604"))
    }

    /// Its config space.
    pub fn config(&self) -> Option<Config> {
        File::open(self.path("config")).ok().map(Config)
    }

    /// The policy, while vfio_tph has the device.
    pub fn policy(&self) -> Option<String> {
        self.read("tph_policy")
    }
}

/// Config space in sysfs.
pub struct Config(File);

impl Config {
    /// Whether all of it can be read: others than root are shown 64 bytes.
    pub fn is_whole(&self) -> bool {
        self.dword(0x40).is_some()
    }
}

impl ReadConfig for Config {
    fn dword(&self, offset: u16) -> Option<u32> {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, offset.into()).ok()?;
        Some(u32::from_le_bytes(bytes))
    }
}
