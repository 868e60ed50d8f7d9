// SPDX-License-Identifier: GPL-2.0-only

//! Takes the steps that the rules name on a device that is a few fields, and looks at each.

use crate::rules::{
    reconcile::{
        next,
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

/// What a device really holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Device {
    pub control: Control,
    /// Whether each entry is what is wanted.
    pub entries: bool,
    /// Whether the table takes writes.
    pub takes_entries: bool,
    /// Whether Control takes writes.
    pub takes_control: bool,
    /// After so many accesses it answers no more.
    pub answers: usize,
}

/// What is known of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Known {
    pub held: Held,
    pub place: Place,
    pub due: bool,
    /// Whether an entry that is not due is recorded as not 0.
    pub witness: bool,
}

/// What came of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Walk {
    pub known: Known,
    pub device: Device,
    pub steps: Vec<Step>,
    /// Whether the device answered each look.
    pub answered: bool,
}

/// Takes all steps.
pub fn walk(
    wanted: Control,
    mut known: Known,
    mut device: Device,
    reach: Reach,
    confirm: bool,
) -> Walk {
    const MOST: usize = 8;

    let mut steps = vec![];
    let mut answered = true;
    known.held.try_again();
    loop {
        let entries = Entries {
            place: known.place,
            due: known.due,
        };
        let Some(step) = next(wanted, &known.held, entries, reach, confirm) else {
            break;
        };
        steps.push(step);
        assert!(
            steps.len() <= MOST,
            "no end: {wanted:?} {known:?} {reach:?} {steps:?}"
        );
        let alive = device.answers > 0;
        device.answers = device.answers.saturating_sub(1);
        match step {
            Step::Control(control) => {
                if let Some(now) = known.held.control {
                    assert!(
                        !now.enabled() || now.st_mode == control.st_mode,
                        "the mode changes while enabled: {steps:?}"
                    );
                }
                if alive && device.takes_control {
                    device.control = control;
                }
                known.held.wrote(control);
            }
            Step::Entries => {
                let known_disabled = known.held.control.is_some_and(|now| !now.enabled());
                assert!(known_disabled, "the table changes while enabled: {steps:?}");
                assert!(reach >= known.place.reach());
                if !device.takes_entries {
                    known.held.stuck = true;
                } else {
                    known.due = false;
                    device.entries |= alive;
                }
            }
            Step::Look if alive => {
                if known
                    .held
                    .looked(known.place, known.witness && !known.due, device.control)
                {
                    known.due = true;
                }
            }
            Step::Look => {
                known.held = Held::UNKNOWN;
                known.due = true;
                answered = false;
                break;
            }
            Step::LookAtEntry => {
                assert!(reach >= known.place.reach());
                if known.held.looked_at_entry(alive && device.entries) {
                    known.due = true;
                }
            }
        }
    }
    Walk {
        known,
        device,
        steps,
        answered,
    }
}

/// What a device that does what it is told has in Control after each access, from one value that
/// is in force to another.
pub fn states(current: Control, wanted: Control) -> Vec<Control> {
    let known = Known {
        held: known_control(current),
        place: Place::None,
        due: false,
        witness: false,
    };
    let device = Device {
        control: current,
        entries: true,
        takes_entries: true,
        takes_control: true,
        answers: usize::MAX,
    };
    let walk = walk(wanted, known, device, Reach::Config, false);
    walk.steps
        .iter()
        .filter_map(|step| match step {
            Step::Control(control) => Some(*control),
            _ => None,
        })
        .collect()
}

/// Control is known, and was looked at.
pub fn known_control(control: Control) -> Held {
    Held {
        control: Some(control),
        seen: true,
        doubt: Doubt::None,
        stuck: false,
        ignored: false,
    }
}

/// The values that Control can have at all.
pub fn all_controls() -> Vec<Control> {
    let modes = [
        StMode::NoSt,
        StMode::InterruptVector,
        StMode::DeviceSpecific,
    ];
    let enables = [
        RequesterEnable::Disabled,
        RequesterEnable::Standard,
        RequesterEnable::Extended,
    ];
    modes
        .iter()
        .flat_map(|&st_mode| {
            enables.iter().map(move |&requester_enable| Control {
                st_mode,
                requester_enable,
            })
        })
        .collect()
}
