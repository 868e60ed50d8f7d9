// SPDX-License-Identifier: GPL-2.0-only

//! Virtual tags: what a guest writes to the table that it is shown, and what hardware gets for it.

use std::fs;
use std::process::ExitCode;
use std::rc::Rc;
use std::thread;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::cgroup::Cgroup;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::memory::PAGE;
use tph_selftests::module::Gate;
use tph_selftests::monitor::wait_until;
use tph_selftests::msix::Traits;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::{Fault, Position, Table, TphShape};
use tph_selftests::tph::{claimed_entries, control, entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vcpus;
use tph_selftests::vfio::{
    cpu, cpu_persistent, literal, none, source, Device, MapRequest, Op, Source, StRequest, Vectors,
    FAULT_UNTOUCHED,
};
use tph_selftests::{assert_errno, tests, Errno};
use tph_tests::{each_table, each_table_and_gate, raise_all, st, xst};
use vfio_bindings::bindings::vfio::VFIO_PCI_BAR0_REGION_INDEX;

/// What most tests give a guest: virtual tag 1 is CPU 0, and so on. One stands for nothing, one for
/// a CPU that has a standard tag alone, one for persistent memory.
fn map() -> Vec<Source> {
    vec![cpu(0), cpu(1), none(), cpu(3), cpu_persistent(1)]
}

/// The tag that hardware is to have for a virtual one.
fn meaning(tag: u16, extended: bool) -> u16 {
    match (tag, extended) {
        (1, false) => st(0),
        (1, true) => xst(0),
        (2, false) => st(1),
        (2, true) => xst(1),
        (4, false) => st(3),
        (5, false) => 0x52,
        (5, true) => 0x5502,
        _ => 0,
    }
}

const STANDARD: (StMode, Requester) = (StMode::InterruptVector, Requester::Standard);
const EXTENDED: (StMode, Requester) = (StMode::InterruptVector, Requester::Extended);
const ENTRIES: u16 = 8;

/// A guest's device.
struct Bed {
    endpoint: Rc<Endpoint>,
    device: Device,
    vectors: Option<Vectors>,
}

/// A device that is bound, with the policy that a gate gives it, and no CPUs of an administrator's.
fn take(bench: &mut Bench, want: &Want, gate: Gate) -> Rc<Endpoint> {
    let endpoint = bench.pick(want);
    policy::bind_under(&endpoint, gate, Policy::of(gate));
    vcpus::write(&endpoint.bdf, "").expect("tph_vcpus");
    endpoint
}

impl Bed {
    /// Opens a device, without a map.
    fn bare(bench: &mut Bench, want: &Want, gate: Gate) -> Self {
        let endpoint = take(bench, want, gate);
        Self::open(endpoint, want.in_msix)
    }

    fn open(endpoint: Rc<Endpoint>, in_msix: bool) -> Self {
        let device = endpoint.open();
        let vectors = in_msix.then(|| {
            Vectors::allocate(&device, u32::from(ENTRIES)).expect("SET_IRQS of some vectors")
        });
        Self {
            endpoint,
            device,
            vectors,
        }
    }

    /// The same, with the map.
    fn new(bench: &mut Bench, want: &Want, gate: Gate) -> Self {
        let bed = Self::bare(bench, want, gate);
        bed.device.set_map(&map()).expect("TPH_MAP");
        bed
    }

    /// As an administrator has it, by tph_vcpus.
    fn with_vcpus(bench: &mut Bench, want: &Want, gate: Gate, list: &str) -> Self {
        let endpoint = take(bench, want, gate);
        vcpus::write(&endpoint.bdf, list).expect("tph_vcpus");
        Self::open(endpoint, want.in_msix)
    }

    /// Writes entries.
    #[track_caller]
    fn write(&self, index: u16, tags: &[u16]) {
        let bytes: Vec<u8> = tags.iter().flat_map(|tag| tag.to_le_bytes()).collect();
        let at = entry_offset(self.device.tph_offset(), index);
        self.device.set_config(at, &bytes);
    }

    /// Entries as the guest sees them.
    #[track_caller]
    fn read(&self, count: u16) -> Vec<u16> {
        let at = entry_offset(self.device.tph_offset(), 0);
        (0..count)
            .map(|index| self.device.config_word(at + 2 * index))
            .collect()
    }

    fn enable(&self, (mode, requester): (StMode, Requester)) {
        self.device.enable(mode, requester);
    }

    /// Fails the test unless hardware's first entries are what these virtual tags stand for.
    #[track_caller]
    fn assert_means(&self, tags: &[u16], extended: bool, what: &str) {
        let expected: Vec<u16> = tags.iter().map(|&tag| meaning(tag, extended)).collect();
        self.assert_holds(&expected, what);
    }

    /// Fails the test unless hardware's first entries are these, and the others 0.
    #[track_caller]
    fn assert_holds(&self, expected: &[u16], what: &str) {
        let entries = self.endpoint.entries();
        assert_eq!(entries[..expected.len()], *expected, "{what}");
        assert!(
            entries[expected.len()..].iter().all(|&tag| tag == 0),
            "{what}: {entries:x?}"
        );
        self.endpoint.assert_kernel_agrees();
    }

    /// Accesses that `body` costs: config reads and writes, MMIO reads and writes.
    fn accesses(&self, body: impl FnOnce()) -> [u64; 4] {
        self.endpoint.reset_counters();
        body();
        let counters = self.endpoint.counters();
        [
            counters.config_read,
            counters.config_write,
            counters.mmio_read,
            counters.mmio_write,
        ]
    }

    /// The guest's way to change one entry: disable, write, enable.
    fn guests_way(&self, index: u16, tag: u16, on: (StMode, Requester)) {
        let (mode, requester) = on;
        self.device.set_control(control(mode, Requester::Disabled));
        self.write(index, &[tag]);
        self.device.set_control(control(mode, requester));
    }
}

fn probe_map(device: &Device) -> Result<(), Errno> {
    device.feature(Op::ProbeSet, VFIO_DEVICE_FEATURE_TPH_MAP, &mut [])
}

fn r93_shape(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let bed = Bed::bare(bench, want, gate);
        let device = &bed.device;
        probe_map(device).expect("PROBE");
        let mut get = [0; 16];
        let index = VFIO_DEVICE_FEATURE_TPH_MAP;
        assert_errno!(device.feature(Op::Get, index, &mut get), EINVAL);
        assert_errno!(device.feature(Op::ProbeGet, index, &mut []), EINVAL);
        let full = vec![none(); 255];
        for (what, mut request) in [
            (
                "flags",
                MapRequest {
                    flags: 1,
                    ..MapRequest::new(&map())
                },
            ),
            (
                "reserved",
                MapRequest {
                    reserved: 1,
                    ..MapRequest::new(&map())
                },
            ),
            (
                "256",
                MapRequest::new(&[full.clone(), full].concat()[..256]),
            ),
            (
                "count",
                MapRequest {
                    count: Some(6),
                    ..MapRequest::new(&map())
                },
            ),
            (
                "argsz",
                MapRequest {
                    data_size: Some(15),
                    ..MapRequest::new(&[])
                },
            ),
        ] {
            assert_errno!(device.tph_map(&mut request), EINVAL, "{what}");
            assert_eq!(request.fault, FAULT_UNTOUCHED, "{what}");
        }
        device.set_map(&vec![none(); 255]).expect("255 tags");
    });
}

