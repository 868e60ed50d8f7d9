// SPDX-License-Identifier: GPL-2.0-only

//! The next access that takes hardware to what is wanted of it.
//!
//! *Wanted* is what the user of a device has asked for, *held* what hardware has, as far as is
//! known. An event (a write of the user, a reset, sleep) changes one or both; then [`next`] names
//! one step at a time, and [`take_steps`] takes it, until there is nothing left to do, or nothing
//! that can be done. Whatever the state, the ST table changes only when the requester was read as
//! disabled or was told to be, and the requester is not enabled beside an entry that need not be
//! what is wanted.

use super::regs::Control;

/// How much of a device can be reached.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reach {
    /// Nothing: its power is off, or it must be left alone.
    Nothing,
    /// Control, to disable the requester: it is in D3hot, where config space takes writes (PCIe
    /// r6.2 5.3.1.4.1).
    ControlOnly,
    /// Config space.
    Config,
    /// Config space, and its memory BARs.
    Memory,
}

/// What a read of Control finds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Found {
    /// Nobody answers.
    Silent,
    /// A reserved value, which nobody has written: the requester may be enabled.
    Reserved,
    /// A value that can be written.
    Control(Control),
}

/// Why what is recorded as held may not be what hardware has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Doubt {
    /// Hardware has it: nothing has happened since it was looked at.
    None,
    /// The device may have slept, and lost what it had. The PCI core puts a table in MSI-X back.
    Slept,
    /// The device may have lost all that it had, behind everybody's back.
    Behind,
    /// Control is as recorded, and is so after a reset, too. An entry that is recorded as not 0
    /// tells: a reset clears them all.
    Entry,
    /// The device refused what it was told. Control is written, and read, before all else.
    Refused,
}

/// Where the ST table is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Place {
    /// Nowhere.
    None,
    /// In the capability.
    Capability,
    /// In the MSI-X table.
    Msix,
}

impl Place {
    /// What has to be reached for an access to the table.
    pub(crate) const fn reach(self) -> Reach {
        match self {
            Self::None | Self::Capability => Reach::Config,
            Self::Msix => Reach::Memory,
        }
    }
}

/// The entries of the table, compared with what is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Entries {
    /// Where they are.
    pub(crate) place: Place,
    /// Whether hardware may have something else than is wanted in one of them.
    pub(crate) due: bool,
}

/// What hardware has, as far as is known, without its entries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Held {
    /// Control; `None` if nothing is known of it. Then all entries are due before any of them is
    /// used, except those that somebody else puts back.
    pub(crate) control: Option<Control>,
    /// Whether `control` was read, and not only written.
    pub(crate) seen: bool,
    /// Whether what is recorded is to be doubted.
    pub(crate) doubt: Doubt,
    /// Whether the table refused what was written: it is not tried again before the next event.
    pub(crate) table_refused: bool,
    /// Whether Control refused what was written, likewise.
    pub(crate) control_refused: bool,
    /// Whether the last read after a write to Control found another value: each write is read back
    /// from then on, until one is found.
    pub(crate) refused_last: bool,
}

/// One access, or the accesses that write the entries that are due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step {
    /// Read Control: [`Held::looked`], or [`Held::looked_at_reserved`].
    Look,
    /// Read an entry that is recorded as not 0: [`Held::looked_at_entry`].
    LookAtEntry,
    /// Write Control: [`Held::wrote`].
    Control(Control),
    /// Write the entries that are due: [`Held::table_refused`] if the table refuses one.
    WriteDue,
}

impl Held {
    /// Nothing is known: all entries are due.
    pub(crate) const UNKNOWN: Self = Self {
        control: None,
        seen: false,
        doubt: Doubt::None,
        table_refused: false,
        control_refused: false,
        refused_last: false,
    };

    /// The device refused what it was told.
    pub(crate) const REFUSED: Self = Self {
        doubt: Doubt::Refused,
        ..Self::UNKNOWN
    };

    /// An event has come: what was refused may be tried again.
    pub(crate) fn try_again(&mut self) {
        self.table_refused = false;
        self.control_refused = false;
    }

    /// The device may have lost what it had. What is in doubt already stays so for its own reason.
    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        if self.control.is_some() && matches!(self.doubt, Doubt::None | Doubt::Entry) {
            self.doubt = doubt;
        }
    }

    /// The device is about to sleep, and may lose what it has. Whether all entries are due now: if
    /// it may have lost all of it before, nothing is known any more.
    pub(crate) fn before_suspend(&mut self) -> bool {
        let unknown = self.doubt == Doubt::Behind;
        if unknown {
            *self = Self::UNKNOWN;
        }
        self.doubt(Doubt::Slept);
        unknown
    }

    /// Control was written.
    pub(crate) fn wrote(&mut self, control: Control) {
        self.control = Some(control);
        self.seen = false;
    }

    /// The requester is about to be enabled. `witness`: whether an entry is recorded as not 0; it
    /// is looked at first.
    pub(crate) fn before_enable(&mut self, witness: bool) {
        let disabled = self.control.is_some_and(|control| !control.enabled());
        if self.doubt == Doubt::None && disabled && witness {
            self.doubt = Doubt::Entry;
        }
    }

    /// Control was read, which has `found`. Whether all entries are due now: the device has lost
    /// what it had. `witness` as for [`Self::before_enable`].
    pub(crate) fn looked(&mut self, place: Place, witness: bool, found: Control) -> bool {
        let slept = self.doubt == Doubt::Slept;
        let differs = self.control != Some(found);
        let told = self.doubt == Doubt::None;
        let lost = !told && self.doubt != Doubt::Refused && differs;
        let put_back = slept && place == Place::Msix;
        let ask = slept && !put_back && witness && found == Control::RESET;
        let asked = self.doubt == Doubt::Entry;

        if told {
            self.control_refused |= differs;
            self.refused_last = differs;
        }
        self.control = Some(found);
        self.seen = true;
        self.doubt = if !lost && (ask || asked) {
            Doubt::Entry
        } else {
            Doubt::None
        };
        lost && !put_back
    }

    /// Control was read, which has a reserved value: nothing is known, and all entries are due. A
    /// device that has made that of what was written is left alone until the next event.
    pub(crate) fn looked_at_reserved(&mut self) {
        let told = self.doubt == Doubt::None;
        *self = Self {
            control_refused: told,
            refused_last: told || self.refused_last,
            ..Self::UNKNOWN
        };
    }

    /// An entry was read that is recorded as not 0. Whether all entries are due now.
    pub(crate) fn looked_at_entry(&mut self, as_recorded: bool) -> bool {
        self.doubt = Doubt::None;
        !as_recorded
    }

    /// What is in force, if that is known.
    pub(crate) fn in_force(&self) -> Option<Control> {
        match self.doubt {
            Doubt::Slept => None,
            _ => self.control,
        }
    }
}

