// SPDX-License-Identifier: GPL-2.0-only

//! The three ways to a vfio device's file descriptor.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use vfio_bindings::bindings::vfio::{
    vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd, vfio_group_status, VFIO_TYPE1v2_IOMMU,
    VFIO_GROUP_FLAGS_VIABLE, VFIO_NOIOMMU_IOMMU,
};

use super::iommu::{Ioas, Iommu};
use super::{ioctl, number, request, Device};
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

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Opens a device that a vfio driver is bound to.
pub fn open(bdf: &Bdf, by: OpenBy) -> Result<Device, Errno> {
    match by {
        OpenBy::Cdev => open_cdev(bdf),
        OpenBy::Group => open_group(bdf, format!("/dev/vfio/{}", group(bdf)), VFIO_TYPE1v2_IOMMU),
        OpenBy::NoIommu => open_group(
            bdf,
            format!("/dev/vfio/noiommu-{}", group(bdf)),
            VFIO_NOIOMMU_IOMMU,
        ),
    }
}

fn group(bdf: &Bdf) -> u32 {
    bdf.iommu_group()
        .unwrap_or_else(|| panic!("{bdf} has no IOMMU group"))
}

fn open_cdev(bdf: &Bdf) -> Result<Device, Errno> {
    let name = bdf
        .vfio_cdev()
        .unwrap_or_else(|| panic!("{bdf} has no vfio device"));
    let file = open_file(&format!("/dev/vfio/devices/{name}"))?;
    let iommufd = open_file("/dev/iommu")?;
    bind_iommufd(&file, &iommufd)?;
    let ioas = Ioas::new(iommufd)?;
    attach(&file, &ioas)?;
    Device::new(bdf.clone(), file, Iommu::Iommufd(ioas))
}

fn bind_iommufd(file: &File, iommufd: &File) -> Result<(), Errno> {
    let mut bind = vfio_device_bind_iommufd {
        argsz: size_of::<vfio_device_bind_iommufd>() as u32,
        iommufd: iommufd.as_raw_fd(),
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
            let name = bdf
                .vfio_cdev()
                .unwrap_or_else(|| panic!("{bdf} has no vfio device"));
            let file = open_file(&format!("/dev/vfio/devices/{name}"))?;
            bind_iommufd(&file, ioas.iommufd())?;
            attach(&file, ioas)?;
            file
        }
        Iommu::Group { group, .. } => group_device(group, bdf)?,
    };
    Device::new(bdf.clone(), file, iommu)
}

fn open_group(bdf: &Bdf, path: String, iommu_type: u32) -> Result<Device, Errno> {
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

    let file = group_device(&group, bdf)?;
    Device::new(bdf.clone(), file, Iommu::Group { group, container })
}

fn group_device(group: &File, bdf: &Bdf) -> Result<File, Errno> {
    let name = CString::new(bdf.to_string()).expect("no NUL in an address");
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
