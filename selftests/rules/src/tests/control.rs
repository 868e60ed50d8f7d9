// SPDX-License-Identifier: GPL-2.0-only

//! Writes to Control: every value, width and offset, under every policy; R18, R27, R28, R31.

use crate::oracle::{
    model::{
        self,
        Device, //
    },
    offer,
    ROOT_PORTS, //
};
use crate::rules::{
    capability::Offer,
    control::{
        judge,
        may_stay,
        overlap, //
    },
    isolation::must_be_alone,
    regs::{
        Control,
        RequesterEnable, //
    },
};
use crate::walk::{
    all_controls,
    states, //
};
use std::collections::BTreeSet;

/// Every policy, with every set of modes and every way to have extended tags or not.
fn for_each_offer(mut each: impl FnMut(u32, &Offer)) {
    for policy in 0..4 {
        for modes in 0..8 {
            for extended in [false, true] {
                for root_port in ROOT_PORTS {
                    let device = Device {
                        capability: model::capability(modes, extended, 0b01, 16),
                        root_port,
                        ..Device::FULL
                    };
                    if let Some(offer) = offer(&device, policy) {
                        each(policy, &offer);
                    }
                }
            }
        }
    }
}

/// Writes that differ in what they mean: every value of the two fields, with the bits beside them
/// 0, 1 and mixed, in every width that fits at every offset.
fn telling_writes() -> Vec<(usize, Vec<u8>)> {
    let with_noise = |fields: u8, noise: [u8; 3]| -> Vec<u8> {
        (0..fields)
            .flat_map(|field| noise.map(|noise| field | noise))
            .collect()
    };
    let values = [
        with_noise(8, [0, 0x08, 0xf8]),
        with_noise(4, [0, 0x04, 0xfc]),
        vec![0, 0x03, 0xff],
        vec![0, 0x03, 0xff],
    ];
    let mut writes = Vec::new();
    for offset in 0..4 {
        let mut of_offset = vec![vec![]];
        for bytes in &values[offset..] {
            of_offset = of_offset
                .iter()
                .flat_map(|head: &Vec<u8>| {
                    bytes.iter().map(move |&byte| {
                        let mut write = head.clone();
                        write.push(byte);
                        write
                    })
                })
                .collect();
            writes.extend(of_offset.iter().map(|write| (offset, write.clone())));
        }
    }
    writes
}

/// What is in hardware after each of the accesses that a write of the user causes.
fn hardware_states(current: Control, next: Option<Control>) -> Vec<Control> {
    next.map_or(vec![], |next| states(current, next))
}

/// Starts from the state after reset and applies every write to every state that is reached, the
/// ones that hardware passes through included, until there is no new one.
#[test]
fn r18_no_sequence_of_writes_selects_what_is_not_offered() {
    let writes = telling_writes();
    // Of offset 0: 24 values of a byte, times 12, 3 and 3 for each byte more; and so on.
    assert_eq!(
        writes.len(),
        (24 + 24 * 12 + 24 * 12 * 3 + 24 * 12 * 9) + (12 + 12 * 3 + 12 * 9) + (3 + 9) + 3
    );

    for_each_offer(|policy, offer| {
        let seen = offer.capability.raw();
        let mut reached = BTreeSet::from([0]);
        let mut new = vec![Control::RESET];
        while let Some(current) = new.pop() {
            for (offset, bytes) in &writes {
                let next = judge(current, offer, *offset, bytes);
                assert_eq!(
                    next.map(Control::raw),
                    model::control_after(current.raw(), seen, *offset, bytes),
                    "{bytes:x?} at {offset} over {current:?}, Capability {seen:#x}"
                );
                for state in hardware_states(current, next) {
                    if reached.insert(state.raw()) {
                        new.push(state);
                    }
                }
            }
        }

        // Judged by the contract alone: exactly the offered modes, with what may be enabled.
        let enables: &[u32] = if seen & model::EXTENDED != 0 {
            &[0b00, 0b01, 0b11]
        } else {
            &[0b00, 0b01]
        };
        let offered = (0..3).filter(|mode| seen & (1 << mode) != 0);
        let mut expected: BTreeSet<u32> = offered
            .flat_map(|mode| enables.iter().map(move |enable| mode | (enable << 8)))
            .collect();
        expected.insert(0);
        assert_eq!(reached, expected, "policy {policy}, Capability {seen:#x}");
        if policy < 2 {
            assert!(reached.iter().all(|control| control & 0b111 != 2));
        }
    });
}

/// Every value of the two bytes that matter, over every state, as bytes, word and dword.
#[test]
fn r18_r28_every_value_in_every_width() {
    let controls = all_controls();
    // What the rules look at is the filtered Capability: 8 sets of modes, extended or not.
    for modes in 0..8 {
        for extended in [false, true] {
            let device = Device {
                capability: model::capability(modes, extended, 0b01, 16),
                ..Device::FULL
            };
            let offer = offer(&device, 3).expect("usable");
            let seen = offer.capability.raw();
            let check = |current: Control, offset: usize, bytes: &[u8]| {
                assert_eq!(
                    judge(current, &offer, offset, bytes).map(Control::raw),
                    model::control_after(current.raw(), seen, offset, bytes),
                    "{bytes:x?} at {offset} over {current:?}, Capability {seen:#x}"
                );
            };
            for &current in &controls {
                for value in 0..=u16::MAX {
                    let [low, high] = value.to_le_bytes();
                    check(current, 0, &[low, high]);
                    check(current, 0, &[low, high, high, low]);
                }
                for byte in 0..=u8::MAX {
                    for offset in 0..4 {
                        check(current, offset, &[byte]);
                    }
                }
            }
        }
    }
}

