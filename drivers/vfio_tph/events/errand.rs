// SPDX-License-Identifier: GPL-2.0-only

//! What a user does to an open device for which tags of CPUs may have to be asked of firmware, or
//! memory decoded: it is tried again until nothing is missing.

use super::show::{
    count_lost,
    guest_changed,
    show_all,
    show_capability,
    with_tph, //
};
use crate::{
    debugfs::Count,
    device::{
        Terms,
        TphSession,
        VfioTph, //
    },
    failure::Failure,
    hardware::{
        guest::{
            GuestWrite,
            Missing, //
        },
        Outcome,
        Tph, //
    },
    rules::{
        guest::{
            Answer,
            Map,
            Target,
            MAX_ENTRIES, //
        },
        reconcile::Place,
        refusal::Refusal, //
    },
    rust::{
        pci::Awake,
        vfio::pci::{
            Handle,
            Memory,
            MsixTable,
            Open, //
        },
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// How often firmware is asked for what one errand needs, at most. Answers are kept, so that each
/// time brings a new one, unless there is no memory to ask with.
const ASKED: u32 = 4;

/// Something that a user does to a device for which tags of CPUs may have to be known, and memory
/// decoded; [`run`] tries it until nothing is missing.
trait Errand {
    /// Whether memory may have to be decoded for it, for the moment.
    fn needs_memory(&self, tph: &Tph) -> bool;

    /// Calls `each` with the CPUs whose tags have to be known for it.
    fn targets(&self, terms: &Terms, tph: &mut Tph, each: &mut dyn FnMut(Target));

    /// Which of a guest's entries it writes.
    fn writes(&self) -> Range<usize>;

    /// Does it, or says what is missing. Then nothing has changed.
    fn run(
        &mut self,
        open: &mut Open<'_, VfioTph>,
        memory: &mut Memory<'_>,
        missing: Missing<'_>,
    ) -> Result<Outcome, Failure>;
}

/// Runs an errand, again and again until nothing is missing, and shows what came of it. Firmware is
/// asked with no lock held. Errors are the errand's, and those of [`super::sync_pending`].
fn run(handle: Handle<'_, VfioTph>, errand: &mut dyn Errand) -> Result<(), Failure> {
    let terms = handle.terms();
    let (mut asked, mut last_memory) = (0, false);
    loop {
        let needs_memory = |session: &TphSession| {
            let tph = session.tph.as_ref();
            tph.is_some_and(|tph| errand.needs_memory(tph))
        };
        let mut guard = handle.lock_hardware(&needs_memory)?;
        let (mut open, mut memory) = guard.open_with_memory();
        let missing = Missing {
            firmware: &terms.firmware(),
            last_tags: asked >= ASKED,
            last_memory,
        };
        let done = errand.run(&mut open, &mut memory, missing);
        match done {
            Ok(Outcome::NeedsTags) => {
                drop(guard);
                ask(handle, errand);
                asked += 1;
            }
            Ok(Outcome::NeedsMemory) => last_memory = true,
            done => {
                guest_changed(&mut open, errand.writes());
                return done.map(|_| ());
            }
        }
    }
}

/// Asks firmware for the CPUs whose tags have to be known for an errand, as far as they are not.
#[inline(never)]
fn ask(handle: Handle<'_, VfioTph>, errand: &dyn Errand) {
    let terms = handle.terms();
    let firmware = terms.firmware();
    let mut unknown = [Target::Nothing; MAX_ENTRIES];
    let mut left = unknown.iter_mut();
    if let Some(tph) = &mut handle.lock_records().open().tph {
        errand.targets(terms, tph, &mut |target| {
            if firmware.answer(target) == Answer::Unknown {
                if let Some(free) = left.next() {
                    *free = target;
                }
            }
        });
    }
    for target in unknown {
        // It may be the same as one before.
        if target != Target::Nothing && firmware.answer(target) == Answer::Unknown {
            firmware.ask(target);
        }
    }
}

/// A user writes Control or, as a guest, entries, or both.
struct Writing<'a>(&'a GuestWrite<'a>);

impl Errand for Writing<'_> {
    fn needs_memory(&self, tph: &Tph) -> bool {
        self.0.control.is_some() && tph.write_needs_memory()
    }

    fn targets(&self, terms: &Terms, tph: &mut Tph, each: &mut dyn FnMut(Target)) {
        if let Some(guest) = &terms.guest {
            tph.targets_of_write(&guest.shown.offer, self.0, each);
        }
    }

    fn writes(&self) -> Range<usize> {
        self.0.entries.map_or(0..0, |(offset, bytes)| {
            offset / 2..(offset + bytes.len()).div_ceil(2)
        })
    }

    fn run(
        &mut self,
        open: &mut Open<'_, VfioTph>,
        memory: &mut Memory<'_>,
        missing: Missing<'_>,
    ) -> Result<Outcome, Failure> {
        let terms = open.terms();
        let write = self.0;
        let (Some(shown), Some(tph)) = (terms.shown(), &mut open.tph) else {
            return Ok(Outcome::Dropped);
        };
        let offer = &shown.offer;
        // The map may have come, or gone, since the user began.
        let is_guest = tph.guest_table().is_some();
        let reaches = tph.place() == Place::Msix
            && (self.needs_memory(tph)
                || is_guest && tph.targets_of_write(offer, write, &mut |_| ()));
        let msix = table_if(reaches, memory);
        let written = with_tph(open, msix, |tph, at| match write.control {
            _ if is_guest => tph.write_guest(at, write, missing),
            Some((offset, bytes)) => tph.write_control(at, offset, bytes, missing.last_memory),
            None => Outcome::InForce,
        });
        let written = written.unwrap_or(Outcome::Dropped);
        let counters = &terms.visible.counters;
        match written {
            Outcome::NeedsTags | Outcome::NeedsMemory => return Ok(written),
            Outcome::InForce if write.control.is_some() => counters.count(Count::ConfigWrites),
            Outcome::InForce => (),
            Outcome::Dropped => counters.count(Count::DroppedWrites),
        }
        if is_guest && write.entries.is_some() {
            counters.count(Count::GuestWrites);
        }
        Ok(written)
    }
}

/// A user writes Control or, as a guest, entries, or both; the device is awake. Errors as
/// [`super::sync_pending`].
pub(crate) fn write(handle: Handle<'_, VfioTph>, write: &GuestWrite<'_>) -> Result {
    Ok(run(handle, &mut Writing(write))?)
}

/// Vectors or memory have come within reach: hardware gets what a guest has written and it does not
/// have yet. TPH is off if hardware does not take it.
struct Settling;

impl Errand for Settling {
    fn needs_memory(&self, _: &Tph) -> bool {
        false
    }

    fn targets(&self, _: &Terms, tph: &mut Tph, each: &mut dyn FnMut(Target)) {
        tph.owed_targets(each);
    }

    fn writes(&self) -> Range<usize> {
        0..0
    }

    fn run(
        &mut self,
        open: &mut Open<'_, VfioTph>,
        memory: &mut Memory<'_>,
        missing: Missing<'_>,
    ) -> Result<Outcome, Failure> {
        let msix = match &open.tph {
            Some(tph) if tph.owes_guest() => tph.msix_table(memory),
            _ => return Ok(Outcome::InForce),
        };
        let terms = open.terms();
        let written = with_tph(open, msix, |tph, at| {
            let awake = tph.is_reachable(at);
            let written = tph.settle_guest(at, missing);
            count_lost(terms, written, awake);
            written
        });
        Ok(written.unwrap_or(Outcome::InForce))
    }
}

/// Runs [`Settling`], if there is something to do. Errors as [`super::sync_pending`].
pub(crate) fn settle_guest(handle: Handle<'_, VfioTph>) -> Result {
    if is_recorded(handle, Tph::owes_guest) {
        run(handle, &mut Settling)?;
    }
    Ok(())
}

/// Whether a map may be set, or taken away, as things are.
pub(crate) fn may_set_map(
    handle: Handle<'_, VfioTph>,
    there: bool,
    by_admin: bool,
) -> Result<(), Refusal> {
    match &handle.lock_records().open().tph {
        Some(tph) => tph.may_set_map(there, by_admin),
        None => Err(Refusal::Unsupported),
    }
}

/// The map of a guest's tags is set, or taken away.
struct Mapping<'a> {
    map: Option<KBox<Map>>,
    by_admin: bool,
    /// What is done when it is in place, before the session is unlocked.
    done: &'a mut dyn FnMut(),
}

