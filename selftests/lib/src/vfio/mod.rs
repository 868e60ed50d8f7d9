// SPDX-License-Identifier: GPL-2.0-only

//! A vfio device's user side: ways to open it, and what can be asked of it.

mod device;
mod dma_buf;
mod feature;
mod iommu;
mod irqs;
mod map;
mod open;
mod power;
mod region;
mod reset;
mod resolve;

pub use device::wait_for;
pub use device::{Device, Region};
pub use dma_buf::{dma_buf, dma_buf_fd, dma_buf_tph_bytes, DmaBufTph, Hints};
pub use feature::{
    call_bytes, cpu, cpu_persistent, feature_bytes, feature_of, literal, none, source, Offer, Op,
    Source, StRequest, FAULT_UNTOUCHED, FEATURE_HEADER, ST_HEADER,
};
pub use iommu::Mapping;
pub use irqs::{set_irqs_at, Vectors};
pub use map::{MapRequest, MAP_HEADER};
pub use open::{
    open, open_beside, open_cdev_unbound, open_with, taken, OpenBy, Unopened, VfToken,
    NOIOMMU_SWITCH,
};
pub use region::{Mapped, RegionCapability};
pub use resolve::{unresolved, Resolution, ResolveRequest, RESOLVE_HEADER};

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::request_code_none;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};

/// The request number of a vfio ioctl, from its number in `linux/vfio.h`.
pub(crate) const fn request(number: u32) -> libc::c_ulong {
    request_code_none!(VFIO_TYPE, VFIO_BASE + number)
}

/// Numbers of the ioctls, which bindgen cannot take from the macros of `linux/vfio.h`.
#[allow(missing_docs)]
pub mod number {
    pub const SET_IOMMU: u32 = 2;
    pub const GROUP_GET_STATUS: u32 = 3;
    pub const GROUP_SET_CONTAINER: u32 = 4;
    pub const GROUP_GET_DEVICE_FD: u32 = 6;
    pub const DEVICE_GET_INFO: u32 = 7;
    pub const DEVICE_GET_REGION_INFO: u32 = 8;
    pub const DEVICE_GET_IRQ_INFO: u32 = 9;
    pub const DEVICE_SET_IRQS: u32 = 10;
    pub const DEVICE_RESET: u32 = 11;
    pub const DEVICE_GET_PCI_HOT_RESET_INFO: u32 = 12;
    pub const DEVICE_PCI_HOT_RESET: u32 = 13;
    pub const IOMMU_MAP_DMA: u32 = 13;
    pub const DEVICE_IOEVENTFD: u32 = 16;
    pub const DEVICE_FEATURE: u32 = 17;
    pub const DEVICE_BIND_IOMMUFD: u32 = 18;
    pub const DEVICE_ATTACH_IOMMUFD_PT: u32 = 19;
}

/// An ioctl whose argument is a pointer, or a number in its place.
///
/// The kernel checks the pointer: a bad one is an error that tests ask for.
pub(crate) fn ioctl<T>(fd: RawFd, request: libc::c_ulong, argument: *mut T) -> Result<i32, Errno> {
    // SAFETY: at worst the kernel writes where `argument` points: callers pass memory of the
    // size that they say, or an address where nothing is mapped.
    Errno::result(unsafe { libc::ioctl(fd, request as _, argument) })
}
