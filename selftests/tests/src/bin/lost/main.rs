// SPDX-License-Identifier: GPL-2.0-only

//! State that a device loses, or makes up, behind the driver's back: it resets itself while it goes
//! on answering, it comes out of a reset with TPH on, its BARs die while config space lives. What a
//! call says it has done is in hardware, all of it, or TPH is off.

mod by_itself;
mod disobedient;
mod errors;
mod resets;
mod unreached;

use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::Lost;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL_REQ_EN_MASK;
use tph_selftests::vfio::{cpu, open_beside, StRequest};
use tph_selftests::{harness, tests, Errno};
use tph_tests::bed::{Bed, InForce, Kind, KINDS};
use tph_tests::{st, xst};

use by_itself::*;
use disobedient::*;
use errors::*;
use resets::*;
use unreached::*;

/// Keeps its state in D3hot; its table is in the capability, or in MSI-X.
const CAPABILITY: Kind = KINDS[0];
const MSIX: Kind = KINDS[2];
/// Lose it.
const LOSING: [Kind; 2] = [KINDS[1], KINDS[3]];

const LOSSES: [Lost; 2] = [Lost::Everything, Lost::Tph];

const ENABLED: u32 = control(StMode::InterruptVector, Requester::Extended);

/// Values that nobody writes: Requester Enable is 10b, or ST Mode Select is 3.
const RESERVED: [u32; 2] = [0x200, 0x103];

/// What a device may come out of a reset with: on, in a mode that is in use, in another one, or in
/// none.
const ON: [u32; 4] = [
    ENABLED,
    control(StMode::DeviceSpecific, Requester::Extended),
    RESERVED[0],
    RESERVED[1],
];
/// And in its table.
const STRAY: u16 = 0x5a5a;

/// How a test counts what a device does without MMIO that answers.
const HANDFUL: u64 = 8;

fn is_enabled(control: u32) -> bool {
    control & PCI_TPH_CTRL_REQ_EN_MASK != 0
}

/// All of the table, as [`Bed::put`] has programmed it.
fn programmed(bed: &Bed) -> Vec<u16> {
    let mut tags = bed.programmed().to_vec();
    tags.resize(bed.endpoint.entries().len(), 0);
    tags
}

/// The device resets itself, and its user has it decode memory again.
#[track_caller]
fn lose(bed: &Bed, what: Lost) {
    lose_and_have(bed, what, 0);
}

/// The same, and the device has `control` in Control then.
#[track_caller]
fn lose_and_have(bed: &Bed, what: Lost, control: u32) {
    bed.endpoint.reset_itself(what);
    let now = bed.endpoint.control();
    assert_eq!(now, control, "{what:?}: what this test is about");
    if what == Lost::Everything {
        assert_eq!(bed.endpoint.state().command, 0, "what this test is about");
        bed.device.decode_memory(true);
    }
}

/// What is in force. Fails the test unless user, kernel and hardware have the same Control.
#[track_caller]
fn agreed(bed: &Bed, what: &str) -> InForce {
    let now = bed.in_force();
    assert_eq!(
        now.seen_control, now.registers.control,
        "{what}: Control, as the user sees it and as it is"
    );
    bed.endpoint.assert_kernel_agrees();
    now
}

/// After a call that failed, TPH is off.
#[track_caller]
fn disabled(bed: &Bed, what: &str) {
    let control = agreed(bed, what).registers.control;
    assert!(!is_enabled(control), "{what}: Control is {control:#x}");
}

/// Fails the test if TPH is on with anything in the table but these tags, or none.
#[track_caller]
fn assert_on_with_these_or_none(endpoint: &Endpoint, tags: &[u16], what: &str) {
    let now = endpoint.registers();
    let known = now.entries == tags || now.entries.iter().all(|&tag| tag == 0);
    assert!(
        known || !is_enabled(now.control),
        "{what}: on with {now:x?}"
    );
}

/// Counts the calls that succeeded: refusing all of them is not what a driver is there for.
#[derive(Default)]
struct Tally {
    done: u32,
    refused: u32,
}

impl Drop for Tally {
    fn drop(&mut self) {
        println!("# {} done, {} refused", self.done, self.refused);
    }
}

impl Tally {
    #[track_caller]
    fn check(&self) {
        assert!(self.done > 0, "no call succeeded");
    }

