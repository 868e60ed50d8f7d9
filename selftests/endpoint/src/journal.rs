// SPDX-License-Identifier: GPL-2.0-only

//! Log, counters and violations of one endpoint.

use std::collections::VecDeque;

use tph_protocol::{Access, Counters, Entry, LogPage, ResetCause, Violation, ViolationKind};

/// Entries kept; older ones are forgotten.
const LOG_MAX: usize = 1_000_000;
/// Violations kept; later ones are not: the first ones tell what went wrong.
const VIOLATIONS_MAX: usize = 10_000;

/// All that is recorded.
#[derive(Default)]
pub struct Journal {
    log: VecDeque<Entry>,
    last: u64,
    counters: Counters,
    violations: Vec<Violation>,
}

impl Journal {
    /// Adds an entry and counts it.
    pub fn add(&mut self, access: Access) -> u64 {
        let c = &mut self.counters;
        match &access {
            Access::ConfigRead { .. } => c.config_read += 1,
            Access::ConfigWrite { .. } => c.config_write += 1,
            Access::MmioRead { .. } => c.mmio_read += 1,
            Access::MmioWrite { .. } => c.mmio_write += 1,
            Access::Reset { cause } => {
                c.reset += 1;
                c.flr += u64::from(*cause == ResetCause::Flr);
            }
            Access::DmaWrite { .. } => c.dma_write += 1,
            Access::DmaRead { .. } => c.dma_read += 1,
            Access::Interrupt { .. } => c.interrupt += 1,
            Access::Marker { .. } => {}
        }
        self.last += 1;
        if self.log.len() == LOG_MAX {
            self.log.pop_front();
        }
        self.log.push_back(Entry {
            seq: self.last,
            access,
        });
        self.last
    }

    /// Counts an access to the TPH capability; it is an entry already.
    pub fn count_tph(&mut self, write: bool) {
        if write {
            self.counters.tph_write += 1;
        } else {
            self.counters.tph_read += 1;
        }
    }

    /// Records a violation by the newest entry.
    pub fn violation(&mut self, kind: ViolationKind) {
        if self.violations.len() < VIOLATIONS_MAX {
            let entry = self.log.back();
            self.violations.push(Violation {
                seq: self.last,
                kind,
                detail: entry.map_or_else(String::new, |e| describe(&e.access)),
            });
        }
    }

    /// Sequence number of the newest entry.
    pub fn last(&self) -> u64 {
        self.last
    }

    /// Counters since they were reset.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Counters to 0.
    pub fn reset_counters(&mut self) {
        self.counters = Counters::default();
    }

    /// Violations since they were cleared.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Forgets violations.
    pub fn clear_violations(&mut self) {
        self.violations.clear();
    }

    /// Entries from a sequence number on.
    pub fn page(&self, from: u64, limit: u32) -> LogPage {
        let from = from.max(1);
        let first = self.log.front().map_or(self.last + 1, |e| e.seq);
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let start = skip.min(self.log.len());
        let entries: Vec<Entry> = self
            .log
            .range(start..)
            .take(limit as usize)
            .cloned()
            .collect();
        let reached = entries.last().map_or(from.saturating_sub(1), |e| e.seq);
        LogPage {
            next: (reached < self.last).then_some(reached + 1),
            lost: first.saturating_sub(from),
            entries,
        }
    }
}

fn describe(access: &Access) -> String {
    match access {
        Access::ConfigRead { offset, width, .. } => {
            format!("config read of {width} bytes at {offset:#x}")
        }
        Access::ConfigWrite {
            offset,
            width,
            value,
        } => {
            format!("config write of {width} bytes at {offset:#x}: {value:#x}")
        }
        Access::MmioRead {
            bar, offset, width, ..
        } => {
            format!("read of {width} bytes at BAR{bar} + {offset:#x}")
        }
        Access::MmioWrite {
            bar,
            offset,
            width,
            value,
        } => {
            format!("write of {width} bytes at BAR{bar} + {offset:#x}: {value:#x}")
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(value: u64) -> Access {
        Access::ConfigWrite {
            offset: 0,
            width: 4,
            value,
        }
    }

    #[test]
    fn pages() {
        let mut journal = Journal::default();
        assert_eq!(journal.page(0, 10).next, None);
        for value in 1..=5 {
            assert_eq!(journal.add(write(value)), value);
        }
        let page = journal.page(0, 2);
        assert_eq!((page.entries.len(), page.next, page.lost), (2, Some(3), 0));
        let page = journal.page(3, 10);
        assert_eq!((page.entries.len(), page.next, page.lost), (3, None, 0));
        let page = journal.page(6, 10);
        assert_eq!((page.entries.len(), page.next, page.lost), (0, None, 0));
        assert_eq!(journal.counters().config_write, 5);
        journal.reset_counters();
        assert_eq!(journal.counters(), Counters::default());
        assert_eq!(journal.add(write(6)), 6);
    }

    #[test]
    fn bounded() {
        let mut journal = Journal::default();
        for value in 0..LOG_MAX as u64 + 3 {
            journal.add(write(value));
        }
        let page = journal.page(1, 1);
        assert_eq!((page.entries[0].seq, page.lost), (4, 3));
    }

    #[test]
    fn zero_limit_does_not_lose_entries() {
        let mut journal = Journal::default();
        journal.add(write(1));
        assert_eq!(journal.page(1, 0).next, Some(1));
    }
}
