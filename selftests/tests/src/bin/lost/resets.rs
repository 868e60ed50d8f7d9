// SPDX-License-Identifier: GPL-2.0-only

//! Devices that come out of a reset, which the kernel knows of, in a state of their own.

use tph_selftests::bench::Bench;
use tph_selftests::hold::Locked;
use tph_selftests::msix::Traits;
use tph_selftests::pci::Bdf;
use tph_selftests::policy::Policy;
use tph_selftests::root_port;
use tph_selftests::tph::{Requester, StMode};
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

/// A hot reset takes all devices of the set to D0 before it finds out that it cannot be done: one
/// that lost its state on the way has it again when the call returns, whoever was asked.
pub fn r48_hot_reset_that_fails_in_d3hot(bench: &mut Bench) {
    let both = [(); 2].map(|()| {
        bench.pick_where("two below one port that lose their state", |bdf| {
            let loses = |bdf: &Bdf| Traits::of(bdf).is_some_and(|traits| !traits.no_soft_reset);
            let siblings = bdf.siblings();
            loses(bdf) && !siblings.is_empty() && siblings.iter().all(loses)
        })
    });
    let [first, second] = both;
    let beds = opened_together(first, second);
    for (asked, other) in [(&beds[0], &beds[1]), (&beds[1], &beds[0])] {
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
    let [first, second] = beds;
    drop(second);
    drop(first);
}
