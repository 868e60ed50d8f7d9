// SPDX-License-Identifier: GPL-2.0-only

//! What a guest with virtual tags does to TPH of a device: it writes its entries and Control, its
//! map is set, and vectors and memory come within reach for which it has entries already.
//!
//! The guest's entries are what is wanted. They become what hardware is to hold ([`Tph::put`])
//! when hardware uses them: in Interrupt Vector mode, under an enabled requester. Firmware is never
//! asked in here, where locks are held: what is not known of a CPU is asked for by the caller, who
//! comes again.

use super::{
    Guest,
    Tph,
    Written, //
};
use crate::{
    failure::Failure,
    lookup::Firmware,
    reached::Reached,
    rules::{
        capability::Offer,
        control,
        guest::{
            used,
            Aim,
            Map,
            Settled,
            Table,
            Target,
            World,
            MAX_ENTRIES, //
        },
        reconcile::{
            Doubt,
            Place,
            Reach, //
        },
        refusal::Refusal,
        regs::Control, //
    },
    table::can_have,
};
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
    /// Whether there is no better way to reach memory.
    pub(crate) last_memory: bool,
}

/// What came of a new map.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum MapSet {
    /// It is in place.
    Done,
    /// Nothing yet: firmware has to be asked for tags.
    NeedsTags,
}

impl Tph {
    /// The guest's entries, if there is a guest.
    pub(crate) fn guest_table(&self) -> Option<&Table> {
        self.guest.as_ref().map(|guest| &guest.table)
    }

    /// What the first entries of hardware's table are to have.
    pub(crate) fn first_tags(&self) -> [u16; MAX_ENTRIES] {
        self.table.first()
    }

    /// What entries are settled for while Control stays as it is.
    fn aim(&self, last: bool) -> Aim {
        Aim {
            control: self.wanted,
            retry: false,
            last,
        }
    }

    /// Whether hardware has to get something that it does not have yet.
    pub(crate) fn owes_guest(&self) -> bool {
        let table = self.guest_table();
        table.is_some_and(|table| table.is_unsettled(self.aim(false)))
    }

    /// Calls `each` with the CPUs whose tags have to be known for that.
    pub(crate) fn owed_targets(&self, each: &mut dyn FnMut(Target)) {
        if let Some(guest) = &self.guest {
            guest.table.targets(self.aim(false), &guest.map, each);
        }
    }

    /// The guest's entries as a write makes them, and what they are settled for then.
    fn after(&self, offer: &Offer, write: &GuestWrite<'_>) -> Option<(&Guest, Table, Aim)> {
        let guest = self.guest.as_ref()?;
        let mut table = guest.table.clone();
        if let Some((offset, bytes)) = write.entries {
            table.write(offset, bytes);
        }
        let mut aim = self.aim(false);
        if let Some((offset, bytes)) = write.control {
            if let Some(next) = control::judge(self.control(), offer, offset, bytes) {
                aim.control = next;
                aim.retry = true;
            }
        }
        Some((guest, table, aim))
    }

    /// Calls `each` with the CPUs whose tags have to be known for a write. Returns whether
    /// hardware's entries may change.
    pub(crate) fn targets_of_write(
        &self,
        offer: &Offer,
        write: &GuestWrite<'_>,
        each: &mut dyn FnMut(Target),
    ) -> bool {
        let Some((guest, table, aim)) = self.after(offer, write) else {
            return false;
        };
        table.targets(aim, &guest.map, each);
        table.is_unsettled(aim)
    }

    /// Calls `each` with the CPUs whose tags have to be known for a new map.
    pub(crate) fn targets_of_map(&self, map: &Map, each: &mut dyn FnMut(Target)) {
        if let Some(guest) = &self.guest {
            let mut table = guest.table.clone();
            table.moved(&guest.map, map, self.table.wanted());
            table.targets(self.aim(false), map, each);
        }
    }