fn r93_sources(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let bed = Bed::bare(bench, want, gate);
        let before = bed.device.config_space();
        for (bad, errno) in [
            (source(VFIO_TPH_SOURCE_CPU, 2, 0), Errno::EINVAL),
            (source(VFIO_TPH_SOURCE_NONE, 0, 1), Errno::EINVAL),
            (source(VFIO_TPH_SOURCE_NONE, 1, 0), Errno::EINVAL),
            (source(VFIO_TPH_SOURCE_DMABUF, 0, 0), Errno::EINVAL),
            (literal(1), Errno::EINVAL),
            (source(7, 0, 0), Errno::EINVAL),
            (cpu(u32::MAX), Errno::EINVAL),
            (cpu(4096), Errno::EINVAL),
        ] {
            for position in 0..3 {
                let mut sources = vec![cpu(0); 3];
                sources[position] = bad;
                let mut request = MapRequest::new(&sources);
                assert_eq!(
                    bed.device.tph_map(&mut request),
                    Err(errno),
                    "{bad:?} at {position}"
                );
                assert_eq!(request.fault, position as u32, "{bad:?}");
            }
        }
        assert_eq!(bed.device.config_space(), before, "nothing has changed");
        assert_eq!(
            bed.device.tph().expect("GET").flags & VFIO_TPH_FLAG_VIRTUAL,
            0
        );
    });
}

