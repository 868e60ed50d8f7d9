// SPDX-License-Identifier: GPL-2.0-only

//! Processes that own a dma-buf, or ask one for its hints. As in [`child`](crate::child), the
//! program runs itself again.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};

use nix::errno::Errno;
use nix::unistd::dup;
use tph_uapi::pci_regs::{PCI_COMMAND, PCI_COMMAND_MEMORY};

use crate::memory::page_size;
use crate::pci::Bdf;
use crate::vfio::{self, dma_buf_fd, Hints, OpenBy};

const EXPORT: &str = "--export";
const ASK: &str = "--ask";

/// Another process of this program, which speaks in lines.
struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let program = env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
        Self {
            stdin: child.stdin.take().expect("a pipe"),
            stdout: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    /// What it says next.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.stdout.read_line(&mut line).expect("a line");
        assert_ne!(count, 0, "the other process has ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("wait");
    }
}

fn say(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("stdout");
}

fn wait_for_end() {
    // EOF, if it is not killed before.
    let _ = io::stdin().read_line(&mut String::new());
}

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
        let mut process = Process::start(&[
            EXPORT,
            &bdf.to_string(),
            &bar.to_string(),
            &st,
            &xst,
            &hints.ph.to_string(),
        ]);
        let number = process.line().parse().expect("a descriptor");
        let dma_buf = take_fd(process.child.id(), number);
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
        let mut process = Process::start(&[ASK, &bdf.to_string(), &number]);
        process.line();
        Self { process }
    }

    /// The answers of TPH_RESOLVE, tag and processing hint, in both namespaces.
    pub fn ask(&mut self) -> [Result<(u16, u8), Errno>; 2] {
        self.process.stdin.write_all(b"\n").expect("the other end");
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
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |at: usize| arguments.get(at)?.parse::<i32>().ok();
    let bdf = Bdf::unchecked(arguments.get(1)?);
    match arguments[0].as_str() {
        EXPORT => {
            let hints = Hints::both(number(3)? as u8, number(4)? as u16, number(5)? as u8);
            export(&bdf, number(2)? as u32, hints);
        }
        ASK => ask(&bdf, number(2)?),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}
