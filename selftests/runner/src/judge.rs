// SPDX-License-Identifier: GPL-2.0-only

//! What a session has come to: counts, what is shown of it, and how what failed is run again.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::compared;
use crate::ktap::Outcome;
use crate::plan::{Chosen, Program};
use crate::session::LEAN;
use crate::vm::{Ended, Run};

/// The three numbers of the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed, programs and machines that ended early.
    pub failed: usize,
    /// Tests that were left out.
    pub skipped: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Counts {
    /// The last line.
    pub fn line(&self) -> String {
        let skipped = match self.skipped {
            0 => String::new(),
            number => format!(", {number} skipped"),
        };
        format!("{} passed, {} failed{skipped}", self.passed, self.failed)
    }

    /// Whether that is a success: nothing failed, and something ran.
    pub fn good(&self) -> bool {
        self.failed == 0 && self.passed != 0
    }
}

/// What is said of a session or of one program.
#[derive(Debug, Default)]
pub struct Report {
    /// What it adds to the sum.
    pub counts: Counts,
    /// Lines to print.
    pub lines: Vec<String>,
    /// Those of them that say what failed and how it is run again, for the end of a run.
    pub failures: Vec<String>,
}

impl Report {
    /// One that consists of these lines.
    pub fn new(counts: Counts, lines: Vec<String>) -> Self {
        let failures = match counts.failed {
            0 => Vec::new(),
            _ => lines.clone(),
        };
        Self {
            counts,
            lines,
            failures,
        }
    }

    /// Adds lines about what failed.
    fn failed(&mut self, lines: impl IntoIterator<Item = String>) {
        let start = self.lines.len();
        self.lines.extend(lines);
        self.failures.extend_from_slice(&self.lines[start..]);
    }
}

/// The counts of a program, and what is wrong with it as a whole.
pub fn counts(run: &Run) -> (Counts, Option<String>) {
    let ktap = &run.ktap;
    let mut counts = Counts {
        passed: ktap.passed(),
        failed: ktap.failed(),
        skipped: ktap.skipped(),
    };
    let status = run
        .status
        .map_or("none".to_owned(), |status| status.to_string());
    let wrong = if ktap.ended_early() {
        counts.failed += 1;
        Some("ended early".to_owned())
    } else if counts.failed != 0 {
        None
    } else if run.status != Some(0) {
        counts.failed = 1;
        Some(format!("status {status}"))
    } else if counts.passed == 0 {
        // The sessions are made for their programs.
        counts.failed = 1;
        Some("nothing but skips".to_owned())
    } else {
        None
    };
    (counts, wrong)
}

/// Judges one program.
fn program(session: &str, program: &Program, run: &Run) -> Report {
    let (counts, wrong) = counts(run);
    let result = match (&wrong, counts.failed) {
        (Some(why), _) => format!("FAILED: {why}"),
        (None, 0) => "ok".to_owned(),
        (None, _) => "FAILED".to_owned(),
    };
    let mut lines = vec![format!(
        "{session:<10} {:<18} {:3} passed {:3} failed {:3} skipped {:4} s  {result}",
        short(program),
        counts.passed,
        counts.failed,
        counts.skipped,
        run.seconds,
    )];
    if counts.failed != 0 {
        lines.extend(
            run.ktap
                .diagnostics
                .iter()
                .map(|line| format!("    {line}")),
        );
    }
    // Why a test was left out, once for each reason.
    let mut reasons = BTreeMap::new();
    for test in &run.ktap.tests {
        if let Outcome::Skipped(why) = &test.outcome {
            *reasons.entry(why).or_insert(0) += 1;
        }
    }
    lines.extend(
        reasons
            .iter()
            .map(|(why, number)| format!("    {number} skipped: {why}")),
    );
    Report::new(counts, lines)
}

/// A program in a line of a table: of many tests only the first one.
fn short(program: &Program) -> String {
    match program.arguments.len() {
        0 | 1 => program.label(),
        more => format!("{}:{},+{}", program.name, program.arguments[0], more - 1),
    }
}

/// The tests and programs that have failed.
fn failed(chosen: &Chosen, ended: &Ended) -> Vec<String> {
    let mut names = Vec::new();
    for (program, run) in chosen.programs.iter().zip(&ended.runs) {
        let (counts, wrong) = counts(run);
        let tests = run
            .ktap
            .tests
            .iter()
            .filter(|test| test.outcome == Outcome::Failed);
        if chosen.session.has_tests() {
            names.extend(tests.map(|test| test.name.clone()));
        }
        if counts.failed != 0 && (wrong.is_some() || !chosen.session.has_tests()) {
            names.push(program.name.clone());
        }
    }
    names
}

