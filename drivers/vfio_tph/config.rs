// SPDX-License-Identifier: GPL-2.0-only

//! Config space as the user reads and writes it, spec section 3.
//!
//! Reads of the capability are vfio-pci-core's: it serves them from the virtual config space,
//! where what is in force is put when it changes. Writes that touch a TPH capability are taken
//! apart here, because vfio-pci-core would store them unfiltered. Every other access goes
//! straight to vfio-pci-core.

use crate::{
    device::{
        Show,
        TphSession,
        VfioTph, //
    },
    power,
    rules::{
        capability::MAX_CAPABILITY_ENTRIES,
        control, //
    },
    rust::{
        nospec,
        pci::{
            self as bus,
            tph::Requester,
            Awake, //
        },
        trace,
        vfio::pci::{
            Access,
            CoreDevice,
            Handle,
            Open,
            Watch, //
        },
    },
    table,
    uapi,
    vectors, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    uaccess::{
        UserPtr,
        UserSlice, //
    },
};

/// A range of bytes in config space.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) struct ByteRange {
    start: u16,
    end: u16,
}

impl ByteRange {
    const EMPTY: Self = Self { start: 0, end: 0 };

    fn contains(self, offset: usize) -> bool {
        (usize::from(self.start)..self.end.into()).contains(&offset)
    }

