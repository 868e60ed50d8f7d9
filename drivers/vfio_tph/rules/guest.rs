// SPDX-License-Identifier: GPL-2.0-only

//! The ST table of a guest: what its virtual tags stand for, and what hardware's entries are to
//! have for them.
//!
//! A guest writes virtual tags, from 1 on; a [`Map`] says which CPU each of them stands for. What
//! the guest writes is what is wanted. What hardware is to hold follows from the map and from
//! Requester Enable, and is found out entry by entry: an entry that has changed since is *open*
//! until [`VirtualTable::settle`] has seen to it, and no other one is touched.

use super::{
    firmware::CpuTags,
    refusal::Refusal,
    regs::{
        Control,
        RequesterEnable,
        StMode, //
    },
    source::{
        MemoryType,
        Namespace,
        Source, //
    },
};
use crate::uapi;

/// The entries that a guest has at most: those of a table in the capability.
pub(crate) const MAX_ENTRIES: usize = super::capability::MAX_CAPABILITY_ENTRIES as usize;
/// The bytes of so many entries.
pub(crate) const MAX_BYTES: usize = 2 * MAX_ENTRIES;

/// What a virtual tag stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Target {
    /// No tag.
    Nothing,
    /// What firmware has for a CPU.
    Cpu {
        /// Its logical number.
        cpu: u32,
        /// Which memory of it.
        memory: MemoryType,
    },
}

impl Target {
    /// From what a user passed. Neither the CPU nor its owner is looked at yet.
    pub(crate) fn decode(raw: &uapi::vfio_tph_source) -> Result<Self, Refusal> {
        match Source::decode(raw, Namespace::Standard)? {
            Source::None => Ok(Self::Nothing),
            Source::Cpu { cpu, memory } => Ok(Self::Cpu { cpu, memory }),
            Source::DmaBuf { .. } | Source::Literal { .. } => Err(Refusal::MalformedSource),
        }
    }
}

/// What the virtual tags of a guest stand for.
///
/// There is a place for each value of a byte, so that no tag that a guest writes leads elsewhere,
/// not even while the CPU speculates.
#[derive(Debug)]
pub(crate) struct Map {
    /// 0 for nothing, or the CPU plus 1, in 31 bits, and whether its persistent memory is meant.
    targets: [u32; 256],
    count: u16,
}

impl Map {
    /// Virtual tags that a map can have.
    pub(crate) const MAX: usize = uapi::VFIO_TPH_MAP_MAX as usize;

    /// A map of no tag.
    pub(crate) const EMPTY: Self = Self {
        targets: [0; 256],
        count: 0,
    };

    /// Says what the next virtual tag stands for. There are at most [`Self::MAX`], and fewer CPUs
    /// than take 31 bits.
    pub(crate) fn push(&mut self, target: Target) {
        if usize::from(self.count) < Self::MAX {
            self.count += 1;
            self.targets[usize::from(self.count) & 0xff] = match target {
                Target::Nothing => 0,
                Target::Cpu { cpu, memory } => {
                    ((cpu + 1) << 1) | u32::from(memory == MemoryType::Persistent)
                }
            };
        }
    }

    /// What the value of an entry stands for.
    pub(crate) fn target(&self, value: u16) -> Target {
        let target = self.raw(value);
        match (target >> 1).checked_sub(1) {
            Some(cpu) => Target::Cpu {
                cpu,
                memory: if target & 1 == 0 {
                    MemoryType::Volatile
                } else {
                    MemoryType::Persistent
                },
            },
            None => Target::Nothing,
        }
    }

    /// What the value of an entry stands for, in the 32 bits of `targets`; 0 for nothing.
    fn raw(&self, value: u16) -> u32 {
        let [low, high] = value.to_le_bytes();
        match high {
            0 => self.targets[usize::from(low)],
            _ => 0,
        }
    }
}

