// SPDX-License-Identifier: GPL-2.0-only

//! The three ways to a vfio device's file descriptor.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use vfio_bindings::bindings::vfio::{
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_group_status, VFIO_TYPE1v2_IOMMU,
    VFIO_DEVICE_BIND_FLAG_TOKEN, VFIO_GROUP_FLAGS_VIABLE, VFIO_NOIOMMU_IOMMU,
};

use super::iommu::{Ioas, Iommu};
use super::{ioctl, number, request, Device};
use crate::errno;
use crate::pci::Bdf;

/// A way to open a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenBy {
    /// The character device, with iommufd.
    Cdev,
    /// The group and a type 1 container.
    Group,
    /// The group of a device without an IOMMU.
    NoIommu,
}

/// The switch that lets vfio drivers take a device without an IOMMU.
pub const NOIOMMU_SWITCH: &str = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";

fn open_file(path: &str) -> Result<File, Errno> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(errno)
}

/// The secret that users of a physical function and of its virtual ones share.
pub type VfToken = [u8; 16];

/// Opens a device that a vfio driver is bound to.
pub fn open(bdf: &Bdf, by: OpenBy) -> Result<Device, Errno> {
    open_with(bdf, by, None)
}

/// The same of a physical or virtual function, with a token.
pub fn open_with(bdf: &Bdf, by: OpenBy, token: Option<&VfToken>) -> Result<Device, Errno> {
    let (path, iommu) = match by {
        OpenBy::Cdev => return open_cdev(bdf, token),
        OpenBy::Group => (format!("/dev/vfio/{}", group(bdf)), VFIO_TYPE1v2_IOMMU),
        OpenBy::NoIommu => (
            format!("/dev/vfio/noiommu-{}", group(bdf)),
            VFIO_NOIOMMU_IOMMU,
        ),
    };
    open_group(bdf, path, iommu, token)
}

fn group(bdf: &Bdf) -> u32 {
    bdf.iommu_group()
        .unwrap_or_else(|| panic!("{bdf} has no IOMMU group"))
}

/// The character device; it is of no use before it is bound to an iommufd.
pub fn open_cdev_unbound(bdf: &Bdf) -> Result<File, Errno> {
    let name = bdf
        .vfio_cdev()
        .unwrap_or_else(|| panic!("{bdf} has no vfio device"));
    open_file(&format!("/dev/vfio/devices/{name}"))
}

fn open_cdev(bdf: &Bdf, token: Option<&VfToken>) -> Result<Device, Errno> {
    let unopened = Unopened::new(bdf)?;
    unopened.open_with(token)?;
    unopened.into_device()
}

/// A character device and an iommufd that know nothing of each other yet.
pub struct Unopened {
    bdf: Bdf,
    file: File,
    iommufd: File,
}

impl Unopened {
    /// Opens the files; nothing reaches the driver.
    pub fn new(bdf: &Bdf) -> Result<Self, Errno> {
        Ok(Self {
            bdf: bdf.clone(),
            file: open_cdev_unbound(bdf)?,
            iommufd: open_file("/dev/iommu")?,
        })
    }

    /// `VFIO_DEVICE_BIND_IOMMUFD`: the driver opens the device. If it fails, it may be tried again.
    pub fn open(&self) -> Result<(), Errno> {
        self.open_with(None)
    }

    fn open_with(&self, token: Option<&VfToken>) -> Result<(), Errno> {
        bind_iommufd(&self.file, &self.iommufd, token)
    }

    /// The device, opened.
    pub fn into_device(self) -> Result<Device, Errno> {
        let ioas = Ioas::new(self.iommufd)?;
        attach(&self.file, &ioas)?;
        Device::new(self.bdf, self.file, Iommu::Iommufd(ioas))
    }
}

fn bind_iommufd(file: &File, iommufd: &File, token: Option<&VfToken>) -> Result<(), Errno> {
    let mut bind = vfio_device_bind_iommufd {
        argsz: size_of::<vfio_device_bind_iommufd>() as u32,
        flags: token.map_or(0, |_| VFIO_DEVICE_BIND_FLAG_TOKEN),
        iommufd: iommufd.as_raw_fd(),
        token_uuid_ptr: token.map_or(0, |token| token.as_ptr() as u64),
        ..Default::default()
    };
    ioctl(
        file.as_raw_fd(),
        request(number::DEVICE_BIND_IOMMUFD),
        &mut bind,
    )
    .map(drop)
}