fn r93_what_is_shown(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let bed = Bed::bare(bench, want, gate);
        let before = bed.device.tph().expect("GET");
        let (space, hardware) = (bed.device.config_space(), bed.endpoint.entries().len());
        bed.device.set_map(&map()).expect("TPH_MAP");
        let offer = bed.device.tph().expect("GET");
        let gone = VFIO_TPH_FLAG_ST_MSIX
            | VFIO_TPH_FLAG_ST
            | VFIO_TPH_FLAG_LITERAL
            | VFIO_TPH_FLAG_ST_DMABUF;
        let there = VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_VIRTUAL;
        assert_eq!(offer.flags, before.flags & !gone | there);
        assert_eq!(usize::from(offer.st_entries), hardware.min(64));
        assert_eq!(u32::from(offer.modes), VFIO_TPH_MODE_NS | VFIO_TPH_MODE_IV);
        let capability = bed.device.tph_capability();
        assert_eq!(usize::from(claimed_entries(capability)), hardware.min(64));
        assert_eq!(capability & 7, VFIO_TPH_MODE_NS | VFIO_TPH_MODE_IV);

        // Device Specific mode is not there.
        let specific = control(StMode::DeviceSpecific, Requester::Standard);
        bed.device.set_control(specific);
        assert_eq!(bed.device.control(), 0);

        let mut request = StRequest::new(0, &[cpu(0)]);
        assert_errno!(bed.device.tph_st(&mut request), EBUSY);
        let index = VFIO_DEVICE_FEATURE_TPH_ST;
        assert_errno!(bed.device.feature(Op::ProbeSet, index, &mut []), EBUSY);

        bed.device.set_map(&[]).expect("the map is taken away");
        let after = bed.device.tph().expect("GET");
        assert_eq!(
            (after.flags, after.st_entries, after.modes),
            (before.flags, before.st_entries, before.modes)
        );
        let at = usize::from(bed.device.tph_offset());
        let register = at + 4..at + 12;
        assert_eq!(bed.device.config_space()[register.clone()], space[register]);
        bed.enable(STANDARD);
        bed.device.program(0, &[cpu(0)]).expect("TPH_ST again");
    });
}

fn r93_busy(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::bare(bench, want, Gate::Safe);
        bed.device.set_map(&[]).expect("none to none");
        bed.enable(STANDARD);
        bed.device.program(0, &[cpu(1)]).expect("TPH_ST");
        assert_errno!(bed.device.set_map(&map()), EBUSY, "enabled");
        bed.device.set_map(&[]).expect("none to none, enabled");
        assert_eq!(bed.endpoint.entries()[0], st(1), "nothing has changed");
        bed.device.set_control(1);
        bed.device.set_map(&map()).expect("disabled");
        bed.assert_holds(&[], "the first map clears all");
        bed.write(0, &[1]);
        bed.enable(STANDARD);
        assert_errno!(bed.device.set_map(&[]), EBUSY, "enabled");
        bed.assert_means(&[1], false, "still there");
        bed.device.set_control(1);
        bed.device.set_map(&[]).expect("disabled");
        bed.assert_holds(&[], "the last one, too");
        // Busy comes before the sources.
        bed.enable(STANDARD);
        assert_errno!(bed.device.set_map(&[literal(1)]), EBUSY);
        bed.device.set_control(0);
        assert_errno!(bed.device.set_map(&[literal(1)]), EINVAL);
    });
}

fn r93_not_for_every_device(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = bench.pick(want);
        policy::bind(&endpoint, Policy::NoSt);
        vcpus::write(&endpoint.bdf, "0,1").expect("tph_vcpus is kept");
        let device = endpoint.open();
        assert_errno!(probe_map(&device), EOPNOTSUPP);
        assert_errno!(device.set_map(&map()), EOPNOTSUPP);
        assert_errno!(vcpus::write(&endpoint.bdf, "1,0"), EBUSY, "unused");
        assert_eq!(vcpus::shown(&endpoint.bdf), "0,1");
        assert_eq!(device.tph().expect("GET").flags & VFIO_TPH_FLAG_VIRTUAL, 0);
        drop(device);
        vcpus::write(&endpoint.bdf, "").expect("empty");
    });
}

