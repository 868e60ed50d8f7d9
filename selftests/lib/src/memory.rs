// SPDX-License-Identifier: GPL-2.0-only

//! User memory with an end: pages behind which nothing is mapped.

use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::OnceLock;

use nix::sys::mman::{mmap_anonymous, mprotect, munmap, MapFlags, ProtFlags};
use nix::unistd::{sysconf, SysconfVar};

/// Size of a page, as the kernel says: 4 KiB, or also 16 or 64 on arm64.
pub fn page_size() -> usize {
    static PAGE: OnceLock<usize> = OnceLock::new();
    *PAGE.get_or_init(|| {
        let size = sysconf(SysconfVar::PAGE_SIZE).expect("sysconf");
        size.expect("the size of a page") as usize
    })
}

/// Anonymous pages, and one that cannot be accessed behind them.
pub struct Pages {
    start: NonNull<u8>,
    count: usize,
}

impl Pages {
    /// Maps `count` pages and the barrier.
    pub fn new(count: usize) -> Self {
        let length = NonZeroUsize::new((count + 1) * page_size()).expect("at least the barrier");
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: new anonymous memory, at an address of the kernel's choice.
        let start = unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_SHARED) }
            .unwrap_or_else(|error| panic!("mmap: {error}"))
            .cast::<u8>();
        let pages = Self { start, count };
        pages.protect(count, ProtFlags::PROT_NONE);
        pages
    }

    /// Gives one page another protection.
    pub fn protect(&self, page: usize, protection: ProtFlags) {
        assert!(page <= self.count);
        // SAFETY: a page of our own mapping; nobody holds a reference into it.
        unsafe {
            mprotect(
                self.start.add(page * page_size()).cast(),
                page_size(),
                protection,
            )
        }
        .unwrap_or_else(|error| panic!("mprotect: {error}"));
    }

    /// Where the pages start.
    pub fn address(&self) -> usize {
        self.start.as_ptr() as usize
    }

    /// Their length in bytes, without the barrier.
    pub fn length(&self) -> usize {
        self.count * page_size()
    }

    /// A pointer to the byte at `offset`, which may be in the barrier.
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.length() + page_size());
        // SAFETY: within the mapping.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// Copies bytes in.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.length());
        // SAFETY: within the pages; nobody holds a reference into them.
        unsafe { self.at(offset).copy_from(bytes.as_ptr(), bytes.len()) }
    }

    /// Copies bytes out.
    pub fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        assert!(offset + length <= self.length());
        let mut bytes = vec![0; length];
        // SAFETY: within the pages; nobody holds a reference into them.
        unsafe { self.at(offset).copy_to(bytes.as_mut_ptr(), length) }
        bytes
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: our own mapping, to which no reference exists.
        let _ = unsafe { munmap(self.start.cast(), (self.count + 1) * page_size()) };
    }
}
