// SPDX-License-Identifier: GPL-2.0-only

//! What has to hold when map and virtual space of any config space are edited: nothing panics, each
//! byte is whose the contract says, and the chain can be walked.

use super::space::{
    Space,
    DVSEC,
    FIRST,
    NOBODY,
    TPH,
    VENDOR,
    VIRTUAL, //
};
use crate::rules::{
    capability::{
        is_overlapped,
        room,
        unused,
        Offer, //
    },
    chain::{
        arrange,
        has_tph,
        read_headers,
        Location, //
    },
    owners::{
        ByteSet,
        Owners, //
    },
    regs::Capability,
};
use std::collections::BTreeSet;

/// What became of a config space.
pub(crate) struct Arranged {
    pub(crate) space: Space,
    pub(crate) shown: bool,
    /// Of each byte, whether vfio-pci-core gets no writes.
    pub(crate) kept: Vec<bool>,
}

/// The rules' owners of a config space, but for the capability at `except`.
pub(crate) fn owners(space: &Space, except: Option<u16>) -> Owners {
    let mut owners = Owners::new(space.hardware.len());
    owners.find(except, |at| dword(&space.hardware, at));
    owners
}

/// The space as the driver goes on with it, with all headers of the chain in the virtual space.
pub(crate) fn with_headers(space: &Space) -> Space {
    let mut read = space.clone();
    read_headers(&read.map, &mut read.bytes, |at| dword(&space.hardware, at));
    read
}

fn dword(hardware: &[u8], at: usize) -> u32 {
    let bytes = hardware.get(at..at + 4);
    bytes.map_or(!0, |bytes| {
        u32::from_le_bytes(bytes.try_into().expect("four bytes"))
    })
}

/// The offsets of the TPH capabilities that a user finds.
fn tphs(space: &Space) -> Vec<usize> {
    let found = space.walk().into_iter();
    found
        .filter(|&(_, id, _)| id == TPH)
        .map(|(offset, ..)| offset)
        .collect()
}

/// Section 3: the end of the table that a Capability register claims at `offset`.
fn claimed_end(raw: u32, offset: usize) -> usize {
    match (raw >> 9) & 0b11 {
        0b01 => offset + 12 + 2 * (((raw >> 16) & 0x7ff) as usize + 1),
        _ => offset + 12,
    }
}

/// The bytes that have to be virtual: of each TPH capability of the user's chain, and of the one
/// that hardware has at an offset and with a Capability register, the registers, and what it claims
/// for its table, to the end of the dword, that no capability but of TPH owns in hardware; the one
/// of hardware owns what is claimed. And of each other one in hardware's chain the registers and
/// the table, and all that vfio-pci-core takes for TPH's, but for what others own.
fn virtual_bytes(space: &Space, hardware: Option<(u16, u32)>) -> Vec<bool> {
    let size = space.bytes.len();
    let hardware = hardware.map(|(offset, raw)| (usize::from(offset), raw));
    let owners = space.owners(hardware.map(|(offset, _)| offset));
    let free = |at: &usize| !owners[*at].other;
    let mut bytes: Vec<bool> = (0..size)
        .map(|at| at >= FIRST && (owners[at].tph || space.map[at] == 0x17) && free(&at))
        .collect();
    for offset in space.tphs_of_hardware() {
        if hardware.is_none_or(|(found, _)| found != offset) {
            bytes[offset..(offset + 12).min(size)].fill(true);
        }
    }
    let in_chain: BTreeSet<usize> = tphs(space).into_iter().collect();
    let mut all = in_chain.clone();
    all.extend(hardware.map(|(offset, _)| offset).filter(|&at| at >= FIRST));
    for tph in all {
        let table = (tph + 12).min(size);
        bytes[tph.min(size)..table].fill(true);
        let marked = space.map[table..].iter().take_while(|&&id| id == 0x17);
        let mut end = table + marked.count();
        if in_chain.contains(&tph) {
            end = end.max(claimed_end(space.dword(tph + 4).unwrap_or(0), tph));
        }
        if let Some((_, raw)) = hardware.filter(|&(offset, _)| offset == tph) {
            end = end.max(claimed_end(raw, tph));
        }
        let end = (end.div_ceil(4) * 4).min(size);
        for at in (table..end).filter(free) {
            bytes[at] = true;
        }
    }
    // The first header stays in the chain, as a whole or as an empty one.
    let first = FIRST.min(size)..(FIRST + 4).min(size);
    if bytes[first.clone()].contains(&true) {
        bytes[first].fill(true);
    }
    bytes
}

