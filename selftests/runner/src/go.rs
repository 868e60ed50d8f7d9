// SPDX-License-Identifier: GPL-2.0-only

//! Runs what was planned: starts machines while there is room, and judges each that has ended.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use signal_hook::consts::SIGTERM;

use crate::command::{self, Built, Setting};
use crate::judge::{self, Counts};
use crate::junit::Junit;
use crate::plan::Chosen;
use crate::progress::Progress;
use crate::schedule::{order, Room};
use crate::session::Session;
use crate::stop::Stop;
use crate::vm::{self, Ended};

/// What a thread that looks after a machine has to say.
enum Event {
    Tells(String),
    Ended(Result<(Ended, Option<String>)>),
}

/// What all sessions have come to.
#[derive(Default)]
pub struct Results {
    /// The numbers of the last line.
    pub counts: Counts,
    /// What is to be said above it.
    pub notes: Vec<String>,
    /// What was said of the sessions that failed, once more: in a long run it is far above.
    pub failures: Vec<String>,
    junit: Junit,
}

/// One run of all that was chosen.
pub struct Go<'a> {
    /// Where things are.
    pub setting: &'a Setting,
    /// What is built, by kernel.
    pub built: &'a HashMap<String, Built>,
    /// What there is room for.
    pub room: Room,
    /// Whether the logs of machines that ended well are kept.
    pub keep: bool,
    /// The end by a signal.
    pub stop: &'a Stop,
}

impl Go<'_> {
    /// Runs the sessions.
    pub fn run(&self, chosen: &[Chosen]) -> Result<Results> {
        let mut waiting: Vec<usize> = (0..chosen.len()).collect();
        waiting.sort_by_key(|&place| order(chosen[place].session));
        let mut running: Vec<usize> = Vec::new();
        let mut results = Results::default();
        let mut failure = None;
        let mut progress = Progress::new(chosen.len());
        let sessions = |places: &[usize]| -> Vec<&Session> {
            places.iter().map(|&place| chosen[place].session).collect()
        };
        let (sender, receiver) = mpsc::channel();
        thread::scope(|scope| loop {
            while self.stop.signal().is_none() {
                let next = self.room.next(&sessions(&waiting), &sessions(&running));
                let Some(next) = next else { break };
                let place = waiting.remove(next);
                running.push(place);
                progress.start(place, &chosen[place].label);
                let sender = sender.clone();
                scope.spawn(move || {
                    let tell = |what| drop(sender.send((place, Event::Tells(what))));
                    let ended = self.boot(&chosen[place], tell);
                    drop(sender.send((place, Event::Ended(ended))));
                });
            }
            if running.is_empty() {
                return;
            }
            match receiver.recv().expect("this thread has a sender, too") {
                (place, Event::Tells(what)) => progress.tell(place, what),
                (place, Event::Ended(ended)) => {
                    running.retain(|&other| other != place);
                    progress.end(place);
                    // What was ended from outside has no result.
                    if self.stop.signal().is_some() {
                        continue;
                    }
                    match ended.and_then(|ended| self.take(&chosen[place], ended, &mut results)) {
                        Ok(lines) => progress.print(&lines),
                        Err(why) => {
                            failure = Some(why);
                            self.stop.stop(SIGTERM);
                        }
                    }
                }
            }
        });
        progress.finish();
        if let Some(why) = failure {
            return Err(why);
        }
        let mut xml = Vec::new();
        results.junit.write(&mut xml)?;
        write(&self.setting.ktap.join("junit.xml"), &xml)?;
        Ok(results)
    }

    /// Judges a machine that has ended, and leaves its files: the lines to print.
    fn take(
        &self,
        chosen: &Chosen,
        (ended, note): (Ended, Option<String>),
        results: &mut Results,
    ) -> Result<Vec<String>> {
        let logs = command::logs(chosen, self.setting);
        let report = judge::session(chosen, &ended, &logs.display().to_string());
        results.notes.extend(note);
        results.counts += report.counts;
        results.junit.add(chosen, &ended, &report);
        self.leave(chosen, &ended, &logs, report.counts.failed == 0)?;
        results.failures.extend(report.failures);
        Ok(report.lines)
    }

    /// Boots one machine, and once more if QEMU died before anything was tested.
    fn boot(&self, chosen: &Chosen, tell: impl Fn(String)) -> Result<(Ended, Option<String>)> {
        let run = self.setting.top.join("selftests/run");
        let built = &self.built[&chosen.kernel];
        let arguments = command::arguments(chosen, built, self.setting);
        let errors = self.setting.ktap.join(format!("{}.err", chosen.label));
        let boot = || vm::boot(&run, &arguments, chosen.labels(), &errors, self.stop, &tell);
        let first = boot()?;
        if !first.died_at_once() || self.stop.signal().is_some() {
            return Ok((first, None));
        }
        let logs = command::logs(chosen, self.setting);
        let kept = logs.with_extension("died.logs");
        // Those of an earlier run may be there.
        let _ = fs::remove_dir_all(&kept);
        fs::rename(&logs, &kept).with_context(|| format!("cannot write {}", kept.display()))?;
        let note = format!(
            "started once more, as QEMU died before the first test: {}; logs: {}",
            chosen.label,
            kept.display()
        );
        Ok((boot()?, Some(note)))
    }

    /// Leaves the KTAP of each program, and the logs if they are of use.
    fn leave(&self, chosen: &Chosen, ended: &Ended, logs: &Path, good: bool) -> Result<()> {
        for (label, run) in chosen.labels().iter().zip(&ended.runs) {
            // Of many arguments only the first one.
            let words: Vec<_> = label.split([':', ' ']).take(2).collect();
            let name = format!("{}.{}", chosen.label, words.join("-"));
            write(
                &self.setting.ktap.join(format!("{name}.ktap")),
                run.text.as_bytes(),
            )?;
        }
        if good && !self.keep {
            let _ = fs::remove_dir_all(logs);
            let errors: PathBuf = self.setting.ktap.join(format!("{}.err", chosen.label));
            let _ = fs::remove_file(errors);
        }
        Ok(())
    }
}