fn r93_vcpus(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let endpoint = take(bench, want, Gate::Safe);
        let bdf = &endpoint.bdf;
        assert_eq!(vcpus::shown(bdf), "");
        let long: Vec<String> = (0..256).map(|_| "0".to_owned()).collect();
        for bad in [
            "a",
            ",",
            "0,",
            ",0",
            "1-0",
            "0-",
            "-1",
            "--",
            "0 1",
            "0,,1",
            "0x1",
            "99999999999",
            "4096",
            "0-4096",
            &long.join(","),
        ] {
            assert_errno!(vcpus::write(bdf, bad), EINVAL, "{bad:?}");
            assert_eq!(vcpus::shown(bdf), "", "{bad:?}");
        }
        for (list, shown) in [
            ("2,0,3,1", "2,0,3,1"),
            ("0-3", "0,1,2,3"),
            ("1,1,-,0-1", "1,1,-,0,1"),
            (&long[..255].join(","), &long[..255].join(",")),
            ("", ""),
        ] {
            vcpus::write(bdf, list).unwrap_or_else(|error| panic!("{list}: {error}"));
            assert_eq!(vcpus::shown(bdf), shown);
        }

        // Who has it open without a map gets none, and who has one keeps it.
        let bed = Bed::open(endpoint.clone(), want.in_msix);
        assert_errno!(vcpus::write(bdf, "0"), EBUSY, "open without a map");
        bed.device.set_map(&map()).expect("TPH_MAP");
        assert_errno!(vcpus::write(bdf, "0"), EBUSY, "a map by the feature");
        drop(bed);

        vcpus::write(bdf, "1,0,-").expect("tph_vcpus");
        for _ in 0..2 {
            let bed = Bed::open(endpoint.clone(), want.in_msix);
            let flags = bed.device.tph().expect("GET").flags;
            assert_ne!(flags & VFIO_TPH_FLAG_VIRTUAL, 0);
            for sources in [&map()[..], &[]] {
                assert_errno!(bed.device.set_map(sources), EBUSY, "it is root's");
            }
            assert_errno!(vcpus::write(bdf, ""), EBUSY, "not empty while open");
            assert_eq!(vcpus::shown(bdf), "1,0,-");
            bed.write(0, &[1, 2, 3, 4]);
            bed.enable(STANDARD);
            bed.assert_holds(&[st(1), st(0)], "by tph_vcpus");
            // The guest's CPUs are moved while it runs; one more comes.
            vcpus::write(bdf, "0,1,3,0").expect("moved");
            bed.assert_holds(&[st(0), st(1), st(3), st(0)], "moved");
            assert_eq!(bed.read(4), [1, 2, 3, 4]);
            vcpus::write(bdf, "1,0,-").expect("moved back");
            bed.assert_holds(&[st(1), st(0)], "moved back");
        }
        vcpus::write(bdf, "").expect("empty");
        let device = endpoint.open();
        assert_eq!(device.tph().expect("GET").flags & VFIO_TPH_FLAG_VIRTUAL, 0);
    });
}

/// A new map reaches hardware also while TPH is off, unless nothing of the old one is there.
fn r93_moved_while_off(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        bed.write(0, &[1, 2]);
        let cost = bed.accesses(|| bed.device.set_map(&[cpu(1), cpu(0)]).expect("TPH_MAP"));
        assert_eq!(cost[1..], [0, 0, 0], "nothing is in hardware yet");
        bed.enable(EXTENDED);
        bed.assert_holds(&[xst(1), xst(0)], "enabled");
        bed.device.set_control(0);
        bed.assert_holds(&[xst(1), xst(0)], "off");
        // An entry that was written since, whose tag in hardware is of the old map.
        bed.write(0, &[3]);
        bed.device
            .set_map(&[cpu(1), cpu(3), cpu(0)])
            .expect("TPH_MAP");
        let entries = bed.endpoint.entries();
        assert_ne!(entries[0], xst(1), "of the old map");
        assert_ne!(entries[1], xst(0), "of the old map");
        bed.enable(EXTENDED);
        bed.assert_holds(&[xst(0)], "no extended tag of CPU 3");
        bed.enable(STANDARD);
        bed.assert_holds(&[st(0), st(3)], "the other namespace");
    });
}

