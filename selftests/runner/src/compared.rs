// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's own selftests of vfio (R65): each test has to end alike under vfio-pci and under
//! vfio_tph. A program is a row: equal or not, with what differs and why something did not pass.

use std::collections::BTreeMap;

use crate::judge::{Counts, Report};
use crate::ktap::Outcome;
use crate::plan::Chosen;
use crate::vm::Run;

/// In the order in which `guest/parity` takes them.
pub const DRIVERS: [&str; 2] = ["vfio-pci", "vfio_tph"];

/// The program that is ours, about what vfio-pci does not have.
const ABOUT_TPH: &str = "vfio_pci_tph_test";

/// The status of a program of the kernel's that skips all of itself.
const SKIPS: i32 = 4;

/// Whether a program came to an end of its own: alike is not enough.
fn ended(run: &Run) -> bool {
    matches!(run.status, Some(0 | 1 | SKIPS))
}

/// What became of a test, or of a program that says more than its tests.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    name: String,
    outcome: Outcome,
    /// What was said last before it failed.
    why: String,
}

impl Verdict {
    /// "VERDICT NAME[: REASON]". What it failed of may have an address in it, and is left out; why
    /// it was skipped has none.
    fn line(&self) -> String {
        match &self.outcome {
            Outcome::Passed => format!("pass {}", self.name),
            Outcome::Failed => format!("fail {}", self.name),
            Outcome::Skipped(why) => format!("skip {}: {why}", self.name),
        }
    }
}

