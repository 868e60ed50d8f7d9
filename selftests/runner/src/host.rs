// SPDX-License-Identifier: GPL-2.0-only

//! What is tested without a machine: the rules, the protocol, the endpoint and this runner; and
//! that the module builds for a kernel that has little.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::built::{self, logged, say};
use crate::judge::Counts;

/// Passed and failed, as cargo counts them: `test result: ok. 3 passed; 0 failed; ...`.
fn cargo_counts(log: &str) -> Counts {
    let mut counts = Counts::default();
    for line in log
        .lines()
        .filter_map(|line| line.strip_prefix("test result: "))
    {
        let words: Vec<_> = line.split_whitespace().collect();
        for pair in words.windows(2) {
            let number = pair[0].parse().unwrap_or(0);
            match pair[1] {
                "passed;" => counts.passed += number,
                "failed;" => counts.failed += number,
                _ => (),
            }
        }
    }
    counts
}

/// The tests of the host.
pub fn tests(top: &Path, kernel: &str) -> Result<Counts> {
    let source = built::headers(top, kernel)?;
    say("HOST", "rules, protocol, endpoint and runner");
    let mut make = Command::new("make");
    make.args(["-C", "selftests", "host_test"])
        .env("TPH_KERNEL_SRC", source);
    let (good, log) = logged(top, "host-test.log", &mut make)?;
    let mut counts = cargo_counts(&String::from_utf8_lossy(&fs::read(&log)?));
    if counts.passed == 0 || !good && counts.failed == 0 {
        println!("host tests ended early, see {}", log.display());
        counts.failed += 1;
    }
    show("host", &counts);
    Ok(counts)
}

/// R70 (and R62): the module builds for a kernel without PCI/TPH and dma-bufs.
pub fn module_for_bare(top: &Path) -> Counts {
    let good = built::kernel(top, "bare")
        .and_then(|_| built::module(top, "bare"))
        .is_ok();
    let counts = Counts {
        passed: usize::from(good),
        failed: usize::from(!good),
        skipped: 0,
    };
    show("r70 module for bare", &counts);
    counts
}

fn show(what: &str, counts: &Counts) {
    println!(
        "{what:<29} {:3} passed {:3} failed",
        counts.passed, counts.failed
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_counts() {
        let log = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 1 ignored; 0 measured\n\
                   test result: FAILED. 4 passed; 2 failed; 0 ignored\nresult: 9 passed;\n";
        let counts = cargo_counts(log);
        assert_eq!((counts.passed, counts.failed), (7, 2));
    }
}
