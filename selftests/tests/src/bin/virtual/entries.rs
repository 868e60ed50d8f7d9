// SPDX-License-Identifier: GPL-2.0-only

//! A guest's writes to its entries and to Control, and what they cost.

use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::module::Gate;
use tph_selftests::tph::{control, entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vcpus;
use tph_selftests::vfio::cpu;
use tph_tests::{each_table, each_table_and_gate, st};

use super::{counter, map, meaning, vcpus_gone, Bed, ENTRIES, EXTENDED, STANDARD};

/// One byte, a word, a dword, and more than that, at each place.
pub fn r94_every_width(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let bed = Bed::new(bench, want, gate);
        bed.enable(EXTENDED);
        let shown = usize::from(bed.device.tph().expect("GET").st_entries);
        let at = entry_offset(bed.device.tph_offset(), 0);
        let mut bytes = vec![0u8; 2 * shown];
        let room = usize::from(ENTRIES) * 2;
        for (width, value) in [1, 2, 3, 4, 5, 8, 15]
            .into_iter()
            .zip([1u8, 2, 5, 0, 4, 1, 2])
        {
            for offset in 0..=room - width {
                let written: Vec<u8> = (0..width)
                    .map(|byte| if (offset + byte) % 2 == 0 { value } else { 0 })
                    .collect();
                bed.device.set_config(at + offset as u16, &written);
                bytes[offset..offset + width].copy_from_slice(&written);
            }
            let mut read = vec![0; bytes.len()];
            let got = bed.device.read_config(at, &mut read);
            assert_eq!(got.expect("a read"), bytes.len());
            assert_eq!(read, bytes, "{width}");
            let tags: Vec<u16> = bytes
                .chunks(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect();
            bed.assert_means(&tags[..ENTRIES.into()], true, &format!("width {width}"));
        }
        // One byte changes its half: 0101h is no tag, in either namespace.
        bed.write(0, &[1]);
        bed.device.set_config(at + 1, &[1]);
        assert_eq!(bed.read(1), [0x101]);
        assert_eq!(bed.endpoint.entries()[0], 0);
        bed.enable(STANDARD);
        assert_eq!(bed.endpoint.entries()[0], 0);
        bed.device.set_config(at + 1, &[0]);
        assert_eq!(bed.endpoint.entries()[0], st(0));
        // Reads of any kind.
        let space = bed.device.config_space();
        let start = usize::from(at) - 3;
        for length in 1..40 {
            let mut read = vec![0; length];
            bed.device
                .read_config(start as u16, &mut read)
                .expect("a read");
            assert_eq!(read, space[start..start + length]);
        }
    });
}

/// A write across the end of the table, and one that has Control in it.
pub fn r94_writes_that_reach_beyond(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let shown = bed.device.tph().expect("GET").st_entries;
        let at = bed.device.tph_offset();
        let end = entry_offset(at, shown);
        let before = bed.device.config_space();
        bed.device.set_config(end - 2, &[2, 0, 0xff, 0xff]);
        let after = bed.device.config_space();
        assert_eq!(bed.device.config_word(end - 2), 2);
        assert_eq!(after[usize::from(end)..], before[usize::from(end)..]);
        // What is behind the table is nobody's: vfio-pci-core writes it.
        bed.endpoint.clear_violations();

        // Entries first, then Control, as one.
        let mut bytes = control(STANDARD.0, STANDARD.1).to_le_bytes().to_vec();
        bytes.extend([1, 0, 2, 0, 3, 0, 4, 0]);
        bed.device.set_config(at + PCI_TPH_CTRL as u16, &bytes);
        assert_eq!(bed.device.control(), control(STANDARD.0, STANDARD.1));
        assert_eq!(bed.read(4), [1, 2, 3, 4]);
        let expected: Vec<u16> = [1, 2, 3, 4].map(|tag| meaning(tag, false)).to_vec();
        assert_eq!(bed.endpoint.entries()[..4], expected);
        // All of the capability, from the header on; and Control that cannot be.
        let mut bytes = vec![0xff; 8];
        bytes.extend([7, 7, 7, 7, 2, 0, 1, 0]);
        bed.device.set_config(at, &bytes);
        assert_eq!(bed.device.control(), control(STANDARD.0, STANDARD.1));
        assert_eq!(bed.read(2), [2, 1]);
        assert_eq!(bed.endpoint.entries()[..2], [st(1), st(0)]);
        bed.device.set_config(0, &after[..0x40]);
    });
}

pub fn r94_namespaces(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let bed = Bed::new(bench, want, gate);
        let tags = [1, 2, 3, 4, 5, 6, 0x101, 0xffff];
        bed.write(0, &tags);
        bed.assert_holds(&[], "off");
        for _ in 0..2 {
            bed.enable(STANDARD);
            bed.assert_means(&tags, false, "01b");
            bed.enable(EXTENDED);
            bed.assert_means(&tags, true, "11b");
        }
        bed.enable((StMode::NoSt, Requester::Standard));
        bed.write(0, &[2]);
        bed.assert_means(&tags, true, "No ST: nothing is written");
        bed.enable(STANDARD);
        assert_eq!(bed.endpoint.entries()[0], st(1));
        assert_eq!(bed.read(8)[1..], tags[1..]);
    });
}

