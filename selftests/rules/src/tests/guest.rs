// SPDX-License-Identifier: GPL-2.0-only

//! A guest's entries, through every short history of writes, maps, vectors and firmware; R93, R94,
//! R97.

use crate::{
    oracle::answers::errno,
    rules::{
        firmware::CpuTags,
        guest::{
            shape,
            used,
            Aim,
            Answer,
            Before,
            Map,
            Target,
            VirtualTable,
            World,
            MAX_ENTRIES, //
        },
        regs::Control,
        source::{
            MemoryType,
            Namespace, //
        },
    },
    uapi::{
        vfio_device_feature_tph_map,
        vfio_tph_source, //
    },
    walk::all_controls,
};

const OFF: Control = Control::RESET;

fn cpu(cpu: u32) -> Target {
    Target::Cpu {
        cpu,
        memory: MemoryType::Volatile,
    }
}

fn map_of(targets: &[Target]) -> Map {
    let mut map = Map::EMPTY;
    for &target in targets {
        map.push(target);
    }
    map
}

/// What firmware says of a CPU: both tags valid, and no two alike; CPU 9 has a standard tag alone.
fn tags(cpu: u32) -> CpuTags {
    let (st, xst) = (0x10 + cpu, 0x1100 + cpu);
    let valid = if cpu == 9 { 0b01 } else { 0b11 };
    CpuTags::from_raw(u64::from(valid | (st << 8) | (xst << 16)))
}

/// The tag of an entry by the contract: nothing beyond the map, none where firmware has no valid
/// one.
fn meaning(targets: &[Target], value: u16, extended: bool) -> u16 {
    let target = usize::from(value)
        .checked_sub(1)
        .and_then(|at| targets.get(at));
    match (target, extended) {
        (Some(Target::Cpu { cpu: 9, .. }), true) => 0,
        (Some(Target::Cpu { cpu, .. }), false) => 0x10 + *cpu as u16,
        (Some(Target::Cpu { cpu, .. }), true) => 0x1100 + *cpu as u16,
        _ => 0,
    }
}

#[test]
fn r93_every_value_of_an_entry() {
    let all: Vec<Target> = (0..255).map(cpu).collect();
    for count in [0, 1, 2, 254, 255] {
        let map = map_of(&all[..count]);
        for value in 0..=u16::MAX {
            let at = usize::from(value);
            let expected = match at {
                0 => Target::Nothing,
                at if at <= count => all[at - 1],
                _ => Target::Nothing,
            };
            assert_eq!(map.target(value), expected, "{value:#x} of {count}");
        }
    }
    // What is too much changes nothing.
    let mut full = map_of(&all);
    full.push(cpu(7));
    assert_eq!(full.target(0), Target::Nothing);
    assert_eq!(full.target(255), cpu(254));
}

