// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! Opening a device, for who has no other way to do so.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use iommufd_bindings::IOMMUFD_CMD_IOAS_ALLOC;
use vfio_bindings::bindings::vfio::{
    VFIO_TYPE1v2_IOMMU, VFIO_GROUP_FLAGS_VIABLE, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_NOIOMMU_IOMMU, VFIO_PCI_MSIX_IRQ_INDEX,
};

use crate::{ioctl, Address, Error};

const SET_IOMMU: u32 = 2;
const GROUP_GET_STATUS: u32 = 3;
const GROUP_SET_CONTAINER: u32 = 4;
const GROUP_GET_DEVICE_FD: u32 = 6;
const DEVICE_SET_IRQS: u32 = 10;
const DEVICE_BIND_IOMMUFD: u32 = 18;
const DEVICE_ATTACH_IOMMUFD_PT: u32 = 19;

/// A way to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its character device and iommufd.
    Iommufd,
    /// Its IOMMU group, and a container.
    Group,
}

/// An open device, with an empty IO address space. TPH is off, and will be when it is closed.
#[derive(Debug)]
pub struct Device {
    // In this order: the device goes before what it is attached to.
    file: OwnedFd,
    _iommu: Vec<File>,
}

fn open_file(path: impl Into<PathBuf>) -> Result<File, Error> {
    let path = path.into();
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|source| Error::Open { path, source })
}

fn setup<T>(what: &'static str, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::Setup { what, source })
}

/// A structure of words, the first of which is for its length.
fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], index: usize) -> u32 {
    bytes
        .chunks_exact(4)
        .nth(index)
        .and_then(|word| word.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

impl Device {
    /// Opens a device that a vfio driver is bound to: by iommufd where the kernel has it, else by
    /// its group.
    pub fn open(address: &Address) -> Result<Self, Error> {
        let by_iommufd = cdev(address).is_some() && Path::new("/dev/iommu").exists();
        Self::open_by(address, if by_iommufd { Way::Iommufd } else { Way::Group })
    }

    /// Opens a device in this way.
    pub fn open_by(address: &Address, way: Way) -> Result<Self, Error> {
        let sysfs = sysfs(address);
        if !sysfs.exists() {
            return Err(Error::NoDevice(*address));
        }
        if !sysfs.join("vfio-dev").exists() {
            let driver = fs::read_link(sysfs.join("driver")).ok();
            let name = |driver: PathBuf| Some(driver.file_name()?.to_string_lossy().into_owned());
            return Err(Error::NotBound {
                address: *address,
                driver: driver.and_then(name),
            });
        }
        match way {
            Way::Iommufd => Self::open_cdev(address),
            Way::Group => Self::open_group(address),
        }
    }

    fn open_cdev(address: &Address) -> Result<Self, Error> {
        let name = cdev(address).unwrap_or_default();
        let file = open_file(Path::new("/dev/vfio/devices").join(name))?;
        let iommufd = open_file("/dev/iommu")?;
        // argsz, flags, iommufd, out_devid, token.
        let mut bind = words([0, 0, iommufd.as_raw_fd() as u32, 0, 0, 0]);
        let bound = ioctl::sized(file.as_fd(), ioctl::vfio(DEVICE_BIND_IOMMUFD), &mut bind);
        setup(
            "binding the device to an iommufd",
            // What vfio says of a device that is open by its character device already.
            bound.map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => io::ErrorKind::ResourceBusy.into(),
                _ => error,
            }),
        )?;
        // size, flags, out_ioas_id.
        let mut alloc = words([0, 0, 0]);
        setup(
            "an IO address space",
            ioctl::sized(
                iommufd.as_fd(),
                ioctl::iommufd(IOMMUFD_CMD_IOAS_ALLOC),
                &mut alloc,
            ),
        )?;
        // argsz, flags, pt_id, pasid.
        let mut attach = words([0, 0, word(&alloc, 2), 0]);
        setup(
            "attaching the device to an IO address space",
            ioctl::sized(
                file.as_fd(),
                ioctl::vfio(DEVICE_ATTACH_IOMMUFD_PT),
                &mut attach,
            ),
        )?;
        Ok(Self {
            file: file.into(),
            _iommu: vec![iommufd],
        })
    }

    fn open_group(address: &Address) -> Result<Self, Error> {
        let group = fs::read_link(sysfs(address).join("iommu_group"))
            .ok()
            .and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()))
            .ok_or(Error::Setup {
                what: "the device's IOMMU group",
                source: io::ErrorKind::NotFound.into(),
            })?;
        let unsafe_group = PathBuf::from(format!("/dev/vfio/noiommu-{group}"));
        let (path, kind) = match unsafe_group.exists() {
            true => (unsafe_group, VFIO_NOIOMMU_IOMMU),
            false => (Path::new("/dev/vfio").join(&group), VFIO_TYPE1v2_IOMMU),
        };
        let container = open_file("/dev/vfio/vfio")?;
        let group = open_file(path)?;
        // argsz, flags.
        let mut status = words([0, 0]);
        setup(
            "the state of the IOMMU group",
            ioctl::sized(group.as_fd(), ioctl::vfio(GROUP_GET_STATUS), &mut status),
        )?;
        if word(&status, 1) & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(Error::Setup {
                what: "the IOMMU group: another of its devices has a driver that is not vfio's",
                source: io::ErrorKind::ResourceBusy.into(),
            });
        }
        setup(
            "a container for the IOMMU group",
            ioctl::descriptor(
                group.as_fd(),
                ioctl::vfio(GROUP_SET_CONTAINER),
                container.as_fd(),
            )
            .and_then(|()| ioctl::number(container.as_fd(), ioctl::vfio(SET_IOMMU), kind)),
        )?;
        let name = CString::new(address.to_string()).unwrap_or_default();
        let file = setup(
            "opening the device in its IOMMU group",
            ioctl::open(group.as_fd(), ioctl::vfio(GROUP_GET_DEVICE_FD), &name),
        )?;
        Ok(Self {
            file,
            _iommu: vec![group, container],
        })
    }

    /// Allocates the first MSI-X vectors of the device, each with an eventfd that its interrupts
    /// are counted in: an ST table in MSI-X has entries for allocated vectors alone.
    pub fn allocate_msix(&self, eventfds: &[BorrowedFd<'_>]) -> Result<(), Error> {
        // argsz, flags, index, start, count, and the descriptors.
        let mut set = words([
            0,
            VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            VFIO_PCI_MSIX_IRQ_INDEX,
            0,
            eventfds.len() as u32,
        ]);
        set.extend(eventfds.iter().flat_map(|fd| fd.as_raw_fd().to_ne_bytes()));
        setup(
            "MSI-X vectors",
            ioctl::sized(self.as_fd(), ioctl::vfio(DEVICE_SET_IRQS), &mut set).map(drop),
        )
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn sysfs(address: &Address) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address.to_string())
}

/// The name of the device's character device, unless it is one without an IOMMU.
fn cdev(address: &Address) -> Option<String> {
    let entry = fs::read_dir(sysfs(address).join("vfio-dev")).ok()?.next()?;
    let name = entry.ok()?.file_name().into_string().ok()?;
    (!name.starts_with("noiommu") && Path::new("/dev/vfio/devices").join(&name).exists())
        .then_some(name)
}