/// One byte, a word, a dword, and more than that, at each place.
fn r94_every_width(bench: &mut Bench) {
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
fn r94_writes_that_reach_beyond(bench: &mut Bench) {
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

fn r94_namespaces(bench: &mut Bench) {
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
fn r94_one_entry_costs_one_entry(bench: &mut Bench) {
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

fn r94_vectors_that_come_later(bench: &mut Bench) {
    let endpoint = take(bench, &Want::MSIX, Gate::Safe);
    let device = endpoint.open();
    let mut bed = Bed {
        endpoint,
        device,
        vectors: None,
    };
    bed.device.set_map(&map()).expect("TPH_MAP");
    bed.write(0, &[1, 2, 4, 5]);
    bed.enable(EXTENDED);
    bed.assert_holds(&[], "no vector");
    // As QEMU does it: the first one alone, then one more a call.
    bed.device.set_msix(0, &[-1]).expect("SET_IRQS");
    bed.assert_means(&[1], true, "one vector");
    let vectors = Vectors::allocate(&bed.device, 3).expect("SET_IRQS");
    bed.assert_means(&[1, 2, 4], true, "three vectors");
    assert_eq!(bed.device.control(), control(EXTENDED.0, EXTENDED.1));
    raise_all(&bed.device, &vectors, "three vectors");
    bed.device
        .free_irqs(2)
        .expect("SET_IRQS that frees all of MSI-X");
    bed.assert_holds(&[], "freed");
    assert_eq!(bed.read(4), [1, 2, 4, 5], "the guest's are there");
    bed.write(1, &[1]);
    bed.assert_holds(&[], "freed");
    let vectors = Vectors::allocate(&bed.device, 4).expect("SET_IRQS");
    bed.assert_means(&[1, 1, 4, 5], true, "again");
    raise_all(&bed.device, &vectors, "again");
    bed.vectors = Some(vectors);
    // In the guest's way, off: written at the enable.
    bed.device.set_control(1);
    bed.write(3, &[2]);
    bed.enable(STANDARD);
    bed.assert_means(&[1, 1, 4, 2], false, "the other namespace");
}

fn r94_memory_not_decoded(bench: &mut Bench) {
    let bed = Bed::new(bench, &Want::MSIX, Gate::Safe);
    let device = &bed.device;
    bed.write(0, &[1, 2]);
    bed.enable(STANDARD);
    device.decode_memory(false);
    let quiet = |body: &dyn Fn()| {
        let [.., mmio_read, mmio_write] = bed.accesses(body);
        assert_eq!((mmio_read, mmio_write), (0, 0));
    };
    quiet(&|| bed.write(0, &[2]));
    bed.assert_means(&[1, 2], false, "recorded only");
    assert_eq!(bed.read(2), [2, 2]);
    assert_eq!(device.control(), control(STANDARD.0, STANDARD.1));
    device.decode_memory(true);
    bed.assert_means(&[2, 2], false, "decoded");
    assert_eq!(bed.endpoint.control(), control(STANDARD.0, STANDARD.1));

    // An enable with an entry in hardware that is neither 0 nor what is wanted.
    device.set_control(1);
    device.decode_memory(false);
    bed.write(0, &[1]);
    device.set_control(control(STANDARD.0, STANDARD.1));
    assert_eq!(device.control(), 1, "dropped");
    device.decode_memory(true);
    bed.assert_means(&[2, 2], false, "off: not written");
    bed.enable(STANDARD);
    bed.assert_means(&[1, 2], false, "enabled");

    // One that is 0 waits.
    device.set_control(1);
    device.decode_memory(false);
    bed.write(2, &[4]);
    device.set_control(control(STANDARD.0, STANDARD.1));
    assert_eq!(device.control(), control(STANDARD.0, STANDARD.1), "taken");
    bed.assert_means(&[1, 2], false, "not yet");
    device.decode_memory(true);
    bed.assert_means(&[1, 2, 4], false, "decoded");
    // A map that comes meanwhile.
    device.decode_memory(false);
    device.set_map(&[cpu(1), cpu(0)]).expect("TPH_MAP");
    device.decode_memory(true);
    bed.assert_holds(&[st(1), st(0)], "moved");
    raise_all(device, bed.vectors.as_ref().expect("vectors"), "decoded");
}

/// A guest's kernel restores Control and entries before Command.
fn r94_flr(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let device = &bed.device;
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        let command = device.config_word(PCI_COMMAND as u16);
        device.initiate_flr();
        bed.endpoint.assert_off("FLR");
        assert_eq!((bed.read(2), device.control()), (vec![0, 0], 0));
        device.set_config(PCI_COMMAND as u16, &[0, 0]);
        device.set_control(control(EXTENDED.0, EXTENDED.1));
        assert_eq!(device.control(), control(EXTENDED.0, EXTENDED.1));
        bed.write(0, &[1, 2]);
        device.set_config(PCI_COMMAND as u16, &command.to_le_bytes());
        bed.assert_means(&[1, 2], true, "restored");
        assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
        // The map has outlived it.
        assert_ne!(device.tph().expect("GET").flags & VFIO_TPH_FLAG_VIRTUAL, 0);
        device.reset().expect("VFIO_DEVICE_RESET");
        bed.endpoint.assert_off("a reset");
        assert_eq!((bed.read(2), device.control()), (vec![0, 0], 0));
        bed.write(0, &[2]);
        bed.enable(STANDARD);
        bed.assert_means(&[2], false, "after a reset");
    });
}

fn r94_d3hot(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let device = &bed.device;
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        device.set_power_state(3);
        bed.write(0, &[4, 4]);
        device.set_map(&[cpu(1), cpu(0)]).expect("moved in D3hot");
        device.set_power_state(0);
        assert_eq!(bed.read(2), [1, 2], "dropped");
        bed.assert_holds(&[xst(1), xst(0)], "awake");
        assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
        assert_eq!(device.control(), control(EXTENDED.0, EXTENDED.1));
    });
}

