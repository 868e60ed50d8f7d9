// SPDX-License-Identifier: GPL-2.0-only

//! examples/dpdk: an application on DPDK that steers its queues.

use tph_selftests::pci::Bdf;

use crate::root::{command, note, run, Shell};
use crate::testpmd::EAL;

/// Where selftests/clients has put it.
const PROGRAM: &str = "/given/dpdk-steer";

fn arguments(lcores: &str, bdf: &Bdf) -> Vec<String> {
    let own = ["-l", lcores, "-a", &bdf.to_string()].map(str::to_owned);
    EAL.map(str::to_owned).into_iter().chain(own).collect()
}

/// What it says when it cannot steer.
pub fn refused(lcores: &str, bdf: &Bdf) -> String {
    let arguments = arguments(lcores, bdf);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (said, succeeded) = run(PROGRAM, &arguments);
    assert!(!succeeded, "{said}");
    said
}

/// A running one.
pub struct Steer(Shell);

impl Steer {
    /// Starts it; its queues are steered then.
    pub fn start(lcores: &str, bdf: &Bdf) -> Self {
        let mut command = command(PROGRAM, &[]);
        command.args(arguments(lcores, bdf));
        let (shell, said) = Shell::start(command, "steer> ");
        note(&said);
        Self(shell)
    }

    /// Gives one of its commands, and returns its last line.
    pub fn tell(&mut self, line: &str) -> String {
        let said = self.0.ask(line);
        note(&said);
        said.lines().last().unwrap_or_default().to_owned()
    }

    /// The lcore that polls a queue.
    pub fn owner(&mut self, queue: usize) -> u32 {
        let said = self.0.ask("show");
        note(&said);
        let begins = format!("queue {queue}: lcore ");
        let line = said.lines().find_map(|line| line.strip_prefix(&begins));
        line.and_then(|line| line.split_once(", ")?.0.parse().ok())
            .unwrap_or_else(|| panic!("no queue {queue}: {said}"))
    }

    /// Has it end.
    pub fn end(self) {
        self.0.end(None);
    }
}
