// SPDX-License-Identifier: GPL-2.0-only

//! What a guest must neither learn nor choose: a tag of the host.

use std::os::fd::AsRawFd;

use nix::sys::eventfd::EventFd;
use tph_selftests::assert_errno;
use tph_selftests::bench::{Bench, Want};
use tph_selftests::memory::page_size;
use tph_selftests::module::Gate;
use tph_selftests::monitor::meanwhile;
use tph_selftests::msix::Traits;
use tph_selftests::tph::{control, entry_offset};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, cpu_persistent, none, Source};
use tph_tests::{each_table, st, xst};
use vfio_bindings::bindings::vfio::VFIO_PCI_BAR0_REGION_INDEX;

use super::{vcpus_gone, Bed, ENTRIES, EXTENDED, STANDARD};

/// Whether an enable is taken while memory is not decoded does not tell one tag from another:
/// CPU 2 has tags, and they are 0.
pub fn r97_an_enable_tells_no_tag(bench: &mut Bench) {
    let bed = Bed::bare(bench, &Want::MSIX, Gate::Safe);
    let device = &bed.device;
    let taken = |first: Source, second: Source| {
        device.set_control(0);
        device.decode_memory(true);
        device.set_map(&[]).expect("no map");
        device.set_map(&[first, second]).expect("TPH_MAP");
        bed.write(0, &[1]);
        bed.enable(STANDARD);
        device.set_control(1);
        device.decode_memory(false);
        bed.write(0, &[2]);
        device.set_control(control(STANDARD.0, STANDARD.1));
        device.control() != 1
    };
    for second in [none(), cpu(1), cpu(3)] {
        assert_eq!(taken(cpu(0), second), taken(cpu(2), second), "{second:?}");
    }
    assert!(!taken(cpu(0), cpu(1)), "another CPU's tag is there");
    assert!(taken(none(), cpu(1)), "none is there");
    assert!(taken(cpu(2), cpu(2)), "the same CPU's is there");
    // Nor does the end of a map in D3hot.
    for number in [0, 2] {
        device.set_control(0);
        device.decode_memory(true);
        device.set_map(&[]).expect("no map");
        device.set_map(&[cpu(number)]).expect("TPH_MAP");
        bed.write(0, &[1]);
        bed.enable(STANDARD);
        device.set_control(0);
        device.set_power_state(3);
        assert_errno!(device.set_map(&[]), EIO, "CPU {number}");
        device.set_power_state(0);
    }
}

/// A map in which two CPUs can hardly be told apart by how long a write takes. The tag of CPU 2 is
/// 0, as is that of what stands for nothing.
fn telling() -> [Source; 4] {
    [none(), cpu(0), cpu(1), cpu(2)]
}

/// What an entry costs that stands for another CPU does not tell whether that one's tag is another.
pub fn r97_a_write_tells_no_tag(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Safe);
        bed.device.set_map(&telling()).expect("TPH_MAP");
        // An enable looks at one entry that is not 0: there is one in any case.
        bed.write(7, &[2]);
        for on in [STANDARD, EXTENDED] {
            bed.enable(on);
            let mut costs = Vec::new();
            for (before, after) in [(2, 3), (1, 3), (3, 1), (1, 4), (4, 1), (4, 2), (2, 4)] {
                bed.write(0, &[before]);
                let enabled = bed.accesses(|| bed.write(0, &[after]));
                bed.write(0, &[before]);
                let around = bed.accesses(|| bed.guests_way(0, after, on));
                costs.push((before, after, enabled, around));
            }
            for &(before, after, enabled, around) in &costs {
                let (_, _, first, way) = costs[0];
                assert_eq!(enabled, first, "{on:?}: {before} to {after}");
                assert_eq!(around, way, "{on:?}: {before} to {after}, off meanwhile");
            }
        }
    });
}

/// Nor does a map that replaces another one, on or off.
pub fn r97_a_map_tells_no_tag(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Safe);
        let device = &bed.device;
        let set = |source| device.set_map(&[source, cpu(0)]).expect("TPH_MAP");
        set(none());
        bed.write(0, &[1]);
        bed.write(7, &[2]);
        for (is_on, pairs) in [
            (true, &[(0, 1), (0, 2), (2, 0), (2, 1), (1, 2)][..]),
            (false, &[(0, 1), (0, 2), (2, 0), (2, 1), (1, 2)][..]),
        ] {
            let mut costs = Vec::new();
            for &(before, after) in pairs {
                set(cpu(before));
                bed.enable(STANDARD);
                if !is_on {
                    device.set_control(1);
                }
                let cost = bed.accesses(|| set(cpu(after)));
                costs.push((before, after, cost));
            }
            if is_on {
                // To and from nothing.
                for number in [1, 2] {
                    set(none());
                    let come = bed.accesses(|| set(cpu(number)));
                    let go = bed.accesses(|| set(none()));
                    costs.push((255, number, come));
                    costs.push((number, 255, go));
                }
            }
            for &(before, after, cost) in &costs {
                let what = format!("on {is_on}: CPU {before} to {after}");
                assert_eq!(cost, costs[0].2, "{what}");
            }
        }
    });
}

