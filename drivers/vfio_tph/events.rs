// SPDX-License-Identifier: GPL-2.0-only

//! What happens to an open device with TPH: takes the locks that an event needs, finds out what can
//! be reached, lets [`Tph`] do what is to be done, and shows the user what came of it.

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
        reached::Reached,
        Failed,
        Outcome, //
        Tph,
    },
    rules::{
        batch::Batch,
        guest::{
            Answer,
            Map,
            Target,
            MAX_BYTES,
            MAX_ENTRIES, //
        },
        reconcile::Place,
        refusal::Refusal,
        regs::{
            Control,
            RequesterEnable,
            CAPABILITY,
            CONTROL, //
        },
        writes::{
            Write,
            Writes, //
        },
    },
    rust::{
        pci::{
            self as bus,
            tph::Requester,
            Awake, //
        },
        vfio::{
            feature::Call,
            pci::{
                Access,
                CallbackMemory,
                Handle,
                Memory,
                MsixTable,
                Open,
                Opening,
                PowerChange,
                StableVectors,
                Turn, //
            },
        },
    },
    trace, //
};
use core::ops::Range;
use kernel::prelude::*;

/// What an event shows its user.
trait Show {
    /// Shows Control.
    fn show_control(&mut self);

    /// Shows some entries of a table in the capability, if the policy discloses them.
    fn show_table(&mut self, entries: Range<usize>);

    /// Shows the administrator some entries of a guest, if there is one.
    fn show_guest(&mut self, entries: Range<usize>);
}

impl Show for Open<'_, VfioTph> {
    fn show_control(&mut self) {
        let terms = self.terms();
        let (session, mut config) = self.split();
        let (Some(offered), Some(tph)) = (terms.shown(), &session.tph) else {
            return;
        };
        let control = tph.control();
        terms.visible.set_control(control);
        config.write_dword(offered.offset + CONTROL, control.raw());
    }

    fn show_table(&mut self, entries: Range<usize>) {
        let terms = self.terms();
        let (session, mut config) = self.split();
        let (Some(offered), Some(tph)) = (&terms.offered, &session.tph) else {
            return;
        };
        let Some(tags) = tph.shown_tags().get(entries.clone()) else {
            return;
        };
        terms.visible.set_tags(entries.clone(), tags);
        if !offered.offer.policy.discloses_tags() || terms.has_guest() {
            return;
        }
        // CAST: at most 64 entries.
        for (at, write) in Writes::new(entries.start as u16, tags) {
            match write {
                Write::Word(value) => config.write_word(offered.offset + at, value),
                Write::Dword(value) => config.write_dword(offered.offset + at, value),
            }
        }
    }

    fn show_guest(&mut self, entries: Range<usize>) {
        let terms = self.terms();
        if let Some(tph) = &self.tph {
            if let Some(table) = tph.guest_table() {
                let visible = &terms.visible;
                visible.set_guest(entries, table.values(), tph.tags());
            }
        }
    }
}

/// What can be reached of an open device, with the MSI-X table if that is decoded; `None` if it has
/// no TPH capability.
#[inline(never)]
fn reached<'a>(open: &Open<'a, VfioTph>, msix: Option<MsixTable<'a>>) -> Option<Reached<'a>> {
    let vdev = open.vdev();
    let requester = Requester::new(vdev.pci())?;
    let offer = open.terms().shown().map(|shown| &shown.offer);
    Some(Reached::new(vdev, requester, msix, offer))
}

