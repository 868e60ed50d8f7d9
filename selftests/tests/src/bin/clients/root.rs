// SPDX-License-Identifier: GPL-2.0-only

//! The root with Debian's packages, which the test VM has over 9p, and what runs in it.

use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tph_selftests::skip;

/// Where it is.
pub const ROOT: &str = "/clients";

/// A program of the root. The test is left out where there is no such root.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    if !Path::new(ROOT).exists() {
        skip!("needs Debian's programs: run selftests/clients");
    }
    let mut command = Command::new("chroot");
    // By env, which finds the root's own: the VM's chroot, busybox, would rather take its own.
    command
        .args([ROOT, "/usr/bin/env", program])
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8");
    command
}

/// Puts what a program says into the report.
pub fn note(said: &str) {
    said.lines().for_each(|line| println!("#   {line}"));
}

/// What a program prints, which has to succeed.
#[track_caller]
pub fn ask(program: &str, arguments: &[&str]) -> String {
    let (said, succeeded) = run(program, arguments);
    assert!(succeeded, "{program} {arguments:?}: {said}");
    said
}

/// What a program prints, its errors behind the rest, and whether it succeeds.
pub fn run(program: &str, arguments: &[&str]) -> (String, bool) {
    println!("# {program} {}:", arguments.join(" "));
    let output = command(program, arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    note(&said);
    (said, output.status.success())
}

/// A program that is talked to, and prompts.
pub struct Shell {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    prompt: &'static str,
}

impl Shell {
    /// Starts it. Returns when it prompts for the first time, with what it has said until then.
    pub fn start(mut command: Command, prompt: &'static str) -> (Self, String) {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut shell = Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
            prompt,
        };
        let said = shell.answer();
        (shell, said)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says something, and waits for the next prompt.
    pub fn ask(&mut self, line: &str) -> String {
        self.say(line);
        self.answer()
    }

    fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("a pipe");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("{line}: {error}"));
    }

    fn answer(&mut self) -> String {
        let mut said = Vec::new();
        while !said.ends_with(self.prompt.as_bytes()) {
            let mut byte = [0];
            let got = self.output.read(&mut byte).expect("its output");
            if got == 0 {
                let status = self.child.wait().expect("wait");
                panic!("{status}: {}", String::from_utf8_lossy(&said));
            }
            said.push(byte[0]);
        }
        said.truncate(said.len() - self.prompt.len());
        String::from_utf8_lossy(&said).replace('\r', "")
    }

    /// Has it end by these words, or by the end of its input, and without an error. Returns its
    /// last words.
    pub fn end(mut self, line: Option<&str>) -> String {
        if let Some(line) = line {
            self.say(line);
        }
        drop(self.input.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("its output");
        let status = self.child.wait().expect("wait");
        assert!(status.success(), "{status}: {said}");
        said.replace('\r', "")
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
