// SPDX-License-Identifier: GPL-2.0-only

//! State that a device loses, or makes up, behind the driver's back: it resets itself while it goes
//! on answering, it comes out of a reset with TPH on, its BARs die while config space lives. What a
//! call says it has done is in hardware, all of it, or TPH is off.

use std::process::ExitCode;
use std::rc::Rc;

use tph_selftests::aer::{self, Severity};
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::engine::Engine;
use tph_selftests::hold::Locked;
use tph_selftests::module::{self, Gate};
use tph_selftests::msix::Traits;
use tph_selftests::pci::Bdf;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::registers::reset_itself;
use tph_selftests::protocol::{Access, Entry, Fault, Lost};
use tph_selftests::root_port;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::{
    PCI_BASE_ADDRESS_0, PCI_BASE_ADDRESS_MEM_MASK, PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_TPH_CTRL,
    PCI_TPH_CTRL_REQ_EN_MASK,
};
use tph_selftests::vfio::{cpu, none, open_beside, Source, StRequest};
use tph_selftests::{assert_errno, harness, kernel, skip, tests, Errno};
use tph_tests::bed::{states, Bed, InForce, Kind, D0, D3HOT, ENTRIES, KINDS, STATES};
use tph_tests::{booted_with_notph, needs_tph, st, xst, CPU, OTHER_CPU};

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

/// TPH_ST of one entry when all were lost.
fn then_one_entry(bench: &mut Bench, kind: Kind) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let bed = Bed::new(bench, kind, policy);
        let mut tally = Tally::default();
        for (mode, requester) in states(policy) {
            let usable = requester != Requester::Disabled && mode != StMode::NoSt;
            for loss in LOSSES {
                for index in [0, ENTRIES - 1] {
                    let what = format!("{kind:?}, {mode:?}, {requester:?}, {loss:?}, {index}");
                    bed.put(mode, requester);
                    lose(&bed, loss);
                    if usable {
                        tally.program_one(&bed, index, &what);
                    } else {
                        let result = bed.device.program(index, &[cpu(CPU)]);
                        assert_errno!(result, ENXIO, "{what}");
                    }
                }
            }
        }
        tally.check();
        bed.restore_interrupts();
        bed.works();
    });
}

fn r77_lost_then_tph_st_capability(bench: &mut Bench) {
    then_one_entry(bench, CAPABILITY);
}

fn r77_lost_then_tph_st_msix(bench: &mut Bench) {
    then_one_entry(bench, MSIX);
}

/// Every write of Control in every state when all was lost; then TPH is enabled at the latest.
fn then_control(bench: &mut Bench, kind: Kind) {
    let bed = Bed::new(bench, kind, Policy::DsSt);
    let mut tally = Tally::default();
    for (mode, requester) in STATES {
        let before = control(mode, requester);
        for loss in LOSSES {
            for (mode, requester) in STATES {
                let value = control(mode, requester);
                let what = format!("{kind:?}, {before:#x} to {value:#x}, {loss:?}");
                bed.put_control(before);
                lose(&bed, loss);
                tally.write_control(&bed, before, value, &what);
                let before = bed.device.control();
                tally.write_control(&bed, before, ENABLED, &format!("{what}, enabled"));
            }
        }
    }
    tally.check();
    bed.restore_interrupts();
    bed.works();
}

fn r77_lost_then_control_capability(bench: &mut Bench) {
    then_control(bench, CAPABILITY);
}

fn r77_lost_then_control_msix(bench: &mut Bench) {
    then_control(bench, MSIX);
}

/// Control is the same before and after: TPH is off, in No ST mode, and the table has tags.
fn r77_lost_while_off_then_enabled(bench: &mut Bench) {
    for kind in [CAPABILITY, MSIX] {
        bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
            let bed = Bed::new(bench, kind, policy);
            // The last entry alone, then others.
            for index in [ENTRIES - 1, 1, 0] {
                let what = format!("{kind:?}, {policy:?}, {index}");
                bed.device
                    .enable(StMode::InterruptVector, Requester::Extended);
                bed.device
                    .program_extended(0, &[none(); ENTRIES as usize])
                    .expect("TPH_ST");
                bed.device
                    .program_extended(index, &[cpu(CPU)])
                    .expect("TPH_ST");
                bed.device.enable(StMode::NoSt, Requester::Disabled);
                let before = bed.endpoint.entries();
                assert_eq!(before[usize::from(index)], xst(CPU), "{what}");
                lose(&bed, Lost::Everything);
                bed.device.set_control(ENABLED);
                let now = agreed(&bed, &what);
                assert_eq!(now.registers.control, ENABLED, "{what}");
                assert_eq!(now.registers.entries, before, "{what}");
            }
        });
    }
}