/// The map moves while the device sleeps, and it is woken up by other ways than its user's write:
/// no tag of the old map is in force.
fn r93_moved_in_d3hot(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::with_vcpus(bench, want, Gate::Safe, "0,1");
        let (device, bdf) = (&bed.device, &bed.endpoint.bdf);
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        device.set_power_state(3);
        vcpus::write(bdf, "1,0").expect("tph_vcpus");
        device.enter_low_power().expect("LOW_POWER_ENTRY");
        let status = bdf.path("power/runtime_status");
        wait_until(|| fs::read_to_string(&status).is_ok_and(|text| text.trim() == "suspended"));
        device.exit_low_power().expect("LOW_POWER_EXIT");
        assert_eq!(bed.endpoint.state().power_state, 0);
        let registers = bed.endpoint.registers();
        let on = registers.control & PCI_TPH_CTRL_REQ_EN_MASK != 0;
        for (entry, old) in [xst(0), xst(1)].into_iter().enumerate() {
            assert!(!on || registers.entries[entry] != old, "{registers:x?}");
        }
        bed.endpoint.assert_kernel_agrees();
        bed.enable(STANDARD);
        bed.assert_holds(&[st(1), st(0)], "enabled");
        vcpus_gone(bed);
    });
}

/// Ends it, and with it the administrator's map.
fn vcpus_gone(bed: Bed) {
    let bdf = bed.endpoint.bdf.clone();
    drop(bed);
    vcpus::write(&bdf, "").expect("empty");
}

/// Whether an enable is taken while memory is not decoded does not tell one tag from another:
/// CPU 2 has tags, and they are 0.
fn r97_an_enable_tells_no_tag(bench: &mut Bench) {
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

fn r94_closed_and_opened(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        bed.write(0, &[1, 2]);
        bed.enable(STANDARD);
        let Bed {
            endpoint,
            device,
            vectors,
        } = bed;
        drop((device, vectors));
        endpoint.assert_off("close");
        let bed = Bed::open(endpoint, want.in_msix);
        let flags = bed.device.tph().expect("GET").flags;
        assert_eq!(
            flags & VFIO_TPH_FLAG_VIRTUAL,
            0,
            "the map went with its user"
        );
    });
}

/// A device that stops answering: TPH off, entries and map as before.
fn r94_a_device_that_stops_answering(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        bed.write(0, &[1, 2]);
        bed.enable(STANDARD);
        bed.endpoint.fault(Fault::AllOnes);
        bed.write(0, &[2]);
        assert_errno!(bed.device.set_map(&[cpu(1), cpu(0)]), EIO);
        bed.endpoint.fault(Fault::None);
        assert_eq!(bed.read(2), [1, 2], "dropped");
        bed.enable(STANDARD);
        bed.assert_means(&[1, 2], false, "the old map");
    });
}

/// A number in debugfs.
fn counter(endpoint: &Endpoint, name: &str) -> u64 {
    let path = format!("/sys/kernel/debug/vfio_tph/{}/counters", endpoint.bdf);
    let counters = fs::read_to_string(&path).expect("counters in debugfs");
    counters
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
        .unwrap_or_else(|| panic!("no {name} in {counters}"))
}

/// A table that takes nothing when a vector comes: SET_IRQS is as under vfio-pci, TPH is off.
fn r94_a_table_that_takes_nothing(bench: &mut Bench) {
    let endpoint = take(bench, &Want::MSIX, Gate::Safe);
    let bed = Bed {
        device: endpoint.open(),
        endpoint,
        vectors: None,
    };
    bed.device.set_map(&map()).expect("TPH_MAP");
    bed.write(0, &[1, 2]);
    bed.enable(EXTENDED);
    let lost = counter(&bed.endpoint, "lost_tags");
    bed.endpoint.fault(Fault::MmioWritesDropped);
    bed.device.set_msix(0, &[-1]).expect("SET_IRQS");
    bed.endpoint.fault(Fault::None);
    assert_eq!(bed.device.control(), 0, "off");
    bed.endpoint.assert_kernel_agrees();
    assert_eq!(counter(&bed.endpoint, "lost_tags"), lost + 1);
    assert_eq!(bed.read(2), [1, 2], "the guest's are there");
    bed.enable(EXTENDED);
    bed.assert_means(&[1], true, "enabled again");
}

