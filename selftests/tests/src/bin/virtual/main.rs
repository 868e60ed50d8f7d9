// SPDX-License-Identifier: GPL-2.0-only

//! Virtual tags: what a guest writes to the table that it is shown, and what hardware gets for it.

mod disobedient;
mod entries;
mod hostile;
mod maps;
mod placement;
mod reach;
mod told;

use std::ops::Deref;
use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::debugfs;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::policy::Policy;
use tph_selftests::tph::{control, entry_offset, Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, cpu_persistent, none, Device, Op, Source, Vectors};
use tph_selftests::{harness, policy, tests, vcpus, Errno};
use tph_tests::{bed, st, xst};

use disobedient::*;
use entries::*;
use hostile::*;
use maps::*;
use placement::*;
use reach::*;
use told::*;

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
struct Bed(bed::Bed);

impl Deref for Bed {
    type Target = bed::Bed;

    fn deref(&self) -> &bed::Bed {
        &self.0
    }
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
        Self(bed::Bed::with(endpoint, device, vectors))
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
        self.endpoint.assert_tags(expected, what);
        self.endpoint.assert_kernel_agrees();
    }

    /// Accesses that `body` costs: config reads and writes, MMIO reads and writes.
    fn accesses(&self, body: impl FnOnce()) -> [u64; 4] {
        let counters = self.endpoint.counted(body);
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

/// Ends it, and with it the administrator's map.
fn vcpus_gone(bed: Bed) {
    let bdf = bed.endpoint.bdf.clone();
    drop(bed);
    vcpus::write(&bdf, "").expect("empty");
}

/// A number in debugfs.
fn counter(endpoint: &Endpoint, name: &str) -> u64 {
    debugfs::counter(&endpoint.bdf, name)
}

fn main() -> ExitCode {
    harness::run(tests![
        r93_shape,
        r93_sources,
        r93_what_is_shown,
        r93_busy,
        r93_not_for_every_device,
        r93_vcpus,
        r93_moved_while_off,
        r93_whose_cpus,
        r93_comes_and_goes_under_a_write,
        r94_every_width,
        r94_writes_that_reach_beyond,
        r94_namespaces,
        r94_one_entry_costs_one_entry,
        r94_all_at_once,
        r94_what_is_counted,
        r94_vectors_that_come_later,
        r94_memory_not_decoded,
        r93_map_after_a_loss,
        r93_map_beside_device_specific,
        r94_flr,
        r94_d3hot,
        r94_command_that_is_interrupted,
        r94_command_that_faults_half_way,
        r93_moved_in_d3hot,
        r93_moved_until_it_wakes_up,
        r94_closed_and_opened,
        r93_the_namespace_of_what_is_written,
        r93_moved_in_d3hot_is_told_once,
        r93_a_first_map_that_is_not_taken,
        r94_a_device_that_stops_answering,
        r94_a_table_that_takes_nothing,
        r94_stops_after_any_access,
        r95_moved,
        r95_the_first_one_stays_where_there_is_room,
        r95_shortened,
        r97_an_enable_tells_no_tag,
        r97_a_write_tells_no_tag,
        r97_a_map_tells_no_tag,
        r97_a_namespace_tells_no_tag,
        r97_no_tag_is_seen,
        r97_whatever_is_written,
        r97_reset_in_the_middle,
        // The last one, as it injects an error: from then on lockdep is off, and the kernel answers
        // by itself for the device's AER registers, also where a test puts another capability.
        r94_r77_the_other_namespace,
    ])
}
