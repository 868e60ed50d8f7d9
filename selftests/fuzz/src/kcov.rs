// SPDX-License-Identifier: GPL-2.0-only

//! Which code of the module the operations have reached, by the kernel's kcov: a thread's trace
//! goes into a set of the process when the thread is done.
//!
//! Only a module that was built with `KCOV_INSTRUMENT=y` (see `selftests/fuzz-run --kcov`) on a
//! kernel with `CONFIG_KCOV` has anything to tell.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::request_code_none;

const KCOV: &str = "/sys/kernel/debug/kcov";
/// Where processes leave what they have reached.
const REACHED: &str = "/tmp/fuzz-kcov";
/// Words of a trace: the first one counts the others.
const WORDS: usize = 1 << 20;
const TRACE_PC: libc::c_ulong = 0;

static ON: AtomicBool = AtomicBool::new(false);
static ALL: Mutex<BTreeSet<usize>> = Mutex::new(BTreeSet::new());

/// Has traces taken from now on.
pub fn turn_on() {
    ON.store(true, Ordering::Relaxed);
}

/// Whether traces are taken.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The trace of the calling thread, until it is dropped.
pub struct Trace {
    file: File,
    words: *mut AtomicUsize,
}

/// Traces the calling thread, if traces are taken.
pub fn trace() -> Option<Trace> {
    if !is_on() {
        return None;
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(KCOV)
        .unwrap_or_else(|error| panic!("{KCOV}: {error}"));
    let length = WORDS * size_of::<usize>();
    // SAFETY: the calls and the mapping are those of Documentation/dev-tools/kcov.rst.
    let words = unsafe {
        // KCOV_INIT_TRACE takes a number where its name says that it takes a pointer.
        let init = nix::request_code_read!(b'c', 1, size_of::<libc::c_ulong>());
        assert_eq!(libc::ioctl(file.as_raw_fd(), init as _, WORDS), 0, "kcov");
        let words = libc::mmap(
            std::ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        );
        assert_ne!(words, libc::MAP_FAILED, "kcov");
        let enable = request_code_none!(b'c', 100);
        assert_eq!(
            libc::ioctl(file.as_raw_fd(), enable as _, TRACE_PC),
            0,
            "kcov"
        );
        words.cast()
    };
    Some(Trace { file, words })
}

impl Trace {
    /// The trace so far, and an empty one from now on.
    fn take(&self) -> Vec<usize> {
        // SAFETY: as long as `self` the mapping is there, with that many words.
        let words = unsafe { std::slice::from_raw_parts(self.words, WORDS) };
        let count = words[0].load(Ordering::Relaxed).min(WORDS - 1);
        let taken = words[1..=count].iter().map(|pc| pc.load(Ordering::Relaxed));
        let taken = taken.collect();
        words[0].store(0, Ordering::Relaxed);
        taken
    }

    fn keep(&self) {
        let taken = self.take();
        ALL.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(taken);
    }
}

/// Adds a trace to what the process has reached, and begins a new one: a trace that is full stops.
pub fn keep(trace: &Option<Trace>) {
    if let Some(trace) = trace {
        trace.keep();
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.keep();
        // SAFETY: ends what trace() began.
        unsafe {
            libc::ioctl(self.file.as_raw_fd(), request_code_none!(b'c', 101) as _, 0);
            libc::munmap(self.words.cast(), WORDS * size_of::<usize>());
        }
    }
}

/// Where the module's code begins.
fn module_base() -> usize {
    let text = fs::read_to_string("/sys/module/vfio_tph/sections/.text").unwrap_or_default();
    usize::from_str_radix(text.trim().trim_start_matches("0x"), 16).unwrap_or(0)
}

/// Leaves what this process has reached for [`report`], as offsets in the module, which is loaded
/// now.
pub fn leave() {
    let base = module_base();
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(REACHED)
        .unwrap_or_else(|error| panic!("{REACHED}: {error}"));
    for offset in all.iter().filter_map(|pc| pc.checked_sub(base)) {
        writeln!(file, "{offset:x}").expect(REACHED);
    }
    all.clear();
}

/// Prints everything that was left, one line for each place.
pub fn report() {
    let text = fs::read_to_string(REACHED).unwrap_or_default();
    let reached: BTreeSet<&str> = text.lines().collect();
    for offset in reached {
        println!("# kcov {offset}");
    }
}
