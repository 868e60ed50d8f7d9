// SPDX-License-Identifier: GPL-2.0-only

//! A device under test: what its hardware holds, and, if it is an emulated one, what it has seen.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::ops::Range;
use std::rc::Rc;

use tph_protocol::{
    Access, Client, Counters, Entry, Fault, Lost, Position, State, Table, TphShape, TphState,
    Violation,
};
use tph_uapi::pci_regs::*;

use crate::kstate::{self, KernelState};
use crate::pci::Bdf;
use crate::root_port;
use crate::skip;
use crate::tph;
use crate::vfio::{self, Device, OpenBy};

/// The channel to the emulator, shared by the endpoints of a program.
pub type Control = Rc<RefCell<Client<File>>>;

/// A device under test.
pub struct Endpoint {
    /// Its address.
    pub bdf: Bdf,
    /// Its name and the channel, if it is emulated.
    emulated: Option<(String, Control)>,
    /// Its shape when the test got it, if the test has changed that.
    original: Cell<Option<TphShape>>,
    /// Whether its root port's completer field was overridden by the test.
    completer: Cell<u8>,
    /// Whether the process that emulates it has ended.
    dead: Cell<bool>,
    /// Whether the test has it come out of a reset in a way of its own.
    peculiar: Cell<bool>,
}

/// What the TPH registers of the hardware hold, and the kernel's idea of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers {
    /// Control.
    pub control: u32,
    /// All ST entries, in the capability or in MSI-X.
    pub entries: Vec<u16>,
}

impl Endpoint {
    /// A device at `bdf`, and how to ask it.
    pub fn new(bdf: Bdf, emulated: Option<(String, Control)>) -> Self {
        Self {
            bdf,
            emulated,
            original: Cell::new(None),
            completer: Cell::new(root_port::EXTENDED),
            dead: Cell::new(false),
            peculiar: Cell::new(false),
        }
    }

    /// Opens it, by whatever way there is.
    #[track_caller]
    pub fn open(&self) -> Device {
        let by = [OpenBy::Cdev, OpenBy::Group, OpenBy::NoIommu]
            .into_iter()
            .find(|by| by.possible(&self.bdf))
            .unwrap_or_else(|| panic!("{}: no way to open it", self.bdf));
        self.open_by(by)
    }

    /// Opens it in a certain way.
    #[track_caller]
    pub fn open_by(&self, by: OpenBy) -> Device {
        vfio::open(&self.bdf, by).unwrap_or_else(|error| panic!("{}: {by:?}: {error}", self.bdf))
    }

    /// Its name, if it is emulated.
    pub fn name(&self) -> Option<&str> {
        self.emulated.as_ref().map(|(name, _)| name.as_str())
    }

    /// Whether the emulator can be asked.
    pub fn is_emulated(&self) -> bool {
        self.emulated.is_some()
    }

    /// Asks the emulator; the test is left out on other hardware.
    fn ask<T>(
        &self,
        what: &str,
        question: impl FnOnce(&mut Client<File>, &str) -> Result<T, tph_protocol::Error>,
    ) -> T {
        let Some((name, control)) = &self.emulated else {
            skip!("{what} needs the emulated endpoint");
        };
        question(&mut control.borrow_mut(), name)
            .unwrap_or_else(|error| panic!("{name}: {what}: {error}"))
    }

    /// All of its state.
    pub fn state(&self) -> State {
        self.ask("the endpoint's state", |client, name| client.state(name))
    }

    /// The state of its TPH capability, which it must have.
    #[track_caller]
    pub fn tph(&self) -> TphState {
        self.state().tph.expect("an endpoint with TPH")
    }

    /// Accesses since they were last counted.
    pub fn counters(&self) -> Counters {
        self.ask("counting accesses", |client, name| client.counters(name))
    }

    /// Counts from 0.
    pub fn reset_counters(&self) {
        self.ask("counting accesses", |client, name| {
            client.reset_counters(name)
        });
    }

    /// What `body` makes of the counters.
    pub fn counted(&self, body: impl FnOnce()) -> Counters {
        self.reset_counters();
        body();
        self.counters()
    }

    /// A place in the log.
    pub fn mark(&self) -> u64 {
        self.ask("the access log", |client, name| client.marker(name, "mark"))
    }

    /// What was logged after a place.
    pub fn log_after(&self, mark: u64) -> Vec<Entry> {
        self.ask("the access log", |client, name| client.log(name, mark + 1))
    }

    /// The writes to config space that have touched these bytes since a place: where they begin,
    /// how many bytes they are, and what was written.
    pub fn config_writes(&self, mark: u64, bytes: Range<u64>) -> Vec<(u64, u32, u64)> {
        let touches =
            |offset: u64, width: u32| offset < bytes.end && bytes.start < offset + u64::from(width);
        let log = self.log_after(mark).into_iter();
        log.filter_map(|entry| match entry.access {
            Access::ConfigWrite {
                offset,
                width,
                value,
            } if touches(offset, width) => Some((offset, width, value)),
            _ => None,
        })
        .collect()
    }

