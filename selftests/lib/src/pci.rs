// SPDX-License-Identifier: GPL-2.0-only

//! PCI devices in sysfs: who they are, who drives them, and their config space as the kernel sees
//! it.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Address of a PCI function, "0000:01:00.0".
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bdf(String);

/// A resource of a device, as sysfs shows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Resource {
    /// Its size in bytes.
    pub length: u64,
    /// `IORESOURCE_*`.
    pub flags: u64,
}

impl FromStr for Bdf {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = match text.matches(':').count() {
            1 => format!("0000:{text}"),
            _ => text.to_owned(),
        };
        if Path::new("/sys/bus/pci/devices").join(&text).exists() {
            Ok(Self(text))
        } else {
            Err(format!("no PCI device {text}"))
        }
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Bdf {
    /// An address that need not have a device at the moment.
    pub fn unchecked(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The device's directory in sysfs, or a file in it.
    pub fn path(&self, file: &str) -> PathBuf {
        Path::new("/sys/bus/pci/devices").join(&self.0).join(file)
    }

    /// Whether the device is there.
    pub fn exists(&self) -> bool {
        self.path("config").exists()
    }

    /// Domain, bus, device and function in the form that the kernel's ABI has: bus, devfn.
    pub fn bus_devfn(&self) -> (u8, u8) {
        let hex = |text: &str| u8::from_str_radix(text, 16).expect("a BDF is hexadecimal");
        let (bus, rest) = self.0[5..].split_once(':').expect("a BDF has a bus");
        let (slot, function) = rest.split_once('.').expect("a BDF has a function");
        (hex(bus), (hex(slot) << 3) | hex(function))
    }

    /// One of its resources: BARs, the expansion ROM, those of virtual functions. Empty if there is
    /// none of that number.
    pub fn resource(&self, number: u32) -> Resource {
        let path = self.path("resource");
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let Some(line) = text.lines().nth(number as usize) else {
            return Resource::default();
        };
        let hexadecimal = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16);
        let words: Vec<u64> = line
            .split_whitespace()
            .map(|word| hexadecimal(word).expect("a hexadecimal number"))
            .collect();
        let [start, end, flags] = words[..] else {
            panic!("{}: {line:?}", path.display());
        };
        match flags {
            0 => Resource::default(),
            _ => Resource {
                length: end - start + 1,
                flags,
            },
        }
    }

    /// Name of the driver that is bound, if one is.
    pub fn driver(&self) -> Option<String> {
        let link = fs::read_link(self.path("driver")).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    /// Takes the driver off, if there is one.
    pub fn unbind(&self) {
        if self.driver().is_some() {
            write(&self.path("driver/unbind"), &self.0)
                .unwrap_or_else(|error| panic!("{self}: unbind: {error}"));
        }
    }

    /// Binds `driver`, and no other, as an administrator does it.
    pub fn bind(&self, driver: &str) -> io::Result<()> {
        if self.driver().as_deref() == Some(driver) {
            return Ok(());
        }
        self.unbind();
        write(&self.path("driver_override"), driver)?;
        write(Path::new("/sys/bus/pci/drivers_probe"), &self.0)?;
        match self.driver() {
            Some(bound) if bound == driver => Ok(()),
            other => Err(io::Error::other(format!(
                "{self}: bound to {other:?}, not {driver}"
            ))),
        }
    }

    /// Lets any driver bind again.
    pub fn clear_override(&self) -> io::Result<()> {
        write(&self.path("driver_override"), "\n")
    }

    /// Takes the device out of the kernel's sight, and has it looked for again.
    pub fn rediscover(&self) {
        let parent = fs::canonicalize(self.path(""))
            .ok()
            .and_then(|path| Some(path.parent()?.to_owned()))
            .unwrap_or_else(|| panic!("{self} has no parent"));
        write(&self.path("remove"), "1").unwrap_or_else(|error| panic!("{self}: {error}"));
        // A device of the root bus has the host bridge above it, which has no such file.
        let rescan = match parent.join("rescan") {
            file if file.exists() => file,
            _ => PathBuf::from("/sys/bus/pci/rescan"),
        };
        write(&rescan, "1").unwrap_or_else(|error| panic!("{}: {error}", rescan.display()));
        assert!(self.exists(), "{self} has not come back");
    }

    /// Resets the device through sysfs, as an administrator does it.
    pub fn reset(&self) -> io::Result<()> {
        write(&self.path("reset"), "1")
    }

    /// The root port above, from the path in sysfs; none for a device of the root bus.
    pub fn root_port(&self) -> Option<Bdf> {
        self.ports().into_iter().next()
    }

    /// The ports above, from the root port down.
    pub fn ports(&self) -> Vec<Bdf> {
        let path = fs::canonicalize(self.path("")).unwrap_or_default();
        path.components()
            .filter_map(|part| part.as_os_str().to_str())
            .filter(|part| part.len() == 12 && part.as_bytes()[4] == b':' && *part != self.0)
            .map(|part| Bdf(part.to_owned()))
            .collect()
    }

    /// The other devices of its bus.
    pub fn siblings(&self) -> Vec<Bdf> {
        // "0000:01:": domain and bus.
        let bus = &self.0[..8];
        fs::read_dir("/sys/bus/pci/devices")
            .expect("sysfs")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(bus) && *name != self.0)
            .map(Bdf)
            .collect()
    }

    /// Whether an IOMMU translates for the device.
    pub fn has_iommu(&self) -> bool {
        self.path("iommu").exists()
    }

    /// Whether runtime PM has suspended the device.
    pub fn is_suspended(&self) -> bool {
        let status = fs::read_to_string(self.path("power/runtime_status"));
        status.is_ok_and(|text| text.trim() == "suspended")
    }

    /// Takes the device out of the kernel's sight.
    pub fn remove(&self) {
        write(&self.path("remove"), "1").unwrap_or_else(|error| panic!("{self}: {error}"));
        assert!(!self.exists(), "{self} is still there");
    }

    /// Has the kernel look for devices, of which this is one.
    pub fn rescan(&self) {
        let file = Path::new("/sys/bus/pci/rescan");
        write(file, "1").unwrap_or_else(|error| panic!("{error}"));
        assert!(self.exists(), "{self} has not come back");
    }

    /// Number of the IOMMU group.
    pub fn iommu_group(&self) -> Option<u32> {
        let link = fs::read_link(self.path("iommu_group")).ok()?;
        link.file_name()?.to_str()?.parse().ok()
    }

    /// Whether a function that is no port is in the device's IOMMU group, too.
    pub fn shares_group(&self) -> bool {
        self.group()
            .iter()
            .any(|other| other != self && !other.is_bridge())
    }

    /// All devices of the IOMMU group, with this one.
    pub fn group(&self) -> Vec<Bdf> {
        fs::read_dir(self.path("iommu_group/devices"))
            .map(|devices| {
                devices
                    .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                    .map(Bdf)
                    .collect()
            })
            .unwrap_or_default()
    }

    /// Whether the class code is that of a PCI-to-PCI bridge.
    pub fn is_bridge(&self) -> bool {
        fs::read_to_string(self.path("class")).is_ok_and(|class| class.starts_with("0x0604"))
    }

    /// Name of the vfio character device, "vfio0"; none unless a vfio driver is bound.
    pub fn vfio_cdev(&self) -> Option<String> {
        let entry = fs::read_dir(self.path("vfio-dev")).ok()?.next()?.ok()?;
        entry.file_name().into_string().ok()
    }

    /// Config space as hardware has it, through sysfs.
    pub fn config(&self) -> Config {
        let path = self.path("config");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Config { file }
    }
}

/// The devices with some vendor, device and class, as sysfs has them: "0x1234", "0x11e8", "0x02".
/// An empty text is that of all; of a class the first digits do.
pub fn devices(vendor: &str, device: &str, class: &str) -> Vec<Bdf> {
    let is = |bdf: &Bdf, file: &str, start: &str| {
        fs::read_to_string(bdf.path(file)).is_ok_and(|text| text.starts_with(start))
    };
    let mut found: Vec<Bdf> = fs::read_dir("/sys/bus/pci/devices")
        .expect("sysfs")
        .filter_map(|entry| Some(Bdf::unchecked(entry.ok()?.file_name().to_str()?)))
        .filter(|bdf| {
            is(bdf, "vendor", vendor) && is(bdf, "device", device) && is(bdf, "class", class)
        })
        .collect();
    found.sort();
    found
}

/// Writes a sysfs file in one go.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// An open config space in sysfs.
pub struct Config {
    file: File,
}

impl Config {
    fn bytes<const N: usize>(&self, offset: u16) -> [u8; N] {
        let mut bytes = [0; N];
        self.file
            .read_exact_at(&mut bytes, offset.into())
            .unwrap_or_else(|error| panic!("config read at {offset:#x}: {error}"));
        bytes
    }

    /// Reads a byte.
    pub fn byte(&self, offset: u16) -> u8 {
        self.bytes::<1>(offset)[0]
    }

    /// Reads a word.
    pub fn word(&self, offset: u16) -> u16 {
        u16::from_le_bytes(self.bytes(offset))
    }

    /// Reads a dword.
    pub fn dword(&self, offset: u16) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    /// Writes a dword.
    pub fn set_dword(&self, offset: u16, value: u32) {
        self.file
            .write_all_at(&value.to_le_bytes(), offset.into())
            .unwrap_or_else(|error| panic!("config write at {offset:#x}: {error}"));
    }
}
