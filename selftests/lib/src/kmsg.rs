// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's log, from a moment on.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

use nix::fcntl::{fcntl, FcntlArg, OFlag};

const KMSG: &str = "/dev/kmsg";

/// The kernel's log, from a moment on.
pub struct KernelLog {
    file: File,
}

impl KernelLog {
    /// From now on.
    pub fn from_now() -> Self {
        let mut file = File::open(KMSG).unwrap_or_else(|error| panic!("{KMSG}: {error}"));
        file.seek(SeekFrom::End(0)).expect(KMSG);
        Self { file }
    }

    fn record(&mut self) -> std::io::Result<String> {
        let mut record = [0; 8192];
        let count = self.file.read(&mut record)?;
        Ok(String::from_utf8_lossy(&record[..count]).into_owned())
    }

    /// Reads until one of two lines comes. The test fails if it is the bad one.
    pub fn wait_for_either(&mut self, good: &str, bad: &str) {
        loop {
            let text = self.record().expect(KMSG);
            if text.contains(good) {
                return;
            }
            assert!(!text.contains(bad), "{text}");
        }
    }

    /// Reads until a line comes.
    pub fn wait_for(&mut self, line: &str) {
        while !self.record().expect(KMSG).contains(line) {}
    }

    /// What was logged until now.
    pub fn until_now(&mut self) -> Vec<String> {
        // Blocking is a property of the open file: nobody else has this one.
        // SAFETY: the descriptor is open as long as `self`.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.file.as_raw_fd()) };
        fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect(KMSG);
        let mut lines = Vec::new();
        loop {
            match self.record() {
                Ok(line) => lines.push(line),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{KMSG}: {error}"),
            }
        }
        fcntl(fd, FcntlArg::F_SETFL(OFlag::empty())).expect(KMSG);
        lines
    }
}

/// Writes a line to the kernel's log.
pub fn say(line: &str) {
    OpenOptions::new()
        .write(true)
        .open(KMSG)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|error| panic!("{KMSG}: {error}"));
}
