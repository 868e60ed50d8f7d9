// SPDX-License-Identifier: GPL-2.0-only

//! Devices that come out of a reset, which the kernel knows of, in a state of their own.

use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::hold::{self, Call, Locked, Stuck};
use tph_selftests::msix::Traits;
use tph_selftests::pci::Bdf;
use tph_selftests::policy::Policy;
use tph_selftests::protocol::Access;
use tph_selftests::root_port;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::{PCI_COMMAND, PCI_TPH_CTRL};
use tph_selftests::{assert_errno, skip};
use tph_tests::bed::{Bed, Kind, D0, D3HOT};
use tph_tests::{booted_with_notph, needs_tph};

use super::{agreed, opened_together, pair, CAPABILITY, MSIX, ON, STRAY};

type Reset = (&'static str, fn(&Bed));

const HOT_RESET: &str = "hot reset";

/// Resets that the kernel knows of, and after which it restores BARs and MSI-X.
const RESETS: [Reset; 4] = [
    ("VFIO_DEVICE_RESET", |bed| {
        bed.device.reset().expect("VFIO_DEVICE_RESET");
    }),
    (HOT_RESET, |bed| {
        bed.device.hot_reset(&[]).expect("hot reset");
    }),
    ("FLR in config space", |bed| bed.device.initiate_flr()),
    ("reset through sysfs", |bed| {
        bed.endpoint.bdf.reset().expect("a reset through sysfs");
    }),
];

/// A reset that the device comes out of with TPH on.
pub fn reset_and_come_up(bed: &Bed, on: u32, reset: impl Fn(&Bed)) {
    let before = bed.endpoint.counters().reset;
    bed.endpoint.after_reset(on, STRAY);
    reset(bed);
    bed.endpoint.after_reset(0, 0);
    let resets = bed.endpoint.counters().reset - before;
    assert!(resets > 0, "what this test is about");
    if bed.kind.in_msix {
        // The PCI core restores its words of the table before anybody can turn TPH off.
        bed.endpoint.clear_violations();
    }
}

pub fn r77_on_after_a_reset(bench: &mut Bench) {
    for kind in [CAPABILITY, MSIX] {
        bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
            let bed = Bed::new(bench, kind, policy);
            for (name, reset) in RESETS {
                for on in ON {
                    for used in [false, true] {
                        let what = format!("{name}, {on:#x}, {kind:?}, in use: {used}");
                        if used {
                            bed.put(StMode::InterruptVector, Requester::Extended);
                        }
                        reset_and_come_up(&bed, on, reset);
                        bed.endpoint.assert_off(&what);
                        assert_eq!(bed.device.control(), 0, "{what}");
                    }
                    bed.works();
                    bed.device.set_control(0);
                }
            }
        });
    }
}

/// The same where nobody uses TPH, because the user has none.
fn hidden(bench: &mut Bench, kind: Kind, completer: Option<u8>) {
    let endpoint = {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        bed.endpoint.clone()
    };
    if let Some(completer) = completer {
        endpoint.set_root_port(completer);
    }
    endpoint.after_reset(ON[0], STRAY);
    let bed = Bed::open(endpoint, kind);
    bed.endpoint.after_reset(0, 0);
    bed.endpoint.clear_violations();
    bed.endpoint.assert_off(&format!("open, hidden, {kind:?}"));
    assert_eq!(bed.device.find_tph(), None, "{kind:?}, {completer:?}");
    for (name, reset) in RESETS {
        if name == HOT_RESET && !bed.endpoint.bdf.siblings().is_empty() {
            // Of functions that are somebody else's, too.
            continue;
        }
        for on in ON {
            let what = format!("{name}, {on:#x}, hidden, {kind:?}, {completer:?}");
            reset_and_come_up(&bed, on, reset);
            bed.endpoint.assert_off(&what);
        }
    }
    drop(bed);
    bench.next_round();
}

pub fn r77_on_after_a_reset_while_hidden(bench: &mut Bench) {
    needs_tph();
    for kind in [CAPABILITY, MSIX] {
        for completer in [root_port::NONE, root_port::RESERVED] {
            hidden(bench, kind, Some(completer));
        }
    }
}

pub fn r77_on_after_a_reset_with_notph(bench: &mut Bench) {
    if !booted_with_notph() {
        skip!("the kernel was booted without pci=notph");
    }
    hidden(bench, CAPABILITY, None);
}

/// Both functions of a bus come up with TPH on, one of which nobody has asked to reset.
pub fn r77_on_after_a_hot_reset_of_the_bus(bench: &mut Bench) {
    let beds = pair(bench);
    for asked in &beds {
        for on in ON {
            for bed in &beds {
                bed.put(StMode::InterruptVector, Requester::Extended);
                bed.endpoint.after_reset(on, STRAY);
            }
            asked.device.hot_reset(&[]).expect("hot reset");
            for bed in &beds {
                bed.endpoint.after_reset(0, 0);
                if bed.kind.in_msix {
                    bed.endpoint.clear_violations();
                }
                let what = format!("a hot reset of the bus, {on:#x}, {:?}", bed.kind);
                bed.endpoint.assert_off(&what);
                assert_eq!(bed.device.control(), 0, "{what}");
            }
        }
    }
    beds.iter().for_each(Bed::works);
}

/// Two below one port that lose their state in D3hot, opened by one user.
fn losing_pair(bench: &mut Bench) -> [Bed; 2] {
    let [first, second] = [(); 2].map(|()| {
        bench.pick_where("two below one port that lose their state", |bdf| {
            let loses = |bdf: &Bdf| Traits::of(bdf).is_some_and(|traits| !traits.no_soft_reset);
            let siblings = bdf.siblings();
            loses(bdf) && !siblings.is_empty() && siblings.iter().all(loses)
        })
    });
    opened_together(first, second)
}

