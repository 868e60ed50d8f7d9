// SPDX-License-Identifier: GPL-2.0-only

//! Processes that own a dma-buf, or ask one for its hints: this program once more.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::ExitCode;
use std::str::FromStr;

use nix::errno::Errno;
use nix::unistd::dup;
use tph_uapi::pci_regs::{PCI_COMMAND, PCI_COMMAND_MEMORY};

use crate::memory::page_size;
use crate::pci::Bdf;
use crate::process::{arguments, say, wait_for_end, Process};
use crate::vfio::{self, dma_buf_fd, Hints, OpenBy};

const EXPORT: &str = "--export";
const ASK: &str = "--ask";

/// A process that has opened a device and published hints for a dma-buf of its memory.
pub struct ForeignExporter {
    _process: Process,
    /// The dma-buf.
    pub dma_buf: OwnedFd,
}

impl ForeignExporter {
    /// Starts it; returns when it has done all that. `bar` has a page of memory.
    pub fn start(bdf: &Bdf, bar: u32, hints: Hints) -> Self {
        let [st, xst] = [false, true].map(|extended| {
            let tag = hints.tag(extended).expect("tags of both namespaces");
            tag.to_string()
        });
        let (bdf, bar, ph) = (bdf.to_string(), bar.to_string(), hints.ph.to_string());
        let mut process = Process::again(EXPORT, [&bdf[..], &bar, &st, &xst, &ph]);
        let number = process.line().parse().expect("a descriptor");
        let dma_buf = take_fd(process.id(), number);
        Self {
            _process: process,
            dma_buf,
        }
    }

    /// Kills it, and waits until its files are closed. The dma-buf stays.
    pub fn kill(self) -> OwnedFd {
        self.dma_buf
    }
}

/// A descriptor of another process, as one of this process.
pub fn take_fd(process: u32, number: i32) -> OwnedFd {
    // SAFETY: numbers, which the kernel checks; what it returns is a new descriptor, for us alone.
    unsafe {
        let process = Errno::result(libc::syscall(libc::SYS_pidfd_open, process, 0));
        let process = OwnedFd::from_raw_fd(process.expect("pidfd_open") as i32);
        let fd = libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0);
        OwnedFd::from_raw_fd(Errno::result(fd).expect("pidfd_getfd") as i32)
    }
}

fn export(bdf: &Bdf, bar: u32, hints: Hints) {
    let page = 0..page_size() as u64;
    let device = vfio::open(bdf, OpenBy::Cdev).expect("open");
    let command = device.config_word(PCI_COMMAND as u16) | PCI_COMMAND_MEMORY as u16;
    device.set_config(PCI_COMMAND as u16, &command.to_le_bytes());
    let dma_buf = device
        .export_dma_buf(bar, std::slice::from_ref(&page))
        .expect("VFIO_DEVICE_FEATURE_DMA_BUF");
    device.publish(&dma_buf, hints).expect("DMA_BUF_TPH");
    say(&dma_buf.as_raw_fd().to_string());
    wait_for_end();
}

/// A process that has opened a device and asks, for it, a dma-buf that is not its own.
pub struct Asker {
    process: Process,
}

impl Asker {
    /// Starts it, with a descriptor of the dma-buf; returns when it has opened the device.
    pub fn start(bdf: &Bdf, dma_buf: &OwnedFd) -> Self {
        // One that a program inherits.
        let inherited = dup(dma_buf).expect("dup");
        let number = inherited.as_raw_fd().to_string();
        let mut process = Process::again(ASK, [&bdf.to_string()[..], &number]);
        process.line();
        Self { process }
    }

    /// The answers of TPH_RESOLVE, tag and processing hint, in both namespaces.
    pub fn ask(&mut self) -> [Result<(u16, u8), Errno>; 2] {
        self.process.tell("");
        [(); 2].map(|()| {
            let line = self.process.line();
            let mut numbers = line
                .split_whitespace()
                .map(|word| word.parse::<u16>().expect("a number"));
            let mut number = || numbers.next().expect("three numbers");
            match number() {
                0 => Ok((number(), number() as u8)),
                errno => Err(Errno::from_raw(errno.into())),
            }
        })
    }
}

fn ask(bdf: &Bdf, fd: i32) {
    let device = vfio::open(bdf, OpenBy::Cdev).expect("open");
    say("ready");
    for _ in io::stdin().lines() {
        for extended in [false, true] {
            match device.resolve(&[dma_buf_fd(fd)], extended) {
                Ok(found) => say(&format!("0 {} {}", found[0].st, found[0].ph)),
                Err(errno) => say(&format!("{} 0 0", errno as i32)),
            }
        }
    }
}

/// What the other process does, if this is it.
pub fn run_if_child() -> Option<ExitCode> {
    fn number<T: FromStr>(arguments: &mut impl Iterator<Item = String>) -> Option<T> {
        arguments.next()?.parse().ok()
    }
    if let Some(mut given) = arguments(EXPORT) {
        let bdf = Bdf::unchecked(&given.next()?);
        let bar = number(&mut given)?;
        let (st, xst, ph) = (
            number(&mut given)?,
            number(&mut given)?,
            number(&mut given)?,
        );
        export(&bdf, bar, Hints::both(st, xst, ph));
    } else {
        let mut given = arguments(ASK)?;
        ask(&Bdf::unchecked(&given.next()?), number(&mut given)?);
    }
    Some(ExitCode::SUCCESS)
}
