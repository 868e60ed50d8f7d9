// SPDX-License-Identifier: GPL-2.0-only

//! TPH of an open device: what is wanted of hardware, what it holds, and what an event does to
//! either. Nothing else writes Control, the ST table, or the PCI core's record of them.
//!
//! Each event changes what is wanted, or what is known of what is held, and then takes the steps
//! that [`reconcile::next`] names. `Documentation/state.rst` has them on one page.

use crate::{
    device::{
        TphSession,
        VfioTph, //
    },
    failure::Failure,
    rules::{
        batch::Batch,
        capability::Offer,
        control, isolation,
        reconcile::{
            self,
            Doubt,
            Held,
            Place,
            Reach,
            Step, //
        },
        refusal::Refusal,
        regs::Control,
        table::{
            Write,
            Writes, //
        },
    },
    rust::{
        pci::{
            self as bus,
            tph::Requester,
            Awake, //
        },
        ratelimit, trace,
        vfio::{
            self,
            pci::{
                Handle,
                HeldVectors,
                InReset,
                Memory,
                MsixTable,
                Open,
                OpenDevice,
                Opening, //
            },
        },
    },
    table::Table,
    uapi, //
};
use core::ops::Range;
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};

const CONTROL: u16 = uapi::PCI_TPH_CTRL as u16;

/// A device with a TPH capability that was opened, whether or not its user is shown that.
pub(crate) struct Tph {
    wanted: Control,
    held: Held,
    table: Table,
    /// Whether the user can map the MSI-X table, and put tags of their own into it.
    mappable: bool,
    /// The kernel is about to end: hardware is left alone.
    retired: bool,
}

/// What can be reached of a device while an event is seen to.
pub(crate) struct Access<'a> {
    vdev: &'a OpenDevice,
    requester: Requester<'a>,
    reach: Reach,
    msix: Option<MsixTable<'a>>,
}

impl<'a> Access<'a> {
    /// As far as the power state, and what is decoded, let one.
    pub(crate) fn new(
        vdev: &'a OpenDevice,
        requester: Requester<'a>,
        msix: Option<MsixTable<'a>>,
    ) -> Self {
        let reach = if !bus::is_powered(vdev.pci()) || !bus::is_accessible(vdev.pci()) {
            Reach::Nothing
        } else if msix.is_none() {
            Reach::Config
        } else {
            Reach::Memory
        };
        Self {
            vdev,
            requester,
            reach,
            msix,
        }
    }

    pub(crate) fn vdev(&self) -> &'a OpenDevice {
        self.vdev
    }

    pub(crate) fn requester(&self) -> &Requester<'a> {
        &self.requester
    }

    /// The MSI-X table, where it is decoded.
    pub(crate) fn msix_table(&self) -> Option<&MsixTable<'a>> {
        self.msix.as_ref()
    }

    /// The same, to change it.
    pub(crate) fn msix_table_mut(&mut self) -> Option<&mut MsixTable<'a>> {
        self.msix.as_mut()
    }

    fn pci(&self) -> &'a pci::Device<Bound> {
        self.vdev.pci()
    }

    fn write_control(&self, control: Control) {
        self.requester.write_dword(CONTROL, control.raw());
    }

    /// Control as hardware has it. [`Gone`] if nobody answers, or with a value that nobody wrote.
    fn control(&self) -> Result<Control, Gone> {
        let raw = self.requester.read_dword(CONTROL);
        (raw != u32::MAX)
            .then(|| Control::from_raw(raw))
            .flatten()
            .ok_or_else(|| {
                if ratelimit::allows() {
                    dev_err!(self.pci(), "TPH: Control reads {:#010x}\n", raw);
                }
                Gone
            })
    }
}

/// The device does not answer.
struct Gone;

/// What came of a write to Control.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Written {
    /// It is in force.
    InForce,
    /// It was dropped.
    Dropped,
    /// Nothing yet: memory has to be decoded for it.
    NeedsMemory,
}

impl Tph {
    /// For a device that is being opened: off, and all of it unknown.
    pub(crate) fn new(place: Place, entries: u16) -> Result<Self> {
        Ok(Self {
            wanted: Control::RESET,
            held: Held::UNKNOWN,
            table: Table::new(place, entries)?,
            mappable: false,
            retired: false,
        })
    }

