// SPDX-License-Identifier: GPL-2.0-only

//! An open vfio device: regions, config space, interrupts.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::unistd::dup;
use vfio_bindings::bindings::vfio::{
    vfio_device_info, vfio_irq_info, vfio_irq_set, vfio_region_info, VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_CONFIG_REGION_INDEX,
};

use super::iommu::{Iommu, Mapping};
use super::{ioctl, number, request};
use crate::memory::Pages;
use crate::pci::Bdf;

/// A region of a device.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Where it starts in the device's file.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u64,
    /// `VFIO_REGION_INFO_FLAG_*`.
    pub flags: u32,
}

/// An open device; dropping it closes it.
pub struct Device {
    bdf: Bdf,
    file: File,
    iommu: Iommu,
    config: Region,
    /// Where the TPH capability is: once found, it stays there while the device is open.
    pub(crate) tph: OnceLock<u16>,
}

impl Device {
    pub(super) fn new(bdf: Bdf, file: File, iommu: Iommu) -> Result<Self, Errno> {
        let mut device = Self {
            bdf,
            file,
            iommu,
            config: Region {
                offset: 0,
                size: 0,
                flags: 0,
            },
            tph: OnceLock::new(),
        };
        device.config = device.region(VFIO_PCI_CONFIG_REGION_INDEX)?;
        Ok(device)
    }

    /// Closes the device alone. What stands behind it, a container or an address space, is closed
    /// with what is returned.
    pub fn close(self) -> impl Sized {
        drop(self.file);
        self.iommu
    }

    /// Which device it is.
    pub fn bdf(&self) -> &Bdf {
        &self.bdf
    }

    /// The file's descriptor.
    pub fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub(super) fn iommu(&self) -> &Iommu {
        &self.iommu
    }

    pub(super) fn ioctl<T>(&self, number: u32, argument: *mut T) -> Result<i32, Errno> {
        ioctl(self.fd(), request(number), argument)
    }

    /// Any ioctl of vfio, by its number, with any argument. No field of it may tell the kernel of
    /// more bytes than there are.
    pub fn any_ioctl(&self, number: u32, argument: &mut [u8]) -> Result<i32, Errno> {
        self.ioctl(number, argument.as_mut_ptr())
    }

    /// `VFIO_DEVICE_GET_INFO`, with its capabilities: all bytes of the answer.
    pub fn info_bytes(&self) -> Vec<u8> {
        self.info_of::<vfio_device_info>(number::DEVICE_GET_INFO, 0)
            .expect("VFIO_DEVICE_GET_INFO")
    }

    /// `VFIO_DEVICE_GET_REGION_INFO`, with its capabilities: all bytes of the answer.
    pub fn region_bytes(&self, index: u32) -> Result<Vec<u8>, Errno> {
        self.info_of::<vfio_region_info>(number::DEVICE_GET_REGION_INFO, index)
    }

    /// `VFIO_DEVICE_GET_IRQ_INFO`: all bytes of the answer.
    pub fn irq_bytes(&self, index: u32) -> Result<Vec<u8>, Errno> {
        self.info_of::<vfio_irq_info>(number::DEVICE_GET_IRQ_INFO, index)
    }

