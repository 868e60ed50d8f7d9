// SPDX-License-Identifier: GPL-2.0-only

//! How TPH Requester capabilities look to the user.
//!
//! vfio-pci-core keeps two byte arrays per open device, each as large as config space: a *map* that
//! says which capability a byte belongs to, and the *virtual space* that the user sees in place of
//! hardware. A byte that the map marks [`MAP_VIRTUAL`] is read from the virtual space alone, one
//! that it marks [`MAP_UNASSIGNED`] from hardware. [`arrange`] edits both, before the user can
//! look.

use super::{
    capability::Offer,
    owners::{
        claimed_table,
        next_pointer,
        ByteSet,
        Owners,
        EXTENDED_SPACE,
        HEADER, //
    },
    regs::{
        Capability,
        BASE_SIZE,
        CAPABILITY, //
    },
};
use crate::uapi;
use core::ops::Range;

/// In the map: all of the byte is virtual.
pub(crate) const MAP_VIRTUAL: u8 = 0xfe;
/// In the map: the byte is no capability's, and hardware's, for reads and for writes.
pub(crate) const MAP_UNASSIGNED: u8 = 0xff;

/// Likewise: the id of the registers that each device has, which an extended capability may have,
/// too.
const MAP_BASIC: u8 = 0;
// CAST: ids of vfio-pci-core's map, which has a byte for each.
pub(super) const TPH: u8 = uapi::PCI_EXT_CAP_ID_TPH as u8;
const VENDOR: u8 = uapi::PCI_EXT_CAP_ID_VNDR as u8;
const DESIGNATED_VENDOR: u8 = uapi::PCI_EXT_CAP_ID_DVSEC as u8;

/// The chain of extended capabilities in a config space, as (offset, header) pairs.
///
/// Ends at a pointer that leads nowhere, and after as many steps as there is room for headers
/// (the bound of vfio-pci-core's own walk, so that what vfio-pci-core found is found), so that a
/// loop in the chain is no loop here.
struct Chain<'a> {
    space: &'a [u8],
    next: usize,
    steps: usize,
}

impl<'a> Chain<'a> {
    fn new(space: &'a [u8]) -> Self {
        Self {
            space,
            next: EXTENDED_SPACE,
            steps: steps(space),
        }
    }
}

impl Iterator for Chain<'_> {
    type Item = (usize, u32);

    fn next(&mut self) -> Option<Self::Item> {
        self.steps = self.steps.checked_sub(1)?;
        let offset = self.next;
        let header = read_header(self.space, offset)?;
        self.next = next_pointer(header);
        Some((offset, header))
    }
}

/// How many headers there is room for.
fn steps(space: &[u8]) -> usize {
    space.len().saturating_sub(EXTENDED_SPACE) / HEADER
}

/// The header of an extended capability; `None` where there can be none.
#[inline(never)]
fn read_header(space: &[u8], offset: usize) -> Option<u32> {
    if offset < EXTENDED_SPACE {
        return None;
    }
    read_dword(space, offset)
}

#[inline(never)]
fn read_dword(space: &[u8], offset: usize) -> Option<u32> {
    let bytes = space.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[inline(never)]
fn write_dword(space: &mut [u8], offset: usize, value: u32) {
    if let Some(bytes) = space.get_mut(offset..).and_then(<[u8]>::first_chunk_mut) {
        *bytes = value.to_le_bytes();
    }
}

const fn with_next_pointer(header: u32, next: usize) -> u32 {
    // CAST: an offset in config space has twelve bits.
    (header & 0x000f_ffff) | ((next as u32) << 20)
}

const fn is_tph(header: u32) -> bool {
    header & 0xffff == uapi::PCI_EXT_CAP_ID_TPH
}

/// A TPH Requester capability that hardware has, whether or not the user's chain leads to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Location {
    /// Its offset in config space.
    pub(crate) offset: u16,
    /// Its Capability register.
    pub(crate) capability: Capability,
}

#[inline(never)]
fn is_tph_of_chain(space: &[u8], at: usize) -> bool {
    Chain::new(space).any(|(offset, header)| offset == at && is_tph(header))
}