    fn hull(self, other: Self) -> Self {
        if self == Self::EMPTY {
            return other;
        }
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

impl From<Range<usize>> for ByteRange {
    fn from(range: Range<usize>) -> Self {
        // CAST: offsets in config space, at most 4096.
        Self {
            start: range.start as u16,
            end: range.end as u16,
        }
    }
}

/// Which accesses to config space concern this driver; set only while no user can reach the device.
pub(crate) struct Spans {
    /// Writes to a TPH capability.
    writes: Watch,
    /// Reads of a visible ST table.
    table: Watch,
    /// Writes that change the power state, of a device that forgets, or whose vectors cannot be
    /// reached meanwhile.
    power: Watch,
}

impl Spans {
    pub(crate) fn new() -> Self {
        Self {
            writes: Watch::new(),
            table: Watch::new(),
            power: Watch::new(),
        }
    }

    /// For a device that is being opened.
    pub(crate) fn set(&self, vdev: &CoreDevice, session: &TphSession) {
        let hull = session
            .virtual_bytes
            .iter()
            .fold(ByteRange::EMPTY, |hull, range| hull.hull(*range));
        self.writes.set(hull.start..hull.end);

        let table = session
            .offered
            .as_ref()
            .filter(|offered| offered.offer.policy.discloses_tags() && !offered.tags.is_empty())
            .map_or(0..0, |offered| {
                let start = offered.offset + uapi::PCI_TPH_BASE_SIZEOF as u16;
                // CAST: at most 64 entries.
                start..start + 2 * offered.tags.len() as u16
            });
        self.table.set(table);

        // Where a user takes a device to D3hot and back, if it forgets on the way, or has a table
        // that cannot be reached meanwhile.
        let start = vdev.pm_capability() + uapi::PCI_PM_CTRL as u16;
        let concerned = vdev.pm_capability() != 0
            && session
                .offered
                .as_ref()
                .is_some_and(|offered| vdev.loses_state() || offered.vectors.is_some());
        self.power
            .set(if concerned { start..start + 1 } else { 0..0 });
    }

    /// For a device that is being closed.
    pub(crate) fn clear(&self) {
        self.writes.set(0..0);
        self.table.set(0..0);
        self.power.set(0..0);
    }
}

impl VfioTph {
    /// Whether a read is not vfio-pci-core's alone.
    #[inline(always)]
    pub(crate) fn wants_config_read(&self, position: u64, count: usize) -> bool {
        self.spans.table.meets(position, count)
    }

    /// Whether a write is not vfio-pci-core's alone.
    #[inline(always)]
    pub(crate) fn wants_config_write(&self, position: u64, count: usize) -> bool {
        self.spans.writes.meets(position, count) || self.spans.power.meets(position, count)
    }

    /// Reads config space, with some of a visible ST table in it.
    pub(crate) fn read_config(
        &self,
        handle: Handle<'_, Self>,
        access: Access<'_>,
    ) -> Result<usize> {
        match access.config_offset() {
            Some(offset) => read_table(handle, access, offset, self.spans.table.range()),
            None => handle.vdev().read(access),
        }
    }

    /// Writes config space, with some of a TPH capability or of the power state in it.
    pub(crate) fn write_config(
        &self,
        handle: Handle<'_, Self>,
        access: Access<'_>,
    ) -> Result<usize> {
        let capability = self.spans.writes.meets(access.position(), access.count);
        match access.config_offset() {
            Some(offset) if capability => self.write_parts(handle, access, offset),
            Some(_) => self.write_core(handle, access),
            None => handle.vdev().write(access),
        }
    }

    /// Writes config space with some of a TPH capability in it: vfio-pci-core gets the bytes that
    /// are not.
    fn write_parts(
        &self,
        handle: Handle<'_, Self>,
        access: Access<'_>,
        offset: usize,
    ) -> Result<usize> {
        // vfio-pci-core refuses what reaches past the end before it writes anything.
        if offset.saturating_add(access.count) > handle.vdev().pci().cfg_size().into_raw() {
            return handle.vdev().write(access);
        }

        let mut done = 0;
        while done < access.count {
            let at = offset + done;
            let buf = access.buf.wrapping_byte_add(done);
            let (ours, len) = next_part(handle, at, access.count - done)?;
            let written = if ours {
                write_capability(handle, at, buf, len)
            } else {
                // CAST: at most 4096.
                let mut pos = *access.pos + done as i64;
                let part = Access {
                    buf,
                    count: len,
                    pos: &mut pos,
                };
                self.write_core(handle, part).map(|_| ())
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

    /// Lets vfio-pci-core write.
    fn write_core(&self, handle: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        if self.spans.power.meets(access.position(), access.count) {
            power::write(handle, access)
        } else {
            handle.vdev().write(access)
        }
    }
}

/// Reads config space with some of a visible ST table in it: vfio-pci-core reads a dword at a
/// time, so that a batch could come in between. What the user gets of the table is read again in
/// one piece.
fn read_table(
    handle: Handle<'_, VfioTph>,
    access: Access<'_>,
    offset: usize,
    table: Range<u16>,
) -> Result<usize> {
    let buf = access.buf;
    let done = handle.vdev().read(access)?;

    let start = offset.max(table.start.into());
    let end = (offset + done).min(table.end.into());
    if start < end {
        let at = usize::from(table.start);
        let within = nospec::range(start - at..end - at, usize::from(table.end) - at);
        let start = at + within.start;
        let mut entries = [0; 2 * MAX_CAPABILITY_ENTRIES as usize];
        let entries = entries.get_mut(..within.len()).ok_or(EINVAL)?;
        handle
            .lock_now()?
            .open()?
            .virtual_config()
            .read(start, entries)?;
        UserSlice::new(buf.wrapping_byte_add(start - offset), entries.len())
            .writer()
            .write_slice(entries)?;
    }
    Ok(done)
}

/// How the write goes on at `at`: whether in a TPH capability, and for how many of `left` bytes.
fn next_part(handle: Handle<'_, VfioTph>, at: usize, left: usize) -> Result<(bool, usize)> {
    let mut guard = handle.lock_now()?;
    let open = guard.open()?;
    let ours = |at: usize| open.virtual_bytes.iter().any(|range| range.contains(at));

    let first = ours(at);
    let len = (1..left)
        .take_while(|&more| ours(at + more) == first)
        .count()
        + 1;
    Ok((first, len))
}

/// Writes to a TPH capability. Only Control takes anything; the write is in force on return, or
/// dropped.
fn write_capability(handle: Handle<'_, VfioTph>, at: usize, buf: UserPtr, count: usize) -> Result {
    let Some((register, skipped)) = control_bytes(handle, at, count)? else {
        return Ok(());
    };
    let mut bytes = [0; size_of::<u32>()];
    let bytes = bytes.get_mut(..register.len()).ok_or(EINVAL)?;
    UserSlice::new(buf.wrapping_byte_add(skipped), bytes.len())
        .reader()
        .read_slice(bytes)?;

    // As vfio-pci-core has it for any access to a device that does not wake up.
    let _awake = Awake::new(handle.vdev().pci()).map_err(|_| EIO)?;
    // A tag that a vector should not have must not come into use.
    vectors::clear_freed(handle)?;
    write_control(&mut handle.lock()?.open()?, register.start, bytes)
}

/// The bytes of the Control register that a write of `count` bytes at `at` in config space touches,
/// and how many bytes of the write come before them.
fn control_bytes(
    handle: Handle<'_, VfioTph>,
    at: usize,
    count: usize,
) -> Result<Option<(Range<usize>, usize)>> {
    let mut guard = handle.lock_now()?;
    let open = guard.open()?;
    Ok(open.offered.as_ref().and_then(|offered| {
        let within = at.checked_sub(offered.offset.into())?;
        let (register, written) = control::overlap(within, count)?;
        Some((nospec::range(register, size_of::<u32>()), written.start))
    }))
}

fn write_control(open: &mut Open<'_, VfioTph>, offset: usize, bytes: &[u8]) -> Result {
    let vdev = open.vdev();
    if !bus::is_powered(vdev.pci()) {
        open.visible.counters.dropped_writes.count();
        return Ok(());
    }
    power::wake(open)?;
    let session = &mut **open;
    let (Some(requester), Some(offered)) = (Requester::new(vdev.pci()), &mut session.offered)
    else {
        return Ok(());
    };
    offered.catch_up(&requester)?;
    let counters = &session.visible.counters;
    let before = offered.control;
    let Some(next) = control::judge(before, &offered.offer, offset, bytes) else {
        counters.dropped_writes.count();
        return Ok(());
    };
    // As above, of what could not be cleared.
    if next.enabled() && !offered.is_settled() {
        counters.dropped_writes.count();
        return Ok(());
    }

    counters.config_writes.count();
    for step in control::steps(before, next) {
        table::set_control(&requester, step)?;
    }
    match table::control(&requester)? {
        // What a device made of it is in force, whatever it was asked for.
        Some(in_force) => offered.control = in_force,
        // A device that is gone drops the write, or did so after it; one that comes back gets
        // what was in force before.
        None => {
            table::set_control(&requester, offered.control)?;
            offered.out_of_reach = true;
        }
    }
    if offered.control != next {
        requester.set_core_state(
            offered.control.st_mode as u8,
            offered.control.requester_enable as u8,
        );
    }

    let now = offered.control;
    if now.enabled() {
        trace::enable(vdev.pci(), now.st_mode as u8, now.requester_enable as u8);
    } else if before.enabled() {
        trace::disable(vdev.pci());
    }
    open.show_control()
}