/// The commands that run again what has failed.
fn again(chosen: &Chosen, names: &[String]) -> Vec<String> {
    let session = chosen.session.name;
    let kernel = match chosen.session.kernel.is_none() && chosen.kernel != LEAN {
        true => format!("--kernel {} ", chosen.kernel),
        false => String::new(),
    };
    // What is drawn by lot is drawn again.
    let mut arguments = chosen.programs.iter().flat_map(|one| &one.arguments);
    let drawn = match arguments.find_map(|one| one.strip_prefix("--seed=")) {
        Some(seed) => format!("--seed {seed} "),
        None => String::new(),
    };
    let places = match names.is_empty() {
        true => vec![session.to_owned()],
        false => names
            .iter()
            .map(|name| format!("{session}/{name}"))
            .collect(),
    };
    places
        .iter()
        .map(|place| format!("    again: selftests/test {kernel}{drawn}{place}"))
        .collect()
}

/// Judges all programs of a session, one by one.
fn programs(chosen: &Chosen, ended: &Ended) -> Report {
    let mut report = Report::default();
    for (one, run) in chosen.programs.iter().zip(&ended.runs) {
        let of_program = program(&chosen.label, one, run);
        report.counts += of_program.counts;
        report.lines.extend(of_program.lines);
        report.failures.extend(of_program.failures);
    }
    report
}

/// Judges a session that has ended; `logs` is where those of the machine are.
pub fn session(chosen: &Chosen, ended: &Ended, logs: &str) -> Report {
    let (mut report, failed) = match chosen.session.compared {
        Some(_) => {
            let rows = compared::rows(chosen, &ended.runs);
            let failed = rows.iter().filter(|row| row.outcome == Outcome::Failed);
            let names = failed.map(|row| row.program.clone()).collect();
            (compared::report(chosen, &rows), names)
        }
        None => (programs(chosen, ended), failed(chosen, ended)),
    };
    if let Some(less) = &chosen.less {
        let kernel = &chosen.kernel;
        report
            .lines
            .push(format!("    1 skipped: {kernel} does less of {less}"));
        report.counts.skipped += 1;
    }
    if ended.status != 0 {
        let (label, status) = (&chosen.label, ended.status);
        report.counts.failed += 1;
        report.failed([format!(
            "{label}: the virtual machine ended with status {status}"
        )]);
        report.failed(ended.errors.lines().map(|line| format!("    {line}")));
        report.failed([format!("    logs of kernel, QEMU and endpoint: {logs}")]);
    }
    if !chosen.session.must_fail.is_empty() {
        return as_it_should(chosen, &report);
    }
    if report.counts.failed != 0 {
        report.failed(again(chosen, &failed));
    }
    report
}

