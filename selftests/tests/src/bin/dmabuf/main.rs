// SPDX-License-Identifier: GPL-2.0-only

//! Hints that travel with a device's memory: published by its owner, asked for by drivers in the
//! kernel and, through TPH_ST and TPH_RESOLVE, by the owners of other devices.
//!
//! On a kernel whose dma-bufs know nothing of TPH every test that needs one asserts that each way
//! to publish or ask is refused, and has passed with that (R62).

mod ends;
mod importers;
mod publish;
mod race;
mod signals;
mod sources;
mod wire;

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use std::slice;

use tph_selftests::bench::Bench;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::importer::{Answer, Importer};
use tph_selftests::kernel;
use tph_selftests::memory::page_size;
use tph_selftests::module::Gate;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::registers::BAR_MEMORY;
use tph_selftests::root_port::{completer, EXTENDED};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{dma_buf, open_beside, Device, Hints, Op};
use tph_selftests::{assert_errno, harness, tests, Errno};

use ends::*;
use importers::*;
use publish::*;
use race::*;
use signals::*;
use sources::*;
use wire::*;

/// The BAR whose memory is exported.
const BAR: u32 = BAR_MEMORY as u32;
/// How much of it: a page.
fn size() -> u64 {
    page_size() as u64
}

/// Hints whose tags cannot be made of one another.
const HINTS: Hints = Hints {
    st: Some(0x5a),
    xst: Some(0xc3d2),
    ph: 2,
};
/// Others.
const OTHER_HINTS: Hints = Hints {
    st: Some(0x17),
    xst: Some(0x8e01),
    ph: 1,
};

/// A device that completes TPH requests, and a dma-buf of its memory.
struct Exporter {
    endpoint: Rc<Endpoint>,
    /// The gate that the module was loaded with.
    gate: Gate,
    device: Device,
    dma_buf: OwnedFd,
}

/// A device that completes TPH requests of both kinds.
fn pick_completer(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_where("an extended TPH completer and BAR memory", |bdf| {
        completer(bdf) == EXTENDED && bdf.root_port().is_some()
    })
}

/// A dma-buf of the start of a device's memory.
fn export(device: &Device) -> OwnedFd {
    export_at(device, 0)
}

fn export_at(device: &Device, start: u64) -> OwnedFd {
    let range = start..start + size();
    device
        .export_dma_buf(BAR, slice::from_ref(&range))
        .unwrap_or_else(|error| panic!("VFIO_DEVICE_FEATURE_DMA_BUF: {error}"))
}

impl Exporter {
    /// Opens a device that is bound.
    fn open(endpoint: Rc<Endpoint>) -> Self {
        let device = endpoint.open();
        device.decode_memory(true);
        let dma_buf = export(&device);
        Self {
            endpoint,
            gate: Gate::loaded(),
            device,
            dma_buf,
        }
    }

    /// What it is made of.
    fn parts(self) -> (Rc<Endpoint>, Device, OwnedFd) {
        (self.endpoint, self.device, self.dma_buf)
    }

    /// A device at a policy, with nothing published. The test has passed if the kernel's dma-bufs
    /// know nothing of TPH, and it has been seen that they say so.
    fn at(bench: &mut Bench, policy: Policy) -> Self {
        Self::under(bench, policy.gate(), policy)
    }

    /// The same, with the gate that another device needs.
    fn under(bench: &mut Bench, gate: Gate, policy: Policy) -> Self {
        let endpoint = pick_completer(bench);
        policy::bind_under(&endpoint, gate, policy);
        let exporter = Self::open(endpoint);
        if !kernel::is_patched() {
            exporter.assert_unsupported();
            harness::pass();
        }
        exporter
    }

    /// The same at the default policy.
    fn new(bench: &mut Bench) -> Self {
        Self::at(bench, Policy::IvSt)
    }

    fn publish(&self, hints: Hints) -> Result<(), Errno> {
        self.device.publish(&self.dma_buf, hints)
    }

    /// Another device, opened; the two share their IOMMU context if they have to.
    fn open_other(&self, other: &Endpoint) -> Device {
        if other.bdf.iommu_group() == self.endpoint.bdf.iommu_group() {
            open_beside(&self.device, &other.bdf).unwrap_or_else(|e| panic!("{}: {e}", other.bdf))
        } else {
            other.open()
        }
    }