    /// The user can map the MSI-X table.
    pub(crate) fn set_mappable(&mut self) {
        self.mappable = true;
    }

    /// Where the ST table is.
    pub(crate) fn place(&self) -> Place {
        self.table.place()
    }

    /// The kernel is about to end: hardware is left alone from now on.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    /// Whether hardware is left alone, for good.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired
    }

    /// What the entries of the table are to have.
    pub(crate) fn tags(&self) -> &[u16] {
        self.table.wanted()
    }

    /// Control as the user sees it: what is in force or, of a device that sleeps, what will be.
    pub(crate) fn control(&self) -> Control {
        self.held.in_force().unwrap_or(self.wanted)
    }

    /// Whether something is left to do that could not be done, or is not known to be done.
    pub(crate) fn is_pending(&self) -> bool {
        self.table.entries().due || self.held.doubt != Doubt::None
    }

    /// Whether memory has to be decoded for what is pending.
    fn needs_memory(&self) -> bool {
        self.place() == Place::Msix && self.is_pending()
    }

    /// The MSI-X table, if the ST table is there.
    fn msix_table<'a>(&self, memory: &'a mut Memory<'_>) -> Option<MsixTable<'a>> {
        match self.place() {
            Place::Msix => memory.msix_table(),
            _ => None,
        }
    }

    /// Takes all steps that can be taken, and tells the PCI core what came of it. With `confirm`,
    /// Control has been looked at then.
    fn sync(&mut self, at: &mut Access<'_>, confirm: bool) -> Result<(), Gone> {
        self.held.stuck = false;
        let held = at.msix_table().map(MsixTable::held_vectors);
        self.table.find_changes(at.vdev(), held);
        let done = self.take_steps(at, confirm);
        if at.reach == Reach::Nothing {
            self.silence(at);
        }
        self.report(at);
        done
    }

    fn take_steps(&mut self, at: &mut Access<'_>, confirm: bool) -> Result<(), Gone> {
        let reach = if self.retired {
            Reach::Nothing
        } else {
            at.reach
        };
        while let Some(step) = reconcile::next(
            self.wanted,
            &self.held,
            self.table.entries(),
            reach,
            confirm,
        ) {
            match step {
                Step::Look => {
                    let found = at.control().inspect_err(|_| self.forget())?;
                    let witness = self.table.witness().is_some();
                    if self.held.looked(self.place(), witness, found) {
                        self.table.all_due();
                    }
                }
                Step::LookAtEntry => {
                    if self.held.looked_at_entry(self.table.is_as_recorded(at)) {
                        self.table.all_due();
                    }
                }
                Step::Control(control) => {
                    at.write_control(control);
                    self.held.wrote(control);
                }
                Step::Entries => self.held.stuck = !self.table.write_due(at),
            }
        }
        Ok(())
    }

    /// Nothing is known of hardware.
    fn forget(&mut self) {
        self.held = Held::UNKNOWN;
        self.table.all_due();
    }

    /// Disables the requester of a device in D3hot that has entries that are due: when it wakes up,
    /// the PCI core puts its copies of the vectors' words back before anybody can change them.
    /// Config space takes writes in D3hot (PCIe r6.2 5.3.1.4.1).
    fn silence(&mut self, at: &mut Access<'_>) {
        let enabled = self.held.control.is_none_or(Control::enabled);
        if self.table.entries().due && enabled && !self.retired && bus::is_in_d3hot(at.pci()) {
            let disabled = self.wanted.disabled();
            at.write_control(disabled);
            self.held.wrote(disabled);
        }
    }

    /// Tells the PCI core, which saves and restores by that, what is in force: nothing, where that
    /// is not known.
    fn report(&self, at: &mut Access<'_>) {
        let control = self.held.in_force().unwrap_or(Control::RESET);
        at.requester
            .set_core_state(control.st_mode as u8, control.requester_enable as u8);
    }

    /// Turns TPH off for a device that did not do what it was told, as far as that can be done.
    fn give_up(&mut self, at: &mut Access<'_>) {
        self.wanted = Control::RESET;
        // If it gets there, so much the better.
        at.write_control(Control::RESET);
        match at.control() {
            Ok(found) => {
                self.held.wrote(found);
                // It answers: what it does not take stays due.
                let _ = self.sync(at, false);
            }
            Err(Gone) => {
                self.forget();
                self.report(at);
            }
        }
    }

    /// A write of `bytes` at `offset` of Control. `last`: there is no better way to reach memory.
    fn write_control(
        &mut self,
        at: &mut Access<'_>,
        offer: &Offer,
        offset: usize,
        bytes: &[u8],
        last: bool,
    ) -> Written {
        if at.reach == Reach::Nothing || self.retired {
            return Written::Dropped;
        }
        self.held.doubt(Doubt::Behind);
        if self.sync(at, false).is_err() {
            return Written::Dropped;
        }
        if self.lacks_memory(at) && !last {
            return Written::NeedsMemory;
        }

        let before = self.wanted;
        let Some(next) = control::judge(self.control(), offer, offset, bytes) else {
            return Written::Dropped;
        };
        // What is due must not come into use.
        if next.enabled() && self.is_pending() {
            return Written::Dropped;
        }
        // Another function may have come into the group since the device was opened.
        if isolation::must_be_alone(offer, self.control(), next)
            && !bus::is_alone_in_group(at.pci())
        {
            return Written::Dropped;
        }
        if next.enabled() {
            self.held.before_enable(self.table.witness().is_some());
        }
        self.wanted = next;
        let done = self.sync(at, true);
        if done.is_ok() && !(next.enabled() && self.is_pending()) {
            // What a device made of it is in force, whatever it was asked for.
            self.wanted = self.held.control.unwrap_or(next);
            return Written::InForce;
        }
        // Nobody can tell what a device has that is gone: what was in force, if it comes back.
        self.wanted = before;
        if done.is_ok() {
            let _ = self.sync(at, false);
        }
        Written::Dropped
    }

    /// Puts `tags` into the entries of a batch. On failure the table is what it was, and TPH is
    /// off.
    fn program(
        &mut self,
        at: &mut Access<'_>,
        batch: &Batch,
        tags: &mut [u16],
    ) -> Result<(), Refusal> {
        if at.reach == Reach::Nothing || self.retired {
            return Err(Refusal::DeviceGone);
        }
        self.held.doubt(Doubt::Behind);
        if at.reach < self.place().reach() {
            // What was lost with the table is not what the user goes on seeing.
            let _ = self.sync(at, false);
            return Err(Refusal::DeviceGone);
        }
        self.table.exchange(batch.entries(), tags);
        let done = self.sync(at, true);
        if done.is_ok() && !self.is_pending() && self.held.control == Some(self.wanted) {
            return Ok(());
        }
        // Half of the batch may have come through.
        self.table.exchange(batch.entries(), tags);
        self.give_up(at);
        Err(Refusal::DeviceGone)
    }

    /// Whether something is pending that memory has to be decoded for.
    fn lacks_memory(&self, at: &mut Access<'_>) -> bool {
        self.is_pending() && Reach::Nothing < at.reach && at.reach < self.place().reach()
    }

    /// Off, and every entry 0, is what is wanted. Whether an entry was not.
    fn want_reset(&mut self) -> bool {
        self.wanted = Control::RESET;
        self.table.clear()
    }
}

