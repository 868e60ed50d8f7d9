// SPDX-License-Identifier: GPL-2.0-only

//! Showing and hiding the capability in the chain of extended capabilities; R25, R30.

use crate::oracle::{
    model::Device,
    offer,
    space::{
        Entry,
        Space,
        FIRST,
        TPH,
        VIRTUAL, //
    },
};
use crate::rules::capability::{
    expose,
    hide_one,
    MAP_VIRTUAL, //
};
use std::ops::Range;

const AER: u32 = 0x01;
const VENDOR: u32 = 0x0b;

/// A TPH capability with a table of `entries` inside, or none.
fn tph(offset: usize, entries: usize) -> Entry {
    Entry {
        offset,
        id: TPH,
        len: 12 + 2 * entries,
    }
}

fn other(offset: usize, id: u32, len: usize) -> Entry {
    Entry { offset, id, len }
}

/// The bytes that a TPH capability may have: to the end of its last dword, and neither into the
/// next capability nor beyond config space.
fn bytes_of(tph: &Entry, others: &[Entry]) -> Range<usize> {
    let next = others
        .iter()
        .map(|other| other.offset)
        .filter(|&offset| offset > tph.offset)
        .min()
        .unwrap_or(4096);
    tph.offset..(tph.offset + tph.len.next_multiple_of(4)).min(next)
}

/// Hides all but `keep` and checks every byte of what is left.
fn hide_all(chain: &[Entry], last: usize, keep: Option<usize>) -> Space {
    let before = Space::with_chain(chain, last);
    let mut after = before.clone();
    let mut hidden = Vec::new();
    while let Some(range) = hide_one(
        &mut after.map,
        &mut after.bytes,
        keep.map(|offset| offset as u16),
    ) {
        hidden.push(range);
        assert!(hidden.len() <= chain.len(), "hides without an end");
    }

    let (gone, left): (Vec<Entry>, Vec<Entry>) = chain
        .iter()
        .partition(|entry| entry.id == TPH && Some(entry.offset) != keep);
    let expected: Vec<_> = gone.iter().map(|tph| bytes_of(tph, chain)).collect();
    assert_eq!(hidden, expected);

    // Virtual zeros, a chain of the others, and nothing else.
    let mut expected = before;
    for range in hidden {
        expected.map[range.clone()].fill(VIRTUAL);
        expected.bytes[range].fill(0);
    }
    let next_of = |place: usize| left.get(place).map_or(last, |entry| entry.offset) as u32;
    if gone.iter().any(|tph| tph.offset == FIRST) {
        // The first header cannot go: an empty one, without id and version, leads on.
        expected.write_dword(FIRST, next_of(0) << 20);
    }
    for (place, entry) in left.iter().enumerate() {
        let header = entry.id | (1 << 16) | (next_of(place + 1) << 20);
        expected.write_dword(entry.offset, header);
    }
    if after != expected {
        let changed = after.changed(&expected);
        panic!("bytes {changed:x?} are not as expected: {after:?} instead of {expected:?}");
    }
    after
}

#[test]
fn r25_map_value_is_that_of_core() {
    assert_eq!(MAP_VIRTUAL, VIRTUAL);
}

#[test]
fn r25_hidden_as_the_only_one() {
    for entries in [0, 1, 2, 63, 64] {
        let after = hide_all(&[tph(FIRST, entries)], 0, None);
        // No extended capability at all: PCIe wants all zeros.
        assert_eq!(after.dword(FIRST), Some(0));
    }
}

#[test]
fn r25_hidden_as_first_middle_and_last() {
    for entries in [0, 1, 2, 3, 63, 64] {
        let after = hide_all(
            &[
                tph(FIRST, entries),
                other(0x200, AER, 0x48),
                other(0x300, VENDOR, 0x20),
            ],
            0,
            None,
        );
        // An empty first header leads on.
        assert_eq!(after.dword(FIRST), Some(0x2000_0000));

        let chain = [
            other(FIRST, AER, 0x48),
            tph(0x200, entries),
            other(0x300, VENDOR, 0x20),
        ];
        let after = hide_all(&chain, 0, None);
        assert_eq!(after.dword(FIRST), Some(0x3001_0001));

        let chain = [
            other(FIRST, AER, 0x48),
            other(0x200, VENDOR, 0x20),
            tph(0x300, entries),
        ];
        let after = hide_all(&chain, 0, None);
        assert_eq!(after.dword(0x200), Some(0x0001_000b));
    }
}

