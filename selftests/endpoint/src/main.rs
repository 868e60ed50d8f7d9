// SPDX-License-Identifier: GPL-2.0-only

//! Emulated PCIe endpoints with a TPH Requester capability: a vfio-user server to put behind
//! QEMU's `vfio-user-pci`.
//!
//! Each endpoint has a socket of its own; one control socket answers what they hold and what
//! happened to them. README.md says how to start QEMU with them.

mod config;
mod control;
mod device;
mod engine;
mod journal;
mod msix;
mod server;
mod spec;
mod wire;

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::thread;

use anyhow::{bail, ensure, Context, Result};
use clap::Parser;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;

use crate::control::Control;
use crate::device::Endpoint;
use crate::server::Port;
use crate::spec::Spec;

/// Name of the control socket without its suffix; no endpoint can have it.
const CONTROL: &str = "control";

/// Emulated PCIe endpoints with TPH, behind QEMU's vfio-user-pci.
#[derive(Parser)]
#[command(name = "tph-endpoint", version)]
struct Args {
    /// Where the sockets are made: NAME.sock for each endpoint, and control.sock.
    #[arg(long)]
    dir: PathBuf,
    /// An endpoint: name=NAME[,key=value...]; see README.md for the keys.
    #[arg(long = "device", value_name = "SPEC", required = true)]
    devices: Vec<Spec>,
    /// Prints "ready" when all sockets listen.
    #[arg(long)]
    ready: bool,
    /// Ends, with an error, after that time.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

/// Sockets that go away with the process.
struct Sockets(Vec<PathBuf>);

impl Sockets {
    fn listen(&mut self, dir: &Path, name: &str) -> Result<UnixListener> {
        let path = dir.join(name).with_extension("sock");
        let listener =
            UnixListener::bind(&path).with_context(|| format!("cannot make {}", path.display()))?;
        self.0.push(path);
        Ok(listener)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for path in &self.0 {
            // Somebody may have removed the directory already.
            let _ = fs::remove_file(path);
        }
    }
}

fn main() -> ExitCode {
    match run(Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("tph-endpoint: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<()> {
    prctl::set_pdeathsig(Some(Signal::SIGTERM)).context("prctl")?;
    // Blocked before there are threads, so that the signals come by the descriptor only.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block().context("signal mask")?;
    let signals = SignalFd::new(&signals).context("signalfd")?;
    let exit = Arc::new(EventFd::new().context("eventfd")?);
    exit_on_panic();

    let mut names = HashSet::from([CONTROL]);
    for spec in &args.devices {
        ensure!(names.insert(&spec.name), "name {}: taken", spec.name);
    }
    let mut sockets = Sockets(vec![]);
    let mut ports = vec![];
    for spec in &args.devices {
        let listener = sockets.listen(&args.dir, &spec.name)?;
        let port = Arc::new(Port::new(Endpoint::new(spec.clone())?));
        ports.push(Arc::clone(&port));
        thread::spawn(move || report(port.serve(&listener)));
    }
    let listener = sockets.listen(&args.dir, CONTROL)?;
    let control = Arc::new(Control::new(ports, Arc::clone(&exit)));
    thread::spawn(move || report(control.serve(&listener)));

    if args.ready {
        println!("ready");
        std::io::stdout().flush().context("stdout")?;
    }
    wait(&signals, &exit, args.timeout)
}

/// Waits until the process is to end.
fn wait(signals: &SignalFd, exit: &EventFd, timeout: Option<u32>) -> Result<()> {
    let timeout = match timeout {
        Some(seconds) => PollTimeout::try_from(i64::from(seconds) * 1000)
            .ok()
            .with_context(|| format!("--timeout {seconds}: too long"))?,
        None => PollTimeout::NONE,
    };
    let mut fds = [
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        PollFd::new(exit.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut fds, timeout) {
        Ok(0) => bail!("timed out"),
        Ok(_) => Ok(()),
        // Only a signal that is not blocked interrupts, and it has ended the process.
        Err(why @ Errno::EINTR) | Err(why) => Err(why).context("poll"),
    }
}

fn report(result: Result<()>) {
    if let Err(why) = result {
        eprintln!("tph-endpoint: {why:#}");
        process::exit(1);
    }
}

/// An endpoint whose thread is gone would leave QEMU waiting for ever.
fn exit_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        print(info);
        process::exit(101);
    }));
}