impl Errand for Mapping<'_> {
    fn needs_memory(&self, tph: &Tph) -> bool {
        tph.needs_memory() || tph.place() == Place::Msix
    }

    fn targets(&self, _: &Terms, tph: &mut Tph, each: &mut dyn FnMut(Target)) {
        if let Some(map) = &self.map {
            tph.targets_of_map(map, each);
        }
    }

    fn writes(&self) -> Range<usize> {
        0..0
    }

    fn run(
        &mut self,
        open: &mut Open<'_, VfioTph>,
        memory: &mut Memory<'_>,
        missing: Missing<'_>,
    ) -> Result<Outcome, Failure> {
        let (Some(guest), Some(tph)) = (&open.terms().guest, &open.tph) else {
            return Err(Refusal::Unsupported.into());
        };
        tph.may_set_map(self.map.is_some(), self.by_admin)?;
        let msix = tph.msix_table(memory);
        let entries = guest.shown.offer.entries;
        let set = with_tph(open, msix, |tph, at| {
            tph.set_map(at, &mut self.map, self.by_admin, entries, missing)
        });
        let set = set.unwrap_or(Err(Refusal::Unsupported.into()))?;
        if set == Outcome::InForce {
            show_capability(open);
            // Of a device that sleeps, what it is to have when it wakes up.
            show_all(open);
            (self.done)();
        }
        Ok(set)
    }
}

/// Sets the map of a guest's tags, or takes it away. `done` runs when it is in place, before the
/// session is unlocked. EIO if the device cannot be woken up; else errors as
/// [`super::sync_pending`].
pub(crate) fn set_map(
    handle: Handle<'_, VfioTph>,
    map: Option<KBox<Map>>,
    by_admin: bool,
    done: &mut dyn FnMut(),
) -> Result<(), Failure> {
    let _awake = Awake::new(handle.vdev().pci()).map_err(|_| EIO)?;
    let mut errand = Mapping {
        map,
        by_admin,
        done,
    };
    // Also of a device that sleeps: what is known when it wakes up is written at once.
    ask(handle, &errand);
    run(handle, &mut errand)
}

/// Whether something is so by what is recorded of TPH.
pub(super) fn is_recorded(handle: Handle<'_, VfioTph>, of: impl FnOnce(&Tph) -> bool) -> bool {
    handle.lock_records().open().tph.as_ref().is_some_and(of)
}

/// The MSI-X table, if it is `needed`.
pub(super) fn table_if<'a>(needed: bool, memory: &'a mut Memory<'_>) -> Option<MsixTable<'a>> {
    if needed {
        memory.msix_table()
    } else {
        None
    }
}