/// The checks of `VFIO_DEVICE_FEATURE_TPH_MAP` that come before all others: how many sources follow
/// the header. `argsz` is the length of both, in bytes.
pub(crate) fn shape(
    header: &uapi::vfio_device_feature_tph_map,
    argsz: usize,
) -> Result<usize, Refusal> {
    // CAST: widens.
    let count = header.count as usize;
    if header.flags != 0
        || header.reserved != 0
        || count > Map::MAX
        || argsz
            < size_of::<uapi::vfio_device_feature_tph_map>()
                + count * size_of::<uapi::vfio_tph_source>()
    {
        return Err(Refusal::Malformed);
    }
    Ok(count)
}

/// What is known of a CPU's tags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// Firmware has to be asked.
    Unknown,
    /// Firmware could not say.
    Failed,
    /// Firmware has given these tags for it.
    Tags(CpuTags),
}

/// The namespace of the entries that are used with `control`; `None` if none is.
pub(crate) fn used(control: Control) -> Option<Namespace> {
    if control.st_mode != StMode::InterruptVector {
        return None;
    }
    match control.requester_enable {
        RequesterEnable::Disabled => None,
        RequesterEnable::Standard => Some(Namespace::Standard),
        RequesterEnable::Extended => Some(Namespace::Extended),
    }
}

/// A set of entries.
type EntrySet = u64;

/// The first entry of a set.
fn first(entries: EntrySet) -> Option<usize> {
    // CAST: below 64.
    (entries != 0).then(|| entries.trailing_zeros() as usize)
}

/// The entries of a guest, in the order of their positions; without a copy of what hardware has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct VirtualTable {
    values: [u16; MAX_ENTRIES],
    len: u16,
    /// Entries for which hardware need not have the tag of what they stand for.
    open: EntrySet,
    /// The open entries of which firmware could not say: they wait until they are written, or until
    /// the requester is enabled.
    failed: EntrySet,
    /// The open entries whose tag in hardware comes from a map that was replaced.
    stale: EntrySet,
    /// Whose tag each entry has in hardware, as [`Map::raw`] has it; 0 if it has none. Rules go by
    /// this and not by the tag, so that nobody learns which CPUs have the same tag.
    owners: [u32; MAX_ENTRIES],
    /// The namespace of these tags, and of what hardware has for entries that are not open.
    namespace: Namespace,
}

/// What a table was before some of its entries changed: as much as it takes to go back, and no copy
/// of the others.
#[derive(Clone, Debug)]
pub(crate) struct Before {
    /// The entries that are kept.
    kept: EntrySet,
    values: [u16; MAX_ENTRIES],
    owners: [u32; MAX_ENTRIES],
    /// What is kept of all entries: [`VirtualTable::open`], [`VirtualTable::failed`] and
    /// [`VirtualTable::stale`].
    marks: [EntrySet; 3],
    namespace: Namespace,
}

impl Before {
    /// Keeps no entry yet.
    pub(crate) const fn new() -> Self {
        Self {
            kept: 0,
            values: [0; MAX_ENTRIES],
            owners: [0; MAX_ENTRIES],
            marks: [0; 3],
            namespace: Namespace::Standard,
        }
    }

    /// `table` is about to change: it is what [`VirtualTable::go_back`] goes back to.
    pub(crate) fn begin(&mut self, table: &VirtualTable) {
        self.kept = 0;
        self.marks = [table.open, table.failed, table.stale];
        self.namespace = table.namespace;
    }

    /// Some entries of `table` are about to change.
    fn keep(&mut self, table: &VirtualTable, entries: EntrySet) {
        let mut left = entries & !self.kept;
        self.kept |= entries;
        while let Some(entry) = first(left) {
            left &= left - 1;
            self.values[entry] = table.values[entry];
            self.owners[entry] = table.owners[entry];
        }
    }
}

/// What entries are settled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aim {
    /// What is in force, or about to be.
    pub(crate) control: Control,
    /// Whether those count of which firmware could not say.
    pub(crate) retry: bool,
    /// Whether what is unknown counts as failed.
    pub(crate) last: bool,
}

/// What entries are settled by.
pub(crate) struct World<'a> {
    /// What the values of entries stand for.
    pub(crate) map: &'a Map,
    /// What is known of a target.
    pub(crate) answer: &'a dyn Fn(Target) -> Answer,
    /// Whether hardware's entry may have a tag at all: that of a vector without an interrupt may
    /// not.
    pub(crate) can_have: &'a dyn Fn(usize) -> bool,
}

