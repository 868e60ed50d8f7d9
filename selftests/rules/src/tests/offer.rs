// SPDX-License-Identifier: GPL-2.0-only

//! What is on offer: usability, the filtered Capability, and the answer of TPH GET; R9, R24, R26.

use crate::oracle::{
    hardware,
    invariants::{
        check_table,
        owners, //
    },
    model::{
        self,
        Device, //
    },
    offer,
    space::{
        Entry,
        Space,
        FIRST,
        TPH,
        VENDOR, //
    },
    POLICIES,
    ROOT_PORTS, //
};
use crate::rules::capability::{
    reaches_past,
    room,
    MAX_CAPABILITY_ENTRIES, //
};
use crate::rules::regs::Capability;

/// Compares all that an offer says with the model.
fn check(device: &Device, policy: u32) {
    let offer = offer(device, policy);
    let Some(offer) = offer else {
        assert!(!model::usable(device), "{device:x?} is hidden");
        return;
    };
    assert!(model::usable(device), "{device:x?} is shown");
    let seen = model::seen(device, policy);
    assert_eq!(
        offer.capability.raw(),
        seen,
        "Capability of {device:x?} under {policy}"
    );
    assert_eq!(u32::from(offer.modes().bits()), seen & 0b111);
    assert_eq!(offer.extended(), seen & model::EXTENDED != 0);
    assert_eq!(
        offer.entries,
        model::entries(device, policy),
        "entries of {device:x?} under {policy}"
    );
    assert_eq!(
        offer.flags(),
        model::flags(device, policy),
        "flags of {device:x?} under {policy}"
    );
    assert_eq!(offer.policy, POLICIES[policy as usize]);
    assert_eq!(
        offer.programmable(),
        policy != 0 && model::entries(device, policy) != 0
    );
}

/// All combinations of policy, modes, extended, location and root port.
fn for_each_shape(mut each: impl FnMut(u32, u32, bool, u32, Option<u32>)) {
    for policy in 0..4 {
        for modes in 0..8 {
            for extended in [false, true] {
                for location in 0..4 {
                    for root_port in ROOT_PORTS {
                        each(policy, modes, extended, location, root_port);
                    }
                }
            }
        }
    }
}

#[test]
fn r24_nobody_answers() {
    for root_port in ROOT_PORTS {
        for policy in 0..4 {
            let device = Device {
                capability: u32::MAX,
                root_port,
                ..Device::FULL
            };
            check(&device, policy);
        }
    }
}

#[test]
fn r26_filtered_capability_of_every_shape_and_size() {
    for_each_shape(|policy, modes, extended, location, root_port| {
        for size in 1..=2048 {
            let device = Device {
                capability: model::capability(modes, extended, location, size),
                root_port,
                ..Device::FULL
            };
            check(&device, policy);
        }
    });
}

#[test]
fn r26_reserved_bits_are_never_seen() {
    const RESERVED: u32 = !0x07ff_0707;
    let single = (0..32)
        .map(|bit| 1 << bit)
        .filter(|bit| RESERVED & bit != 0);
    for noise in single.chain([RESERVED]) {
        for_each_shape(|policy, modes, extended, location, root_port| {
            let clean = model::capability(modes, extended, location, 5);
            let device = Device {
                capability: clean | noise,
                root_port,
                ..Device::FULL
            };
            check(&device, policy);
            if let Some(offer) = offer(&device, policy) {
                assert_eq!(offer.capability.raw() & RESERVED, 0);
                assert_eq!(offer.capability.raw() & !clean, 0);
            }
        });
    }
}

#[test]
fn r9_entries_are_what_fits() {
    for_each_shape(|policy, modes, extended, location, root_port| {
        for size in [1, 2, 63, 64, 65, 2047, 2048] {
            for room in [0, 1, 2, 63, 64] {
                let device = Device {
                    capability: model::capability(modes, extended, location, size),
                    root_port,
                    completer: size & 0b11,
                    room,
                    vectors: 7,
                    ..Device::FULL
                };
                check(&device, policy);
            }
        }
    });
}