/// Runs `event` on TPH of an open device, if it has the capability, and shows its user the result.
fn with_tph<R>(
    open: &mut Open<'_, VfioTph>,
    msix: Option<MsixTable<'_>>,
    event: impl FnOnce(&mut Tph, &mut Reached<'_>) -> R,
) -> Option<R> {
    let mut at = reached(open, msix)?;
    let before = recorded(open);
    let done = event(open.tph.as_mut()?, &mut at);
    open.show_control();
    trace_control(open, before);
    Some(done)
}

/// The device is being opened: it gets what [`Tph::new`] wants.
pub(crate) fn open(tph: &mut Tph, opening: &mut Opening<'_>) {
    let (vdev, memory) = opening.split();
    let msix = match tph.place() {
        Place::Msix => memory.msix_table(),
        _ => None,
    };
    if let Some(requester) = Requester::new(vdev.pci()) {
        // If the device does not answer, everything stays unknown, and is written before TPH is
        // used.
        let _ = tph.sync(&mut Reached::new(vdev, requester, msix, None), false);
    }
}

/// Does what could not be done before, or may not have been. ERESTARTSYS if a signal comes before
/// another user has changed the power state.
pub(crate) fn sync_pending(handle: Handle<'_, VfioTph>) -> Result {
    let terms = handle.terms();
    // A second time with memory decoded, if the first one shows that this is needed.
    for _ in 0..2 {
        let needs_memory =
            |session: &TphSession| session.tph.as_ref().is_some_and(Tph::needs_memory);
        let mut guard = handle.lock_hardware(&needs_memory)?;
        let (mut open, mut memory) = guard.open_with_memory();
        let msix = table_if(needs_memory(&open), &mut memory);
        let lacks_memory = with_tph(&mut open, msix, |tph, at| {
            // If the device is gone, everything stays pending.
            let done = tph.sync(at, true);
            count_misfit(terms, tph, done);
            tph.lacks_memory(at)
        });
        if lacks_memory != Some(true) {
            break;
        }
    }
    Ok(())
}

/// Control as it is recorded of hardware.
#[inline(never)]
fn recorded(open: &Open<'_, VfioTph>) -> Control {
    let tph = open.tph.as_ref();
    tph.map_or(Control::RESET, Tph::recorded)
}

/// Says that Control, which was `before`, is another one in hardware: what is wanted and not done,
/// or will be when a device wakes up, is not in force.
#[inline(never)]
fn trace_control(open: &Open<'_, VfioTph>, before: Control) {
    let (now, pdev) = (recorded(open), open.vdev().pci());
    if now == before {
        return;
    }
    if now.enabled() {
        trace::enable(pdev, now.st_mode as u8, now.requester_enable as u8);
    } else if before.enabled() {
        trace::disable(pdev);
    }
}

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
/// asked with no lock held. Errors are the errand's, and those of [`sync_pending`].
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
/// [`sync_pending`].
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

/// Runs [`Settling`], if there is something to do. Errors as [`sync_pending`].
pub(crate) fn settle_guest(handle: Handle<'_, VfioTph>) -> Result {
    let owes = {
        let mut guard = handle.lock_records();
        let open = guard.open();
        open.tph.as_ref().is_some_and(Tph::owes_guest)
    };
    if owes {
        run(handle, &mut Settling)?;
    }
    Ok(())
}

/// Shows what has become of a guest's entries: some were `written`, and hardware may have got
/// others.
fn guest_changed(open: &mut Open<'_, VfioTph>, written: Range<usize>) {
    let Some(tph) = &mut open.tph else {
        return;
    };
    let changed = tph.take_changed();
    if changed.is_empty() {
        if !written.is_empty() {
            open.show_guest(written);
        }
        return;
    }
    let extended = tph.control().requester_enable == RequesterEnable::Extended;
    // CAST: at most 64.
    let (index, count) = (changed.start as u16, changed.len() as u16);
    open.terms().visible.counters.count(Count::TableWrites);
    trace::table_write(open.vdev().pci(), index, count, extended);
    let shown = match written.is_empty() {
        true => changed.clone(),
        false => written.start.min(changed.start)..written.end.max(changed.end),
    };
    open.show_guest(shown);
    open.show_table(changed);
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
        0..MAX_ENTRIES
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
            show_picture(open);
            (self.done)();
        }
        Ok(set)
    }
}

/// Sets the map of a guest's tags, or takes it away. `done` runs when it is in place, before the
/// session is unlocked. EIO if the device cannot be woken up; else errors as [`sync_pending`].
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

