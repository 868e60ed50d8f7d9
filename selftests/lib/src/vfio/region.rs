// SPDX-License-Identifier: GPL-2.0-only

//! All ways to the bytes of a BAR: reads and writes of the device's file, mappings, dma-bufs, and
//! what the region info says about them.

use std::ops::Range;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::mman::ProtFlags;
use vfio_bindings::bindings::vfio::{
    vfio_device_ioeventfd, vfio_info_cap_header, vfio_region_info, VFIO_DEVICE_FEATURE_DMA_BUF,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_CAPS,
};

use super::feature::{feature_bytes, Op};
use super::{ioctl, number, request, Device};

/// One capability in a region's info.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionCapability {
    /// `VFIO_REGION_INFO_CAP_*`.
    pub id: u16,
    /// The areas, if it lists those that can be mapped.
    pub areas: Vec<Range<u64>>,
}

fn number_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a capability in range")
}

impl Device {
    /// The capabilities of a region.
    pub fn region_capabilities(&self, index: u32) -> Vec<RegionCapability> {
        let bytes = self
            .region_bytes(index)
            .unwrap_or_else(|error| panic!("info of region {index}: {error}"));
        let word = |at| u16::from_ne_bytes(number_at(&bytes, at));
        let dword = |at| u32::from_ne_bytes(number_at(&bytes, at));
        let qword = |at| u64::from_ne_bytes(number_at(&bytes, at));

        let mut capabilities = Vec::new();
        let flags = dword(std::mem::offset_of!(vfio_region_info, flags));
        let mut at = match flags & VFIO_REGION_INFO_FLAG_CAPS {
            0 => 0,
            _ => dword(std::mem::offset_of!(vfio_region_info, cap_offset)) as usize,
        };
        while at != 0 {
            let id = word(at);
            let body = at + size_of::<vfio_info_cap_header>();
            let areas = match u32::from(id) {
                VFIO_REGION_INFO_CAP_SPARSE_MMAP => (0..dword(body) as usize)
                    .map(|area| {
                        let start = qword(body + 8 + 16 * area);
                        start..start + qword(body + 16 + 16 * area)
                    })
                    .collect(),
                _ => Vec::new(),
            };
            capabilities.push(RegionCapability { id, areas });
            at = dword(at + 4) as usize;
        }
        capabilities
    }

    /// Reads a BAR in one call.
    pub fn read_bar(&self, bar: u32, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        let at = (self.region(bar)?.offset + offset) as libc::off_t;
        // SAFETY: the buffer is ours.
        let got = unsafe { libc::pread(self.fd(), bytes.as_mut_ptr().cast(), bytes.len(), at) };
        Errno::result(got).map(|got| got as usize)
    }

    /// Writes a BAR in one call.
    pub fn write_bar(&self, bar: u32, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let at = (self.region(bar)?.offset + offset) as libc::off_t;
        // SAFETY: the buffer is ours.
        let put = unsafe { libc::pwrite(self.fd(), bytes.as_ptr().cast(), bytes.len(), at) };
        Errno::result(put).map(|put| put as usize)
    }