/// What an event shows its user.
trait Show {
    /// Shows Control.
    fn show_control(&mut self);

    /// Shows some entries of a table in the capability, if the policy discloses them.
    fn show_table(&mut self, entries: Range<usize>);
}

impl Show for Open<'_, VfioTph> {
    fn show_control(&mut self) {
        let (session, mut config) = self.split();
        let (Some(offered), Some(tph)) = (&session.offered, &session.tph) else {
            return;
        };
        let control = tph.control();
        session.visible.set_control(control);
        config.write_dword(offered.offset + CONTROL, control.raw());
    }

    fn show_table(&mut self, entries: Range<usize>) {
        let (session, mut config) = self.split();
        let (Some(offered), Some(tph)) = (&session.offered, &session.tph) else {
            return;
        };
        if tph.place() != Place::Capability {
            return;
        }
        let Some(tags) = tph.tags().get(entries.clone()) else {
            return;
        };
        session.visible.set_tags(entries.clone(), tags);
        if !offered.offer.policy.discloses_tags() {
            return;
        }
        // CAST: at most 64 entries.
        for (at, write) in Writes::new(entries.start as u16, tags) {
            match write {
                Write::Word(value) => config.write_word(offered.offset + at, value),
                Write::Dword(value) => config.write_dword(offered.offset + at, value),
            }
        }
    }
}