/// The order of a chain need not be that of the offsets.
#[test]
fn r25_hidden_in_a_chain_that_goes_backwards() {
    hide_all(
        &[
            other(FIRST, AER, 0x48),
            other(0x400, VENDOR, 0x20),
            tph(0x300, 64),
            other(0x200, VENDOR, 0x20),
        ],
        0,
        None,
    );
}

/// At every offset and with sizes that fit, that do not, and that lie.
#[test]
fn r25_hidden_at_every_offset() {
    for offset in (FIRST..4096).step_by(4) {
        for entries in [0, 1, 2, 63, 64, 65, 2048] {
            if offset == FIRST {
                hide_all(&[tph(offset, entries)], 0, None);
            } else if offset >= FIRST + 8 {
                hide_all(&[other(FIRST, VENDOR, 8), tph(offset, entries)], 0, None);
            }
        }
    }
}

#[test]
fn r25_two_capabilities() {
    let chain = [
        other(FIRST, AER, 0x48),
        tph(0x200, 8),
        tph(0x300, 16),
        other(0x400, VENDOR, 0x20),
    ];
    hide_all(&chain, 0, None);
    for keep in [0x200, 0x300] {
        let after = hide_all(&chain, 0, Some(keep));
        assert_eq!(after.capabilities(), [FIRST, keep, 0x400]);
    }
    // The first of the chain, and adjacent to each other.
    let chain = [tph(FIRST, 2), tph(0x110, 2), other(0x120, VENDOR, 8)];
    hide_all(&chain, 0, None);
    hide_all(&chain, 0, Some(FIRST));
    hide_all(&chain, 0, Some(0x110));
}

/// Another capability in the middle of the table, and one in the middle of the registers: it keeps
/// its bytes.
#[test]
fn r25_overlapping_capabilities() {
    for inside in (4..0x80).step_by(4) {
        hide_all(
            &[
                other(FIRST, AER, 0x48),
                tph(0x200, 64),
                other(0x200 + inside, VENDOR, 8),
            ],
            0,
            None,
        );
    }
}

/// Pointers that lead out of the extended space do not make the driver follow them.
#[test]
fn r25_pointers_that_lead_outside() {
    for last in [0x004, 0x040, 0x0fc] {
        let before = Space::with_chain(&[other(FIRST, AER, 0x48), tph(0x200, 4)], last);
        let mut after = before.clone();
        let range = hide_one(&mut after.map, &mut after.bytes, None);
        assert_eq!(range, Some(0x200..0x214));
        assert_eq!(after.capabilities(), [FIRST]);
        assert_eq!(after.bytes[..FIRST], before.bytes[..FIRST]);
    }
    // A config space that ends before the capability does, and one without extended space.
    for size in [0, 64, 255, 256, 259, 260, 0x200, 0x203, 0x204, 0x208, 0x20b] {
        let mut space = Space::with_chain(&[other(FIRST, AER, 0x48), tph(0x200, 4)], 0);
        space.map.truncate(size);
        space.bytes.truncate(size);
        let range = hide_one(&mut space.map, &mut space.bytes, None);
        assert_eq!(range, (size >= 0x204).then_some(0x200..size));
    }
}

/// Chains without an end, through the capability, beside it, and of nothing but it.
#[test]
fn r25_chains_that_loop() {
    let chain = [
        other(FIRST, AER, 0x48),
        tph(0x200, 4),
        other(0x300, VENDOR, 8),
    ];
    for last in [FIRST, 0x200, 0x300] {
        let mut space = Space::with_chain(&chain, last);
        assert!(hide_one(&mut space.map, &mut space.bytes, None).is_some());
        assert!(hide_one(&mut space.map, &mut space.bytes, None).is_none());
        assert_eq!(space.capabilities(), [FIRST, 0x300], "back to {last:#x}");
    }
    for at in [FIRST, 0x200] {
        let mut chain = vec![tph(at, 4)];
        if at != FIRST {
            chain.insert(0, other(FIRST, AER, 0x48));
        }
        let mut space = Space::with_chain(&chain, at);
        assert!(hide_one(&mut space.map, &mut space.bytes, None).is_some());
        assert!(hide_one(&mut space.map, &mut space.bytes, None).is_none());
        assert!(!space.capabilities().contains(&at));
    }
    // No TPH, and no end.
    let mut space = Space::with_chain(&[other(FIRST, AER, 8), other(0x200, AER, 8)], FIRST);
    assert_eq!(hide_one(&mut space.map, &mut space.bytes, None), None);
}

/// As many capabilities as core follows: one in each dword of the extended space.
#[test]
fn r25_hidden_at_the_end_of_the_longest_chain() {
    let mut chain: Vec<_> = (FIRST..4092)
        .step_by(4)
        .map(|offset| other(offset, VENDOR, 4))
        .collect();
    chain.push(tph(4092, 0));
    hide_all(&chain, 0, None);
}

