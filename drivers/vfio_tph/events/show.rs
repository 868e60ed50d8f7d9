// SPDX-License-Identifier: GPL-2.0-only

//! What comes of an event, as others see it: the user in config space, the administrator in debugfs
//! and by the counters, and whoever traces.

use crate::{
    debugfs::Count,
    device::{
        Terms,
        VfioTph, //
    },
    hardware::{
        reached::Reached,
        Failed,
        Outcome,
        Tph, //
    },
    rules::{
        guest::{
            MAX_BYTES,
            MAX_ENTRIES, //
        },
        regs::{
            Control,
            CAPABILITY,
            CONTROL, //
        },
        source::Namespace,
        writes::{
            Write,
            Writes, //
        },
    },
    rust::{
        pci::tph::Requester,
        vfio::pci::{
            MsixTable,
            Open, //
        },
    },
    trace, //
};
use core::ops::Range;

/// What an event shows its user.
pub(super) trait Show {
    /// Shows Control.
    fn show_control(&mut self);

    /// Shows some entries of a table in the capability, if the policy discloses them.
    fn show_table(&mut self, entries: Range<usize>);

    /// Shows the administrator some entries of a guest, if there is one.
    fn show_guest(&mut self, entries: Range<usize>);
}

impl Show for Open<'_, VfioTph> {
    fn show_control(&mut self) {
        let terms = self.terms();
        let (session, mut config) = self.split();
        let (Some(offered), Some(tph)) = (terms.shown(), &session.tph) else {
            return;
        };
        let control = tph.control();
        terms.visible.set_control(control);
        config.write_dword(offered.offset + CONTROL, control.raw());
    }

    fn show_table(&mut self, entries: Range<usize>) {
        let terms = self.terms();
        let (session, mut config) = self.split();
        let (Some(offered), Some(tph)) = (&terms.offered, &session.tph) else {
            return;
        };
        let Some(tags) = tph.shown_tags().get(entries.clone()) else {
            return;
        };
        terms.visible.set_tags(entries.clone(), tags);
        if !offered.offer.policy.discloses_tags() || terms.has_guest() {
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

    fn show_guest(&mut self, entries: Range<usize>) {
        let terms = self.terms();
        if let Some(tph) = &self.tph {
            if let Some(table) = tph.guest_table() {
                let visible = &terms.visible;
                visible.set_guest(entries, table.values(), tph.tags());
            }
        }
    }
}

/// What can be reached of an open device, with the MSI-X table if that is decoded; `None` if it has
/// no TPH capability.
#[inline(never)]
pub(super) fn reached<'a>(
    open: &Open<'a, VfioTph>,
    msix: Option<MsixTable<'a>>,
) -> Option<Reached<'a>> {
    let vdev = open.vdev();
    let requester = Requester::new(vdev.pci())?;
    let offer = open.terms().shown().map(|shown| &shown.offer);
    Some(Reached::new(vdev, requester, msix, offer))
}

/// Runs `event` on TPH of an open device, if it has the capability, and shows its user the result.
pub(super) fn with_tph<R>(
    open: &mut Open<'_, VfioTph>,
    msix: Option<MsixTable<'_>>,
    event: impl FnOnce(&mut Tph, &mut Reached<'_>) -> R,
) -> Option<R> {
    let mut at = reached(open, msix)?;
    let before = recorded(open);
    let done = event(open.tph.as_mut()?, &mut at);
    open.show_control();
    trace_control(open, before);
    Some(done)
}

/// Control as it is recorded of hardware.
#[inline(never)]
pub(super) fn recorded(open: &Open<'_, VfioTph>) -> Control {
    let tph = open.tph.as_ref();
    tph.map_or(Control::RESET, Tph::recorded)
}

/// Says that Control, which was `before`, is recorded as another one in hardware. What is wanted
/// and not done, or will be when a device wakes up, is not in force; nor what nobody knows.
#[inline(never)]
pub(super) fn trace_control(open: &Open<'_, VfioTph>, before: Control) {
    let (now, pdev) = (recorded(open), open.vdev().pci());
    if now == before {
        return;
    }
    if now.enabled() {
        trace::enable(pdev, now.st_mode as u8, now.requester_enable as u8);
    } else if before.enabled() {
        trace::disable(pdev);
    }
}

/// Shows what has become of a guest's entries: some were `written`, and hardware may have got
/// others.
pub(super) fn guest_changed(open: &mut Open<'_, VfioTph>, written: Range<usize>) {
    let Some(tph) = &mut open.tph else {
        return;
    };
    let changed = tph.take_changed();
    if changed.is_empty() {
        if !written.is_empty() {
            open.show_guest(written);
        }
        return;
    }
    // While TPH is off Control does not say which namespace they are of.
    let extended = tph
        .guest_table()
        .is_some_and(|table| table.namespace() == Namespace::Extended);
    // CAST: at most 64.
    let (index, count) = (changed.start as u16, changed.len() as u16);
    open.terms().visible.counters.count(Count::TableWrites);
    trace::table_write(open.vdev().pci(), index, count, extended);
    let shown = match written.is_empty() {
        true => changed.clone(),
        false => written.start.min(changed.start)..written.end.max(changed.end),
    };
    open.show_guest(shown);
    open.show_table(changed);
}

/// Shows all entries, whoever can see them.
pub(super) fn show_all(open: &mut Open<'_, VfioTph>) {
    open.show_guest(0..MAX_ENTRIES);
    let entries = open.tph.as_ref().map_or(0, |tph| tph.tags().len());
    open.show_table(0..entries);
}

/// Shows the user the capability that goes with a guest, or without one.
pub(super) fn show_capability(open: &mut Open<'_, VfioTph>) {
    let terms = open.terms();
    let there = open
        .tph
        .as_ref()
        .is_some_and(|tph| tph.guest_table().is_some());
    let (Some(guest), true) = (&terms.guest, there != terms.has_guest()) else {
        return;
    };
    let bytes = guest.bytes.start.into()..guest.bytes.end.into();
    let in_msix = terms.tracks_vectors;
    if there {
        terms
            .spans
            .add_guest(guest.table(), guest.power.clone(), in_msix);
    }
    terms.set_guest(there);
    let (_, mut config) = open.split();
    config.write(bytes.start, &[0; MAX_BYTES][..bytes.len().min(MAX_BYTES)]);
    if there {
        config.take_over(bytes);
    }
    if let Some(shown) = terms.shown() {
        let register = shown.offset + CAPABILITY;
        config.write_dword(register, shown.offer.capability.raw());
        terms.visible.set_capability(shown.offer.capability);
    }
}

/// Counts that TPH went off because a guest's tags could not be written.
pub(super) fn count_lost(terms: &Terms, written: Outcome, awake: bool) {
    if awake && written == Outcome::Dropped {
        terms.visible.counters.count(Count::LostTags);
    }
}

/// [`Tph::sync`]. Counts that TPH went off because the device made something else of what a guest
/// had in force.
pub(super) fn sync_counted(
    terms: &Terms,
    tph: &mut Tph,
    at: &mut Reached<'_>,
    confirm: bool,
) -> Result<(), Failed> {
    let was_wanted = tph.is_wanted();
    let done = tph.sync(at, confirm);
    if done == Err(Failed::Misfit) && was_wanted && tph.guest_table().is_some() {
        terms.visible.counters.count(Count::LostTags);
    }
    done
}
