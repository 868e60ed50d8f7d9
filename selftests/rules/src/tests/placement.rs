// SPDX-License-Identifier: GPL-2.0-only

//! Where a guest's table is: in place, moved, shortened, on the layouts of real devices and on
//! others; R95.

use crate::{
    oracle::{
        invariants::{
            owners,
            with_headers, //
        },
        model::{
            self,
            Device, //
        },
        offer,
        space::{
            Entry,
            Space,
            DVSEC,
            FIRST,
            NOBODY,
            TPH,
            VENDOR,
            VIRTUAL, //
        },
    },
    rules::{
        capability::Offer,
        chain::Location,
        owners::ByteSet,
        placement::{
            has_room,
            place,
            Placed, //
        },
        regs::Capability,
    },
};

const AER: u32 = 0x01;
const DSN: u32 = 0x03;
const ARI: u32 = 0x0e;
const ATS: u32 = 0x0f;
const SRIOV: u32 = 0x10;
const LTR: u32 = 0x18;
const SECONDARY: u32 = 0x19;
const L1SS: u32 = 0x1e;

fn at(offset: usize, id: u32, len: usize) -> Entry {
    Entry { offset, id, len }
}

/// A TPH capability whose table is in MSI-X.
fn tph(offset: usize) -> Entry {
    at(offset, TPH, 12)
}

/// What a device with so many vectors has on offer, at the default gate.
fn vectors(count: u16) -> (u32, Offer) {
    let raw = model::capability(0b011, true, 0b10, 1);
    let device = Device {
        capability: raw,
        vectors: count,
        ..Device::FULL
    };
    (raw, offer(&device, 1).expect("usable"))
}

/// A device's config space, as vfio-pci-core makes it, with that Capability register.
fn space(chain: &[Entry], offset: usize, raw: u32) -> Space {
    let mut hardware = Space::with_chain(chain, 0);
    hardware.write_dword(offset + 4, raw);
    Space::of_hardware(&hardware.hardware)
}

/// Bytes that nobody may have: they are owned, or may be, or are the capability's own.
fn taken(space: &Space, offset: usize) -> Vec<bool> {
    let owners = space.owners(Some(offset));
    let mut taken: Vec<bool> = owners
        .iter()
        .zip(&space.map)
        .map(|(owner, &id)| owner.tph || owner.other || ![NOBODY, TPH as u8].contains(&id))
        .collect();
    taken[offset..offset + 12].fill(true);
    for (at, id, _) in space.walk() {
        if id == AER {
            taken[at..at + 0x48].fill(true);
        }
    }
    taken
}

/// The contract: the lowest place where so many bytes are free, and what is before it is not of
/// unknown length.
fn lowest(space: &Space, offset: usize, len: usize, unknown: &[u32]) -> Option<usize> {
    let taken = taken(space, offset);
    let header = |at: usize| {
        let bytes = &space.hardware[at..at + 4];
        u32::from_le_bytes(bytes.try_into().expect("four bytes")) & 0xffff
    };
    let mut headers = Vec::new();
    let mut next = FIRST;
    while next >= FIRST {
        headers.push(next);
        let bytes = &space.hardware[next..next + 4];
        next = (u32::from_le_bytes(bytes.try_into().expect("four bytes")) >> 20) as usize & !3;
    }
    (FIRST..=space.map.len() - len).step_by(4).find(|&start| {
        let before = headers.iter().filter(|&&at| at < start).max();
        taken[start..start + len].iter().all(|taken| !taken)
            && before.is_none_or(|&at| !unknown.contains(&header(at)))
    })
}

