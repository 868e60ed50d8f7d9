// SPDX-License-Identifier: GPL-2.0-only

//! What happens to an open device with TPH: takes the locks that an event needs, finds out what can
//! be reached, lets [`Tph`] do what is to be done, and shows the user what came of it.

use crate::{
    device::{
        TphSession,
        VfioTph, //
    },
    failure::Failure,
    hardware::{
        guest::{
            GuestWrite,
            MapSet,
            Missing, //
        },
        Tph,
        Written, //
    },
    lookup::Firmware,
    reached::Reached,
    rules::{
        batch::Batch,
        capability::Offer,
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
            RequesterEnable, //
        },
        table::{
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
        trace,
        vfio::pci::{
            Access,
            Handle,
            HeldVectors,
            InReset,
            Memory,
            MsixTable,
            Open,
            Opening,
            PowerChange, //
        },
    },
    uapi, //
};
use core::ops::Range;
use kernel::prelude::*;

const CONTROL: u16 = uapi::PCI_TPH_CTRL as u16;

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
        let Some(tags) = tph.shown().get(entries.clone()) else {
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
                visible.set_guest(entries, table.values(), &tph.first_tags());
            }
        }
    }
}

/// How often firmware is asked for what a guest needs, at most: each time it says something that it
/// has not said before, unless there is no memory to ask it with.
const ASKED: u32 = 4;

/// The CPUs that firmware has to be asked for.
struct Unknown<'a> {
    firmware: Firmware<'a>,
    targets: [Target; MAX_ENTRIES],
    count: usize,
}

impl<'a> Unknown<'a> {
    fn new(handle: Handle<'a, VfioTph>) -> Self {
        Self {
            firmware: handle.terms().firmware(),
            targets: [Target::Nothing; MAX_ENTRIES],
            count: 0,
        }
    }

    /// Adds a CPU, unless it is known.
    fn add(&mut self, target: Target) {
        if self.firmware.answer(target) == Answer::Unknown {
            if let Some(free) = self.targets.get_mut(self.count) {
                *free = target;
                self.count += 1;
            }
        }
    }

    /// Asks for them. Takes its time: no lock is held.
    fn ask(&mut self) {
        for &target in self.targets.iter().take(self.count) {
            if self.firmware.answer(target) == Answer::Unknown {
                self.firmware.ask(target);
            }
        }
        self.count = 0;
    }
}

/// Runs `event` on TPH of an open device, if it has the capability, and shows its user the result.
fn with_tph<R>(
    open: &mut Open<'_, VfioTph>,
    msix: Option<MsixTable<'_>>,
    event: impl FnOnce(&mut Tph, &mut Reached<'_>) -> R,
) -> Option<R> {
    let vdev = open.vdev();
    let requester = Requester::new(vdev.pci())?;
    let mut at = Reached::new(vdev, requester, msix);
    let done = event(open.tph.as_mut()?, &mut at);
    open.show_control();
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
        let _ = tph.sync(&mut Reached::new(vdev, requester, msix), false);
    }
}

/// Does what could not be done before, or may not have been. ERESTARTSYS if a signal comes before
/// another user has changed the power state.
pub(crate) fn catch_up(handle: Handle<'_, VfioTph>) -> Result {
    // A second time with memory decoded, if the first one shows that this is needed.
    for _ in 0..2 {
        let needs_memory =
            |session: &TphSession| session.tph.as_ref().is_some_and(Tph::needs_memory);
        let mut guard = handle.lock_hardware(&needs_memory)?;
        let (mut open, mut memory) = guard.open_with_memory();
        let msix = table_if(needs_memory(&open), &mut memory);
        let lacks_memory = with_tph(&mut open, msix, |tph, at| {
            // If the device is gone, everything stays pending.
            let _ = tph.sync(at, true);
            tph.lacks_memory(at)
        });
        if lacks_memory != Some(true) {
            break;
        }
    }
    Ok(())
}

