// SPDX-License-Identifier: GPL-2.0-only

//! What happens to an open device with TPH: takes the locks that an event needs, finds out what can
//! be reached, lets [`Tph`] do what is to be done, and shows the user what came of it.

mod errand;
mod show;

pub(crate) use self::errand::{
    may_set_map,
    set_map,
    settle_guest,
    write, //
};
use self::{
    errand::{
        is_recorded,
        table_if, //
    },
    show::{
        count_lost,
        guest_changed,
        recorded,
        show_all,
        sync_counted,
        trace_control,
        with_tph,
        Show, //
    },
};
use crate::{
    device::{
        TphSession,
        VfioTph, //
    },
    failure::Failure,
    hardware::{
        guest::Missing,
        reached::Reached,
        Tph, //
    },
    rules::{
        batch::Batch,
        capability::Offer,
        guest::MAX_ENTRIES,
        reconcile::Place,
        refusal::Refusal, //
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
                MsixTable,
                Open,
                Opening,
                PowerChange,
                StableVectors,
                Turn, //
            },
        },
    },
};
use kernel::prelude::*;

/// The device is being opened: it gets what [`Tph::new`] wants.
pub(crate) fn open(tph: &mut Tph, opening: &mut Opening<'_>) {
    let (vdev, memory) = opening.split();
    let msix = tph.msix_table(memory);
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
            let _ = sync_counted(terms, tph, at, true);
            tph.lacks_memory(at)
        });
        if lacks_memory != Some(true) {
            break;
        }
    }
    Ok(())
}

/// Checks a batch against what is in force. Errors are the batch's, and those of [`sync_pending`].
pub(crate) fn admit(
    handle: Handle<'_, VfioTph>,
    offer: &Offer,
    batch: &Batch,
) -> Result<(), Failure> {
    {
        let mut guard = handle.lock_records();
        let open = guard.open();
        let Some(tph) = &open.tph else {
            return Ok(());
        };
        if tph.is_retired() {
            return Err(Refusal::DeviceGone.into());
        }
        if !tph.is_pending() {
            return Ok(batch.admit(tph.control(), offer)?);
        }
    }
    // What is pending may be done now, and Control in force.
    sync_pending(handle)?;
    match &handle.lock_records().open().tph {
        Some(tph) => Ok(batch.admit(tph.control(), offer)?),
        None => Ok(()),
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
        let done = sync_counted(terms, tph, at, confirm);
        if done.is_ok() && tph.owes_guest() {
            count_lost(terms, tph.settle_guest(at, missing), tph.is_reachable(at));
        }
    });
    guest_changed(open, 0..0);
}

/// The system is about to sleep. A device in D3hot has what it had, or what a reset leaves; one
/// whose power is cut, or which firmware or another kernel gets hold of, may have anything.
pub(crate) fn system_suspend(open: &mut Open<'_, VfioTph>) {
    forget(open);
}

/// The system is awake again. If a user is changing the power state nothing is done to the device
/// before the end of that.
pub(crate) fn system_resume(open: &mut Open<'_, VfioTph>, memory: Option<&mut CallbackMemory<'_>>) {
    // Recovery from an error may have looked at it too early.
    system_suspend(open);
    if let Some(memory) = memory {
        let msix = table_for_tags(open, memory);
        sync_awake(open, msix, true);
    }
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
    // Also if not all of it was written. It cannot fail: the turn keeps others from changing the
    // power state.
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
    if is_recorded(handle, |tph| tph.is_pending() || tph.owes_guest()) {
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

/// The device may have anything from now on, and is left alone until the next event, which writes
/// everything anew.
pub(crate) fn forget(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| {
        tph.forget();
        tph.report(at);
    });
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
    let terms = open.terms();
    let msix = table_for_tags(open, memory);
    with_tph(open, msix, |tph, at| {
        // If the device is gone, everything stays pending.
        let _ = sync_counted(terms, tph, at, false);
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

#[inline(never)]
fn lose(open: &mut Open<'_, VfioTph>) {
    let before = recorded(open);
    let changed = open.tph.as_mut().is_some_and(Tph::lose);
    if changed {
        show_all(open);
    }
    trace_control(open, before);
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
