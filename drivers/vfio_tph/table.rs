// SPDX-License-Identifier: GPL-2.0-only

//! The ST table of an open device: what each entry is to have, and which entries are *due*:
//! hardware may have something else there.
//!
//! An entry in the MSI-X table shares its word with the vector's mask bit. The PCI core has a copy
//! of the word of every allocated vector, which it writes when it masks, unmasks, frees or restores
//! the vector: a tag goes through the PCI core, or it would be lost. Nobody has a copy for other
//! vectors, and so a tag must be gone before its vector is allocated again.

use crate::{
    reached::Reached,
    rules::{
        reconcile::{
            Entries,
            Place, //
        },
        table::{
            clearing,
            Width,
            Write,
            Writes, //
        },
    },
    rust::{
        pci::{
            self as bus,
            tph::Requester, //
        },
        vfio::pci::{
            CoreDevice,
            HeldVectors, //
        },
    },
};
use core::ops::Range;
use kernel::{
    bitmap::BitmapVec,
    prelude::*, //
};

/// How many vectors are cleared without looking first whether the device answers. The last one is
/// looked at in any case.
const AT_ONCE: usize = 16;

/// The ST table.
pub(crate) struct Table {
    place: Place,
    wanted: KVec<u16>,
    due: BitmapVec,
    /// What a table in the capability claims behind its entries: it is to be 0. In bytes from the
    /// start of the capability.
    unused: KVec<Range<u16>>,
    unused_due: bool,
    /// Whether a user is allocating or freeing vectors, and it is not known yet which.
    vectors_change: bool,
}

impl Table {
    /// A table of `count` entries that are to be 0, of which nothing is known, with `unused` bytes
    /// behind them.
    pub(crate) fn new(place: Place, count: u16, unused: KVec<Range<u16>>) -> Result<Self> {
        let mut wanted = KVec::new();
        wanted.resize(count.into(), 0, GFP_KERNEL)?;
        let mut table = Self {
            place,
            due: BitmapVec::new(wanted.len(), GFP_KERNEL)?,
            wanted,
            unused,
            unused_due: false,
            vectors_change: false,
        };
        table.all_due();
        Ok(table)
    }

    /// Where it is.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// What each entry is to have.
    pub(crate) fn wanted(&self) -> &[u16] {
        &self.wanted
    }

    /// How it compares with hardware.
    pub(crate) fn entries(&self) -> Entries {
        Entries {
            place: self.place,
            due: self.next_due(0).is_some() || self.unused_due,
        }
    }

    /// An entry that hardware holds, and that is not 0, if there is one.
    #[inline(never)]
    pub(crate) fn witness(&self) -> Option<usize> {
        (0..self.wanted.len()).find(|&entry| self.wanted[entry] != 0 && !self.is_due(entry))
    }

    /// All entries are due.
    #[inline(never)]
    pub(crate) fn all_due(&mut self) {
        self.make_due(0..self.wanted.len());
        self.unused_due = !self.unused.is_empty();
    }

    /// All entries are to be 0. Returns whether one was not.
    #[inline(never)]
    pub(crate) fn clear(&mut self) -> bool {
        let mut changed = false;
        for entry in 0..self.wanted.len() {
            if self.wanted[entry] != 0 {
                self.wanted[entry] = 0;
                self.make_due(entry..entry + 1);
                changed = true;
            }
        }
        changed
    }

    /// All entries are to be 0, and the reset that comes next clears them: nobody looks at what is
    /// due before it is over, and then all entries are. Returns whether one was not 0.
    pub(crate) fn leave_to_reset(&mut self) -> bool {
        let changed = self.wanted.iter().any(|&tag| tag != 0);
        self.wanted.fill(0);
        changed
    }

    /// Exchanges what `entries` are to have with `tags`; they are due then.
    pub(crate) fn exchange(&mut self, entries: Range<usize>, tags: &mut [u16]) {
        if let Some(wanted) = self.wanted.get_mut(entries.clone()) {
            for (wanted, tag) in wanted.iter_mut().zip(tags) {
                core::mem::swap(wanted, tag);
            }
            self.make_due(entries);
        }
    }

    /// An entry is to have `tag`; it is due if that is something else than before. Returns what it
    /// was to have before, if so.
    pub(crate) fn want(&mut self, entry: usize, tag: u16) -> Option<u16> {
        let wanted = self.wanted.get_mut(entry)?;
        if *wanted == tag {
            return None;
        }
        let before = core::mem::replace(wanted, tag);
        self.make_due(entry..entry + 1);
        Some(before)
    }

    /// A user is about to allocate or free vectors.
    pub(crate) fn vectors_change(&mut self) {
        self.vectors_change = self.place == Place::Msix;
    }

    /// A user has allocated or freed vectors.
    pub(crate) fn vectors_changed(&mut self, vdev: &CoreDevice, held: HeldVectors<'_>) {
        self.find_changes(vdev, Some(held));
        self.vectors_change = false;
    }