/// The user writes `bytes` at `offset` of Control; the device is awake. Errors as [`catch_up`].
pub(crate) fn write_control(handle: Handle<'_, VfioTph>, offset: usize, bytes: &[u8]) -> Result {
    let needs_memory =
        |session: &TphSession| session.tph.as_ref().is_some_and(Tph::write_needs_memory);
    let Some(offered) = &handle.terms().offered else {
        return Ok(());
    };
    for last in [false, true] {
        let mut guard = handle.lock_hardware(&needs_memory)?;
        if handle.terms().has_guest() {
            drop(guard);
            let control = Some((offset, bytes));
            return write_guest(
                handle,
                &GuestWrite {
                    control,
                    entries: None,
                },
            );
        }
        let (mut open, mut memory) = guard.open_with_memory();
        let msix = table_if(needs_memory(&open), &mut memory);
        let mut before = Control::RESET;
        let written = with_tph(&mut open, msix, |tph, at| {
            before = tph.control();
            tph.write_control(at, &offered.offer, offset, bytes, last)
        });
        let counters = &handle.terms().visible.counters;
        match written {
            Some(Written::NeedsMemory | Written::NeedsTags) => continue,
            Some(Written::InForce) => counters.config_writes.count(),
            Some(Written::Dropped) | None => counters.dropped_writes.count(),
        }
        trace_control(&open, before);
        break;
    }
    Ok(())
}

/// Control as the user sees it.
fn control_of(open: &Open<'_, VfioTph>) -> Control {
    let tph = open.tph.as_ref();
    tph.map_or(Control::RESET, Tph::control)
}

/// Says that Control was written, which was `before`.
fn trace_control(open: &Open<'_, VfioTph>, before: Control) {
    if let Some(tph) = &open.tph {
        let (now, pdev) = (tph.control(), open.vdev().pci());
        if now.enabled() {
            trace::enable(pdev, now.st_mode as u8, now.requester_enable as u8);
        } else if before.enabled() {
            trace::disable(pdev);
        }
    }
}

/// A guest writes its entries, Control, or both; the device is awake. Errors as [`catch_up`].
pub(crate) fn write_guest(handle: Handle<'_, VfioTph>, write: &GuestWrite<'_>) -> Result {
    let terms = handle.terms();
    let Some(guest) = &terms.guest else {
        return Ok(());
    };
    let offer = &guest.shown.offer;
    let needs_memory = |session: &TphSession| {
        let tph = session.tph.as_ref();
        tph.is_some_and(|tph| match write.control {
            Some(_) => tph.write_needs_memory(),
            None => false,
        })
    };
    let (mut asked, mut last_memory) = (0, false);
    loop {
        let mut guard = handle.lock_hardware(&needs_memory)?;
        let (mut open, mut memory) = guard.open_with_memory();
        let Some(tph) = &open.tph else {
            return Ok(());
        };
        let (before, tags) = (tph.control(), tph.first_tags());
        let in_msix = tph.place() == Place::Msix;
        let reaches =
            in_msix && (needs_memory(&open) || tph.targets_of_write(offer, write, &mut |_| ()));
        let msix = table_if(reaches, &mut memory);
        let missing = Missing {
            firmware: &terms.firmware(),
            last_tags: asked >= ASKED,
            last_memory,
        };
        let written = with_tph(&mut open, msix, |tph, at| {
            tph.write_guest(at, offer, write, missing)
        });
        match written {
            Some(Written::NeedsTags) => {
                drop(guard);
                ask_for_write(handle, offer, write);
                asked += 1;
                continue;
            }
            Some(Written::NeedsMemory) => {
                last_memory = true;
                continue;
            }
            Some(Written::InForce) if write.control.is_some() => {
                terms.visible.counters.config_writes.count();
            }
            Some(Written::InForce) => (),
            Some(Written::Dropped) | None => terms.visible.counters.dropped_writes.count(),
        }
        if write.entries.is_some() {
            terms.visible.counters.guest_writes.count();
        }
        if write.control.is_some() || !control_of(&open).enabled() {
            trace_control(&open, before);
        }
        let entries = write.entries.map_or(0..0, |(offset, bytes)| {
            offset / 2..(offset + bytes.len()).div_ceil(2)
        });
        guest_changed(&mut open, entries, &tags);
        return Ok(());
    }
}

/// Asks firmware for the CPUs whose tags have to be known for a guest's write.
#[inline(never)]
fn ask_for_write(handle: Handle<'_, VfioTph>, offer: &Offer, write: &GuestWrite<'_>) {
    let mut unknown = Unknown::new(handle);
    if let Some(tph) = &handle.lock_records().open().tph {
        tph.targets_of_write(offer, write, &mut |target| unknown.add(target));
    }
    unknown.ask();
}