/// It stops after each number of accesses that an entry takes: what is in force is the one or the
/// other, whole, or nothing.
fn r94_stops_after_any_access(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let on = control(STANDARD.0, STANDARD.1);
        let prepare = || {
            bed.endpoint.fault(Fault::None);
            bed.device.reset().expect("a reset");
            bed.write(0, &[1, 2, 4]);
            bed.enable(STANDARD);
        };
        let way: [&dyn Fn(); 2] = [&|| bed.write(1, &[1]), &|| bed.guests_way(1, 1, STANDARD)];
        for change in way {
            prepare();
            let accesses: u64 = bed.accesses(change).iter().sum();
            for before in 0..=accesses {
                prepare();
                bed.endpoint.fault(Fault::StopAfter { accesses: before });
                change();
                bed.endpoint.fault(Fault::None);
                let what = format!("after {before} of {accesses} accesses");
                let seen = bed.read(3);
                assert!([1, 2].contains(&seen[1]), "{what}: {seen:?}");
                if before == accesses {
                    assert_eq!(seen[1], 1, "{what}");
                }
                // Whatever there was, it works on, and is what is seen then.
                bed.device.set_control(0);
                bed.enable(STANDARD);
                assert_eq!(bed.device.control(), on, "{what}");
                bed.assert_means(&bed.read(3), false, &what);
            }
        }
        prepare();
    });
}

/// Writes, maps and reads of the table at once: what is in force in the end is what was written
/// last, by the map that was set last.
fn r94_all_at_once(bench: &mut Bench) {
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
        let bdf = bed.endpoint.bdf.clone();
        drop(bed);
        vcpus::write(&bdf, "").expect("empty");
    });
}

/// Below the line a user names CPUs of their own alone; an administrator any.
fn r93_whose_cpus(bench: &mut Bench) {
    each_table_and_gate(bench, |bench, want, gate| {
        let bed = Bed::bare(bench, want, gate);
        let group = Cgroup::new("tph-virtual", "cpuset");
        group.set("cpuset.cpus", "0-1");
        group.enter();
        let mut request = MapRequest::new(&[cpu(0), none(), cpu(3)]);
        let result = bed.device.tph_map(&mut request);
        drop(group);
        match gate {
            Gate::Unsafe => assert_eq!(result, Ok(())),
            Gate::Safe => {
                assert_errno!(result, EPERM);
                assert_eq!(request.fault, 2);
                let flags = bed.device.tph().expect("GET").flags;
                assert_eq!(flags & VFIO_TPH_FLAG_VIRTUAL, 0);
            }
        }
    });
}

const FULL: &str = "0,1,-,3";