/// Arranges a config space with the capability at `offset` shown if that can be, or none, and
/// checks every byte of what comes of it.
pub(crate) fn check_arranged(space: &Space, shown: Option<(u16, u32, &Offer)>) -> Arranged {
    let hardware = shown.map(|(offset, raw, _)| (offset, raw));
    check_arranged_on(space, hardware, shown.map(|(.., offer)| offer))
}

/// The same of what hardware has at an offset and with a Capability register, on offer or not.
pub(crate) fn check_arranged_on(
    space: &Space,
    hardware: Option<(u16, u32)>,
    offer: Option<&Offer>,
) -> Arranged {
    let mut now = with_headers(space);
    assert_eq!(now.walk(), space.walk());
    let mut kept = ByteSet::EMPTY;
    let owners = owners(space, hardware.map(|(offset, _)| offset));
    let done = arrange(
        &mut now.map,
        &mut now.bytes,
        &owners,
        hardware.map(|(offset, raw)| Location {
            offset,
            capability: Capability::from_raw(raw),
        }),
        offer,
        &mut kept,
    );
    let shown = hardware
        .zip(offer)
        .map(|((offset, raw), offer)| (offset, raw, offer));
    let size = space.bytes.len();
    assert!((size..4096).all(|at| !kept.contains(at)));
    let kept: Vec<bool> = (0..size).map(|at| kept.contains(at)).collect();
    assert_eq!(now.hardware, space.hardware);

    let can_be = |&(offset, ..): &(u16, u32, &Offer)| {
        usize::from(offset) + 12 <= size && tphs(space).contains(&offset.into())
    };
    assert_eq!(done, shown.as_ref().is_some_and(can_be));
    let keep = shown.filter(can_be);
    let keep_at = keep.map(|(offset, ..)| usize::from(offset));

    let virtual_bytes = virtual_bytes(space, hardware);

    // The chain has lost what is hidden, and what is covered.
    let gone = |offset: usize, id: u32| {
        let covered = virtual_bytes[offset..offset + 4].contains(&true);
        Some(offset) != keep_at && (id == TPH || covered)
    };
    let mut left: Vec<_> = space.walk();
    left.retain(|&(offset, id, _)| !gone(offset, id) && id != 0);
    let mut found = now.walk();
    found.retain(|&(_, id, _)| id != 0);
    assert_eq!(found, left, "the chain");
    assert!(now.ends() || !space.ends(), "a loop that was not there");
    assert_eq!(tphs(&now), keep_at.into_iter().collect::<Vec<_>>());
    assert_eq!(has_tph(&now.bytes), keep_at.is_some());

    let offsets = |space: &Space| -> BTreeSet<usize> {
        space.walk().iter().map(|&(offset, ..)| offset).collect()
    };
    let (headers_before, headers) = (offsets(space), offsets(&now));
    // What leads elsewhere must not be read from hardware.
    let led_elsewhere: BTreeSet<usize> = headers
        .iter()
        .copied()
        .filter(|&offset| space.shows_hardware(offset) && now.read(offset) != space.read(offset))
        .collect();
    let mut cut = false;
    for at in 0..size {
        let before = space.map[at];
        let mut drops = virtual_bytes[at] || led_elsewhere.contains(&(at & !3));
        let expected = if drops {
            cut = true;
            VIRTUAL
        } else {
            // What goes on behind virtual bytes, or is no part of TPH after all.
            let goes_on = !headers.contains(&at) && ![NOBODY, VIRTUAL].contains(&before);
            cut = at >= FIRST && (cut && goes_on || u32::from(before) == TPH);
            if cut && headers.contains(&(at & !3)) {
                // A pointer in hardware may lead to what is hidden.
                drops = true;
                VIRTUAL
            } else if cut {
                drops = ![VENDOR, DVSEC].contains(&before.into());
                NOBODY
            } else {
                before
            }
        };
        assert_eq!(now.map[at], expected, "owner of {at:#x} in {space:?}");
        assert_eq!(kept[at], drops, "writes to {at:#x}");
        let in_header = headers.contains(&(at & !3));
        if virtual_bytes[at] {
            let registers = keep_at.is_some_and(|offset| (offset..offset + 8).contains(&at));
            let anchor = (FIRST..FIRST + 4).contains(&at);
            assert!(
                now.bytes[at] == 0 || registers || anchor,
                "{at:#x} shows {:#x}",
                now.bytes[at]
            );
        } else if in_header {
            // No more than the pointer changes.
            let (old, new) = (space.read(at & !3), now.read(at & !3));
            assert_eq!(old.map(|old| old & 0xf_ffff), new.map(|new| new & 0xf_ffff));
        } else if !headers_before.contains(&(at & !3)) {
            assert_eq!(now.bytes[at], space.bytes[at], "{at:#x}");
        }
    }
    if let Some((offset, _, offer)) = keep {
        let at = usize::from(offset);
        let header = |space: &Space| space.read(at).map(|header| header & 0xf_ffff);
        assert_eq!(header(&now), header(space));
        assert_eq!(now.dword(at + 4), Some(offer.capability.raw()));
        assert_eq!(now.dword(at + 8), Some(0));
    }
    Arranged {
        space: now,
        shown: done,
        kept,
    }
}

