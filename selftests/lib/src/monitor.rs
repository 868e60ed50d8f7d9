// SPDX-License-Identifier: GPL-2.0-only

//! QEMU's monitor, from inside the guest; and what happens meanwhile.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::skip;

const PORT: &str = "/dev/virtio-ports/tph.monitor";
const PROMPT: &str = "(qemu) ";
const JSON_PORT: &str = "/dev/virtio-ports/tph.qmp";

/// Gives the monitor a command and returns its answer. The test is left out on a machine that has
/// no monitor.
pub fn command(line: &str) -> String {
    let Ok(mut port) = OpenOptions::new().read(true).write(true).open(PORT) else {
        skip!("\"{line}\" needs the test VM's monitor");
    };
    // Its echo and then the prompt end what is left of an earlier command, too.
    port.write_all(format!("{line}\n").as_bytes())
        .unwrap_or_else(|error| panic!("{PORT}: {error}"));
    let mut answer = String::new();
    let mut bytes = [0; 512];
    while !(answer.contains('\n') && answer.ends_with(PROMPT)) {
        let count = port
            .read(&mut bytes)
            .unwrap_or_else(|error| panic!("{PORT}: {error}"));
        answer.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    answer
}

/// Gives QEMU's other monitor, which talks JSON, a command with its arguments. The test is left out
/// on a machine that has none, and fails if QEMU does not do it.
pub fn execute(command: &str, arguments: &str) {
    let Ok(mut port) = OpenOptions::new().read(true).write(true).open(JSON_PORT) else {
        skip!("\"{command}\" needs the test VM's monitor");
    };
    // The first command ends its greeting, and is refused ever after.
    let arguments = arguments.replace('\n', " ");
    let lines = format!(
        "{{\"execute\": \"qmp_capabilities\"}}\n\
         {{\"execute\": \"{command}\", \"arguments\": {arguments}, \"id\": \"ours\"}}\n"
    );
    port.write_all(lines.as_bytes())
        .unwrap_or_else(|error| panic!("{JSON_PORT}: {error}"));
    for line in BufReader::new(port).lines() {
        let line = line.unwrap_or_else(|error| panic!("{JSON_PORT}: {error}"));
        if line.contains("\"id\": \"ours\"") {
            assert!(!line.contains("\"error\""), "{command}: {line}");
            return;
        }
    }
    panic!("{JSON_PORT}: no answer to {command}");
}

/// Does something over and over in another thread, for as long as `body` runs, which begins when it
/// was done once. What has come of `body`.
pub fn meanwhile<T>(again: impl Fn() + Sync, body: impl FnOnce() -> T) -> T {
    /// Also when a test fails: who does something meanwhile is waited for.
    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let (begun, over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        let _ends = Ends(&over);
        let other = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                again();
                begun.store(true, Ordering::Relaxed);
            }
        });
        // It has ended if it panicked.
        wait_until(|| begun.load(Ordering::Relaxed) || other.is_finished());
        body()
    })
}

/// Waits for what nobody announces, as long as the harness lets a test run.
pub fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::sleep(Duration::from_millis(1));
    }
}
