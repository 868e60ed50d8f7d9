// SPDX-License-Identifier: GPL-2.0-only

//! An importer of a dma-buf in the kernel, by the test module `tph_importer`.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::request_code_none;

use crate::module;
use crate::pci::Bdf;

#[path = "../../modules/tph_importer/abi.rs"]
#[allow(dead_code)]
mod abi;

pub use abi::{Answer, Question, Report};

use abi::Attach;

/// The test module.
pub const MODULE: &str = abi::NAME;

/// What stands in the outputs before a question is asked.
pub const UNTOUCHED: Answer = Answer {
    errno: 0,
    steering_tag: 0xdead,
    ph: 0xaa,
};

/// An importer, of which another thread may hold the same.
#[derive(Debug)]
pub struct Importer {
    file: File,
}

impl Importer {
    /// One with a reference to a dma-buf.
    pub fn new(dma_buf: &impl AsRawFd) -> Self {
        Self::try_new(dma_buf).unwrap_or_else(|error| panic!("{MODULE}: {error}"))
    }

    /// The same, or why not.
    pub fn try_new(dma_buf: &impl AsRawFd) -> Result<Self, Errno> {
        module::ensure(MODULE);
        let path = Path::new("/dev").join(abi::NAME);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let importer = Self { file };
        importer.request(abi::TAKE, dma_buf.as_raw_fd() as u64)?;
        Ok(importer)
    }

    fn request(&self, command: u32, argument: u64) -> Result<(), Errno> {
        let request = request_code_none!(abi::TYPE, command);
        // SAFETY: the argument is a number, or points to an array of the length that the module
        // takes it to have.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request as _, argument) };
        Errno::result(result).map(drop)
    }

    fn request_with<const N: usize>(
        &self,
        command: u32,
        words: &mut [u32; N],
    ) -> Result<(), Errno> {
        self.request(command, words.as_mut_ptr() as u64)
    }

    fn attach_as(&self, device: &Bdf, knows_tph: bool) -> Result<(), Errno> {
        let (bus, devfn) = device.bus_devfn();
        let who = Attach {
            domain: 0,
            bus,
            devfn,
            knows_tph,
        };
        self.request(abi::ATTACH, who.to_argument())
    }

    /// Attaches a device whose driver knows of TPH.
    pub fn attach(&self, device: &Bdf) -> Result<(), Errno> {
        self.attach_as(device, true)
    }

    /// Attaches a device whose driver knows nothing of TPH.
    pub fn attach_ignorant(&self, device: &Bdf) -> Result<(), Errno> {
        self.attach_as(device, false)
    }

    /// Detaches it.
    pub fn detach(&self) -> Result<(), Errno> {
        self.request(abi::DETACH, 0)
    }

    /// Maps the memory for the device, and asks if it knows of TPH.
    pub fn map(&self) -> Result<(), Errno> {
        self.request(abi::MAP, 0)
    }

    /// Unmaps it.
    pub fn unmap(&self) -> Result<(), Errno> {
        self.request(abi::UNMAP, 0)
    }

    /// Asks for a hint; what stood in the outputs before shows whether they were touched.
    pub fn ask(&self, extended: bool) -> Result<Answer, Errno> {
        self.question(extended, true)
    }

    /// The same without the reservation lock, as no driver may.
    pub fn ask_unlocked(&self, extended: bool) -> Result<Answer, Errno> {
        self.question(extended, false)
    }

    fn question(&self, extended: bool, locked: bool) -> Result<Answer, Errno> {
        let question = Question {
            extended,
            locked,
            steering_tag: UNTOUCHED.steering_tag,
            ph: UNTOUCHED.ph,
        };
        let mut words = question.to_words();
        self.request_with(abi::ASK, &mut words)?;
        Ok(Answer::from_words(words))
    }

    /// What it has seen.
    pub fn report(&self) -> Report {
        let mut words = [0; Report::WORDS];
        self.request_with(abi::REPORT, &mut words)
            .unwrap_or_else(|error| panic!("{MODULE}: {error}"));
        Report::from_words(&words)
    }

    /// Has the kernel hold the reservation lock of the dma-buf, until the answer is dropped.
    pub fn hold(&self) -> Held {
        let same = || Self {
            file: self.file.try_clone().expect("another descriptor"),
        };
        let (holder, released) = (same(), same());
        let thread = thread::spawn(move || holder.request(abi::HOLD, 0));
        self.request(abi::WAIT_HELD, 0)
            .unwrap_or_else(|error| panic!("{MODULE}: {error}"));
        Held {
            importer: released,
            thread: Some(thread),
        }
    }
}

/// A reservation lock that is held by somebody else.
pub struct Held {
    importer: Importer,
    thread: Option<JoinHandle<Result<(), Errno>>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let released = self.importer.request(abi::RELEASE, 0);
        let ended = self.thread.take().map(JoinHandle::join);
        if !thread::panicking() {
            released.unwrap_or_else(|error| panic!("{MODULE}: {error}"));
            assert!(matches!(ended, Some(Ok(Ok(())))), "{ended:?}");
        }
    }
}

impl Answer {
    /// The hint, or why there is none. Fails the test if the outputs of a question that was not
    /// answered have changed.
    #[track_caller]
    pub fn hint(self) -> Result<(u16, u8), Errno> {
        if self.errno == 0 {
            return Ok((self.steering_tag, self.ph));
        }
        let outputs = (self.steering_tag, self.ph);
        assert_eq!(
            outputs,
            (UNTOUCHED.steering_tag, UNTOUCHED.ph),
            "{self:?}: the outputs"
        );
        Err(Errno::from_raw(self.errno as i32))
    }
}
