// SPDX-License-Identifier: GPL-2.0-only

//! The map: its two ways, who may set it and when, and what is shown with it.

use tph_selftests::bench::Bench;
use tph_selftests::cgroup::Cgroup;
use tph_selftests::hold::{Call, Stuck};
use tph_selftests::module::Gate;
use tph_selftests::policy::Policy;
use tph_selftests::tph::{claimed_entries, control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, literal, none, source, MapRequest, Op, StRequest, FAULT_UNTOUCHED};
use tph_selftests::{assert_errno, policy, vcpus, Errno};
use tph_tests::{each_table, each_table_and_gate, st, xst};

use super::{map, probe_map, take, Bed, EXTENDED, STANDARD};

pub fn r93_shape(bench: &mut Bench) {
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

pub fn r93_sources(bench: &mut Bench) {
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

pub fn r93_what_is_shown(bench: &mut Bench) {
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

pub fn r93_busy(bench: &mut Bench) {
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

pub fn r93_not_for_every_device(bench: &mut Bench) {
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

pub fn r93_vcpus(bench: &mut Bench) {
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
pub fn r93_moved_while_off(bench: &mut Bench) {
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

/// Below the line a user names CPUs of their own alone; an administrator any.
pub fn r93_whose_cpus(bench: &mut Bench) {
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

/// A write to Control that was begun as a guest's, when the map goes; and the other way round. It
/// is judged as what its user is then, not dropped.
pub fn r93_comes_and_goes_under_a_write(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let mode = Call::WriteConfig(bed.device.tph_offset() + PCI_TPH_CTRL as u16);
        for next in [vec![], map()] {
            bed.device.set_control(1);
            // Which writes 0, No ST mode.
            let stuck = Stuck::new(&bed.device, mode);
            bed.device.set_map(&next).expect("TPH_MAP");
            assert_eq!(bed.device.control(), 1);
            stuck.go_on();
            assert_eq!(bed.device.control(), 0, "{} sources", next.len());
        }
    });
}