/// What came of [`VirtualTable::settle`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Settled {
    /// Entries of which firmware could not say.
    pub(crate) failed: u32,
    /// Firmware has to be asked first: nothing was done.
    pub(crate) unknown: bool,
}

impl VirtualTable {
    /// A table of `len` entries, at most 64: all of them 0, as in hardware.
    pub(crate) fn new(len: u16) -> Self {
        Self {
            values: [0; MAX_ENTRIES],
            // CAST: 64.
            len: len.min(MAX_ENTRIES as u16),
            open: 0,
            failed: 0,
            stale: 0,
            owners: [0; MAX_ENTRIES],
            namespace: Namespace::Standard,
        }
    }

    /// The number of entries.
    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    /// The namespace of the tags that hardware has, or is to have.
    pub(crate) fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// What the guest has written.
    pub(crate) fn values(&self) -> &[u16] {
        self.values.get(..self.len()).unwrap_or(&[])
    }

    /// What the guest has written, in bytes as they are read; those behind the last entry are 0.
    pub(crate) fn bytes(&self) -> [u8; MAX_BYTES] {
        let mut bytes = [0; MAX_BYTES];
        for (bytes, value) in bytes.chunks_exact_mut(2).zip(self.values()) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// Undoes what was done since [`Before::begin`].
    #[inline(never)]
    pub(crate) fn go_back(&mut self, before: &Before) {
        let mut left = before.kept;
        while let Some(entry) = first(left) {
            left &= left - 1;
            self.values[entry] = before.values[entry];
            self.owners[entry] = before.owners[entry];
        }
        [self.open, self.failed, self.stale] = before.marks;
        self.namespace = before.namespace;
    }

    /// The guest writes `bytes` at `offset` of the table.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8], before: &mut Before) {
        for (at, &byte) in (offset..).zip(bytes) {
            let entry = at / 2;
            if entry >= self.len() {
                return;
            }
            before.keep(self, 1 << entry);
            let Some(value) = self.values.get_mut(entry) else {
                return;
            };
            let mut halves = value.to_le_bytes();
            halves[at % 2] = byte;
            let new = u16::from_le_bytes(halves);
            if *value != new {
                *value = new;
                self.open |= 1 << entry;
            }
            self.failed &= !(1 << entry);
        }
    }

    /// All entries are 0, and so they are in hardware. Returns whether one was not.
    #[inline(never)]
    pub(crate) fn clear(&mut self) -> bool {
        let changed = self.values().iter().any(|&value| value != 0);
        *self = Self::new(self.len);
        changed
    }

    /// Vectors were allocated or freed: an entry that is 0 in hardware, which has `tags`, may have
    /// a tag, if it can have one at all.
    pub(crate) fn vectors_changed(&mut self, tags: &[u16], can_have: &dyn Fn(usize) -> bool) {
        for entry in 0..self.len() {
            if !can_have(entry) {
                self.owners[entry] = 0;
            }
        }
        let mut open: EntrySet = 0;
        for (entry, (&value, &tag)) in self.values().iter().zip(tags).enumerate() {
            if value != 0 && tag == 0 {
                open |= 1 << entry;
            }
        }
        self.open |= open;
    }

    /// The map `old` is replaced by `new`.
    pub(crate) fn moved(&mut self, old: &Map, new: &Map) {
        for entry in 0..self.len() {
            let bit = 1 << entry;
            let value = self.values[entry];
            if old.target(value) != new.target(value) {
                self.open |= bit;
                self.failed &= !bit;
            }
            // Of an open entry nobody knows which value its tag in hardware came from.
            if self.open & bit != 0 && self.owners[entry] != 0 {
                self.stale |= bit;
            }
        }
    }

    /// The entries that have to be settled for `aim`, and their namespace.
    #[inline(never)]
    fn unsettled(&self, aim: Aim) -> (EntrySet, Namespace) {
        let Some(namespace) = used(aim.control) else {
            return (self.stale, self.namespace);
        };
        let open = if namespace == self.namespace {
            self.open
        } else {
            self.all()
        };
        let failed = if aim.retry { 0 } else { self.failed };
        (open & !failed | self.stale, namespace)
    }

