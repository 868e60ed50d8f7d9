// SPDX-License-Identifier: GPL-2.0-only

//! The checks of TPH_ST before its sources, and the order of all of them; R5, R7, R34, R35.

use crate::oracle::{
    answers::errno,
    model::{
        self,
        Device, //
    },
    offer,
    ROOT_PORTS, //
};
use crate::{
    rules::{
        batch::Batch,
        capability::Offer,
        refusal::Refusal,
        regs::Control,
        source::{
            Namespace,
            Source, //
        },
    },
    uapi::{
        vfio_device_feature_tph_st,
        vfio_tph_source, //
    },
};

const HEADER: usize = 16;
const SOURCE: usize = 8;

fn header(flags: u32, index: u16, count: u16, reserved: u32) -> vfio_device_feature_tph_st {
    vfio_device_feature_tph_st {
        flags,
        index,
        count,
        reserved,
        // What comes in does not matter: the field is for what goes out.
        fault: 0xffff_ffff,
        ..Default::default()
    }
}

/// An offer of `entries`: up to 64 as a capability has them, above as MSI-X has.
fn table_of(entries: u16) -> Offer {
    let offer = offer(&Device::FULL, 3).expect("usable");
    Offer { entries, ..offer }
}

/// argsz for `count` sources.
fn argsz(count: u16) -> usize {
    HEADER + SOURCE * usize::from(count)
}

fn check_range(offer: &Offer, index: u16, count: u16) {
    let within = count != 0 && u64::from(index) + u64::from(count) <= u64::from(offer.entries);
    let expected = if within {
        Ok(Batch {
            index,
            count,
            namespace: Namespace::Standard,
        })
    } else {
        Err(Refusal::Malformed)
    };
    assert_eq!(
        Batch::shape(&header(0, index, count, 0), offer, argsz(count)),
        expected,
        "({index}, {count}) of {}",
        offer.entries
    );
}

/// Every index with counts at the edges, and every count with indices at the edges.
#[test]
fn r5_r6_index_and_count_cannot_leave_the_table() {
    for entries in [1, 2, 3, 63, 64, 2047, 2048] {
        let offer = table_of(entries);
        let edges = [
            0,
            1,
            2,
            entries - 1,
            entries,
            entries + 1,
            0x7fff,
            0x8000,
            0xffff - entries,
            0xffff - entries + 1,
            0xfffe,
            0xffff,
        ];
        for any in 0..=u16::MAX {
            for edge in edges {
                check_range(&offer, any, edge);
                check_range(&offer, edge, any);
            }
            // Sums that are 0 or small when they wrap.
            check_range(&offer, any, 0u16.wrapping_sub(any));
            check_range(&offer, any, 1u16.wrapping_sub(any));
        }
    }
}

/// The very pairs that the requirement names.
#[test]
fn r5_named_pairs() {
    let offer = table_of(64);
    let shape = |index, count| Batch::shape(&header(0, index, count, 0), &offer, argsz(count));
    for (index, count) in [(0xffff, 1), (0, 0xffff), (63, 2), (64, 1)] {
        assert_eq!(shape(index, count), Err(Refusal::Malformed));
    }
    for (index, count) in [(0, 64), (63, 1)] {
        assert!(shape(index, count).is_ok());
    }
}

#[test]
fn r7_reserved_and_unknown_flags() {
    let offer = table_of(8);
    for bit in 0..32 {
        let reserved = header(0, 0, 1, 1 << bit);
        assert_eq!(
            Batch::shape(&reserved, &offer, argsz(1)),
            Err(Refusal::Malformed)
        );
        let flags = header(1 << bit, 0, 1, 0);
        let expected = if bit == 0 {
            Ok(Namespace::Extended)
        } else {
            Err(Refusal::Malformed)
        };
        assert_eq!(
            Batch::shape(&flags, &offer, argsz(1)).map(|batch| batch.namespace),
            expected
        );
    }
}

#[test]
fn r5_argsz_has_to_hold_the_sources() {
    for entries in [1, 2, 63, 64, 2048] {
        let offer = table_of(entries);
        for count in 1..=entries {
            for argsz in [
                0,
                HEADER - 1,
                HEADER,
                argsz(count) - SOURCE,
                argsz(count) - 1,
                argsz(count),
                argsz(count) + 1,
                usize::MAX,
            ] {
                assert_eq!(
                    Batch::shape(&header(0, 0, count, 0), &offer, argsz).is_ok(),
                    argsz >= HEADER + SOURCE * usize::from(count),
                    "{count} sources in {argsz} bytes"
                );
            }
        }
    }
}

#[test]
fn r12_available_where_there_is_a_table_to_program() {
    assert_eq!(Batch::available(None).err(), Some(Refusal::Unsupported));
    for policy in 0..4 {
        for modes in 0..8 {
            for location in 0..4 {
                for room in [0, 1, 4] {
                    for root_port in ROOT_PORTS {
                        let device = Device {
                            capability: model::capability(modes, true, location, 4),
                            root_port,
                            room,
                            ..Device::FULL
                        };
                        let available = Batch::available(offer(&device, policy).as_ref()).is_ok();
                        assert_eq!(
                            available,
                            model::usable(&device)
                                && policy != 0
                                && model::entries(&device, policy) != 0,
                            "{device:x?} under {policy}"
                        );
                    }
                }
            }
        }
    }
}