/// A mode that is selected is all that there is to lose.
fn r77_lost_mode_alone(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        for mode in [StMode::InterruptVector, StMode::DeviceSpecific] {
            for loss in LOSSES {
                let what = format!("{kind:?}, {mode:?}, {loss:?}");
                bed.device.enable(mode, Requester::Disabled);
                lose(&bed, loss);
                assert_errno!(bed.device.program(0, &[cpu(CPU)]), ENXIO, "{what}");
                bed.device.set_control(control(mode, Requester::Standard));
                agreed(&bed, &what);
                bed.endpoint.assert_tags(&[], &what);
                bed.device.set_control(0);
            }
        }
    });
}

/// By a register of the device's own, at its user's hand.
fn r77_reset_by_a_register(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::IvSt);
        let mut tally = Tally::default();
        for value in [reset_itself::EVERYTHING, reset_itself::TPH] {
            let what = format!("{kind:?}, {value}");
            bed.put(StMode::InterruptVector, Requester::Standard);
            Engine::new(&bed.device).reset_itself(value);
            assert_eq!(bed.endpoint.control(), 0, "{what}");
            bed.device.decode_memory(true);
            tally.program_one(&bed, 1, &what);
        }
        tally.check();
    });
}

/// Memory space stays off, and so the MSI-X table out of its user's reach: TPH does, too.
fn r77_lost_and_not_decoded(bench: &mut Bench) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let bed = Bed::new(bench, MSIX, policy);
        for write in [false, true] {
            let what = format!("not decoded, {policy:?}, Control is written: {write}");
            bed.put(StMode::InterruptVector, Requester::Extended);
            let before = programmed(&bed);
            bed.endpoint.reset_itself(Lost::Everything);
            bed.endpoint.reset_counters();
            if write {
                // The driver has the device decode memory for it.
                let on = control(StMode::InterruptVector, Requester::Standard);
                bed.device.set_control(on);
                let now = agreed(&bed, &what).registers;
                assert_eq!((now.control, now.entries), (on, before.clone()), "{what}");
            } else {
                let result = bed.device.program_extended(1, &[cpu(CPU)]);
                assert_errno!(result, EIO, "{what}");
                let counters = bed.endpoint.counters();
                let mmio = counters.mmio();
                assert_eq!(mmio, 0, "{what}: {counters:?}");
                disabled(&bed, &what);
            }

            bed.device.decode_memory(true);
            bed.device.set_control(ENABLED);
            let now = agreed(&bed, &what).registers;
            assert_eq!((now.control, now.entries), (ENABLED, before), "{what}");
        }
        bed.restore_interrupts();
        bed.works();
    });
}