/// The user's view of a capability in its place: header, Capability, Control, table, all virtual.
#[test]
fn r25_r30_exposed_at_every_offset() {
    let offer = offer(&Device::FULL, 3).expect("usable");
    for offset in (FIRST..=4096 - 12).step_by(4) {
        for entries in [0, 1, 2, 3, 63, 64, 65, 2048] {
            let first = other(FIRST, VENDOR, 8);
            let chain = match offset {
                FIRST => vec![tph(offset, entries)],
                _ => vec![first, tph(offset, entries)],
            };
            if offset == FIRST + 4 {
                continue;
            }
            check_exposed(&chain, offset, 0, offer.capability.raw(), |space| {
                expose(&mut space.map, &mut space.bytes, offset as u16, &offer)
            });
        }
    }
}

/// Checks that only the bytes of the capability at `offset` change, and how.
fn check_exposed(
    chain: &[Entry],
    offset: usize,
    last: usize,
    capability: u32,
    expose: impl FnOnce(&mut Space) -> Option<Range<usize>>,
) {
    let before = Space::with_chain(chain, last);
    let mut after = before.clone();
    let tph = chain
        .iter()
        .find(|entry| entry.offset == offset)
        .expect("in the chain");
    let bytes = bytes_of(tph, chain);

    assert_eq!(expose(&mut after), Some(bytes.clone()), "{tph:x?}");

    let header = before.dword(offset).expect("a header");
    let mut expected = before;
    expected.map[bytes.clone()].fill(VIRTUAL);
    expected.bytes[bytes].fill(0);
    expected.write_dword(offset, header);
    expected.write_dword(offset + 4, capability);
    if after != expected {
        let changed = after.changed(&expected);
        panic!("bytes {changed:x?} are not as expected for {tph:x?}");
    }
}

#[test]
fn r25_exposed_first_middle_last_and_beside_a_neighbour() {
    let offer = offer(&Device::FULL, 1).expect("usable");
    for entries in [0, 1, 2, 3, 63, 64, 65, 2048] {
        for gap in [12, 16, 0x40, 0x100] {
            let at = 0x200;
            for chain in [
                vec![tph(FIRST, entries), other(FIRST + gap, AER, 0x48)],
                vec![
                    other(FIRST, AER, 0x48),
                    tph(at, entries),
                    other(at + gap, VENDOR, 8),
                ],
                vec![
                    other(FIRST, AER, 0x48),
                    other(at + gap, VENDOR, 8),
                    tph(at, entries),
                ],
            ] {
                let offset = chain
                    .iter()
                    .find(|entry| entry.id == TPH)
                    .expect("there")
                    .offset;
                check_exposed(&chain, offset, 0, offer.capability.raw(), |space| {
                    expose(&mut space.map, &mut space.bytes, offset as u16, &offer)
                });
            }
        }
    }
}

/// A capability that does not even have room for its registers is none.
#[test]
fn r25_not_exposed_without_room_for_its_registers() {
    let offer = offer(&Device::FULL, 3).expect("usable");
    for gap in [4, 8] {
        let before = Space::with_chain(
            &[
                other(FIRST, AER, 0x48),
                tph(0x200, 64),
                other(0x200 + gap, VENDOR, 8),
            ],
            0,
        );
        let mut after = before.clone();
        let range = expose(&mut after.map, &mut after.bytes, 0x200, &offer);
        assert_eq!(range, None, "the next capability starts at {gap}");
        assert_eq!(after, before);
    }
    for offset in [4088, 4092] {
        let before = Space::with_chain(&[other(FIRST, AER, 0x48), tph(offset, 64)], 0);
        let mut after = before.clone();
        let range = expose(&mut after.map, &mut after.bytes, offset as u16, &offer);
        assert_eq!(range, None, "{offset:#x}");
        assert_eq!(after, before);
    }
}

/// Where the chain has no TPH capability, nothing is shown and nothing changes.
#[test]
fn r25_not_exposed_where_there_is_none() {
    let offer = offer(&Device::FULL, 3).expect("usable");
    let before = Space::with_chain(&[other(FIRST, AER, 0x48), tph(0x200, 4)], 0);
    for offset in (0..=u16::MAX).filter(|&offset| offset != 0x200) {
        let mut after = before.clone();
        assert_eq!(
            expose(&mut after.map, &mut after.bytes, offset, &offer),
            None
        );
        assert_eq!(after, before, "{offset:#x}");
    }
}
