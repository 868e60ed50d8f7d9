// SPDX-License-Identifier: GPL-2.0-only

//! The contract once more, in plain integers and without a look at the rules: what the tests
//! expect.
//!
//! Nothing in here uses a type or a constant of the code under test, so that a wrong one shows.

/// Capability register: No ST Mode, Interrupt Vector Mode and Device Specific Mode Supported.
pub(crate) const NS: u32 = 1 << 0;
pub(crate) const IV: u32 = 1 << 1;
pub(crate) const DS: u32 = 1 << 2;
/// Capability register: Extended TPH Requester Supported.
pub(crate) const EXTENDED: u32 = 1 << 8;
const LOCATION: u32 = 0b11 << 9;
const SIZE: u32 = 0x7ff << 16;

/// What hardware says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// The raw Capability register.
    pub(crate) capability: u32,
    /// The root port's raw completer field; none above an RCiEP.
    pub(crate) root_port: Option<u32>,
    /// Whether End-End TLP prefixes get from the device to the root port, or all links are in flit
    /// mode.
    pub(crate) prefixes: bool,
    /// The device's own raw completer field.
    pub(crate) completer: u32,
    /// Entries that fit into the capability.
    pub(crate) room: u16,
    /// Whether another capability owns some of the table that is claimed.
    pub(crate) overlapped: bool,
    /// Vectors of the MSI-X table, 0 if there is none that can be used.
    pub(crate) vectors: u16,
    /// Whether a function that is no port shares the IOMMU group.
    pub(crate) shares_group: bool,
}

impl Device {
    /// A device with everything: all modes, extended tags, a table of 64 entries in the capability.
    pub(crate) const FULL: Self = Self {
        capability: capability(NS | IV | DS, true, 0b01, 64),
        root_port: Some(0b11),
        prefixes: true,
        completer: 0b11,
        room: 64,
        overlapped: false,
        vectors: 2048,
        shares_group: false,
    };
}

/// A Capability register; `entries` is the table's size, 1 to 2048.
pub(crate) const fn capability(modes: u32, extended: bool, location: u32, entries: u32) -> u32 {
    modes | if extended { EXTENDED } else { 0 } | (location << 9) | ((entries - 1) << 16)
}

/// Section 1: whether TPH is usable.
pub(crate) fn usable(device: &Device) -> bool {
    // All ones: there is no device.
    device.capability != u32::MAX && matches!(device.root_port, None | Some(0b01 | 0b11))
}

/// Sections 2 and 3: the modes that the user may select. Interrupt Vector mode takes its tags from
/// the MSI-X table if the location is 10b.
fn modes(device: &Device, policy: u32) -> u32 {
    let in_msix = (device.capability >> 9) & 0b11 == 0b10;
    let allowed = match policy {
        0 => NS,
        1 if in_msix && device.shares_group => NS,
        1 if device.overlapped => NS,
        1 => NS | IV,
        _ => NS | IV | DS,
    };
    device.capability & allowed & if lacks_table(device) { !IV } else { !0 }
}

/// Whether the table is in MSI-X, where there is none that can be used.
fn lacks_table(device: &Device) -> bool {
    (device.capability >> 9) & 0b11 == 0b10 && device.vectors == 0
}

/// Section 3: the Capability register that the user sees.
pub(crate) fn seen(device: &Device, policy: u32) -> u32 {
    let raw = device.capability;
    let modes = modes(device, policy);
    // Section 1: an RCiEP, or a root port that takes extended tags and a path that has room for
    // them.
    let extended = match (device.root_port, device.prefixes) {
        (None, _) | (Some(0b11), true) => raw & EXTENDED,
        _ => 0,
    };
    let location = (raw >> 9) & 0b11;
    let table = match (modes & (IV | DS), location) {
        // No mode that uses a table, or none that it could use: 11b is reserved.
        (0, _) | (_, 0b00 | 0b11) => 0,
        _ if lacks_table(device) => 0,
        (_, 0b01) => match entries(device, policy) {
            0 => 0,
            entries => (location << 9) | ((u32::from(entries) - 1) << 16),
        },
        // The size field has no meaning for a table elsewhere, and stays.
        _ => raw & (LOCATION | SIZE),
    };
    modes | extended | table
}

/// Section 4.1: the entries that TPH_ST addresses. A table in MSI-X (location 10b) has an
/// entry for each vector.
pub(crate) fn entries(device: &Device, policy: u32) -> u16 {
    let uses_table = modes(device, policy) & (IV | DS) != 0;
    let size = ((device.capability >> 16) & 0x7ff) as u16 + 1;
    match (device.capability >> 9) & 0b11 {
        0b01 if uses_table => size.min(device.room),
        0b10 if uses_table => device.vectors,
        _ => 0,
    }
}

/// Section 4.1: the flags.
pub(crate) fn flags(device: &Device, policy: u32) -> u32 {
    let seen = seen(device, policy);
    let location = (seen >> 9) & 0b11;
    let conditions = [
        seen & EXTENDED != 0,
        location == 0b01,
        location == 0b10,
        policy != 0 && entries(device, policy) != 0,
        policy >= 2,
        policy == 3 && entries(device, policy) != 0,
        device.completer == 0b01 || device.completer == 0b11,
        device.completer == 0b11,
        policy >= 2 && entries(device, policy) != 0,
    ];
    conditions
        .iter()
        .enumerate()
        .map(|(bit, &condition)| u32::from(condition) << bit)
        .sum()
}

/// Section 3: what a write of `bytes` at `offset` of Control leaves there, for a user who sees the
/// Capability `seen`; none if it is dropped.
///
/// The contract drops every mode that is not offered. A device that does not list No ST, which
/// PCIe demands of every requester, could then never be taken back to the state after reset, so
/// that one value is always taken.
pub(crate) fn control_after(current: u32, seen: u32, offset: usize, bytes: &[u8]) -> Option<u32> {
    let mut value = current;
    for (place, &byte) in (offset..).zip(bytes) {
        let shift = 8 * place as u32;
        value = value & !(0xff << shift) | (u32::from(byte) << shift);
    }
    let mode = value & 0b111;
    let enable = (value >> 8) & 0b11;
    if mode == 0 && enable == 0 {
        return Some(0);
    }
    if mode > 2 || seen & (1 << mode) == 0 || enable == 0b10 {
        return None;
    }
    let enable = match enable {
        0b11 if seen & EXTENDED == 0 => 0b01,
        enable => enable,
    };
    Some(mode | (enable << 8))
}

/// Section 2: whether a write that takes Control from `before` to `next` has to find the device
/// alone in its group once more.
pub(crate) fn looks_for_others(device: &Device, policy: u32, before: u32, next: u32) -> bool {
    let steers = |control: u32| control & 0b111 == 1 && (control >> 8) & 0b11 != 0;
    let in_msix = (device.capability >> 9) & 0b11 == 0b10;
    policy < 2 && in_msix && steers(next) && !steers(before)
}