/// Places the capability at `offset`, shows it, and checks every byte of what comes of it.
fn check(before: &Space, offset: usize, raw: u32, offer: &Offer, moves: bool) -> Option<Placed> {
    let found = Location {
        offset: offset as u16,
        capability: Capability::from_raw(raw),
    };
    let owners = owners(before, Some(found.offset));
    let before = &with_headers(before);
    let moved = place(
        &before.map,
        &before.bytes,
        &owners,
        Some(found),
        Some(offer),
        true,
    );
    let has_room = has_room(&before.map, &before.bytes, &owners, found, offer.entries);
    assert_eq!(has_room && offer.takes_virtual_tags(), moved.is_some());
    let placed = place(
        &before.map,
        &before.bytes,
        &owners,
        Some(found),
        Some(offer),
        moves,
    )?;
    let mut now = before.clone();
    let mut kept = ByteSet::EMPTY;
    assert!(placed.show(&mut now.map, &mut now.bytes, &owners, &mut kept));
    let start = usize::from(placed.placement.offset);
    let entries = usize::from(placed.placement.entries);
    let end = start + 12 + (2 * entries).next_multiple_of(4);

    let links = |space: &Space| -> Vec<(usize, u32, u32)> {
        let mut links = space.walk();
        links.retain(|&(_, id, _)| id != 0 && id != TPH);
        links.sort_unstable();
        links
    };
    assert_eq!(links(&now), links(before), "the others");
    assert!(now.ends());
    let shown: Vec<_> = now.walk();
    let tphs: Vec<_> = shown.iter().filter(|link| link.1 == TPH).collect();
    assert_eq!(tphs, [&(start, TPH, 1)], "shown once, with its version");
    let register = now.dword(start + 4).expect("registers");
    assert_eq!((register >> 9) & 0b11, 0b01, "in the capability");
    assert_eq!((register >> 16) as usize, entries - 1);
    assert_eq!(register & 0b111, 0b011, "no Device Specific mode");
    assert_eq!(now.dword(start + 8), Some(0));

    let taken = taken(before, offset);
    for (byte, &taken) in taken.iter().enumerate().take(now.map.len()) {
        let here = (start..end).contains(&byte);
        let old = (offset..offset + 12).contains(&byte);
        if here || old {
            assert_eq!(now.map[byte], VIRTUAL, "{byte:#x}");
            assert!(kept.contains(byte));
            let says = byte < start + 8 && here || (FIRST..FIRST + 4).contains(&byte);
            assert!(says || now.bytes[byte] == 0, "{byte:#x}");
            assert!(old || !taken, "{byte:#x} is somebody's");
        } else if now.dword(byte & !3) != before.dword(byte & !3) {
            // No more than the pointer of a header.
            let at = byte & !3;
            assert!(before.walk().iter().any(|link| link.0 == at), "{byte:#x}");
            let word = |space: &Space| space.dword(at).map(|header| header & 0xf_ffff);
            assert_eq!(word(&now), word(before));
        }
    }
    Some(placed)
}

fn placement(placed: Option<Placed>) -> Option<(usize, u16)> {
    placed.map(|placed| (placed.placement.offset.into(), placed.placement.entries))
}

#[test]
fn r95_in_place_where_there_is_room() {
    for count in [1, 2, 3, 63, 64, 65, 2048] {
        let (raw, offer) = vectors(count);
        let shown = count.min(64);
        let space = space(&[at(FIRST, AER, 0x2c), tph(0x1f8)], 0x1f8, raw);
        for moves in [false, true] {
            let placed = check(&space, 0x1f8, raw, &offer, moves);
            assert_eq!(placement(placed), Some((0x1f8, shown)));
        }
    }
}

/// The storage NIC: a hidden capability before it, 284h after it; a table of 129 vectors.
#[test]
fn r95_layout_of_a_storage_nic() {
    let (raw, offer) = vectors(129);
    let chain = [
        at(FIRST, AER, 0x2c),
        at(0x150, DSN, 12),
        at(0x198, SECONDARY, 4),
        tph(0x1f8),
        at(0x284, LTR, 8),
    ];
    let space = space(&chain, 0x1f8, raw);
    // 1f8h + 12 + 128 bytes is 284h, to the byte.
    assert_eq!(
        placement(check(&space, 0x1f8, raw, &offer, true)),
        Some((0x1f8, 64))
    );
}

/// As it was tried by hand: 140h to 10ch, behind a capability of known length.
#[test]
fn r95_moved_to_the_lowest_hole() {
    let (raw, offer) = vectors(16);
    let chain = [at(FIRST, DSN, 12), tph(0x140), at(0x14c, VENDOR, 0x20)];
    let space = space(&chain, 0x140, raw);
    assert_eq!(
        placement(check(&space, 0x140, raw, &offer, true)),
        Some((0x10c, 16))
    );
    // By the feature nothing moves, and there is no room here.
    assert_eq!(placement(check(&space, 0x140, raw, &offer, false)), None);
}

/// The first of the chain: an empty header stays, and leads to where it is now.
#[test]
fn r95_the_first_one_leaves_an_empty_header() {
    let (raw, offer) = vectors(64);
    let chain = [tph(FIRST), at(0x110, VENDOR, 0x10)];
    let before = space(&chain, FIRST, raw);
    let placed = check(&before, FIRST, raw, &offer, true);
    assert_eq!(placement(placed), Some((0x120, 64)));
}

/// What follows a capability of unknown length is no hole, up to the next one.
#[test]
fn r95_no_hole_behind_unknown_length() {
    let (raw, offer) = vectors(32);
    for id in [SECONDARY, 0x77, 0x26] {
        let chain = [
            at(FIRST, id, 4),
            tph(0x300),
            at(0x30c, VENDOR, 0x14),
            at(0x800, id, 4),
        ];
        let space = space(&chain, 0x300, raw);
        assert_eq!(
            placement(check(&space, 0x300, raw, &offer, true)),
            Some((0x320, 32)),
            "{id:#x}"
        );
        // And none at all.
        let chain = [
            at(FIRST, id, 4),
            tph(0x300),
            at(0x30c, VENDOR, 0x14),
            at(0x320, id, 4),
        ];
        let space = self::space(&chain, 0x300, raw);
        assert_eq!(placement(check(&space, 0x300, raw, &offer, true)), None);
    }
}