/// 01b in place of 11b where extended tags are not usable, 10b nowhere.
#[test]
fn r27_requester_enable_in_hardware() {
    let writes = telling_writes();
    for_each_offer(|_, offer| {
        for current in all_controls() {
            if current.requester_enable == RequesterEnable::Extended && !offer.extended() {
                continue;
            }
            for (offset, bytes) in &writes {
                let next = judge(current, offer, *offset, bytes);
                for state in hardware_states(current, next) {
                    let enable = (state.raw() >> 8) & 0b11;
                    assert_ne!(enable, 0b10);
                    assert!(enable != 0b11 || offer.extended());
                    assert_eq!(state.raw() & !0x307, 0);
                }
            }
        }
    });
}

#[test]
fn r31_mode_change_while_enabled_goes_through_disabled() {
    for current in all_controls() {
        for next in all_controls() {
            let states = states(current, next);
            let first = states.first().copied();
            assert_eq!(states.last().copied(), (current != next).then_some(next));

            let change = current.st_mode != next.st_mode && current.enabled();
            let expected = 1 + usize::from(change);
            assert_eq!(states.len(), if current == next { 0 } else { expected });
            let mut before = current;
            for state in states {
                assert!(
                    before.st_mode == state.st_mode || !before.enabled(),
                    "{current:?} to {next:?}"
                );
                before = state;
            }
            if change {
                let disabled = current.raw() & 0b111;
                let first = first.map(Control::raw);
                assert_eq!(first, Some(disabled));
            }
        }
    }
}

/// A write that reaches beyond the register is not one of the register.
#[test]
fn r29_writes_do_not_wrap_around_the_register() {
    let offer = offer(&Device::FULL, 3).expect("usable");
    for offset in 0..12 {
        for count in 0..12 {
            let dropped = judge(Control::RESET, &offer, offset, &vec![1; count]).is_none();
            assert_eq!(dropped, offset + count > 4, "{count} bytes at {offset}");
        }
    }
    for offset in [usize::MAX, usize::MAX - 3] {
        assert_eq!(judge(Control::RESET, &offer, offset, &[1, 1]), None);
    }
}

/// For every range that starts in a config space, byte by byte.
#[test]
fn r29_the_bytes_of_control_in_a_write() {
    for offset in 0..32 {
        for count in 0..64 {
            let in_register: Vec<_> = (offset..offset + count)
                .filter(|byte| (8..12).contains(byte))
                .collect();
            match overlap(offset, count) {
                None => assert!(in_register.is_empty(), "{count} bytes at {offset}"),
                Some((register, write)) => {
                    assert!(write.end <= count);
                    assert!(register.clone().map(|byte| byte + 8).eq(in_register));
                    assert!(register
                        .map(|byte| byte + 8)
                        .eq(write.map(|byte| byte + offset)));
                }
            }
        }
    }
    for (offset, count) in [(0, usize::MAX), (8, usize::MAX), (usize::MAX, usize::MAX)] {
        assert_eq!(overlap(offset, count).is_some(), offset < 12);
    }
}

/// Whatever a device makes of whatever is wanted, under every policy: it stays if it is on offer
/// and has no entry used that is due or, by a guest, in a namespace that is not the wanted one.
#[test]
fn r77_what_a_device_makes_of_control() {
    let (mut stays, mut goes) = (0, 0);
    for_each_offer(|policy, offer| {
        let seen = offer.capability.raw();
        for wanted in all_controls() {
            for found in all_controls() {
                let (mode, enable) = (found.raw() & 0b111, found.raw() >> 8);
                let offered =
                    seen & (1 << mode) != 0 && (enable < 0b11 || seen & model::EXTENDED != 0);
                let sends_entries = mode == 1 && enable != 0;
                for (due, is_guests) in [(false, false), (false, true), (true, false), (true, true)]
                {
                    let expected = (found.raw() == 0 || offered)
                        && !(due && enable != 0)
                        && !(is_guests && sends_entries && found != wanted);
                    let what = format!("{wanted:?} {found:?} {due} {is_guests} under {policy}");
                    let found = may_stay(offer, wanted, found, due, is_guests);
                    assert_eq!(found, expected, "{what}, Capability {seen:#x}");
                    stays += usize::from(found);
                    goes += usize::from(!found);
                }
            }
        }
    });
    assert!(stays > 1000 && goes > 1000, "{stays} {goes}");
}

/// At each enable, also one that comes by way of another mode.
#[test]
fn r73_who_shares_the_group_is_asked_at_each_enable() {
    let mut asked = 0;
    for policy in 0..4 {
        for location in 0..4 {
            let device = Device {
                capability: model::capability(0b111, true, location, 16),
                ..Device::FULL
            };
            let offer = offer(&device, policy).expect("usable");
            for before in all_controls() {
                for next in all_controls() {
                    let found = must_be_alone(&offer, before, next);
                    let expected =
                        model::looks_for_others(&device, policy, before.raw(), next.raw());
                    assert_eq!(found, expected, "{before:?} to {next:?} under {policy}");
                    asked += usize::from(found);
                }
            }
        }
    }
    // Two policies, from the seven values that send no entry to the two that do.
    assert_eq!(asked, 2 * 7 * 2);
}