/// Whether vfio-pci-core answers for the byte `at` from hardware in an access that begins at
/// `from`, in the same dword and of the same owner. It does except for the first bytes of what it
/// takes for one capability: all that lie next to each other and have the same id. Id 0 stands for
/// the registers that each device has, which have no first bytes.
fn is_of_hardware(map: &[u8], from: usize, at: usize) -> bool {
    match map.get(at) {
        None | Some(&MAP_VIRTUAL) => false,
        Some(&(MAP_UNASSIGNED | MAP_BASIC)) => true,
        Some(id) => {
            let before = from.saturating_sub(HEADER);
            before >= EXTENDED_SPACE && map[before..at].iter().all(|other| other == id)
        }
    }
}

/// Whether vfio-pci-core answers for a byte of the header at `offset` from hardware, in an access
/// of any width.
fn has_bytes_of_hardware(map: &[u8], offset: usize) -> bool {
    (offset..offset + HEADER).any(|at| is_of_hardware(map, at, at))
}

/// Puts those headers of the user's chain into the virtual space that vfio-pci-core does not have
/// there, or does not show: it serves them from hardware. `read` reads the dword at an offset of
/// hardware's.
///
/// These are headers next to another capability of the same id or inside another one, and those of
/// capabilities that vfio-pci-core hides and yet leads to: it has filled in the bytes of a later
/// capability over a pointer that it had changed.
pub(crate) fn read_headers(map: &[u8], space: &mut [u8], read: impl Fn(usize) -> u32) {
    let mut offset = EXTENDED_SPACE;
    for _ in 0..steps(space) {
        let Some(mut header) = read_header(space, offset) else {
            return;
        };
        if has_bytes_of_hardware(map, offset) {
            header = served(map, offset, header, read(offset));
            write_dword(space, offset, header);
        }
        offset = next_pointer(header);
    }
}

/// What vfio-pci-core answers to a read of the dword at `offset`.
fn served(map: &[u8], offset: usize, in_space: u32, in_hardware: u32) -> u32 {
    let whole = map[offset..offset + HEADER]
        .iter()
        .all(|&id| id == map[offset]);
    let mut bytes = in_space.to_le_bytes();
    for (place, (byte, hardware)) in bytes.iter_mut().zip(in_hardware.to_le_bytes()).enumerate() {
        // It takes a dword of more than one owner apart, into words at most.
        let from = if whole { 0 } else { place & !1 };
        if is_of_hardware(map, offset + from, offset + place) {
            *byte = hardware;
        }
    }
    u32::from_le_bytes(bytes)
}

/// Whether there is a TPH Requester capability in the user's chain.
pub(crate) fn has_tph(space: &[u8]) -> bool {
    Chain::new(space).any(|(_, header)| is_tph(header))
}

/// Makes all TPH Requester capabilities virtual, those of the user's chain and of hardware's, and
/// `found`, wherever the chain leads. On the terms of `offer` `found` is shown in its reset state.
/// All others read as zeros and are out of the chain, and so is any capability whose header their
/// registers cover.
///
/// The virtual space has all headers of the chain ([`read_headers`]). One that has to lead
/// elsewhere becomes virtual where vfio-pci-core would serve it from hardware.
///
/// Returns whether `found` is shown: it is on offer, and the chain has a TPH capability there, with
/// all of its registers.
/// The bytes of which vfio-pci-core must get no writes are added to `kept`, which is empty.
pub(crate) fn arrange(
    map: &mut [u8],
    space: &mut [u8],
    owners: &Owners,
    found: Option<Location>,
    offer: Option<&Offer>,
    kept: &mut ByteSet,
) -> bool {
    let bytes = virtual_bytes(map, space, owners, found);
    let keep = found
        .filter(|&found| offer.is_some() && leads_to(space, found))
        .map(|found| usize::from(found.offset));

    relink(map, space, kept, |offset, header| {
        let covered = covers_header(&bytes, offset);
        offset != EXTENDED_SPACE && Some(offset) != keep && (is_tph(header) || covered)
    });
    let first = read_header(space, EXTENDED_SPACE)
        .filter(|_| bytes.contains(EXTENDED_SPACE) && keep != Some(EXTENDED_SPACE));
    let header = keep.and_then(|offset| read_header(space, offset));

    kept.insert_all(&bytes);
    for (at, (owner, byte)) in map.iter_mut().zip(space.iter_mut()).enumerate() {
        if kept.contains(at) {
            *owner = MAP_VIRTUAL;
        }
        if bytes.contains(at) {
            *byte = 0;
        }
    }
    if let Some(first) = first {
        // The first one cannot leave its place: an empty header carries the chain on.
        write_dword(
            space,
            EXTENDED_SPACE,
            with_next_pointer(0, next_pointer(first)),
        );
    }
    if let (Some(offer), Some(offset), Some(header)) = (offer, keep, header) {
        write_dword(space, offset, header);
        let register = offset + usize::from(CAPABILITY);
        write_dword(space, register, offer.capability.raw());
    }
    unassign(map, space, kept);
    keep.is_some()
}