/// Runs `event` on TPH of an open device, if it has the capability, and shows its user what came
/// of it.
fn with_tph<R>(
    open: &mut Open<'_, VfioTph>,
    msix: Option<MsixTable<'_>>,
    event: impl FnOnce(&mut Tph, &mut Access<'_>) -> R,
) -> Option<R> {
    let vdev = open.vdev();
    let requester = Requester::new(vdev.pci())?;
    let mut at = Access::new(vdev, requester, msix);
    let done = event(open.tph.as_mut()?, &mut at);
    open.show_control();
    Some(done)
}

/// The device is being opened: it gets what [`Tph::new`] wants.
pub(crate) fn open(tph: &mut Tph, opening: &mut Opening<'_>) {
    let vdev = opening.vdev();
    let msix = match tph.place() {
        Place::Msix => opening.msix_table(),
        _ => None,
    };
    if let Some(requester) = Requester::new(vdev.pci()) {
        // A device that does not answer now is looked at before it is used.
        let _ = tph.sync(&mut Access::new(vdev, requester, msix), false);
    }
}

/// Does what could not be done before, or is not known to be done. ERESTARTSYS if a signal comes
/// before another user has changed the power state.
pub(crate) fn catch_up(handle: Handle<'_, VfioTph>) -> Result {
    // A second time with memory decoded, if the first one shows that this is needed.
    for _ in 0..2 {
        let needs_memory =
            |session: &TphSession| session.tph.as_ref().is_some_and(Tph::needs_memory);
        let mut guard = handle.lock_hardware(needs_memory)?;
        let (mut open, mut memory) = guard.open_with_memory()?;
        let msix = needs_memory(&open).then(|| memory.msix_table()).flatten();
        let lacks_memory = with_tph(&mut open, msix, |tph, at| {
            // Of a device that is gone, everything stays pending.
            let _ = tph.sync(at, true);
            tph.lacks_memory(at)
        });
        if lacks_memory != Some(true) {
            break;
        }
    }
    Ok(())
}

/// The user writes `bytes` at `offset` of Control; the device is awake. Errors as [`catch_up`].
pub(crate) fn write_control(handle: Handle<'_, VfioTph>, offset: usize, bytes: &[u8]) -> Result {
    // A disabled requester with tags in its table: one of them is looked at.
    let needs_memory = |session: &TphSession| {
        session.tph.as_ref().is_some_and(|tph| {
            tph.needs_memory()
                || tph.place() == Place::Msix
                    && !tph.control().enabled()
                    && tph.table.witness().is_some()
        })
    };
    for last in [false, true] {
        let mut guard = handle.lock_hardware(needs_memory)?;
        let (mut open, mut memory) = guard.open_with_memory()?;
        let msix = needs_memory(&open).then(|| memory.msix_table()).flatten();
        let Some(offer) = open.offered.as_ref().map(|offered| offered.offer) else {
            return Ok(());
        };
        let mut before = Control::RESET;
        let written = with_tph(&mut open, msix, |tph, at| {
            before = tph.control();
            tph.write_control(at, &offer, offset, bytes, last)
        });
        let counters = &open.visible.counters;
        match written {
            Some(Written::NeedsMemory) => continue,
            Some(Written::InForce) => counters.config_writes.count(),
            Some(Written::Dropped) | None => counters.dropped_writes.count(),
        }
        if let Some(tph) = &open.tph {
            let (now, pdev) = (tph.control(), open.vdev().pci());
            if now.enabled() {
                trace::enable(pdev, now.st_mode as u8, now.requester_enable as u8);
            } else if before.enabled() {
                trace::disable(pdev);
            }
        }
        break;
    }
    Ok(())
}

/// The user programs the entries of a batch with `tags`; the device is awake. Errors as
/// [`catch_up`].
pub(crate) fn program(
    handle: Handle<'_, VfioTph>,
    batch: &Batch,
    tags: &mut [u16],
) -> Result<(), Failure> {
    let mut guard =
        handle.lock_hardware(|session| session.tph.as_ref().is_some_and(Tph::needs_memory))?;
    let (mut open, mut memory) = guard.open_with_memory()?;
    let vdev = open.vdev();
    let (Some(offered), Some(tph)) = (&open.offered, &open.tph) else {
        return Err(Refusal::Unsupported.into());
    };
    // Control may have been written since it was looked at.
    batch.admit(tph.control(), &offered.offer)?;
    if !tph.table.can_write(vdev, batch.entries()) {
        return Err(Refusal::NoVector.into());
    }
    let msix = tph.msix_table(&mut memory);
    let done = with_tph(&mut open, msix, |tph, at| tph.program(at, batch, tags));
    open.show_table(batch.entries());
    Ok(done.unwrap_or(Err(Refusal::Unsupported))?)
}

/// The device loses what it has, or may: it is about to sleep.
pub(crate) fn sleep(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| {
        tph.held.doubt(Doubt::Slept);
        tph.report(at);
    });
}

