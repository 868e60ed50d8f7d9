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

/// The sizes that exist, and such as end in the middle of something.
pub(crate) const SIZES: [usize; 13] = [
    0, 64, 256, 257, 260, 264, 268, 512, 4095, 4096, 4096, 4096, 4096,
];
const IDS: [u32; 13] = [
    0, 0x01, 0x02, 0x0b, 0x0d, 0x10, 0x15, 0x16, 0x1b, 0x23, 0x31, 0x117, 0xffff,
];
const MOST: u8 = 24;

/// The offset of a capability: most are close together, some at the end.
fn offset(input: &mut Unstructured<'_>) -> Result<usize> {
    let dwords = match input.int_in_range(0..=4)? {
        0 => 64..=1023,
        1 => 1000..=1023,
        _ => 64..=95,
    };
    Ok(4 * input.int_in_range(dwords)?)
}

/// Capabilities, many of them TPH, whose pointers lead to each other or anywhere, with anything
/// written over them.
pub(crate) fn space(input: &mut Unstructured<'_>) -> Result<Space> {
    let mut space = Space::new(*input.choose(&SIZES)?);
    if input.arbitrary()? {
        let fill = input.arbitrary()?;
        space.bytes.fill(fill);
        space.hardware.fill(fill);
    }
    let mut offsets = vec![FIRST];
    for _ in 0..input.int_in_range(0..=MOST)? {
        offsets.push(offset(input)?);
    }
    if input.arbitrary()? && offsets.len() > 1 {
        offsets.remove(0);
        space.write_dword(FIRST, (offsets[0] as u32) << 20);
    }
    for place in 0..offsets.len() {
        let entry = Entry {
            offset: offsets[place],
            id: match input.arbitrary()? {
                true => TPH,
                false => *input.choose(&IDS)?,
            },
            len: match input.arbitrary()? {
                true => input.int_in_range(0..=159)?,
                false => input.int_in_range(0..=4200)?,
            },
        };
        let next = match input.int_in_range(0..=3)? {
            0 => input.int_in_range(0..=4095)?,
            1 | 2 => *input.choose(&offsets)?,
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
    // Hardware may have one where the user's chain does not lead.
    let at = match input.arbitrary()? {
        true => offset(input)? as u16,
        false => input.arbitrary::<u16>()? & !3,
    };
    check_pages(input.arbitrary()?, device.vectors);

    let owners = invariants::owners(&space, Some(at));
    device.room = room(&owners, at);
    let capability = Capability::from_raw(device.capability);
    device.overlapped = is_overlapped(capability, &owners, at);
    check_terms(&device, policy);
    if let Some(offer) = offer(&device, policy) {
        invariants::check(&space, at, device.capability, &offer);
    }
    Ok(())
}

/// Runs it.
pub fn run(data: &[u8]) {
    // Bytes that are too few mean nothing.
    let _ = try_run(&mut Unstructured::new(data));
}