/// Shows the user the capability that goes with a guest, or without one.
fn show_picture(open: &mut Open<'_, VfioTph>) {
    let terms = open.terms();
    let there = open
        .tph
        .as_ref()
        .is_some_and(|tph| tph.guest_table().is_some());
    let (Some(guest), true) = (&terms.guest, there != terms.has_guest()) else {
        return;
    };
    let bytes = guest.bytes.start.into()..guest.bytes.end.into();
    let in_msix = terms.tracks_vectors;
    if there {
        terms
            .spans
            .add_guest(guest.table(), guest.power.clone(), in_msix);
    }
    terms.set_guest(there);
    let (_, mut config) = open.split();
    config.write(bytes.start, &[0; MAX_BYTES][..bytes.len().min(MAX_BYTES)]);
    if there {
        config.take_over(bytes);
    }
    if let Some(shown) = terms.shown() {
        let register = shown.offset + CAPABILITY;
        config.write_dword(register, shown.offer.capability.raw());
        terms.visible.set_capability(shown.offer.capability);
    }
}

/// The user programs the entries of a batch with `tags`; the device is awake. Errors as
/// [`sync_pending`].
pub(crate) fn program(
    handle: Handle<'_, VfioTph>,
    batch: &Batch,
    tags: &mut [u16],
) -> Result<(), Failure> {
    let mut guard =
        handle.lock_hardware(&|session| session.tph.as_ref().is_some_and(Tph::needs_memory))?;
    let (mut open, mut memory) = guard.open_with_memory();
    let vdev = open.vdev();
    let (Some(offered), Some(tph)) = (&handle.terms().offered, &open.tph) else {
        return Err(Refusal::Unsupported.into());
    };
    if handle.terms().has_guest() {
        return Err(Refusal::Busy.into());
    }
    // Control may have been written since it was looked at.
    batch.admit(tph.control(), &offered.offer)?;
    if !tph.can_program(vdev, batch.entries()) {
        return Err(Refusal::NoVector.into());
    }
    let msix = tph.msix_table(&mut memory);
    let done = with_tph(&mut open, msix, |tph, at| tph.program(at, batch, tags));
    open.show_table(batch.entries());
    Ok(done.unwrap_or(Err(Refusal::Unsupported))?)
}

/// The device is about to sleep, and may lose its state.
pub(crate) fn suspend(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| tph.suspend(at));
}

/// The device is awake again.
pub(crate) fn resume(open: &mut Open<'_, VfioTph>, memory: &mut CallbackMemory<'_>) {
    let msix = match &open.tph {
        Some(tph) if tph.needs_memory() || tph.place() == Place::Msix && tph.owes_guest() => {
            memory.msix_table()
        }
        _ => None,
    };
    sync_awake(open, msix, false);
}

/// The device is awake again: brings hardware to what is wanted, with the MSI-X table if it can be
/// reached. A guest whose map was replaced meanwhile gets its tags, as far as they are known.
fn sync_awake(open: &mut Open<'_, VfioTph>, msix: Option<MsixTable<'_>>, confirm: bool) {
    let terms = open.terms();
    let missing = Missing {
        firmware: &terms.firmware(),
        last_tags: false,
        last_memory: true,
    };
    with_tph(open, msix, |tph, at| {
        // If the device is gone, everything stays pending.
        let done = tph.sync(at, confirm);
        count_misfit(terms, tph, done);
        if done.is_ok() && tph.owes_guest() {
            count_lost(terms, tph.settle_guest(at, missing), tph.is_reachable(at));
        }
    });
    guest_changed(open, 0..0);
}

/// Counts that TPH went off because a guest's tags could not be written.
fn count_lost(terms: &Terms, written: Outcome, awake: bool) {
    if awake && written == Outcome::Dropped {
        terms.visible.counters.count(Count::LostTags);
    }
}

/// Counts that TPH went off because the device made something else of what a guest had in force.
fn count_misfit(terms: &Terms, tph: &Tph, done: Result<(), Failed>) {
    if done == Err(Failed::Misfit) && tph.guest_table().is_some() {
        terms.visible.counters.count(Count::LostTags);
    }
}

/// The system is about to sleep. A device in D3hot has what it had, or what a reset leaves; one
/// whose power is cut, or which firmware or another kernel gets hold of, may have anything.
pub(crate) fn system_suspend(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| {
        tph.forget();
        tph.report(at);
    });
}

