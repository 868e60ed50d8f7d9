// SPDX-License-Identifier: GPL-2.0-only

//! Showing and hiding the capability in the chain of extended capabilities; R25, R30, R75.

use crate::oracle::{
    invariants::{
        check_arranged,
        check_arranged_on,
        Arranged, //
    },
    model::Device,
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
};
use crate::rules::{
    capability::Offer,
    chain::{
        MAP_UNASSIGNED,
        MAP_VIRTUAL, //
    },
};
use std::ops::Range;

const AER: u32 = 0x01;
const DSN: u32 = 0x03;
const PWR: u32 = 0x04;
const LTR: u32 = 0x18;
/// vfio-pci-core hides it.
const SECONDARY: u32 = 0x19;
/// vfio-pci-core knows none by this number, and hides it.
const UNKNOWN: u32 = 0x77;

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

fn everything(policy: u32) -> Offer {
    offer(&Device::FULL, policy).expect("usable")
}

/// Hides all but `keep`.
fn hide_all(chain: &[Entry], last: usize, keep: Option<usize>) -> Space {
    let before = Space::with_chain(chain, last);
    let offer = everything(3);
    let shown = keep.map(|offset| {
        let raw = before.dword(offset + 4).expect("registers");
        (offset as u16, raw, &offer)
    });
    check_arranged(&before, shown).space
}

/// Shows the capability at `offset` of a device whose chain is `chain`, to vfio-pci-core as to us.
fn show(chain: &[Entry], offset: usize) -> Arranged {
    let hardware = Space::with_chain(chain, 0);
    let space = Space::of_hardware(&hardware.hardware);
    let raw = space.dword(offset + 4).expect("registers");
    let shown = check_arranged(&space, Some((offset as u16, raw, &everything(3))));
    assert!(shown.shown);
    shown
}

/// What the map has for `bytes`, if it is the same for all of them.
fn owner(space: &Space, bytes: Range<usize>) -> Option<u8> {
    let first = space.map[bytes.start];
    space.map[bytes]
        .iter()
        .all(|&id| id == first)
        .then_some(first)
}

