// SPDX-License-Identifier: GPL-2.0-only

//! The steps from what hardware holds to what is wanted: every state of every device.

use crate::rules::{
    reconcile::{
        permitted,
        Doubt,
        Entries,
        Held,
        Place,
        Reach,
        Step, //
    },
    regs::{
        Control,
        RequesterEnable,
        StMode, //
    },
};
use crate::walk::{
    all_controls,
    known_control,
    walk,
    Device,
    Known, //
};

const REACHES: [Reach; 4] = [
    Reach::Nothing,
    Reach::ControlOnly,
    Reach::Config,
    Reach::Memory,
];
const PLACES: [Place; 3] = [Place::None, Place::Capability, Place::Msix];
const DOUBTS: [Doubt; 5] = [
    Doubt::None,
    Doubt::Slept,
    Doubt::Behind,
    Doubt::Entry,
    Doubt::Refused,
];

const ON: Control = Control {
    st_mode: StMode::InterruptVector,
    requester_enable: RequesterEnable::Extended,
};

/// A device that has what is recorded of it, or has lost it where that is in doubt.
fn devices(known: &Known, real: Control) -> Vec<Device> {
    let as_recorded = Device::honest(known.held.control.unwrap_or(real), !known.due);
    let mut devices = vec![as_recorded];
    let lost = Device {
        control: Control::RESET,
        // The PCI core puts a table in MSI-X back after sleep.
        entries: (known.held.doubt == Doubt::Slept && known.place == Place::Msix && !known.due)
            || !known.witness && !known.due,
        ..as_recorded
    };
    match known.held.doubt {
        Doubt::None | Doubt::Refused => (),
        Doubt::Slept | Doubt::Behind => devices.push(lost),
        // Control is known to be as recorded.
        Doubt::Entry => devices.push(Device {
            control: as_recorded.control,
            ..lost
        }),
    }
    devices
}