/// The system is awake again.
pub(crate) fn system_resume(open: &mut Open<'_, VfioTph>, memory: &mut CallbackMemory<'_>) {
    // Recovery from an error may have looked at it too early.
    system_suspend(open);
    let msix = table_for_tags(open, memory);
    sync_awake(open, msix, true);
}

/// Lets vfio-pci-core write what may be the power state.
///
/// The driver records that a device which loses its state sleeps before it does, not after. On the
/// way to D3hot vfio-pci-core has the PCI core save the device's state, and the PCI core saves as
/// much of an enabled ST table as the device claims by then into a buffer for what it claimed when
/// it was found. And a reset that is tried meanwhile, and fails, leaves the device awake and
/// without state.
pub(crate) fn write_power_state(handle: Handle<'_, VfioTph>, access: Access<'_>) -> Result<usize> {
    let vdev = handle.vdev();
    // As vfio-pci-core answers any access to a device that does not wake up.
    let _awake = Awake::new(vdev.pci()).map_err(|_| EIO)?;
    let change = PowerChange::begin(handle, |open| {
        if vdev.loses_state() {
            suspend(open);
        }
    })?;
    let written = vdev.write(access);
    change.finish();
    let looked = power_changed(handle);
    let count = written?;
    looked.map(|()| count)
}

/// Lets vfio-pci-core write what may be Command. A guest may have written entries while memory was
/// not decoded.
pub(crate) fn write_command(handle: Handle<'_, VfioTph>, access: Access<'_>) -> Result<usize> {
    let vdev = handle.vdev();
    let _awake = Awake::new(vdev.pci()).map_err(|_| EIO)?;
    // Before anything is written: what is written must not be written again.
    let _turn = Turn::begin(handle)?;
    let written = vdev.write(access);
    // Also if not all of it was written. It waits for nobody who could keep it waiting, and fails
    // only if it does.
    let _ = settle_guest(handle);
    written
}

/// Lets vfio-pci-core end the low power state that a user has put the device into. What could not
/// be written meanwhile is, before the call returns.
pub(crate) fn exit_low_power(handle: Handle<'_, VfioTph>, call: Call) -> Result<i32> {
    // As for Command.
    let _turn = Turn::begin(handle)?;
    let done = handle.vdev().feature(call)?;
    let _ = power_changed(handle);
    Ok(done)
}

/// A user may have changed the power state of the device. Runtime PM keeps it awake.
#[inline(never)]
fn power_changed(handle: Handle<'_, VfioTph>) -> Result {
    let vdev = handle.vdev();
    if !bus::is_powered(vdev.pci()) && vdev.loses_state() {
        // A reset may have come since the user began, and have left something else on record.
        suspend(&mut handle.lock_records().open());
    }
    sync_pending(handle)?;
    settle_guest(handle)
}

/// A reset that the user has asked for has failed. vfio-pci-core may have taken the device to D0
/// for it all the same. Waits for nobody if that makes no difference.
pub(crate) fn reset_failed(handle: Handle<'_, VfioTph>) -> Result {
    let pending = {
        let mut guard = handle.lock_records();
        let open = guard.open();
        let owes = |tph: &Tph| tph.is_pending() || tph.owes_guest();
        open.tph.as_ref().is_some_and(owes)
    };
    if pending {
        power_changed(handle)?;
    }
    Ok(())
}

/// A user is about to allocate or free vectors.
pub(crate) fn vectors_change(handle: Handle<'_, VfioTph>) {
    if let Some(tph) = &mut handle.lock_records().open().tph {
        tph.vectors_change();
    }
}

/// A user has allocated or freed vectors.
pub(crate) fn vectors_changed(handle: Handle<'_, VfioTph>, vectors: StableVectors<'_>) -> Result {
    let pending = {
        let mut guard = handle.lock_records();
        let mut open = guard.open();
        let vdev = open.vdev();
        if let Some(tph) = &mut open.tph {
            tph.vectors_changed(vdev, vectors);
        }
        open.show_guest(0..MAX_ENTRIES);
        open.tph.as_ref().is_some_and(Tph::is_pending)
    };
    if pending {
        sync_pending(handle)?;
    }
    settle_guest(handle)
}