fn write(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::plan::Program;
    use crate::session::{DEFAULT, LEAN};

    const SESSION: Session = Session {
        name: "life",
        programs: &["table"],
        ..DEFAULT
    };

    /// Runs a session with this script in place of `selftests/run`: "boots" has as many lines as it
    /// was started before. What came of it, and how often it was started.
    fn go(script: &str) -> (Counts, Vec<String>, usize) {
        try_go(script).unwrap()
    }

    fn try_go(script: &str) -> Result<(Counts, Vec<String>, usize)> {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path();
        let run = top.join("selftests/run");
        fs::create_dir_all(top.join("selftests")).unwrap();
        fs::create_dir_all(top.join("ktap/life.logs")).unwrap();
        fs::write(top.join("boots"), "").unwrap();
        vm::stand_in(
            &run,
            &format!(
                "cd {}\nboots=$(wc -l <boots)\necho >>boots\nmkdir -p ktap/life.logs\n\
                 begin() {{ echo '==> table'; echo 1..1; }}\n\
                 all() {{ begin; echo 'ok 1 a'; echo '<== 0 1 s'; }}\n{script}\n",
                top.display()
            ),
        );
        let setting = Setting {
            top: top.to_owned(),
            ktap: top.join("ktap"),
            kdir: None,
            clients_root: None,
            nested_qemu: None,
            soak_cycles: 1,
            soak_seconds: 1,
        };
        let built = Built {
            kernel: top.to_owned(),
            module: top.to_owned(),
            modules: top.to_owned(),
        };
        let chosen = Chosen {
            session: &SESSION,
            label: "life".to_owned(),
            kernel: LEAN.to_owned(),
            programs: vec![Program::parse("table")],
            less: None,
        };
        let go = Go {
            setting: &setting,
            built: &HashMap::from([(LEAN.to_owned(), built)]),
            room: Room {
                machines: 1,
                memory: 10_000,
            },
            keep: false,
            stop: &Stop::default(),
        };
        let Results { counts, notes, .. } = go.run(&[chosen])?;
        assert!(fs::read_to_string(top.join("ktap/junit.xml")).is_ok());
        let boots = fs::read_to_string(top.join("boots")).unwrap();
        Ok((counts, notes, boots.lines().count()))
    }

    #[test]
    fn a_qemu_that_dies_at_once_is_started_once_more_and_that_is_said() {
        let (counts, notes, boots) = go("[ $boots != 0 ] || exit 120\nall");
        assert_eq!((counts.line().as_str(), boots), ("1 passed, 0 failed", 2));
        assert_eq!(notes.len(), 1);
        let note = "started once more, as QEMU died before the first test: life";
        assert!(notes[0].starts_with(note));
        // Once.
        let (counts, _, boots) = go("exit 120");
        assert_eq!((counts.line().as_str(), boots), ("0 passed, 2 failed", 2));
    }

    #[test]
    fn a_full_disk() {
        for file in ["life.table.ktap", "junit.xml"] {
            let why = try_go(&format!("ln -s /dev/full ktap/{file}; all")).unwrap_err();
            let text = format!("{why:#}");
            assert!(
                text.contains(&format!("ktap/{file}: No space left")),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_else_is_repeated() {
        for script in ["begin; exit 120", "exit 125", "all; exit 120", "exit 124"] {
            let (counts, notes, boots) = go(script);
            assert!(counts.failed != 0, "{script}");
            assert_eq!((notes.len(), boots), (0, 1), "{script}");
        }
    }
}
