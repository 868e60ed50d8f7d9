// SPDX-License-Identifier: GPL-2.0-only

//! ST entries in the MSI-X table.
//!
//! An entry shares its word with the vector's mask bit. The PCI core has a copy of the word of
//! every allocated vector, which it writes when it masks, unmasks, frees or restores the vector:
//! the tag goes through the vfio-pci-core, or it would be lost. Nobody has a copy for other
//! vectors, and so a tag must be gone before its vector is allocated again: that is the business
//! of [`Vectors`].

use crate::{
    device::{
        Offered,
        VfioTph, //
    },
    rules::{
        refusal::Refusal,
        regs::Control, //
    },
    rust::{
        pci::{
            self as bus,
            tph::Requester, //
        },
        vfio::pci::{
            CoreDevice,
            Handle,
            InReset,
            MsixTable,
            Open,
            Opening, //
        },
    },
    table, //
};
use kernel::{
    bitmap::BitmapVec,
    prelude::*, //
};

/// What vectors get that are to have no tag: as many as are cleared at once.
const NO_TAGS: [u16; 64] = [0; 64];

/// Which vectors have a tag.
pub(crate) struct Vectors {
    tagged: BitmapVec,
    /// Those of them that should have none, but could not be reached.
    stale: BitmapVec,
}

impl Vectors {
    /// For a device whose table is clear.
    pub(crate) fn new(count: u16) -> Result<Self> {
        Ok(Self {
            tagged: BitmapVec::new(count.into(), GFP_KERNEL)?,
            stale: BitmapVec::new(count.into(), GFP_KERNEL)?,
        })
    }

    /// Whether no vector has a tag that it should not have.
    pub(crate) fn is_settled(&self) -> bool {
        next(&self.stale, 0).is_none()
    }

    fn is_stale(&self, vector: usize) -> bool {
        next(&self.stale, vector) == Some(vector)
    }

    /// Finds vectors for which the PCI core has a tag that nobody has programmed.
    fn find_strays(&mut self, pdev: &CoreDevice) {
        for vector in 0..self.tagged.len() {
            // CAST: at most 2048 vectors.
            if next(&self.tagged, vector) != Some(vector)
                && bus::vector_tag(pdev.pci(), vector as u16) != 0
            {
                self.tagged.set_bit(vector);
                self.stale.set_bit(vector);
            }
        }
    }

    /// The first vector from `from` on that has a tag and should have none: any, with
    /// `allocated_too`, or one that is no longer allocated or is stale.
    fn next_due(&self, pdev: &CoreDevice, from: usize, allocated_too: bool) -> Option<usize> {
        let mut tagged = next(&self.tagged, from);
        while let Some(vector) = tagged {
            if allocated_too || self.is_stale(vector) || !is_allocated(pdev, vector) {
                break;
            }
            tagged = next(&self.tagged, vector + 1);
        }
        tagged
    }

    /// Clears the tags of the vectors that are due, see [`Self::next_due`]. What cannot be reached
    /// is left, and remembered as stale. The requester is disabled, or this is called in
    /// [`quietly`].
    fn clear(
        &mut self,
        requester: &Requester<'_>,
        pdev: &CoreDevice,
        allocated_too: bool,
        mut table: Option<MsixTable<'_>>,
        decoded: bool,
    ) {
        let mut next = 0;
        while let Some(vector) = self.next_due(pdev, next, allocated_too) {
            let run = self.run(pdev, vector, allocated_too);
            next = vector + run.max(1);
            // CAST: at most 2048 vectors.
            let number = vector as u16;
            let cleared = if run > 0 {
                decoded && requester.write_msix_tags(number, &NO_TAGS[..run]).is_ok()
            } else if let Some(table) = &mut table {
                table.clear_tag(number)
            } else {
                false
            };
            for vector in vector..next {
                if cleared {
                    self.tagged.clear_bit(vector);
                    self.stale.clear_bit(vector);
                } else {
                    self.stale.set_bit(vector);
                }
            }
        }
    }

    /// The number of vectors from `first` on that are allocated and due, and can be cleared at
    /// once; see [`Self::next_due`].
    fn run(&self, pdev: &CoreDevice, first: usize, allocated_too: bool) -> usize {
        (first..)
            .take(NO_TAGS.len())
            .take_while(|&vector| {
                self.next_due(pdev, vector, allocated_too) == Some(vector)
                    && is_allocated(pdev, vector)
            })
            .count()
    }
}

