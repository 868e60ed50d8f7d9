// SPDX-License-Identifier: GPL-2.0-only

//! CPUs that are offline, or not there.

use std::fs;
use std::path::PathBuf;

use crate::firmware::uid;
use crate::{monitor, skip};

/// One after the last number in a list of CPUs, "0-3".
fn end_of(file: &str) -> u32 {
    let path = format!("/sys/devices/system/cpu/{file}");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let last = text.trim().rsplit(['-', ',']).next().unwrap_or_default();
    let last: u32 = last
        .parse()
        .unwrap_or_else(|error| panic!("{path}: {text:?}: {error}"));
    last + 1
}

/// Number of CPUs that are present; the test VM's are numbered without a gap.
pub fn present() -> u32 {
    end_of("present")
}

/// Number of CPUs that there can ever be.
pub fn possible() -> u32 {
    end_of("possible")
}

fn online(number: u32) -> PathBuf {
    format!("/sys/devices/system/cpu/cpu{number}/online").into()
}

fn set_online(number: u32, is: bool) {
    let path = online(number);
    fs::write(&path, if is { "1" } else { "0" })
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// A CPU that is present but offline, until this is dropped.
pub struct Offline(u32);

impl Offline {
    /// Takes a CPU offline.
    pub fn new(number: u32) -> Self {
        set_online(number, false);
        Self(number)
    }
}

impl Drop for Offline {
    fn drop(&mut self) {
        set_online(self.0, true);
    }
}

/// A CPU that is possible but not present, until this is dropped: QEMU takes it out.
pub struct Unplugged(u32);

impl Unplugged {
    /// Takes the last CPU out.
    pub fn new(number: u32) -> Self {
        if cfg!(target_arch = "aarch64") {
            skip!("QEMU takes no CPU out of this machine");
        }
        monitor::command(&format!("device_del cpu{number}"));
        monitor::wait_until(|| present() == number);
        Self(number)
    }
}

impl Drop for Unplugged {
    fn drop(&mut self) {
        let number = self.0;
        monitor::command(&format!(
            "device_add max-x86_64-cpu,id=cpu{number},socket-id={},core-id=0,thread-id=0",
            uid(number)
        ));
        // It is present before it has all of its files.
        monitor::wait_until(|| present() == number + 1 && online(number).exists());
        set_online(number, true);
    }
}