/// The device turns TPH on while it resets itself, in a way that nobody asked for.
fn r77_on_after_its_own_reset(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        let mut tally = Tally::default();
        for on in ON {
            for (mode, requester) in STATES {
                let before = control(mode, requester);
                // Nothing would tell.
                if before == on {
                    continue;
                }
                for loss in LOSSES {
                    let what = format!("{kind:?}, {before:#x}, comes up with {on:#x}, {loss:?}");
                    let lost = || {
                        bed.put_control(before);
                        bed.endpoint.after_reset(on, STRAY);
                        lose_and_have(&bed, loss, on);
                        bed.endpoint.after_reset(0, 0);
                    };
                    if is_enabled(before) && mode != StMode::NoSt {
                        lost();
                        tally.program_one(&bed, 1, &what);
                    }
                    for value in [0, before, ENABLED] {
                        lost();
                        let what = format!("{what}, then {value:#x} is written");
                        tally.write_control(&bed, before, value, &what);
                    }
                }
            }
        }
        tally.check();
        bed.restore_interrupts();
        bed.works();
    });
}

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
fn reset_and_come_up(bed: &Bed, on: u32, reset: impl Fn(&Bed)) {
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

fn r77_on_after_a_reset(bench: &mut Bench) {
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

fn r77_on_after_a_reset_while_hidden(bench: &mut Bench) {
    needs_tph();
    for kind in [CAPABILITY, MSIX] {
        for completer in [root_port::NONE, root_port::RESERVED] {
            hidden(bench, kind, Some(completer));
        }
    }
}

fn r77_on_after_a_reset_with_notph(bench: &mut Bench) {
    if !booted_with_notph() {
        skip!("the kernel was booted without pci=notph");
    }
    hidden(bench, CAPABILITY, None);
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

/// Both functions of a bus come up with TPH on, one of which nobody has asked to reset.
fn r77_on_after_a_hot_reset_of_the_bus(bench: &mut Bench) {
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
fn r48_hot_reset_that_fails_in_d3hot(bench: &mut Bench) {
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

/// A fatal error resets the link, and takes BARs and Command with it: nobody restores them but the
/// user, and tags in MSI-X are out of reach until then.
fn r77_on_after_a_reset_of_the_link(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        for on in ON {
            let what = format!("a reset of the link, {on:#x}, {kind:?}");
            bed.put(StMode::InterruptVector, Requester::Extended);
            reset_and_come_up(&bed, on, |bed| {
                aer::inject(&bed.endpoint.bdf, Severity::Fatal);
            });
            assert_eq!(bed.endpoint.control(), 0, "{what}");
            bed.endpoint.assert_kernel_agrees();
            assert_eq!(bed.device.control(), 0, "{what}");
            bed.device.decode_memory(true);
            bed.device.set_control(ENABLED);
            agreed(&bed, &what);
            assert_on_with_these_or_none(&bed.endpoint, &[], &what);
            bed.restore_interrupts();
            bed.works();
        }
    });
}

/// A driver of the kernel's.
const NEIGHBOUR: &str = "tph_peer";

/// The neighbour's driver wants the link reset at an error that leaves it as it is, whoever of both
/// has it: the user's device is told of a channel that works, and is reset all the same.
fn r46_link_is_reset_for_a_neighbour(bench: &mut Bench) {
    let beds = pair(bench);
    let [first, second] = beds.map(|bed| bed.endpoint.clone());
    module::ensure(NEIGHBOUR);
    for (ours, neighbour) in [(&first, &second), (&second, &first)] {
        neighbour.bdf.bind(NEIGHBOUR).expect("bind");
        let bed = Bed::open(ours.clone(), Kind::of(ours));
        for hit in [ours, neighbour] {
            let what = format!("{:?}, an error of {}", bed.kind, hit.bdf);
            bed.put(StMode::InterruptVector, Requester::Extended);
            let resets = ours.counters().reset;
            aer::inject(&hit.bdf, Severity::NonFatal);
            assert!(ours.counters().reset > resets, "{what}: no reset");
            assert_eq!(agreed(&bed, &what).registers.control, 0, "{what}");

            // The user does what is left to do, and TPH stays off.
            bed.device.decode_memory(true);
            bed.restore_interrupts();
            bed.assert_off_and_works(&what);
        }
        drop(bed);
        policy::bind(neighbour, Policy::DsSt);
    }
}

/// The register of BAR 0, where the MSI-X table is.
const BAR0: u64 = PCI_BASE_ADDRESS_0 as u64;
const COMMAND: u64 = PCI_COMMAND as u64;

/// The address in it.
fn address_in(bar: u64) -> u64 {
    bar & u64::from(PCI_BASE_ADDRESS_MEM_MASK as u32)
}

/// Goes through a log from the reset in it on. Fails the test if the device is made to decode
/// memory while its BAR is not at `address`, or if anybody reaches for the BAR before both is so.
/// How often it was reached.
#[track_caller]
fn reached_in_place(log: &[Entry], address: u64, what: &str) -> usize {
    let reset = log
        .iter()
        .position(|entry| matches!(entry.access, Access::Reset { .. }))
        .unwrap_or_else(|| panic!("{what}: no reset in the log"));
    let (mut in_place, mut decodes, mut reached) = (false, false, 0);
    for entry in &log[reset + 1..] {
        match entry.access {
            Access::ConfigWrite {
                offset: BAR0,
                value,
                ..
            } => in_place = address_in(value) == address,
            Access::ConfigWrite {
                offset: COMMAND,
                value,
                ..
            } => decodes = value & u64::from(PCI_COMMAND_MEMORY) != 0,
            Access::MmioRead { .. } | Access::MmioWrite { .. } => {
                assert!(decodes && in_place, "{what}: {entry:?}");
                reached += 1;
            }
            _ => (),
        }
        assert!(!decodes || in_place, "{what}: {entry:?}");
    }
    reached
}

/// A reset of the link takes the BARs away. Whatever the user asks for, the driver does not have
/// the device decode memory before they are back, and does not reach for them.
fn r78_bars_are_not_there_after_a_reset_of_the_link(bench: &mut Bench) {
    bench.each([Policy::IvSt, Policy::DsSt], |bench, policy| {
        let bed = Bed::new(bench, MSIX, policy);
        let bar = bed.endpoint.bdf.config().dword(PCI_BASE_ADDRESS_0 as u16);
        let address = address_in(bar.into());
        for (mode, requester) in states(policy) {
            let what = format!("{policy:?}, {mode:?}, {requester:?}");
            bed.put(mode, requester);
            let mark = bed.endpoint.mark();
            aer::inject(&bed.endpoint.bdf, Severity::Fatal);
            let reached = || reached_in_place(&bed.endpoint.log_after(mark), address, &what);
            assert_eq!(reached(), 0, "{what}: recovered");

            bed.device.set_control(ENABLED);
            let _ = bed.device.program_extended(0, &bed.sources());
            bed.device.set_control(0);
            assert_eq!(reached(), 0, "{what}: nobody has restored the BARs");

            bed.device.decode_memory(true);
            bed.device.set_control(ENABLED);
            assert!(reached() > 0, "{what}: the user has restored the BARs");
            assert_eq!(agreed(&bed, &what).registers.control, ENABLED, "{what}");
            bed.restore_interrupts();
            bed.works();
        }
    });
}

/// The hidden capability's, too.
fn r77_on_after_a_reset_of_the_link_while_hidden(bench: &mut Bench) {
    needs_tph();
    let endpoint = Bed::new(bench, CAPABILITY, Policy::DsSt).endpoint.clone();
    endpoint.set_root_port(root_port::NONE);
    let bed = Bed::open(endpoint, CAPABILITY);
    for on in ON {
        reset_and_come_up(&bed, on, |bed| {
            aer::inject(&bed.endpoint.bdf, Severity::Fatal);
        });
        bed.endpoint.assert_off("a reset of the link, hidden");
    }
}

/// BARs that take no writes: a batch for them has not been done.
fn r77_batch_that_is_dropped(bench: &mut Bench) {
    let faults = [Fault::MmioAllOnes, Fault::MmioWritesDropped];
    bench.each(faults, |bench, fault| {
        let bed = Bed::new(bench, MSIX, Policy::DsSt);
        let batches: [&[Source]; 3] = [
            &[cpu(OTHER_CPU), cpu(CPU), cpu(OTHER_CPU), cpu(CPU)],
            &[cpu(OTHER_CPU)],
            &[none(), none()],
        ];
        for batch in batches {
            for requester in [Requester::Standard, Requester::Extended] {
                let what = format!("{fault:?}, {} entries, {requester:?}", batch.len());
                bed.put(StMode::InterruptVector, requester);
                let before = programmed(&bed);
                bed.endpoint.fault(fault);
                let extended = requester == Requester::Extended;
                let programmed = bed.device.program_in(extended, 0, batch);
                assert_errno!(programmed, EIO, "{what}");
                bed.endpoint.fault(Fault::None);
                disabled(&bed, &what);
                assert_eq!(
                    bed.endpoint.entries(),
                    before,
                    "{what}: nothing came through"
                );

                // What it had before, or nothing: not what nobody knows.
                bed.device.set_control(ENABLED);
                agreed(&bed, &what);
                assert_on_with_these_or_none(&bed.endpoint, &before, &what);
            }
        }
        bed.works();
    });
}

/// Control that takes no write, enabled or not: the driver gives up after a few, and the user is
/// shown what hardware has. What is dropped comes to an end, or a driver that does not give up
/// would never be done.
fn r77_control_that_takes_no_write(bench: &mut Bench) {
    const WRITES: u64 = 1000;

    let values = || {
        let all = STATES.into_iter().map(|(mode, on)| control(mode, on));
        all.chain([0])
    };
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        // A PCI core without our patch writes it around each tag.
        let most = match kind.in_msix && !kernel::is_patched() {
            true => HANDFUL + 2 * bed.sources().len() as u64,
            false => HANDFUL,
        };
        for stays in values() {
            bed.put_control(stays);
            bed.endpoint
                .fault(Fault::ControlWritesDropped { writes: WRITES });
            for value in values() {
                let what = format!("{kind:?}: {value:#x} where {stays:#x} stays");
                let written = written_to_control(&bed.endpoint, || bed.device.set_control(value));
                assert!(written <= HANDFUL, "{what}: written {written} times");
                assert_eq!(agreed(&bed, &what).registers.control, stays, "{what}");
            }
            let what = format!("{kind:?}: TPH_ST where {stays:#x} stays");
            let written = written_to_control(&bed.endpoint, || {
                let _ = bed.device.program_extended(0, &bed.sources());
            });
            assert!(written <= most, "{what}: written {written} times");
            assert_eq!(agreed(&bed, &what).registers.control, stays, "{what}");
            bed.endpoint.fault(Fault::None);
            // It was told to be disabled before its entries were written.
            bed.endpoint.clear_violations();
        }
        bed.works();
        bed.endpoint
            .fault(Fault::ControlWritesDropped { writes: WRITES });
        let Bed {
            endpoint, device, ..
        } = bed;
        let written = written_to_control(&endpoint, || drop(device));
        assert!(written <= most, "{kind:?}: close: {written} writes");
        endpoint.fault(Fault::None);
        endpoint.clear_violations();
        endpoint.assert_off("close");
    });
}

/// A device that makes something else of an enable: what its user may have is in force, and what
/// they may not have is off.
fn r77_control_that_becomes_something_else(bench: &mut Bench) {
    let standard = control(StMode::InterruptVector, Requester::Standard);
    let no_st = control(StMode::NoSt, Requester::Extended);
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::IvSt);
        for (becomes, stays) in [
            (standard, standard),
            (no_st, no_st),
            (control(StMode::InterruptVector, Requester::Disabled), 1),
            (control(StMode::DeviceSpecific, Requester::Extended), 0),
            (control(StMode::DeviceSpecific, Requester::Standard), 0),
            (control(StMode::DeviceSpecific, Requester::Disabled), 0),
            (RESERVED[0], 0),
            (RESERVED[1], 0),
        ] {
            let what = format!("{kind:?}: {becomes:#x} where {ENABLED:#x} was written");
            bed.put(StMode::InterruptVector, Requester::Disabled);
            bed.endpoint
                .fault(Fault::ControlBecomes { control: becomes });
            bed.device.set_control(ENABLED);
            let now = agreed(&bed, &what).registers.control;
            bed.endpoint.fault(Fault::None);
            // The device itself has changed the mode of an enabled requester.
            bed.endpoint.clear_violations();
            assert_eq!(now, stays, "{what}");
        }
        bed.works();
    });
}

