// SPDX-License-Identifier: GPL-2.0-only

//! Which machine starts next: as many at once as there is room for, the longest ones first.

use std::fs;
use std::thread;

use anyhow::{bail, Context, Result};

use crate::session::Session;

/// What QEMU, the endpoints and the initramfs take beside the guest's memory, in MiB.
const BESIDE: u64 = 400;

/// What there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Machines at once.
    pub machines: usize,
    /// Memory in MiB.
    pub memory: u64,
}

/// What a machine takes, in MiB.
pub fn memory_of(session: &Session) -> u64 {
    u64::from(session.memory) + BESIDE
}

impl Room {
    /// What this computer has: a machine for each of its cores, as much of one's time is waiting
    /// for devices, unless the caller knows better.
    pub fn ask(machines: Option<usize>) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            machines: machines.unwrap_or(cores),
            memory: available()?,
        })
    }

    /// Fails if a session has no room, even alone; or if the caller wants more at once than there
    /// is memory for.
    pub fn check(&self, sessions: &[&Session], asked: Option<usize>) -> Result<()> {
        let mut sizes: Vec<(u64, &str)> = sessions
            .iter()
            .map(|one| (memory_of(one), one.name))
            .collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(&(size, name)) = sizes.first().filter(|(size, _)| *size > self.memory) {
            bail!(
                "no memory for {name}: {size} MiB, and {} MiB are there",
                self.memory
            );
        }
        let together: u64 = sizes
            .iter()
            .take(asked.unwrap_or(1))
            .map(|(size, _)| size)
            .sum();
        if together > self.memory {
            bail!(
                "no memory for {} machines at once: {together} MiB, and {} MiB are there",
                self.machines,
                self.memory
            );
        }
        Ok(())
    }

    /// The place of the next one that starts, of those that wait, beside those that run.
    pub fn next(&self, waiting: &[&Session], running: &[&Session]) -> Option<usize> {
        if running.iter().any(|session| session.alone) || running.len() >= self.machines {
            return None;
        }
        let used: u64 = running.iter().map(|session| memory_of(session)).sum();
        waiting.iter().position(|session| {
            running.is_empty() || !session.alone && used + memory_of(session) <= self.memory
        })
    }
}

/// The order in which they are to start: first what runs alone, so that it does not wait for ever
/// for the others to end; then the longest ones, so that none of them is left at the end.
pub fn order(session: &Session) -> (bool, std::cmp::Reverse<u32>) {
    (!session.alone, std::cmp::Reverse(session.seconds))
}

/// Memory that can be had, in MiB: of the computer, and of the control group if it has a limit.
fn available() -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    let free = mem_available(&text).context("/proc/meminfo has no MemAvailable")?;
    let group = |file| -> Option<u64> {
        let text = fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?;
        Some(text.trim().parse::<u64>().ok()? >> 20)
    };
    Ok(match (group("memory.max"), group("memory.current")) {
        (Some(limit), Some(used)) => free.min(limit.saturating_sub(used)),
        _ => free,
    })
}

fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::DEFAULT;

    const fn session(name: &'static str, memory: u32, seconds: u32, alone: bool) -> Session {
        Session {
            name,
            memory,
            seconds,
            alone,
            ..DEFAULT
        }
    }

    const SHORT: Session = session("short", 512, 10, false);
    const LONG: Session = session("long", 1024, 100, false);
    const MIDDLE: Session = session("middle", 512, 50, false);
    const ALONE: Session = session("alone", 512, 1, true);

    /// Starts all, and ends the one that started first whenever no other one can start: which were
    /// running at each such time.
    fn simulate(room: Room, sessions: &[&'static Session]) -> Vec<String> {
        let mut waiting = sessions.to_vec();
        waiting.sort_by_key(|session| order(session));
        let mut running: Vec<&Session> = Vec::new();
        let mut seen = Vec::new();
        while !waiting.is_empty() || !running.is_empty() {
            match room.next(&waiting, &running) {
                Some(place) => running.push(waiting.remove(place)),
                None => {
                    let names: Vec<_> = running.iter().map(|session| session.name).collect();
                    seen.push(names.join(" "));
                    running.remove(0);
                }
            }
        }
        seen
    }

    #[test]
    fn longest_first_and_as_many_as_asked_for() {
        let room = Room {
            machines: 2,
            memory: 10_000,
        };
        assert_eq!(
            simulate(room, &[&SHORT, &LONG, &MIDDLE]),
            ["long middle", "middle short", "short"]
        );
    }

    #[test]
    fn no_more_than_there_is_memory_for() {
        let room = Room {
            machines: 3,
            memory: memory_of(&LONG) + memory_of(&SHORT) - 1,
        };
        assert_eq!(simulate(room, &[&SHORT, &LONG]), ["long", "short"]);
        // A smaller one goes before a larger one that has no room yet.
        let room = Room {
            machines: 3,
            memory: memory_of(&LONG) + memory_of(&SHORT),
        };
        assert_eq!(
            simulate(room, &[&SHORT, &LONG, &LONG]),
            ["long short", "short long", "long"]
        );
    }

    #[test]
    fn one_that_measures_is_alone() {
        let room = Room {
            machines: 3,
            memory: 10_000,
        };
        assert_eq!(
            simulate(room, &[&SHORT, &ALONE, &LONG]),
            ["alone", "long short", "short"]
        );
        assert_eq!(room.next(&[&ALONE], &[&SHORT]), None);
    }

    #[test]
    fn what_can_never_run_is_refused() {
        let room = |machines, memory| Room { machines, memory };
        let why = |room: Room, asked| {
            let checked = room.check(&[&SHORT, &LONG], asked);
            checked.err().map(|why| why.to_string())
        };
        assert_eq!(why(room(2, 10_000), Some(2)), None);
        assert_eq!(why(room(2, memory_of(&LONG)), None), None);
        assert_eq!(
            why(room(2, memory_of(&LONG)), Some(2)).as_deref(),
            Some("no memory for 2 machines at once: 2336 MiB, and 1424 MiB are there")
        );
        assert_eq!(
            why(room(1, 1000), None).as_deref(),
            Some("no memory for long: 1424 MiB, and 1000 MiB are there")
        );
    }

    #[test]
    fn memory_of_the_computer() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:   20480000 kB\n";
        assert_eq!(mem_available(text), Some(20_000));
        assert_eq!(mem_available("MemTotal: 1 kB\n"), None);
        assert!(available().unwrap() > 0);
    }
}
