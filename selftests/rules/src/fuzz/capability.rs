// SPDX-License-Identifier: GPL-2.0-only

//! A device's extended config space, shown to the user: walking, room, hiding and showing.

use super::device;
use crate::{
    oracle::{
        invariants,
        model::{
            self,
            Device, //
        },
        offer,
        space::{
            Entry,
            Space,
            FIRST,
            TPH, //
        },
    },
    rules::{
        capability::{
            is_overlapped,
            room, //
        },
        isolation::{
            isolates,
            pages, //
        },
        regs::Capability,
    },
};
use arbitrary::{
    Result,
    Unstructured, //
};

const SIZES: [usize; 8] = [0, 64, 256, 260, 268, 512, 4095, 4096];
const IDS: [u32; 14] = [
    TPH, TPH, 0, 0x01, 0x0b, 0x10, 0x117, 0xffff, 0x02, 0x0d, 0x15, 0x1b, 0x23, 0x31,
];
const MOST: u8 = 24;

/// Capabilities anywhere, whose pointers lead to each other or anywhere, with anything written over
/// them.
fn space(input: &mut Unstructured<'_>) -> Result<Space> {
    let mut space = Space::new(*input.choose(&SIZES)?);
    if input.arbitrary()? {
        let fill = input.arbitrary()?;
        space.bytes.fill(fill);
        space.hardware.fill(fill);
    }
    let count = input.int_in_range(1..=MOST)?;
    let mut offsets = vec![FIRST];
    for _ in 1..count {
        let offset = 4 * input.int_in_range(64usize..=1023)?;
        offsets.push(offset);
    }
    for place in 0..offsets.len() {
        let entry = Entry {
            offset: offsets[place],
            id: *input.choose(&IDS)?,
            len: input.int_in_range(0..=4200)?,
        };
        let next = match input.int_in_range(0..=3)? {
            0 => input.int_in_range(0..=4095)?,
            1 => *input.choose(&offsets)?,
            _ => offsets.get(place + 1).copied().unwrap_or(0),
        };
        space.add(&entry, next);
    }
    for _ in 0..input.int_in_range(0..=4)? {
        let at = input.int_in_range(0..=4095)?;
        space.write_dword(at, input.arbitrary()?);
        if let Some(owner) = space.map.get_mut(at) {
            *owner = input.arbitrary()?;
        }
    }
    match input.arbitrary()? {
        true => Ok(Space::of_hardware(&space.hardware)),
        false => Ok(space),
    }
}

/// The terms are the model's, also with the room that this space has at `offset`.
fn check_terms(device: &Device, policy: u32) {
    let Some(offer) = offer(device, policy) else {
        assert!(!model::usable(device));
        return;
    };
    assert!(model::usable(device));
    assert_eq!(offer.capability.raw(), model::seen(device, policy));
    assert_eq!(offer.entries, model::entries(device, policy));
    assert_eq!(offer.flags(), model::flags(device, policy));
    let in_msix = (device.capability >> 9) & 0b11 == 0b10;
    assert_eq!(isolates(&offer), in_msix && policy < 2);
}

/// The pages of an MSI-X table anywhere: all of it, and no page without a byte of it.
fn check_pages(offset: u32, vectors: u16) {
    let size = 16 * u32::from(vectors);
    let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(size));
    for page in [4 << 10, 16 << 10, 64 << 10] {
        let pages = pages(offset, size, page);
        assert!(pages.start % page == 0 && pages.end % page == 0);
        assert!(pages.start <= start && end <= pages.end);
        assert!(start - pages.start < page && pages.end - end < page);
    }
}

fn try_run(input: &mut Unstructured<'_>) -> Result<()> {
    let space = space(input)?;
    let mut device = device(input)?;
    let policy = input.int_in_range(0..=3)?;
    let offset = input.arbitrary()?;
    check_pages(input.arbitrary()?, device.vectors);

    let owners = invariants::owners(&space, Some(offset));
    device.room = room(&owners, offset);
    let capability = Capability::from_raw(device.capability);
    device.overlapped = is_overlapped(capability, &owners, offset);
    check_terms(&device, policy);
    if let Some(offer) = offer(&device, policy) {
        invariants::check(&space, offset, device.capability, &offer);
    }
    Ok(())
}

/// Runs it.
pub fn run(data: &[u8]) {
    // Bytes that are too few mean nothing.
    let _ = try_run(&mut Unstructured::new(data));
}
