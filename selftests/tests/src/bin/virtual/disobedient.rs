// SPDX-License-Identifier: GPL-2.0-only

//! Devices that do not do what they are told.

use tph_selftests::aer::{self, Severity};
use tph_selftests::assert_errno;
use tph_selftests::bench::{Bench, Want};
use tph_selftests::module::Gate;
use tph_selftests::monitor::wait_until;
use tph_selftests::protocol::{Fault, Lost};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::cpu;
use tph_tests::{each_table, st};

use super::{counter, map, take, Bed, ENTRIES, EXTENDED, STANDARD};

/// The first map clears the table. If it does not take that, nothing has changed, nor is another
/// mode selected.
pub fn r93_a_first_map_that_is_not_taken(bench: &mut Bench) {
    let bed = Bed::bare(bench, &Want::MSIX, Gate::Unsafe);
    let device = &bed.device;
    let selected = control(StMode::DeviceSpecific, Requester::Disabled);
    bed.enable((StMode::DeviceSpecific, Requester::Standard));
    // Of many entries that are written at once, the last one is looked at.
    device.program(ENTRIES - 1, &[cpu(1)]).expect("TPH_ST");
    let mut held = [0; ENTRIES as usize];
    held[held.len() - 1] = st(1);
    device.set_control(selected);
    for fault in [Fault::MmioAllOnes, Fault::MmioWritesDropped] {
        bed.endpoint.fault(fault);
        assert_errno!(device.set_map(&map()), EIO, "{fault:?}");
        bed.endpoint.fault(Fault::None);
        let seen = (device.control(), bed.endpoint.control());
        assert_eq!(seen, (selected, selected), "{fault:?}");
        bed.assert_holds(&held, "as before");
        let flags = device.tph().expect("GET").flags;
        assert_eq!(flags & VFIO_TPH_FLAG_VIRTUAL, 0, "{fault:?}");
    }
    bed.enable((StMode::DeviceSpecific, Requester::Standard));
    bed.assert_holds(&held, "enabled again");
    device.set_control(selected);
    device.set_map(&map()).expect("TPH_MAP");
    assert_eq!((device.control(), bed.endpoint.control()), (0, 0));
    bed.assert_holds(&[], "a map");
}

/// A device that stops answering: TPH off, entries and map as before.
pub fn r94_a_device_that_stops_answering(bench: &mut Bench) {
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

/// A table that takes nothing when a vector comes: SET_IRQS is as under vfio-pci, TPH is off.
pub fn r94_a_table_that_takes_nothing(bench: &mut Bench) {
    let endpoint = take(bench, &Want::MSIX, Gate::Safe);
    let bed = Bed::open(endpoint, false);
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

/// A device that makes the other namespace of an enable, and of what it gets back after sleep or an
/// error: TPH is off, or it would send tags of the one that it was given for the other.
pub fn r94_r77_the_other_namespace(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let [on, other] = [EXTENDED, STANDARD].map(|(mode, requester)| control(mode, requester));
        let becomes = Fault::ControlBecomes { control: other };
        let off = |what: &str| {
            bed.endpoint.fault(Fault::None);
            assert_eq!(bed.endpoint.control(), 0, "{what}");
            assert_eq!(bed.device.control(), 0, "{what}: read");
            bed.endpoint.assert_kernel_agrees();
            assert_eq!(bed.read(2), [1, 2], "{what}: the guest's are there");
        };
        bed.write(0, &[1, 2]);
        bed.endpoint.fault(becomes);
        bed.device.set_control(on);
        off("an enable");

        for asleep in [true, false] {
            let what = if asleep { "awake" } else { "an error" };
            bed.enable(EXTENDED);
            bed.assert_means(&[1, 2], true, "enabled");
            if asleep {
                bed.device.enter_low_power().expect("LOW_POWER_ENTRY");
                wait_until(|| bed.endpoint.bdf.is_suspended());
            }
            bed.endpoint.reset_itself(Lost::Tph);
            bed.endpoint.fault(becomes);
            let lost = counter(&bed.endpoint, "lost_tags");
            if asleep {
                bed.device.exit_low_power().expect("LOW_POWER_EXIT");
            } else {
                aer::inject(&bed.endpoint.bdf, Severity::NonFatal);
            }
            off(what);
            assert_eq!(counter(&bed.endpoint, "lost_tags"), lost + 1, "{what}");
        }
        bed.enable(EXTENDED);
        bed.assert_means(&[1, 2], true, "enabled again");
    });
}

/// It stops after each number of accesses that an entry takes: what is in force is the one or the
/// other, whole, or nothing.
pub fn r94_stops_after_any_access(bench: &mut Bench) {
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
