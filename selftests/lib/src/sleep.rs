// SPDX-License-Identifier: GPL-2.0-only

//! Sleep of the whole system, by the files in /sys/power.

use std::fs;
use std::path::Path;

use nix::errno::Errno;

use crate::bench::in_test_vm;
use crate::skip;
use crate::{errno, pci};

const STATE: &str = "/sys/power/state";
const MEM_SLEEP: &str = "/sys/power/mem_sleep";
const TEST: &str = "/sys/power/pm_test";

/// How the system sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// Suspend-to-idle.
    Idle,
    /// Suspend-to-RAM, ACPI S3.
    Ram,
    /// Hibernation.
    Disk,
}

/// How far it goes on the way there before it turns back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Devices are suspended.
    Devices,
    /// Their interrupts are off, the PCI core has saved their state and has put them into D3hot;
    /// firmware is ready.
    Platform,
    /// All CPUs but one are off, and so are timers and interrupt controllers.
    Core,
    /// It sleeps: power of devices is cut. An image is of no use where there is no swap space.
    Whole,
}

/// A way to sleep, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sleep(pub Into, pub Depth);

fn has_word(file: &str, word: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|text| {
        text.split_whitespace()
            .any(|known| known.trim_matches(['[', ']']) == word)
    })
}

#[track_caller]
fn write(file: &str, word: &str) {
    pci::write(Path::new(file), word).unwrap_or_else(|error| panic!("{word}: {error}"));
}

/// What pm_test is once the system is awake, also when a test fails.
struct Awake;

impl Drop for Awake {
    fn drop(&mut self) {
        // A panic in here would hide the one that has led here.
        let _ = fs::write(TEST, "none");
    }
}

impl Sleep {
    /// Has the system sleep until it has turned back, or is woken up. The test is left out where
    /// the kernel cannot, or where nobody would wake it up.
    #[track_caller]
    pub fn sleep(self) -> Result<(), Errno> {
        let Self(into, depth) = self;
        let state = match into {
            Into::Idle => "freeze",
            Into::Ram => "mem",
            Into::Disk => "disk",
        };
        if !has_word(STATE, state) {
            skip!("{STATE} has no {state}");
        }
        if into == Into::Ram {
            if !has_word(MEM_SLEEP, "deep") {
                skip!("{MEM_SLEEP} has no deep");
            }
            write(MEM_SLEEP, "deep");
        }
        // The test VM's host presses its power button.
        if depth == Depth::Whole && (into == Into::Idle || !in_test_vm()) {
            skip!("nobody wakes this machine up");
        }

        let _awake = Awake;
        if !has_word(TEST, "none") {
            skip!("{TEST} is not there: it needs CONFIG_PM_DEBUG");
        }
        write(
            TEST,
            match depth {
                Depth::Devices => "devices",
                Depth::Platform => "platform",
                Depth::Core => "core",
                Depth::Whole => "none",
            },
        );
        // It waits for five seconds, so that somebody could see it.
        for module in ["suspend", "hibernate"] {
            write(
                &format!("/sys/module/{module}/parameters/pm_test_delay"),
                "0",
            );
        }
        fs::write(STATE, state).map_err(errno)
    }
}