fn attach(file: &File, ioas: &Ioas) -> Result<(), Errno> {
    let mut attach = vfio_device_attach_iommufd_pt {
        argsz: size_of::<vfio_device_attach_iommufd_pt>() as u32,
        pt_id: ioas.id(),
        ..Default::default()
    };
    ioctl(
        file.as_raw_fd(),
        request(number::DEVICE_ATTACH_IOMMUFD_PT),
        &mut attach,
    )
    .map(drop)
}

/// Opens another device in the way that `device` was opened, with the same IOMMU context: two
/// devices of one IOMMU group have one user.
pub fn open_beside(device: &Device, bdf: &Bdf) -> Result<Device, Errno> {
    let iommu = device.iommu().try_clone().map_err(errno)?;
    let file = match &iommu {
        Iommu::Iommufd(ioas) => {
            let file = open_cdev_unbound(bdf)?;
            bind_iommufd(&file, ioas.iommufd(), None)?;
            attach(&file, ioas)?;
            file
        }
        Iommu::Elsewhere => return Err(Errno::EOPNOTSUPP),
        Iommu::Group { group, .. } => group_device(group, bdf, None)?,
    };
    Device::new(bdf.clone(), file, iommu)
}

/// A device that another process has opened, by the descriptor that was taken from it. It can map
/// no memory.
pub fn taken(bdf: &Bdf, fd: OwnedFd) -> Result<Device, Errno> {
    Device::new(bdf.clone(), fd.into(), Iommu::Elsewhere)
}

fn open_group(
    bdf: &Bdf,
    path: String,
    iommu_type: u32,
    token: Option<&VfToken>,
) -> Result<Device, Errno> {
    let container = open_file("/dev/vfio/vfio")?;
    let group = open_file(&path)?;

    let mut status = vfio_group_status {
        argsz: size_of::<vfio_group_status>() as u32,
        ..Default::default()
    };
    ioctl(
        group.as_raw_fd(),
        request(number::GROUP_GET_STATUS),
        &mut status,
    )?;
    assert_ne!(
        status.flags & VFIO_GROUP_FLAGS_VIABLE,
        0,
        "{path} is not viable"
    );

    let mut fd = container.as_raw_fd();
    ioctl(
        group.as_raw_fd(),
        request(number::GROUP_SET_CONTAINER),
        &mut fd,
    )?;
    ioctl(
        container.as_raw_fd(),
        request(number::SET_IOMMU),
        iommu_type as usize as *mut u8,
    )?;

    let file = group_device(&group, bdf, token)?;
    Device::new(bdf.clone(), file, Iommu::Group { group, container })
}

/// A UUID as the kernel reads it.
fn uuid(token: &VfToken) -> String {
    let mut text = String::new();
    for (at, byte) in token.iter().enumerate() {
        if [4, 6, 8, 10].contains(&at) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

fn group_device(group: &File, bdf: &Bdf, token: Option<&VfToken>) -> Result<File, Errno> {
    let token = token.map_or(String::new(), |token| format!(" vf_token={}", uuid(token)));
    let name = CString::new(format!("{bdf}{token}")).expect("no NUL in an address");
    let fd = ioctl(
        group.as_raw_fd(),
        request(number::GROUP_GET_DEVICE_FD),
        name.as_ptr().cast_mut(),
    )?;
    // SAFETY: the kernel has just made this descriptor, for us alone.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// The path of the group's file of a device without an IOMMU.
pub fn noiommu_path(bdf: &Bdf) -> PathBuf {
    PathBuf::from(format!("/dev/vfio/noiommu-{}", group(bdf)))
}

impl OpenBy {
    /// Whether this machine, as it was booted, has this way for the device.
    pub fn possible(self, bdf: &Bdf) -> bool {
        match self {
            OpenBy::Cdev => {
                bdf.vfio_cdev()
                    .is_some_and(|name| !name.starts_with("noiommu"))
                    && fs::exists("/dev/iommu").unwrap_or(false)
            }
            OpenBy::Group => bdf
                .iommu_group()
                .is_some_and(|n| fs::exists(format!("/dev/vfio/{n}")).unwrap_or(false)),
            OpenBy::NoIommu => bdf.iommu_group().is_some() && noiommu_path(bdf).exists(),
        }
    }
}