/// Where there is no hole for all, as many as fit.
#[test]
fn r95_shortened() {
    let (raw, offer) = vectors(64);
    for room in 0..=32usize {
        let next = 0x200 + 12 + 4 * room;
        let chain = [at(FIRST, 0x77, 4), tph(0x200), at(next, 0x77, 4)];
        let space = space(&chain, 0x200, raw);
        for moves in [false, true] {
            let expected = match 2 * room as u16 {
                0 => None,
                fit => Some((0x200, fit)),
            };
            assert_eq!(
                placement(check(&space, 0x200, raw, &offer, moves)),
                expected,
                "{room}"
            );
        }
    }
}

/// A table in the capability stays where it is, and has its size.
#[test]
fn r95_a_table_in_the_capability() {
    for entries in [1, 2, 7, 8, 63, 64] {
        let raw = model::capability(0b111, true, 0b01, entries);
        let device = Device {
            capability: raw,
            ..Device::FULL
        };
        for policy in 1..4 {
            let offer = offer(&device, policy).expect("usable");
            let chain = [
                at(FIRST, AER, 0x2c),
                at(0x150, TPH, 12 + 2 * entries as usize),
            ];
            let space = space(&chain, 0x150, raw);
            for moves in [false, true] {
                let placed = check(&space, 0x150, raw, &offer, moves);
                assert_eq!(placement(placed), Some((0x150, entries as u16)));
            }
        }
    }
}

/// Who has no Interrupt Vector mode, or no table, gets nothing.
#[test]
fn r95_nothing_for_others() {
    let chain = [at(FIRST, AER, 0x2c), tph(0x200)];
    for (modes, location, policy, shares_group) in [
        (0b101, 0b10, 3, false),
        (0b011, 0b00, 3, false),
        (0b011, 0b10, 0, false),
        (0b011, 0b10, 1, true),
    ] {
        let raw = model::capability(modes, true, location, 1);
        let device = Device {
            capability: raw,
            shares_group,
            ..Device::FULL
        };
        let offer = offer(&device, policy).expect("usable");
        let space = space(&chain, 0x200, raw);
        assert_eq!(placement(check(&space, 0x200, raw, &offer, true)), None);
    }
}

/// Chains of all kinds of neighbours, at places drawn at random: what is found is what a search of
/// every place finds.
#[test]
fn r95_as_a_search_of_every_place() {
    let kinds = [
        (AER, 0x2c),
        (DSN, 12),
        (VENDOR, 0x20),
        (DVSEC, 0x40),
        (ARI, 8),
        (ATS, 8),
        (SRIOV, 64),
        (L1SS, 16),
        (SECONDARY, 4),
        (0x77, 4),
    ];
    let mut seed = 0x2545_f491_4f6c_dd1du64;
    let mut draw = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    };
    let (mut moved, mut short, mut none) = (0, 0, 0);
    for _ in 0..4000 {
        let count = 1 + draw(80) as u16;
        let (raw, offer) = vectors(count);
        let mut chain = Vec::new();
        let mut free = FIRST;
        let place = draw(6);
        let last = place + draw(4);
        for link in 0..=last {
            let (id, len) = match link == place {
                true => (TPH, 12),
                false => kinds[draw(kinds.len())],
            };
            chain.push(at(free, id, len));
            free += len.next_multiple_of(4);
            if id == AER {
                free += 0x1c;
            }
            free += 4 * [0, 0, 1, 4, 12, 40][draw(6)];
        }
        // The end of config space is full.
        if draw(2) == 0 {
            chain.push(at(free, VENDOR, (4096 - free).min(0xffc)));
        }
        let offset = chain[place].offset;
        let space = space(&chain, offset, raw);
        let entries = usize::from(count.min(64));
        let table = (2 * entries).next_multiple_of(4);
        let taken = taken(&space, offset);
        let start = offset + 12;
        let room = taken[start..(start + table).min(4096)]
            .iter()
            .take_while(|taken| !**taken)
            .count()
            / 4
            * 2;
        let expected = if room >= entries {
            Some((offset, entries as u16))
        } else {
            let hole = lowest(&space, offset, 12 + table, &[SECONDARY, 0x77]);
            moved += u32::from(hole.is_some());
            match (hole, room) {
                (Some(hole), _) => Some((hole, entries as u16)),
                (None, 0) => {
                    none += 1;
                    None
                }
                (None, room) => {
                    short += 1;
                    Some((offset, room as u16))
                }
            }
        };
        let found = placement(check(&space, offset, raw, &offer, true));
        assert_eq!(found, expected, "{count} of {space:?}");
    }
    assert!(
        moved > 100 && short > 100 && none > 20,
        "{moved} {short} {none}"
    );
}
