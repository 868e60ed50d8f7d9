// SPDX-License-Identifier: GPL-2.0-only

//! The TPH Requester capability (PCIe r6.2, 7.9.13): its registers, and what software must not
//! do to them.

use tph_protocol::{Table, ViolationKind};

use super::layout::SIZE;
use super::space::ConfigSpace;
use crate::spec::Tph;

/// TPH Requester Capability register.
pub const CAPABILITY: u16 = 0x04;
/// TPH Requester Control register.
pub const CONTROL: u16 = 0x08;
/// First ST entry.
pub const ENTRIES: u16 = 0x0c;
/// Most entries that fit into the capability.
pub const MAX_ENTRIES: u16 = 64;

/// ST Mode Select.
const MODE_SELECT: u32 = 0x7;
/// TPH Requester Enable.
const REQUESTER_ENABLE: u32 = 0x300;
const REQUESTER_ENABLE_SHIFT: u32 = 8;

/// No TPH requests.
pub const DISABLED: u8 = 0;
/// Reserved.
pub const RESERVED: u8 = 2;
/// Requests with tags of 8 and 16 bit.
pub const EXTENDED: u8 = 3;

/// Creates the registers behind the header.
pub fn define(space: &mut ConfigSpace, shape: &Tph) {
    let location = match shape.table {
        Table::Absent | Table::None => 0,
        Table::Cap => 1,
        Table::Msix => 2,
    };
    let capability = u32::from(shape.modes)
        | (u32::from(shape.extended) << 8)
        | (location << 9)
        | (u32::from(shape.entries - 1) << 16);
    space.define_u32(shape.offset + CAPABILITY, capability, 0);
    space.define_u32(shape.offset + CONTROL, 0, MODE_SELECT | REQUESTER_ENABLE);
    let writable = if shape.extended { 0xffff } else { 0x00ff };
    for entry in 0..shape.entries_in_capability() {
        space.define_u16(shape.offset + ENTRIES + 2 * entry, 0, writable);
    }
}

/// Control as its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// ST Mode Select.
    pub st_mode: u8,
    /// TPH Requester Enable.
    pub requester_enable: u8,
}

impl From<u32> for Control {
    fn from(raw: u32) -> Self {
        Control {
            st_mode: (raw & MODE_SELECT) as u8,
            requester_enable: ((raw & REQUESTER_ENABLE) >> REQUESTER_ENABLE_SHIFT) as u8,
        }
    }
}

/// Control now.
pub fn control(space: &ConfigSpace, shape: &Tph) -> Control {
    space.u32(shape.offset + CONTROL).into()
}

/// Registers as they are after a reset, with these values in Control and in each entry.
pub fn come_up(space: &mut ConfigSpace, shape: &Tph, control: u32, tag: u16) {
    // What cannot be written stays 0.
    space.write(shape.offset + CONTROL, &control.to_le_bytes());
    for entry in 0..shape.entries_in_capability() {
        space.write(shape.offset + ENTRIES + 2 * entry, &tag.to_le_bytes());
    }
}

/// All entries in the capability.
pub fn entries(space: &ConfigSpace, shape: &Tph) -> Vec<u16> {
    (0..shape.entries_in_capability())
        .map(|entry| space.u16(shape.offset + ENTRIES + 2 * entry))
        .collect()
}

/// Whether Control has the requester enabled.
pub fn is_enabled(control: u32) -> bool {
    control & REQUESTER_ENABLE != 0
}

/// What a write to configuration space would violate, said before it is done. `next` is where
/// something else than the capability may begin.
pub fn judge(
    space: &ConfigSpace,
    shape: &Tph,
    root_port_completer: u8,
    next: u16,
    offset: u16,
    data: &[u8],
) -> Vec<ViolationKind> {
    let mut found = vec![];
    let mut flag = |kind| {
        if !found.contains(&kind) {
            found.push(kind);
        }
    };
    let written = || (offset..SIZE).zip(data.iter().copied());
    let relative = |at: u16| at.wrapping_sub(shape.offset);

    for (at, value) in written() {
        if relative(at) < CONTROL && value != space.u8(at) {
            flag(ViolationKind::WriteToReadOnly);
        }
    }

    let now = space.u32(shape.offset + CONTROL);
    let mut then = now;
    let mut enable_written = false;
    let mut control_written = false;
    for (at, value) in written() {
        if (CONTROL..ENTRIES).contains(&relative(at)) {
            let shift = 8 * u32::from(relative(at) - CONTROL);
            then = then & !(0xff << shift) | (u32::from(value) << shift);
            control_written = true;
            enable_written |= shift == REQUESTER_ENABLE_SHIFT;
        }
    }
    if control_written {
        judge_control(
            shape,
            root_port_completer,
            now,
            then,
            enable_written,
            &mut flag,
        );
    }

    let enabled = is_enabled(now);
    let end = ENTRIES + 2 * shape.entries_in_capability();
    let limit = relative(next).min(ENTRIES + 2 * MAX_ENTRIES);
    for (at, value) in written() {
        let at_entry = relative(at);
        if (ENTRIES..end).contains(&at_entry) {
            let after = space.after_write(at, value);
            if after != value {
                flag(ViolationKind::WriteToReadOnly);
            }
            if enabled && after != space.u8(at) {
                flag(ViolationKind::TableChangedWhileEnabled);
            }
        } else if (end..limit).contains(&at_entry) {
            // The other half of the last dword is reserved: writing it as it is does no harm.
            let padding = at_entry < end.next_multiple_of(4);
            if !padding || value != space.u8(at) {
                flag(ViolationKind::StWriteBeyondTable);
            }
        }
    }
    let touched = written().any(|(at, _)| (ENTRIES..end).contains(&relative(at)));
    if touched && enabled && !found.contains(&ViolationKind::TableChangedWhileEnabled) {
        found.push(ViolationKind::TableWrittenWhileEnabled);
    }
    found
}

fn judge_control(
    shape: &Tph,
    root_port_completer: u8,
    now: u32,
    then: u32,
    enable_written: bool,
    flag: &mut impl FnMut(ViolationKind),
) {
    if then & !(MODE_SELECT | REQUESTER_ENABLE) != 0 {
        flag(ViolationKind::ControlReserved);
    }
    let (now, then) = (Control::from(now), Control::from(then));
    if enable_written {
        match then.requester_enable {
            RESERVED => flag(ViolationKind::RequesterEnableReserved),
            EXTENDED => {
                if !shape.extended {
                    flag(ViolationKind::ExtendedNotSupported);
                }
                if root_port_completer != EXTENDED {
                    flag(ViolationKind::ExtendedBeyondPath);
                }
            }
            _ => {}
        }
    }
    if then.requester_enable != DISABLED {
        if shape.modes & 1u8.checked_shl(then.st_mode.into()).unwrap_or(0) == 0 {
            flag(ViolationKind::ModeNotSupported);
        }
        if now.requester_enable != DISABLED && now.st_mode != then.st_mode {
            flag(ViolationKind::ModeChangedWhileEnabled);
        }
    }
}
