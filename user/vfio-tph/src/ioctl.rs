// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! The system calls, in forms that cannot go wrong.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};

/// `_IO()` of a type and a number.
const fn request(kind: u32, number: u32) -> libc::c_ulong {
    ((kind << 8) | number) as libc::c_ulong
}

/// An ioctl of vfio, by its number from `VFIO_BASE` on.
pub(crate) const fn vfio(number: u32) -> libc::c_ulong {
    request(VFIO_TYPE as u32, VFIO_BASE + number)
}

/// An ioctl of iommufd.
pub(crate) const fn iommufd(command: u32) -> libc::c_ulong {
    request(b';' as u32, command)
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// An ioctl on a structure that starts with its own length, which this function sets: the kernel
/// reads and writes no more than that.
pub(crate) fn sized(
    fd: BorrowedFd<'_>,
    request: libc::c_ulong,
    argument: &mut [u8],
) -> io::Result<libc::c_int> {
    let length = u32::try_from(argument.len()).map_err(io::Error::other)?;
    let Some(argsz) = argument.first_chunk_mut() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    *argsz = length.to_ne_bytes();
    // SAFETY: The callers' requests are of vfio and iommufd, whose arguments start with their
    // length; the kernel accesses that many bytes at most, and all of them are ours.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, argument.as_mut_ptr()) })
}

/// An ioctl whose argument is a number.
pub(crate) fn number(fd: BorrowedFd<'_>, request: libc::c_ulong, number: u32) -> io::Result<()> {
    // SAFETY: `VFIO_SET_IOMMU` takes no pointer.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, libc::c_ulong::from(number)) })
        .map(drop)
}

/// An ioctl whose argument is a pointer to a descriptor.
pub(crate) fn descriptor(
    fd: BorrowedFd<'_>,
    request: libc::c_ulong,
    other: BorrowedFd<'_>,
) -> io::Result<()> {
    let other = other.as_raw_fd();
    // SAFETY: The kernel reads an int.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw const other) }).map(drop)
}

/// An ioctl that opens what a name stands for.
pub(crate) fn open(fd: BorrowedFd<'_>, request: libc::c_ulong, name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: The kernel reads a string that ends with NUL.
    let fd = checked(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, name.as_ptr()) })?;
    // SAFETY: The kernel has made this descriptor just now, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
