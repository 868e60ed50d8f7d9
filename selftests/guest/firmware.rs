// SPDX-License-Identifier: GPL-2.0-only
//! What the test VM's firmware says about steering tags: the table of `tph.asl`,
//! for tests to compare with. Included by path; depends on nothing.
//!
//! CPU n has ACPI processor UID 2n (`selftests/run` sees to it). The odd UIDs have
//! no CPU but tags like any other, so that a CPU number taken for a UID gives a
//! wrong tag and not an error.

/// What firmware says about one kind of memory of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tags {
    /// Steering tag, if valid. Zero is a tag like any other.
    pub st: Option<u8>,
    /// Extended steering tag, if valid.
    pub xst: Option<u16>,
    /// The completer ignores the processing hint.
    pub ph_ignored: bool,
}

/// What firmware says about one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    pub volatile: Tags,
    pub persistent: Tags,
}

/// ACPI processor UID of a logical CPU.
pub const fn uid(cpu: u32) -> u32 {
    2 * cpu
}

const fn tags(st: Option<u8>, xst: Option<u16>) -> Tags {
    Tags {
        st,
        xst,
        ph_ignored: false,
    }
}

const fn ph_ignored(tags: Tags) -> Tags {
    Tags {
        ph_ignored: true,
        ..tags
    }
}

/// The CPUs that have an answer, by their number. The VM has the first four of
/// them unless `--cpus` says more.
pub const CPUS: [Cpu; 6] = [
    // Everything.
    Cpu {
        volatile: tags(Some(0x10), Some(0x1100)),
        persistent: tags(Some(0x50), Some(0x5500)),
    },
    // The same, PH ignored for volatile memory.
    Cpu {
        volatile: ph_ignored(tags(Some(0x12), Some(0x1102))),
        persistent: tags(Some(0x52), Some(0x5502)),
    },
    // Valid zeros; for persistent memory an extended tag alone.
    Cpu {
        volatile: tags(Some(0), Some(0)),
        persistent: tags(None, Some(0x5504)),
    },
    // A standard tag alone; for persistent memory nothing.
    Cpu {
        volatile: tags(Some(0x16), None),
        persistent: ph_ignored(tags(None, None)),
    },
    // Nothing for volatile memory.
    Cpu {
        volatile: tags(None, None),
        persistent: tags(Some(0x58), Some(0x5508)),
    },
    // One namespace each.
    Cpu {
        volatile: tags(None, Some(0x110a)),
        persistent: tags(Some(0x5a), None),
    },
];

/// A CPU for which firmware answers four bytes in place of eight.
pub const CPU_SHORT_ANSWER: u32 = 6;

/// A CPU for which firmware answers an integer in place of a buffer.
pub const CPU_WRONG_TYPE: u32 = 7;