/// The rules know of every byte who owns it.
fn check_owners(space: &Space, except: Option<u16>) {
    let owners = owners(space, except);
    let expected = space.owners(except.map(usize::from));
    assert_eq!(owners.size(), space.hardware.len());
    for (at, expected) in expected.iter().enumerate() {
        assert_eq!(owners.own(at), expected.tph || expected.other, "{at:#x}");
        assert_eq!(owners.others_own(at), expected.other, "{at:#x}");
    }
    assert!(!owners.own(space.hardware.len()));
}

/// Section 3: the table ends before the first byte that anything else owns; the rest of what is
/// claimed and nothing owns is cleared as entries are.
pub(crate) fn check_table(space: &Space, offset: u16, raw: u32) {
    let rules = owners(space, Some(offset));
    let owned = space.owners(Some(offset.into()));
    let size = space.hardware.len();
    let own = |at: usize| owned[at].tph || owned[at].other;
    let start = (usize::from(offset) + 12).min(size);
    let fits = |entry: &usize| {
        let at = start + 2 * entry;
        at + 2 <= size && !own(at) && !own(at + 1)
    };
    let expected = (0..64usize).take_while(fits).count();
    assert_eq!(usize::from(room(&rules, offset)), expected);

    let capability = Capability::from_raw(raw);
    let claimed = start..claimed_end(raw, offset.into()).clamp(start, size);
    let overlapped = claimed.clone().any(own);
    assert_eq!(is_overlapped(capability, &rules, offset), overlapped);

    let claims = (claimed.len() / 2).min(expected);
    let rest: Vec<usize> = (start + 2 * claims..claimed.end)
        .filter(|&at| !own(at))
        .collect();
    let cleared: Vec<usize> = unused(capability, &rules, offset, claims as u16)
        .flatten()
        .map(|at| usize::from(at) + usize::from(offset))
        .collect();
    assert_eq!(cleared, rest);
}

/// Whatever the rules do to a config space with an `offer`, at `offset`, which is a dword's as any
/// that the PCI core finds, and at each TPH capability.
pub(crate) fn check(space: &Space, offset: u16, raw: u32, offer: &Offer) {
    check_owners(space, None);
    check_arranged(space, None);
    let tphs = tphs(space).into_iter().map(|at| at as u16);
    for at in tphs.chain([offset]) {
        check_owners(space, Some(at));
        check_table(space, at, raw);
        let claimed = space.dword(usize::from(at) + 4).unwrap_or(raw);
        check_table(space, at, claimed);
        for raw in [raw, claimed] {
            check_arranged(space, Some((at, raw, offer)));
            check_arranged_on(space, Some((at, raw)), None);
        }
    }
}