/// The first bit from `from` on that is set. There may be no bit there at all.
fn next(bits: &BitmapVec, from: usize) -> Option<usize> {
    (from < bits.len()).then(|| bits.next_bit(from)).flatten()
}

fn is_allocated(pdev: &CoreDevice, vector: usize) -> bool {
    // CAST: at most 2048 vectors.
    bus::vector_is_allocated(pdev.pci(), vector as u16)
}

/// Changes the table with the requester disabled, and restores what is in force. Where that is not
/// `certain`, the requester is left disabled.
fn quietly(
    requester: &Requester<'_>,
    control: Control,
    certain: bool,
    change: impl FnOnce(),
) -> Result {
    let disabled = table::disabled(control);
    if control.enabled() || !certain {
        table::set_control(requester, disabled)?;
    }
    change();
    table::set_control(requester, if certain { control } else { disabled })
}

/// Clears a table that nobody has allocated vectors of, whatever it holds.
pub(crate) fn clear_at_open(opening: &mut Opening<'_>, count: u16) {
    let Some(decoding) = opening.decode_memory() else {
        return;
    };
    if let Some(mut table) = opening.msix_table(&decoding) {
        for vector in 0..count {
            table.clear_tag(vector);
        }
    }
}

/// Clears all tags of a device that is about to be closed, whatever power state its user has left
/// it in, and whether or not they came from here.
pub(crate) fn clear_at_close(handle: Handle<'_, VfioTph>) {
    let vdev = handle.vdev();
    let open_vectors = open_vectors(handle);
    if !bus::is_in_d0(vdev.pci()) && (open_vectors != 0 || has_tags(handle)) {
        vdev.power_up();
    }
    // Failing means that the device is not open, or that Control is out of range: neither is so.
    // And nobody else has the device any more who could be waited for.
    let _ = settle(handle, true);
    if open_vectors != 0 {
        let _ = clear_all(handle, open_vectors);
    }
}

fn open_vectors(handle: Handle<'_, VfioTph>) -> u16 {
    let count = || -> Result<u16> { Ok(handle.lock_now()?.open()?.open_vectors) };
    count().unwrap_or(0)
}

/// Clears whatever tags there are, for good: of vectors that nobody has allocated in the table,
/// of others in the PCI core's copy, which it writes when it frees them.
fn clear_all(handle: Handle<'_, VfioTph>, count: u16) -> Result {
    let vdev = handle.vdev();
    let (mut guard, decoding) = handle.lock_decoding()?;
    let Some(decoding) = decoding else {
        return Ok(());
    };
    let mut open = guard.open()?;
    let Some(requester) = Requester::new(vdev.pci()) else {
        return Ok(());
    };
    if let Some(offered) = &mut open.offered {
        turn_off(&requester, offered)?;
    }
    if let Some(mut table) = open.msix_table(&decoding) {
        for vector in 0..count {
            if !is_allocated(vdev, vector.into()) {
                table.clear_tag(vector);
            } else if bus::vector_tag(vdev.pci(), vector) != 0 {
                requester.write_msix_tags(vector, &NO_TAGS[..1])?;
            }
        }
    }
    Ok(())
}

/// The user is gone: off for good.
fn turn_off(requester: &Requester<'_>, offered: &mut Offered) -> Result {
    if offered.control != Control::RESET || offered.out_of_reach {
        table::set_control(requester, Control::RESET)?;
        offered.control = Control::RESET;
    }
    Ok(())
}

fn has_tags(handle: Handle<'_, VfioTph>) -> bool {
    let any = |vectors: &mut Vectors| vectors.next_due(handle.vdev(), 0, true).is_some();
    handle.lock_now().is_ok_and(|mut guard| {
        guard
            .open()
            .is_ok_and(|mut open| vectors(&mut open).is_some_and(any))
    })
}

/// Clears the tags of vectors that have been freed. ERESTARTSYS if a signal comes before another
/// user has changed the power state; there is none in a change of the interrupts or of that
/// state.
pub(crate) fn clear_freed(handle: Handle<'_, VfioTph>) -> Result {
    settle(handle, false)
}

