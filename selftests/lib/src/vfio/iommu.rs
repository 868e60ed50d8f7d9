// SPDX-License-Identifier: GPL-2.0-only

//! Memory for a device's DMA, by iommufd or by a type 1 container.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use iommufd_bindings::{
    iommu_ioas_alloc, iommu_ioas_map, iommu_ioas_map_file,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE, IOMMUFD_CMD_IOAS_ALLOC, IOMMUFD_CMD_IOAS_MAP,
    IOMMUFD_CMD_IOAS_MAP_FILE, IOMMUFD_TYPE,
};
use nix::errno::Errno;
use nix::request_code_none;
use vfio_bindings::bindings::vfio::{
    vfio_iommu_type1_dma_map, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE,
};

use super::{ioctl, number, request};
use crate::memory::Pages;

const fn iommufd_request(command: u32) -> libc::c_ulong {
    request_code_none!(IOMMUFD_TYPE, command)
}

/// Of all mappings.
const MAP_FLAGS: u32 = iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA
    | iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE
    | iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE;

/// An IO address space of an iommufd.
pub(super) struct Ioas {
    iommufd: File,
    id: u32,
}

impl Ioas {
    pub(super) fn new(iommufd: File) -> Result<Self, Errno> {
        let mut alloc = iommu_ioas_alloc {
            size: size_of::<iommu_ioas_alloc>() as u32,
            ..Default::default()
        };
        ioctl(
            iommufd.as_raw_fd(),
            iommufd_request(IOMMUFD_CMD_IOAS_ALLOC),
            &mut alloc,
        )?;
        Ok(Self {
            iommufd,
            id: alloc.out_ioas_id,
        })
    }

    pub(super) fn iommufd(&self) -> &File {
        &self.iommufd
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }
}

/// What stands behind an open device.
pub(super) enum Iommu {
    Iommufd(Ioas),
    Group {
        group: File,
        container: File,
    },
    /// Another process's, which has the descriptors.
    Elsewhere,
}

impl Iommu {
    /// The same context under other descriptors.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Iommufd(ioas) => Self::Iommufd(Ioas {
                iommufd: ioas.iommufd.try_clone()?,
                id: ioas.id,
            }),
            Self::Group { group, container } => Self::Group {
                group: group.try_clone()?,
                container: container.try_clone()?,
            },
            Self::Elsewhere => Self::Elsewhere,
        })
    }

    /// The group's descriptor, if the device was opened by its group.
    pub(super) fn group_fd(&self) -> Option<RawFd> {
        match self {
            Self::Iommufd(_) | Self::Elsewhere => None,
            Self::Group { group, .. } => Some(group.as_raw_fd()),
        }
    }

    /// Maps what a file has from its start on, of which a dma-buf is one. EOPNOTSUPP by a group.
    pub(super) fn map_file(&self, fd: RawFd, length: u64, iova: u64) -> Result<(), Errno> {
        let Self::Iommufd(ioas) = self else {
            return Err(Errno::EOPNOTSUPP);
        };
        let mut map = iommu_ioas_map_file {
            size: size_of::<iommu_ioas_map_file>() as u32,
            flags: MAP_FLAGS,
            ioas_id: ioas.id,
            fd,
            start: 0,
            length,
            iova,
        };
        ioctl(
            ioas.iommufd.as_raw_fd(),
            iommufd_request(IOMMUFD_CMD_IOAS_MAP_FILE),
            &mut map,
        )
        .map(drop)
    }

    /// Maps memory for the device.
    pub(super) fn map(&self, pages: Pages, iova: u64) -> Result<Mapping, Errno> {
        let (address, length) = (pages.address() as u64, pages.length() as u64);
        match self {
            Self::Iommufd(ioas) => {
                let mut map = iommu_ioas_map {
                    size: size_of::<iommu_ioas_map>() as u32,
                    flags: MAP_FLAGS,
                    ioas_id: ioas.id,
                    user_va: address,
                    length,
                    iova,
                    ..Default::default()
                };
                ioctl(
                    ioas.iommufd.as_raw_fd(),
                    iommufd_request(IOMMUFD_CMD_IOAS_MAP),
                    &mut map,
                )?;
            }
            Self::Group { container, .. } => {
                let mut map = vfio_iommu_type1_dma_map {
                    argsz: size_of::<vfio_iommu_type1_dma_map>() as u32,
                    flags: VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                    vaddr: address,
                    iova,
                    size: length,
                };
                ioctl(
                    container.as_raw_fd(),
                    request(number::IOMMU_MAP_DMA),
                    &mut map,
                )?;
            }
            Self::Elsewhere => return Err(Errno::EOPNOTSUPP),
        }
        Ok(Mapping { pages, iova })
    }
}

/// Memory that the device can reach.
pub struct Mapping {
    /// The memory.
    pub pages: Pages,
    /// Where the device finds it.
    pub iova: u64,
}