    /// The guest writes entries, Control, or both: entries first.
    pub(crate) fn write_guest(
        &mut self,
        at: &mut Reached<'_>,
        offer: &Offer,
        write: &GuestWrite<'_>,
        missing: Missing<'_>,
    ) -> Written {
        if !self.is_reachable(at) {
            return Written::Dropped;
        }
        let Some(guest) = &mut self.guest else {
            return Written::Dropped;
        };
        let Some((offset, bytes)) = write.control else {
            let before = guest.table.clone();
            if let Some((offset, bytes)) = write.entries {
                guest.table.write(offset, bytes);
            }
            return self.settle_guest_from(at, missing, before);
        };

        self.held.doubt(Doubt::Behind);
        if self.sync(at, false).is_err() {
            return Written::Dropped;
        }
        if self.lacks_memory(at) && !missing.last_memory {
            return Written::NeedsMemory;
        }
        let Some(next) = self.judge(at, offer, offset, bytes) else {
            let entries = GuestWrite {
                control: None,
                ..*write
            };
            return match self.write_guest(at, offer, &entries, missing) {
                Written::InForce => Written::Dropped,
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
    ) -> Written {
        let Some(guest) = &mut self.guest else {
            return Written::Dropped;
        };
        let before = (guest.table.clone(), self.table.first(), self.wanted);
        if let Some((offset, bytes)) = write.entries {
            guest.table.write(offset, bytes);
        }
        let aim = Aim {
            control: next,
            retry: true,
            last: missing.last_tags,
        };
        let reached = at.is_table_users(self.place());
        if reached {
            if self.put(at, aim, missing.firmware).unknown {
                self.set_guest_table(before.0);
                return Written::NeedsTags;
            }
        } else if used(next).is_some() && !self.can_wait(at, aim) {
            // Entries are recorded.
            return Written::Dropped;
        }

        let changes_entries = self.is_pending();
        if next.enabled() {
            self.held.before_enable(self.table.witness().is_some());
        }
        self.wanted = next;
        let done = self.sync(at, true);
        // The device may have made something else of the write: that is in force now, unless its
        // entries are in the other namespace then.
        let found = self.held.control.unwrap_or(next);
        let misfits = used(found).is_some() && used(found) != used(next);
        if done.is_ok() && !(next.enabled() && self.is_pending()) && !misfits {
            self.wanted = found;
            return Written::InForce;
        }
        self.set_guest_table(before.0);
        self.restore_tags(&before.1);
        if changes_entries || misfits {
            self.give_up(at);
        } else {
            self.wanted = before.2;
            if done.is_ok() {
                let _ = self.sync(at, false);
            }
        }
        Written::Dropped
    }

    /// Gives hardware what it has to get and does not have yet, if it can be reached; if not, that
    /// stays open. If hardware does not take it TPH is off afterwards, and entries are as before.
    pub(crate) fn settle_guest(&mut self, at: &mut Reached<'_>, missing: Missing<'_>) -> Written {
        if !self.is_reachable(at) {
            return Written::Dropped;
        }
        match self.guest_table().cloned() {
            Some(before) => self.settle_guest_from(at, missing, before),
            None => Written::InForce,
        }
    }

    /// The same; entries are `before` if it fails.
    fn settle_guest_from(
        &mut self,
        at: &mut Reached<'_>,
        missing: Missing<'_>,
        before: Table,
    ) -> Written {
        if !self.owes_guest() || !at.is_table_users(self.place()) {
            return Written::InForce;
        }
        let tags = self.table.first();
        let aim = self.aim(missing.last_tags);
        if self.put(at, aim, missing.firmware).unknown {
            self.set_guest_table(before);
            return Written::NeedsTags;
        }
        if !self.is_pending() {
            return Written::InForce;
        }
        self.held.doubt(Doubt::Behind);
        let done = self.sync(at, true);
        if done.is_ok() && !self.is_pending() && self.held.control == Some(self.wanted) {
            return Written::InForce;
        }
        self.set_guest_table(before);
        self.restore_tags(&tags);
        self.give_up(at);
        Written::Dropped
    }

    /// Looks whether the device answers, whose entries cannot be reached. If not TPH is off.
    fn look_for_guest(&mut self, at: &mut Reached<'_>) -> Written {
        self.held.doubt(Doubt::Behind);
        if self.owes_guest() && self.sync(at, true).is_err() {
            self.give_up(at);
            return Written::Dropped;
        }
        Written::InForce
    }

    /// Says what hardware's entries are to have for `aim`: those that change are due then.
    fn put(&mut self, at: &Reached<'_>, aim: Aim, firmware: &Firmware<'_>) -> Settled {
        let table = &mut self.table;
        let Some(guest) = &mut self.guest else {
            return Settled::default();
        };
        let settled = settle(
            guest,
            table.place(),
            at,
            aim,
            firmware,
            &mut |entry, tag| {
                table.want(entry, tag);
                true
            },
        );
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

    /// The device cannot be reached: no tag of a map that is no more is what it gets back, nor goes
    /// on with.
    fn drop_stale(&mut self, at: &mut Reached<'_>) {
        let table = &mut self.table;
        if let Some(guest) = &mut self.guest {
            guest.table.drop_stale(&mut |entry| table.want(entry, 0));
        }
        // What cannot be done stays due.
        let _ = self.sync(at, false);
    }

    fn set_guest_table(&mut self, table: Table) {
        if let Some(guest) = &mut self.guest {
            guest.table = table;
        }
    }

    /// The first entries are to have what they had.
    fn restore_tags(&mut self, tags: &[u16; MAX_ENTRIES]) {
        for (entry, &tag) in tags.iter().enumerate() {
            self.table.want(entry, tag);
        }
    }

    /// Whether a map may be set, or taken away. The map of one side is none of the other's.
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

    /// Whether memory has to be decoded to set a map, or to take it away.
    pub(crate) fn map_needs_memory(&self, there: bool) -> bool {
        self.needs_memory() || self.guest.is_some() != there && self.place() == Place::Msix
    }

    /// The administrator's map is there from the start: all entries are 0.
    pub(crate) fn start_guest(&mut self, map: KBox<Map>, entries: u16) {
        self.guest = Some(Guest {
            map,
            table: Table::new(entries),
            by_admin: true,
        });
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
    ) -> Result<MapSet, Failure> {
        match (&mut self.guest, &mut *map) {
            (None, None) => return Ok(MapSet::Done),
            (Some(guest), Some(map)) => {
                let before = guest.table.clone();
                guest.table.moved(&guest.map, map, self.table.wanted());
                core::mem::swap(&mut guest.map, map);
                // Of a device that sleeps what differs is written when it wakes up.
                let written = match at.reach() {
                    Reach::Nothing => {
                        self.drop_stale(at);
                        Written::InForce
                    }
                    _ if at.is_table_users(self.place()) => self.settle_guest(at, missing),
                    _ => self.look_for_guest(at),
                };
                if written == Written::InForce {
                    return Ok(MapSet::Done);
                }
                self.set_guest_table(before);
                if let Some(guest) = &mut self.guest {
                    core::mem::swap(&mut guest.map, map);
                }
                return match written {
                    Written::NeedsTags => Ok(MapSet::NeedsTags),
                    _ => Err(Refusal::DeviceGone.into()),
                };
            }
            _ => (),
        }

        // Also if there is nothing to clear: who asks is not to learn that.
        if at.reach() < self.place().reach() {
            return Err(Refusal::DeviceGone.into());
        }
        let mut tags = KVec::new();
        tags.extend_from_slice(self.tags(), GFP_KERNEL)?;
        self.table.clear();
        if self.mappable {
            self.table.all_due();
        }
        let done = self.sync(at, true);
        if self.is_pending() || done.is_err() && !tags.is_empty() {
            self.table.exchange(0..tags.len(), &mut tags);
            let _ = self.sync(at, false);
            return Err(Refusal::DeviceGone.into());
        }
        let old = self.guest.take();
        self.guest = map.take().map(|map| Guest {
            map,
            table: Table::new(entries),
            by_admin,
        });
        *map = old.map(|guest| guest.map);
        Ok(MapSet::Done)
    }
}

fn settle(
    guest: &mut Guest,
    place: Place,
    at: &Reached<'_>,
    aim: Aim,
    firmware: &Firmware<'_>,
    want: &mut dyn FnMut(usize, u16) -> bool,
) -> Settled {
    let vdev = at.vdev();
    let world = World {
        map: &guest.map,
        answer: &|target| firmware.answer(target),
        can_have: &|entry| can_have(place, vdev, entry),
    };
    guest.table.settle(aim, &world, want)
}
