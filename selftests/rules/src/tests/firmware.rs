// SPDX-License-Identifier: GPL-2.0-only

//! The answer of firmware: every combination of validity, every tag; R36, R38.

use crate::rules::{
    firmware::CpuTags,
    lookup::Hint,
    refusal::Refusal,
    source::{
        MemoryType,
        Namespace, //
    },
};

/// One half of the answer, put together as the union in drivers/pci/tph.c lays it out.
#[derive(Clone, Copy)]
struct Half {
    st: Option<u8>,
    xst: Option<u16>,
    ph_ignored: bool,
    /// What stands in the fields that are not valid, and in the reserved bits.
    rest: u32,
}

impl Half {
    fn raw(self) -> u32 {
        let field = |value: Option<u32>, shift: u32, mask: u32| match value {
            Some(value) => value << shift,
            None => self.rest & (mask << shift),
        };
        u32::from(self.st.is_some())
            | (u32::from(self.xst.is_some()) << 1)
            | (u32::from(self.ph_ignored) << 2)
            | self.rest & 0xf8
            | field(self.st.map(u32::from), 8, 0xff)
            | field(self.xst.map(u32::from), 16, 0xffff)
    }

    /// Checks what the rules find for a memory type of which this half speaks.
    fn check(self, tags: CpuTags, memory: MemoryType) {
        let expected = |tag: Option<u16>| {
            tag.ok_or(Refusal::NoTag).map(|tag| Hint {
                tag,
                ph: 0,
                ph_ignored: self.ph_ignored,
            })
        };
        assert_eq!(
            tags.hint(memory, Namespace::Standard),
            expected(self.st.map(u16::from))
        );
        assert_eq!(tags.hint(memory, Namespace::Extended), expected(self.xst));
    }
}

/// Every combination of validity and of edge values, in fields full of zeros and full of ones.
fn halves() -> Vec<Half> {
    let mut halves = Vec::new();
    for st in [None, Some(0), Some(1), Some(0x80), Some(0xff)] {
        for xst in [
            None,
            Some(0),
            Some(1),
            Some(0xff),
            Some(0x100),
            Some(0xffff),
        ] {
            for ph_ignored in [false, true] {
                for rest in [0, u32::MAX, 0x1234_56f8] {
                    halves.push(Half {
                        st,
                        xst,
                        ph_ignored,
                        rest,
                    });
                }
            }
        }
    }
    halves
}

#[test]
fn r36_r38_every_validity_of_either_memory_type() {
    for volatile in halves() {
        for persistent in halves() {
            let raw = (u64::from(persistent.raw()) << 32) | u64::from(volatile.raw());
            let tags = CpuTags::from_raw(raw);
            volatile.check(tags, MemoryType::Volatile);
            persistent.check(tags, MemoryType::Persistent);
        }
    }
}

#[test]
fn r36_every_tag_of_either_namespace() {
    for xst in 0..=u16::MAX {
        let half = Half {
            st: Some(!xst as u8),
            xst: Some(xst),
            ph_ignored: false,
            rest: 0,
        };
        let other = Half {
            st: None,
            xst: None,
            ph_ignored: true,
            rest: u32::MAX,
        };
        let tags = CpuTags::from_raw((u64::from(other.raw()) << 32) | u64::from(half.raw()));
        half.check(tags, MemoryType::Volatile);
        other.check(tags, MemoryType::Persistent);
        let tags = CpuTags::from_raw((u64::from(half.raw()) << 32) | u64::from(other.raw()));
        other.check(tags, MemoryType::Volatile);
        half.check(tags, MemoryType::Persistent);
    }
}

/// What firmware does not vouch for is refused, never turned into 0; a 0 that it does vouch for is
/// a tag.
#[test]
fn r38_not_valid_is_not_zero() {
    for memory in [MemoryType::Volatile, MemoryType::Persistent] {
        for namespace in [Namespace::Standard, Namespace::Extended] {
            let tag = |raw| {
                let hint = CpuTags::from_raw(raw).hint(memory, namespace);
                hint.map(|hint| hint.tag)
            };
            assert_eq!(tag(!0x0000_0003_0000_0003), Err(Refusal::NoTag));
            assert_eq!(tag(0), Err(Refusal::NoTag));
            assert_eq!(tag(0x0000_0003_0000_0003), Ok(0));
        }
    }
}