#[test]
fn r93_shape_of_a_map() {
    for flags in [0, 1, 1 << 31] {
        for reserved in [0, 1] {
            for count in [0, 1, 2, 254, 255, 256, 0x1_0000, u32::MAX] {
                for short in [0, 1, 8, 16] {
                    let header = vfio_device_feature_tph_map {
                        flags,
                        count,
                        reserved,
                        fault: 7,
                        ..Default::default()
                    };
                    let argsz = (16 + 8 * (count as usize).min(300)).saturating_sub(short);
                    let good = flags == 0 && reserved == 0 && count <= 255 && short == 0;
                    match shape(&header, argsz) {
                        Ok(sources) => assert!(good && sources == count as usize),
                        Err(refusal) => {
                            assert!(!good, "{header:?}");
                            assert_eq!(refusal.errno(), errno::EINVAL);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn r93_sources_of_a_map() {
    for type_ in 0..=255 {
        for flags in 0..4 {
            for reserved in [0, 1] {
                for value in [0, 1, 7, u32::MAX] {
                    let raw = vfio_tph_source {
                        type_,
                        flags,
                        reserved,
                        value,
                    };
                    let expected = match (type_, flags, reserved, value) {
                        (0, 0, 0, 0) => Some(Target::Nothing),
                        (1, 0, 0, cpu) => Some(self::cpu(cpu)),
                        (1, 1, 0, cpu) => Some(Target::Cpu {
                            cpu,
                            memory: MemoryType::Persistent,
                        }),
                        _ => None,
                    };
                    let found = Target::decode(&raw);
                    assert_eq!(found.ok(), expected, "{raw:?}");
                    if let Err(refusal) = found {
                        assert_eq!(refusal.errno(), errno::EINVAL);
                    }
                }
            }
        }
    }
}

/// Entries are used in Interrupt Vector mode alone, under an enabled requester.
#[test]
fn r94_when_entries_are_used() {
    for control in all_controls() {
        let expected = match control.raw() {
            0x101 => Some(Namespace::Standard),
            0x301 => Some(Namespace::Extended),
            _ => None,
        };
        assert_eq!(used(control), expected, "{control:?}");
    }
}

/// Every width at every place, across the end too.
#[test]
fn r94_writes_of_every_width() {
    for entries in [1, 2, 3, 63, 64] {
        let size = 2 * usize::from(entries);
        for offset in 0..size + 3 {
            for width in 1..=size + 4 {
                let mut table = VirtualTable::new(entries);
                table.write(0, &vec![0x5a; size], &mut Before::new());
                let written: Vec<u8> = (0..width).map(|at| at as u8 + 1).collect();
                table.write(offset, &written, &mut Before::new());
                let mut expected = [0; 2 * MAX_ENTRIES];
                expected[..size].fill(0x5a);
                for (at, &byte) in (offset..).zip(&written) {
                    if at < size {
                        expected[at] = byte;
                    }
                }
                assert_eq!(table.bytes(), expected, "{width} at {offset} of {entries}");
                let mut same = VirtualTable::new(entries);
                same.write(0, &expected[..size], &mut Before::new());
                assert_eq!(table, same, "{width} at {offset} of {entries}");
            }
        }
    }
}

const ENTRIES: usize = 2;

/// What happens to a guest's device.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Write(usize, u16),
    Control(u32),
    Map(usize),
    Vectors(bool),
    Firmware(bool),
    Reset,
}

/// The device, as the driver goes about with it.
#[derive(Clone)]
struct World_<'a> {
    maps: &'a [Map; 2],
    map: usize,
    table: VirtualTable,
    before: Before,
    control: Control,
    hardware: [u16; ENTRIES],
    allocated: bool,
    answers: bool,
    /// Whether a look-up has failed since entries were last looked up for an enable.
    failed: bool,
    /// How many entries the last event has looked at.
    looked_at: usize,
}

impl World_<'_> {
    fn settle(&mut self, control: Control, retry: bool) {
        let (answers, allocated) = (self.answers, self.allocated);
        let hardware = &mut self.hardware;
        let looked_at = &mut self.looked_at;
        let world = World {
            map: &self.maps[self.map],
            answer: &|target| match target {
                Target::Cpu { cpu, .. } if answers => Answer::Tags(tags(cpu)),
                _ => Answer::Failed,
            },
            can_have: &|_| allocated,
        };
        let aim = Aim {
            control,
            retry,
            last: false,
        };
        let needed = self.table.is_unsettled(aim);
        let settled = self
            .table
            .settle(aim, &world, &mut self.before, &mut |entry, tag, _| {
                hardware[entry] = tag;
                *looked_at += 1;
            });
        assert!(needed || *looked_at == 0);
        assert!(!settled.unknown);
        self.failed |= settled.failed != 0;
    }

    fn happens(&mut self, event: Event) {
        self.looked_at = 0;
        self.before.begin(&self.table);
        match event {
            Event::Write(entry, value) => {
                let bytes = value.to_le_bytes();
                self.table.write(2 * entry, &bytes, &mut self.before);
                self.settle(self.control, false);
            }
            Event::Control(raw) => {
                let control = Control::from_raw(raw).expect("a value");
                if used(control).is_some() {
                    self.failed = false;
                }
                self.settle(control, true);
                self.control = control;
            }
            Event::Map(map) => {
                let old = core::mem::replace(&mut self.map, map);
                let (old, new) = (&self.maps[old], &self.maps[map]);
                self.table.moved(old, new);
                self.settle(self.control, false);
            }
            Event::Vectors(allocated) => {
                self.allocated = allocated;
                if !allocated {
                    self.hardware = [0; ENTRIES];
                }
                self.table.vectors_changed(&self.hardware, &|_| allocated);
                self.settle(self.control, false);
            }
            Event::Firmware(answers) => self.answers = answers,
            Event::Reset => {
                self.hardware = [0; ENTRIES];
                self.control = OFF;
                self.table.clear();
                self.failed = false;
            }
        }
    }
}

/// Every history of five events: what is in force is what the contract says, nothing else was
/// looked at than what had to be, and each of them can be undone.
#[test]
fn r94_every_short_history() {
    // No tag of one is a tag of the other.
    let targets = [[cpu(1), Target::Nothing, cpu(9)], [cpu(2), cpu(3), cpu(2)]];
    let maps = targets.map(|targets| map_of(&targets));
    let events = [
        Event::Write(0, 1),
        Event::Write(0, 3),
        Event::Write(1, 1),
        Event::Write(1, 0x101),
        Event::Write(0, 0),
        Event::Control(0x000),
        Event::Control(0x101),
        Event::Control(0x301),
        Event::Control(0x100),
        Event::Map(0),
        Event::Map(1),
        Event::Vectors(false),
        Event::Vectors(true),
        Event::Firmware(false),
        Event::Firmware(true),
        Event::Reset,
    ];
    let start = World_ {
        maps: &maps,
        map: 0,
        table: VirtualTable::new(ENTRIES as u16),
        before: Before::new(),
        control: OFF,
        hardware: [0; ENTRIES],
        allocated: true,
        answers: true,
        failed: false,
        looked_at: 0,
    };
    let mut histories = 0u32;
    let mut left = vec![(start, Vec::new())];
    while let Some((before, history)) = left.pop() {
        if history.len() == 5 {
            continue;
        }
        for event in events {
            let mut now = before.clone();
            now.happens(event);
            if let Event::Write(..) | Event::Control(_) | Event::Map(_) = event {
                let mut undone = now.table.clone();
                undone.go_back(&now.before);
                assert_eq!(undone, before.table, "{history:?} {event:?}");
            }
            let mut history: Vec<Event> = history.clone();
            history.push(event);
            histories += 1;
            let values = now.table.values();
            let means = |entry: usize, extended| {
                let tag = meaning(&targets[now.map], values[entry], extended);
                if now.allocated {
                    tag
                } else {
                    0
                }
            };
            for entry in 0..ENTRIES {
                let held = now.hardware[entry];
                match used(now.control) {
                    Some(namespace) => {
                        let expected = means(entry, namespace == Namespace::Extended);
                        assert!(
                            held == expected || now.failed && held == 0,
                            "{history:x?}: entry {entry} has {held:#x} for {expected:#x}"
                        );
                    }
                    // Nothing is written by what the guest does.
                    None if matches!(event, Event::Write(..) | Event::Control(_)) => {
                        assert_eq!(held, before.hardware[entry], "{history:x?}");
                    }
                    None => (),
                }
                // No tag of a map that is no more, whatever is in force.
                let of_map = |tag: u16| {
                    (1..=3)
                        .flat_map(|value| {
                            [false, true]
                                .map(|extended| meaning(&targets[now.map], value, extended))
                        })
                        .any(|mine| mine == tag)
                };
                assert!(held == 0 || of_map(held), "{history:x?}: {held:#x}");
            }
            // An entry that was written, and no more.
            let settled = used(before.control).is_some();
            if settled && matches!(event, Event::Write(..)) {
                assert!(now.looked_at <= 1, "{history:x?}");
            }
            left.push((now, history));
        }
    }
    assert_eq!(
        histories,
        16 + 16u32.pow(2) + 16u32.pow(3) + 16u32.pow(4) + 16u32.pow(5)
    );
}

/// Off, one entry, on: one entry is looked at, however many there are.
#[test]
fn r94_the_guests_way_looks_at_one_entry() {
    let maps = [map_of(&[cpu(1), cpu(2)]), map_of(&[])];
    for on in [0x101, 0x301] {
        let on = Control::from_raw(on).expect("a value");
        let mut table = VirtualTable::new(64);
        let count = |table: &mut VirtualTable, control| {
            let mut looked_at = 0;
            let world = World {
                map: &maps[0],
                answer: &|_| Answer::Tags(tags(1)),
                can_have: &|_| true,
            };
            let aim = Aim {
                control,
                retry: true,
                last: true,
            };
            table.settle(aim, &world, &mut Before::new(), &mut |_, _, _| {
                looked_at += 1;
            });
            looked_at
        };
        table.write(0, &[1, 0].repeat(64), &mut Before::new());
        assert_eq!(count(&mut table, on), 64);
        for entry in 0..64 {
            assert_eq!(count(&mut table, on.disabled()), 0);
            table.write(2 * entry, &[2], &mut Before::new());
            assert_eq!(count(&mut table, on.disabled()), 0);
            assert_eq!(count(&mut table, on), 1);
            assert_eq!(count(&mut table, on), 0);
        }
    }
}

/// What is not known stops everything, unless nobody asks again: then it is 0, and stays open.
#[test]
fn r94_what_is_not_known() {
    let map = map_of(&[cpu(1), cpu(2)]);
    let on = Control::from_raw(0x101).expect("a value");
    let aim = |last| Aim {
        control: on,
        retry: false,
        last,
    };
    let mut table = VirtualTable::new(4);
    table.write(0, &[1, 0, 2, 0], &mut Before::new());
    let world = World {
        map: &map,
        answer: &|target| match target {
            Target::Cpu { cpu: 1, .. } => Answer::Tags(tags(1)),
            _ => Answer::Unknown,
        },
        can_have: &|_| true,
    };
    let before = table.clone();
    let settled = table.settle(aim(false), &world, &mut Before::new(), &mut |_, _, _| {
        panic!("nothing is done")
    });
    assert!(settled.unknown);
    assert_eq!(table, before);
    let mut wanted = Vec::new();
    let settled = table.settle(
        aim(true),
        &world,
        &mut Before::new(),
        &mut |entry, tag, _| {
            wanted.push((entry, tag));
        },
    );
    assert_eq!((settled.failed, wanted), (1, vec![(0, 0x11), (1, 0)]));
    // It waits for the next write, or enable.
    assert!(!table.is_unsettled(aim(false)));
    assert!(table.is_unsettled(Aim {
        retry: true,
        ..aim(false)
    }));
    table.write(2, &[2], &mut Before::new());
    assert!(table.is_unsettled(aim(false)));
}

/// Whether entries may be used that cannot be reached goes by whose they are, not by their tags:
/// CPU 1 and CPU 2 have the same, and it is 0.
#[test]
fn r97_what_can_wait_tells_no_tag() {
    let same = |cpu| match cpu {
        1 | 2 => CpuTags::from_raw(0b11),
        9 => CpuTags::from_raw(0b10),
        cpu => tags(cpu),
    };
    let targets = [Target::Nothing, cpu(1), cpu(2), cpu(3), cpu(9), cpu(3)];
    let map = map_of(&targets);
    let controls = [0x101, 0x301].map(|raw| Control::from_raw(raw).expect("a value"));
    for first in 0..=7u16 {
        for second in 0..=7u16 {
            for before in controls {
                for after in controls {
                    for allocated in [false, true] {
                        let world = World {
                            map: &map,
                            answer: &|target| match target {
                                Target::Cpu { cpu, .. } => Answer::Tags(same(cpu)),
                                Target::Nothing => Answer::Failed,
                            },
                            can_have: &|_| true,
                        };
                        let aim = |control| Aim {
                            control,
                            retry: true,
                            last: true,
                        };
                        let mut table = VirtualTable::new(1);
                        table.write(0, &first.to_le_bytes(), &mut Before::new());
                        table.settle(aim(before), &world, &mut Before::new(), &mut |_, _, _| ());
                        table.write(0, &second.to_le_bytes(), &mut Before::new());
                        // CPU 9 has no standard tag.
                        let has = match map.target(first) {
                            Target::Nothing => false,
                            Target::Cpu { cpu, .. } => cpu != 9 || before == controls[1],
                        };
                        let as_wanted =
                            allocated && before == after && map.target(first) == map.target(second);
                        // Nothing has changed: nobody looks.
                        let closed = first == second && before == after;
                        assert_eq!(
                            table.can_wait(aim(after), &map, &|_| allocated),
                            !has || as_wanted || closed,
                            "{first} {second} {before:?} {after:?} {allocated}"
                        );
                    }
                }
            }
        }
    }
}

/// Which entries are written goes by whose they are, not by their tags: it is the same if all CPUs
/// have equal ones, in both namespaces. And no other is written.
#[test]
fn r97_what_is_written_tells_no_tag() {
    let of_all = |tag: u64| CpuTags::from_raw(0b11 | (tag << 8) | (tag << 16));
    let firmware: [&dyn Fn(u32) -> CpuTags; 3] = [&tags, &|_| of_all(0x2a), &|_| of_all(0)];
    let maps = [
        map_of(&[Target::Nothing, cpu(1), cpu(2)]),
        map_of(&[cpu(1), cpu(2), Target::Nothing]),
    ];
    let controls = [0x101, 0x301, 0x001].map(|raw| Control::from_raw(raw).expect("a value"));
    let history = |tags_of: &dyn Fn(u32) -> CpuTags, values: [u16; 2], controls: [Control; 3]| {
        let mut table = VirtualTable::new(1);
        let (mut held, mut written) = (0, Vec::new());
        let mut settle = |table: &mut VirtualTable, map: &Map, control: Control| {
            let world = World {
                map,
                answer: &|target| match target {
                    Target::Cpu { cpu, .. } => Answer::Tags(tags_of(cpu)),
                    Target::Nothing => Answer::Failed,
                },
                can_have: &|_| true,
            };
            let aim = Aim {
                control,
                retry: true,
                last: true,
            };
            table.settle(aim, &world, &mut Before::new(), &mut |_, tag, always| {
                written.push((always || tag != held, tag != held));
                held = tag;
            });
        };
        for (value, control) in values.into_iter().zip(controls) {
            table.write(0, &value.to_le_bytes(), &mut Before::new());
            settle(&mut table, &maps[0], control);
        }
        table.moved(&maps[0], &maps[1]);
        settle(&mut table, &maps[1], controls[2]);
        written
    };
    for first in 0..=4 {
        for second in 0..=4 {
            for before in controls {
                for after in controls {
                    for moved in [after, after.disabled()] {
                        let what = format!("{first} {second} {before:?} {after:?} {moved:?}");
                        let written =
                            |tags_of| history(tags_of, [first, second], [before, after, moved]);
                        let [different, equal, zero] = firmware.map(written);
                        assert!(different.iter().all(|(any, new)| any == new), "{what}");
                        for other in [equal, zero] {
                            let any = |of: &[(bool, bool)]| -> Vec<bool> {
                                of.iter().map(|&(any, _)| any).collect()
                            };
                            assert_eq!(any(&other), any(&different), "{what}");
                        }
                    }
                }
            }
        }
    }
}

/// What has a tag of a map that is no more gets none, once, and is looked at again.
#[test]
fn r93_stale_entries_are_dropped() {
    let maps = [map_of(&[cpu(1), cpu(2)]), map_of(&[cpu(1), cpu(3)])];
    let aim = Aim {
        control: Control::from_raw(0x101).expect("a value"),
        retry: false,
        last: true,
    };
    let world = World {
        map: &maps[0],
        answer: &|target| match target {
            Target::Cpu { cpu, .. } => Answer::Tags(tags(cpu)),
            Target::Nothing => Answer::Failed,
        },
        can_have: &|_| true,
    };
    let mut table = VirtualTable::new(4);
    table.write(0, &[1, 0, 2, 0, 0, 0, 2, 0], &mut Before::new());
    let mut held = [0; 4];
    table.settle(aim, &world, &mut Before::new(), &mut |entry, tag, _| {
        held[entry] = tag;
    });
    table.moved(&maps[0], &maps[1]);
    let mut dropped = Vec::new();
    table.drop_stale(&mut |entry| dropped.push(entry));
    assert_eq!(dropped, [1, 3]);
    table.drop_stale(&mut |entry| panic!("again: {entry}"));
    assert!(table.is_unsettled(aim));
    assert!(table.can_wait(aim, &maps[1], &|_| true), "none is there");
}