/// What a device may make of the Control that it has lost and gets back, and what is in force then
/// at a policy without Device Specific mode.
const MADE_OF_IT: [(u32, u32); 8] = [
    (ENABLED, ENABLED),
    (
        control(StMode::InterruptVector, Requester::Standard),
        control(StMode::InterruptVector, Requester::Standard),
    ),
    (
        control(StMode::InterruptVector, Requester::Disabled),
        control(StMode::InterruptVector, Requester::Disabled),
    ),
    (control(StMode::DeviceSpecific, Requester::Extended), 0),
    (control(StMode::DeviceSpecific, Requester::Standard), 0),
    (control(StMode::DeviceSpecific, Requester::Disabled), 0),
    (RESERVED[0], 0),
    (RESERVED[1], 0),
];

/// The same where no user writes Control: a device that has lost it, and makes something else of it
/// when `restore` has the driver put it back.
fn made_of_what_is_restored(
    bench: &mut Bench,
    kinds: [Kind; 2],
    lose: fn(&Bed),
    restore: fn(&Bed),
) {
    bench.each(kinds, |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::IvSt);
        for (becomes, stays) in MADE_OF_IT {
            let what = format!("{kind:?}: {becomes:#x} where {ENABLED:#x} was");
            bed.put(StMode::InterruptVector, Requester::Extended);
            lose(&bed);
            bed.endpoint
                .fault(Fault::ControlBecomes { control: becomes });
            restore(&bed);
            let now = agreed(&bed, &what).registers;
            bed.endpoint.fault(Fault::None);
            bed.endpoint.clear_violations();
            assert_eq!(now.control, stays, "{what}");
            if is_enabled(stays) {
                assert_eq!(now.entries, programmed(&bed), "{what}");
            }
        }
        bed.works();
    });
}

