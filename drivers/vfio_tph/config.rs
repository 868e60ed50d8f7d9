// SPDX-License-Identifier: GPL-2.0-only

//! Config space as the user reads and writes it.
//!
//! vfio-pci-core answers reads of the capability, from the virtual config space; the driver writes
//! what is in force there when it changes. Writes that touch a TPH capability are taken apart here,
//! because vfio-pci-core would store them unfiltered. Every other access goes straight to
//! vfio-pci-core.

use crate::{
    device::{
        Terms,
        VfioTph, //
    },
    events,
    hardware::{
        guest::GuestWrite,
        Tph, //
    },
    rules::{
        capability::MAX_CAPABILITY_ENTRIES,
        control,
        guest,
        regs::CONTROL, //
    },
    rust::{
        nospec,
        pci::{
            config::Config,
            Awake, //
        },
        vfio::pci::{
            Access,
            Handle,
            Watch, //
        },
    },
    spans::Spans, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// Reads config space, with some of a visible ST table in it.
pub(crate) fn read(handle: Handle<'_, VfioTph>, access: Access<'_>) -> Result<usize> {
    match access.config_offset() {
        Some(offset) => read_table(handle, access, offset),
        None => handle.vdev().read(access),
    }
}

/// Writes config space, with some of a TPH capability or of the power state in it.
pub(crate) fn write(handle: Handle<'_, VfioTph>, access: Access<'_>) -> Result<usize> {
    match access.config_offset() {
        Some(offset) if meets(handle, &access, |spans| &spans.writes) => {
            write_parts(handle, access, offset)
        }
        Some(_) => write_others(handle, access),
        None => handle.vdev().write(access),
    }
}

/// Writes config space with some of a TPH capability in it: vfio-pci-core gets the bytes that are
/// not.
fn write_parts(handle: Handle<'_, VfioTph>, access: Access<'_>, offset: usize) -> Result<usize> {
    // vfio-pci-core refuses what reaches past the end before it writes anything.
    if offset.saturating_add(access.count) > Config::new(handle.vdev().pci()).size() {
        return handle.vdev().write(access);
    }

    // All that a guest writes in one call counts as one write, and is copied before anything
    // changes. Most writes have a few bytes: for them the large array need not be cleared.
    let guest = guest_bytes(handle.terms(), offset, access.count);
    match guest.as_ref().map_or(0, |guest| guest.within.len()) {
        0..=FEW => write_each_part(handle, access, offset, guest, &mut [0; FEW]),
        _ => write_each_part(handle, access, offset, guest, &mut [0; GUEST_BYTES]),
    }
}

/// Writes one part after the other. What `guest` says is a guest's is copied to `bytes` first.
#[inline(never)]
fn write_each_part(
    handle: Handle<'_, VfioTph>,
    access: Access<'_>,
    offset: usize,
    mut guest: Option<GuestBytes>,
    bytes: &mut [u8],
) -> Result<usize> {
    let count = guest.as_ref().map_or(0, |guest| guest.within.len());
    let bytes = bytes.get_mut(..count).ok_or(EINVAL)?;
    if let Some(guest) = &guest {
        UserSlice::new(access.buf.wrapping_byte_add(guest.skipped), count)
            .reader()
            .read_slice(bytes)?;
    }

    let mut done = 0;
    while done < access.count {
        let at = offset + done;
        let buf = access.buf.wrapping_byte_add(done);
        let (ours, len) = next_part(handle.terms(), at, access.count - done);
        let its_guests = |guest: &mut GuestBytes| (done..done + len).contains(&guest.skipped);
        let written = if let Some(guest) = guest.take_if(its_guests) {
            write_guest(handle, &guest, bytes)
        } else if ours {
            write_capability(handle, at, buf, len)
        } else {
            // CAST: at most 4096.
            let mut pos = *access.pos + done as i64;
            let part = Access {
                buf,
                count: len,
                pos: &mut pos,
            };
            write_others(handle, part).map(|_| ())
        };
        match written {
            // What has been written must not be written again.
            Err(error) if error == ERESTARTSYS && done > 0 => break,
            written => written?,
        }
        done += len;
    }
    // CAST: at most 4096.
    *access.pos += done as i64;
    Ok(done)
}

/// Whether an access meets the bytes that `watch` is on.
fn meets(
    handle: Handle<'_, VfioTph>,
    access: &Access<'_>,
    watch: impl FnOnce(&Spans) -> &Watch,
) -> bool {
    watch(&handle.terms().spans).meets(access.position(), access.count)
}

/// Lets vfio-pci-core write what is not of a TPH capability.
fn write_others(handle: Handle<'_, VfioTph>, access: Access<'_>) -> Result<usize> {
    if meets(handle, &access, |spans| &spans.power) {
        events::write_power_state(handle, access)
    } else if meets(handle, &access, |spans| &spans.command) {
        events::write_command(handle, access)
    } else {
        handle.vdev().write(access)
    }
}

/// Reads config space with some of a visible ST table in it. vfio-pci-core reads a dword at a time,
/// and a batch could be written between two of them. So the part of the table is read again, in one
/// piece.
fn read_table(handle: Handle<'_, VfioTph>, access: Access<'_>, offset: usize) -> Result<usize> {
    let buf = access.buf;
    let done = handle.vdev().read(access)?;

    let mut guard = handle.lock_records();
    let mut open = guard.open();
    let guest = open.tph.as_ref().and_then(Tph::guest_table);
    let guest = guest.map(guest::VirtualTable::bytes);
    let table = match &handle.terms().guest {
        Some(terms) if guest.is_some() => terms.table(),
        _ => handle.terms().table.clone(),
    };
    let start = offset.max(table.start.into());
    let end = (offset + done).min(table.end.into());
    if start < end {
        let at = usize::from(table.start);
        let within = nospec::range(start - at..end - at, usize::from(table.end) - at);
        let start = at + within.start;
        let mut entries = [0; 2 * MAX_CAPABILITY_ENTRIES as usize];
        let entries = entries.get_mut(..within.len()).ok_or(EINVAL)?;
        match guest {
            Some(guest) => entries.copy_from_slice(guest.get(within).ok_or(EINVAL)?),
            None => open.virtual_config().read(start, entries)?,
        }
        drop(guard);
        UserSlice::new(buf.wrapping_byte_add(start - offset), entries.len())
            .writer()
            .write_slice(entries)?;
    }
    Ok(done)
}

/// How the write goes on at `at`: whether in a TPH capability, and for how many of `left` bytes.
fn next_part(terms: &Terms, at: usize, left: usize) -> (bool, usize) {
    let first = terms.is_ours(at);
    let len = (1..left)
        .take_while(|&more| terms.is_ours(at + more) == first)
        .count()
        + 1;
    (first, len)
}

/// The bytes that a guest writes at most: Control and the entries behind it.
const GUEST_BYTES: usize = size_of::<u32>() + guest::MAX_BYTES;
/// As many as a CPU writes at once.
const FEW: usize = size_of::<u64>();

/// What a write to config space has for a guest's Control and entries.
struct GuestBytes {
    /// From Control on.
    within: Range<usize>,
    /// The bytes of the write that come before.
    skipped: usize,
}

/// What a write of `count` bytes at `offset` has for a guest; `None` if there is none.
fn guest_bytes(terms: &Terms, offset: usize, count: usize) -> Option<GuestBytes> {
    let guest = terms.guest.as_ref().filter(|_| terms.has_guest())?;
    let control = usize::from(guest.shown.offset) + usize::from(CONTROL);
    let start = offset.max(control);
    let end = offset.saturating_add(count).min(guest.table().end.into());
    if start >= end {
        return None;
    }
    Some(GuestBytes {
        within: nospec::range(start - control..end - control, GUEST_BYTES),
        skipped: start - offset,
    })
}

/// Writes a guest's `bytes`.
fn write_guest(handle: Handle<'_, VfioTph>, guest: &GuestBytes, bytes: &[u8]) -> Result {
    let start = guest.within.start;
    let control = size_of::<u32>().saturating_sub(start).min(bytes.len());
    let (control, entries) = bytes.split_at_checked(control).ok_or(EINVAL)?;

    let write = GuestWrite {
        control: (!control.is_empty()).then_some((start, control)),
        entries: (!entries.is_empty()).then_some((start.saturating_sub(size_of::<u32>()), entries)),
    };
    write_awake(handle, &write)
}

/// Writes to a TPH capability. Only Control takes anything; the write is in force on return, or
/// dropped.
fn write_capability(handle: Handle<'_, VfioTph>, at: usize, buf: UserPtr, count: usize) -> Result {
    let Some((register, skipped)) = control_bytes(handle.terms(), at, count) else {
        return Ok(());
    };
    let mut bytes = [0; size_of::<u32>()];
    let bytes = bytes.get_mut(..register.len()).ok_or(EINVAL)?;
    UserSlice::new(buf.wrapping_byte_add(skipped), bytes.len())
        .reader()
        .read_slice(bytes)?;

    let write = GuestWrite {
        control: Some((register.start, bytes)),
        entries: None,
    };
    write_awake(handle, &write)
}

/// Keeps the device awake for a write. EIO, as vfio-pci-core answers, if it does not wake up.
fn write_awake(handle: Handle<'_, VfioTph>, write: &GuestWrite<'_>) -> Result {
    let _awake = Awake::new(handle.vdev().pci()).map_err(|_| EIO)?;
    events::write(handle, write)
}

/// The bytes of the Control register that a write of `count` bytes at `at` in config space touches,
/// and how many bytes of the write come before them.
fn control_bytes(terms: &Terms, at: usize, count: usize) -> Option<(Range<usize>, usize)> {
    let within = at.checked_sub(terms.shown()?.offset.into())?;
    let (register, written) = control::overlap(within, count)?;
    Some((nospec::range(register, size_of::<u32>()), written.start))
}
