// SPDX-License-Identifier: GPL-2.0-only

//! The checks of TPH_RESOLVE and what it discloses, spec section 4.3; R7, R14, R36.

use crate::oracle::{
    answers::errno,
    model::Device,
    offer,
    POLICIES, //
};
use crate::{
    rules::{
        capability::Offer,
        lookup::{
            Hint,
            Lookup, //
        },
        refusal::Refusal,
        source::{
            MemoryType,
            Namespace,
            Source, //
        },
    },
    uapi::{
        vfio_device_feature_tph_resolve,
        vfio_tph_resolution,
        vfio_tph_source, //
    },
};

const HEADER: usize = 16;
const ENTRY: usize = 16;

fn header(flags: u32, count: u32, reserved: u32) -> vfio_device_feature_tph_resolve {
    vfio_device_feature_tph_resolve {
        flags,
        count,
        reserved,
        // What comes in does not matter: the field is for what goes out.
        fault: 0xffff_ffff,
        ..Default::default()
    }
}

/// An offer on a path with or without extended tags.
fn path(extended: bool) -> Offer {
    let device = Device {
        root_port: Some(if extended { 0b11 } else { 0b01 }),
        ..Device::FULL
    };
    offer(&device, 3).expect("usable")
}

fn errno_of<T>(result: Result<T, Refusal>) -> i32 {
    result.err().map_or(0, Refusal::errno)
}

#[test]
fn r7_count_and_argsz_of_a_lookup() {
    let offer = path(true);
    let edges = [0x7fff_ffff, 0x8000_0000, 0x1000_0001, 0xffff_ffff];
    for count in (0..=5000).chain(edges) {
        let needed = HEADER as u64 + ENTRY as u64 * u64::from(count);
        // The last one is what the product wraps around to on 32 bit.
        for argsz in [
            0,
            HEADER as u64,
            needed - 1,
            needed,
            needed + 1,
            needed & 0xffff_ffff,
        ] {
            let argsz = usize::try_from(argsz).expect("64 bit");
            let good = (1..=4096).contains(&count) && argsz as u64 >= needed;
            let expected = if good {
                Ok(Lookup {
                    count,
                    namespace: Namespace::Standard,
                })
            } else {
                Err(Refusal::Malformed)
            };
            assert_eq!(
                Lookup::shape(&header(0, count, 0), &offer, argsz),
                expected,
                "{count} entries in {argsz} bytes"
            );
        }
    }
}

/// Shape before namespace, and each bit that means nothing.
#[test]
fn r7_flags_and_reserved_fields_of_a_lookup() {
    for extended_path in [false, true] {
        let offer = path(extended_path);
        for (flags, reserved) in (0..32)
            .flat_map(|bit| [(1 << bit, 0), (0, 1 << bit), (1, 1 << bit)])
            .chain([(0, 0)])
        {
            for count in [0, 1, 4096, 4097] {
                let result = Lookup::shape(&header(flags, count, reserved), &offer, 1 << 20);
                let malformed = flags > 1 || reserved != 0 || count == 0 || count > 4096;
                let expected = match (malformed, flags) {
                    (true, _) => errno::EINVAL,
                    (false, 1) if !extended_path => errno::EOPNOTSUPP,
                    (false, _) => 0,
                };
                assert_eq!(
                    errno_of(result),
                    expected,
                    "flags {flags:#x}, {count} entries, reserved {reserved:#x}"
                );
                if let Ok(lookup) = result {
                    assert_eq!(lookup.namespace == Namespace::Extended, flags == 1);
                }
            }
        }
    }
}

fn entry(type_: u8, flags: u8, reserved: u16, value: u32) -> vfio_tph_resolution {
    vfio_tph_resolution {
        source: vfio_tph_source {
            type_,
            flags,
            reserved,
            value,
        },
        ..Default::default()
    }
}

/// Every type and flag of a source under every policy; form comes before permission.
#[test]
fn r14_sources_of_a_lookup() {
    for (number, policy) in POLICIES.into_iter().enumerate() {
        for namespace in [Namespace::Standard, Namespace::Extended] {
            let lookup = Lookup {
                count: 1,
                namespace,
            };
            for type_ in 0..=u8::MAX {
                for flags in 0..=u8::MAX {
                    for (reserved, value) in [(0, 0), (0, 1), (0, u32::MAX), (1, 0), (0x8000, 0)] {
                        let expected = match (type_, flags, reserved) {
                            (1, 0 | 1, 0) if number < 2 => Err(Refusal::CpuDenied),
                            (1, 0, 0) => Ok(Source::Cpu {
                                cpu: value,
                                memory: MemoryType::Volatile,
                            }),
                            (1, 1, 0) => Ok(Source::Cpu {
                                cpu: value,
                                memory: MemoryType::Persistent,
                            }),
                            (2, 0, 0) => Ok(Source::DmaBuf {
                                fd: i32::from_ne_bytes(value.to_ne_bytes()),
                            }),
                            _ => Err(Refusal::MalformedSource),
                        };
                        let entry = entry(type_, flags, reserved, value);
                        assert_eq!(
                            lookup.source(&entry, policy),
                            expected,
                            "{entry:x?} under {policy:?}"
                        );
                    }
                }
            }
        }
    }
    assert_eq!(Refusal::CpuDenied.errno(), errno::EPERM);
    assert_eq!(Refusal::MalformedSource.errno(), errno::EINVAL);
}

/// Of an entry's own flags two are known; an earlier answer may still stand in its fields.
#[test]
fn r7_flags_and_reserved_field_of_an_entry() {
    let lookup = Lookup {
        count: 1,
        namespace: Namespace::Standard,
    };
    for policy in POLICIES {
        for flags in 0..=u8::MAX {
            for reserved in (0..32).map(|bit| 1 << bit).chain([0]) {
                let entry = vfio_tph_resolution {
                    st: 0xffff,
                    ph: 3,
                    flags,
                    reserved,
                    ..entry(2, 0, 0, 5)
                };
                assert_eq!(
                    lookup.source(&entry, policy).is_ok(),
                    flags <= 0b11 && reserved == 0,
                    "{entry:x?}"
                );
            }
        }
    }
}

/// Below policy 2 only what is no tag; from there on all, over whatever stood there before.
#[test]
fn r14_r36_what_an_answer_discloses() {
    for (number, policy) in POLICIES.into_iter().enumerate() {
        for tag in 0..=u16::MAX {
            for ph in 0..4 {
                for ph_ignored in [false, true] {
                    let before = vfio_tph_resolution {
                        st: !tag,
                        ph: !ph,
                        flags: 0xff,
                        ..entry(1, 1, 0, 7)
                    };
                    let mut answer = before;
                    Hint {
                        tag,
                        ph,
                        ph_ignored,
                    }
                    .disclose(&mut answer, policy);

                    let discloses = number >= 2;
                    let expected = vfio_tph_resolution {
                        st: if discloses { tag } else { 0 },
                        ph,
                        flags: u8::from(discloses) | (u8::from(ph_ignored) << 1),
                        ..before
                    };
                    assert_eq!(answer, expected);
                }
            }
        }
    }
}
