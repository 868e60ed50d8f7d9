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
use tph_selftests::vfio::{literal, Source};
use tph_selftests::{harness, tests};
use tph_tests::bed::Bed;
use tph_tests::fill;

use batch::*;
use cleared::*;
use command::*;
use decode::*;
use race::*;

/// Vectors of a device that most tests are content with.
const VECTORS: u16 = 16;

/// A device with at least that many vectors, which nobody drives or vfio_tph does.
fn pick(bench: &mut Bench, vectors: u16) -> Rc<Endpoint> {
    bench.pick_with(
        &format!("extended TPH and an ST table in MSI-X, {vectors} vectors"),
        |traits| traits.in_msix && traits.extended && traits.vectors >= vectors,
    )
}

/// All vectors of a device allocated, and Interrupt Vector mode.
fn enabled(bench: &mut Bench, gate: Gate, requester: Requester) -> Bed {
    let endpoint = pick(bench, VECTORS);
    bench::bind(&endpoint, gate);
    let bed = Bed::with_all_vectors(endpoint);
    bed.device.enable(StMode::InterruptVector, requester);
    bed
}

/// The same of a device that is bound, with the tag of a CPU for each vector.
fn open_in_use(endpoint: Rc<Endpoint>) -> Bed {
    let bed = Bed::with_all_vectors(endpoint);
    bed.device
        .enable(StMode::InterruptVector, Requester::Extended);
    fill(&bed.endpoint, &bed.device);
    bed
}

/// The same of one that is not.
fn in_use(bench: &mut Bench) -> Bed {
    let endpoint = pick(bench, VECTORS);
    bench::bind(&endpoint, Gate::Safe);
    open_in_use(endpoint)
}

/// Programs a tag for each vector, no two of the same; needs `Gate::Unsafe`.
fn fill_distinct(bed: &Bed) -> Vec<u16> {
    let tags: Vec<u16> = (1..=bed.msix().count()).collect();
    let sources: Vec<Source> = tags.iter().map(|&tag| literal(tag.into())).collect();
    bed.device
        .program_extended(0, &sources)
        .expect("TPH_ST of all vectors");
    assert_eq!(bed.endpoint.entries(), tags);
    tags
}

fn masked(bed: &Bed) -> Vec<bool> {
    let msix = bed.endpoint.state().msix.expect("MSI-X");
    msix.entries.iter().map(|entry| entry.masked).collect()
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
