// SPDX-License-Identifier: GPL-2.0-only

//! Test module `tph_hold`: who writes a register, asks firmware, or copies from memory of its own
//! is held in the middle of it, with all locks that were taken for it, until a [`Hold`] is dropped.
//! It has BARs of devices, too.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, RawFd};
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

use nix::sys::mman::{mmap, MapFlags, ProtFlags};

use crate::memory::page_size;
use crate::module;
use crate::pci::Bdf;
use crate::process::{arguments, Process};
use crate::vfio::{self, Device};
use crate::Errno;

const MODULE: &str = "tph_hold";
const HOLD: &str = "/sys/kernel/debug/tph_hold/hold";
const HELD: &str = "/sys/kernel/debug/tph_hold/held";
pub(crate) const MEMORY: &str = "/sys/kernel/debug/tph_hold/memory";
const RELEASE: &str = "release";
/// Makes a program the other process of [`Stuck`].
const ARGUMENT: &str = "--stuck";

fn tell(request: &str) {
    module::ensure(MODULE);
    fs::write(HOLD, request).unwrap_or_else(|error| panic!("{HOLD}: {request}: {error}"));
}

/// A process is held, or will be; dropping this lets it go. What is held cannot be killed: a test
/// that fails meanwhile must not leave it behind.
#[must_use]
pub struct Hold(());

impl Hold {
    /// Lets go who is held.
    pub fn release(self) {}
}

impl Drop for Hold {
    fn drop(&mut self) {
        let released = fs::write(HOLD, RELEASE);
        assert!(thread::panicking() || released.is_ok(), "{released:?}");
    }
}

/// Holds whoever writes the register of a device's config space next.
pub fn next_write(bdf: &Bdf, register: u16) -> Hold {
    tell(&format!("{bdf} {register:#x}"));
    Hold(())
}

/// The same, but only a write of two bytes.
pub fn next_word(bdf: &Bdf, register: u16) -> Hold {
    tell(&format!("{bdf} {register:#x} 2"));
    Hold(())
}

/// A BAR is somebody else's; dropping it gives it back.
#[must_use]
pub struct Reserved(());

impl Drop for Reserved {
    fn drop(&mut self) {
        let freed = fs::write(HOLD, "free");
        assert!(thread::panicking() || freed.is_ok(), "{freed:?}");
    }
}

/// Reserves a BAR of a device, as another driver would: one at a time.
pub fn reserve(bdf: &Bdf, bar: u32) -> Reserved {
    tell(&format!("reserve {bdf} {bar}"));
    Reserved(())
}

/// Holds who asks firmware for the tags of a CPU.
pub fn firmware() -> Hold {
    tell("firmware");
    Hold(())
}

/// Holds whoever reads a page of [`MEMORY`] that is not there yet. It is zero then.
pub(crate) fn memory() {
    memory_with(0);
}

/// The same, but for the first byte.
fn memory_with(byte: u8) {
    tell(&format!("memory {byte}"));
}

/// Lets go whoever is held.
pub(crate) fn release() {
    tell(RELEASE);
}

/// Waits until somebody is held, except by firmware.
pub fn wait() {
    fs::read_to_string(HELD).unwrap_or_else(|error| panic!("{HELD}: {error}"));
}

/// The lock of a device, which somebody else holds until this is dropped.
pub struct Locked(Option<JoinHandle<()>>);

impl Locked {
    /// Locks it.
    pub fn new(bdf: &Bdf) -> Self {
        module::ensure(MODULE);
        let request = format!("lock {bdf}");
        let thread = thread::spawn(move || tell(&request));
        wait();
        Self(Some(thread))
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        tell("unlock");
        let ended = self.0.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// A call of which the kernel copies the argument from the user.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    /// A write of one byte, which will be 0, at a register of config space.
    WriteConfig(u16),
    /// A write of one byte, which will be the second of these, at a register of config space.
    WriteByte(u16, u8),
    /// `VFIO_DEVICE_SET_IRQS`, which will be refused: the argument is zero.
    SetIrqs,
}

/// Another process that uses the same opened device, and whose memory is not there yet: who is held
/// keeps the `mmap_lock` of its process.
pub struct Stuck(Process);

impl Stuck {
    /// Starts it; returns when it is held in the call.
    pub fn new(device: &Device, call: Call) -> Self {
        let (name, position, byte) = match call {
            Call::WriteConfig(register) => ("write", device.position(register), 0),
            Call::WriteByte(register, byte) => ("write", device.position(register), byte),
            Call::SetIrqs => ("set-irqs", 0, 0),
        };
        memory_with(byte);
        let file = device.inheritable();
        let (fd, position) = (file.as_raw_fd().to_string(), position.to_string());
        let process = Process::again(ARGUMENT, [name, &fd, &position]);
        wait();
        Self(process)
    }

    /// Kills it.
    pub fn kill(self) {}

    /// Lets it go on, to its end.
    pub fn go_on(self) {
        release();
        self.0.wait();
    }
}

/// What the other process does, if this is it.
pub fn run_if_child() -> Option<ExitCode> {
    let mut arguments = arguments(ARGUMENT)?;
    let name = arguments.next()?;
    let fd: RawFd = arguments.next()?.parse().ok()?;
    let position: i64 = arguments.next()?.parse().ok()?;
    let file = File::open(MEMORY).unwrap_or_else(|error| panic!("{MEMORY}: {error}"));
    let length = NonZeroUsize::new(page_size())?;
    // SAFETY: a new mapping, at an address of the kernel's choice.
    let memory = unsafe {
        mmap(
            None,
            length,
            ProtFlags::PROT_READ,
            MapFlags::MAP_SHARED,
            &file,
            0,
        )
    };
    let memory = memory.unwrap_or_else(|error| panic!("{MEMORY}: {error}"));
    let as_expected = if name == "write" {
        // SAFETY: the kernel looks into the mapping, which nobody writes.
        unsafe { libc::pwrite64(fd, memory.as_ptr(), 1, position) == 1 }
    } else {
        let refused = vfio::set_irqs_at(fd, memory.cast().as_ptr());
        refused == Err(Errno::EINVAL)
    };
    Some(if as_expected {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
