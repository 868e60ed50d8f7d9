// SPDX-License-Identifier: GPL-2.0-only

//! A thread that a signal interrupts while the kernel has it wait.

use std::fs;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc;
use std::thread;

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::{gettid, Pid};

use crate::monitor::wait_until;

extern "C" fn handler(_: libc::c_int) {}

/// Whether a thread of this process sleeps in an ioctl.
fn in_ioctl(thread: Pid) -> bool {
    let path = format!("/proc/self/task/{thread}/syscall");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    text.split_whitespace().next() == Some(&libc::SYS_ioctl.to_string())
}

/// Runs `call`, which waits in an ioctl for what does not come, and sends its thread a signal
/// there. Without SA_RESTART: the call comes back to say so.
pub fn interrupted<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    interrupted_after(call, || ())
}

/// The same; `meanwhile` runs while the call waits.
pub fn interrupted_after<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
    meanwhile: impl FnOnce(),
) -> T {
    let action = SigAction::new(
        SigHandler::Handler(handler),
        SaFlags::empty(),
        SigSet::empty(),
    );
    // SAFETY: the handler does nothing.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.expect("sigaction");
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(gettid()).expect("the other end");
        call()
    });
    let id = told.recv().expect("the thread's number");
    wait_until(|| thread.is_finished() || in_ioctl(id));
    meanwhile();
    assert!(!thread.is_finished(), "the call does not wait");
    pthread_kill(thread.as_pthread_t(), Signal::SIGUSR1).expect("pthread_kill");
    thread.join().expect("the thread")
}