/// Off, nothing is written; the guest's way to change one entry costs no more with a full table
/// than with an empty one, and the entry no more than by TPH_ST.
pub fn r94_one_entry_costs_one_entry(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Safe);
        bed.enable(STANDARD);
        bed.device.program(0, &[cpu(1)]).expect("TPH_ST");
        let by_call = bed.accesses(|| bed.device.program(0, &[cpu(0)]).expect("TPH_ST"));
        bed.device.set_control(0);
        bed.device.set_map(&map()).expect("TPH_MAP");
        bed.write(0, &[1]);
        bed.enable(STANDARD);

        let by_write = bed.accesses(|| bed.write(0, &[2]));
        assert_eq!(by_write, by_call, "enabled");
        assert_eq!(bed.accesses(|| bed.write(0, &[2])), [0; 4], "no change");
        assert_eq!(bed.accesses(|| drop(bed.read(ENTRIES))), [0; 4], "reads");

        let one = bed.accesses(|| bed.guests_way(1, 1, STANDARD));
        bed.write(0, &[1, 2, 4, 1, 2, 4, 1, 2]);
        let full = bed.accesses(|| bed.guests_way(1, 1, STANDARD));
        assert_eq!(full, one, "a full table");
        bed.device.set_control(1);
        assert_eq!(bed.accesses(|| bed.write(1, &[2])), [0; 4], "off");
        println!("# by call {by_call:?}, the guest's way {one:?}");
        bed.assert_means(&[1, 1, 4, 1, 2, 4, 1, 2], false, "off");
        bed.enable(STANDARD);
        bed.assert_means(&[1, 2, 4, 1, 2, 4, 1, 2], false, "on");
    });
}

/// Writes, maps and reads of the table at once: what is in force in the end is what was written
/// last, by the map that was set last.
pub fn r94_all_at_once(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::with_vcpus(bench, want, Gate::Safe, "0,1");
        bed.enable(STANDARD);
        let device = &bed.device;
        let at = entry_offset(device.tph_offset(), 0);
        let bdf = bed.endpoint.bdf.clone();
        thread::scope(|scope| {
            for entry in 0..3u16 {
                scope.spawn(move || {
                    for round in 0..100u16 {
                        let tag = 1 + round % 2;
                        device.set_config(at + 2 * entry, &tag.to_le_bytes());
                        assert_eq!(device.config_word(at + 2 * entry), tag);
                    }
                });
            }
            scope.spawn(move || {
                for round in 0..50 {
                    let list = ["1,0", "0,1"][round % 2];
                    vcpus::write(&bdf, list).expect("tph_vcpus");
                }
            });
        });
        bed.assert_holds(&[st(1); 3], "in the end");
        vcpus_gone(bed);
    });
}

/// Look-ups of a CPU that fail, writes that are taken, and such as are not.
pub fn r94_what_is_counted(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Safe);
        // Firmware's answer for CPU 6 is too short.
        bed.device.set_map(&[cpu(0), cpu(6)]).expect("TPH_MAP");
        let names = [
            "failed_lookups",
            "guest_writes",
            "config_writes",
            "dropped_writes",
            "table_writes",
        ];
        let counted = |body: &dyn Fn()| {
            let before = names.map(|name| counter(&bed.endpoint, name));
            body();
            let mut after = names.map(|name| counter(&bed.endpoint, name));
            after
                .iter_mut()
                .zip(before)
                .for_each(|(now, then)| *now -= then);
            after
        };
        let on = control(STANDARD.0, STANDARD.1);
        assert_eq!(counted(&|| bed.write(0, &[1, 2])), [0, 1, 0, 0, 0], "off");
        assert_eq!(
            counted(&|| bed.enable(STANDARD)),
            [1, 0, 1, 0, 1],
            "enabled"
        );
        bed.assert_holds(&[st(0)], "no tag of CPU 6");
        assert_eq!(bed.read(2), [1, 2]);
        assert_eq!(
            counted(&|| bed.write(2, &[1])),
            [0, 1, 0, 0, 1],
            "another entry"
        );
        assert_eq!(
            counted(&|| bed.write(1, &[2])),
            [1, 1, 0, 0, 0],
            "tried again"
        );
        bed.device.set_control(1);
        assert_eq!(
            counted(&|| bed.device.set_control(on)),
            [1, 0, 1, 0, 0],
            "likewise"
        );
        let bad = [7, 0, 0, 0, 1, 0];
        let at = bed.device.tph_offset() + PCI_TPH_CTRL as u16;
        let both = counted(&|| bed.device.set_config(at, &bad));
        assert_eq!(
            both,
            [0, 1, 0, 1, 0],
            "no such mode, and an entry as it was"
        );
        bed.device.set_power_state(3);
        assert_eq!(counted(&|| bed.write(0, &[2])), [0, 1, 0, 1, 0], "asleep");
        bed.device.set_power_state(0);
        assert_eq!(bed.read(1), [1]);
    });
}
