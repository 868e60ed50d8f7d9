// SPDX-License-Identifier: GPL-2.0-only

//! examples/dpdk: an application on DPDK that steers its queues.

use std::collections::BTreeMap;

use tph_selftests::pci::Bdf;

use crate::root::{command, note, run, Shell};
use crate::testpmd::{EAL, PACKETS};

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

/// What it shows of its queues and lcores.
pub struct Shown {
    /// The lcore that polls each queue.
    pub owners: Vec<u32>,
    /// Packets of each queue.
    pub queues: Vec<u64>,
    /// Packets that each lcore has taken.
    lcores: BTreeMap<u32, u64>,
    said: String,
}

impl Shown {
    /// Of lines like "queue 0: lcore 1, 4711 packets" and "lcore 1: 4711 packets".
    fn parse(said: String) -> Self {
        let (mut owners, mut queues, mut lcores) = (Vec::new(), Vec::new(), BTreeMap::new());
        for line in said.lines() {
            let numbers: Vec<u64> = line
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|word| word.parse().ok())
                .collect();
            match numbers[..] {
                [number, owner, packets] if number == queues.len() as u64 => {
                    owners.push(owner as u32);
                    queues.push(packets);
                }
                [lcore, packets] => drop(lcores.insert(lcore as u32, packets)),
                _ => assert_eq!(line, "done", "{said}"),
            }
        }
        Self {
            owners,
            queues,
            lcores,
            said,
        }
    }
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

    /// What it shows.
    pub fn show(&mut self) -> Shown {
        Shown::parse(self.0.ask("show"))
    }

    /// Waits until each queue has had so many packets more, which the lcores in `owners` have
    /// taken, and no other ones.
    #[track_caller]
    pub fn wait_for_packets(&mut self, owners: &[u32]) {
        let before = self.show();
        assert_eq!(before.owners, owners, "{}", before.said);
        let owned = |lcore| owners.iter().filter(|&&owner| owner == lcore).count() as u64;
        let more = |(now, then): (&u64, &u64)| now - then >= PACKETS;
        let after = loop {
            let now = self.show();
            // Queues and lcores are not counted at the same moment.
            let mut lcores = before.lcores.iter();
            if now.queues.iter().zip(&before.queues).all(more)
                && lcores.all(|(&at, then)| now.lcores[&at] - then >= PACKETS * owned(at))
            {
                break now;
            }
        };
        note(&after.said);
        assert_eq!(after.owners, owners, "{}", after.said);
        for (lcore, then) in before.lcores {
            let taken = after.lcores[&lcore] - then;
            // It has let go of them before "move" has returned.
            let may_take = owned(lcore) != 0;
            assert!(may_take || taken == 0, "lcore {lcore}: {}", after.said);
        }
    }

    /// Has it end.
    pub fn end(self) {
        self.0.end(None);
    }
}
