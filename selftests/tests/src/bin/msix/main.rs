// SPDX-License-Identifier: GPL-2.0-only

//! ST tables in the MSI-X table: what is programmed, and what becomes of it.

mod batch;
mod cleared;
mod command;
mod decode;
mod race;

use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{literal, Device, Source, Vectors};
use tph_selftests::{harness, tests};
use tph_tests::{bed, fill, mask_and_unmask, raise_all};

use batch::*;
use cleared::*;
use command::*;
use decode::*;
use race::*;

/// Vectors of a device that most tests are content with.
const VECTORS: u16 = 16;

/// A device with its ST table in MSI-X, opened, with vectors.
struct Bed {
    endpoint: Rc<Endpoint>,
    device: Device,
    vectors: Vectors,
}

/// A device with at least that many vectors, which nobody drives or vfio_tph does.
fn pick(bench: &mut Bench, vectors: u16) -> Rc<Endpoint> {
    bench.pick_with(
        &format!("extended TPH and an ST table in MSI-X, {vectors} vectors"),
        |traits| traits.in_msix && traits.extended && traits.vectors >= vectors,
    )
}

impl Bed {
    /// All vectors of a device allocated; TPH is off.
    fn off(bench: &mut Bench, gate: Gate) -> Self {
        let endpoint = pick(bench, VECTORS);
        bench::bind(&endpoint, gate);
        Self::open(endpoint)
    }

    /// The same of a device that is bound.
    fn open(endpoint: Rc<Endpoint>) -> Self {
        let device = endpoint.open();
        let count = endpoint.entries().len() as u32;
        let vectors = Vectors::allocate(&device, count).expect("SET_IRQS of all vectors");
        Self {
            endpoint,
            device,
            vectors,
        }
    }

    /// The same, in Interrupt Vector mode.
    fn new(bench: &mut Bench, gate: Gate, requester: Requester) -> Self {
        let bed = Self::off(bench, gate);
        bed.device.enable(StMode::InterruptVector, requester);
        bed
    }

    /// The same of a device that is bound, with the tag of a CPU for each vector.
    fn open_in_use(endpoint: Rc<Endpoint>) -> Self {
        let bed = Self::open(endpoint);
        bed.device
            .enable(StMode::InterruptVector, Requester::Extended);
        bed.fill_standard();
        bed
    }

    /// The same of one that is not.
    fn in_use(bench: &mut Bench) -> Self {
        let endpoint = pick(bench, VECTORS);
        bench::bind(&endpoint, Gate::Safe);
        Self::open_in_use(endpoint)
    }

    fn count(&self) -> u16 {
        self.vectors.count()
    }

    /// A source for each vector, no two of the same tag; needs `Gate::Unsafe`.
    fn distinct(&self) -> Vec<Source> {
        (1..=u32::from(self.count())).map(literal).collect()
    }

    /// Programs them, in the extended namespace if the tags need it.
    fn fill(&self) -> Vec<u16> {
        let tags: Vec<u16> = (1..=self.count()).collect();
        self.device
            .program_extended(0, &self.distinct())
            .expect("TPH_ST of all vectors");
        assert_eq!(self.endpoint.entries(), tags);
        tags
    }

    /// The tag of a CPU for each vector.
    fn fill_standard(&self) {
        fill(&self.endpoint, &self.device);
    }

    /// Allocates them again.
    #[track_caller]
    fn allocate_again(&self) {
        let events = self.vectors.descriptors();
        self.device.set_msix(0, &events).expect("SET_IRQS of all");
    }

    /// TPH is off, and then all of it works.
    #[track_caller]
    fn assert_off_and_works(&self, what: &str) {
        bed::assert_off_and_works(&self.endpoint, &self.device, Some(&self.vectors), what);
    }

    /// All of it works.
    #[track_caller]
    fn works(&self) {
        bed::works(&self.endpoint, &self.device, Some(&self.vectors));
    }

    /// Has the device raise each vector; each must arrive, and no other one.
    #[track_caller]
    fn raise_all(&self, when: &str) {
        raise_all(&self.device, &self.vectors, when);
    }

    /// Has the kernel mask and unmask all vectors.
    #[track_caller]
    fn mask_and_unmask(&self) {
        mask_and_unmask(&self.endpoint, &self.device, &self.vectors);
    }

    fn masked(&self) -> Vec<bool> {
        let msix = self.endpoint.state().msix.expect("MSI-X");
        msix.entries.iter().map(|entry| entry.masked).collect()
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r40_every_vector_interrupts_before_and_after,
        r40_as_many_vectors_as_can_be,
        r40_tags_survive_interrupts,
        r40_tags_survive_mask_and_unmask,
        r40_tags_survive_more_vectors,
        r40_tags_survive_set_irqs_of_all_again,
        r40_vectors_one_a_call,
        r40_a_masked_vector_is_programmed,
        r40_unallocated_vector,
        r40_no_vectors_at_all,
        r40_vectors_with_gaps,
        r41_stopped_and_closed_without_flr,
        r43_many_threads,
        r43_no_half_batch,
        r88_bits_beside_tph_enabled,
        r45_close_after_a_mapping,
        r45_close_with_memory_disabled,
        r45_close_in_d3hot_without_flr,
        r46_r49_reset_without_vectors,
        r49_nothing_is_freed_nothing_is_written,
        r49_vectors_freed_and_allocated_again,
        r49_fewer_vectors_than_before,
        r49_freed_with_memory_disabled,
        r49_freed_in_d3hot,
        r49_freed_while_gone_without_flr,
        r49_freed_while_enabled,
        r50_memory_disabled,
        r48_r50_nothing_reaches_a_device_in_d3hot,
        r50_reset_in_d3hot_that_loses_memory_space,
    ])
}
