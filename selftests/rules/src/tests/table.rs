// SPDX-License-Identifier: GPL-2.0-only

//! The plan of writes to a table in the capability; R39 and the cost of a batch.

use crate::rules::writes::{
    clearing,
    Width,
    Write,
    Writes, //
};

/// Every range of a table of every size, on a table in memory: what was asked for is there, nothing
/// else was written, and nothing more often than needed.
#[test]
fn r39_every_range_of_every_table() {
    // A capability: the registers, the table, and what is behind it.
    const OLD: u8 = 0xee;
    let tag = |entry: usize| (0x0100 * (entry as u16 + 1) + 0x00a5) ^ entry as u16;

    for size in 1..=64usize {
        for index in 0..size {
            for count in 1..=size - index {
                let tags: Vec<u16> = (index..index + count).map(tag).collect();
                let mut written = [OLD; 12 + 2 * 64 + 8];
                let mut touched = [0u8; 12 + 2 * 64 + 8];
                let mut accesses = 0;
                for (offset, write) in Writes::new(index as u16, &tags) {
                    let bytes = match write {
                        Write::Word(value) => value.to_le_bytes().to_vec(),
                        Write::Dword(value) => value.to_le_bytes().to_vec(),
                    };
                    let offset = usize::from(offset);
                    assert_eq!(offset % bytes.len(), 0, "unaligned");
                    for (place, byte) in (offset..).zip(bytes) {
                        written[place] = byte;
                        touched[place] += 1;
                    }
                    accesses += 1;
                }

                let start = 12 + 2 * index;
                let end = start + 2 * count;
                for place in 0..written.len() {
                    let (expected, times) = if (start..end).contains(&place) {
                        let entry = (place - 12) / 2;
                        (tag(entry).to_le_bytes()[place % 2], 1)
                    } else {
                        (OLD, 0)
                    };
                    assert_eq!(
                        (written[place], touched[place]),
                        (expected, times),
                        "byte {place:#x}, {count} entries from {index}"
                    );
                }
                assert!(
                    accesses <= count.div_ceil(2) + 1,
                    "{accesses} writes for {count} entries from {index}"
                );
                if index % 2 == 0 {
                    assert_eq!(accesses, count.div_ceil(2));
                }
            }
        }
    }
}

/// The budget for a whole batch is ceil(n / 2) + 4, of which off and on take two: the
/// table may need at most ceil(n / 2) + 1.
#[test]
fn r39_the_whole_table_is_written_in_pairs() {
    let tags = [0x1234; 64];
    assert_eq!(Writes::new(0, &tags).count(), 32);
    assert!(Writes::new(0, &tags).all(|(_, write)| write == Write::Dword(0x1234_1234)));
    assert_eq!(Writes::new(1, &tags[1..]).count(), 32);
    assert_eq!(Writes::new(5, &[]).count(), 0);
}

/// Every range of bytes is cleared once, by aligned writes that touch no other byte.
#[test]
fn r75_every_range_is_cleared_and_no_more() {
    for start in 12..28u16 {
        for end in start..44 {
            let mut at = start;
            for (offset, width) in clearing(start..end) {
                let len = match width {
                    Width::Byte => 1,
                    Width::Word => 2,
                    Width::Dword => 4,
                };
                assert_eq!((offset, offset % len), (at, 0), "{start}..{end}");
                at += len;
            }
            assert_eq!(at, end, "{start}..{end}");
        }
    }
}