/// Nor does an enable in the other namespace: CPU 2 has 0 in both.
pub fn r97_a_namespace_tells_no_tag(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Safe);
        bed.device.set_map(&telling()).expect("TPH_MAP");
        bed.write(7, &[2]);
        let costs = [3, 4].map(|tag| {
            bed.write(0, &[tag]);
            bed.enable(STANDARD);
            bed.device.set_control(1);
            let there = bed.accesses(|| bed.enable(EXTENDED));
            bed.device.set_control(1);
            let back = bed.accesses(|| bed.enable(STANDARD));
            bed.device.set_control(1);
            (there, back)
        });
        assert_eq!(costs[0], costs[1]);
    });
}

/// The pages of the MSI-X table stay out of reach.
fn nobody_reaches_the_table(bed: &Bed) {
    const BAR: u32 = VFIO_PCI_BAR0_REGION_INDEX;
    let table = Traits::of(&bed.endpoint.bdf)
        .expect("a device with TPH")
        .table;
    let start = table - table % page_size() as u64;
    let page = start..start + page_size() as u64;
    let mapped = bed.device.map_bar(BAR, page.clone());
    assert_errno!(mapped.map(drop), EINVAL);
    let exported = bed.device.export_dma_buf(BAR, &[page]);
    assert_errno!(exported.map(drop), EPERM);
    let before = bed.endpoint.entries();
    let event = EventFd::new().expect("eventfd");
    for vector in 0..u64::from(ENTRIES) {
        let control = table + 16 * vector + 12;
        let result = bed
            .device
            .ioeventfd(BAR, control, 0xffff_0000, event.as_raw_fd());
        assert_errno!(result, EINVAL, "an ioeventfd");
        for width in [1, 2, 4] {
            let _ = bed.device.write_bar(BAR, control, &vec![0xaa; width]);
            let _ = bed.device.write_bar(BAR, control + 2, &vec![0xaa; width]);
        }
    }
    assert_eq!(bed.endpoint.entries(), before, "writes of the BAR");
    // vfio-pci-core answers reads of the table with all ones.
    let mut seen = vec![0; 16 * usize::from(ENTRIES)];
    let got = bed.device.read_bar(BAR, table, &mut seen);
    assert!(
        got.is_err() || seen.iter().all(|&byte| byte == 0xff),
        "{seen:x?}"
    );
}

/// Below the line nothing that the guest reads has a tag of the host in it.
pub fn r97_no_tag_is_seen(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        bench.each([false, true], |bench, by_admin| {
            let bed = match by_admin {
                false => Bed::new(bench, want, Gate::Safe),
                true => Bed::with_vcpus(bench, want, Gate::Safe, "0,1,-,3,1"),
            };
            let tags = [1, 2, 3, 4, 1, 2, 3, 4];
            let off = bed.device.config_space();
            bed.write(0, &tags);
            bed.enable(STANDARD);
            let space = bed.device.config_space();
            let at = usize::from(bed.device.tph_offset());
            let table = at + 12..at + 12 + 2 * tags.len();
            for (offset, (now, before)) in space.iter().zip(&off).enumerate() {
                let is_register = (at + 8..at + 12).contains(&offset);
                if table.contains(&offset) {
                    let tag = tags[(offset - table.start) / 2].to_le_bytes();
                    assert_eq!(*now, tag[(offset - table.start) % 2], "{offset:#x}");
                } else if !is_register {
                    assert_eq!(now, before, "{offset:#x}");
                }
            }
            if want.in_msix {
                nobody_reaches_the_table(&bed);
            }
            let refused = bed.device.resolve(&[cpu(0)], false);
            assert_errno!(refused.map(drop), EPERM);
            // Literal values of the host's tags stand for nothing.
            for value in [st(0), xst(0), st(1), xst(1), 0xff, 0x100, 0xffff] {
                for on in [STANDARD, EXTENDED] {
                    bed.enable(on);
                    bed.write(0, &[value]);
                    let entry = bed.endpoint.entries()[0];
                    assert_eq!(entry, 0, "{value:#x}");
                }
            }
            if by_admin {
                vcpus_gone(bed);
            }
        });
    });
}