/// Judges the report of a session that is there to fail.
fn as_it_should(chosen: &Chosen, report: &Report) -> Report {
    let one_space = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: Vec<String> = report.lines.iter().map(one_space).collect();
    let is_said = |what: &str| said.iter().any(|line| line.contains(what));
    let expected = chosen.session.must_fail;
    let missing: Vec<_> = expected.iter().filter(|what| !is_said(what)).collect();
    let mut counts = Counts::default();
    let label = &chosen.label;
    let mut lines = Vec::new();
    if report.counts.failed != 0 && missing.is_empty() {
        counts.passed = 1;
        lines.push(format!(
            "{label:<29} fails as it should: {}",
            expected.join("; ")
        ));
    } else {
        counts.failed = 1;
        lines.push(format!("{label:<29} FAILED: nobody said: {missing:?}"));
        lines.extend(report.lines.iter().map(|line| format!("  | {line}")));
    }
    Report::new(counts, lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{Session, DEFAULT};

    const SESSION: Session = Session {
        name: "life",
        programs: &["table", "dropin:r66"],
        ..DEFAULT
    };
    const WRONG: Session = Session {
        name: "wrong",
        must_fail: &["dropin:r66 1 passed 1 failed", "ended early"],
        ..SESSION
    };

    fn chosen(session: &'static Session, kernel: &str) -> Chosen {
        Chosen {
            session,
            label: session.name.to_owned(),
            kernel: kernel.to_owned(),
            programs: session
                .programs
                .iter()
                .map(|text| Program::parse(text))
                .collect(),
            less: None,
        }
    }

    fn run(text: &str, status: Option<i32>) -> Run {
        let mut run = Run {
            text: text.to_owned(),
            status,
            seconds: 7,
            ..Run::default()
        };
        text.lines().for_each(|line| run.ktap.take(line));
        run
    }

    fn ended(runs: Vec<Run>, status: i32) -> Ended {
        Ended {
            runs,
            status,
            errors: "error: the guest died\n".to_owned(),
        }
    }

    fn result(text: &str, status: Option<i32>) -> (Counts, Option<String>) {
        counts(&run(text, status))
    }

    fn numbers(passed: usize, failed: usize, skipped: usize) -> Counts {
        Counts {
            passed,
            failed,
            skipped,
        }
    }

    #[test]
    fn a_program_passes_only_whole() {
        let some = |why: &str| Some(why.to_owned());
        assert_eq!(result("1..1\nok 1 a\n", Some(0)), (numbers(1, 0, 0), None));
        assert_eq!(
            result("1..2\nok 1 a\n", Some(0)),
            (numbers(1, 1, 0), some("ended early"))
        );
        assert_eq!(
            result("1..2\nok 1 a\nnot ok 2 b\n", Some(1)),
            (numbers(1, 1, 0), None)
        );
        assert_eq!(
            result("1..1\nok 1 a\n", Some(3)),
            (numbers(1, 1, 0), some("status 3"))
        );
        assert_eq!(
            result("1..1\nok 1 a\n", None),
            (numbers(1, 1, 0), some("status none"))
        );
        assert_eq!(
            result("1..1\nok 1 a # SKIP no device\n", Some(0)),
            (numbers(0, 1, 1), some("nothing but skips"))
        );
    }

    #[test]
    fn what_failed_is_shown_and_can_be_run_again() {
        let runs = vec![
            run("1..1\n# a: at line 3\nnot ok 1 a\n", Some(1)),
            run("1..2\nok 1 b\n", None),
        ];
        let report = session(&chosen(&SESSION, "debug"), &ended(runs, 125), "the logs");
        assert_eq!(report.counts, numbers(1, 3, 0));
        assert_eq!(
            report.lines,
            [
                "life       table                0 passed   1 failed   0 skipped    7 s  FAILED",
                "    # a: at line 3",
                "    not ok 1 a",
                "life       dropin:r66           1 passed   1 failed   0 skipped    7 s  \
                 FAILED: ended early",
                "life: the virtual machine ended with status 125",
                "    error: the guest died",
                "    logs of kernel, QEMU and endpoint: the logs",
                "    again: selftests/test --kernel debug life/a",
                "    again: selftests/test --kernel debug life/dropin",
            ]
        );
    }

    #[test]
    fn at_the_end_of_a_run_only_what_failed() {
        let passes = run("1..2\nok 1 a\nok 2 b # SKIP x\n", Some(0));
        let fails = run("1..1\nnot ok 1 c\n", Some(1));
        let report = session(&chosen(&SESSION, LEAN), &ended(vec![passes, fails], 0), "");
        assert_eq!(
            report.failures,
            [
                "life       dropin:r66           0 passed   1 failed   0 skipped    7 s  FAILED",
                "    not ok 1 c",
                "    again: selftests/test life/c",
            ]
        );
        let passes = run("1..1\nok 1 a\n", Some(0));
        let report = session(&chosen(&SESSION, LEAN), &ended(vec![passes], 0), "");
        assert_eq!(report.failures, [""; 0]);
        // What was left out is the reason then.
        let skips = run("1..1\nok 1 a # SKIP no device\n", Some(0));
        let report = session(&chosen(&SESSION, LEAN), &ended(vec![skips], 0), "");
        assert_eq!(report.failures, report.lines);
        assert!(report.failures[1].contains("1 skipped: no device"));
    }

    #[test]
    fn what_was_drawn_by_lot_is_drawn_again() {
        const DRAWN: Session = Session {
            name: "drawn",
            programs: &["differential:--operations=9 --seed=7"],
            ..DEFAULT
        };
        let runs = vec![run("1..1\nnot ok 1 a\n", Some(1))];
        let report = session(&chosen(&DRAWN, LEAN), &ended(runs, 0), "");
        let last = report.lines.last().map(String::as_str);
        assert_eq!(last, Some("    again: selftests/test --seed 7 drawn/a"));
    }

    #[test]
    fn reasons_for_skips_once_each() {
        let text = "1..4\nok 1 a\nok 2 b # SKIP x\nok 3 c # SKIP y\nok 4 d # SKIP x\n";
        let report = session(
            &Chosen {
                less: Some("cost: for time".to_owned()),
                ..chosen(&SESSION, "debug")
            },
            &ended(vec![run(text, Some(0))], 0),
            "",
        );
        assert_eq!(report.counts, numbers(1, 0, 4));
        assert_eq!(
            report.lines[1..],
            [
                "    2 skipped: x",
                "    1 skipped: y",
                "    1 skipped: debug does less of cost: for time"
            ]
        );
    }

    #[test]
    fn a_session_that_is_there_to_fail() {
        let counts = |second: &str, status| {
            let runs = vec![run("1..1\nok 1 a\n", Some(0)), run(second, status)];
            session(&chosen(&WRONG, LEAN), &ended(runs, 0), "").counts
        };
        assert_eq!(counts("1..2\nok 1 b\n", None), numbers(1, 0, 0));
        // It failed in another way, or not at all.
        assert_eq!(counts("1..1\nok 1 b\n", Some(1)), numbers(0, 1, 0));
        assert_eq!(counts("1..1\nok 1 b\n", Some(0)), numbers(0, 1, 0));
    }

    #[test]
    fn the_last_line() {
        assert_eq!(numbers(3, 0, 0).line(), "3 passed, 0 failed");
        assert_eq!(numbers(3, 1, 2).line(), "3 passed, 1 failed, 2 skipped");
        assert!(numbers(1, 0, 5).good());
        assert!(!numbers(0, 0, 5).good() && !numbers(9, 1, 0).good());
    }
}