fn r77_what_becomes_of_control_in_d3hot(bench: &mut Bench) {
    made_of_what_is_restored(
        bench,
        LOSING,
        |bed| bed.device.set_power_state(D3HOT),
        |bed| bed.device.set_power_state(D0),
    );
}

fn r77_what_becomes_of_control_in_low_power(bench: &mut Bench) {
    made_of_what_is_restored(
        bench,
        LOSING,
        |bed| bed.sleep_in_low_power(),
        |bed| bed.device.exit_low_power().expect("LOW_POWER_EXIT"),
    );
}

fn r77_what_becomes_of_control_after_an_error(bench: &mut Bench) {
    made_of_what_is_restored(
        bench,
        [CAPABILITY, MSIX],
        |bed| lose(bed, Lost::Tph),
        |bed| aer::inject(&bed.endpoint.bdf, Severity::NonFatal),
    );
}

/// Vectors are freed, and neither the table nor Control takes a write, not at first: their entries
/// are not used as soon as Control takes one.
fn r77_on_beside_entries_of_freed_vectors(bench: &mut Bench) {
    let bed = Bed::new(bench, MSIX, Policy::IvSt);
    for writes in 0..3 {
        let what = format!("{writes} writes to Control dropped");
        bed.put(StMode::InterruptVector, Requester::Extended);
        bed.endpoint.fault(Fault::WritesDropped { writes });
        bed.device.free_msix();
        disabled(&bed, &what);
        bed.endpoint.fault(Fault::None);
        bed.endpoint.clear_violations();
        let vectors = bed.vectors.as_ref().expect("a table in MSI-X");
        let events = vectors.descriptors();
        bed.device.set_msix(0, &events).expect("SET_IRQS");
    }
    bed.works();
}