/// All that can be known of a device, for each of which `f` is called.
fn for_each_known(mut f: impl FnMut(Known, Control)) {
    for control in std::iter::once(None).chain(all_controls().into_iter().map(Some)) {
        for real in all_controls() {
            if control.is_some_and(|control| control != real) {
                continue;
            }
            for place in PLACES {
                for due in [false, true] {
                    for witness in [false, true] {
                        for seen in [false, true] {
                            for doubt in DOUBTS {
                                // A table that is nowhere has no entries, and what is unknown
                                // cannot be doubted.
                                if place == Place::None && (due || witness)
                                    || control.is_none() && seen
                                    || control.is_none() != (doubt == Doubt::Refused)
                                        && (control.is_some() || doubt != Doubt::None)
                                    || doubt == Doubt::Entry && (!witness || due)
                                {
                                    continue;
                                }
                                let held = Held {
                                    control,
                                    seen,
                                    doubt,
                                    table_refused: false,
                                    control_refused: false,
                                    refused_last: false,
                                };
                                for refused_last in [false, true] {
                                    let known = Known {
                                        held: Held {
                                            refused_last,
                                            ..held
                                        },
                                        place,
                                        due,
                                        witness,
                                    };
                                    f(known, real);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether a device may be told from one that has lost what it had.
fn is_told(known: &Known, device: &Device) -> bool {
    let control = known.held.control == Some(device.control);
    match known.held.doubt {
        // Only an enable asks for more than Control.
        Doubt::Behind => !control || device.entries || known.due,
        Doubt::Slept => !control || device.entries || known.due || device.control == Control::RESET,
        Doubt::None | Doubt::Entry | Doubt::Refused => true,
    }
}

/// Whatever is known of a device that goes to sleep: nobody is told that TPH is on, which would be
/// saved, and put back before the table is. What was in doubt is not known then.
#[test]
fn r80_r86_nothing_is_in_force_asleep() {
    for_each_known(|known, _| {
        let mut held = known.held;
        let all_due = held.before_suspend();
        assert_eq!(held.in_force(), None, "{known:?}");
        assert_eq!(all_due, known.held.doubt == Doubt::Behind, "{known:?}");
        if all_due {
            assert_eq!(held, Held::UNKNOWN, "{known:?}");
        }
    });
}

/// What can be reached is as wanted afterwards, with nothing in use that need not be; and a second
/// time there is nothing to do.
#[test]
fn r33_r77_every_state_of_every_device() {
    let mut cases = 0;
    let mut longest = 0;
    for_each_known(|known, real| {
        for device in devices(&known, real) {
            for wanted in all_controls() {
                for reach in REACHES {
                    for confirm in [false, true] {
                        let mut known = known;
                        if wanted.enabled() && known.held.doubt == Doubt::Behind {
                            // As a user's write that enables has it, after a first look.
                            let looked = walk(
                                known.held.control.unwrap_or(wanted),
                                known,
                                device,
                                reach,
                                false,
                            );
                            if reach < Reach::Config {
                                continue;
                            }
                            known = looked.known;
                            let mut device = looked.device;
                            device.answers = usize::MAX;
                            let witness = known.witness && !known.due;
                            known.held.before_enable(witness);
                            check(wanted, known, device, reach, confirm);
                            cases += 1;
                            continue;
                        }
                        if !is_told(&known, &device) {
                            continue;
                        }
                        longest = longest.max(check(wanted, known, device, reach, confirm));
                        cases += 1;
                    }
                }
            }
        }
    });
    println!("{cases} cases, at most {longest} steps");
    assert!(
        cases > 10_000 && longest <= 6,
        "{cases} cases, {longest} steps"
    );
}

fn check(wanted: Control, known: Known, device: Device, reach: Reach, confirm: bool) -> usize {
    let after = walk(wanted, known, device, reach, confirm);
    let what = format!("{wanted:?} {known:?} {device:?} {reach:?}: {after:?}");
    assert!(after.answered, "{what}");
    if reach == Reach::Nothing {
        assert!(after.steps.is_empty(), "{what}");
        return 0;
    }
    let entries = Entries {
        place: known.place,
        due: after.known.due,
    };
    if reach == Reach::ControlOnly {
        // What may lose its state is not enabled; what is to be disabled is, at once.
        let permitted = permitted(wanted, &after.known.held, entries);
        assert!(
            permitted.enabled() || !after.device.control.enabled(),
            "{what}"
        );
        assert!(!permitted.enabled() || after.steps.is_empty(), "{what}");
        let again = walk(wanted, after.known, after.device, reach, confirm);
        assert_eq!(again.steps, [], "{what}, again: {again:?}");
        return after.steps.len();
    }
    // What is recorded is so.
    assert!(!after.device.reserved, "{what}");
    assert_eq!(
        after.known.held.control,
        Some(after.device.control),
        "{what}"
    );
    assert_eq!(
        after.device.control,
        permitted(wanted, &after.known.held, entries),
        "{what}"
    );
    if after.device.control.enabled() {
        assert!(after.device.entries, "{what}");
    }
    if reach >= known.place.reach() {
        assert!(after.device.entries && !after.known.due, "{what}");
        assert_eq!(after.device.control, wanted, "{what}");
    }
    let looks = confirm || after.device.control.enabled() || known.held.refused_last;
    assert!(!looks || after.known.held.seen, "{what}");

    let again = walk(wanted, after.known, after.device, reach, confirm);
    assert_eq!(again.steps, [], "{what}, again: {again:?}");
    after.steps.len()
}

/// It ends, nothing is used, and it stays due.
#[test]
fn r79_a_table_that_takes_nothing() {
    for_each_known(|known, real| {
        for device in devices(&known, real) {
            for wanted in all_controls() {
                for confirm in [false, true] {
                    let device = Device {
                        takes_entries: false,
                        ..device
                    };
                    let after = walk(wanted, known, device, Reach::Memory, confirm);
                    let tries = |step: &&Step| **step == Step::WriteDue;
                    assert!(after.steps.iter().filter(tries).count() <= 1);
                    assert!(!known.due || after.known.due);
                    assert!(
                        !after.known.due || !after.device.control.enabled(),
                        "{known:?} {after:?}"
                    );
                }
            }
        }
    });
}

/// It ends, and what is recorded is what was read at last.
#[test]
fn r77_a_control_that_takes_nothing() {
    for_each_known(|known, real| {
        for device in devices(&known, real) {
            for wanted in all_controls() {
                for confirm in [false, true] {
                    let device = Device {
                        takes_control: false,
                        ..device
                    };
                    let after = walk(wanted, known, device, Reach::Memory, confirm);
                    if known.held.doubt == Doubt::Refused {
                        let writes = after.steps.contains(&Step::WriteDue);
                        assert_eq!(writes, known.due, "nothing was lost: {known:?} {after:?}");
                    }
                    let recorded = after.known.held.control;
                    if confirm || recorded.is_some_and(Control::enabled) {
                        assert_eq!(recorded, Some(device.control), "{known:?} {after:?}");
                    }
                    // It stays so, whoever asks.
                    if after.known.held.refused_last {
                        let again = walk(wanted, after.known, after.device, Reach::Config, false);
                        let recorded = again.known.held.control;
                        assert_eq!(recorded, Some(device.control), "{after:?} {again:?}");
                    }
                }
            }
        }
    });
}

/// A device that comes up with a reserved value has lost what it had, and gets it.
#[test]
fn r77_a_control_that_comes_up_reserved() {
    for_each_known(|known, real| {
        let found = matches!(known.held.doubt, Doubt::Slept | Doubt::Behind);
        if !found && known.held.control.is_some() {
            return;
        }
        let device = Device {
            reserved: true,
            // Nobody puts a table back then whose device has made up its Control.
            ..Device::honest(real, known.held.control.is_none() && !known.due)
        };
        for wanted in all_controls() {
            for reach in [Reach::Config, Reach::Memory] {
                for confirm in [false, true] {
                    check(wanted, known, device, reach, confirm);
                }
            }
        }
    });
}

/// A device that makes a reserved value of what is written, or keeps one: it ends, and nothing is
/// known of it, if it was looked at. TPH is off then, if it takes that.
#[test]
fn r77_a_control_that_becomes_reserved() {
    let mut found = 0;
    for_each_known(|known, real| {
        for device in devices(&known, real) {
            for (garbles, takes_control) in [(true, true), (false, false)] {
                let device = Device {
                    garbles,
                    takes_control,
                    reserved: !takes_control,
                    ..device
                };
                for wanted in all_controls() {
                    for reach in [Reach::Config, Reach::Memory] {
                        let after = walk(wanted, known, device, reach, true);
                        let what = format!("{wanted:?} {known:?} {device:?} {reach:?} {after:?}");
                        assert!(after.answered, "{what}");
                        if after.steps.last() != Some(&Step::Look) || !after.device.reserved {
                            continue;
                        }
                        found += 1;
                        let held = after.known.held;
                        assert_eq!(held.in_force(), None, "{what}");
                        assert!(held.control_refused && after.known.due, "{what}");
                        if takes_control {
                            check(Control::RESET, after.known, after.device, reach, true);
                        }
                    }
                }
            }
        }
    });
    assert!(found > 1000, "{found} cases");
}

/// Wherever a device stops: it ends, and what a look finds is that nobody answers. When it answers
/// again, all is written.
#[test]
fn r41_a_device_that_stops_between_two_steps() {
    for_each_known(|known, real| {
        for device in devices(&known, real) {
            for wanted in all_controls() {
                for answers in 0..8 {
                    let stops = Device { answers, ..device };
                    let after = walk(wanted, known, stops, Reach::Memory, true);
                    if after.answered {
                        continue;
                    }
                    assert_eq!(after.known.held, Held::UNKNOWN);
                    assert!(after.known.due);
                    let back = Device {
                        answers: usize::MAX,
                        entries: false,
                        ..after.device
                    };
                    let entries = Entries {
                        place: known.place,
                        due: true,
                    };
                    assert!(!permitted(wanted, &after.known.held, entries).enabled());
                    let again = walk(wanted, after.known, back, Reach::Memory, true);
                    assert!(again.answered && again.device.entries, "{again:?}");
                    assert_eq!(again.device.control, wanted);
                }
            }
        }
    });
}

/// The accesses of what happens most, in their order.
#[test]
fn r42_steps_of_the_common_events() {
    let off = ON.disabled();
    let at = |control, place| Known {
        held: known_control(control),
        place,
        due: false,
        witness: true,
    };
    let device = |known: &Known| Device::honest(known.held.control.unwrap_or(ON), !known.due);
    let steps = |wanted, known: Known, confirm| {
        walk(wanted, known, device(&known), Reach::Memory, confirm).steps
    };
    let doubted = |mut known: Known, doubt| {
        known.held.doubt = doubt;
        known
    };

    // TPH_ST: a look, the entries with the requester disabled around them, a look.
    let mut batch = doubted(at(ON, Place::Capability), Doubt::Behind);
    batch.due = true;
    assert_eq!(
        steps(ON, batch, true),
        [
            Step::Look,
            Step::Control(off),
            Step::WriteDue,
            Step::Control(ON),
            Step::Look
        ]
    );
    // An enable, after the look that a write of Control begins with.
    let mut enable = at(off, Place::Capability);
    enable.held.before_enable(true);
    assert_eq!(
        steps(ON, enable, true),
        [Step::LookAtEntry, Step::Control(ON), Step::Look]
    );
    // A device that slept, and has what it had.
    let slept = doubted(at(ON, Place::Capability), Doubt::Slept);
    assert_eq!(steps(ON, slept, false), [Step::Look]);
    // One that slept programmed, and not enabled.
    let slept = doubted(at(Control::RESET, Place::Capability), Doubt::Slept);
    assert_eq!(
        steps(Control::RESET, slept, false),
        [Step::Look, Step::LookAtEntry]
    );
    // After a reset.
    let reset = Known {
        held: Held::UNKNOWN,
        place: Place::Capability,
        due: true,
        witness: false,
    };
    assert_eq!(
        steps(Control::RESET, reset, false),
        [Step::Control(Control::RESET), Step::WriteDue]
    );
    // A batch that was not taken: TPH is off before anything else is done.
    let refused = Known {
        held: Held::REFUSED,
        due: true,
        ..at(ON, Place::Capability)
    };
    assert_eq!(
        steps(Control::RESET, refused, true),
        [Step::Control(Control::RESET), Step::Look, Step::WriteDue]
    );
    // Vectors freed.
    let mut freed = at(ON, Place::Msix);
    freed.due = true;
    assert_eq!(
        steps(ON, freed, false),
        [
            Step::Control(off),
            Step::WriteDue,
            Step::Control(ON),
            Step::Look
        ]
    );
    // The same in D3hot.
    let asleep =
        |wanted, known: Known| walk(wanted, known, device(&known), Reach::ControlOnly, true).steps;
    freed.held.doubt = Doubt::Slept;
    assert_eq!(asleep(ON, freed), [Step::Control(off)]);
    // A reset is about to come, in D3hot.
    assert_eq!(asleep(Control::RESET, slept), []);
    let on = doubted(at(ON, Place::Capability), Doubt::Slept);
    assert_eq!(asleep(ON, on), []);
    assert_eq!(
        asleep(Control::RESET, on),
        [Step::Control(off), Step::Control(Control::RESET)]
    );
}
