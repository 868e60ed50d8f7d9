// SPDX-License-Identifier: GPL-2.0-only

//! TPH of an open device: what is wanted of hardware, what it holds, and what an event does to
//! either. Nothing else decides when Control, the ST table, or the PCI core's record of them is
//! written; before the device is open, [`before_open`] does.
//!
//! Each event changes what is wanted, or what is known of what is held, and then takes the steps
//! that [`reconcile::next`] names, and no others. `Documentation/state.rst` has them on one page.
//! What a guest with virtual tags does to it is in [`guest`]. [`reached`] is what can be reached of
//! the device meanwhile, [`table`] the ST table; only this module can write hardware by them.

pub(crate) mod guest;
pub(crate) mod reached;
mod table;

use crate::{
    ratelimit::{
        self,
        Message, //
    },
    rules::{
        batch::Batch,
        control,
        guest::{
            Aim,
            Before,
            Map,
            VirtualTable,
            MAX_ENTRIES, //
        },
        isolation,
        reconcile::{
            self,
            Doubt,
            Entries,
            Found,
            Held,
            Place,
            Reach, //
        },
        refusal::Refusal,
        regs::Control, //
    },
    rust::{
        pci::{
            self as bus,
            tph::Requester, //
        },
        vfio::pci::{
            Memory,
            MsixTable, //
            StableVectors,
            VfioPciDevice,
        },
    },
};
use core::ops::Range;
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};
use reached::Reached;
use table::{
    can_have,
    Table, //
};

/// A device with a TPH capability that was opened, whether or not its user is shown that.
pub(crate) struct Tph {
    wanted: Control,
    held: Held,
    table: Table,
    /// Whether the user can map the MSI-X table, and put tags of their own into it.
    mappable: bool,
    /// The kernel is about to end: hardware is left alone.
    retired: bool,
    /// Whoever writes virtual tags, if there is somebody.
    guest: Option<KBox<Guest>>,
    /// Of the entries that a guest can have, those whose wanted tag has changed since
    /// [`Tph::take_changed`] was called last, a bit each.
    changed: u64,
}

/// Whoever writes virtual tags.
pub(crate) struct Guest {
    /// What they stand for.
    map: KBox<Map>,
    /// What was written.
    table: VirtualTable,
    /// What that was before the event that is under way.
    before: Before,
    /// The tags that were wanted before that event, of the entries in [`Tph`]'s `changed`.
    tags: [u16; MAX_ENTRIES],
    /// Whether the map is the administrator's, and not the user's.
    by_admin: bool,
}

/// What came of a write to Control, or of another errand.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It is in force.
    InForce,
    /// It was dropped.
    Dropped,
    /// Nothing yet: memory has to be decoded for it.
    NeedsMemory,
    /// Nothing yet: firmware has to be asked for tags.
    NeedsTags,
}

/// Why hardware does not get what is wanted.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Failed {
    /// The device does not answer.
    Gone,
    /// The device has made something of Control that it may not keep: TPH is turned off, if the
    /// device takes that write.
    Misfit,
}

/// The device that steps are taken on.
struct Device<'a, 'b> {
    table: &'a mut Table,
    at: &'a mut Reached<'b>,
}

impl reconcile::Device for Device<'_, '_> {
    fn entries(&self) -> Entries {
        self.table.entries()
    }

    fn has_witness(&self) -> bool {
        self.table.has_witness()
    }

    fn all_due(&mut self) {
        self.table.all_due();
    }

    fn read_control(&mut self) -> Found {
        self.at.control()
    }

    fn write_control(&mut self, control: Control) {
        self.at.write_control(control);
    }

    fn witness_is_as_recorded(&mut self) -> bool {
        self.table.is_as_recorded(self.at)
    }

    fn write_due(&mut self) -> bool {
        self.table.write_due(self.at)
    }
}

/// Turns TPH off on a device that nobody has open, if the PCI core says that an earlier driver has
/// left it on. Returns its capability, if there is one.
pub(crate) fn before_open(pdev: &pci::Device<Bound>) -> Option<Requester<'_>> {
    let requester = Requester::new(pdev)?;
    requester.disable();
    Some(requester)
}

impl Tph {
    /// For a device that is being opened: TPH is to be off, and nothing is known of hardware. The
    /// table is as [`Table::new`] has it.
    pub(crate) fn new(place: Place, entries: u16, unused: KVec<Range<u16>>) -> Result<Self> {
        Ok(Self {
            wanted: Control::RESET,
            held: Held::UNKNOWN,
            table: Table::new(place, entries, unused)?,
            mappable: false,
            retired: false,
            guest: None,
            changed: 0,
        })
    }

