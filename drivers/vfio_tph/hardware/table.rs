// SPDX-License-Identifier: GPL-2.0-only

//! The ST table of an open device: what each entry is to have, and which entries are *due*:
//! hardware may have something else there.
//!
//! An entry in the MSI-X table shares its word with the vector's mask bit. The PCI core has a copy
//! of the word of every allocated vector, which it writes when it masks, unmasks, frees or restores
//! the vector: a tag goes through the PCI core, or it would be lost. Nobody has a copy for other
//! vectors, and so a tag must be gone before its vector is allocated again.

use super::reached::Reached;
use crate::{
    ratelimit::{
        self,
        Message, //
    },
    rules::{
        reconcile::{
            Entries,
            Place, //
        },
        record::{
            Record,
            Set, //
        },
        writes::{
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
            StableVectors, //
            VfioPciDevice,
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
pub(super) struct Table {
    place: Place,
    record: Record<KVec<u16>, BitmapVec>,
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
    pub(super) fn new(place: Place, count: u16, unused: KVec<Range<u16>>) -> Result<Self> {
        let mut wanted = KVec::new();
        wanted.resize(count.into(), 0, GFP_KERNEL)?;
        let due = BitmapVec::new(wanted.len(), GFP_KERNEL)?;
        let witnesses = BitmapVec::new(wanted.len(), GFP_KERNEL)?;
        Ok(Self {
            place,
            record: Record::new(wanted, due, witnesses),
            unused_due: !unused.is_empty(),
            unused,
            vectors_change: false,
        })
    }

    /// Where it is.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// What each entry is to have.
    pub(super) fn wanted(&self) -> &[u16] {
        self.record.wanted()
    }

    /// How it compares with hardware.
    pub(super) fn entries(&self) -> Entries {
        Entries {
            place: self.place,
            due: self.record.first_due().is_some() || self.unused_due,
        }
    }

    /// Whether there is an entry that hardware holds, and that is not 0.
    pub(super) fn has_witness(&self) -> bool {
        self.record.witness().is_some()
    }

    /// All entries are due.
    #[inline(never)]
    pub(super) fn all_due(&mut self) {
        self.record.all_due();
        self.unused_due = !self.unused.is_empty();
    }

    /// All entries are to be 0. Returns whether one was not.
    pub(super) fn clear(&mut self) -> bool {
        self.record.clear()
    }

    /// All entries are to be 0, and the reset that comes next clears them: nobody looks at what is
    /// due before it is over, and then all entries are. Returns whether one was not 0.
    pub(super) fn leave_to_reset(&mut self) -> bool {
        self.record.leave_to_reset()
    }

    /// Exchanges what `entries` are to have with `tags`; they are due then.
    pub(super) fn exchange(&mut self, entries: Range<usize>, tags: &mut [u16]) {
        self.record.exchange(entries, tags);
    }

    /// An entry is to have `tag`; it is due if that is something else than before. Returns what it
    /// was to have before, if so.
    pub(super) fn want(&mut self, entry: usize, tag: u16) -> Option<u16> {
        self.record.want(entry, tag)
    }

    /// An entry is to have `tag`, and is due. Returns what it was to have before.
    pub(super) fn renew(&mut self, entry: usize, tag: u16) -> Option<u16> {
        self.record.renew(entry, tag)
    }

    /// A user is about to allocate or free vectors.
    pub(super) fn vectors_change(&mut self) {
        self.vectors_change = self.place == Place::Msix;
    }

    /// A user has allocated or freed vectors.
    pub(super) fn vectors_changed(&mut self, vdev: &VfioPciDevice, vectors: StableVectors<'_>) {
        self.find_changes(vdev, Some(vectors));
        self.vectors_change = false;
    }

    /// Finds vectors that were freed: their entries are to be 0. And vectors for which the PCI core
    /// has a tag that nobody has programmed: it reads the word of a vector that it allocates, and
    /// reads all ones from a device that cannot be reached.
    pub(super) fn find_changes(
        &mut self,
        vdev: &VfioPciDevice,
        vectors: Option<StableVectors<'_>>,
    ) {
        if !self.vectors_change {
            return;
        }
        for vector in 0..self.wanted().len() {
            // CAST: at most 2048 vectors.
            let has_tag = |vectors: StableVectors<'_>| vectors.tag(vector as u16) != 0;
            if self.wanted()[vector] == 0 {
                // A vector that is not allocated has none.
                if vectors.is_some_and(has_tag) {
                    self.record.make_due(vector..vector + 1);
                }
            } else if !is_allocated(vdev, vector) {
                self.want(vector, 0);
            }
        }
    }

    /// Whether each of these entries can be written: a vector without an interrupt cannot.
    pub(super) fn can_write(&self, vdev: &VfioPciDevice, entries: Range<usize>) -> bool {
        entries
            .clone()
            .all(|entry| can_have(self.place, vdev, entry))
    }

    /// Whether hardware has what it is recorded to have in an entry that is not 0.
    pub(super) fn is_as_recorded(&self, at: &Reached<'_>) -> bool {
        let Some(entry) = self.record.witness() else {
            return true;
        };
        // CAST: at most 2048 entries.
        let found = match self.place {
            Place::Msix => at.msix_table().and_then(|table| table.tag(entry as u16)),
            _ => Some(at.requester().read_word(Writes::offset(entry as u16))),
        };
        found == Some(self.wanted()[entry])
    }

    /// Writes the entries that are due; the requester is disabled. Returns whether the table took
    /// them all. What it did not take stays due.
    pub(super) fn write_due(&mut self, at: &mut Reached<'_>) -> bool {
        if self.unused_due {
            for bytes in &self.unused {
                clear(at.requester(), bytes.clone());
            }
            self.unused_due = false;
        }
        while let Some(first) = self.record.first_due() {
            let run = self.run(at.vdev(), first);
            if !self.write(at, run.clone()) {
                if ratelimit::allows(Message::Table) {
                    dev_err!(
                        at.pci(),
                        "TPH: the MSI-X table refuses what is written, or does not answer\n"
                    );
                }
                return false;
            }
            self.record.written(run);
        }
        true
    }

    fn write(&self, at: &mut Reached<'_>, run: Range<usize>) -> bool {
        let tags = &self.wanted()[run.clone()];
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
                    .all(|vector| table.clear_tag(vector as u16).is_ok())
            }
        }
    }

    /// The entries from `first` on that are due and can be written in one go.
    fn run(&self, vdev: &VfioPciDevice, first: usize) -> Range<usize> {
        let in_msix = self.place == Place::Msix;
        let allocated = in_msix && is_allocated(vdev, first);
        let alike = |entry: usize| !in_msix || is_allocated(vdev, entry) == allocated;
        let len = (first..self.wanted().len())
            .take_while(|&entry| self.record.is_due(entry) && alike(entry))
            .count();
        first..first + len
    }
}

impl Set for BitmapVec {
    // All of them ask first: the kernel logs a bit past the end.

    fn add(&mut self, entry: usize) {
        if entry < self.len() {
            self.set_bit(entry);
        }
    }

    fn remove(&mut self, entry: usize) {
        if entry < self.len() {
            self.clear_bit(entry);
        }
    }

    fn next(&self, from: usize) -> Option<usize> {
        (from < self.len()).then(|| self.next_bit(from)).flatten()
    }
}

/// Whether an entry of a table at `place` can have a tag: that of a vector without an interrupt
/// cannot.
pub(super) fn can_have(place: Place, vdev: &VfioPciDevice, entry: usize) -> bool {
    place != Place::Msix || is_allocated(vdev, entry)
}

fn is_allocated(vdev: &VfioPciDevice, vector: usize) -> bool {
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
