// SPDX-License-Identifier: GPL-2.0-only

//! What is tested without a machine: the rules, the protocol, the endpoint and this runner; and
//! that the module builds for a kernel that has little.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::built::{self, logged, say};
use crate::judge::{Counts, Report};

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

/// The names of the tests that failed: `---- rules::tests::r1 stdout ----`.
fn cargo_failures(log: &str) -> Vec<String> {
    let name = |line: &str| {
        Some(
            line.strip_prefix("---- ")?
                .strip_suffix(" stdout ----")?
                .into(),
        )
    };
    log.lines().filter_map(name).collect()
}

/// The tests of the host.
pub fn tests(top: &Path, kernel: &str) -> Result<Report> {
    let source = built::headers(top, kernel)?;
    say("HOST", "rules, protocol, endpoint and runner");
    let mut make = Command::new("make");
    make.args(["-C", "selftests", "host_test"])
        .env("TPH_KERNEL_SRC", source);
    let (good, log) = logged(top, "host-test.log", &mut make)?;
    let said = fs::read(&log)?;
    let said = String::from_utf8_lossy(&said);
    let mut counts = cargo_counts(&said);
    let mut more = cargo_failures(&said);
    if counts.passed == 0 || !good && counts.failed == 0 {
        more.push("host tests ended early".to_owned());
        counts.failed += 1;
    }
    if counts.failed != 0 {
        more.push(format!("see {}", log.display()));
    }
    Ok(show("host", counts, more))
}

/// R70 (and R62): the module builds for a kernel without PCI/TPH and dma-bufs.
pub fn module_for_bare(top: &Path) -> Report {
    let good = built::kernel(top, "bare")
        .and_then(|_| built::module(top, "bare"))
        .is_ok();
    let counts = Counts {
        passed: usize::from(good),
        failed: usize::from(!good),
        skipped: 0,
    };
    show("r70 module for bare", counts, Vec::new())
}

/// Prints it.
fn show(what: &str, counts: Counts, more: Vec<String>) -> Report {
    let (passed, failed) = (counts.passed, counts.failed);
    let mut lines = vec![format!("{what:<29} {passed:3} passed {failed:3} failed")];
    lines.extend(more.iter().map(|line| format!("    {line}")));
    lines.iter().for_each(|line| println!("{line}"));
    Report::new(counts, lines)
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
        let log = "failures:\n\n---- chain::r25_loop stdout ----\npanicked\n\nfailures:\n  r25\n";
        assert_eq!(cargo_failures(log), ["chain::r25_loop"]);
    }

    #[test]
    fn what_failed_is_said_at_the_end_too() {
        let failed = Counts {
            failed: 1,
            ..Counts::default()
        };
        let report = show("host", failed, vec!["r1".to_owned()]);
        assert_eq!(report.failures, report.lines);
        assert_eq!(
            show("host", Counts::default(), Vec::new()).failures,
            [""; 0]
        );
    }
}