/// The line that tells most: the last one that is no frame of the test harness.
fn last(said: &[String]) -> String {
    let frames = [
        " RUN ",
        " OK ",
        " FAIL ",
        ": Test failed",
        "FAILED:",
        "PASSED:",
    ];
    let words = |line: &str| line.trim_start_matches(['#', ' ']).trim_end().to_owned();
    let is_frame = |line: &str| {
        line.strip_prefix('#')
            .is_some_and(|rest| frames.iter().any(|frame| rest.contains(frame)))
    };
    said.iter()
        .rev()
        .filter(|line| !is_frame(line))
        .map(|line| words(line))
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

/// What a program came to under one driver.
fn verdicts(program: &str, run: &Run) -> Vec<Verdict> {
    let ktap = &run.ktap;
    let mut verdicts: Vec<Verdict> = ktap
        .tests
        .iter()
        .map(|test| Verdict {
            name: test.name.clone(),
            outcome: test.outcome.clone(),
            why: last(&test.said),
        })
        .collect();
    let said = last(ktap.said());
    let nothing_ran = verdicts.is_empty();
    let whole = if nothing_ran && run.status == Some(SKIPS) {
        let why = ktap.left_out.clone().unwrap_or(said);
        Some((Outcome::Skipped(why), String::new()))
    } else if ktap.ended_early() || !matches!(run.status, Some(0 | 1)) {
        let status = run.status.map_or("none".to_owned(), |one| one.to_string());
        Some((
            Outcome::Failed,
            format!("ended with status {status}: {said}"),
        ))
    } else {
        None
    };
    verdicts.extend(whole.map(|(outcome, why)| Verdict {
        name: program.to_owned(),
        outcome,
        why,
    }));
    verdicts
}

/// Passed, failed, skipped.
fn counts(verdicts: &[Verdict]) -> Counts {
    let mut counts = Counts::default();
    for verdict in verdicts {
        match verdict.outcome {
            Outcome::Passed => counts.passed += 1,
            Outcome::Failed => counts.failed += 1,
            Outcome::Skipped(_) => counts.skipped += 1,
        }
    }
    counts
}

/// A program under both drivers.
pub struct Row {
    /// Its name.
    pub program: String,
    /// Passed if all of it is equal and a test ran, skipped if none ran under either.
    pub outcome: Outcome,
    /// What is printed of it.
    pub lines: Vec<String>,
}

/// Compares a program's two runs. `has_table`: the device has an ST table, in one of its two
/// places.
fn row(program: &str, has_table: bool, stock: &Run, ours: &Run) -> Row {
    let ended = ended(stock) && ended(ours);
    let both = [stock, ours].map(|run| verdicts(program, run));
    let [stock, ours] = [0, 1].map(|one: usize| counts(&both[one]));
    let mut differences = Vec::new();
    let equal = if program == ABOUT_TPH {
        // Of each test there is one for each place. If all of it is skipped under vfio_tph, too,
        // the device has no TPH.
        stock.passed + stock.failed + ours.failed == 0
            && (!has_table || ours.passed == ours.skipped)
    } else {
        differences = differing(&both);
        differences.is_empty() && ended
    };
    let mut lines = vec![format!(
        "{program:<31} {:4} {:4} {:4}   {:4} {:4} {:4}   {}",
        stock.passed,
        stock.failed,
        stock.skipped,
        ours.passed,
        ours.failed,
        ours.skipped,
        if equal { "yes" } else { "NO" },
    )];
    lines.extend(differences);
    lines.extend(reasons(&both));
    let ran = stock.passed + stock.failed + ours.passed + ours.failed;
    let outcome = match (equal, ran) {
        (false, _) => Outcome::Failed,
        (true, 0) => Outcome::Skipped("no test ran under either driver".to_owned()),
        (true, _) => Outcome::Passed,
    };
    Row {
        program: program.to_owned(),
        outcome,
        lines,
    }
}

/// What one driver's verdicts have that the other's have not.
fn differing(both: &[Vec<Verdict>; 2]) -> Vec<String> {
    let lines = [0, 1].map(|one: usize| both[one].iter().map(Verdict::line).collect::<Vec<_>>());
    let mut found = Vec::new();
    for (one, driver) in DRIVERS.iter().enumerate() {
        let missing = lines[one]
            .iter()
            .filter(|line| !lines[1 - one].contains(line));
        found.extend(missing.map(|line| format!("    | {driver}: {line}")));
    }
    if found.is_empty() && lines[0] != lines[1] {
        found.push("    | the same tests, in another order".to_owned());
    }
    found
}

/// Why something did not pass: a reason that many tests share once, with their number.
fn reasons(both: &[Vec<Verdict>; 2]) -> Vec<String> {
    let mut tests: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for verdict in both.iter().flatten() {
        let key = match &verdict.outcome {
            Outcome::Passed => continue,
            Outcome::Failed => ("fail", verdict.why.as_str()),
            Outcome::Skipped(why) => ("skip", why.as_str()),
        };
        let names = tests.entry(key).or_default();
        if !names.contains(&verdict.name.as_str()) {
            names.push(&verdict.name);
        }
    }
    let line = |((kind, why), names): (&(&str, &str), &Vec<&str>)| match names.len() {
        1 => format!("    {kind}: {why}: {}", names[0]),
        number => format!("    {kind}: {why}: {} and {} more", names[0], number - 1),
    };
    tests.iter().map(line).collect()
}

/// All rows of a session that has ended.
pub fn rows(chosen: &Chosen, runs: &[Run]) -> Vec<Row> {
    let (stock, ours) = runs.split_at(chosen.programs.len());
    let pairs = stock.iter().zip(ours);
    let programs = chosen.programs.iter().zip(pairs);
    // Those that are emulated have one.
    let has_table = !chosen.session.devices.is_empty();
    programs
        .map(|(program, (stock, ours))| row(&program.name, has_table, stock, ours))
        .collect()
}

/// What is said of them, and what they add to the sum.
pub fn report(chosen: &Chosen, rows: &[Row]) -> Report {
    let [stock, ours] = DRIVERS;
    let mut report = Report::default();
    report.lines.extend([
        format!("{:<31} {stock:>14}   {ours:>14}", chosen.label),
        format!(
            "{:<31} {:>4} {:>4} {:>4}   {:>4} {:>4} {:>4}   equal?",
            "program", "pass", "fail", "skip", "pass", "fail", "skip"
        ),
    ]);
    for row in rows {
        report.lines.extend(row.lines.iter().cloned());
        match row.outcome {
            Outcome::Passed => report.counts.passed += 1,
            Outcome::Failed => report.counts.failed += 1,
            Outcome::Skipped(_) => report.counts.skipped += 1,
        }
    }
    Report::new(report.counts, report.lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, status: i32) -> Run {
        let mut run = Run {
            status: Some(status),
            ..Run::default()
        };
        text.lines().for_each(|line| run.ktap.take(line));
        run
    }

    const PASSES: &str = "TAP version 13\n1..2\n#  RUN           a ...\n#            OK  a\n\
                          ok 1 a\nok 2 b # SKIP no device\n";

    /// "OUTCOME LINE..." of a row.
    fn compare(program: &str, stock: &Run, ours: &Run) -> (Outcome, Vec<String>) {
        let Row { outcome, lines, .. } = row(program, false, stock, ours);
        (outcome, lines)
    }

    #[test]
    fn alike() {
        let (outcome, lines) = compare("vfio_x_test", &run(PASSES, 0), &run(PASSES, 0));
        assert_eq!(outcome, Outcome::Passed);
        assert_eq!(
            lines,
            [
                "vfio_x_test                        1    0    1      1    0    1   yes",
                "    skip: no device: b"
            ]
        );
    }

    #[test]
    fn a_failure_of_both_is_alike_whatever_it_says() {
        let fails = |why: &str| {
            let frame = "# a: Test failed\n#          FAIL  a";
            run(&format!("1..1\n  {why}\n\n{frame}\nnot ok 1 a\n"), 1)
        };
        let (outcome, lines) = compare("vfio_x_test", &fails("at 7f01"), &fails("at 7f02"));
        assert_eq!(outcome, Outcome::Passed);
        assert_eq!(lines[1..], ["    fail: at 7f01: a", "    fail: at 7f02: a"]);
    }

    #[test]
    fn not_alike() {
        let skips = PASSES.replace("no device", "another reason");
        let fails = PASSES.replace("ok 1 a", "not ok 1 a");
        let fewer = "1..1\nok 1 a\n";
        let unkept = PASSES.replace("1..2", "1..3");
        let order = "1..2\nok 1 b # SKIP no device\nok 2 a\n";
        for (other, status) in [
            (skips.as_str(), 0),
            (&fails, 1),
            (fewer, 0),
            (&unkept, 0),
            (order, 0),
            ("1..2\nok 1 a\n", 0),
            (PASSES, 139),
            ("", 1),
        ] {
            for turned in [false, true] {
                let (one, two) = (run(PASSES, 0), run(other, status));
                let (stock, ours) = if turned { (two, one) } else { (one, two) };
                let (outcome, lines) = compare("vfio_x_test", &stock, &ours);
                assert_eq!(outcome, Outcome::Failed, "{other} {status}");
                assert!(lines[0].ends_with("NO") && lines[1].starts_with("    | "));
            }
        }
    }

    #[test]
    fn nothing_ran() {
        let skips = |said: &str| run(said, SKIPS);
        let (outcome, lines) = compare(
            "vfio_x_test",
            &skips("1..0 # SKIP no driver\n"),
            &skips("no driver\n"),
        );
        assert!(matches!(outcome, Outcome::Skipped(_)));
        assert_eq!(lines[1..], ["    skip: no driver: vfio_x_test"]);
        let never = Run::default();
        let (outcome, lines) = compare("vfio_x_test", &skips("1..0 # SKIP x\n"), &never);
        assert_eq!(outcome, Outcome::Failed);
        assert!(lines.contains(&"    fail: ended with status none: : vfio_x_test".to_owned()));
        for same in [Run::default(), run("", 127), run(PASSES, 139)] {
            assert_eq!(
                row("vfio_x_test", false, &same, &same).outcome,
                Outcome::Failed
            );
        }
    }

    #[test]
    fn what_vfio_pci_does_not_have() {
        let skips = || run("1..1\nok 1 a # SKIP no TPH\n", 0);
        let outcome = |stock: &Run, ours: &Run| row(ABOUT_TPH, false, stock, ours).outcome;
        let passes = run("1..1\nok 1 a\n", 0);
        let fails = run("1..1\nnot ok 1 a\n", 1);
        assert_eq!(outcome(&skips(), &passes), Outcome::Passed);
        assert!(matches!(outcome(&skips(), &skips()), Outcome::Skipped(_)));
        assert_eq!(outcome(&skips(), &fails), Outcome::Failed);
        assert_eq!(outcome(&passes, &passes), Outcome::Failed);
    }

    #[test]
    fn half_of_the_tests_of_a_table() {
        let (skip, pass) = ("ok 1 a # SKIP\n", "ok 2 b\n");
        for (tests, outcome) in [
            (format!("1..2\n{skip}{pass}"), Outcome::Passed),
            (format!("1..1\n{skip}"), Outcome::Failed),
            (
                format!("1..3\n{skip}{pass}ok 3 c # SKIP\n"),
                Outcome::Failed,
            ),
        ] {
            let (stock, ours) = (run(&format!("1..1\n{skip}"), 0), run(&tests, 0));
            assert_eq!(row(ABOUT_TPH, true, &stock, &ours).outcome, outcome);
        }
    }

    #[test]
    fn a_reason_that_many_share_once() {
        let many = "1..3\nok 1 a # SKIP x\nok 2 b # SKIP x\nok 3 c # SKIP x\n";
        let (_, lines) = compare("vfio_x_test", &run(many, 0), &run(many, 0));
        assert_eq!(lines[1..], ["    skip: x: a and 2 more"]);
    }
}