/// Gives hardware what a guest has written and hardware does not have yet: vectors or memory have
/// come within reach. TPH is off if hardware does not take it. Errors as [`catch_up`].
pub(crate) fn settle_guest(handle: Handle<'_, VfioTph>) -> Result {
    let terms = handle.terms();
    let mut unknown = Unknown::new(handle);
    let mut asked = 0;
    while terms.has_guest() {
        {
            let mut guard = handle.lock_records();
            match &guard.open().tph {
                Some(tph) if tph.owes_guest() => {
                    tph.owed_targets(&mut |target| unknown.add(target));
                }
                _ => return Ok(()),
            }
        }
        unknown.ask();
        asked += 1;

        let mut guard = handle.lock_hardware(&|_| false)?;
        let (mut open, mut memory) = guard.open_with_memory();
        let Some(tph) = &open.tph else {
            return Ok(());
        };
        let (before, tags) = (tph.control(), tph.first_tags());
        let msix = tph.msix_table(&mut memory);
        let missing = Missing {
            firmware: &terms.firmware(),
            last_tags: asked >= ASKED,
            last_memory: true,
        };
        let written = with_tph(&mut open, msix, |tph, at| {
            let awake = tph.is_reachable(at);
            (tph.settle_guest(at, missing), awake)
        });
        match written {
            Some((Written::NeedsTags, _)) => continue,
            Some((Written::Dropped, true)) => terms.visible.counters.lost_tags.count(),
            _ => (),
        }
        if !control_of(&open).enabled() {
            trace_control(&open, before);
        }
        guest_changed(&mut open, 0..0, &tags);
        break;
    }
    Ok(())
}

/// Shows what has become of a guest's entries: some were written; hardware was to have `before`.
fn guest_changed(open: &mut Open<'_, VfioTph>, written: Range<usize>, before: &[u16; MAX_ENTRIES]) {
    open.show_guest(written);
    let Some(tph) = &open.tph else {
        return;
    };
    let now = tph.first_tags();
    if now == *before {
        return;
    }
    let differs = |entry: &usize| now[*entry] != before[*entry];
    let first = (0..MAX_ENTRIES).find(differs).unwrap_or(0);
    let last = (0..MAX_ENTRIES).rfind(differs).unwrap_or(first);
    let extended = tph.control().requester_enable == RequesterEnable::Extended;
    let vdev = open.vdev();
    // CAST: at most 64.
    let (index, count) = (first as u16, (last - first + 1) as u16);
    open.terms().visible.counters.table_writes.count();
    trace::table_write(vdev.pci(), index, count, extended);
    open.show_guest(first..last + 1);
    open.show_table(first..last + 1);
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

/// Sets the map of a guest's tags, or takes it away. `done` runs when it is in place, before the
/// session is unlocked. EIO if the device cannot be woken up; else errors as [`catch_up`].
pub(crate) fn set_map(
    handle: Handle<'_, VfioTph>,
    mut map: Option<KBox<Map>>,
    by_admin: bool,
    done: impl FnOnce(),
) -> Result<(), Failure> {
    let _awake = Awake::new(handle.vdev().pci()).map_err(|_| EIO)?;
    let terms = handle.terms();
    let Some(guest) = &terms.guest else {
        return Err(Refusal::Unsupported.into());
    };
    let there = map.is_some();
    let needs_memory = |session: &TphSession| {
        let tph = session.tph.as_ref();
        tph.is_some_and(|tph| tph.map_needs_memory(there))
    };
    let mut unknown = Unknown::new(handle);
    let mut asked = 0;
    loop {
        {
            let mut guard = handle.lock_records();
            if let Some((tph, map)) = guard.open().tph.as_ref().zip(map.as_ref()) {
                tph.targets_of_map(map, &mut |target| unknown.add(target));
            }
        }
        unknown.ask();
        asked += 1;

        let mut guard = handle.lock_hardware(&needs_memory)?;
        let (mut open, mut memory) = guard.open_with_memory();
        let Some(tph) = &open.tph else {
            return Err(Refusal::Unsupported.into());
        };
        tph.may_set_map(there, by_admin)?;
        let (before, tags) = (tph.control(), tph.first_tags());
        let msix = tph.msix_table(&mut memory);
        let missing = Missing {
            firmware: &terms.firmware(),
            last_tags: asked >= ASKED,
            last_memory: true,
        };
        let entries = guest.shown.offer.entries;
        let set = with_tph(&mut open, msix, |tph, at| {
            tph.set_map(at, &mut map, by_admin, entries, missing)
        });
        let set = set.unwrap_or(Err(Refusal::Unsupported.into()));
        if let Ok(MapSet::NeedsTags) = set {
            continue;
        }
        if set.is_ok() {
            show_picture(&mut open);
            done();
        }
        if !control_of(&open).enabled() {
            trace_control(&open, before);
        }
        guest_changed(&mut open, 0..MAX_ENTRIES, &tags);
        return set.map(|_| ());
    }
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
        let register = shown.offset + uapi::PCI_TPH_CAP as u16;
        config.write_dword(register, shown.offer.capability.raw());
        terms.visible.set_capability(shown.offer.capability);
    }
}