    /// What software did wrong since the test has the endpoint.
    pub fn violations(&self) -> Vec<Violation> {
        self.ask("the list of violations", |client, name| {
            client.violations(name)
        })
    }

    /// Forgets what software did wrong.
    pub fn clear_violations(&self) {
        self.ask("the list of violations", |client, name| {
            client.clear_violations(name)
        });
    }

    /// Has it stop answering, or answer again.
    pub fn fault(&self, mode: Fault) {
        self.ask("fault injection", |client, name| client.fault(name, mode));
    }

    /// Has it reset itself, by its own means: the kernel knows nothing of it.
    pub fn reset_itself(&self, what: Lost) {
        self.ask("a reset by the device itself", |client, name| {
            client.reset_itself(name, what)
        });
    }

    /// Has it come out of each reset from now on with that in Control and in each ST entry, for as
    /// long as the test lasts. 0 and 0 is what honest devices do.
    pub fn after_reset(&self, control: u32, tag: u16) {
        self.peculiar.set((control, tag) != (0, 0));
        self.ask("a device that turns TPH on", |client, name| {
            client.after_reset(name, control, tag)
        });
    }

    /// Ends the process that emulates it and all others: nobody can be asked any more, and nothing
    /// but a new virtual machine brings them back.
    pub fn kill(&self) {
        self.ask("the end of the endpoint", |client, _| client.exit());
        self.dead.set(true);
    }

    /// Changes config space behind everybody's back.
    pub fn poke(&self, offset: u16, width: u8, value: u64) {
        let space = tph_protocol::Space::Config;
        self.ask("a change behind the kernel's back", |client, name| {
            client.poke(name, space, offset.into(), width, value)
        });
    }

    /// Bytes of config space, whole dwords. That is no access.
    pub fn peek_config(&self, bytes: Range<u16>) -> Vec<u8> {
        let space = tph_protocol::Space::Config;
        let dword = |offset: u16| {
            self.ask("the endpoint's state", |client, name| {
                client.peek(name, space, offset.into(), 4)
            }) as u32
        };
        let dwords = bytes.step_by(4).map(dword);
        dwords.flat_map(u32::to_le_bytes).collect()
    }

    /// Has a dword of config space behind the header say something else, for as long as the test
    /// lasts.
    pub fn lie(&self, offset: u16, value: u32) {
        self.keep_original();
        self.ask("a device that lies", |client, name| {
            client.lie(name, offset, value)
        });
    }

    /// Ends all lies; no driver is bound then, and the kernel has found the device anew.
    pub fn tell_the_truth(&self) {
        if let Some(shape) = self.original.take() {
            self.change_shape(shape);
        }
    }

    fn keep_original(&self) {
        if self.original.get().is_none() {
            self.original.set(Some(shape_of(&self.state())));
        }
    }

    /// Gives it another TPH capability and lets the kernel find it anew; no driver is bound then.
    pub fn reshape(&self, shape: TphShape) {
        self.keep_original();
        self.change_shape(shape);
    }

    /// Changes registers of its TPH capability that the kernel reads at every open; the offset and
    /// a table that gets longer are what it does not. No driver is bound afterwards.
    pub fn retouch(&self, shape: TphShape) {
        self.keep_original();
        self.bdf.unbind();
        self.ask("another capability", |client, name| {
            client.set_tph(name, shape)
        });
    }

    fn change_shape(&self, shape: TphShape) {
        self.bdf.unbind();
        self.ask("another capability", |client, name| {
            client.set_tph(name, shape)
        });
        self.bdf.rediscover();
    }

    /// Says what the root port above completes. `completer` counts from the next open on.
    pub fn set_root_port(&self, completer: u8) {
        let Some(port) = self.bdf.root_port() else {
            skip!("{} is not below a root port", self.bdf);
        };
        // To the requester, reserved is none, as the field's definition says.
        let known = match completer {
            root_port::RESERVED => root_port::NONE,
            other => other,
        };
        self.ask("another root port", |client, name| {
            client.set_root_port(name, known)
        });
        root_port::set(&port, completer);
        self.completer.set(completer);
    }

    /// Fails the test unless the first entries hold these tags, and the others none.
    #[track_caller]
    pub fn assert_tags(&self, first: &[u16], what: &str) {
        let tags = self.entries();
        let (held, others) = tags.split_at(first.len());
        assert_eq!(held, first, "{what}");
        assert!(others.iter().all(|&tag| tag == 0), "{what}: {tags:x?}");
    }

    /// What the kernel believes.
    pub fn kernel(&self) -> KernelState {
        kstate::of(&self.bdf)
    }

    /// What its registers hold. On an emulated endpoint that is no access; of another one, a table
    /// in MSI-X is not read.
    pub fn registers(&self) -> Registers {
        if self.is_emulated() {
            let state = self.state();
            let tph = state.tph.expect("an endpoint with TPH");
            return Registers {
                control: tph.control,
                entries: match state.msix {
                    Some(msix) if tph.capability & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_MSIX => {
                        msix.entries.iter().map(|entry| entry.tag).collect()
                    }
                    _ => tph.entries,
                },
            };
        }
        let config = self.bdf.config();
        let link = tph::find(|offset| config.dword(offset));
        let at = link.expect("a TPH capability").offset;
        let entries = tph::claimed_entries(config.dword(at + PCI_TPH_CAP as u16)).min(64);
        Registers {
            control: config.dword(at + PCI_TPH_CTRL as u16),
            entries: (0..entries)
                .map(|index| config.word(tph::entry_offset(at, index)))
                .collect(),
        }
    }