    /// Finds vectors that were freed: their entries are to be 0. And vectors for which the PCI core
    /// has a tag that nobody has programmed: it reads the word of a vector that it allocates, and
    /// reads all ones from a device that cannot be reached.
    pub(crate) fn find_changes(&mut self, vdev: &CoreDevice, held: Option<HeldVectors<'_>>) {
        if !self.vectors_change {
            return;
        }
        for vector in 0..self.wanted.len() {
            let allocated = is_allocated(vdev, vector);
            if self.wanted[vector] != 0 && !allocated {
                self.wanted[vector] = 0;
                self.make_due(vector..vector + 1);
            } else if self.wanted[vector] == 0 && allocated {
                // CAST: at most 2048 vectors.
                if held.is_some_and(|held| held.tag(vector as u16) != 0) {
                    self.make_due(vector..vector + 1);
                }
            }
        }
    }

    /// Whether each of these entries can be written: a vector without an interrupt cannot.
    pub(crate) fn can_write(&self, vdev: &CoreDevice, entries: Range<usize>) -> bool {
        entries
            .clone()
            .all(|entry| can_have(self.place, vdev, entry))
    }

    /// Whether hardware has what it is recorded to have in [`Self::witness`].
    pub(crate) fn is_as_recorded(&self, at: &Reached<'_>) -> bool {
        let Some(entry) = self.witness() else {
            return true;
        };
        // CAST: at most 2048 entries.
        let found = match self.place {
            Place::Msix => at.msix_table().and_then(|table| table.tag(entry as u16)),
            _ => Some(at.requester().read_word(Writes::offset(entry as u16))),
        };
        found == Some(self.wanted[entry])
    }

    /// Writes the entries that are due; the requester is disabled. Returns whether the table took
    /// them all. What it did not take stays due.
    pub(crate) fn write_due(&mut self, at: &mut Reached<'_>) -> bool {
        if self.unused_due {
            for bytes in &self.unused {
                clear(at.requester(), bytes.clone());
            }
            self.unused_due = false;
        }
        while let Some(first) = self.next_due(0) {
            let run = self.run(at.vdev(), first);
            if !self.write(at, run.clone()) {
                return false;
            }
            for entry in run {
                self.due.clear_bit(entry);
            }
        }
        true
    }

    fn write(&self, at: &mut Reached<'_>, run: Range<usize>) -> bool {
        let tags = &self.wanted[run.clone()];
        let vdev = at.vdev();
        // CAST: at most 2048 entries.
        let first = run.start as u16;
        match self.place {
            Place::None => true,
            Place::Capability => {
                write_capability(at.requester(), first, tags);
                true
            }
            Place::Msix => {
                let Some(table) = at.msix_table_mut() else {
                    return false;
                };
                if is_allocated(vdev, run.start) {
                    // A device that does not answer is not sent many writes for nothing.
                    let many = tags.len() > AT_ONCE && tags.iter().all(|&tag| tag == 0);
                    if many && table.tag(first).is_none() {
                        return false;
                    }
                    return table.write_tags(first, tags).is_ok();
                }
                // Ends at the first vector for which the device does not answer.
                run.clone()
                    .all(|vector| table.clear_tag(vector as u16) == Ok(true))
            }
        }
    }

    /// The entries from `first` on that are due and can be written in one go.
    fn run(&self, vdev: &CoreDevice, first: usize) -> Range<usize> {
        let in_msix = self.place == Place::Msix;
        let allocated = in_msix && is_allocated(vdev, first);
        let alike = |entry: usize| !in_msix || is_allocated(vdev, entry) == allocated;
        let len = (first..self.wanted.len())
            .take_while(|&entry| self.is_due(entry) && alike(entry))
            .count();
        first..first + len
    }

    fn is_due(&self, entry: usize) -> bool {
        self.next_due(entry) == Some(entry)
    }

    /// The first entry from `from` on that is due. There may be no entry at all.
    fn next_due(&self, from: usize) -> Option<usize> {
        (from < self.due.len())
            .then(|| self.due.next_bit(from))
            .flatten()
    }

    #[inline(never)]
    fn make_due(&mut self, entries: Range<usize>) {
        for entry in entries {
            self.due.set_bit(entry);
        }
    }
}

/// Whether an entry of a table at `place` can have a tag: that of a vector without an interrupt
/// cannot.
pub(crate) fn can_have(place: Place, vdev: &CoreDevice, entry: usize) -> bool {
    place != Place::Msix || is_allocated(vdev, entry)
}

fn is_allocated(vdev: &CoreDevice, vector: usize) -> bool {
    // CAST: at most 2048 vectors.
    bus::vector_is_allocated(vdev.pci(), vector as u16)
}

fn write_capability(requester: &Requester<'_>, first: u16, tags: &[u16]) {
    for (offset, write) in Writes::new(first, tags) {
        match write {
            Write::Word(value) => requester.write_word(offset, value),
            Write::Dword(value) => requester.write_dword(offset, value),
        }
    }
}

fn clear(requester: &Requester<'_>, bytes: Range<u16>) {
    for (offset, width) in clearing(bytes) {
        match width {
            Width::Byte => requester.write_byte(offset, 0),
            Width::Word => requester.write_word(offset, 0),
            Width::Dword => requester.write_dword(offset, 0),
        }
    }
}