    /// Whether hardware, which cannot be reached, may use its entries for `aim` as they are: each
    /// that is open must have none, and is written later, or that of what it stands for.
    pub(crate) fn can_wait(&self, aim: Aim, map: &Map, can_have: &dyn Fn(usize) -> bool) -> bool {
        let (mut left, namespace) = self.unsettled(aim);
        while let Some(entry) = first(left) {
            left &= left - 1;
            let owner = self.owners[entry];
            let wanted = match map.raw(self.values[entry]) {
                raw if can_have(entry) => raw,
                _ => 0,
            };
            if owner != 0 && (owner != wanted || namespace != self.namespace) {
                return false;
            }
        }
        true
    }

    /// Calls `each` with the entries whose tag in hardware comes from a map that was replaced:
    /// hardware is to have 0 there. They stay open.
    pub(crate) fn drop_stale(&mut self, each: &mut dyn FnMut(usize)) {
        while let Some(entry) = first(self.stale) {
            self.stale &= self.stale - 1;
            self.owners[entry] = 0;
            each(entry);
        }
    }

    fn all(&self) -> EntrySet {
        match self.len {
            0 => 0,
            len => EntrySet::MAX >> (64 - len.min(64)),
        }
    }

    /// Whether hardware's entries may have to change for `aim`.
    pub(crate) fn is_unsettled(&self, aim: Aim) -> bool {
        self.unsettled(aim).0 != 0
    }

    /// Calls `each` with the CPUs, by `map`, whose tags have to be known to settle entries for
    /// `aim`.
    #[inline(never)]
    pub(crate) fn targets(&self, aim: Aim, map: &Map, each: &mut dyn FnMut(Target)) {
        let mut left = self.unsettled(aim).0;
        while let Some(entry) = first(left) {
            left &= left - 1;
            match map.target(self.values[entry]) {
                Target::Nothing => (),
                target => each(target),
            }
        }
    }

    /// Finds the tag of each entry that has to be settled for `aim`. `want` takes the tag for an
    /// entry, and whether it is to be written in any case: it is of another CPU than before, or in
    /// another namespace, and how long that takes must not tell whether it is another tag.
    pub(crate) fn settle(
        &mut self,
        aim: Aim,
        world: &World<'_>,
        before: &mut Before,
        want: &mut dyn FnMut(usize, u16, bool),
    ) -> Settled {
        let mut settled = Settled::default();
        self.targets(aim, world.map, &mut |target| {
            settled.unknown |= !aim.last && (world.answer)(target) == Answer::Unknown;
        });
        if settled.unknown {
            return settled;
        }
        let (mut left, namespace) = self.unsettled(aim);
        before.keep(self, left);
        let is_other = namespace != self.namespace;
        if is_other {
            self.open = self.all();
            self.namespace = namespace;
        }
        while let Some(entry) = first(left) {
            left &= left - 1;
            let bit: EntrySet = 1 << entry;
            let value = self.values[entry];
            let mut owner = 0;
            let tag = match world.map.target(value) {
                Target::Nothing => Some(0),
                // Looked at again when its vector is allocated.
                Target::Cpu { .. } if !(world.can_have)(entry) => Some(0),
                target @ Target::Cpu { memory, .. } => match (world.answer)(target) {
                    Answer::Tags(tags) => match tags.hint(memory, namespace) {
                        Ok(hint) => {
                            owner = world.map.raw(value);
                            Some(hint.tag)
                        }
                        // What firmware marks as not valid is no tag.
                        Err(_) => Some(0),
                    },
                    Answer::Unknown | Answer::Failed => None,
                },
            };
            settled.failed += u32::from(tag.is_none());
            let old = core::mem::replace(&mut self.owners[entry], owner);
            want(
                entry,
                tag.unwrap_or(0),
                old != owner || is_other && owner != 0,
            );
            self.stale &= !bit;
            if tag.is_some() {
                self.open &= !bit;
                self.failed &= !bit;
            } else {
                self.open |= bit;
                self.failed |= bit;
            }
        }
        settled
    }
}