    /// What its Control register holds: the same, but quicker.
    pub fn control(&self) -> u32 {
        if !self.is_emulated() {
            return self.registers().control;
        }
        let at = kstate::of(&self.bdf).tph_cap + PCI_TPH_CTRL as u16;
        let space = tph_protocol::Space::Config;
        self.ask("the endpoint's state", |client, name| {
            client.peek(name, space, at.into(), 4)
        }) as u32
    }

    /// The entries of its ST table.
    #[track_caller]
    pub fn entries(&self) -> Vec<u16> {
        self.registers().entries
    }

    /// Fails the test unless the kernel's idea of the device is what the device holds.
    #[track_caller]
    pub fn assert_kernel_agrees(&self) {
        let (kernel, control) = (self.kernel(), self.control());
        let mode = (control & PCI_TPH_CTRL_MODE_SEL_MASK) as u8;
        let requester = ((control & PCI_TPH_CTRL_REQ_EN_MASK) >> 8) as u8;
        let said = (kernel.tph_enabled, kernel.tph_mode, kernel.tph_req_type);
        let expected = (requester != 0, mode, requester);
        assert_eq!(
            said, expected,
            "{}: (enabled, mode, type) of the kernel; Control is {control:#x}",
            self.bdf
        );
    }

    /// Fails the test unless TPH is off, the table all 0, and the kernel knows it.
    #[track_caller]
    pub fn assert_off(&self, after: &str) {
        let registers = self.registers();
        assert_eq!(registers.control, 0, "{}: Control after {after}", self.bdf);
        assert!(
            registers.entries.iter().all(|&tag| tag == 0),
            "{}: ST table after {after}: {:x?}",
            self.bdf,
            registers.entries
        );
        self.assert_kernel_has_it_off(after);
    }

    /// Fails the test unless the kernel believes that TPH is off.
    #[track_caller]
    pub fn assert_kernel_has_it_off(&self, after: &str) {
        let kernel = self.kernel();
        assert!(
            !kernel.tph_enabled && kernel.tph_mode == 0 && kernel.tph_req_type == 0,
            "{}: the kernel after {after}: {kernel:?}",
            self.bdf
        );
    }

    /// What every test ends with: nothing was done wrong, and the kernel knows what is on.
    pub fn check(&self) {
        if self.dead.get() {
            return;
        }
        if self.is_emulated() {
            let violations = self.violations();
            if let Some(first) = violations.first() {
                panic!(
                    "{}: {} violations, the first: {first:?}",
                    self.bdf,
                    violations.len()
                );
            }
        }
        if self.kernel().tph_cap != 0 && !self.is_faulty() {
            self.assert_kernel_agrees();
        }
    }

    fn is_faulty(&self) -> bool {
        self.is_emulated() && self.state().fault != Fault::None
    }

    /// Undoes what the test has changed.
    pub fn put_back(&self) {
        if !self.is_emulated() || self.dead.get() {
            return;
        }
        if self.is_faulty() {
            self.fault(Fault::None);
        }
        if self.peculiar.get() {
            self.after_reset(0, 0);
        }
        if self.completer.get() != root_port::EXTENDED {
            self.set_root_port(root_port::EXTENDED);
        }
        self.tell_the_truth();
    }
}

/// The shape of an endpoint as it is.
fn shape_of(state: &State) -> TphShape {
    let Some(tph) = &state.tph else {
        return TphShape {
            table: Some(Table::Absent),
            completer: Some(state.completer),
            eetlp: Some(state.eetlp),
            ..TphShape::default()
        };
    };
    let table = match tph.capability & PCI_TPH_CAP_LOC_MASK {
        PCI_TPH_LOC_CAP => Table::Cap,
        PCI_TPH_LOC_MSIX => Table::Msix,
        _ => Table::None,
    };
    let links = &state.extended_capabilities;
    let place = links
        .iter()
        .position(|link| link.offset == tph.offset)
        .expect("TPH is in the chain");
    let position = match (place, links.len() - place) {
        (0, 1) => Position::Only,
        (0, _) => Position::First,
        (_, 1) => Position::Last,
        _ => Position::Middle,
    };
    let size = (tph.capability & PCI_TPH_CAP_ST_MASK) >> PCI_TPH_CAP_ST_MASK.trailing_zeros();
    TphShape {
        table: Some(table),
        modes: Some((tph.capability & 7) as u8),
        entries: Some(size as u16 + 1),
        extended: Some(tph.capability & PCI_TPH_CAP_EXT_TPH != 0),
        completer: Some(state.completer),
        eetlp: Some(state.eetlp),
        position: Some(position),
        offset: Some(tph.offset),
    }
}
