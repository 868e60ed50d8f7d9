// SPDX-License-Identifier: GPL-2.0-only

//! Takes the steps that the rules name on a device that is a few fields, and looks at each.

use crate::rules::{
    reconcile::{
        self,
        take_steps,
        Doubt,
        Entries,
        Found,
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
    /// Whether Control reads as a reserved value, whatever `control` is.
    pub reserved: bool,
    /// Whether it does after a write that enables the requester.
    pub garbles: bool,
    /// After so many accesses it answers no more.
    pub answers: usize,
}

impl Device {
    /// Does what it is told. `entries`: whether each is what is wanted.
    pub fn honest(control: Control, entries: bool) -> Self {
        Self {
            control,
            entries,
            takes_entries: true,
            takes_control: true,
            reserved: false,
            garbles: false,
            answers: usize::MAX,
        }
    }
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

/// A device, and what has been done to it.
struct Watched {
    known: Known,
    device: Device,
    reach: Reach,
    steps: Vec<Step>,
}

impl Watched {
    /// Counts an access. Whether the device answers it.
    fn answers(&mut self) -> bool {
        let alive = self.device.answers > 0;
        self.device.answers = self.device.answers.saturating_sub(1);
        alive
    }
}

impl reconcile::Device for Watched {
    fn entries(&self) -> Entries {
        Entries {
            place: self.known.place,
            due: self.known.due,
        }
    }

    fn has_witness(&self) -> bool {
        self.known.witness && !self.known.due
    }

    fn all_due(&mut self) {
        self.known.due = true;
    }

    fn read_control(&mut self) -> Found {
        match self.answers() {
            false => Found::Silent,
            true if self.device.reserved => Found::Reserved,
            true => Found::Control(self.device.control),
        }
    }

    fn write_control(&mut self, control: Control) {
        if self.answers() && self.device.takes_control {
            self.device.control = control;
            self.device.reserved = self.device.garbles && control.enabled();
        }
    }

    fn witness_is_as_recorded(&mut self) -> bool {
        self.answers() && self.device.entries
    }

    fn write_due(&mut self) -> bool {
        let alive = self.answers();
        let device = &self.device;
        let told = !device.reserved || !device.takes_control || !alive;
        assert!(told, "nobody knows whether it is disabled: {device:?}");
        if self.device.takes_entries {
            self.known.due = false;
            self.device.entries |= alive;
        }
        self.device.takes_entries
    }

    fn steps(&mut self, step: Step, held: &Held) {
        const MOST: usize = 8;

        self.steps.push(step);
        let (known, steps) = (&self.known, &self.steps);
        assert!(steps.len() <= MOST, "no end: {known:?} {steps:?}");
        let in_reach = self.reach >= known.place.reach();
        match step {
            Step::Control(control) => {
                let may = self.reach >= Reach::Config || !control.enabled();
                assert!(may, "enabled while it sleeps: {steps:?}");
                let keeps = |now: Control| !now.enabled() || now.st_mode == control.st_mode;
                let keeps = held.control.is_none_or(keeps);
                assert!(keeps, "the mode changes while enabled: {steps:?}");
            }
            Step::WriteDue => {
                let known_disabled = held.control.is_some_and(|now| !now.enabled());
                assert!(known_disabled, "the table changes while enabled: {steps:?}");
                assert!(in_reach, "{steps:?}");
            }
            Step::LookAtEntry => assert!(in_reach, "{steps:?}"),
            Step::Look => assert!(self.reach >= Reach::Config, "{steps:?}"),
        }
    }
}

/// Takes all steps.
pub fn walk(wanted: Control, known: Known, device: Device, reach: Reach, confirm: bool) -> Walk {
    let mut held = known.held;
    let mut watched = Watched {
        known,
        device,
        reach,
        steps: vec![],
    };
    let answered = take_steps(wanted, &mut held, &mut watched, reach, confirm);
    Walk {
        known: Known {
            held,
            ..watched.known
        },
        device: watched.device,
        steps: watched.steps,
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
    let device = Device::honest(current, true);
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
        table_refused: false,
        control_refused: false,
        refused_last: false,
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
