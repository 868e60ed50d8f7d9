// SPDX-License-Identifier: GPL-2.0-only

//! Threads that wait in the kernel, and what interrupts them.

use std::fs;
use std::os::unix::thread::JoinHandleExt;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use nix::sys::pthread::pthread_kill;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::unistd::{gettid, Pid};

use crate::monitor::wait_until;

extern "C" fn handler(_: libc::c_int) {}

/// Whether a thread of this process sleeps in a call of a driver: an ioctl, or a write that says
/// where.
fn in_call(thread: Pid) -> bool {
    let path = format!("/proc/self/task/{thread}/syscall");
    // Gone, if it has just ended.
    let text = fs::read_to_string(&path).unwrap_or_default();
    let number = text.split_whitespace().next();
    [libc::SYS_ioctl, libc::SYS_pwrite64]
        .iter()
        .any(|call| number == Some(&call.to_string()))
}

/// Starts a thread; returns when it waits in `call`, or has ended.
pub fn waiting<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || {
        tell.send(gettid()).expect("the other end");
        call()
    });
    let id = told.recv().expect("the thread's number");
    wait_until(|| thread.is_finished() || in_call(id));
    thread
}

/// Runs `call`, which waits in the driver for what does not come, and sends its thread a signal
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
    let thread = waiting(call);
    meanwhile();
    assert!(!thread.is_finished(), "the call does not wait");
    pthread_kill(thread.as_pthread_t(), Signal::SIGUSR1).expect("pthread_kill");
    thread.join().expect("the thread")
}
