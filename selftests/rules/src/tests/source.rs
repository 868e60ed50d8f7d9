// SPDX-License-Identifier: GPL-2.0-only

//! Sources as a user names them: every type and flag, at the edges of every value, and which policy
//! takes them; R7, R17, R71, R72.

use std::cell::Cell;

use crate::oracle::{
    answers::errno,
    POLICIES, //
};
use crate::{
    rules::{
        refusal::Refusal,
        source::{
            admit_cpu,
            MemoryType,
            Namespace,
            Source, //
        },
    },
    uapi::vfio_tph_source,
};

const NAMESPACES: [Namespace; 2] = [Namespace::Standard, Namespace::Extended];

/// Values at which something changes: types, tags of 8 and 16 bits, sign of a file descriptor.
const VALUES: [u32; 13] = [
    0,
    1,
    2,
    0x7f,
    0xff,
    0x100,
    0xfffe,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
];

fn raw(type_: u8, flags: u8, reserved: u16, value: u32) -> vfio_tph_source {
    vfio_tph_source {
        type_,
        flags,
        reserved,
        value,
    }
}

/// Section 4.2's table of sources.
fn expected(raw: &vfio_tph_source, namespace: Namespace) -> Option<Source> {
    let literal_limit = match namespace {
        Namespace::Standard => 0xff,
        Namespace::Extended => 0xffff,
    };
    match (raw.type_, raw.flags, raw.reserved, raw.value) {
        (0, 0, 0, 0) => Some(Source::None),
        (1, 0, 0, cpu) => Some(Source::Cpu {
            cpu,
            memory: MemoryType::Volatile,
        }),
        (1, 1, 0, cpu) => Some(Source::Cpu {
            cpu,
            memory: MemoryType::Persistent,
        }),
        (2, 0, 0, fd) => Some(Source::DmaBuf {
            fd: i32::from_ne_bytes(fd.to_ne_bytes()),
        }),
        (3, 0, 0, value) if value <= literal_limit => Some(Source::Literal {
            tag: u16::try_from(value).expect("within the limit"),
        }),
        _ => None,
    }
}

#[test]
fn r7_every_type_flag_and_reserved_field() {
    let mut good = 0;
    for type_ in 0..=u8::MAX {
        for flags in 0..=u8::MAX {
            for reserved in [0, 1, 0x8000, 0xffff] {
                for value in VALUES {
                    for namespace in NAMESPACES {
                        let raw = raw(type_, flags, reserved, value);
                        let expected = expected(&raw, namespace);
                        good += u32::from(expected.is_some());
                        assert_eq!(
                            Source::decode(&raw, namespace),
                            expected.ok_or(Refusal::MalformedSource),
                            "{raw:x?} in {namespace:?}"
                        );
                    }
                }
            }
        }
    }
    // NONE once, CPU with and without a flag, DMABUF, LITERAL up to 0xff or 0xffff.
    assert_eq!(good, 2 * (1 + 2 * 13 + 13) + 5 + 8);
}

#[test]
fn r7_each_reserved_bit_alone() {
    for bit in 0..16 {
        for (type_, value) in [(0, 0), (1, 0), (2, 0), (3, 0)] {
            for namespace in NAMESPACES {
                assert_eq!(
                    Source::decode(&raw(type_, 0, 1 << bit, value), namespace),
                    Err(Refusal::MalformedSource)
                );
            }
        }
    }
}

/// An ST is never made of an XST, nor an XST cut down to an ST.
#[test]
fn r36_every_literal_in_either_namespace() {
    for value in 0..=0x2_0000 {
        for namespace in NAMESPACES {
            let raw = raw(3, 0, 0, value);
            assert_eq!(
                Source::decode(&raw, namespace).ok(),
                expected(&raw, namespace)
            );
        }
    }
}

#[test]
fn r17_r71_which_policy_takes_which_source() {
    let sources = [
        Source::None,
        Source::Cpu {
            cpu: 0,
            memory: MemoryType::Volatile,
        },
        Source::Cpu {
            cpu: u32::MAX,
            memory: MemoryType::Persistent,
        },
        Source::DmaBuf { fd: -1 },
        Source::Literal { tag: 0 },
        Source::Literal { tag: 0xffff },
    ];
    for (number, policy) in POLICIES.into_iter().enumerate() {
        for source in sources {
            let expected = match source {
                Source::Literal { .. } if number < 3 => Err(Refusal::LiteralDenied),
                Source::DmaBuf { .. } if number < 2 => Err(Refusal::DmaBufDenied),
                source => Ok(source),
            };
            assert_eq!(
                source.admit(policy),
                expected,
                "{source:?} under {policy:?}"
            );
        }
    }
}

/// Below policy 2 a CPU is the caller's, and from there on nobody asks.
#[test]
fn r72_whose_cpu_it_is() {
    for (number, policy) in POLICIES.into_iter().enumerate() {
        for is_callers in [false, true] {
            let asked = Cell::new(0);
            let admitted = admit_cpu(policy, || {
                asked.set(asked.get() + 1);
                Ok::<_, Refusal>(is_callers)
            });
            let expected = match number < 2 && !is_callers {
                true => Err(Refusal::ForeignCpu),
                false => Ok(()),
            };
            assert_eq!(admitted, expected, "{policy:?}, the caller's: {is_callers}");
            assert_eq!(asked.get(), u32::from(number < 2), "{policy:?}");
        }
    }
}

/// Who cannot be asked has not said yes.
#[test]
fn r72_no_answer_is_a_failure() {
    for (number, policy) in POLICIES.into_iter().enumerate() {
        let expected = match number < 2 {
            true => Err(Refusal::DeviceGone),
            false => Ok(()),
        };
        let admitted = admit_cpu(policy, || Err(Refusal::DeviceGone));
        assert_eq!(admitted, expected, "{policy:?}");
    }
}

#[test]
fn r17_r71_r72_errno_of_a_denied_source() {
    for refusal in [
        Refusal::LiteralDenied,
        Refusal::DmaBufDenied,
        Refusal::ForeignCpu,
    ] {
        assert_eq!(refusal.errno(), errno::EPERM, "{refusal:?}");
    }
}

/// A malformed source is malformed (-EINVAL) before it is denied (-EPERM).
#[test]
fn r17_r71_form_comes_before_permission() {
    for policy in POLICIES {
        for bad in [
            raw(2, 1, 0, 5),
            raw(2, 0, 1, 5),
            raw(3, 1, 0, 5),
            raw(3, 0, 1, 5),
            raw(3, 0, 0, 0x1_0000),
        ] {
            let result =
                Source::decode(&bad, Namespace::Extended).and_then(|source| source.admit(policy));
            assert_eq!(result, Err(Refusal::MalformedSource));
        }
    }
}

#[test]
fn r7_every_flag_of_a_call() {
    assert_eq!(Namespace::from_flags(0), Ok(Namespace::Standard));
    assert_eq!(Namespace::from_flags(1), Ok(Namespace::Extended));
    for bit in 1..32 {
        for low in [0, 1] {
            assert_eq!(
                Namespace::from_flags((1 << bit) | low),
                Err(Refusal::Malformed)
            );
        }
    }
}
