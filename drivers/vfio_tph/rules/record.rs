// SPDX-License-Identifier: GPL-2.0-only

//! What each entry of the ST table is to have, and how much of that hardware has.
//!
//! A table may have 2,048 entries, and most events concern few of them. What every event asks (is
//! there an entry that is due, is there one that tells whether the device was reset) is therefore
//! kept up to date as entries change, and is not looked for in all of them.

use core::ops::{
    DerefMut,
    Range, //
};

/// A set of entries.
pub(crate) trait Set {
    /// Adds an entry of the table.
    fn add(&mut self, entry: usize);

    /// Removes an entry of the table.
    fn remove(&mut self, entry: usize);

    /// The first one from `from` on, which may be the end of the table.
    fn next(&self, from: usize) -> Option<usize>;
}

/// The entries of a table.
#[derive(Clone)]
pub(crate) struct Record<W, S> {
    /// What each is to have.
    wanted: W,
    /// Those for which hardware may have something else.
    due: S,
    /// The first of these.
    first_due: Option<usize>,
    /// Those that are not 0, and not due.
    witnesses: S,
}

impl<W: DerefMut<Target = [u16]>, S: Set> Record<W, S> {
    /// A table of entries that are to be `wanted`, of which nothing is known; the sets are empty.
    pub(crate) fn new(wanted: W, due: S, witnesses: S) -> Self {
        let mut record = Self {
            wanted,
            due,
            first_due: None,
            witnesses,
        };
        record.all_due();
        record
    }

    /// What each entry is to have.
    pub(crate) fn wanted(&self) -> &[u16] {
        &self.wanted
    }

    /// The first entry that is due.
    pub(crate) fn first_due(&self) -> Option<usize> {
        self.first_due
    }

    /// Whether an entry is due.
    pub(crate) fn is_due(&self, entry: usize) -> bool {
        self.due.next(entry) == Some(entry)
    }

    /// An entry that hardware holds, and that is not 0, if there is one.
    #[inline(never)]
    pub(crate) fn witness(&self) -> Option<usize> {
        self.witnesses.next(0)
    }

    /// All entries are due.
    #[inline(never)]
    pub(crate) fn all_due(&mut self) {
        self.make_due(0..self.wanted.len());
    }

    /// Some entries are due.
    #[inline(never)]
    pub(crate) fn make_due(&mut self, entries: Range<usize>) {
        if !entries.is_empty() {
            let first = self.first_due.unwrap_or(entries.start);
            self.first_due = Some(first.min(entries.start));
        }
        for entry in entries {
            self.due.add(entry);
            self.witnesses.remove(entry);
        }
    }

    /// Hardware has these entries: they are due no more. `entries` starts at the first one that is
    /// due.
    pub(crate) fn written(&mut self, entries: Range<usize>) {
        let end = entries.end;
        for entry in entries {
            self.due.remove(entry);
            if self.wanted[entry] != 0 {
                self.witnesses.add(entry);
            }
        }
        self.first_due = self.due.next(end);
    }

    /// An entry is to have `tag`; it is due if that is something else than before. Returns what it
    /// was to have before, if so.
    #[inline(never)]
    pub(crate) fn want(&mut self, entry: usize, tag: u16) -> Option<u16> {
        if *self.wanted.get(entry)? == tag {
            return None;
        }
        self.renew(entry, tag)
    }

    /// An entry is to have `tag`, and is due. Returns what it was to have before.
    #[inline(never)]
    pub(crate) fn renew(&mut self, entry: usize, tag: u16) -> Option<u16> {
        let before = core::mem::replace(self.wanted.get_mut(entry)?, tag);
        self.make_due(entry..entry + 1);
        Some(before)
    }

    /// Exchanges what `entries` are to have with `tags`; they are due then.
    #[inline(never)]
    pub(crate) fn exchange(&mut self, entries: Range<usize>, tags: &mut [u16]) {
        if let Some(wanted) = self.wanted.get_mut(entries.clone()) {
            for (wanted, tag) in wanted.iter_mut().zip(tags) {
                core::mem::swap(wanted, tag);
            }
            self.make_due(entries);
        }
    }

    /// All entries are to be 0. Returns whether one was not.
    #[inline(never)]
    pub(crate) fn clear(&mut self) -> bool {
        let mut changed = false;
        for entry in 0..self.wanted.len() {
            changed |= self.want(entry, 0).is_some();
        }
        changed
    }

    /// As [`Self::clear`], for entries that somebody else clears in hardware before anybody asks
    /// for those that are due.
    pub(crate) fn leave_to_reset(&mut self) -> bool {
        let mut changed = false;
        for (entry, wanted) in self.wanted.iter_mut().enumerate() {
            changed |= core::mem::take(wanted) != 0;
            self.witnesses.remove(entry);
        }
        changed
    }
}
