// SPDX-License-Identifier: GPL-2.0-only

//! KTAP (Documentation/dev-tools/ktap.rst), as one program of the kselftests prints it: version 1,
//! no subtests; and as the kernel's own print it (TAP 13). Read line by line, while it comes.

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `ok`
    Passed,
    /// `ok ... # SKIP`, and why.
    Skipped(String),
    /// `not ok`
    Failed,
}

/// One test that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
    /// What was printed after the test before it, on whatever lines.
    pub said: Vec<String>,
}

/// What a program has printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ktap {
    /// How many tests it wanted to run.
    pub planned: Option<usize>,
    /// Why it planned none, if it said so (`1..0 # SKIP why`).
    pub left_out: Option<String>,
    /// Those that have ended.
    pub tests: Vec<Test>,
    /// Diagnostics, and why it gave up: what is shown if it failed.
    pub diagnostics: Vec<String>,
    /// What was printed since the last test.
    said: Vec<String>,
}

impl Ktap {
    /// Takes the next line.
    pub fn take(&mut self, line: &str) {
        if let Some(planned) = plan(line) {
            self.planned = Some(planned);
        } else if let Some(why) = line.strip_prefix("1..0 # SKIP") {
            self.left_out = Some(why.trim().to_owned());
        } else if let Some((name, outcome)) = result(line) {
            if outcome == Outcome::Failed {
                self.diagnostics.push(line.to_owned());
            }
            let said = std::mem::take(&mut self.said);
            self.tests.push(Test {
                name,
                outcome,
                said,
            });
        } else if line.starts_with('#') || line.starts_with("Bail out!") {
            self.diagnostics.push(line.to_owned());
            self.said.push(line.to_owned());
        } else if !["KTAP version", "TAP version", "==> "]
            .iter()
            .any(|begin| line.starts_with(begin))
        {
            self.said.push(line.to_owned());
        }
    }

    /// What was printed since the last test.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    /// Whether the tests that ended are not those that were planned, or none was planned.
    pub fn ended_early(&self) -> bool {
        self.planned.unwrap_or(0) == 0 || self.planned != Some(self.tests.len())
    }

    /// How many tests have passed.
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    /// How many tests have failed.
    pub fn failed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Failed)
    }

    /// How many tests were left out.
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }

    fn count(&self, like: impl Fn(&Outcome) -> bool) -> usize {
        self.tests.iter().filter(|test| like(&test.outcome)).count()
    }
}

/// The number in `1..N`.
fn plan(line: &str) -> Option<usize> {
    line.strip_prefix("1..")?.trim_end().parse().ok()
}

/// The name and the outcome in `ok 1 NAME`, `ok 1 - NAME # SKIP why` or `not ok 1 NAME`.
fn result(line: &str) -> Option<(String, Outcome)> {
    let (ok, rest) = match line.strip_prefix("not ok ") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok ")?),
    };
    let (number, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    number.parse::<usize>().ok()?;
    let (name, directive) = rest.split_once(" # ").unwrap_or((rest, ""));
    let name = name.strip_prefix("- ").unwrap_or(name).trim_end();
    let outcome = match (ok, directive.strip_prefix("SKIP")) {
        (false, _) => Outcome::Failed,
        (true, Some(why)) => Outcome::Skipped(why.trim().to_owned()),
        (true, None) => Outcome::Passed,
    };
    Some((name.to_owned(), outcome))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Ktap {
        let mut ktap = Ktap::default();
        text.lines().for_each(|line| ktap.take(line));
        ktap
    }

    fn counts(ktap: &Ktap) -> (usize, usize, usize) {
        (ktap.passed(), ktap.failed(), ktap.skipped())
    }

    #[test]
    fn counts_each_outcome() {
        let ktap = read(
            "KTAP version 1\n1..4\nok 1 r1_a\n# r2_b: at line 3\nnot ok 2 r2_b\n\
             ok 3 r3_c # SKIP no device\nok 4 - r4_d\n# Totals: pass:2 fail:1\n",
        );
        assert_eq!(counts(&ktap), (2, 1, 1));
        assert!(!ktap.ended_early());
        assert_eq!(ktap.tests[1].said, ["# r2_b: at line 3"]);
        assert_eq!(ktap.tests[2].outcome, Outcome::Skipped("no device".into()));
        assert_eq!(ktap.tests[3].name, "r4_d");
        assert_eq!(
            ktap.diagnostics,
            [
                "# r2_b: at line 3",
                "not ok 2 r2_b",
                "# Totals: pass:2 fail:1"
            ]
        );
    }

    #[test]
    fn a_failure_that_says_skip_is_a_failure() {
        assert_eq!(counts(&read("1..1\nnot ok 1 r1_a # SKIP\n")), (0, 1, 0));
    }

    #[test]
    fn a_plan_must_be_kept() {
        assert!(read("").ended_early());
        assert!(read("1..0\n").ended_early());
        assert!(read("ok 1 r1_a\n").ended_early());
        assert!(read("1..2\nok 1 r1_a\n").ended_early());
        assert!(read("1..1\nok 1 r1_a\nok 2 r2_b\n").ended_early());
        assert!(!read("1..1\nok 1 r1_a\n").ended_early());
        // Wherever it stands.
        assert!(!read("ok 1 r1_a\n1..1\n").ended_early());
    }

    #[test]
    fn what_only_looks_like_a_result_is_none() {
        let ktap = read("1..1\nok then\nokay 1 x\nnot ok yet\n    ok 1 inner\nok 1 r1_a\n");
        assert_eq!(counts(&ktap), (1, 0, 0));
    }

    #[test]
    fn a_program_that_skips_all_of_itself() {
        let ktap = read("TAP version 13\n1..0 # SKIP no such device\n");
        assert_eq!(ktap.left_out.as_deref(), Some("no such device"));
        assert!(ktap.ended_early());
    }

    #[test]
    fn what_was_said_of_a_test_is_its_own() {
        let ktap = read("KTAP version 1\n1..2\nx: 3\nok 1 a\n# b\n  y: 4\nnot ok 2 b\nthe end\n");
        assert_eq!(ktap.tests[0].said, ["x: 3"]);
        assert_eq!(ktap.tests[1].said, ["# b", "  y: 4"]);
        assert_eq!(ktap.said(), ["the end"]);
    }

    #[test]
    fn why_it_gave_up_is_kept() {
        let ktap = read("1..2\nok 1 a\nBail out! b has not ended after 240s\n");
        assert_eq!(ktap.diagnostics, ["Bail out! b has not ended after 240s"]);
    }
}