    /// An info ioctl: the struct `T` starts with argsz and flags, the index (if there is one)
    /// comes third. The buffer has room for capabilities behind it.
    fn info_of<T>(&self, number: u32, index: u32) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; size_of::<T>() + 1024];
        let argsz = bytes.len() as u32;
        bytes[..4].copy_from_slice(&argsz.to_ne_bytes());
        bytes[8..12].copy_from_slice(&index.to_ne_bytes());
        self.ioctl(number, bytes.as_mut_ptr())?;
        Ok(bytes)
    }

    /// A region's place in the device's file.
    pub fn region(&self, index: u32) -> Result<Region, Errno> {
        let mut info = vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            index,
            ..Default::default()
        };
        self.ioctl(number::DEVICE_GET_REGION_INFO, &mut info)?;
        Ok(Region {
            offset: info.offset,
            size: info.size,
            flags: info.flags,
        })
    }

    /// A duplicate of the file that a process started meanwhile gets, too.
    pub fn inheritable(&self) -> OwnedFd {
        dup(&self.file).expect("another descriptor")
    }

    /// Where a register of config space is in the device's file.
    pub fn position(&self, register: u16) -> u64 {
        self.config.offset + u64::from(register)
    }

    /// Reads config space in one call.
    pub fn read_config(&self, offset: u16, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(bytes, self.position(offset))
    }

    /// Writes config space in one call.
    pub fn write_config(&self, offset: u16, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_at(bytes, self.position(offset))
    }

    /// Writes `count` bytes to config space in one call, from memory that need not be there.
    pub fn write_config_from(
        &self,
        offset: u16,
        memory: *const u8,
        count: usize,
    ) -> Result<usize, Errno> {
        let position = self.position(offset) as i64;
        // SAFETY: the kernel looks into the memory, and copes with what is not there.
        let done = unsafe { libc::pwrite64(self.file.as_raw_fd(), memory.cast(), count, position) };
        Errno::result(done).map(|done| done as usize)
    }

    /// Reads all of `bytes` in one call.
    #[track_caller]
    fn config<const N: usize>(&self, offset: u16) -> [u8; N] {
        let mut bytes = [0; N];
        let got = self.read_config(offset, &mut bytes);
        assert!(
            matches!(got, Ok(n) if n == N),
            "config read of {N} at {offset:#x}: {got:?}"
        );
        bytes
    }

    /// Reads a byte of config space.
    #[track_caller]
    pub fn config_byte(&self, offset: u16) -> u8 {
        self.config::<1>(offset)[0]
    }

    /// Reads a word of config space.
    #[track_caller]
    pub fn config_word(&self, offset: u16) -> u16 {
        u16::from_le_bytes(self.config(offset))
    }

    /// Reads a dword of config space.
    #[track_caller]
    pub fn config_dword(&self, offset: u16) -> u32 {
        u32::from_le_bytes(self.config(offset))
    }

    /// Writes bytes to config space in one call, all of which must be taken.
    #[track_caller]
    pub fn set_config(&self, offset: u16, bytes: &[u8]) {
        let put = self.write_config(offset, bytes);
        assert!(
            matches!(put, Ok(n) if n == bytes.len()),
            "config write of {} at {offset:#x}: {put:?}",
            bytes.len()
        );
    }

    /// All of config space, in one read.
    #[track_caller]
    pub fn config_space(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.config.size as usize];
        let got = self.read_config(0, &mut bytes);
        assert!(
            matches!(got, Ok(n) if n == bytes.len()),
            "config space: {got:?}"
        );
        bytes
    }

    /// Reads a dword of a BAR through the file.
    #[track_caller]
    pub fn bar_dword(&self, bar: u32, offset: u64) -> u32 {
        let region = self.region(bar).expect("BAR");
        let mut bytes = [0; 4];
        self.file
            .read_exact_at(&mut bytes, region.offset + offset)
            .unwrap_or_else(|error| panic!("BAR{bar} read at {offset:#x}: {error}"));
        u32::from_le_bytes(bytes)
    }

    /// Writes a dword of a BAR through the file.
    #[track_caller]
    pub fn set_bar_dword(&self, bar: u32, offset: u64, value: u32) {
        let region = self.region(bar).expect("BAR");
        self.file
            .write_all_at(&value.to_le_bytes(), region.offset + offset)
            .unwrap_or_else(|error| panic!("BAR{bar} write at {offset:#x}: {error}"));
    }

    /// Has `events` signalled by the interrupts of `index` from 0 on; none of them frees all.
    pub fn set_irqs(&self, index: u32, events: &[EventFd]) -> Result<(), Errno> {
        let header = vfio_irq_set {
            argsz: (size_of::<vfio_irq_set>() + 4 * events.len()) as u32,
            flags: VFIO_IRQ_SET_ACTION_TRIGGER
                | match events {
                    [] => VFIO_IRQ_SET_DATA_NONE,
                    _ => VFIO_IRQ_SET_DATA_EVENTFD,
                },
            index,
            start: 0,
            count: events.len() as u32,
            ..Default::default()
        };
        let mut bytes = Vec::with_capacity(header.argsz as usize);
        for field in [
            header.argsz,
            header.flags,
            header.index,
            header.start,
            header.count,
        ] {
            bytes.write_all(&field.to_ne_bytes()).expect("a Vec grows");
        }
        for event in events {
            bytes.extend(event.as_raw_fd().to_ne_bytes());
        }
        self.ioctl(number::DEVICE_SET_IRQS, bytes.as_mut_ptr())
            .map(drop)
    }

    /// Lets the device reach the memory of a dma-buf at `iova`, until the device is closed. Needs a
    /// device that was opened by its character device.
    pub fn map_dma_buf(&self, fd: &impl AsRawFd, length: u64, iova: u64) -> Result<(), Errno> {
        self.iommu.map_file(fd.as_raw_fd(), length, iova)
    }

    /// Memory that the device can reach at `iova`.
    pub fn map_dma(&self, pages: usize, iova: u64) -> Result<Mapping, Errno> {
        self.iommu.map(Pages::new(pages), iova)
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.fd()
    }
}

/// Waits until an event is signalled, for as long as the harness lets a test run.
pub fn wait_for(event: &EventFd) {
    event.read().expect("eventfd");
}