/// The device is awake again.
pub(crate) fn wake(open: &mut Open<'_, VfioTph>) {
    with_tph(open, None, |tph, at| {
        // Of a device that is gone, everything stays pending.
        let _ = tph.sync(at, false);
    });
}

/// Lets vfio-pci-core write what may be the power state.
///
/// A device that loses its state is taken to sleep before that, not after. On the way to D3hot
/// vfio-pci-core has the PCI core save its state, with as much of an enabled ST table as the device
/// claims by then, into a buffer for what it claimed when it was found. And a reset that is tried
/// meanwhile, and fails, leaves the device awake, and empty.
pub(crate) fn write_power_state(
    handle: Handle<'_, VfioTph>,
    access: vfio::pci::Access<'_>,
) -> Result<usize> {
    let vdev = handle.vdev();
    // As vfio-pci-core answers any access to a device that does not wake up.
    let _awake = Awake::new(vdev.pci()).map_err(|_| EIO)?;
    handle.change_power(
        |open| {
            if vdev.loses_state() {
                sleep(open);
            }
        },
        || vdev.write(access),
        || power_changed(handle),
    )
}

/// The power state of a device, which runtime PM keeps awake, may have changed.
fn power_changed(handle: Handle<'_, VfioTph>) -> Result {
    let vdev = handle.vdev();
    if !bus::is_powered(vdev.pci()) && vdev.loses_state() {
        // A reset may have come in between.
        sleep(&mut handle.lock_now()?.open()?);
    }
    catch_up(handle)
}

/// A reset that the user has asked for has failed. vfio-pci-core may have taken the device to D0 for
/// it all the same. Waits for nobody if that makes no difference.
pub(crate) fn reset_failed(handle: Handle<'_, VfioTph>) -> Result {
    let pending = {
        let mut guard = handle.lock_now()?;
        guard.open()?.tph.as_ref().is_some_and(Tph::is_pending)
    };
    if pending {
        power_changed(handle)?;
    }
    Ok(())
}

/// A user is about to allocate or free vectors.
pub(crate) fn vectors_change(handle: Handle<'_, VfioTph>) -> Result {
    if let Some(tph) = &mut handle.lock_now()?.open()?.tph {
        tph.table.vectors_change();
    }
    Ok(())
}

/// A user has allocated or freed vectors.
pub(crate) fn vectors_changed(handle: Handle<'_, VfioTph>, held: HeldVectors<'_>) -> Result {
    let pending = {
        let mut guard = handle.lock_now()?;
        let mut open = guard.open()?;
        let vdev = open.vdev();
        if let Some(tph) = &mut open.tph {
            tph.table.vectors_changed(vdev, held);
        }
        open.tph.as_ref().is_some_and(Tph::is_pending)
    };
    if pending {
        catch_up(handle)?;
    }
    Ok(())
}