    /// What a kernel without `kernel/patches` makes of it all.
    fn assert_unsupported(&self) {
        let index = VFIO_DEVICE_FEATURE_DMA_BUF_TPH;
        for op in [Op::Probe, Op::ProbeSet] {
            assert_errno!(
                self.device.feature(op, index, &mut []),
                EOPNOTSUPP,
                "{op:?}"
            );
        }
        for hints in [HINTS, Hints::NONE, Hints { ph: 4, ..HINTS }] {
            assert_errno!(self.publish(hints), EOPNOTSUPP, "{hints:?}");
            assert_errno!(
                self.device.dma_buf_tph(&hints.request(-1)),
                EOPNOTSUPP,
                "{hints:?}, no fd"
            );
        }
        for extended in [false, true] {
            let found = self.device.resolve(&[dma_buf(&self.dma_buf)], extended);
            assert_errno!(found, EOPNOTSUPP, "TPH_RESOLVE, extended: {extended}");
            let importer = Importer::new(&self.dma_buf);
            assert_eq!(hint(&importer, extended), Err(Errno::EOPNOTSUPP));
        }
    }
}

/// What an importer in the kernel is told.
#[track_caller]
fn hint(importer: &Importer, extended: bool) -> Result<(u16, u8), Errno> {
    importer
        .ask(extended)
        .unwrap_or_else(|error| panic!("the importer: {error}"))
        .hint()
}

/// What it is to be told when these hints are published.
fn expected(hints: Hints, extended: bool) -> Result<(u16, u8), Errno> {
    hints
        .tag(extended)
        .map(|tag| (tag, hints.ph))
        .ok_or(Errno::EOPNOTSUPP)
}

/// Fails the test unless an importer is told just these hints.
#[track_caller]
fn assert_told(importer: &Importer, hints: Hints, what: &str) {
    for extended in [false, true] {
        let told = hint(importer, extended);
        assert_eq!(
            told,
            expected(hints, extended),
            "{what}, extended: {extended}"
        );
    }
}

/// Fails the test unless an importer is told that the memory is out of reach.
#[track_caller]
fn assert_revoked(importer: &Importer, what: &str) {
    for extended in [false, true] {
        let told = hint(importer, extended);
        assert_eq!(told, Err(Errno::ENODEV), "{what}, extended: {extended}");
    }
}

/// Both answers, as an importer notes them down.
fn noted(hints: Hints) -> Option<[Answer; 2]> {
    Some(
        [false, true].map(|extended| match expected(hints, extended) {
            Ok((steering_tag, ph)) => Answer {
                errno: 0,
                steering_tag,
                ph,
            },
            Err(errno) => refused(errno),
        }),
    )
}

fn refused(errno: Errno) -> Answer {
    Answer {
        errno: errno as u32,
        ..Answer::default()
    }
}

/// Number of a descriptor that is not open.
fn closed_fd() -> i32 {
    let event = nix::sys::eventfd::EventFd::new().expect("eventfd");
    let number = event.as_raw_fd();
    drop(event);
    number
}

fn main() -> ExitCode {
    harness::run(tests![
        r53_layout,
        r53_order_of_checks,
        r53_probe,
        r53_every_field,
        r53_independent_of_the_requester,
        r53_bad_pointers,
        r54_each_set_replaces_all,
        r54_what_was_fetched_stays,
        r54_each_dma_buf_has_its_own,
        r55_gate_is_the_completer_field,
        r55_policy_plays_no_part,
        r56_fds,
        r56_fds_as_sources,
        r57_outputs_untouched_on_error,
        r57_without_the_lock,
        r58_many_threads,
        r58_closing_all_the_time,
        r59_fd_outlives_close,
        r59_fd_outlives_unbind,
        r59_fd_outlives_unbind_while_open,
        r59_fd_outlives_rmmod,
        r59_fd_closed_before_device,
        r59_importer_attached_over_close,
        r59_importer_attached_over_rmmod,
        r59_owner_is_killed,
        r59_asker_in_another_process,
        r60_memory_off_and_on,
        r60_every_way_out_of_reach,
        r60_set_while_revoked,
        r61_two_importers,
        mapping_frees_its_scatterlist,
        r61_importer_that_knows_no_tph,
        r61_exporter_that_knows_no_tph,
        r62_kernel_without_the_patch,
        r63_set_is_interrupted,
        r63_lookups_are_interrupted,
        r63_others_are_not_held_up,
        r64_namespace_asked_for_or_none,
        r64_policies,
        r71_own_tag_at_the_default_gate,
        r71_flag_says_what_is_taken,
        r64_table_in_msix,
        r64_all_or_nothing,
        r64_revoked_source,
        r64_same_device,
        r64_asking_touches_no_device,
        r64_tag_on_the_wire,
        r71_no_tag_of_a_users_choice_on_the_wire,
    ])
}