/// Another capability right behind the registers: the capability moves for the administrator's map,
/// and is of no use to the feature.
fn r95_moved(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::MSIX);
    let old = 0x1f4;
    endpoint.reshape(TphShape {
        table: Some(Table::Msix),
        position: Some(Position::Middle),
        offset: Some(old),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    let bed = Bed::open(endpoint.clone(), true);
    assert_eq!(bed.device.tph_offset(), old);
    assert_errno!(probe_map(&bed.device), EOPNOTSUPP, "no room");
    let before = bed.device.chain();
    drop(bed);

    vcpus::write(&endpoint.bdf, FULL).expect("tph_vcpus");
    let bed = Bed::open(endpoint.clone(), true);
    let at = bed.device.tph_offset();
    // Behind AER and its log of prefixes.
    assert_eq!(at, 0x148);
    let others = |chain: &[tph_selftests::tph::Link]| -> Vec<(u16, u16, u8)> {
        let mut links: Vec<_> = chain
            .iter()
            .map(|link| (link.id, link.offset, link.version))
            .collect();
        links.retain(|&(id, ..)| u32::from(id) != PCI_EXT_CAP_ID_TPH);
        links.sort_unstable();
        links
    };
    let chain = bed.device.chain();
    assert_eq!(others(&chain), others(&before));
    assert_eq!(chain.len(), before.len());
    assert_eq!(bed.device.tph().expect("GET").st_entries, 16);
    bed.write(0, &[1, 2]);
    bed.enable(EXTENDED);
    bed.assert_means(&[1, 2], true, "moved");
    // The old place is nobody's.
    for (bytes, value) in [(old..old + 12, 0xffu8), (old + 8..old + 12, 0)] {
        let length = usize::from(bytes.end - bytes.start);
        bed.device.set_config(bytes.start, &vec![value; length]);
        for offset in bytes {
            assert_eq!(bed.device.config_byte(offset), 0, "{offset:#x}");
        }
    }
    bed.assert_means(&[1, 2], true, "the old place");
    assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
    bed.device.reset().expect("VFIO_DEVICE_RESET");
    assert_eq!(bed.device.control(), 0);
    bed.write(0, &[2]);
    bed.enable(STANDARD);
    bed.assert_means(&[2], false, "after a reset");
    drop(bed);
    vcpus::write(&endpoint.bdf, "").expect("empty");
    let device = endpoint.open();
    assert_eq!(device.tph_offset(), old, "back");
}

/// The first capability of the chain, which would leave an empty header at 100h (host test
/// `r95_the_first_one_leaves_an_empty_header`), has room for a table and does not move.
fn r95_the_first_one_stays_where_there_is_room(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::MSIX);
    endpoint.reshape(TphShape {
        table: Some(Table::Msix),
        position: Some(Position::First),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    vcpus::write(&endpoint.bdf, FULL).expect("tph_vcpus");
    let bed = Bed::open(endpoint.clone(), true);
    assert_eq!(bed.device.tph_offset(), 0x100, "there is room");
    bed.write(0, &[1, 2]);
    bed.enable(EXTENDED);
    bed.assert_means(&[1, 2], true, "in place");
    drop(bed);
    vcpus::write(&endpoint.bdf, "").expect("empty");
}

/// As many entries as fit, by the feature.
fn r95_shortened(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::MSIX);
    endpoint.reshape(TphShape {
        table: Some(Table::Msix),
        position: Some(Position::Middle),
        offset: Some(0x1e4),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    let bed = Bed::open(endpoint.clone(), true);
    let before = bed.device.config_space();
    bed.device.set_map(&map()).expect("TPH_MAP");
    assert_eq!(bed.device.tph_offset(), 0x1e4);
    assert_eq!(bed.device.tph().expect("GET").st_entries, 8);
    assert_eq!(claimed_entries(bed.device.tph_capability()), 8);
    bed.enable(STANDARD);
    bed.write(0, &[1, 2, 4, 1, 2, 4, 1, 2]);
    bed.device.set_config(0x200, &[0xff; 4]);
    bed.assert_means(&[1, 2, 4, 1, 2, 4, 1, 2], false, "all that there is");
    assert_eq!(bed.device.config_space()[0x200..], before[0x200..]);
    // Made virtual, bytes stay so.
    bed.device.set_control(0);
    bed.device.set_map(&[]).expect("taken away");
    bed.device.set_config(0x1f0, &[0xff; 16]);
    assert_eq!(bed.device.config_space()[0x1f0..0x200], [0; 16]);
}

/// The pages of the MSI-X table stay out of reach.
fn nobody_reaches_the_table(bed: &Bed) {
    const BAR: u32 = VFIO_PCI_BAR0_REGION_INDEX;
    let table = Traits::of(&bed.endpoint.bdf)
        .expect("a device with TPH")
        .table;
    let start = table - table % PAGE as u64;
    let page = start..start + PAGE as u64;
    let mapped = bed.device.map_bar(BAR, page.clone());
    assert_errno!(mapped.map(drop), EINVAL);
    let exported = bed.device.export_dma_buf(BAR, &[page]);
    assert_errno!(exported.map(drop), EPERM);
    // vfio-pci-core answers reads of the table with all ones.
    let mut seen = vec![0; 16 * usize::from(ENTRIES)];
    let got = bed.device.read_bar(BAR, table, &mut seen);
    assert!(
        got.is_err() || seen.iter().all(|&byte| byte == 0xff),
        "{seen:x?}"
    );
}

/// Below the line nothing that the guest reads has a tag of the host in it.
fn r97_no_tag_is_seen(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        for by_admin in [false, true] {
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
                let bdf = bed.endpoint.bdf.clone();
                drop(bed);
                vcpus::write(&bdf, "").expect("empty");
            }
            bench.next_round();
        }
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r93_shape,
        r93_sources,
        r93_what_is_shown,
        r93_busy,
        r93_not_for_every_device,
        r93_vcpus,
        r93_whose_cpus,
        r93_moved_while_off,
        r94_every_width,
        r94_writes_that_reach_beyond,
        r94_namespaces,
        r94_one_entry_costs_one_entry,
        r94_vectors_that_come_later,
        r94_memory_not_decoded,
        r94_flr,
        r94_d3hot,
        r93_moved_in_d3hot,
        r97_an_enable_tells_no_tag,
        r94_closed_and_opened,
        r94_a_device_that_stops_answering,
        r94_a_table_that_takes_nothing,
        r94_stops_after_any_access,
        r94_all_at_once,
        r95_moved,
        r95_the_first_one_stays_where_there_is_room,
        r95_shortened,
        r97_no_tag_is_seen,
    ])
}