#[test]
fn r25_map_values_are_those_of_core() {
    assert_eq!((MAP_VIRTUAL, MAP_UNASSIGNED), (VIRTUAL, NOBODY));
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
    let after = hide_all(
        &[
            other(FIRST, AER, 0x48),
            other(0x400, VENDOR, 0x20),
            tph(0x300, 64),
            other(0x200, VENDOR, 0x20),
        ],
        0,
        None,
    );
    assert_eq!(after.capabilities(), [FIRST, 0x400, 0x200]);
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

/// A second TPH capability anywhere over the first one: the registers of the one that is shown win,
/// and no byte of either is hardware's.
#[test]
fn r75_two_capabilities_over_each_other() {
    for inside in (4..0xa0).step_by(4) {
        let second = 0x200 + inside;
        for chain in [
            [other(FIRST, AER, 0x2c), tph(0x200, 64), tph(second, 8)],
            [other(FIRST, AER, 0x2c), tph(second, 8), tph(0x200, 64)],
        ] {
            for keep in [0x200, second] {
                // What is added later overwrites the header or register of the other.
                if inside == 4 && keep == 0x200 {
                    continue;
                }
                let before = Space::with_chain(&chain, 0);
                if before.capabilities() != chain.map(|entry| entry.offset) {
                    continue;
                }
                let after = hide_all(&chain, 0, Some(keep));
                assert_eq!(after.capabilities(), [FIRST, keep]);
                assert_eq!(owner(&after, 0x200..0x28c), Some(VIRTUAL));
            }
        }
    }
}

/// Pointers that lead out of the extended space do not make the driver follow them.
#[test]
fn r25_pointers_that_lead_outside() {
    for last in [0x004, 0x040, 0x0fc] {
        let before = Space::with_chain(&[other(FIRST, AER, 0x48), tph(0x200, 4)], last);
        let after = check_arranged(&before, None).space;
        assert_eq!(owner(&after, 0x200..0x214), Some(VIRTUAL));
        assert_eq!(after.capabilities(), [FIRST]);
        assert_eq!(after.bytes[..FIRST], before.bytes[..FIRST]);
    }
}

/// A config space that ends before the capability does, and one without extended space; any size at
/// all: quirks set others than 256 and 4096.
#[test]
fn r84_config_space_of_any_size() {
    let whole = Space::with_chain(&[other(FIRST, AER, 0x48), tph(0x200, 4)], 0);
    let offer = everything(3);
    for size in 0..=4096 {
        let mut space = whole.clone();
        space.map.truncate(size);
        space.bytes.truncate(size);
        space.hardware.truncate(size);
        let raw = 0x0003_0307;
        let hidden = check_arranged(&space, None);
        // What is marked as of TPH and has no header is nobody's to write.
        assert_eq!(hidden.kept.contains(&true), size > 0x200, "{size:#x}");
        let shown = check_arranged(&space, Some((0x200, raw, &offer)));
        assert_eq!(shown.shown, size >= 0x20c, "{size:#x}");
        let core = Space::of_hardware(&space.hardware);
        check_arranged(&core, Some((0x200, raw, &offer)));
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
        let space = Space::with_chain(&chain, last);
        let after = check_arranged(&space, None).space;
        assert_eq!(after.capabilities(), [FIRST, 0x300], "back to {last:#x}");
    }
    for at in [FIRST, 0x200] {
        let mut chain = vec![tph(at, 4)];
        if at != FIRST {
            chain.insert(0, other(FIRST, AER, 0x48));
        }
        let space = Space::with_chain(&chain, at);
        let after = check_arranged(&space, None).space;
        assert!(!after.capabilities().contains(&at));
    }
    // Two that lead to each other.
    let chain = [other(FIRST, AER, 0x48), tph(0x200, 4), tph(0x300, 4)];
    let space = Space::with_chain(&chain, 0x200);
    let after = check_arranged(&space, None).space;
    assert_eq!(after.capabilities(), [FIRST]);
    // No TPH, and no end.
    let space = Space::with_chain(&[other(FIRST, AER, 8), other(0x200, AER, 8)], FIRST);
    assert!(check_arranged(&space, None).space == space);
}

/// As many capabilities as core follows: one in each dword of the extended space.
#[test]
fn r25_hidden_at_the_end_of_the_longest_chain() {
    let mut chain: Vec<_> = (FIRST..4092)
        .step_by(4)
        .map(|offset| other(offset, UNKNOWN, 4))
        .collect();
    chain.push(tph(4092, 0));
    let after = hide_all(&chain, 0, None);
    assert_eq!(after.capabilities().len(), chain.len() - 1);
}

/// The user's view of a capability in its place: header, Capability, Control, table, all virtual.
#[test]
fn r25_r30_exposed_at_every_offset() {
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
            let after = show(&chain, offset);
            let end = (offset + 12 + 2 * entries).next_multiple_of(4).min(4096);
            assert_eq!(owner(&after.space, offset..end), Some(VIRTUAL));
            let kept = after.kept.iter().enumerate().filter(|(_, &kept)| kept);
            assert!(kept.map(|(at, _)| at).eq(offset..end));
        }
    }
}

#[test]
fn r25_exposed_first_middle_last_and_beside_a_neighbour() {
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
                let tph = chain.iter().find(|entry| entry.id == TPH).expect("there");
                let after = show(&chain, tph.offset);
                let in_order: Vec<_> = chain.iter().map(|entry| entry.offset).collect();
                assert_eq!(after.space.capabilities(), in_order);
            }
        }
    }
}

/// One whose header is inside the registers, as vfio-pci-core shows it: it has no header any more,
/// and so it leaves the chain. The registers are virtual, what is behind them is hardware's.
#[test]
fn r75_a_header_inside_the_registers() {
    for (inside, first) in [(4, false), (8, false), (8, true)] {
        for (id, len) in [(VENDOR, 0x40), (DVSEC, 0x40), (AER, 0x2c)] {
            let cut = other(0x200 + inside, id, len);
            let behind = other(0x300, VENDOR, 0x10);
            let chain = match first {
                true => [other(FIRST, AER, 0x2c), cut, tph(0x200, 8), behind],
                false => [other(FIRST, AER, 0x2c), tph(0x200, 8), cut, behind],
            };
            let after = show(&chain, 0x200);
            assert_eq!(after.space.capabilities(), [FIRST, 0x200, 0x300]);
            assert_eq!(owner(&after.space, 0x200..0x20c), Some(VIRTUAL));
            let rest = 0x20c..cut.offset + len;
            // Read from hardware, whatever vfio-pci-core took it for.
            assert_eq!(owner(&after.space, rest.clone()), Some(NOBODY));
            // Of a vendor's registers every write gets through, as ever, unless vfio-pci-core took
            // them for a part of the table.
            let through = id != AER && !first;
            assert_eq!(after.kept[0x210], !through, "{id:#x}");
        }
    }
    // A hidden one has no place in the chain to lose.
    let hidden = other(0x208, UNKNOWN, 4);
    let chain = [other(FIRST, AER, 0x2c), tph(0x200, 8), hidden];
    let after = show(&chain, 0x200);
    assert_eq!(after.space.capabilities(), [FIRST, 0x200]);
    assert_eq!(owner(&after.space, 0x200..0x21c), Some(VIRTUAL));
}