/// Whatever is written to Control and the table, of whatever width and wherever: reads give what
/// was written, and hardware has the tags of the guest's CPUs in the namespace in force, or none.
pub fn r97_whatever_is_written(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Safe);
        let sources = [cpu(1), none(), cpu_persistent(1)];
        bed.device.set_map(&sources).expect("TPH_MAP");
        let meaning = |value: u16, extended: bool| match (value, extended) {
            (1, false) => st(1),
            (1, true) => xst(1),
            (3, false) => 0x52,
            (3, true) => 0x5502,
            _ => 0,
        };
        let size = 2 * usize::from(bed.device.tph().expect("GET").st_entries);
        let start = bed.device.tph_offset() + PCI_TPH_CTRL as u16;
        let (mut table, mut enabled) = (vec![0u8; size], [0; 2]);
        let mut random = fastrand::Rng::with_seed(97);
        for round in 0..400 {
            let room = 4 + if random.bool() {
                2 * usize::from(ENTRIES)
            } else {
                size
            };
            let offset = random.usize(0..room);
            let width = random.usize(1..=8.min(room - offset));
            let bytes: Vec<u8> = (offset..offset + width)
                .map(|at| match (at, random.u8(0..8)) {
                    (0, 0..6) => 1,
                    (1, 0..6) => random.choice([0, 1, 3]).expect("one of them"),
                    (_, 0) => random.u8(..),
                    (_, 1) => 3,
                    (_, 2..5) => 1,
                    _ => 0,
                })
                .collect();
            let what = format!("round {round}: {bytes:x?} at {offset}");
            bed.device.set_config(start + offset as u16, &bytes);
            for (at, byte) in (offset..).zip(bytes) {
                if at >= 4 {
                    table[at - 4] = byte;
                }
            }
            let mut read = vec![0; size];
            let got = bed.device.read_config(start + 4, &mut read);
            assert_eq!((got.expect("a read"), &read), (size, &table), "{what}");

            let registers = bed.endpoint.registers();
            let now = bed.device.control();
            assert_eq!(registers.control, now, "{what}");
            let entries = bed.endpoint.entries();
            let extended = match now {
                now if now == control(STANDARD.0, STANDARD.1) => Some(false),
                now if now == control(EXTENDED.0, EXTENDED.1) => Some(true),
                _ => None,
            };
            for (index, &tag) in entries.iter().enumerate() {
                let value = table.get(2 * index..2 * index + 2);
                let value = value.map_or(0, |pair| u16::from_le_bytes([pair[0], pair[1]]));
                let has_vector = !want.in_msix || index < ENTRIES.into();
                match extended {
                    Some(extended) if has_vector => {
                        assert_eq!(tag, meaning(value, extended), "{what}: entry {index}");
                    }
                    Some(_) => assert_eq!(tag, 0, "{what}: entry {index}"),
                    None => {
                        let known = [0, st(1), xst(1), 0x52, 0x5502];
                        assert!(known.contains(&tag), "{what}: entry {index}: {tag:x}");
                    }
                }
            }
            if let Some(extended) = extended {
                enabled[usize::from(extended)] += 1;
            }
        }
        println!("# in force in each namespace: {enabled:?} of 400");
        assert!(enabled.iter().all(|&rounds| rounds > 20), "{enabled:?}");
        bed.endpoint.assert_kernel_agrees();
    });
}

/// Resets while entries are written: no tag is in force that the guest does not read, and none of
/// before a reset stays.
pub fn r97_reset_in_the_middle(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let device = &bed.device;
        let at = entry_offset(device.tph_offset(), 0);
        let write = || {
            device.set_control(control(STANDARD.0, STANDARD.1));
            for entry in 0..4u16 {
                device.set_config(at + 2 * entry, &(1 + entry % 2).to_le_bytes());
            }
        };
        meanwhile(write, || {
            for _ in 0..10 {
                device.reset().expect("VFIO_DEVICE_RESET");
                let entries = bed.endpoint.entries();
                for (index, &tag) in entries.iter().enumerate() {
                    let possible = [0, if index % 2 == 0 { st(0) } else { st(1) }];
                    assert!(
                        possible.contains(&tag) && (index < 4 || tag == 0),
                        "{index}: {tag:x}"
                    );
                }
            }
        });
        device.reset().expect("VFIO_DEVICE_RESET");
        bed.endpoint.assert_off("a reset");
        assert_eq!(bed.read(4), [0; 4]);
        bed.write(0, &[2, 1]);
        bed.enable(EXTENDED);
        bed.assert_means(&[2, 1], true, "after all");
    });
}