    /// The user can map the MSI-X table.
    pub(crate) fn set_mappable(&mut self) {
        self.mappable = true;
    }

    /// Where the ST table is.
    pub(crate) fn place(&self) -> Place {
        self.table.place()
    }

    /// The kernel is about to end: hardware is left alone from now on.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    /// Whether hardware is left alone, for good.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// What the entries of the table are to have.
    pub(crate) fn tags(&self) -> &[u16] {
        self.table.wanted()
    }

    /// The tags that the user can be shown: those of a table in the capability.
    pub(crate) fn shown_tags(&self) -> &[u16] {
        match self.place() {
            Place::Capability => self.tags(),
            Place::None | Place::Msix => &[],
        }
    }

    /// Control as the user sees it: what is in force or, of a device that sleeps, what will be.
    #[inline(never)]
    pub(crate) fn control(&self) -> Control {
        self.held.in_force().unwrap_or(self.wanted)
    }

    /// Whether the requester is wanted to be enabled.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted.enabled()
    }

    /// Control as it is recorded of hardware, also of a device that sleeps; the reset state where
    /// nothing is known.
    pub(crate) fn recorded(&self) -> Control {
        self.held.control.unwrap_or(Control::RESET)
    }

    /// Whether there is something left to do: it could not be done, or may not have been.
    #[inline(never)]
    pub(crate) fn is_pending(&self) -> bool {
        self.table.entries().due || self.held.doubt != Doubt::None
    }

    /// Whether memory has to be decoded for what is pending.
    #[inline(never)]
    pub(crate) fn needs_memory(&self) -> bool {
        self.place() == Place::Msix && self.is_pending()
    }

    /// Whether memory has to be decoded for a write to Control: one of the tags of a disabled
    /// requester is looked at before it is enabled.
    #[inline(never)]
    pub(crate) fn write_needs_memory(&self) -> bool {
        self.needs_memory()
            || self.place() == Place::Msix && !self.control().enabled() && self.table.has_witness()
    }

    /// Whether memory has to be decoded for what a reset is to find, or has left.
    pub(crate) fn reset_needs_memory(&self) -> bool {
        let any = self.is_pending() || self.owes_guest() || self.tags().iter().any(|&tag| tag != 0);
        self.place() == Place::Msix && any
    }

    /// Whether each of these entries can be written: a vector without an interrupt cannot.
    pub(crate) fn can_program(&self, vdev: &VfioPciDevice, entries: Range<usize>) -> bool {
        self.table.can_write(vdev, entries)
    }

    /// The MSI-X table, if the ST table is there.
    pub(crate) fn msix_table<'a>(&self, memory: &'a mut Memory<'_>) -> Option<MsixTable<'a>> {
        match self.place() {
            Place::Msix => memory.msix_table(),
            _ => None,
        }
    }

    /// Whether more can be done to hardware than to disable the requester.
    pub(crate) fn is_reachable(&self, at: &Reached<'_>) -> bool {
        at.reach() >= Reach::Config && !self.retired
    }

    /// Takes all steps that can be taken, and tells the PCI core what came of it. `confirm` as for
    /// [`reconcile::next`]. What the device makes of Control is in force then, unless it may not
    /// keep it.
    pub(crate) fn sync(&mut self, at: &mut Reached<'_>, confirm: bool) -> Result<(), Failed> {
        let mut done = self.take_steps(at, confirm);
        if done.is_ok() && self.is_misfit(at) {
            self.wanted = Control::RESET;
            done = self.take_steps(at, true).and(Err(Failed::Misfit));
        }
        self.report(at);
        done
    }

    #[inline(never)]
    fn take_steps(&mut self, at: &mut Reached<'_>, confirm: bool) -> Result<(), Failed> {
        let vectors = at.msix_table().map(MsixTable::stable_vectors);
        self.table.find_changes(at.vdev(), vectors);
        let reach = if self.retired {
            Reach::Nothing
        } else {
            at.reach()
        };
        let mut device = Device {
            table: &mut self.table,
            at,
        };
        let answers =
            reconcile::take_steps(self.wanted, &mut self.held, &mut device, reach, confirm);
        if answers {
            Ok(())
        } else {
            Err(Failed::Gone)
        }
    }

    /// Whether the device has made something of Control that it may not keep.
    fn is_misfit(&self, at: &Reached<'_>) -> bool {
        let (Some(offer), true) = (at.offer(), self.held.control_refused) else {
            return false;
        };
        // No user may have a reserved value.
        let Some(found) = self.held.control else {
            return true;
        };
        let (due, is_guests) = (self.is_pending(), self.guest.is_some());
        if !control::may_stay(offer, self.wanted, found, due, is_guests) {
            return true;
        }
        let reach = self.others_reach(at, self.wanted, found);
        if reach && ratelimit::allows(Message::NotAlone) {
            dev_notice!(
                at.pci(),
                "TPH: turned off: another function is in the IOMMU group\n"
            );
        }
        reach
    }

    /// Nothing is known of hardware.
    pub(crate) fn forget(&mut self) {
        self.held = Held::UNKNOWN;
        self.table.all_due();
    }

    /// Tells the PCI core, which saves and restores by that, what is in force: nothing, where that
    /// is not known.
    #[inline(never)]
    pub(crate) fn report(&self, at: &mut Reached<'_>) {
        let control = self.held.in_force().unwrap_or(Control::RESET);
        at.requester()
            .set_saved_state(control.st_mode as u8, control.requester_enable as u8);
    }

    /// Turns TPH off on a device that did not do what it was told, if it can still be reached.
    #[inline(never)]
    fn give_up(&mut self, at: &mut Reached<'_>) {
        self.wanted = Control::RESET;
        self.held = Held::REFUSED;
        // If it is gone nobody can do more. What it does not take stays due, and in force.
        let _ = self.sync(at, true);
    }

    /// A write of `bytes` at `offset` of Control. `last`: the caller has no better way to reach
    /// memory.
    pub(crate) fn write_control(
        &mut self,
        at: &mut Reached<'_>,
        offset: usize,
        bytes: &[u8],
        last: bool,
    ) -> Outcome {
        if !self.is_reachable(at) {
            return Outcome::Dropped;
        }
        self.held.doubt(Doubt::Behind);
        if self.sync(at, false).is_err() {
            return Outcome::Dropped;
        }
        if self.lacks_memory(at) && !last {
            return Outcome::NeedsMemory;
        }

        match self.judge(at, offset, bytes) {
            Some(next) => self.put_in_force(at, next, false),
            None => Outcome::Dropped,
        }
    }

    /// Puts `next` in force, with all entries that are due. `new_entries`: entries were changed for
    /// it, which hardware must not use with what was in force before.
    fn put_in_force(&mut self, at: &mut Reached<'_>, next: Control, new_entries: bool) -> Outcome {
        let before = self.wanted;
        if next.enabled() {
            self.held.before_enable(self.table.has_witness());
        }
        self.wanted = next;
        let done = self.sync(at, true);
        if done.is_ok() && !(next.enabled() && self.is_pending()) {
            // The device may have made something else of the write: that is in force now.
            self.wanted = self.held.control.unwrap_or(next);
            return Outcome::InForce;
        }
        self.go_back();
        if new_entries || done == Err(Failed::Misfit) {
            self.give_up(at);
        } else {
            // Nobody can tell what hardware holds of a device that is gone. If it comes back, it
            // gets what was in force before.
            self.wanted = before;
            if done.is_ok() {
                let _ = self.sync(at, false);
            }
        }
        Outcome::Dropped
    }

    /// What a write of `bytes` at `offset` of Control makes of it; `None` if it is dropped.
    fn judge(&self, at: &Reached<'_>, offset: usize, bytes: &[u8]) -> Option<Control> {
        let next = control::judge(self.control(), at.offer()?, offset, bytes)?;
        // An entry that is due must not be used.
        if next.enabled() && self.is_pending() {
            return None;
        }
        let reach = self.others_reach(at, self.control(), next);
        if reach && ratelimit::allows(Message::NotAlone) {
            dev_notice!(
                at.pci(),
                "TPH: not enabled: another function is in the IOMMU group\n"
            );
        }
        (!reach).then_some(next)
    }

    /// Whether going from `before` to `next` would send tags that another function can write, which
    /// may have come into the IOMMU group since the device was opened.
    #[inline(never)]
    fn others_reach(&self, at: &Reached<'_>, before: Control, next: Control) -> bool {
        let must_be_alone = |offer| isolation::must_be_alone(offer, before, next);
        at.offer().is_some_and(must_be_alone) && !bus::is_alone_in_group(at.pci())
    }

    /// Puts `tags` into the entries of a batch. On failure the entries are to have what they had
    /// before. TPH is off as well if hardware did not take the batch; not if the table could not be
    /// reached to begin with.
    pub(crate) fn program(
        &mut self,
        at: &mut Reached<'_>,
        batch: &Batch,
        tags: &mut [u16],
    ) -> Result<(), Refusal> {
        if !self.is_reachable(at) {
            return Err(Refusal::DeviceGone);
        }
        self.held.doubt(Doubt::Behind);
        if at.reach() < self.place().reach() {
            // If the device has lost its table, the user must not go on seeing what was in it.
            let _ = self.sync(at, false);
            return Err(Refusal::DeviceGone);
        }
        self.table.exchange(batch.entries(), tags);
        let done = self.sync(at, true);
        if done.is_ok() && !self.is_pending() && self.held.control == Some(self.wanted) {
            return Ok(());
        }
        // Half of the batch may have come through.
        self.table.exchange(batch.entries(), tags);
        self.give_up(at);
        Err(Refusal::DeviceGone)
    }

    /// Whether something is pending that memory has to be decoded for.
    pub(crate) fn lacks_memory(&self, at: &mut Reached<'_>) -> bool {
        self.is_pending() && at.reach() >= Reach::Config && at.reach() < self.place().reach()
    }

    /// The device is about to sleep, and may lose its state.
    pub(crate) fn suspend(&mut self, at: &mut Reached<'_>) {
        if self.held.before_suspend() {
            self.table.all_due();
        }
        self.report(at);
    }

    /// The device may have lost its state without telling anybody.
    pub(crate) fn doubt(&mut self) {
        self.held.doubt(Doubt::Behind);
    }

    /// A user is about to allocate or free vectors.
    pub(crate) fn vectors_change(&mut self) {
        self.table.vectors_change();
    }

    /// A user has allocated or freed vectors.
    pub(crate) fn vectors_changed(&mut self, vdev: &VfioPciDevice, vectors: StableVectors<'_>) {
        self.table.vectors_changed(vdev, vectors);
        if let Some(guest) = &mut self.guest {
            let place = self.table.place();
            let can_have = |entry| can_have(place, vdev, entry);
            guest.table.vectors_changed(self.table.wanted(), &can_have);
        }
    }

    /// The device will be reset: what the PCI core saves now, and restores afterwards, must have no
    /// tags, also if the PCI core wakes the device first. A table in the capability is left to the
    /// reset, which clears it. Returns whether an entry was not 0.
    pub(crate) fn reset_prepare(&mut self, at: &mut Reached<'_>) -> bool {
        self.wanted = Control::RESET;
        let in_msix = self.place() == Place::Msix;
        let mut changed = in_msix && self.table.clear();
        // A failure makes no difference: after the reset everything is written again.
        let _ = self.sync(at, false);
        if !in_msix {
            changed = self.table.leave_to_reset();
        }
        changed | self.clear_guest()
    }

    /// The device has lost its state: it was reset, or cannot be reached. Returns whether an entry
    /// was not 0.
    pub(crate) fn lose(&mut self) -> bool {
        let changed = self.want_reset();
        self.forget();
        changed
    }

    /// The user is gone: TPH is to be off. Returns whether there is something left to do.
    pub(crate) fn before_close(&mut self) -> bool {
        self.want_reset();
        if self.mappable {
            self.table.all_due();
        }
        self.is_pending() || self.held.control != Some(Control::RESET)
    }

    /// TPH off and every entry 0 is what is wanted from now on. Returns whether an entry was not 0.
    fn want_reset(&mut self) -> bool {
        self.wanted = Control::RESET;
        let changed = self.clear_guest();
        self.table.clear() || changed
    }

    /// The guest's entries, if there is a guest.
    pub(crate) fn guest_table(&self) -> Option<&VirtualTable> {
        self.guest.as_ref().map(|guest| &guest.table)
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
    #[inline(never)]
    pub(crate) fn owes_guest(&self) -> bool {
        let table = self.guest_table();
        table.is_some_and(|table| table.is_unsettled(self.aim(false)))
    }

    /// The guest's entries, and those of hardware that follow from them, are to have what they had
    /// at [`Guest::begin`].
    #[inline(never)]
    fn go_back(&mut self) {
        if let Some(guest) = self.guest.as_deref_mut() {
            guest.table.go_back(&guest.before);
            let changed = core::mem::take(&mut self.changed);
            for (entry, &tag) in guest.tags.iter().enumerate() {
                if changed & 1 << entry != 0 {
                    self.table.want(entry, tag);
                }
            }
        }
    }

    /// All of the guest's entries are 0, as hardware's are to be. Returns whether one was not.
    fn clear_guest(&mut self) -> bool {
        let guest = self.guest.as_mut();
        guest.is_some_and(|guest| guest.table.clear())
    }
}