/// Who is asked for a hot reset, and the other one, both ways round.
fn both_ways(beds: &[Bed; 2]) -> [(&Bed, &Bed); 2] {
    [(&beds[0], &beds[1]), (&beds[1], &beds[0])]
}

/// The first that was opened is the last that is closed.
fn close(beds: [Bed; 2]) {
    let [first, second] = beds;
    drop(second);
    drop(first);
}

/// A hot reset takes all devices of the set to D0 before it finds out that it cannot be done: one
/// that lost its state on the way has it again when the call returns, whoever was asked.
pub fn r48_hot_reset_that_fails_in_d3hot(bench: &mut Bench) {
    let beds = losing_pair(bench);
    for (asked, other) in both_ways(&beds) {
        let what = format!("{:?}, asked of the other", other.kind);
        for bed in &beds {
            bed.put(StMode::InterruptVector, Requester::Extended);
        }
        let before = beds.each_ref().map(|bed| agreed(bed, "before"));
        for locked in &beds {
            other.device.set_power_state(D3HOT);
            let lock = Locked::new(&locked.endpoint.bdf);
            assert_errno!(asked.device.hot_reset(&[]), EAGAIN, "{what}");
            assert_eq!(other.power_state(), D0 as u8, "what this test is about");
            assert_eq!(
                beds.each_ref().map(|bed| agreed(bed, &what)),
                before,
                "{what}"
            );
            drop(lock);
        }
    }
    beds.iter().for_each(Bed::works);
    close(beds);
}

/// Fails the test if Control was read or written since a place in the log.
#[track_caller]
pub fn assert_control_left_alone(bed: &Bed, mark: u64, what: &str) {
    let control = u64::from(bed.device.tph_offset()) + u64::from(PCI_TPH_CTRL);
    let touches =
        |offset: u64, width: u32| offset < control + 4 && control < offset + u64::from(width);
    let log = bed.endpoint.log_after(mark);
    let looked = log.iter().find(|entry| match entry.access {
        Access::ConfigRead { offset, width, .. } | Access::ConfigWrite { offset, width, .. } => {
            touches(offset, width)
        }
        _ => false,
    });
    assert!(looked.is_none(), "{what}: {looked:?}");
}

/// A hot reset that is asked of one device fails, and leaves the Control of the other one alone,
/// which the kernel believes to be off before and afterwards.
#[track_caller]
fn fails_and_leaves_alone(asked: &Bed, other: &Bed, what: &str) {
    let off = |when| {
        let when = format!("{what}, {when}");
        other.endpoint.assert_kernel_has_it_off(&when);
    };
    off("before the hot reset");
    let mark = other.endpoint.mark();
    assert_errno!(asked.device.hot_reset(&[]), EAGAIN, "{what}");
    assert_control_left_alone(other, mark, what);
    off("the hot reset");
}

/// A device that is about to go to D3hot is left alone by the hot reset that fails beside it.
pub fn r48_hot_reset_that_fails_beside_a_change_of_power(bench: &mut Bench) {
    let beds = losing_pair(bench);
    for (asked, other) in both_ways(&beds) {
        for bed in &beds {
            bed.put(StMode::InterruptVector, Requester::Extended);
        }
        let before = beds.each_ref().map(|bed| agreed(bed, "before"));
        for locked in &beds {
            for kill in [true, false] {
                let what = format!("{:?}, killed: {kill}", other.kind);
                let sleep = Call::WriteByte(other.device.power_register(), D3HOT as u8);
                let stuck = Stuck::new(&other.device, sleep);
                let lock = Locked::new(&locked.endpoint.bdf);
                fails_and_leaves_alone(asked, other, &what);
                drop(lock);
                if kill {
                    stuck.kill();
                    assert_eq!(other.power_state(), D0 as u8, "{what}");
                } else {
                    stuck.go_on();
                    assert_eq!(other.power_state(), D3HOT as u8, "{what}");
                    other.endpoint.assert_kernel_has_it_off(&what);
                    other.device.set_power_state(D0);
                }
                assert_eq!(
                    beds.each_ref().map(|bed| agreed(bed, &what)),
                    before,
                    "{what}"
                );
            }
        }
    }
    beds.iter().for_each(Bed::works);
    close(beds);
}

/// So is one in the middle of a reset of its own, whose lock is what the hot reset fails for. It
/// slept before: what it has is to be looked at, but not before the reset is done.
pub fn r48_hot_reset_that_fails_beside_a_reset(bench: &mut Bench) {
    if cfg!(target_arch = "aarch64") {
        skip!("config space is written under a spinlock: nobody can be held there");
    }
    let beds = losing_pair(bench);
    for (asked, other) in both_ways(&beds) {
        let what = format!("{:?}, in a reset", other.kind);
        for bed in &beds {
            bed.put(StMode::InterruptVector, Requester::Extended);
        }
        let before = agreed(asked, "before");
        other.device.set_power_state(D3HOT);
        let bdf = other.endpoint.bdf.clone();
        let held = hold::next_write(&bdf, PCI_COMMAND as u16);
        let reset = thread::spawn(move || bdf.reset());
        hold::wait();
        assert_eq!(other.power_state(), D0 as u8, "what this test is about");
        fails_and_leaves_alone(asked, other, &what);
        held.release();
        reset
            .join()
            .expect("who resets")
            .expect("a reset through sysfs");
        other.endpoint.assert_off(&what);
        assert_eq!(agreed(asked, &what), before, "{what}");
        // The PCI core has woken it, and has saved what was left of it.
        other.device.decode_memory(true);
        other.restore_interrupts();
    }
    beds.iter().for_each(Bed::works);
    close(beds);
}
