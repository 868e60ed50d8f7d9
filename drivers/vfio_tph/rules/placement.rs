// SPDX-License-Identifier: GPL-2.0-only

//! Where a guest's ST table is in config space: behind the registers, or, with the whole
//! capability, in a hole between others.

use super::{
    capability::{
        Offer,
        MAX_CAPABILITY_ENTRIES, //
    },
    chain::{
        add_table,
        arrange,
        header,
        insert,
        leads_to,
        Location,
        MAP_UNASSIGNED,
        MAP_VIRTUAL,
        TPH, //
    },
    owners::{
        ByteSet,
        Owners,
        EXTENDED_SPACE, //
    },
    regs::{
        BASE_SIZE,
        ENTRY_SIZE, //
    },
};
use core::ops::Range;

const DWORD: usize = size_of::<u32>();

/// Where a capability with virtual entries is, and how many there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Placement {
    /// The offset of its header.
    pub(crate) offset: u16,
    /// Its entries, at least one.
    pub(crate) entries: u16,
}

impl Placement {
    /// The bytes of its table, whole dwords.
    pub(crate) fn table(&self) -> Range<usize> {
        let start = usize::from(self.offset) + BASE_SIZE;
        start..start + table_bytes(self.entries)
    }
}

/// What a guest is shown, and where.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) offer: Offer,
    pub(crate) placement: Placement,
    /// Where hardware has it.
    found: Location,
}

/// Finds a place for what a guest is shown: in place, if all entries fit there. If they do not, in
/// a hole, if the capability may move; else as many as fit. `None` where there can be no guest.
pub(crate) fn place(
    map: &[u8],
    space: &[u8],
    owners: &Owners,
    found: Option<Location>,
    offer: Option<&Offer>,
    may_move: bool,
) -> Option<Placed> {
    let found = found.filter(|&found| leads_to(space, found))?;
    let offer = offer.filter(|offer| offer.takes_virtual_tags())?;
    let entries = offer.entries.min(MAX_CAPABILITY_ENTRIES);
    let here = in_place(map, owners, found.offset, entries);
    let fits = here.is_some_and(|here| here.entries == entries);
    let elsewhere = if fits || !may_move {
        None
    } else {
        hole(map, owners, entries)
    };
    let placement = elsewhere.or(here)?;
    Some(Placed {
        offer: offer.with_virtual_tags(placement.entries),
        placement,
        found,
    })
}

/// Whether a guest finds room for an entry of a device with so many: in place, or in a hole.
/// Neither the policy nor whether there is a guest has a say.
pub(crate) fn has_room(
    map: &[u8],
    space: &[u8],
    owners: &Owners,
    found: Location,
    entries: u16,
) -> bool {
    let entries = entries.min(MAX_CAPABILITY_ENTRIES);
    leads_to(space, found)
        && (in_place(map, owners, found.offset, entries).is_some()
            || hole(map, owners, entries).is_some())
}

impl Placed {
    /// Shows it, as [`arrange`] does what is on offer. The bytes of which vfio-pci-core must get no
    /// writes are added to `kept`.
    pub(crate) fn show(
        &self,
        map: &mut [u8],
        space: &mut [u8],
        owners: &Owners,
        kept: &mut ByteSet,
    ) -> bool {
        let found = Some(self.found);
        let table = self.placement.table();
        if self.placement.offset == self.found.offset {
            let shows = arrange(map, space, owners, found, Some(&self.offer), kept);
            if shows {
                add_table(map, space, table, kept);
            }
            return shows;
        }
        let header = header(space, self.found);
        arrange(map, space, owners, found, None, kept);
        let at = self.placement.offset;
        insert(map, space, at, header, &self.offer, table, kept);
        true
    }
}

/// The bytes that so many entries take, whole dwords.
fn table_bytes(entries: u16) -> usize {
    (ENTRY_SIZE * usize::from(entries)).next_multiple_of(DWORD)
}

/// As many of `entries` as fit behind the registers at `offset`: nothing else may be there, in
/// hardware or as vfio-pci-core has it in its `map`. `None` if there is room for none.
pub(crate) fn in_place(
    map: &[u8],
    owners: &Owners,
    offset: u16,
    entries: u16,
) -> Option<Placement> {
    let start = usize::from(offset) + BASE_SIZE;
    let is_free = |at: usize| {
        let id = map.get(at).copied();
        matches!(id, Some(MAP_UNASSIGNED | MAP_VIRTUAL | TPH)) && !owners.own(at)
    };
    let room = (start..start + table_bytes(entries))
        .take_while(|&at| is_free(at))
        .count();
    // Of a dword both halves are needed.
    // CAST: at most 128 bytes.
    let fit = (room / DWORD * (DWORD / ENTRY_SIZE)) as u16;
    let entries = entries.min(fit);
    (entries != 0).then_some(Placement { offset, entries })
}

/// The lowest hole that takes a capability with all of `entries`. Its old place, which stays
/// virtual, is none: vfio-pci-core has it in its `map`.
///
/// Nobody knows where a capability of unknown length ends, and so what follows it is no hole.
pub(crate) fn hole(map: &[u8], owners: &Owners, entries: u16) -> Option<Placement> {
    let need = BASE_SIZE + table_bytes(entries);
    let mut behind_unknown = false;
    let mut start = EXTENDED_SPACE;
    let mut at = EXTENDED_SPACE;
    while at + DWORD <= map.len() {
        let bytes = at..at + DWORD;
        if owners.first_in(bytes.clone()).is_some() {
            behind_unknown = bytes.clone().any(|at| owners.is_of_unknown_length(at));
            start = bytes.end;
        } else if behind_unknown
            || bytes.clone().any(|at| owners.may_own(at))
            || map
                .get(bytes.clone())?
                .iter()
                .any(|&id| id != MAP_UNASSIGNED)
        {
            start = bytes.end;
        }
        at = bytes.end;
        if at - start >= need {
            // CAST: at most 4096.
            return Some(Placement {
                offset: start as u16,
                entries,
            });
        }
    }
    None
}