    /// TPH_ST of one entry, and what has to come of it.
    #[track_caller]
    fn program_one(&mut self, bed: &Bed, index: u16, what: &str) {
        let before = bed.device.control();
        let mut expected = programmed(bed);
        let other = (index + 1) % 2;
        let sources = [cpu(other.into())];
        let (request, tag) = match before & PCI_TPH_CTRL_REQ_EN_MASK {
            0x100 => (StRequest::new(index, &sources), st(other.into())),
            _ => (
                StRequest::new(index, &sources).extended(),
                xst(other.into()),
            ),
        };
        expected[usize::from(index)] = tag;
        let mut request = request;
        match bed.device.tph_st(&mut request) {
            Ok(()) => {
                self.done += 1;
                let now = agreed(bed, what);
                assert_eq!(now.registers.control, before, "{what}");
                assert_eq!(now.registers.entries, expected, "{what}: TPH_ST succeeded");
            }
            Err(Errno::EIO) => {
                self.refused += 1;
                disabled(bed, what);
            }
            Err(error) => panic!("{what}: TPH_ST: {error}"),
        }
    }

    /// A write to Control, and what has to come of it. Where hardware has the Control that it had
    /// `before`, nothing tells of the loss but a look at the table, which an enable has.
    #[track_caller]
    fn write_control(&mut self, bed: &Bed, before: u32, value: u32, what: &str) {
        let differs = bed.endpoint.control() != before;
        bed.device.set_control(value);
        let now = agreed(bed, what);
        if now.registers.control != value {
            self.refused += 1;
            disabled(bed, what);
            return;
        }
        self.done += 1;
        if differs || is_enabled(value) {
            assert_eq!(now.registers.entries, programmed(bed), "{what}: in force");
        }
    }
}

/// A pair of functions below one port, opened by one user: one with its table in MSI-X, one with
/// its table in the capability.
fn pair(bench: &mut Bench) -> [Bed; 2] {
    const ANY: Want = Want {
        entries: 0,
        ..Want::TABLE
    };
    let (first, second) = bench.pick_pair(&ANY);
    opened_together(first, second)
}

/// Two functions below one port, opened by one user.
fn opened_together(first: Rc<Endpoint>, second: Rc<Endpoint>) -> [Bed; 2] {
    for endpoint in [&first, &second] {
        policy::bind(endpoint, Policy::DsSt);
    }
    let device = first.open();
    let other = open_beside(&device, &second.bdf).expect("the other function");
    let (kind, other_kind) = (Kind::of(&first), Kind::of(&second));
    [
        Bed::of(first, device, kind),
        Bed::of(second, other, other_kind),
    ]
}

/// Accesses to the BARs meanwhile.
fn mmio(endpoint: &Endpoint, body: impl FnOnce()) -> u64 {
    endpoint.counted(body).mmio()
}

fn main() -> ExitCode {
    harness::run(tests![
        r77_lost_then_tph_st_capability,
        r77_lost_then_tph_st_msix,
        r77_lost_then_control_capability,
        r77_lost_then_control_msix,
        r77_lost_while_off_then_enabled,
        r77_lost_mode_alone,
        r77_reset_by_a_register,
        r77_lost_and_not_decoded,
        r77_on_after_its_own_reset,
        r77_on_after_a_reset,
        r77_on_after_a_reset_while_hidden,
        r77_on_after_a_reset_with_notph,
        r77_on_after_a_hot_reset_of_the_bus,
        r48_hot_reset_that_fails_in_d3hot,
        r48_hot_reset_that_fails_beside_a_change_of_power,
        r48_hot_reset_that_fails_beside_a_reset,
        r77_batch_that_is_dropped,
        r77_control_that_takes_no_write,
        r77_control_that_becomes_something_else,
        r77_what_becomes_of_control_in_d3hot,
        r77_what_becomes_of_control_in_low_power,
        r77_on_beside_entries_of_freed_vectors,
        r77_off_that_is_not_taken,
        r77_dead_bars_beside_a_table_in_the_capability,
        r79_open,
        r79_close,
        r79_left_behind_before_open,
        r79_freed_in_vain,
        r79_closed_in_vain,
        // The last: lockdep is off when it has seen aer_inject.
        r80_non_fatal_error_on_the_way_to_d0,
        r80_non_fatal_error,
        r80_non_fatal_error_with_a_loss,
        r80_non_fatal_error_asleep,
        r80_non_fatal_error_before_d3hot,
        r77_what_becomes_of_control_after_an_error,
        r46_link_is_reset_for_a_neighbour,
        r77_on_after_a_reset_of_the_link,
        r77_on_after_a_reset_of_the_link_while_hidden,
        r78_bars_are_not_there_after_a_reset_of_the_link,
    ])
}
