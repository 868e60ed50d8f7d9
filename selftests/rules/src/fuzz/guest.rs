// SPDX-License-Identifier: GPL-2.0-only

//! A guest's table through any history: maps, writes, Control, vectors that come and go, firmware
//! that answers, fails, or was not asked yet. What hardware gets is what the contract has for it,
//! in a model of bytes; and what is undone has not been.

use crate::{
    oracle::answers,
    rules::{
        firmware::CpuTags,
        guest::{
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
        source::MemoryType,
    },
};
use arbitrary::{
    Result,
    Unstructured, //
};

const CPUS: u8 = 6;
/// No ST and Interrupt Vector mode, with each value of Requester Enable.
const CONTROLS: [u32; 6] = [0x000, 0x100, 0x300, 0x001, 0x101, 0x301];

/// What a virtual tag stands for: a CPU, and whether its persistent memory.
type Meant = Option<(u8, bool)>;

fn map(input: &mut Unstructured<'_>) -> Result<Vec<Meant>> {
    let mut map = Vec::new();
    for _ in 0..input.int_in_range(0..=8)? {
        let cpu = input.int_in_range(0..=CPUS)?;
        map.push(if cpu == CPUS {
            None
        } else {
            Some((cpu, input.ratio(1, 4)?))
        });
    }
    Ok(map)
}

fn of(map: &[Meant]) -> Map {
    let mut of = Map::EMPTY;
    for meant in map {
        of.push(match *meant {
            None => Target::Nothing,
            Some((cpu, persistent)) => Target::Cpu {
                cpu: cpu.into(),
                memory: if persistent {
                    MemoryType::Persistent
                } else {
                    MemoryType::Volatile
                },
            },
        });
    }
    of
}

/// A device with a guest.
struct Bed {
    table: VirtualTable,
    before: Before,
    map: Vec<Meant>,
    /// What the guest has written.
    bytes: Vec<u8>,
    control: u32,
    hardware: [u16; MAX_ENTRIES],
    /// Vectors that are allocated, a bit each.
    allocated: u64,
    /// What firmware has for each CPU, and whether it was asked; `None` if it fails.
    cpus: [(Option<u64>, bool); CPUS as usize],
    /// Whether a look-up has failed since entries were last looked up for an enable.
    failed: bool,
}

impl Bed {
    fn draw(input: &mut Unstructured<'_>) -> Result<Self> {
        let entries: u16 = *input.choose(&[1, 2, 3, 8, 63, 64])?;
        let mut cpus = [(None, false); CPUS as usize];
        for (raw, _) in &mut cpus {
            *raw = input.arbitrary()?;
        }
        Ok(Self {
            table: VirtualTable::new(entries),
            before: Before::new(),
            map: map(input)?,
            bytes: vec![0; 2 * usize::from(entries)],
            control: 0,
            hardware: [0; MAX_ENTRIES],
            allocated: u64::MAX,
            cpus,
            failed: false,
        })
    }

    /// The tag of an entry, by the contract.
    fn means(&self, map: &[Meant], entry: usize, extended: bool) -> u16 {
        let value = u16::from_le_bytes([self.bytes[2 * entry], self.bytes[2 * entry + 1]]);
        let meant = usize::from(value).checked_sub(1).and_then(|at| map.get(at));
        let (Some(Some((cpu, persistent))), true) = (meant, self.allocated & (1 << entry) != 0)
        else {
            return 0;
        };
        let raw = self.cpus[usize::from(*cpu)].0;
        raw.and_then(|raw| answers::firmware(raw, *persistent, extended).ok())
            .map_or(0, |known| known.tag)
    }

    /// Brings entries to what they are to have with `control`; firmware is asked on the way.
    fn settle(&mut self, control: u32, retry: bool) {
        let targets = of(&self.map);
        for last in [false, true] {
            let (cpus, allocated) = (self.cpus, self.allocated);
            let world = World {
                map: &targets,
                answer: &|target| match target {
                    Target::Cpu { cpu, .. } => match cpus[cpu as usize] {
                        (_, false) => Answer::Unknown,
                        (None, true) => Answer::Failed,
                        (Some(raw), true) => Answer::Tags(CpuTags::from_raw(raw)),
                    },
                    Target::Nothing => panic!("nothing is looked up"),
                },
                can_have: &|entry| allocated & (1 << entry) != 0,
            };
            let aim = Aim {
                control: Control::from_raw(control).expect("legal"),
                retry,
                last,
            };
            let was = self.table.clone();
            let hardware = &mut self.hardware;
            let mut touched = false;
            let settled = self
                .table
                .settle(aim, &world, &mut self.before, &mut |entry, tag, _| {
                    hardware[entry] = tag;
                    touched = true;
                });
            if settled.unknown {
                assert!(!last && !touched && self.table == was);
                self.cpus.iter_mut().for_each(|(_, asked)| *asked = true);
                continue;
            }
            self.failed |= settled.failed != 0;
            return;
        }
    }

    /// One thing that its user does, which can be undone.
    fn change(&mut self, input: &mut Unstructured<'_>, kind: u8) -> Result<()> {
        match kind {
            0..=2 => {
                let offset = input.int_in_range(0..=self.bytes.len() + 2)?;
                let mut written = vec![0; input.int_in_range(1..=9)?];
                for byte in &mut written {
                    *byte = *input.choose(&[0, 0, 0, 1, 1, 2, 3, 4, 5, 8, 0xff])?;
                }
                self.table.write(offset, &written, &mut self.before);
                for (at, byte) in (offset..self.bytes.len()).zip(written) {
                    self.bytes[at] = byte;
                }
                self.settle(self.control, false);
            }
            3 | 4 => {
                let control = *input.choose(&CONTROLS)?;
                if namespace(control).is_some() {
                    self.failed = false;
                }
                self.settle(control, true);
                self.control = control;
            }
            _ => {
                let new = map(input)?;
                self.table.moved(&of(&self.map), &of(&new));
                self.map = new;
                self.settle(self.control, false);
            }
        }
        Ok(())
    }

    fn check(&self) {
        let len = self.bytes.len();
        assert_eq!(self.table.bytes()[..len], self.bytes);
        assert!(self.table.bytes()[len..].iter().all(|&byte| byte == 0));
        for (entry, &held) in self.hardware.iter().enumerate() {
            if entry >= len / 2 {
                assert_eq!(held, 0, "beyond the table");
            } else if let Some(extended) = namespace(self.control) {
                let expected = self.means(&self.map, entry, extended);
                assert!(
                    held == expected || self.failed && held == 0,
                    "entry {entry}: {held:#x}, not {expected:#x}"
                );
            } else {
                // Left from before: a tag that the map in force gives, or none.
                let gives = |meant: &Meant| {
                    meant.is_some_and(|(cpu, persistent)| {
                        let raw = self.cpus[usize::from(cpu)].0;
                        [false, true].into_iter().any(|extended| {
                            let known = raw.map(|raw| answers::firmware(raw, persistent, extended));
                            matches!(known, Some(Ok(known)) if known.tag == held)
                        })
                    })
                };
                assert!(
                    held == 0 || self.map.iter().any(gives),
                    "entry {entry}: {held:#x}"
                );
            }
        }
    }
}

/// The namespace of entries that are used: whether the extended one.
fn namespace(control: u32) -> Option<bool> {
    match control {
        0x101 => Some(false),
        0x301 => Some(true),
        _ => None,
    }
}

fn try_run(input: &mut Unstructured<'_>) -> Result<()> {
    let mut bed = Bed::draw(input)?;
    while !input.is_empty() {
        match input.int_in_range(0..=9u8)? {
            kind @ 0..=6 => {
                let (was, bytes) = (bed.table.clone(), bed.bytes.clone());
                let (map, control) = (bed.map.clone(), bed.control);
                let (hardware, failed) = (bed.hardware, bed.failed);
                bed.before.begin(&bed.table);
                bed.change(input, kind)?;
                if input.ratio(1, 4)? {
                    // Hardware did not take it.
                    bed.table.go_back(&bed.before);
                    assert_eq!(bed.table, was, "undone");
                    (bed.bytes, bed.map, bed.control) = (bytes, map, control);
                    (bed.hardware, bed.failed) = (hardware, failed);
                }
            }
            7 => {
                bed.allocated = input.arbitrary()?;
                for (entry, held) in bed.hardware.iter_mut().enumerate() {
                    if bed.allocated & (1 << entry) == 0 {
                        *held = 0;
                    }
                }
                let allocated = bed.allocated;
                let can_have = |entry: usize| allocated & (1 << entry) != 0;
                bed.table.vectors_changed(&bed.hardware, &can_have);
                bed.before.begin(&bed.table);
                bed.settle(bed.control, false);
            }
            8 => {
                // What has failed is asked again some time; what is known stays so.
                for (raw, asked) in &mut bed.cpus {
                    if raw.is_none() && input.arbitrary()? {
                        (*raw, *asked) = (input.arbitrary()?, false);
                        bed.failed = true;
                    }
                }
            }
            _ => {
                bed.hardware = [0; MAX_ENTRIES];
                bed.table.clear();
                bed.bytes.fill(0);
                (bed.control, bed.failed) = (0, false);
            }
        }
        bed.check();
    }
    Ok(())
}

/// Runs it.
pub fn run(data: &[u8]) {
    // Bytes that are too few mean nothing.
    let _ = try_run(&mut Unstructured::new(data));
}
