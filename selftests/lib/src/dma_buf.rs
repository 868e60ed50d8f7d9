// SPDX-License-Identifier: GPL-2.0-only

//! Dma-bufs that are not vfio's: of the process's own memory, by an exporter that knows nothing of
//! TPH; and how many there are in all.

use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, SealFlag};
use nix::sys::memfd::{memfd_create, MFdFlags};
use nix::unistd::ftruncate;

use crate::memory::page_size;
use crate::skip;

/// `struct udmabuf_create` of linux/udmabuf.h.
#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

mod request {
    #![allow(missing_docs)]
    nix::ioctl_write_ptr!(create, b'u', 0x42, super::Create);
}

/// Makes a dma-buf of `pages` pages of memory. The test is left out on a kernel without
/// `CONFIG_UDMABUF`.
pub fn udmabuf(pages: usize) -> OwnedFd {
    const DEVICE: &str = "/dev/udmabuf";
    let Ok(device) = OpenOptions::new().read(true).write(true).open(DEVICE) else {
        skip!("no {DEVICE}");
    };
    let memfd = memfd_create(c"udmabuf", MFdFlags::MFD_ALLOW_SEALING).expect("memfd_create");
    ftruncate(&memfd, (pages * page_size()) as i64).expect("ftruncate");
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).expect("F_SEAL_SHRINK");
    let request = Create {
        memfd: memfd.as_raw_fd() as u32,
        flags: 0,
        offset: 0,
        size: (pages * page_size()) as u64,
    };
    // SAFETY: the argument is a valid struct of the kernel's layout.
    let fd = unsafe { request::create(device.as_raw_fd(), &request) };
    let fd = fd.unwrap_or_else(|error: Errno| panic!("UDMABUF_CREATE: {error}"));
    // SAFETY: the kernel has just made this descriptor, for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Number of dma-bufs that the kernel has.
pub fn count() -> usize {
    const BUFINFO: &str = "/sys/kernel/debug/dma_buf/bufinfo";
    let text = fs::read_to_string(BUFINFO).unwrap_or_else(|error| panic!("{BUFINFO}: {error}"));
    text.lines()
        .find_map(|line| {
            let mut words = line.strip_prefix("Total ")?.split_whitespace();
            let number = words.next()?.parse().ok();
            number.filter(|_| words.next() == Some("objects,"))
        })
        .unwrap_or_else(|| panic!("{BUFINFO}: {text}"))
}
