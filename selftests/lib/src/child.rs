// SPDX-License-Identifier: GPL-2.0-only

//! A process that owns a device, and can be killed.
//!
//! The program runs itself again: a forked copy of a process with threads and open devices is not
//! another user.

use std::env;
use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};

use crate::pci::Bdf;
use crate::tph::{Requester, StMode};
use crate::vfio::{self, cpu, OpenBy};

const ARGUMENT: &str = "--own";

/// A process that has opened a device, enabled TPH and programmed entries.
pub struct Owner {
    child: Child,
    _stdin: ChildStdin,
}

impl Owner {
    /// Starts it; returns when it has done all that.
    pub fn start(bdf: &Bdf, entries: u16) -> Self {
        let program = env::current_exe().expect("the path of this program");
        let mut child = Command::new(program)
            .args([ARGUMENT, &bdf.to_string(), &entries.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("the owner of {bdf}: {error}"));
        let stdin = child.stdin.take().expect("a pipe");
        let mut ready = [0];
        child
            .stdout
            .as_mut()
            .expect("a pipe")
            .read_exact(&mut ready)
            .unwrap_or_else(|error| panic!("the owner of {bdf} does not get ready: {error}"));
        Self {
            child,
            _stdin: stdin,
        }
    }

    /// Kills it, and waits until its files are closed.
    pub fn kill(self) {}
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.child.kill().expect("kill -9");
        self.child.wait().expect("wait");
    }
}

/// What the other process does, if this is it.
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next()? != ARGUMENT {
        return None;
    }
    let bdf = Bdf::unchecked(&arguments.next()?);
    let entries: u32 = arguments.next()?.parse().ok()?;

    let device = vfio::open(&bdf, OpenBy::Cdev).expect("open");
    device.enable(StMode::InterruptVector, Requester::Extended);
    let sources: Vec<_> = (0..entries).map(|index| cpu(index % 2)).collect();
    device.program(0, &sources).expect("TPH_ST");

    let mut out = io::stdout();
    out.write_all(b"r")
        .and_then(|()| out.flush())
        .expect("stdout");
    let _ = io::stdin().read(&mut [0]);
    Some(ExitCode::SUCCESS)
}