/// Every state of Control, in either namespace, with and without extended tags on the path.
#[test]
fn r34_r35_control_in_force_decides() {
    let paths = [
        (Some(0b01), true),
        (Some(0b11), true),
        (Some(0b11), false),
        (None, false),
    ];
    for (root_port, prefixes) in paths {
        let path_extended = root_port != Some(0b01) && (prefixes || root_port.is_none());
        let device = Device {
            root_port,
            prefixes,
            ..Device::FULL
        };
        let offer = offer(&device, 3).expect("usable");
        for mode in 0..3 {
            for enable in [0b00, 0b01, 0b11] {
                let control = Control::from_raw(mode | (enable << 8)).expect("legal");
                for extended in [false, true] {
                    let batch = Batch {
                        index: 0,
                        count: 1,
                        namespace: if extended {
                            Namespace::Extended
                        } else {
                            Namespace::Standard
                        },
                    };
                    let expected = if enable == 0b00 || mode == 0 {
                        Err(Refusal::NotEnabled)
                    } else if extended && (enable == 0b01 || !path_extended) {
                        Err(Refusal::NoExtended)
                    } else {
                        Ok(())
                    };
                    assert_eq!(batch.admit(control, &offer), expected, "{control:?}");
                }
            }
        }
    }
}

/// What can be wrong with a call, each thing by itself.
#[derive(Clone, Copy)]
struct Faults {
    hidden: bool,
    no_table: bool,
    policy: u32,
    shape: Shape,
    control: u32,
    extended: bool,
    path_extended: bool,
    source: vfio_tph_source,
}

/// What can be wrong with the shape of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    Good,
    Flag,
    Reserved,
    Empty,
    Beyond,
    Short,
}

impl Faults {
    /// Asks the rules, in the one order that their results allow: each needs the one before.
    fn asked(&self) -> Result<(), i32> {
        let root_port = match (self.hidden, self.path_extended) {
            (true, _) => 0b00,
            (_, true) => 0b11,
            (_, false) => 0b01,
        };
        let location = if self.no_table { 0b00 } else { 0b01 };
        let device = Device {
            capability: model::capability(0b111, true, location, 8),
            root_port: Some(root_port),
            ..Device::FULL
        };
        let flags = u32::from(self.extended) | if self.shape == Shape::Flag { 1 << 7 } else { 0 };
        let header = header(
            flags,
            if self.shape == Shape::Beyond { 8 } else { 7 },
            u16::from(self.shape != Shape::Empty),
            u32::from(self.shape == Shape::Reserved),
        );
        let argsz = argsz(1) - usize::from(self.shape == Shape::Short);
        let control = Control::from_raw(self.control).expect("legal");

        let offer = offer(&device, self.policy);
        Batch::available(offer.as_ref())
            .and_then(|offer| {
                let batch = Batch::shape(&header, offer, argsz)?;
                batch.admit(control, offer)?;
                Source::decode(&self.source, batch.namespace)?.admit(offer.policy)
            })
            .map(|_| ())
            .map_err(Refusal::errno)
    }

    /// Section 4.2's order of checks.
    fn expected(&self) -> Result<(), i32> {
        if self.hidden || self.no_table || self.policy == 0 {
            return Err(errno::EOPNOTSUPP);
        }
        if self.shape != Shape::Good {
            return Err(errno::EINVAL);
        }
        let (mode, enable) = (self.control & 0b111, self.control >> 8);
        if enable == 0b00 || mode == 0 {
            return Err(errno::ENXIO);
        }
        if self.extended && (enable == 0b01 || !self.path_extended) {
            return Err(errno::EOPNOTSUPP);
        }
        let limit = if self.extended { 0xffff } else { 0xff };
        match self.source {
            vfio_tph_source { type_: 4.., .. } => Err(errno::EINVAL),
            vfio_tph_source {
                type_: 3, value, ..
            } if value > limit => Err(errno::EINVAL),
            vfio_tph_source { type_: 3, .. } if self.policy < 3 => Err(errno::EPERM),
            vfio_tph_source { type_: 2, .. } if self.policy < 2 => Err(errno::EPERM),
            _ => Ok(()),
        }
    }
}

/// All combinations of what can be wrong: the first failure of the contract's order wins.
#[test]
fn r7_r34_r35_first_failure_wins() {
    const SHAPES: [Shape; 6] = [
        Shape::Good,
        Shape::Flag,
        Shape::Reserved,
        Shape::Empty,
        Shape::Beyond,
        Shape::Short,
    ];
    let source = |type_, value| vfio_tph_source {
        type_,
        value,
        ..Default::default()
    };
    let sources = [
        source(0, 0),
        source(1, 0),
        source(2, u32::MAX),
        source(3, 0x55),
        source(3, 0x100),
        source(3, 0x1_0000),
        source(4, 0),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for policy in 0..4 {
        for shape in SHAPES {
            for control in [
                0x000, 0x001, 0x100, 0x101, 0x301, 0x002, 0x102, 0x302, 0x300,
            ] {
                for source in sources {
                    for switches in 0..16 {
                        let faults = Faults {
                            hidden: switches & 1 != 0,
                            no_table: switches & 2 != 0,
                            policy,
                            shape,
                            control,
                            extended: switches & 4 != 0,
                            path_extended: switches & 8 != 0,
                            source,
                        };
                        let expected = faults.expected();
                        assert_eq!(
                            faults.asked(),
                            expected,
                            "policy {policy}, {shape:?}, Control {control:#x}, {source:x?}, \
                             switches {switches:#x}"
                        );
                        seen.insert(expected.err());
                    }
                }
            }
        }
    }
    // Success and four errnos: none of the answers is out of reach of this test.
    assert_eq!(seen.len(), 5);
}