    /// Maps a range of a BAR, to be read and written.
    pub fn map_bar(&self, bar: u32, range: Range<u64>) -> Result<Mapped, Errno> {
        self.map_bar_as(bar, range, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
    }

    /// Maps a range of a BAR.
    pub fn map_bar_as(
        &self,
        bar: u32,
        range: Range<u64>,
        protection: ProtFlags,
    ) -> Result<Mapped, Errno> {
        let offset = self.region(bar)?.offset + range.start;
        let length = (range.end - range.start) as usize;
        Mapped::new(self.fd(), offset, length, protection)
    }

    /// Makes a dma-buf of ranges of a BAR.
    pub fn export_dma_buf(&self, bar: u32, ranges: &[Range<u64>]) -> Result<OwnedFd, Errno> {
        let mut data = Vec::new();
        let open_flags = (libc::O_RDWR | libc::O_CLOEXEC) as u32;
        for field in [bar, open_flags, 0, ranges.len() as u32] {
            data.extend(field.to_ne_bytes());
        }
        for range in ranges {
            data.extend(range.start.to_ne_bytes());
            data.extend((range.end.wrapping_sub(range.start)).to_ne_bytes());
        }
        let argsz = (super::FEATURE_HEADER + data.len()) as u32;
        let flags = Op::Get.flags() | VFIO_DEVICE_FEATURE_DMA_BUF;
        let mut bytes = feature_bytes(flags, argsz, &data);
        let fd = ioctl(
            self.fd(),
            request(number::DEVICE_FEATURE),
            bytes.as_mut_ptr(),
        )?;
        // SAFETY: the kernel has just made this descriptor, for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Has a dword of a BAR written with `value` whenever `event` is signalled.
    pub fn ioeventfd(&self, bar: u32, offset: u64, value: u32, event: RawFd) -> Result<(), Errno> {
        const DWORD: u32 = 1 << 2;
        let mut argument = vfio_device_ioeventfd {
            argsz: size_of::<vfio_device_ioeventfd>() as u32,
            flags: DWORD,
            offset: self.region(bar)?.offset + offset,
            data: value.into(),
            fd: event,
            ..Default::default()
        };
        self.ioeventfd_at((&raw mut argument).cast())
    }

    /// `VFIO_DEVICE_IOEVENTFD` with whatever argument.
    pub fn ioeventfd_at(&self, argument: *mut u8) -> Result<(), Errno> {
        ioctl(self.fd(), request(number::DEVICE_IOEVENTFD), argument).map(drop)
    }
}

/// Mapped device memory.
#[derive(Debug)]
pub struct Mapped {
    start: *mut libc::c_void,
    length: usize,
}

// SAFETY: an address and a length. Whoever reads and writes device memory goes by volatile
// accesses, and by none to what was unmapped: unmapping takes the value.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

fn pointer(result: *mut libc::c_void) -> Result<*mut libc::c_void, Errno> {
    if result == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    Ok(result)
}

impl Mapped {
    /// Maps what a file has at `offset`.
    pub fn new(
        fd: RawFd,
        offset: u64,
        length: usize,
        protection: ProtFlags,
    ) -> Result<Self, Errno> {
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let start = pointer(unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection.bits(),
                libc::MAP_SHARED,
                fd,
                offset as libc::off_t,
            )
        })?;
        Ok(Self { start, length })
    }

    /// Length in bytes.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Where it starts.
    pub fn address(&self) -> *mut u8 {
        self.start.cast()
    }

    fn dword(&self, offset: u64) -> *mut u32 {
        assert!(offset as usize + 4 <= self.length && offset % 4 == 0);
        // SAFETY: within the mapping.
        unsafe { self.start.byte_add(offset as usize).cast() }
    }

    /// Reads a dword.
    pub fn read(&self, offset: u64) -> u32 {
        // SAFETY: aligned and within the mapping.
        unsafe { self.dword(offset).read_volatile() }
    }

    /// Writes a dword.
    pub fn write(&self, offset: u64, value: u32) {
        // SAFETY: aligned and within the mapping, to which no reference exists.
        unsafe { self.dword(offset).write_volatile(value) }
    }

    /// mremap() to another length, where the kernel likes. With `old_length` 0 the mapping stays,
    /// and another one comes into being.
    pub fn remap(&mut self, old_length: usize, length: usize) -> Result<Option<Mapped>, Errno> {
        // SAFETY: a mapping of our own, to which no reference exists.
        let start =
            pointer(unsafe { libc::mremap(self.start, old_length, length, libc::MREMAP_MAYMOVE) })?;
        if old_length == 0 {
            return Ok(Some(Mapped { start, length }));
        }
        self.start = start;
        self.length = length;
        Ok(None)
    }

    /// remap_file_pages() of the first `length` bytes to page `page` of the file.
    pub fn remap_file_pages(&self, length: usize, page: u64) -> Result<(), Errno> {
        // SAFETY: a mapping of our own, to which no reference exists.
        let done =
            unsafe { libc::syscall(libc::SYS_remap_file_pages, self.start, length, 0, page, 0) };
        Errno::result(done).map(drop)
    }

    /// mprotect() of all of it.
    pub fn protect(&self, protection: ProtFlags) -> Result<(), Errno> {
        // SAFETY: a mapping of our own, to which no reference exists.
        Errno::result(unsafe { libc::mprotect(self.start, self.length, protection.bits()) })
            .map(drop)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: a mapping of our own, to which no reference exists.
        unsafe { libc::munmap(self.start, self.length) };
    }
}
