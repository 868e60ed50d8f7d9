// SPDX-License-Identifier: GPL-2.0-only

//! What a guest with virtual tags does to TPH of a device: it writes its entries and Control, its
//! map is set, and vectors and memory come within reach for which it has entries already.
//!
//! The guest's entries are what is wanted. They become what hardware is to hold ([`Tph::put`])
//! when hardware uses them: in Interrupt Vector mode, under an enabled requester. Firmware is never
//! asked in here, where locks are held: the caller asks for what is not known of a CPU, and tries
//! again.

use super::{
    reached::Reached,
    table::can_have,
    Failed,
    Guest,
    Outcome, //
    Tph,
};
use crate::{
    failure::Failure,
    lookup::Firmware,
    rules::{
        capability::Offer,
        control,
        guest::{
            used,
            Aim,
            Before,
            Map,
            Settled,
            Target,
            VirtualTable,
            World,
            MAX_ENTRIES, //
        },
        reconcile::{
            Doubt,
            Reach, //
        },
        refusal::Refusal,
        regs::{
            Control,
            StMode, //
        },
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// What a guest writes to a device in one go.
#[derive(Clone, Copy, Default)]
pub(crate) struct GuestWrite<'a> {
    /// Bytes of Control, and where in the register they go.
    pub(crate) control: Option<(usize, &'a [u8])>,
    /// Bytes of the table, and where in the table they go.
    pub(crate) entries: Option<(usize, &'a [u8])>,
}

/// What a caller can still do about what is missing.
#[derive(Clone, Copy)]
pub(crate) struct Missing<'a> {
    /// What is known of tags.
    pub(crate) firmware: &'a Firmware<'a>,
    /// Whether nobody asks firmware once more: what is not known counts as failed.
    pub(crate) last_tags: bool,
    /// Whether the caller has no better way to reach memory.
    pub(crate) last_memory: bool,
}

impl Guest {
    /// A guest with a table of `entries` entries, which are 0.
    #[inline(never)]
    fn new(map: KBox<Map>, entries: u16, by_admin: bool) -> Self {
        Self {
            map,
            table: VirtualTable::new(entries),
            before: Before::new(),
            tags: [0; MAX_ENTRIES],
            by_admin,
        }
    }

    /// Its entries are about to change.
    #[inline(never)]
    fn begin(&mut self) {
        self.before.begin(&self.table);
    }

    fn write(&mut self, entries: Option<(usize, &[u8])>) {
        if let Some((offset, bytes)) = entries {
            self.table.write(offset, bytes, &mut self.before);
        }
    }
}

impl Tph {
    /// The entries from the first to the last one whose wanted tag has changed since this was
    /// called last.
    pub(crate) fn take_changed(&mut self) -> Range<usize> {
        let changed = core::mem::take(&mut self.changed);
        // CAST: at most 64.
        let end = 64 - changed.leading_zeros() as usize;
        // CAST: as above.
        (changed.trailing_zeros() as usize).min(end)..end
    }

    /// Calls `each` with the CPUs whose tags have to be known for what [`Self::owes_guest`] finds.
    pub(crate) fn owed_targets(&self, each: &mut dyn FnMut(Target)) {
        if let Some(guest) = &self.guest {
            guest.table.targets(self.aim(false), &guest.map, each);
        }
    }

    /// Calls `each` with the CPUs whose tags have to be known for a write. Returns whether
    /// hardware's entries may change.
    pub(crate) fn targets_of_write(
        &mut self,
        offer: &Offer,
        write: &GuestWrite<'_>,
        each: &mut dyn FnMut(Target),
    ) -> bool {
        let mut aim = self.aim(false);
        if let Some((offset, bytes)) = write.control {
            if let Some(next) = control::judge(self.control(), offer, offset, bytes) {
                aim.control = next;
                aim.retry = true;
            }
        }
        let Some(guest) = self.guest.as_deref_mut() else {
            return false;
        };
        guest.begin();
        guest.write(write.entries);
        guest.table.targets(aim, &guest.map, each);
        let changes = guest.table.is_unsettled(aim);
        guest.table.go_back(&guest.before);
        changes
    }

    /// Calls `each` with the CPUs whose tags have to be known for a new map.
    pub(crate) fn targets_of_map(&self, map: &Map, each: &mut dyn FnMut(Target)) {
        if let Some(guest) = &self.guest {
            let mut table = guest.table.clone();
            table.moved(&guest.map, map);
            table.targets(self.aim(false), map, each);
        }
    }

    /// The guest writes entries, Control, or both: entries first.
    pub(crate) fn write_guest(
        &mut self,
        at: &mut Reached<'_>,
        write: &GuestWrite<'_>,
        missing: Missing<'_>,
    ) -> Outcome {
        if !self.is_reachable(at) {
            return Outcome::Dropped;
        }
        let Some(guest) = self.guest.as_deref_mut() else {
            return Outcome::Dropped;
        };
        let Some((offset, bytes)) = write.control else {
            guest.begin();
            guest.write(write.entries);
            let reached = at.is_table_users(self.place());
            return self.settle_begun(at, missing, reached);
        };

        self.held.doubt(Doubt::Behind);
        if self.sync(at, false).is_err() {
            return Outcome::Dropped;
        }
        if self.lacks_memory(at) && !missing.last_memory {
            return Outcome::NeedsMemory;
        }
        let Some(next) = self.judge(at, offset, bytes) else {
            let entries = GuestWrite {
                control: None,
                ..*write
            };
            return match self.write_guest(at, &entries, missing) {
                Outcome::InForce => Outcome::Dropped,
                written => written,
            };
        };
        self.enter(at, next, write, missing)
    }

    /// The guest writes Control, which is `next` then, and possibly entries.
    fn enter(
        &mut self,
        at: &mut Reached<'_>,
        next: Control,
        write: &GuestWrite<'_>,
        missing: Missing<'_>,
    ) -> Outcome {
        let Some(guest) = self.guest.as_deref_mut() else {
            return Outcome::Dropped;
        };
        guest.begin();
        guest.write(write.entries);
        let aim = Aim {
            control: next,
            retry: true,
            last: missing.last_tags,
        };
        let reached = at.is_table_users(self.place());
        if reached {
            if self.put(at, aim, missing.firmware).unknown {
                self.go_back();
                return Outcome::NeedsTags;
            }
        } else if used(next).is_some() && !self.can_wait(at, aim) {
            // Entries are recorded.
            return Outcome::Dropped;
        }

        let new_entries = self.is_pending();
        self.put_in_force(at, next, new_entries)
    }

    /// Gives hardware what it has to get and does not have yet, if it can be reached; if not, that
    /// stays open. If hardware does not take it TPH is off afterwards, and entries are as before.
    pub(crate) fn settle_guest(&mut self, at: &mut Reached<'_>, missing: Missing<'_>) -> Outcome {
        if !self.is_reachable(at) {
            return Outcome::Dropped;
        }
        let Some(guest) = self.guest.as_deref_mut() else {
            return Outcome::InForce;
        };
        guest.begin();
        let reached = at.is_table_users(self.place());
        self.settle_begun(at, missing, reached)
    }

    /// As [`Self::settle_guest`], if the table is `reached`. If it fails, what was done to the
    /// guest's entries since [`Guest::begin`] is undone.
    fn settle_begun(
        &mut self,
        at: &mut Reached<'_>,
        missing: Missing<'_>,
        reached: bool,
    ) -> Outcome {
        if !self.owes_guest() || !reached {
            return Outcome::InForce;
        }
        let aim = self.aim(missing.last_tags);
        if self.put(at, aim, missing.firmware).unknown {
            self.go_back();
            return Outcome::NeedsTags;
        }
        if !self.is_pending() {
            return Outcome::InForce;
        }
        self.held.doubt(Doubt::Behind);
        let done = self.sync(at, true);
        if done.is_ok() && !self.is_pending() && self.held.control == Some(self.wanted) {
            return Outcome::InForce;
        }
        self.go_back();
        self.give_up(at);
        Outcome::Dropped
    }

    /// Looks whether a device whose entries cannot be reached answers. If it does not, TPH is off.
    fn look_for_guest(&mut self, at: &mut Reached<'_>) -> Outcome {
        if self.owes_guest() {
            self.held.doubt(Doubt::Behind);
            if self.sync(at, true).is_err() {
                self.give_up(at);
                return Outcome::Dropped;
            }
        }
        Outcome::InForce
    }

    /// Says what hardware's entries are to have for `aim`: those that change are due then, and
    /// those that come to stand for another CPU.
    fn put(&mut self, at: &Reached<'_>, aim: Aim, firmware: &Firmware<'_>) -> Settled {
        let Self {
            table,
            changed,
            guest: Some(guest),
            ..
        } = self
        else {
            return Settled::default();
        };
        let guest = &mut **guest;
        let (place, vdev) = (table.place(), at.vdev());
        let world = World {
            map: &guest.map,
            answer: &|target| firmware.answer(target),
            can_have: &|entry| can_have(place, vdev, entry),
        };
        let tags = &mut guest.tags;
        let want = &mut |entry: usize, tag, always| {
            let old = match always {
                true => table.renew(entry, tag),
                false => table.want(entry, tag),
            };
            if let Some(old) = old {
                let bit = 1 << entry;
                if let (0, Some(kept)) = (*changed & bit, tags.get_mut(entry)) {
                    *kept = old;
                }
                *changed |= bit;
            }
        };
        let settled = guest.table.settle(aim, &world, &mut guest.before, want);
        firmware.count_failed(settled.failed);
        settled
    }

    /// Whether hardware, which cannot be reached, may use its entries for `aim` as they are.
    fn can_wait(&self, at: &Reached<'_>, aim: Aim) -> bool {
        let (place, vdev) = (self.place(), at.vdev());
        self.guest.as_ref().is_none_or(|guest| {
            let can_have = |entry| can_have(place, vdev, entry);
            guest.table.can_wait(aim, &guest.map, &can_have)
        })
    }

    /// The map was replaced while the device cannot be reached: when it wakes up, it neither gets a
    /// tag of the old map back nor goes on with one.
    fn drop_stale(&mut self, at: &mut Reached<'_>) {
        let Self { table, guest, .. } = self;
        if let Some(guest) = guest {
            // Nothing is written before it wakes up. What is written then is told of if the entry
            // has come to stand for another CPU; the 0 of one that stands for nothing is not.
            guest.table.drop_stale(&mut |entry| {
                table.renew(entry, 0);
            });
        }
        // What cannot be done stays due.
        let _ = self.sync(at, false);
    }

    /// Whether a map may be set, or taken away. The user cannot change the administrator's map, nor
    /// the administrator the user's.
    pub(crate) fn may_set_map(&self, there: bool, by_admin: bool) -> Result<(), Refusal> {
        if self.retired {
            return Err(Refusal::DeviceGone);
        }
        let others = match &self.guest {
            Some(guest) => guest.by_admin != by_admin,
            // The administrator's is there from the start, and until the end.
            None => by_admin,
        };
        let changes = self.guest.is_some() != there;
        if others || changes && (by_admin || self.control().enabled()) {
            return Err(Refusal::Busy);
        }
        Ok(())
    }

    /// The administrator's map is there from the start: all entries are 0.
    pub(crate) fn start_guest(&mut self, map: KBox<Map>, entries: u16) -> Result {
        let guest = Guest::new(map, entries, true);
        self.guest = Some(KBox::new(guest, GFP_KERNEL_ACCOUNT)?);
        Ok(())
    }

    /// Puts `map` in place, of a table of `entries` entries, or takes the map away; what was there
    /// is in `map` then. On failure nothing has changed, but that TPH may be off.
    pub(crate) fn set_map(
        &mut self,
        at: &mut Reached<'_>,
        map: &mut Option<KBox<Map>>,
        by_admin: bool,
        entries: u16,
        missing: Missing<'_>,
    ) -> Result<Outcome, Failure> {
        match (&self.guest, &mut *map) {
            (None, None) => Ok(Outcome::InForce),
            (Some(_), Some(map)) => match self.replace_map(at, map, missing) {
                Outcome::Dropped => Err(Refusal::DeviceGone.into()),
                written => Ok(written),
            },
            (_, map) => self.start_or_end(at, map, by_admin, entries),
        }
    }

    /// Puts `map` in the place of another one, and the other way round. On failure both stay where
    /// they are.
    fn replace_map(
        &mut self,
        at: &mut Reached<'_>,
        map: &mut KBox<Map>,
        missing: Missing<'_>,
    ) -> Outcome {
        let Some(guest) = self.guest.as_deref_mut() else {
            return Outcome::Dropped;
        };
        guest.begin();
        guest.table.moved(&guest.map, map);
        core::mem::swap(&mut guest.map, map);
        let written = match at.reach() {
            // Of a device that sleeps what differs is written when it wakes up.
            Reach::Nothing | Reach::ControlOnly => {
                self.drop_stale(at);
                Outcome::InForce
            }
            // Also if its user does not have it decode memory: it may go on sending.
            reach if reach >= self.place().reach() => self.settle_begun(at, missing, true),
            _ => self.look_for_guest(at),
        };
        if matches!(written, Outcome::NeedsTags | Outcome::Dropped) {
            self.go_back();
            if let Some(guest) = &mut self.guest {
                core::mem::swap(&mut guest.map, map);
            }
        }
        written
    }

    /// Starts a guest with `map`, or ends it if there is none: all entries are 0 then.
    fn start_or_end(
        &mut self,
        at: &mut Reached<'_>,
        map: &mut Option<KBox<Map>>,
        by_admin: bool,
        entries: u16,
    ) -> Result<Outcome, Failure> {
        // Also if there is nothing to clear: the caller is not to learn that.
        if at.reach() < self.place().reach() {
            return Err(Refusal::DeviceGone.into());
        }
        let place = match map {
            Some(_) => Some(KBox::new_uninit(GFP_KERNEL_ACCOUNT)?),
            None => None,
        };
        let mut changed = 0;
        let mut tags = KVec::new();
        tags.extend_from_slice(self.tags(), GFP_KERNEL)?;
        for (entry, &tag) in self.tags().iter().take(MAX_ENTRIES).enumerate() {
            changed |= u64::from(tag != 0) << entry;
        }
        // Of a device that was to have TPH on and has lost it, too: the user reads that it is off.
        // A guest has no Device Specific mode.
        let now = self.control();
        self.wanted = match now.st_mode {
            StMode::DeviceSpecific if map.is_some() => Control::RESET,
            _ => now,
        };
        self.table.clear();
        if self.mappable {
            self.table.all_due();
        }
        let done = self.sync(at, true);
        if self.is_pending() || done.is_err() {
            self.table.exchange(0..tags.len(), &mut tags);
            // It is disabled: this turns nothing on. What may not stay is not selected again.
            if done != Err(Failed::Misfit) {
                self.wanted = now;
            }
            let _ = self.sync(at, false);
            return Err(Refusal::DeviceGone.into());
        }
        self.changed = changed;
        let old = self.guest.take();
        let new = map.take().zip(place);
        self.guest = new.map(|(map, place)| KBox::write(place, Guest::new(map, entries, by_admin)));
        *map = old.map(|guest| KBox::into_inner(guest).map);
        Ok(Outcome::InForce)
    }
}
