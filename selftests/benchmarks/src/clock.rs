// SPDX-License-Identifier: GPL-2.0-only

//! Instructions in the kernel, for a system call or a page fault.
//!
//! The VM runs with `-icount shift=0,sleep=off`: its time stamp counter advances by one with every
//! instruction of the guest. What is counted is the least of several runs, so that a timer
//! interrupt in one of them does not count, less what the same loop takes without the system call.

use std::arch::asm;
use std::arch::x86_64::_rdtsc;

use nix::request_code_none;
use tph_selftests::vfio::Device;
use vfio_bindings::bindings::vfio::{VFIO_BASE, VFIO_TYPE};

const RUNS: u32 = 8;

/// The counter.
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 has it, and user space may read it.
    unsafe { _rdtsc() }
}

/// Least number of ticks that `body` takes.
pub fn least(mut body: impl FnMut() -> u64) -> u64 {
    (0..RUNS).map(|_| body()).min().expect("some runs")
}

/// A system call that can be repeated. Whoever makes one keeps the memory that it points to.
#[derive(Clone, Copy, Debug)]
pub struct SystemCall {
    number: i64,
    arguments: [u64; 4],
}

impl SystemCall {
    /// ioctl() of a device, by its number in `linux/vfio.h`.
    pub fn ioctl(device: &Device, number: u32, argument: *mut u8) -> Self {
        Self {
            number: libc::SYS_ioctl,
            arguments: [
                device.fd() as u64,
                request_code_none!(VFIO_TYPE, VFIO_BASE + number),
                argument as u64,
                0,
            ],
        }
    }

    /// pread() of a device.
    pub fn read(device: &Device, buffer: &mut [u8], offset: u64) -> Self {
        Self {
            number: libc::SYS_pread64,
            arguments: [
                device.fd() as u64,
                buffer.as_mut_ptr() as u64,
                buffer.len() as u64,
                offset,
            ],
        }
    }

    /// pwrite() to a device.
    pub fn write(device: &Device, buffer: &[u8], offset: u64) -> Self {
        Self {
            number: libc::SYS_pwrite64,
            arguments: [
                device.fd() as u64,
                buffer.as_ptr() as u64,
                buffer.len() as u64,
                offset,
            ],
        }
    }

    /// getppid(): what a system call costs that does nothing.
    pub fn nothing() -> Self {
        Self {
            number: libc::SYS_getppid,
            arguments: [0; 4],
        }
    }

    /// Makes it once.
    pub fn result(&self) -> i64 {
        self.repeat(1).1
    }

    /// Instructions in the kernel for one of `times` calls in a row. Fails if the call does.
    #[track_caller]
    pub fn instructions(&self, times: u32) -> f64 {
        let result = self.result();
        assert!(
            result >= 0,
            "{self:?}: {}",
            std::io::Error::from_raw_os_error(-result as i32)
        );
        self.instructions_whatever(times)
    }

    /// The same of a call that may fail.
    pub fn instructions_whatever(&self, times: u32) -> f64 {
        let with = least(|| self.repeat(times).0);
        let without = least(|| empty_loop(times));
        (with - without) as f64 / f64::from(times)
    }

    /// Instructions in the kernel for all of some calls, made one after the other; `before` comes
    /// before each run, and does not count.
    pub fn instructions_after(calls: &[Self], mut before: impl FnMut()) -> f64 {
        let with = least(|| {
            before();
            calls.iter().map(|call| call.repeat(1).0).sum()
        });
        let without = least(|| empty_loop(1)) * calls.len() as u64;
        (with - without) as f64
    }

    fn repeat(&self, times: u32) -> (u64, i64) {
        let [first, second, third, fourth] = self.arguments;
        let result: i64;
        let start = ticks();
        // SAFETY: the system calls above, on memory that the caller keeps; the kernel preserves all
        // registers but those that are named.
        unsafe {
            asm!(
                "2:",
                "mov rax, {number}",
                "syscall",
                "dec {left}",
                "jnz 2b",
                number = in(reg) self.number,
                left = inout(reg) u64::from(times) => _,
                in("rdi") first,
                in("rsi") second,
                in("rdx") third,
                in("r10") fourth,
                out("rax") result,
                out("rcx") _,
                out("r11") _,
            );
        }
        (ticks() - start, result)
    }
}

fn empty_loop(times: u32) -> u64 {
    let start = ticks();
    // SAFETY: changes nothing but these registers.
    unsafe {
        asm!(
            "2:",
            "mov rax, {number}",
            "dec {left}",
            "jnz 2b",
            number = in(reg) 0u64,
            left = inout(reg) u64::from(times) => _,
            out("rax") _,
        );
    }
    ticks() - start
}

/// Runs that many iterations of an empty loop, two instructions each.
pub fn spin(iterations: u64) {
    // SAFETY: changes nothing but this register.
    unsafe {
        asm!(
            "2:",
            "dec {left}",
            "jnz 2b",
            left = inout(reg) iterations => _,
        );
    }
}