/// A device that takes no batch, and then not that TPH is off: its user is shown that it is on.
fn r77_off_that_is_not_taken(bench: &mut Bench) {
    let bed = Bed::new(bench, MSIX, Policy::DsSt);
    bed.put(StMode::InterruptVector, Requester::Extended);
    bed.endpoint
        .fault(Fault::WritesDropped { writes: u64::MAX });
    let batch = [cpu(OTHER_CPU)];
    assert_errno!(bed.device.program_extended(0, &batch), EIO, "TPH_ST");
    let now = agreed(&bed, "TPH_ST");
    assert_eq!(now.registers.control, ENABLED, "what this test is about");
    bed.endpoint.fault(Fault::None);
    bed.endpoint.clear_violations();
    bed.works();
}

/// Writes to Control meanwhile.
fn written_to_control(endpoint: &Endpoint, body: impl FnOnce()) -> u64 {
    let at = u64::from(endpoint.tph().offset + PCI_TPH_CTRL as u16);
    let mark = endpoint.mark();
    body();
    endpoint.config_writes(mark, at..at + 4).len() as u64
}

/// A table in the capability has nothing to do with BARs.
fn r77_dead_bars_beside_a_table_in_the_capability(bench: &mut Bench) {
    let bed = Bed::new(bench, CAPABILITY, Policy::DsSt);
    bed.endpoint.fault(Fault::MmioAllOnes);
    bed.put(StMode::InterruptVector, Requester::Extended);
    assert_eq!(bed.endpoint.entries(), programmed(&bed));
    let now = agreed(&bed, "dead BARs");
    assert_eq!(now.registers.control, ENABLED);
    bed.endpoint.fault(Fault::None);
}

/// Accesses to the BARs meanwhile.
fn mmio(endpoint: &Endpoint, body: impl FnOnce()) -> u64 {
    endpoint.counted(body).mmio()
}

/// A device with the most vectors that there are.
fn pick_most(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_with("hundreds of vectors and an ST table in MSI-X", |traits| {
        traits.in_msix && traits.vectors >= 512
    })
}

