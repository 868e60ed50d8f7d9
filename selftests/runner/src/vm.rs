// SPDX-License-Identifier: GPL-2.0-only

//! One virtual machine: starts it, reads what its programs print while they print it, and says how
//! it ended.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result};

use crate::ktap::Ktap;
use crate::stop::Stop;

/// The status of `selftests/run` if a signal ended QEMU and the guest has no result.
const QEMU_KILLED: i32 = 120;

/// What a program has left.
#[derive(Debug, Default)]
pub struct Run {
    /// All that it printed.
    pub text: String,
    /// The same, understood.
    pub ktap: Ktap,
    /// Its exit status, if it came to that.
    pub status: Option<i32>,
    /// How long it took, in seconds.
    pub seconds: u64,
}

/// What a virtual machine has left.
#[derive(Debug)]
pub struct Ended {
    /// For each label of what was chosen.
    pub runs: Vec<Run>,
    /// The exit status of `selftests/run`.
    pub status: i32,
    /// What it said went wrong.
    pub errors: String,
}

impl Ended {
    /// Whether a signal ended QEMU before any test began.
    pub fn died_at_once(&self) -> bool {
        self.status == QEMU_KILLED && self.runs.iter().all(|run| run.text.is_empty())
    }
}

/// The output of all programs of a session, cut apart at the lines that `guest/session` and
/// `guest/parity` print.
struct Output {
    labels: Vec<String>,
    runs: Vec<Run>,
    /// Which program prints now.
    now: Option<usize>,
}

impl Output {
    fn new(labels: Vec<String>) -> Self {
        Self {
            runs: labels.iter().map(|_| Run::default()).collect(),
            labels,
            now: None,
        }
    }

    /// Takes the next line.
    fn take(&mut self, line: &str) {
        if let Some(label) = line.strip_prefix("==> ") {
            self.now = self.labels.iter().position(|one| one == label);
        }
        let Some(now) = self.now else { return };
        let run = &mut self.runs[now];
        run.text.push_str(line);
        run.text.push('\n');
        if let Some(end) = line.strip_prefix("<== ") {
            let mut words = end.split_whitespace();
            run.status = words.next().and_then(|word| word.parse().ok());
            run.seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
            self.now = None;
        } else {
            run.ktap.take(line);
        }
    }

    /// The program that prints now, and the last test that has ended.
    fn place(&self) -> Option<String> {
        let now = self.now?;
        let last = self.runs[now].ktap.tests.last();
        let last = last.map_or("", |test| test.name.as_str());
        Some(format!("{} {last}", self.labels[now]))
    }
}

/// Boots a machine by `run`, which ends with this process. Messages go to `errors`; `tell` is
/// called with what goes on.
pub fn boot(
    run: &Path,
    arguments: &[String],
    labels: Vec<String>,
    errors: &Path,
    stop: &Stop,
    tell: impl Fn(String),
) -> Result<Ended> {
    let cannot = || format!("cannot write {}", errors.display());
    // The signal comes when this thread ends, which is not before the machine.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "TERM"])
        .arg(run)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(errors).with_context(cannot)?)
        .spawn()
        .with_context(|| format!("cannot start {}", run.display()))?;
    stop.add(child.id());
    let mut output = Output::new(labels);
    let mut reader = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? != 0 {
        output.take(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
        if let Some(place) = output.place() {
            tell(place);
        }
        line.clear();
    }
    // Before it is reaped, and its number belongs to another one.
    stop.remove(child.id());
    let status = code(child.wait()?);
    Ok(Ended {
        runs: output.runs,
        status,
        errors: fs::read_to_string(errors).with_context(cannot)?,
    })
}

/// The status as a shell has it.
pub fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;

    status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(255)
}