/// One that starts below and reaches in, first or last in the chain.
#[test]
fn r75_reaches_in_from_below() {
    for len in 1..0x60usize {
        let below = other(0x1f8, VENDOR, 8 + len);
        let first = other(FIRST, AER, 0x2c);
        for chain in [
            [first, below, tph(0x200, 16)],
            [first, tph(0x200, 16), below],
        ] {
            let after = show(&chain, 0x200).space;
            assert_eq!(after.capabilities(), chain.map(|entry| entry.offset));
            assert_eq!(owner(&after, 0x1f8..0x200), Some(VENDOR as u8));
            assert_eq!(owner(&after, 0x200..0x20c), Some(VIRTUAL));
            let end = 0x200 + len;
            if end > 0x20c {
                assert_eq!(owner(&after, 0x20c..end), Some(NOBODY));
            }
            if end < 0x22c {
                assert_eq!(owner(&after, end.max(0x20c)..0x22c), Some(VIRTUAL));
            }
        }
    }
}

/// One inside the claimed table: it keeps its bytes, and every other byte of what is claimed is
/// virtual, before it and behind it.
#[test]
fn r75_inside_the_table() {
    for inside in (12..0x8c).step_by(4) {
        for (id, len, seen) in [(VENDOR, 9, true), (0x1b, 8, false), (UNKNOWN, 4, false)] {
            let at = 0x200 + inside;
            let first = other(FIRST, AER, 0x2c);
            for chain in [
                [first, tph(0x200, 64), other(at, id, len)],
                [first, other(at, id, len), tph(0x200, 64)],
            ] {
                let after = show(&chain, 0x200);
                assert_eq!(after.space.capabilities().contains(&at), seen, "{id:#x}");
                assert_eq!(owner(&after.space, 0x200..at), Some(VIRTUAL));
                if at + len < 0x28c {
                    assert_eq!(owner(&after.space, at + len..0x28c), Some(VIRTUAL));
                }
                let end = (at + len).min(0x28c);
                let shown_last = seen && chain[2].id != TPH;
                let (header, body) = match (seen, shown_last) {
                    (_, true) => (id as u8, id as u8),
                    (true, false) => (VIRTUAL, NOBODY),
                    (false, false) => (NOBODY, NOBODY),
                };
                assert_eq!(owner(&after.space, at..at + 4), Some(header));
                if at + 4 < end {
                    assert_eq!(owner(&after.space, at + 4..end), Some(body));
                }
                // vfio-pci-core takes no writes of what it takes for the table.
                assert_eq!(after.kept[at], !shown_last);
            }
        }
    }
}

/// Another capability inside the table of one that is hidden leads on past it.
#[test]
fn r25_r75_hidden_around_another_capability() {
    for first in [false, true] {
        let (tph, inside) = (tph(0x200, 64), other(0x220, VENDOR, 12));
        let mut chain = vec![other(FIRST, AER, 0x2c), tph, other(0x300, VENDOR, 8)];
        chain.insert(if first { 1 } else { 2 }, inside);
        let hardware = Space::with_chain(&chain, 0);
        let after = check_arranged(&Space::of_hardware(&hardware.hardware), None).space;
        assert_eq!(after.capabilities(), [FIRST, 0x220, 0x300]);
        assert_eq!(owner(&after, 0x200..0x220), Some(VIRTUAL));
        let header = if first { VIRTUAL } else { VENDOR as u8 };
        assert_eq!(owner(&after, 0x220..0x224), Some(header));
        assert_eq!(owner(&after, 0x22c..0x28c), Some(VIRTUAL));
    }
}