/// The device will be reset: what the PCI core saves, and puts back, has no tags. The table in the
/// capability is left to the reset.
pub(crate) fn reset_prepare(open: &mut Open<'_, VfioTph>, memory: &mut CallbackMemory<'_>) {
    let msix = table_for_tags(open, memory);
    let changed = with_tph(open, msix, |tph, at| tph.reset_prepare(at));
    if changed == Some(true) {
        show_all(open);
    }
}

/// The device has been reset, and may hold anything.
pub(crate) fn reset_done(open: &mut Open<'_, VfioTph>, memory: &mut CallbackMemory<'_>) {
    lose(open);
    sync(open, memory);
}

/// The kernel is about to end: the next one finds TPH off, and no tag.
pub(crate) fn shutdown(open: &mut Open<'_, VfioTph>, memory: &mut CallbackMemory<'_>) {
    reset_done(open, memory);
    if let Some(tph) = &mut open.tph {
        tph.retire();
    }
}

/// The device reports an error, and cannot be reached; or its link was reset after an error, and it
/// can be used when the recovery is over.
pub(crate) fn lose_by_error(open: &mut Open<'_, VfioTph>) {
    lose(open);
    with_tph(open, None, |tph, at| tph.report(at));
}

/// The device reports an error, and can be reached: what it still has stays in force.
pub(crate) fn doubt(open: &mut Open<'_, VfioTph>, memory: &mut CallbackMemory<'_>) {
    if let Some(tph) = &mut open.tph {
        tph.doubt();
    }
    sync(open, memory);
}

/// Brings hardware to what is wanted, in a callback of a reset or of recovery from an error.
#[inline(never)]
pub(crate) fn sync(open: &mut Open<'_, VfioTph>, memory: &mut CallbackMemory<'_>) {
    let msix = table_for_tags(open, memory);
    with_tph(open, msix, |tph, at| {
        // If the device is gone, everything stays pending.
        let _ = tph.sync(at, false);
    });
}

/// The MSI-X table, if something is to be done there.
#[inline(never)]
fn table_for_tags<'a>(
    open: &Open<'_, VfioTph>,
    memory: &'a mut CallbackMemory<'_>,
) -> Option<MsixTable<'a>> {
    if open.tph.as_ref()?.reset_needs_memory() {
        memory.msix_table()
    } else {
        None
    }
}

/// The MSI-X table, if it is `needed`.
fn table_if<'a>(needed: bool, memory: &'a mut Memory<'_>) -> Option<MsixTable<'a>> {
    if needed {
        memory.msix_table()
    } else {
        None
    }
}

#[inline(never)]
fn lose(open: &mut Open<'_, VfioTph>) {
    let before = recorded(open);
    let changed = open.tph.as_mut().is_some_and(Tph::lose);
    if changed {
        show_all(open);
    }
    trace_control(open, before);
}

fn show_all(open: &mut Open<'_, VfioTph>) {
    open.show_guest(0..MAX_ENTRIES);
    let entries = open.tph.as_ref().map_or(0, |tph| tph.tags().len());
    open.show_table(0..entries);
}

/// The user is gone; the device is awake as far as runtime PM is concerned.
pub(crate) fn before_close(handle: Handle<'_, VfioTph>) -> Result {
    let vdev = handle.vdev();
    let (dirty, needs_memory) = {
        let mut guard = handle.lock_records();
        let mut open = guard.open();
        let Some(tph) = &mut open.tph else {
            return Ok(());
        };
        (tph.before_close(), tph.needs_memory())
    };
    if dirty && !bus::is_in_d0(vdev.pci()) {
        vdev.power_up();
    }
    let mut guard = handle.lock_hardware(&|_| needs_memory)?;
    let (mut open, mut memory) = guard.open_with_memory();
    let msix = table_if(needs_memory, &mut memory);
    with_tph(&mut open, msix, |tph, at| {
        // If the device is gone, it is cleared when it is next opened.
        let _ = tph.sync(at, false);
    });
    Ok(())
}

/// The session ends. A reset may have come after [`before_close`], and left something to do.
pub(crate) fn close(open: &mut Open<'_, VfioTph>) {
    sync_awake(open, None, false);
}