/// The device will be reset: what the PCI core saves, and puts back, has no tags. The table in the
/// capability is left to the reset.
pub(crate) fn before_reset(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    let msix = table_for_tags(open, reset);
    let changed = with_tph(open, msix, |tph, at| {
        tph.wanted = Control::RESET;
        let in_msix = tph.place() == Place::Msix;
        let mut changed = in_msix && tph.table.clear();
        // After the reset, nothing of what is known now counts.
        let _ = tph.sync(at, false);
        if !in_msix {
            changed = tph.table.leave_to_reset();
        }
        // A device that sleeps is woken up, and saved, after this.
        if tph.held.control != Some(Control::RESET) {
            at.write_control(Control::RESET);
            tph.held.wrote(Control::RESET);
            tph.held.doubt = Doubt::None;
            tph.report(at);
        }
        changed
    });
    if changed == Some(true) {
        show_all(open);
    }
}

/// The device has been reset, and may have made anything of itself on the way up.
pub(crate) fn after_reset(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    forget(open);
    settle(open, reset);
}

/// The kernel is about to end: the next one finds TPH off, and no tag.
pub(crate) fn shutdown(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    after_reset(open, reset);
    if let Some(tph) = &mut open.tph {
        tph.retire();
    }
}

/// The device reports an error, and cannot be reached.
pub(crate) fn lose(open: &mut Open<'_, VfioTph>) {
    forget(open);
    with_tph(open, None, |tph, at| tph.report(at));
}

/// The device reports an error, and can be reached: what it still has stays in force.
pub(crate) fn doubt(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    if let Some(tph) = &mut open.tph {
        tph.held.doubt(Doubt::Behind);
    }
    settle(open, reset);
}

/// Does in a callback of a reset, or of recovery from an error, what is to be done.
pub(crate) fn settle(open: &mut Open<'_, VfioTph>, reset: &mut InReset<'_>) {
    let msix = table_for_tags(open, reset);
    with_tph(open, msix, |tph, at| {
        // Of a device that is gone, everything stays pending.
        let _ = tph.sync(at, false);
    });
}

/// The MSI-X table, if something is to be done there.
fn table_for_tags<'a>(
    open: &Open<'_, VfioTph>,
    reset: &'a mut InReset<'_>,
) -> Option<MsixTable<'a>> {
    let tph = open.tph.as_ref()?;
    let any = tph.is_pending() || tph.tags().iter().any(|&tag| tag != 0);
    (tph.place() == Place::Msix && any)
        .then(|| reset.msix_table())
        .flatten()
}

fn forget(open: &mut Open<'_, VfioTph>) {
    if let Some(tph) = &mut open.tph {
        let changed = tph.want_reset();
        tph.forget();
        if changed {
            show_all(open);
        }
    }
}

fn show_all(open: &mut Open<'_, VfioTph>) {
    let entries = open.tph.as_ref().map_or(0, |tph| tph.tags().len());
    open.show_table(0..entries);
}

/// The user is gone; the device is awake as far as runtime PM is concerned.
pub(crate) fn before_close(handle: Handle<'_, VfioTph>) -> Result {
    let vdev = handle.vdev();
    let (dirty, needs_memory) = {
        let mut guard = handle.lock_now()?;
        let mut open = guard.open()?;
        let Some(tph) = &mut open.tph else {
            return Ok(());
        };
        tph.want_reset();
        if tph.mappable {
            tph.table.all_due();
        }
        let dirty = tph.is_pending() || tph.held.control != Some(Control::RESET);
        (dirty, tph.needs_memory())
    };
    if dirty && !bus::is_in_d0(vdev.pci()) {
        vdev.power_up();
    }
    let mut guard = handle.lock_hardware(|_| needs_memory)?;
    let (mut open, mut memory) = guard.open_with_memory()?;
    let msix = needs_memory.then(|| memory.msix_table()).flatten();
    with_tph(&mut open, msix, |tph, at| {
        // What a device has that is gone, whoever opens it next clears.
        let _ = tph.sync(at, false);
    });
    Ok(())
}

/// The session ends. A reset may have come after [`before_close`].
pub(crate) fn close(open: &mut Open<'_, VfioTph>) {
    wake(open);
}