/// A table in MSI-X where there is none that can be used: nobody could clear what the device would
/// send in Interrupt Vector mode.
#[test]
fn r76_no_table_no_interrupt_vector_mode() {
    for_each_shape(|policy, modes, extended, location, root_port| {
        let device = Device {
            capability: model::capability(modes, extended, location, 64),
            root_port,
            vectors: 0,
            ..Device::FULL
        };
        check(&device, policy);
        let Some(offer) = offer(&device, policy) else {
            return;
        };
        if location == 0b10 {
            assert_eq!(
                offer.capability.raw() & !(model::NS | model::DS | model::EXTENDED),
                0
            );
            assert_eq!((offer.entries, offer.programmable()), (0, false));
            assert_eq!(hardware(&device).vectors_in_table(), 0);
        }
    });
}

/// What is cleared at open and close is all of the table, whatever the user may have of it.
#[test]
fn r44_r45_the_whole_table_is_cleared() {
    for modes in 0..8 {
        for location in 0..4 {
            for size in 1..=2048 {
                for room in [0, 1, 63, 64] {
                    let device = Device {
                        capability: model::capability(modes, false, location, size),
                        room,
                        ..Device::FULL
                    };
                    let expected = if location == 0b01 {
                        size.min(u32::from(room))
                    } else {
                        0
                    };
                    let entries = hardware(&device).entries_in_capability();
                    assert_eq!(u32::from(entries), expected, "{device:x?}");
                }
            }
        }
    }
}

#[test]
fn r24_own_completer_is_reported_and_decides_nothing() {
    for completer in 0..4 {
        for_each_shape(|policy, modes, extended, location, root_port| {
            let device = Device {
                capability: model::capability(modes, extended, location, 64),
                root_port,
                completer,
                ..Device::FULL
            };
            check(&device, policy);
        });
    }
}

#[test]
fn r14_below_ds_st_no_device_specific_mode_and_no_disclosure() {
    for_each_shape(|policy, modes, extended, location, root_port| {
        let device = Device {
            capability: model::capability(modes, extended, location, 64),
            root_port,
            ..Device::FULL
        };
        let Some(offer) = offer(&device, policy) else {
            return;
        };
        if policy < 2 {
            assert_eq!(offer.capability.raw() & model::DS, 0);
            assert_eq!(offer.flags() & ((1 << 4) | (1 << 5) | (1 << 8)), 0);
        }
        if policy == 0 {
            assert_eq!(offer.capability.raw() & !(model::NS | model::EXTENDED), 0);
            assert_eq!(offer.entries, 0);
        }
    });
}

#[test]
fn r74_extended_only_where_the_path_carries_it() {
    for_each_shape(|policy, modes, extended, location, root_port| {
        for prefixes in [false, true] {
            let device = Device {
                capability: model::capability(modes, extended, location, 8),
                root_port,
                prefixes,
                ..Device::FULL
            };
            check(&device, policy);
            if let Some(offer) = offer(&device, policy) {
                let carried = root_port.is_none() || (prefixes && root_port == Some(0b11));
                assert_eq!(offer.extended(), extended && carried, "{device:x?}");
            }
        }
    });
}

#[test]
fn r73_no_interrupt_vector_mode_in_reach_of_others() {
    for_each_shape(|policy, modes, extended, location, root_port| {
        for shares_group in [false, true] {
            for size in [1, 64, 2048] {
                let device = Device {
                    capability: model::capability(modes, extended, location, size),
                    root_port,
                    shares_group,
                    ..Device::FULL
                };
                check(&device, policy);
                let Some(offer) = offer(&device, policy) else {
                    continue;
                };
                let in_reach = shares_group && location == 0b10 && policy < 2;
                if in_reach {
                    assert_eq!(offer.capability.raw() & !(model::NS | model::EXTENDED), 0);
                    assert!(!offer.programmable());
                    assert_eq!(offer.flags() & 0b0011_1110, 0);
                } else {
                    let alone = Device {
                        shares_group: false,
                        ..device
                    };
                    let alone = crate::oracle::offer(&alone, policy).expect("usable");
                    assert_eq!(offer.capability, alone.capability, "{device:x?}");
                    assert_eq!(offer.entries, alone.entries);
                }
            }
        }
    });
}

/// The room of a TPH capability at `offset` in a chain of hardware's.
fn room_in(chain: &[Entry], offset: usize) -> i32 {
    let space = Space::with_chain(chain, 0);
    let owners = owners(&space, Some(offset as u16));
    room(&owners, offset as u16).into()
}

fn entry(offset: usize, id: u32, len: usize) -> Entry {
    Entry { offset, id, len }
}