/// Has `script` run in place of `selftests/run`, at this path. What is executed was not just
/// written: as long as another test's child is between fork and exec, it has open what was, and to
/// execute that fails with ETXTBSY.
#[cfg(test)]
pub fn stand_in(run: &Path, script: &str) {
    let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand-in");
    std::os::unix::fs::symlink(stand_in, run).unwrap();
    fs::write(run.with_extension("body"), script).unwrap();
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::env;
    use std::io::Read;
    use std::path::PathBuf;
    use std::thread;

    use signal_hook::consts::SIGTERM;

    fn labels(labels: &[&str]) -> Vec<String> {
        labels.iter().map(|label| label.to_string()).collect()
    }

    #[test]
    fn output_is_cut_apart() {
        let mut output = Output::new(labels(&["table", "dropin:r66", "dropin:r67"]));
        for line in [
            "boot noise",
            "==> table",
            "1..1",
            "ok 1 r1_a",
            "<== 0 12 s",
            "between",
            "==> dropin:r67",
            "1..2",
            "ok 1 r67_b",
        ] {
            output.take(line);
        }
        assert_eq!(output.place().as_deref(), Some("dropin:r67 r67_b"));
        let [table, never, cut] = &output.runs[..] else {
            panic!("{:?}", output.runs)
        };
        assert_eq!((table.status, table.seconds), (Some(0), 12));
        assert_eq!(table.ktap.passed(), 1);
        assert_eq!(table.text, "==> table\n1..1\nok 1 r1_a\n<== 0 12 s\n");
        assert_eq!((never.status, never.text.as_str()), (None, ""));
        assert_eq!((cut.status, cut.ktap.ended_early()), (None, true));
    }

    /// Boots what a script says, in place of `selftests/run`.
    fn boot_until(script: &str, stop: &Stop) -> Ended {
        let dir = tempfile::tempdir().unwrap();
        let run: PathBuf = dir.path().join("run");
        stand_in(&run, script);
        let arguments = ["--kernel".to_owned(), "x".to_owned()];
        let errors = dir.path().join("errors");
        let labels = labels(&["table"]);
        boot(&run, &arguments, labels, &errors, stop, |_| ()).unwrap()
    }

    fn boot_script(script: &str) -> Ended {
        boot_until(script, &Stop::default())
    }

    #[test]
    fn status_and_messages() {
        let ended = boot_script("echo '==> table'; echo '<== 3 1 s'; echo $1 $2 >&2; exit 125");
        assert_eq!((ended.status, ended.errors.as_str()), (125, "--kernel x\n"));
        assert_eq!(ended.runs[0].status, Some(3));
        assert_eq!(boot_script("kill -SEGV $$").status, 139);
    }

    #[test]
    fn only_a_death_before_the_first_test_counts() {
        assert!(boot_script("exit 120").died_at_once());
        assert!(!boot_script("echo '==> table'; exit 120").died_at_once());
        assert!(!boot_script("exit 125").died_at_once());
    }

    /// Waits to be told to end; then says so.
    const WAITS: &str = "trap 'exit 143' TERM; echo '==> table'; \
                         for n in $(seq 300); do sleep 0.1; done; echo lived on";

    #[test]
    fn a_signal_ends_it() {
        let stop = Stop::default();
        thread::scope(|scope| {
            let booted = scope.spawn(|| boot_until(WAITS, &stop));
            while !stop.has_children() {
                thread::yield_now();
            }
            stop.stop(SIGTERM);
            assert_eq!(booted.join().unwrap().status, 143);
        });
        assert_eq!(stop.signal(), Some(SIGTERM));
        // And nothing more is begun.
        assert_eq!(boot_until(WAITS, &stop).status, 143);
    }

    /// The other half of the next test, a process of its own.
    #[test]
    #[ignore = "waits to be killed"]
    fn waits_to_be_killed() {
        let fifo = env::var("FIFO").unwrap();
        boot_script(&format!("exec >{fifo}; {WAITS}"));
    }

    #[test]
    fn it_ends_with_a_runner_that_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut runner = Command::new(env::current_exe().unwrap())
            .args(["--exact", "vm::tests::waits_to_be_killed", "--ignored"])
            .env("FIFO", &fifo)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut fifo = File::open(&fifo).unwrap();
        let mut said = [0; "==> table\n".len()];
        fifo.read_exact(&mut said).unwrap();
        runner.kill().unwrap();
        runner.wait().unwrap();
        // Its end comes when nobody has the other end open any more.
        let mut rest = String::new();
        fifo.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}