/// vfio-pci-core serves a first header whose id it takes for 0 from hardware.
#[test]
fn r25_a_first_header_without_an_id() {
    for id in [0, 0x100] {
        let chain = [other(FIRST, id, 4), tph(0x300, 4), other(0x400, LTR, 8)];
        let hardware = Space::with_chain(&chain, 0).hardware;
        let after = check_arranged(&Space::of_hardware(&hardware), None);
        assert!(after.space.capabilities().contains(&0x400), "id {id:#x}");
    }
}

/// What a user finds behind another capability of the same id: vfio-pci-core takes the two for one,
/// and shows of the second one hardware's pointer, which leads to TPH. The same with a header that
/// is inside another capability.
#[test]
fn r25_a_pointer_that_is_hardwares() {
    for id in [AER, PWR, VENDOR, DVSEC] {
        let len = match id {
            AER => 0x2c,
            PWR => 16,
            _ => 0x20,
        };
        let (one, two, three) = (0x200, 0x200 + len, 0x200 + 2 * len);
        let abutting = [one, two, three].map(|offset| other(offset, id, len));
        let first = other(FIRST, DSN, 12);
        let behind = other(0x400, LTR, 8);
        let inside = other(0x208, VENDOR, 8);
        let around = other(0x200, id, len);
        for chain in [
            vec![first, abutting[0], abutting[1], tph(0x300, 4), behind],
            vec![first, abutting[0], tph(0x300, 4), abutting[1], behind],
            vec![first, abutting[0], abutting[1], tph(0x300, 4), abutting[2]],
            vec![first, abutting[1], tph(0x300, 4), abutting[0], behind],
            vec![first, inside, tph(0x300, 4), around, behind],
            vec![abutting[0], abutting[1], tph(0x300, 4), abutting[2], behind],
        ] {
            let mut chain = chain;
            if chain[0].id == id {
                // The run begins where the extended space does.
                chain.iter_mut().for_each(|entry| {
                    if entry.id == id {
                        entry.offset -= 0x100;
                    }
                });
            }
            let hardware = Space::with_chain(&chain, 0).hardware;
            let before = Space::of_hardware(&hardware);
            let after = check_arranged(&before, None);
            let left = chain.iter().filter(|entry| entry.id != TPH);
            let left: Vec<_> = left.map(|entry| entry.offset).collect();
            assert_eq!(after.space.capabilities(), left, "{chain:x?}");
            // What is before a header is served as ever.
            let same_id = chain.iter().filter(|entry| entry.id == id);
            let begin = same_id.map(|entry| entry.offset).min().expect("one");
            let before_header = begin..begin + 8;
            assert_eq!(
                after.space.map[before_header.clone()],
                before.map[before_header]
            );
            // A vendor's registers take writes.
            if [VENDOR, DVSEC].contains(&id) {
                let writable = |at: &Entry| !after.kept[at.offset + 4];
                assert!(chain.iter().filter(|entry| entry.id == id).all(writable));
            }
        }
    }
}

/// A chain through a capability that vfio-pci-core hides, and yet leads to: it has changed the
/// pointer past it, and filled in the bytes of a later capability over that. The second TPH
/// capability is hidden and what is behind it found, also where that leads back and so never ends.
#[test]
fn r75_hidden_behind_what_core_hides() {
    for last in [0, FIRST, 0x140, 0x130, 0x400] {
        let chain = [
            other(FIRST, AER, 0x2c),
            tph(0x140, 0),
            other(0x400, SECONDARY, 4),
            other(0x130, VENDOR, 0x40),
            tph(0x300, 8),
            other(0x500, LTR, 8),
        ];
        let mut hardware = Space::new(4096);
        // The vendor's registers do not take the place of the header that is in them.
        for place in [3, 0, 1, 2, 4, 5] {
            let next = chain.get(place + 1).map_or(last, |next| next.offset);
            hardware.add(&chain[place], next);
        }
        let before = Space::of_hardware(&hardware.hardware);
        for shown in [None, Some(0x140)] {
            let offer = everything(3);
            let shown = shown.map(|offset| (offset, 0x107, &offer));
            let after = check_arranged(&before, shown).space;
            assert_eq!(owner(&after, 0x300..0x31c), Some(VIRTUAL), "{last:#x}");
            assert!(after.bytes[0x300..0x31c].iter().all(|&byte| byte == 0));
            let at_0x140 = shown.map(|(offset, ..)| usize::from(offset));
            let mut left = vec![FIRST];
            left.extend(at_0x140);
            left.extend([0x400, 0x130, 0x500]);
            assert_eq!(after.capabilities(), left, "back to {last:#x}");
        }
    }
}