#[test]
fn r9_room_ends_with_config_space_and_at_64() {
    assert_eq!(MAX_CAPABILITY_ENTRIES, 64);
    for offset in (0x104..0x1000).step_by(4) {
        let below_1000h = (0x1000 - offset as i32 - 12).max(0) / 2;
        let tph = entry(offset, TPH, 12);
        let chain = [entry(FIRST, 0, 4), tph];
        assert_eq!(room_in(&chain, offset), below_1000h.min(64), "{offset:#x}");
        // What it claims itself is nobody else's.
        let chain = [entry(FIRST, 0, 4), Entry { len: 4000, ..tph }];
        assert_eq!(room_in(&chain, offset), below_1000h.min(64), "{offset:#x}");
    }
}

/// What a device claims never makes the driver write into another capability, wherever that is in
/// the chain: behind the registers, inside them, or below and reaching in.
#[test]
fn r9_r75_room_ends_at_the_first_byte_of_another_capability() {
    for gap in (4..0x200).step_by(4) {
        let tph = entry(0x200, TPH, 12 + 2 * 64);
        // The last one is of unknown length and owns its header.
        for (id, len) in [(0x01, 0x2c), (VENDOR, 16), (0x77, 4)] {
            let other = entry(0x200 + gap, id, len);
            let first = entry(FIRST, 0, 4);
            let expected = match gap {
                12.. => (gap as i32 - 12) / 2,
                _ if gap + len > 12 => 0,
                _ => 64,
            };
            for chain in [[first, tph, other], [first, other, tph]] {
                // A header in place of the Capability register is one.
                if gap == 4 && chain[2].id == TPH {
                    continue;
                }
                let found = room_in(&chain, 0x200);
                assert_eq!(found, expected.min(64), "{id:#x} at {gap:#x}");
            }
        }
    }
    // Of odd lengths, from below: no entry that has half of its bytes.
    for len in 8..0x200usize {
        let chain = [
            entry(FIRST, 0, 4),
            entry(0x1f0, VENDOR, len),
            entry(0x200, TPH, 12 + 2 * 64),
        ];
        let reaches_in = 0x1f0 + len > 0x20c;
        assert_eq!(room_in(&chain, 0x200), if reaches_in { 0 } else { 64 });
    }
}

/// Of a table with another capability in it, of any length, what is claimed and nobody else owns.
#[test]
fn r75_what_is_left_of_the_claim() {
    for entries in [1, 2, 7, 64, 100] {
        let tph = entry(0x200, TPH, 12 + 2 * entries);
        for at in (0x1f0..0x2e0).step_by(4) {
            for len in 8..21 {
                let first = entry(FIRST, 0, 4);
                let space = Space::with_chain(&[first, tph, entry(at, VENDOR, len)], 0);
                let raw = space.dword(0x204).expect("registers");
                check_table(&space, 0x200, raw);
            }
        }
    }
}

/// Below policy 2 a device whose claimed table overlaps another capability offers no Interrupt
/// Vector mode; from there on it has the entries that are left.
#[test]
fn r75_no_interrupt_vector_mode_over_what_others_own() {
    for_each_shape(|policy, modes, extended, location, root_port| {
        for overlapped in [false, true] {
            for room in [0, 1, 5, 64] {
                let device = Device {
                    capability: model::capability(modes, extended, location, 8),
                    root_port,
                    room,
                    overlapped: overlapped && location == 0b01,
                    ..Device::FULL
                };
                check(&device, policy);
                let Some(offer) = offer(&device, policy) else {
                    continue;
                };
                if device.overlapped && policy < 2 {
                    assert_eq!(offer.capability.raw() & !(model::NS | model::EXTENDED), 0);
                    assert_eq!((offer.entries, offer.programmable()), (0, false));
                } else {
                    let iv = if policy == 0 { 0 } else { modes & model::IV };
                    assert_eq!(offer.capability.raw() & model::IV, iv, "{device:x?}");
                }
            }
        }
    });
}

#[test]
fn r9_a_claim_beyond_config_space_is_noticed() {
    for offset in (0x100..0x1000u16).step_by(4) {
        for size in 1..=2048 {
            let end = u32::from(offset) + 12 + 2 * size;
            for location in 0..4 {
                let raw = model::capability(model::NS | model::IV, true, location, size);
                assert_eq!(
                    reaches_past(Capability::from_raw(raw), offset, 4096),
                    location == 0b01 && end > 0x1000,
                    "{size} entries at {offset:#x}"
                );
            }
        }
    }
}
