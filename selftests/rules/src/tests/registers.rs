// SPDX-License-Identifier: GPL-2.0-only

//! Registers and policies as types: every raw value of every field.

use crate::oracle::{
    completer,
    POLICIES, //
};
use crate::{
    oracle::answers::errno,
    rules::{
        policy::{
            BadName,
            Policy, //
        },
        refusal::Refusal,
        regs::{
            Capability,
            Completer,
            Control,
            RequesterEnable,
            StMode,
            TableLocation, //
        },
    },
    uapi,
};

/// Every value of the fields of Control, each with bits around it that mean nothing.
#[test]
fn r27_control_has_no_reserved_value() {
    let mut legal = 0;
    for noise in [0, 0xffff_fcf8, 0x0000_0008, 0x0000_0400, 0x8000_0080] {
        for mode in 0..8u32 {
            for enable in 0..4u32 {
                let raw = mode | (enable << 8);
                let control = Control::from_raw(raw | noise);
                if mode > 2 || enable == 0b10 {
                    assert_eq!(control, None, "{raw:#x}");
                } else {
                    let control = control.expect("a legal value");
                    assert_eq!(control.raw(), raw);
                    assert_eq!(control.enabled(), enable != 0);
                    legal += 1;
                }
            }
        }
    }
    assert_eq!(legal, 5 * 9);
    assert_eq!(Control::RESET.raw(), 0);
}

#[test]
fn r27_fields_beyond_their_width_are_reserved() {
    for field in (0..=0xffff).chain([u32::MAX]) {
        let mode = StMode::from_field(field).map(|mode| mode as u32);
        assert_eq!(mode, (field < 3).then_some(field));
        let enable = RequesterEnable::from_field(field).map(|enable| enable as u32);
        assert_eq!(enable, [0b00, 0b01, 0b11].contains(&field).then_some(field));
    }
}

#[test]
fn r9_capability_fields() {
    for modes in 0..8u32 {
        for extended in [false, true] {
            for location in 0..4u32 {
                for size in 0..0x800u32 {
                    for noise in [0, !0x07ff_0707] {
                        let raw =
                            modes | (u32::from(extended) << 8) | (location << 9) | (size << 16);
                        let capability = Capability::from_raw(raw | noise);
                        assert_eq!(u32::from(capability.modes().bits()), modes);
                        assert_eq!(capability.extended(), extended);
                        assert_eq!(
                            capability.table_location(),
                            match location {
                                0b01 => TableLocation::Capability,
                                0b10 => TableLocation::Msix,
                                _ => TableLocation::None,
                            }
                        );
                        assert_eq!(u32::from(capability.table_size()), size + 1);
                        assert_eq!(capability.without_reserved().raw(), raw);
                        assert_eq!(capability.raw(), raw | noise);
                    }
                }
            }
        }
    }
}

#[test]
fn r24_completer_field() {
    let meaning = [
        Completer::None,
        Completer::Standard,
        Completer::None,
        Completer::Extended,
    ];
    for (field, expected) in (0u32..).zip(meaning) {
        assert_eq!(completer(field), expected);
        // The other bits of Device Capabilities 2 do not matter.
        assert_eq!(
            Completer::from_device_capabilities_2((field << 12) | (!0x3000 & !1)),
            expected
        );
    }
    // But all ones is what is read where nobody answers.
    assert_eq!(
        Completer::from_device_capabilities_2(u32::MAX),
        Completer::None
    );
}

#[test]
fn r14_policies_are_ordered_and_the_gate_gives_the_default() {
    for (number, policy) in (0u8..).zip(POLICIES) {
        assert_eq!(policy as u8, number);
        let modes = [0b001, 0b011, 0b111, 0b111][usize::from(number)];
        assert_eq!(policy.modes().bits(), modes);
        assert_eq!(policy.programs_table(), number >= 1);
        assert_eq!(policy.discloses_tags(), number >= 2);
        assert_eq!(policy.takes_literals(), number >= 3);
    }
    assert!(POLICIES.is_sorted());
    assert_eq!(Policy::default_for(false), Policy::IvSt);
    assert_eq!(Policy::default_for(true), Policy::Literal);
}

#[test]
fn r91_a_name_at_load_is_a_policy_that_the_gate_allows() {
    for gate in [false, true] {
        let widest = Policy::default_for(gate);
        assert_eq!(Policy::at_bind(gate, None), Ok(widest));
        for policy in POLICIES {
            let expected = match policy > widest {
                true => Err(BadName::BeyondGate),
                false => Ok(policy),
            };
            let name = policy.name().to_bytes();
            assert_eq!(Policy::at_bind(gate, Some(name)), expected, "{policy:?}");
            for bad in [
                &name[1..],
                &[name, b"\n"].concat(),
                &name.to_ascii_uppercase(),
            ] {
                assert_eq!(Policy::at_bind(gate, Some(bad)), Err(BadName::Unknown));
            }
        }
        assert_eq!(Policy::at_bind(gate, Some(b"")), Err(BadName::Unknown));
    }
}

#[test]
fn r20_policies_have_names_and_values() {
    const NAMES: [&str; 4] = ["no_st", "iv_st", "ds_st", "literal"];
    for (policy, name) in POLICIES.into_iter().zip(NAMES) {
        assert_eq!(policy.name().to_bytes(), name.as_bytes());
        assert_eq!(Policy::from_name(name.as_bytes()), Some(policy));

        // Nothing but the very name: not a part of it, not more, not in other letters.
        for end in 0..name.len() {
            assert_eq!(Policy::from_name(&name.as_bytes()[..end]), None);
        }
        for last in 0..=u8::MAX {
            let longer = [name.as_bytes(), &[last]].concat();
            assert_eq!(Policy::from_name(&longer), None);
        }
        assert_eq!(Policy::from_name(name.to_uppercase().as_bytes()), None);
        let number = (policy as u8).to_string();
        assert_eq!(Policy::from_name(number.as_bytes()), None);
    }
    for value in (0..=0x1_0000).chain([0x8000_0000, u32::MAX]) {
        let expected = POLICIES.get(value as usize).copied();
        assert_eq!(Policy::from_value(value), expected.unwrap_or(Policy::NoSt));
    }
}

#[test]
fn refusals_have_the_errnos_of_the_contract() {
    for (refusal, expected) in [
        (Refusal::Unsupported, errno::EOPNOTSUPP),
        (Refusal::Malformed, errno::EINVAL),
        (Refusal::NotEnabled, errno::ENXIO),
        (Refusal::NoExtended, errno::EOPNOTSUPP),
        (Refusal::MalformedSource, errno::EINVAL),
        (Refusal::LiteralDenied, errno::EPERM),
        (Refusal::CpuDenied, errno::EPERM),
        (Refusal::NoCpu, errno::EINVAL),
        (Refusal::NoTag, errno::EOPNOTSUPP),
        (Refusal::DeviceGone, errno::EIO),
    ] {
        assert_eq!(refusal.errno(), expected, "{refusal:?}");
    }
    // The bindings are of this machine's errnos, which are those of x86.
    assert_eq!(uapi::EOPNOTSUPP, 95);
}