/// The bytes that become virtual: the registers of each TPH Requester capability, whatever else
/// claims them, and those bytes of its table that no other capability of hardware's owns. What
/// another one owns is read from hardware.
#[inline(never)]
fn virtual_bytes(map: &[u8], space: &[u8], owners: &Owners, found: Option<Location>) -> ByteSet {
    let found = found.filter(|found| usize::from(found.offset) >= EXTENDED_SPACE);
    let beyond = found
        .map(|found| usize::from(found.offset))
        .filter(|&at| !is_tph_of_chain(space, at));
    let in_chain = Chain::new(space).filter(|&(_, header)| is_tph(header));

    let mut bytes = ByteSet::EMPTY;
    for offset in in_chain.map(|(offset, _)| offset).chain(beyond) {
        let now = found.filter(|found| usize::from(found.offset) == offset);
        // What the chain does not lead to has told vfio-pci-core nothing.
        let then = read_dword(space, offset + usize::from(CAPABILITY))
            .filter(|_| beyond != Some(offset))
            .map(Capability::from_raw);
        let claims = [now.map(|found| found.capability), then];
        let claimed = claimed(map, offset, claims.into_iter().flatten());
        bytes.insert(offset..(offset + BASE_SIZE).min(space.len()));
        for at in claimed.filter(|&at| !owners.others_own(at)) {
            bytes.insert(at..at + 1);
        }
    }
    // Also where the user's chain does not lead, and vfio-pci-core's or hardware's does.
    for (at, &owner) in map.iter().enumerate().skip(EXTENDED_SPACE) {
        if owners.is_of_tph(at) || owner == TPH && !owners.others_own(at) {
            bytes.insert(at..at + 1);
        }
    }
    if covers_header(&bytes, EXTENDED_SPACE) {
        bytes.insert(EXTENDED_SPACE..(EXTENDED_SPACE + HEADER).min(space.len()));
    }
    bytes
}

/// Whether some of the header at `offset` is in `bytes`.
fn covers_header(bytes: &ByteSet, offset: usize) -> bool {
    (offset..offset + HEADER).any(|at| bytes.contains(at))
}

/// The bytes of the ST table of a capability at `offset`, by all that it `claims`, and by what
/// vfio-pci-core has marked as its own, whole dwords: what a device says need not be the same each
/// time.
fn claimed(map: &[u8], offset: usize, claims: impl Iterator<Item = Capability>) -> Range<usize> {
    let size = map.len();
    let start = (offset + BASE_SIZE).min(size);
    let marked = map[start..].iter().take_while(|&&id| id == TPH).count();
    let end = claims
        .map(|claim| claimed_table(claim, offset, size).end)
        .fold(start + marked, usize::max);
    start..end.next_multiple_of(HEADER).min(size)
}

/// Whether the user's chain leads to `found`, and all of its registers are there: it is shown by
/// [`arrange`] if it is on offer.
pub(crate) fn leads_to(space: &[u8], found: Location) -> bool {
    let at = usize::from(found.offset);
    at >= EXTENDED_SPACE && at + BASE_SIZE <= space.len() && is_tph_of_chain(space, at)
}

/// The header of a capability in the user's chain.
pub(crate) fn header(space: &[u8], found: Location) -> u32 {
    read_header(space, found.offset.into()).unwrap_or(0)
}

