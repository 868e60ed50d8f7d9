// SPDX-License-Identifier: GPL-2.0-only

//! The results as JUnit XML, which CI systems read: a suite for each program of a session.

use std::io::{Result, Write};

use quick_xml::events::BytesText;
use quick_xml::Writer;

use crate::compared;
use crate::judge;
use crate::ktap::Outcome;
use crate::plan::Chosen;
use crate::vm::Ended;

/// One test, or what stands for a whole that failed.
struct Case {
    name: String,
    outcome: Outcome,
    said: String,
}

/// The tests of one program.
struct Suite {
    name: String,
    seconds: u64,
    cases: Vec<Case>,
}

/// The report of one run.
#[derive(Default)]
pub struct Junit(Vec<Suite>);

/// Something that is wrong and no test.
fn wrong(name: &str, said: String) -> Case {
    Case {
        name: name.to_owned(),
        outcome: Outcome::Failed,
        said,
    }
}

impl Junit {
    /// Adds a session that has ended. One that is there to fail is one test.
    pub fn add(&mut self, chosen: &Chosen, ended: &Ended, report: &judge::Report) {
        let of_session = |case| Suite {
            name: chosen.label.clone(),
            seconds: ended.runs.iter().map(|run| run.seconds).sum(),
            cases: vec![case],
        };
        if !chosen.session.must_fail.is_empty() {
            let mut case = wrong("fails_as_it_should", report.lines.join("\n"));
            if report.counts.failed == 0 {
                case.outcome = Outcome::Passed;
            }
            return self.0.push(of_session(case));
        }
        if chosen.session.compared.is_some() {
            let rows = compared::rows(chosen, &ended.runs);
            let case = |row: compared::Row| Case {
                name: row.program,
                outcome: row.outcome,
                said: row.lines.join("\n"),
            };
            self.0.push(Suite {
                name: chosen.label.clone(),
                seconds: ended.runs.iter().map(|run| run.seconds).sum(),
                cases: rows.into_iter().map(case).collect(),
            });
            return self.machine(chosen, ended);
        }
        for (program, run) in chosen.programs.iter().zip(&ended.runs) {
            let tests = run.ktap.tests.iter().map(|test| Case {
                name: test.name.clone(),
                outcome: test.outcome.clone(),
                said: test.said.join("\n"),
            });
            let whole = judge::counts(run).1.map(|why| wrong("whole_program", why));
            self.0.push(Suite {
                name: format!("{}.{}", chosen.label, program.label()),
                seconds: run.seconds,
                cases: tests.chain(whole).collect(),
            });
        }
        self.machine(chosen, ended);
    }

    /// Adds the machine itself, if it ended in a bad way.
    fn machine(&mut self, chosen: &Chosen, ended: &Ended) {
        if ended.status != 0 {
            let said = format!("status {}\n{}", ended.status, ended.errors);
            self.0.push(Suite {
                name: chosen.label.clone(),
                seconds: 0,
                cases: vec![wrong("virtual_machine", said)],
            });
        }
    }

    /// Writes the file.
    pub fn write(&self, to: impl Write) -> Result<()> {
        let mut writer = Writer::new_with_indent(to, b' ', 1);
        writer
            .create_element("testsuites")
            .write_inner_content(|writer| {
                self.0.iter().try_for_each(|suite| suite.write(writer))
            })?;
        writeln!(writer.get_mut())
    }
}

impl Suite {
    fn write<W: Write>(&self, writer: &mut Writer<W>) -> Result<()> {
        let count = |like: fn(&Outcome) -> bool| {
            self.cases
                .iter()
                .filter(|case| like(&case.outcome))
                .count()
                .to_string()
        };
        writer
            .create_element("testsuite")
            .with_attribute(("name", self.name.as_str()))
            .with_attribute(("tests", self.cases.len().to_string().as_str()))
            .with_attribute(("failures", count(|o| *o == Outcome::Failed).as_str()))
            .with_attribute((
                "skipped",
                count(|o| matches!(o, Outcome::Skipped(_))).as_str(),
            ))
            .with_attribute(("time", self.seconds.to_string().as_str()))
            .write_inner_content(|writer| {
                self.cases
                    .iter()
                    .try_for_each(|case| case.write(writer, &self.name))
            })?;
        Ok(())
    }
}

impl Case {
    fn write<W: Write>(&self, writer: &mut Writer<W>, suite: &str) -> Result<()> {
        let element = writer
            .create_element("testcase")
            .with_attribute(("name", self.name.as_str()))
            .with_attribute(("classname", suite));
        match &self.outcome {
            Outcome::Passed => element.write_empty()?,
            Outcome::Skipped(why) => element.write_inner_content(|writer| {
                let skipped = writer.create_element("skipped");
                skipped
                    .with_attribute(("message", why.as_str()))
                    .write_empty()?;
                Ok(())
            })?,
            Outcome::Failed => element.write_inner_content(|writer| {
                let said: String = self.said.chars().filter(is_xml).collect();
                let failure = writer.create_element("failure");
                failure.write_text_content(BytesText::new(&said))?;
                Ok(())
            })?,
        };
        Ok(())
    }
}

/// Whether a character may stand in XML at all. A console has others.
fn is_xml(c: &char) -> bool {
    !c.is_control() || matches!(c, '\t' | '\n' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_and_what_xml_does_not_take() {
        let case = |name: &str, outcome, said: &str| Case {
            name: name.into(),
            outcome,
            said: said.into(),
        };
        let junit = Junit(vec![Suite {
            name: "life.table".into(),
            seconds: 7,
            cases: vec![
                case("r1_a", Outcome::Passed, ""),
                case("r2_b", Outcome::Skipped("no \"x\"".into()), ""),
                case("r3_c", Outcome::Failed, "left: <1>\u{1b}[0m & right"),
            ],
        }]);
        let mut text = Vec::new();
        junit.write(&mut text).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"<testsuites>
 <testsuite name="life.table" tests="3" failures="1" skipped="1" time="7">
  <testcase name="r1_a" classname="life.table"/>
  <testcase name="r2_b" classname="life.table">
   <skipped message="no &quot;x&quot;"/>
  </testcase>
  <testcase name="r3_c" classname="life.table">
   <failure>left: &lt;1&gt;[0m &amp; right</failure>
  </testcase>
 </testsuite>
</testsuites>
"#
        );
    }
}