fn r79_open(bench: &mut Bench) {
    let endpoint = pick_most(bench);
    let count = |endpoint: &Endpoint| {
        endpoint.fault(Fault::MmioAllOnes);
        let mut device = None;
        let count = mmio(endpoint, || device = Some(endpoint.open()));
        drop(device);
        endpoint.fault(Fault::None);
        count
    };
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let stock = count(&endpoint);
    for completer in [root_port::EXTENDED, root_port::NONE] {
        bench::bind(&endpoint, Gate::Safe);
        endpoint.set_root_port(completer);
        let ours = count(&endpoint);
        println!("# open, root port {completer}: {ours} accesses; vfio-pci: {stock}");
        assert!(ours <= stock + HANDFUL, "{ours} accesses");
    }
}

/// With vectors that stay allocated until then, and with such as were freed in vain.
fn r79_close(bench: &mut Bench) {
    let endpoint = pick_most(bench);
    let n = endpoint.entries().len();
    let count = |used: bool, free: bool| {
        let device = endpoint.open();
        // Without events: there are not interrupts enough for so many.
        device
            .set_msix(0, &vec![-1; n])
            .expect("SET_IRQS of all vectors");
        if used {
            device.enable(StMode::InterruptVector, Requester::Standard);
            let batch = vec![cpu(CPU); n];
            device.program(0, &batch).expect("TPH_ST of all vectors");
        }
        endpoint.fault(Fault::MmioAllOnes);
        let freed = mmio(&endpoint, || {
            if free {
                device.free_msix();
            }
        });
        let closed = mmio(&endpoint, || drop(device));
        endpoint.fault(Fault::None);
        (freed, closed)
    };
    for free in [false, true] {
        endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
        let stock = count(false, free);
        bench::bind(&endpoint, Gate::Safe);
        let ours = count(true, free);
        println!("# freed before: {free}; SET_IRQS, close: {ours:?}; vfio-pci: {stock:?}");
        assert!(ours.0 <= stock.0 + HANDFUL, "SET_IRQS: {ours:?}");
        assert!(ours.1 <= stock.1 + HANDFUL, "close: {ours:?}");
        let device = endpoint.open();
        endpoint.assert_off("open");
        drop(device);
    }
}

/// A device that no reset by its own function hits: what was not cleared stays.
fn pick_without_reset(bench: &mut Bench) -> Rc<Endpoint> {
    let endpoint = bench.pick_with("an ST table in MSI-X, without FLR", |traits| {
        traits.in_msix && !traits.flr
    });
    policy::bind(&endpoint, Policy::DsSt);
    endpoint
}

/// TPH is on at last, and there was no tag in the table then.
#[track_caller]
fn enabled_without_tags(bed: &Bed, what: &str) {
    bed.device.set_control(ENABLED);
    let now = agreed(bed, what);
    assert_eq!(now.registers.control, ENABLED, "{what}");
    bed.endpoint.assert_tags(&[], what);
    bed.works();
}

fn r79_left_behind_before_open(bench: &mut Bench) {
    let endpoint = pick_without_reset(bench);
    for allocated in [false, true] {
        endpoint.bdf.unbind();
        endpoint.leave_tags(endpoint.entries().len() as u16, 0xa5);
        policy::bind(&endpoint, Policy::DsSt);
        endpoint.fault(Fault::MmioAllOnes);
        let device = endpoint.open();
        endpoint.fault(Fault::None);
        let what = format!("left before open, vectors are allocated first: {allocated}");
        if !allocated {
            device.set_control(ENABLED);
            assert_on_with_these_or_none(&endpoint, &[], &what);
            device.set_control(0);
        }
        let bed = Bed::of(endpoint.clone(), device, MSIX);
        enabled_without_tags(&bed, &what);
        drop(bed);
        endpoint.assert_off("close");
    }
}

fn r79_freed_in_vain(bench: &mut Bench) {
    let endpoint = pick_without_reset(bench);
    for fault in [Fault::MmioAllOnes, Fault::MmioWritesDropped] {
        for requester in [Requester::Disabled, Requester::Extended] {
            let what = format!("freed in vain, {fault:?}, {requester:?}");
            let bed = Bed::open(endpoint.clone(), MSIX);
            bed.put(StMode::InterruptVector, requester);
            endpoint.fault(fault);
            bed.device.free_msix();
            assert_on_with_these_or_none(&endpoint, &[], &what);
            endpoint.fault(Fault::None);
            bed.allocate_again();
            enabled_without_tags(&bed, &what);
            drop(bed);
            endpoint.assert_off(&what);
        }
    }
}