/// Makes the bytes of `table` virtual, which nothing owns: entries of a capability that is shown.
pub(crate) fn add_table(map: &mut [u8], space: &mut [u8], table: Range<usize>, kept: &mut ByteSet) {
    for at in table.start..table.end.min(map.len()).min(space.len()) {
        map[at] = MAP_VIRTUAL;
        space[at] = 0;
    }
    kept.insert(table);
}

/// Puts a TPH Requester capability at `offset`, where nothing is, into the user's chain: right
/// behind the first header. `header` is the one that it has had where it is hidden now; `table` are
/// the bytes of its entries.
pub(crate) fn insert(
    map: &mut [u8],
    space: &mut [u8],
    offset: u16,
    header: u32,
    offer: &Offer,
    table: Range<usize>,
    kept: &mut ByteSet,
) {
    let at = usize::from(offset);
    add_table(map, space, at..table.end, kept);
    let first = read_header(space, EXTENDED_SPACE).unwrap_or(0);
    write_dword(space, at, with_next_pointer(header, next_pointer(first)));
    write_dword(space, at + usize::from(CAPABILITY), offer.capability.raw());
    write_dword(space, EXTENDED_SPACE, with_next_pointer(first, at));
    // vfio-pci-core serves it from hardware if its id is 0, or it is shorter than its header.
    if has_bytes_of_hardware(map, EXTENDED_SPACE) {
        let header = EXTENDED_SPACE..EXTENDED_SPACE + HEADER;
        map[header.clone()].fill(MAP_VIRTUAL);
        kept.insert(header);
    }
}

/// Takes capabilities out of the chain of a config space: those that are `gone` by their offset and
/// header. Of the headers that lead elsewhere then, those that have to become virtual are added to
/// `headers`.
fn relink(map: &[u8], space: &mut [u8], headers: &mut ByteSet, gone: impl Fn(usize, u32) -> bool) {
    let steps = steps(space);
    let mut at = EXTENDED_SPACE;
    for _ in 0..steps {
        let Some(header) = read_header(space, at) else {
            return;
        };
        let mut next = next_pointer(header);
        let mut left = steps;
        while let Some(found) = read_header(space, next).filter(|&found| gone(next, found)) {
            // A loop of nothing else ends the chain.
            next = match left {
                0 => 0,
                _ => next_pointer(found),
            };
            left = left.saturating_sub(1);
        }
        if next != next_pointer(header) {
            write_dword(space, at, with_next_pointer(header, next));
            if has_bytes_of_hardware(map, at) {
                headers.insert(at..at + HEADER);
            }
        }
        at = next;
    }
}

/// Has vfio-pci-core read from hardware what it took for a part of a TPH capability and is not
/// virtual, and what is left behind the virtual bytes of a capability that they cut in two.
///
/// It would take the first byte that is left for the header, and go on from there: serve the wrong
/// dword from the virtual space, and allow what it allows for other registers. Writes to such bytes
/// are dropped, as those to most capabilities are; but not where vfio-pci-core lets all of them
/// through. A header stays virtual: hardware's may lead to what is hidden. The virtual bytes are in
/// `kept`.
fn unassign(map: &mut [u8], space: &[u8], kept: &mut ByteSet) {
    let mut headers = ByteSet::EMPTY;
    for (offset, _) in Chain::new(space) {
        headers.insert(offset..offset + 1);
    }
    let mut cut = false;
    for (at, id) in map.iter_mut().enumerate().skip(EXTENDED_SPACE) {
        let begins = matches!(*id, MAP_VIRTUAL | MAP_UNASSIGNED) || headers.contains(at);
        cut = *id == TPH || !begins && (cut || kept.contains(at - 1));
        let in_header = headers.contains(at & !(HEADER - 1));
        if cut && in_header {
            kept.insert(at..at + 1);
            *id = MAP_VIRTUAL;
        } else if cut {
            if !matches!(*id, VENDOR | DESIGNATED_VENDOR) {
                kept.insert(at..at + 1);
            }
            *id = MAP_UNASSIGNED;
        }
    }
}