/// One that the user's chain does not lead to is not served from hardware, whoever owns its bytes.
#[test]
fn r75_hidden_where_only_hardware_leads() {
    for (around, entries) in [(None, 8), (Some(other(0x2f0, VENDOR, 0x40)), 0)] {
        let mut space = Space::with_chain(&[other(FIRST, AER, 0x2c), tph(0x300, entries)], 0);
        if let Some(around) = around {
            space.add(&around, 0);
            space.write_dword(FIRST, AER | (1 << 16) | (0x300 << 20));
            space.write_dword(0x300, TPH | (1 << 16) | (0x2f0 << 20));
        }
        // The user's ends at once.
        space.write_virtual(FIRST, AER | (1 << 16));
        let after = check_arranged(&space, None);
        let end = 0x30c + 2 * entries;
        assert_eq!(owner(&after.space, 0x300..end), Some(VIRTUAL));
        assert!(after.space.bytes[0x300..end].iter().all(|&byte| byte == 0));
        assert!(after.kept[0x300..end].iter().all(|&kept| kept));
    }
}

/// A capability that does not have its registers in config space is none.
#[test]
fn r25_not_exposed_without_its_registers() {
    for offset in [4088, 4092] {
        let before = Space::with_chain(&[other(FIRST, AER, 0x48), tph(offset, 64)], 0);
        let after = check_arranged(&before, Some((offset as u16, 0x307, &everything(3))));
        assert!(!after.shown, "{offset:#x}");
        assert_eq!(after.space.capabilities(), [FIRST]);
    }
}

/// Where the chain has no TPH capability, none is shown.
#[test]
fn r25_not_exposed_where_there_is_none() {
    let before = Space::with_chain(&[other(FIRST, AER, 0x48), other(0x200, VENDOR, 8)], 0);
    for offset in (0..=u16::MAX).step_by(0xfc) {
        let after = check_arranged(&before, Some((offset, 0x307, &everything(3))));
        assert!(!after.shown, "{offset:#x}");
        let registers = usize::from(offset).max(FIRST)..usize::from(offset) + 12;
        let there = registers.start..registers.end.min(before.bytes.len());
        if there.is_empty() || usize::from(offset) < FIRST {
            assert!(after.space == before, "{offset:#x}");
        } else {
            assert_eq!(owner(&after.space, there), Some(VIRTUAL), "{offset:#x}");
        }
    }
}

/// What hardware has is the driver's where the user's chain does not lead there: because it has
/// ended before, as nobody's bytes or inside another capability.
#[test]
fn r75_hidden_where_the_chain_does_not_lead() {
    let (raw, at) = (0x003f_0307, 0x300);
    let nobody = Space::with_chain(&[other(FIRST, AER, 0x48)], 0);
    let vendor = Space::with_chain(&[other(FIRST, AER, 0x48), other(0x160, VENDOR, 0x200)], 0);
    for (before, behind) in [(nobody, NOBODY), (vendor, NOBODY)] {
        for policy in [None, Some(0), Some(3)] {
            let offer = policy.map(everything);
            let after = check_arranged_on(&before, Some((at as u16, raw)), offer.as_ref());
            assert!(!after.shown);
            let end = at + 12;
            assert_eq!(owner(&after.space, at..end), Some(VIRTUAL));
            assert!(after.kept[at..end].iter().all(|&kept| kept));
            assert!(after.space.bytes[at..end].iter().all(|&byte| byte == 0));
            assert_eq!(owner(&after.space, at + 0x100..at + 0x104), Some(behind));
        }
    }
}

/// What looks like a TPH capability there, in the bytes of another one, claims nothing.
#[test]
fn r75_no_claim_where_the_chain_does_not_lead() {
    let (raw, at) = (0x0000_0107, 0x300);
    let mut space = Space::with_chain(&[other(FIRST, AER, 0x48), other(0x160, VENDOR, 0x200)], 0);
    space.write_virtual(at, 0x0001_0017);
    space.write_virtual(at + 4, 0x003f_0307);
    let after = check_arranged_on(&space, Some((at as u16, raw)), None);
    assert_eq!(owner(&after.space, at..at + 12), Some(VIRTUAL));
    assert_eq!(owner(&after.space, at + 12..at + 16), Some(NOBODY));
}