/// The user programs the entries of a batch with `tags`; the device is awake. Errors as
/// [`catch_up`].
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
pub(crate) fn sleep(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| tph.sleep(at));
}

/// The device is awake again.
#[inline(never)]
pub(crate) fn wake(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| {
        // If the device is gone, everything stays pending.
        let _ = tph.sync(at, false);
    });
}

/// The system is about to sleep. A device in D3hot has what it had, or what a reset leaves; one
/// whose power is cut, or which firmware or another kernel gets hold of, may have anything.
pub(crate) fn system_sleep(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| {
        tph.forget();
        tph.report(at);
    });
}

/// The system is awake again.
pub(crate) fn system_wake(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    // Recovery from an error may have looked at it too early.
    system_sleep(open);
    let msix = table_for_tags(open, reset);
    with_tph(open, msix, |tph, at| {
        // If the device is gone, everything stays pending.
        let _ = tph.sync(at, true);
    });
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
            sleep(open);
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
    let written = vdev.write(access);
    // Also if not all of it was written. What is written must not be written again, and so a signal
    // that comes first leaves entries open, until the next event.
    let _ = settle_guest(handle);
    written
}

/// A user may have changed the power state of the device. Runtime PM keeps it awake.
#[inline(never)]
fn power_changed(handle: Handle<'_, VfioTph>) -> Result {
    let vdev = handle.vdev();
    if !bus::is_powered(vdev.pci()) && vdev.loses_state() {
        // A reset may have come since the user began, and have left something else on record.
        sleep(&mut handle.lock_records().open());
    }
    catch_up(handle)?;
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
pub(crate) fn vectors_changed(handle: Handle<'_, VfioTph>, held: HeldVectors<'_>) -> Result {
    let pending = {
        let mut guard = handle.lock_records();
        let mut open = guard.open();
        let vdev = open.vdev();
        if let Some(tph) = &mut open.tph {
            tph.vectors_changed(vdev, held);
        }
        open.tph.as_ref().is_some_and(Tph::is_pending)
    };
    if pending {
        catch_up(handle)?;
    }
    settle_guest(handle)
}

/// The device will be reset: what the PCI core saves, and puts back, has no tags. The table in the
/// capability is left to the reset.
pub(crate) fn before_reset(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    let msix = table_for_tags(open, reset);
    let changed = with_tph(open, msix, |tph, at| tph.before_reset(at));
    if changed == Some(true) {
        show_all(open);
    }
}

/// The device has been reset, and may hold anything.
pub(crate) fn after_reset(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    forget(open);
    settle(open, reset);
}

/// The kernel is about to end: the next one finds TPH off, and no tag.
pub(crate) fn shutdown(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    after_reset(open, reset);
    if let Some(tph) = &mut open.tph {
        tph.retire();
    }
}

/// The device reports an error, and cannot be reached.
pub(crate) fn lose(open: &mut Open<'_, VfioTph>) {
    forget(open);
    with_tph(open, None, |tph, at| tph.report(at));
}

/// The device reports an error, and can be reached: what it still has stays in force.
pub(crate) fn doubt(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    if let Some(tph) = &mut open.tph {
        tph.doubt();
    }
    settle(open, reset);
}

/// Brings hardware to what is wanted, in a callback of a reset or of recovery from an error.
#[inline(never)]
pub(crate) fn settle(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    let msix = table_for_tags(open, reset);
    with_tph(open, msix, |tph, at| {
        // If the device is gone, everything stays pending.
        let _ = tph.sync(at, false);
    });
}

/// The MSI-X table, if something is to be done there.
#[inline(never)]
fn table_for_tags<'a>(
    open: &Open<'_, VfioTph>,
    reset: &'a mut InReset<'_>,
) -> Option<MsixTable<'a>> {
    if open.tph.as_ref()?.reset_needs_memory() {
        reset.msix_table()
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
fn forget(open: &mut Open<'_, VfioTph>) {
    if let Some(tph) = &mut open.tph {
        if tph.lose() {
            show_all(open);
        }
    }
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
    wake(open);
}