/// A user has allocated or freed vectors. Errors as [`clear_freed`].
///
/// The PCI core reads the word of a vector that it allocates, and writes that one from then on.
/// In a device that cannot be reached, in D3hot for one, it finds all ones, and so a tag.
pub(crate) fn changed(handle: Handle<'_, VfioTph>) -> Result {
    if let Some(vectors) = vectors(&mut handle.lock_now()?.open()?) {
        vectors.find_strays(handle.vdev());
    }
    clear_freed(handle)
}

fn settle(handle: Handle<'_, VfioTph>, allocated_too: bool) -> Result {
    let vdev = handle.vdev();
    let due = |vectors: &mut Vectors| vectors.next_due(vdev, 0, allocated_too).is_some();
    if !vectors(&mut handle.lock_now()?.open()?).is_some_and(due) {
        return Ok(());
    }

    let (mut guard, decoding) = handle.lock_decoding()?;
    let mut open = guard.open()?;
    let table = decoding
        .as_ref()
        .and_then(|decoding| open.msix_table(decoding));
    let (Some(requester), Some(offered)) = (Requester::new(vdev.pci()), &mut open.offered) else {
        return Ok(());
    };
    // What the device has got is not what is recorded while it sleeps, nor before it has got that
    // back.
    let certain = !offered.asleep && !offered.out_of_reach;
    let control = offered.control;
    if allocated_too && decoding.is_some() {
        turn_off(&requester, offered)?;
    }
    let Some(vectors) = &mut offered.vectors else {
        return Ok(());
    };
    if decoding.is_none() {
        vectors.clear(&requester, vdev, allocated_too, None, false);
        if control.enabled() && !vectors.is_settled() {
            // Before the PCI core restores its copies: config space can be written in any case.
            // What is recorded is put in force when they are clear.
            table::set_control(&requester, table::disabled(control))?;
            offered.asleep = true;
        }
        return Ok(());
    }
    if allocated_too {
        vectors.clear(&requester, vdev, true, table, true);
        return Ok(());
    }
    quietly(&requester, control, certain, || {
        vectors.clear(&requester, vdev, allocated_too, table, true)
    })?;
    offered.catch_up(&requester)
}

fn vectors<'a>(open: &'a mut Open<'_, VfioTph>) -> Option<&'a mut Vectors> {
    open.offered
        .as_mut()
        .and_then(|offered| offered.vectors.as_mut())
}

/// Clears all tags before a reset, so that the PCI core does not restore them, and after it; the
/// requester is disabled. Without a `reset`, the device cannot be reached.
pub(crate) fn clear_for_reset(open: &mut Open<'_, VfioTph>, reset: Option<&InReset>) {
    let vdev = open.vdev();
    if vectors(open).is_none_or(|vectors| vectors.next_due(vdev, 0, true).is_none()) {
        return;
    }
    let decoding = reset.and_then(|reset| reset.decode_memory(open));
    let table = decoding
        .as_ref()
        .and_then(|decoding| open.msix_table(decoding));
    if let (Some(requester), Some(vectors)) = (Requester::new(vdev.pci()), vectors(open)) {
        vectors.clear(&requester, vdev, true, table, decoding.is_some());
    }
}

/// Writes `tags` from vector `index` on, all of which are allocated, with the requester disabled
/// once around all of them. The device decodes memory.
///
/// `DeviceGone` if the device has stopped answering meanwhile: then TPH is off.
pub(crate) fn program(
    vectors: &mut Vectors,
    requester: &Requester<'_>,
    control: Control,
    index: u16,
    tags: &[u16],
) -> Result<(), Refusal> {
    for (vector, _) in (index..).zip(tags) {
        vectors.tagged.set_bit(vector.into());
    }
    let written =
        table::disable(requester, control).and_then(|()| requester.write_msix_tags(index, tags));
    let finished = table::finish(requester, control, written);
    for (vector, &tag) in (index..).zip(tags) {
        if finished.is_err() {
            // Half a batch, for all that is known.
            vectors.stale.set_bit(vector.into());
            continue;
        }
        vectors.stale.clear_bit(vector.into());
        if tag == 0 {
            vectors.tagged.clear_bit(vector.into());
        }
    }
    finished
}
