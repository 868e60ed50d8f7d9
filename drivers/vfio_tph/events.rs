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
        Tph,
        Written, //
    },
    reached::Reached,
    rules::{
        batch::Batch,
        reconcile::Place,
        refusal::Refusal,
        regs::Control,
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
}

impl Show for Open<'_, VfioTph> {
    fn show_control(&mut self) {
        let terms = self.terms();
        let (session, mut config) = self.split();
        let (Some(offered), Some(tph)) = (&terms.offered, &session.tph) else {
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
        if !offered.offer.policy.discloses_tags() {
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
        let (mut open, mut memory) = guard.open_with_memory();
        let msix = table_if(needs_memory(&open), &mut memory);
        let mut before = Control::RESET;
        let written = with_tph(&mut open, msix, |tph, at| {
            before = tph.control();
            tph.write_control(at, &offered.offer, offset, bytes, last)
        });
        let counters = &handle.terms().visible.counters;
        match written {
            Some(Written::NeedsMemory) => continue,
            Some(Written::InForce) => counters.config_writes.count(),
            Some(Written::Dropped) | None => counters.dropped_writes.count(),
        }
        if let Some(tph) = &open.tph {
            let (now, pdev) = (tph.control(), open.vdev().pci());
            if now.enabled() {
                trace::enable(pdev, now.st_mode as u8, now.requester_enable as u8);
            } else if before.enabled() {
                trace::disable(pdev);
            }
        }
        break;
    }
    Ok(())
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

/// A user may have changed the power state of the device. Runtime PM keeps it awake.
#[inline(never)]
fn power_changed(handle: Handle<'_, VfioTph>) -> Result {
    let vdev = handle.vdev();
    if !bus::is_powered(vdev.pci()) && vdev.loses_state() {
        // A reset may have come since the user began, and have left something else on record.
        sleep(&mut handle.lock_records().open());
    }
    catch_up(handle)
}

/// A reset that the user has asked for has failed. vfio-pci-core may have taken the device to D0
/// for it all the same. Waits for nobody if that makes no difference.
pub(crate) fn reset_failed(handle: Handle<'_, VfioTph>) -> Result {
    let pending = {
        let mut guard = handle.lock_records();
        guard.open().tph.as_ref().is_some_and(Tph::is_pending)
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
    Ok(())
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
