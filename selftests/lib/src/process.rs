// SPDX-License-Identifier: GPL-2.0-only

//! Another process, which is talked to in lines. Mostly it is this program once more: a forked copy
//! of a process with threads and open devices is not another user.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A process; it is killed when this is dropped, and its files are closed then.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    /// Starts this program again, which finds by its [`arguments`] what it is for.
    pub fn again<'a>(name: &'a str, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        let program = env::current_exe().expect("the path of this program");
        Self::start(Command::new(program).arg(name).args(arguments))
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it says next.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let count = self.stdout.read_line(&mut line).expect("a line");
        assert_ne!(count, 0, "the other process has ended");
        line.trim_end().to_owned()
    }

    /// Says something to it.
    #[track_caller]
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{line}").expect("the other process");
    }

    /// Waits until it has ended by itself, which it may do when there is no more to be said to it.
    /// Fails the test if it has something to complain about.
    #[track_caller]
    pub fn wait(mut self) {
        drop(self.stdin.take());
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "the other process: {status}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        self.child.wait().expect("wait");
    }
}

/// The arguments of a program that was started again as `name`; none if it was not.
pub fn arguments(name: &str) -> Option<env::Args> {
    let mut arguments = env::args();
    (arguments.nth(1)? == name).then_some(arguments)
}

/// Says something to who has started this process.
pub fn say(line: &str) {
    let mut out = io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .expect("stdout");
}

/// Waits until nothing more is said to this process, if it is not killed before.
pub fn wait_for_end() {
    let _ = io::stdin().read_line(&mut String::new());
}