/// What hardware may have of what is wanted: TPH is not used beside an entry that need not be what
/// is wanted.
pub(crate) fn permitted(wanted: Control, held: &Held, entries: Entries) -> Control {
    if entries.due || held.doubt == Doubt::Entry {
        wanted.disabled()
    } else {
        wanted
    }
}

/// The next step; `None` if there is nothing to do, or nothing that can be done with this `reach`.
/// Control is read at the end if it enables the requester, with `confirm`, or if the device refused
/// the last one, unless it was read since it was written.
pub(crate) fn next(
    wanted: Control,
    held: &Held,
    entries: Entries,
    reach: Reach,
    confirm: bool,
) -> Option<Step> {
    if reach == Reach::Nothing || held.control_refused && held.control.is_none() {
        return None;
    }
    let reaches_table = reach >= entries.place.reach();
    let reads = reach >= Reach::Config;
    match held.doubt {
        _ if !reads => (),
        Doubt::None => (),
        Doubt::Slept | Doubt::Behind => return Some(Step::Look),
        Doubt::Entry if reaches_table => return Some(Step::LookAtEntry),
        Doubt::Entry => (),
        Doubt::Refused => {
            return Some(match held.control {
                None => Step::Control(wanted.disabled()),
                Some(_) => Step::Look,
            })
        }
    }

    if entries.due && reaches_table && !held.table_refused {
        return Some(match held.control {
            Some(control) if !control.enabled() => Step::WriteDue,
            Some(control) => Step::Control(control.disabled()),
            None => Step::Control(wanted.disabled()),
        });
    }

    let target = permitted(wanted, held, entries);
    match held.control {
        Some(control) if control == target => {
            let confirm = confirm || control.enabled() || held.refused_last;
            (reads && confirm && !held.seen).then_some(Step::Look)
        }
        _ if held.control_refused || !reads && target.enabled() => None,
        // A change of the mode goes through "disabled".
        Some(control) if control.enabled() && control.st_mode != target.st_mode => {
            Some(Step::Control(control.disabled()))
        }
        _ => Some(Step::Control(target)),
    }
}

/// A device and its ST table, as the steps need them.
pub(crate) trait Device {
    /// How the entries compare with what is wanted.
    fn entries(&self) -> Entries;

    /// Whether there is an entry that is recorded as not 0, and not due.
    fn has_witness(&self) -> bool;

    /// All entries are due.
    fn all_due(&mut self);

    /// Reads Control.
    fn read_control(&mut self) -> Found;

    /// Writes Control.
    fn write_control(&mut self, control: Control);

    /// Reads the entry of [`Self::has_witness`]. Whether it is as recorded.
    fn witness_is_as_recorded(&mut self) -> bool;

    /// Writes the entries that are due. Whether the table took them all.
    fn write_due(&mut self) -> bool;

    /// Is told of each step before it is taken.
    fn steps(&mut self, _step: Step, _held: &Held) {}
}

/// Takes all steps that can be taken with this `reach`; `confirm` as for [`next`]. Whether the
/// device answers: if not, nothing is known of it.
pub(crate) fn take_steps(
    wanted: Control,
    held: &mut Held,
    device: &mut impl Device,
    reach: Reach,
    confirm: bool,
) -> bool {
    held.try_again();
    while let Some(step) = next(wanted, held, device.entries(), reach, confirm) {
        device.steps(step, held);
        let lost = match step {
            Step::Look => match device.read_control() {
                Found::Silent => {
                    *held = Held::UNKNOWN;
                    device.all_due();
                    return false;
                }
                Found::Reserved => {
                    held.looked_at_reserved();
                    true
                }
                Found::Control(found) => {
                    // It matters of a device that may have slept.
                    let witness = held.doubt == Doubt::Slept && device.has_witness();
                    held.looked(device.entries().place, witness, found)
                }
            },
            Step::LookAtEntry => held.looked_at_entry(device.witness_is_as_recorded()),
            Step::Control(control) => {
                device.write_control(control);
                held.wrote(control);
                // Whether it has arrived is seen when the device wakes up.
                if reach == Reach::ControlOnly && held.doubt == Doubt::None {
                    held.doubt = Doubt::Slept;
                }
                false
            }
            Step::WriteDue => {
                held.table_refused = !device.write_due();
                false
            }
        };
        if lost {
            device.all_due();
        }
    }
    true
}