fn r79_closed_in_vain(bench: &mut Bench) {
    let endpoint = pick_without_reset(bench);
    for requester in [Requester::Disabled, Requester::Extended] {
        let what = format!("closed in vain, {requester:?}");
        let bed = Bed::open(endpoint.clone(), MSIX);
        bed.put(StMode::InterruptVector, requester);
        endpoint.fault(Fault::MmioAllOnes);
        drop(bed);
        endpoint.fault(Fault::None);
        endpoint.assert_off(&what);
        let bed = Bed::open(endpoint.clone(), MSIX);
        endpoint.assert_off("open");
        enabled_without_tags(&bed, &what);
        drop(bed);
        endpoint.assert_off("close");
    }
}

/// An error that resets nothing takes nothing away, from whoever has it and from who is beside it.
fn r80_non_fatal_error(bench: &mut Bench) {
    let beds = pair(bench);
    for (mode, requester) in STATES {
        for bed in &beds {
            bed.put(mode, requester);
        }
        let before: Vec<InForce> = beds.iter().map(|bed| agreed(bed, "before")).collect();
        for hit in &beds {
            let resets = hit.endpoint.counters().reset;
            aer::inject(&hit.endpoint.bdf, Severity::NonFatal);
            assert_eq!(hit.endpoint.counters().reset, resets, "no reset");
            for (bed, before) in beds.iter().zip(&before) {
                let what = format!(
                    "{mode:?}, {requester:?}, {:?} after an error of {}",
                    bed.kind, hit.endpoint.bdf
                );
                assert_eq!(&agreed(bed, &what), before, "{what}");
            }
        }
    }
    beds.iter().for_each(Bed::works);
}

/// An error comes while the device sleeps, and nobody can look what it has. Runtime PM saves its
/// state then: TPH is not what the PCI core saves, and puts back before the table is.
fn r80_non_fatal_error_asleep(bench: &mut Bench) {
    bench.each([CAPABILITY, MSIX], |bench, kind| {
        let bed = Bed::new(bench, kind, Policy::DsSt);
        bed.put(StMode::InterruptVector, Requester::Extended);
        let before = agreed(&bed, "before");
        bed.device.set_power_state(D3HOT);
        aer::inject(&bed.endpoint.bdf, Severity::NonFatal);
        bed.sleep_in_low_power();
        let kernel = bed.endpoint.kernel();
        assert!(!kernel.tph_enabled, "{kind:?}: the PCI core's record");
        bed.wake_from_low_power();
        assert_eq!(agreed(&bed, "awake"), before, "{kind:?}");
        bed.works();
    });
}

/// The device of the error has reset itself: that is found out as it is without an error, and who
/// is beside it has nothing to do with it.
fn r80_non_fatal_error_with_a_loss(bench: &mut Bench) {
    let beds = pair(bench);
    let mut tally = Tally::default();
    for (hit, other) in [(&beds[0], &beds[1]), (&beds[1], &beds[0])] {
        for loss in LOSSES {
            for bed in &beds {
                bed.put(StMode::InterruptVector, Requester::Extended);
            }
            let before = agreed(other, "before");
            let what = format!("{:?}, {loss:?}, and an error", hit.kind);
            lose(hit, loss);
            aer::inject(&hit.endpoint.bdf, Severity::NonFatal);
            if is_enabled(hit.device.control()) {
                tally.program_one(hit, 1, &what);
            } else {
                disabled(hit, &what);
            }
            assert_eq!(agreed(other, &what), before, "{what}: beside it");
        }
    }
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
        r80_non_fatal_error,
        r80_non_fatal_error_with_a_loss,
        r80_non_fatal_error_asleep,
        r77_what_becomes_of_control_after_an_error,
        r46_link_is_reset_for_a_neighbour,
        r77_on_after_a_reset_of_the_link,
        r77_on_after_a_reset_of_the_link_while_hidden,
        r78_bars_are_not_there_after_a_reset_of_the_link,
    ])
}
