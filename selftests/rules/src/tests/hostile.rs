// SPDX-License-Identifier: GPL-2.0-only

//! Config spaces that no honest device has: whatever is in there, the edits of map and virtual
//! space do not panic, stay within the capability and one header before it, and leave a chain that
//! can be walked.

use super::{
    model::Device,
    offer,
    space::{
        Entry,
        Space,
        FIRST,
        TPH,
        VIRTUAL, //
    },
};
use crate::rules::{
    capability::{
        expose,
        hide_one,
        reaches_past,
        room, //
    },
    regs::Capability,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select, //
};

/// Sizes of config space: the two that exist, and ones that end in the middle of something.
fn size() -> impl Strategy<Value = usize> {
    select(vec![
        0, 64, 256, 257, 260, 264, 268, 512, 4095, 4096, 4096, 4096, 4096,
    ])
}

/// Capabilities close together, many of them TPH, with pointers to each other and to anywhere.
fn spaces() -> impl Strategy<Value = Space> {
    let offset = prop_oneof![
        3 => (64usize..96).prop_map(|dword| 4 * dword),
        1 => (64usize..1024).prop_map(|dword| 4 * dword),
        1 => (1000usize..1024).prop_map(|dword| 4 * dword),
    ];
    let id = prop_oneof![
        2 => Just(TPH),
        2 => select(vec![0u32, 0x01, 0x0b, 0x10, 0x117, 0xffff]),
    ];
    let len = prop_oneof![
        2 => 0usize..160,
        1 => 0usize..4200,
    ];
    let next = prop_oneof![
        4 => any::<prop::sample::Index>().prop_map(Some),
        1 => Just(None),
    ];
    let capability = (offset, id, len, next, 0usize..4096);
    (size(), vec(capability, 1..24), any::<bool>(), any::<u8>()).prop_map(
        |(size, mut capabilities, at_first, fill)| {
            if at_first {
                capabilities[0].0 = FIRST;
            }
            let offsets: Vec<_> = capabilities.iter().map(|capability| capability.0).collect();
            let mut space = Space::new(size);
            space.bytes.fill(fill);
            space.write_dword(FIRST, (offsets[0] as u32) << 20);
            for (offset, id, len, next, anywhere) in capabilities {
                let next = next.map_or(anywhere, |next| *next.get(&offsets));
                space.add(&Entry { offset, id, len }, next);
            }
            space
        },
    )
}

/// Nothing but noise.
fn noise() -> impl Strategy<Value = Space> {
    size().prop_flat_map(|size| {
        (vec(any::<u8>(), size), vec(any::<u8>(), size))
            .prop_map(|(map, bytes)| Space { map, bytes })
    })
}

/// The offsets of the TPH capabilities that a user finds.
fn tphs(space: &Space) -> Vec<usize> {
    let found = space.walk().into_iter();
    found
        .filter(|&(_, id, _)| id == TPH)
        .map(|(offset, ..)| offset)
        .collect()
}

/// Hides all but `keep`, checking each step.
fn check_hide(space: &Space, keep: Option<u16>) -> Result<Space, TestCaseError> {
    let keep_at = keep.map(usize::from);
    let mut now = space.clone();
    let mut hidden = Vec::new();
    loop {
        let before = now.clone();
        let Some(range) = hide_one(&mut now.map, &mut now.bytes, keep) else {
            prop_assert_eq!(&now, &before, "changed without a result");
            break;
        };
        prop_assert!(hidden.len() < 1024, "hides without an end");
        prop_assert!(range.end <= now.bytes.len());
        prop_assert!(tphs(&before).contains(&range.start));
        prop_assert_ne!(Some(range.start), keep_at);

        let outside: Vec<_> = now
            .changed(&before)
            .into_iter()
            .filter(|at| !range.contains(at))
            .collect();
        if let Some(&first) = outside.first() {
            // One header, of the capability that led here, and only its pointer.
            let header = first & !3;
            prop_assert!(outside.iter().all(|at| at & !3 == header));
            prop_assert_eq!(
                &now.map[header..header + 4],
                &before.map[header..header + 4]
            );
            let (old, new) = (
                before.dword(header).expect("there"),
                now.dword(header).expect("there"),
            );
            prop_assert_eq!(old & 0xf_ffff, new & 0xf_ffff);
            prop_assert_eq!((old >> 20) as usize & !3, range.start);
        }
        prop_assert!(now.map[range.clone()].iter().all(|&owner| owner == VIRTUAL));
        let body = range.start + 4..range.end;
        prop_assert!(now.bytes[body].iter().all(|&byte| byte == 0));
        hidden.push(range.start);
    }

    prop_assert!(tphs(&now).iter().all(|&offset| Some(offset) == keep_at));
    let mut left = space.capabilities();
    left.retain(|offset| !hidden.contains(offset));
    prop_assert_eq!(now.capabilities(), left, "another capability was lost");
    Ok(now)
}

/// Shows the capability at `offset`, if there is one, and checks what that does.
fn check_expose(space: &Space, offset: u16, policy: u32) -> Result<Option<Space>, TestCaseError> {
    let offer = offer(&Device::FULL, policy).expect("usable");
    let at = usize::from(offset);
    let mut now = space.clone();
    let Some(range) = expose(&mut now.map, &mut now.bytes, offset, &offer) else {
        prop_assert_eq!(&now, space, "changed without a result");
        return Ok(None);
    };
    prop_assert!(tphs(space).contains(&at));
    prop_assert_eq!(range.start, at);
    prop_assert!(range.end >= at + 12 && range.end <= now.bytes.len());
    let changed = now.changed(space);
    prop_assert!(changed.iter().all(|at| range.contains(at)), "{changed:x?}");
    prop_assert_eq!(now.walk(), space.walk());
    prop_assert_eq!(now.dword(at), space.dword(at));
    prop_assert_eq!(now.dword(at + 4), Some(offer.capability.raw()));
    prop_assert!(now.bytes[at + 8..range.end].iter().all(|&byte| byte == 0));
    prop_assert!(now.map[range].iter().all(|&owner| owner == VIRTUAL));
    Ok(Some(now))
}

/// What an open does: shows the capability at `offset` if that can be, then hides all others.
fn check_open(space: &Space, offset: u16, policy: u32) -> Result<(), TestCaseError> {
    let Some(shown) = check_expose(space, offset, policy)? else {
        check_hide(space, None)?;
        return Ok(());
    };
    let at = usize::from(offset);
    let now = check_hide(&shown, Some(offset))?;
    prop_assert_eq!(tphs(&now), [at]);
    prop_assert_eq!(
        &now.bytes[at + 4..at + 12],
        &shown.bytes[at + 4..at + 12],
        "the registers"
    );
    Ok(())
}

/// What fits at `offset` stays below the end, and below every capability behind it.
fn check_room(space: &Space, offset: u16) -> Result<(), TestCaseError> {
    let entries = room(&space.bytes, offset);
    prop_assert!(entries <= 64);
    if entries != 0 {
        let table = usize::from(offset) + 12..usize::from(offset) + 12 + 2 * usize::from(entries);
        prop_assert!(table.end <= space.bytes.len());
        for (other, ..) in space.walk() {
            prop_assert!(!table.contains(&other));
        }
    }
    Ok(())
}

fn check(space: &Space, offset: u16, policy: u32) -> Result<(), TestCaseError> {
    check_room(space, offset)?;
    check_expose(space, offset, policy)?;
    check_hide(space, None)?;
    for at in tphs(space) {
        let at = at as u16;
        check_room(space, at)?;
        check_expose(space, at, policy)?;
        check_open(space, at, policy)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn r25_hostile_chains(space in spaces(), offset: u16, policy in 0u32..4) {
        check(&space, offset, policy)?;
    }

    #[test]
    fn r9_hostile_claims(raw: u32, offset: u16, size in 0usize..5000) {
        let capability = Capability::from_raw(raw);
        let end = usize::from(offset) + 12 + 2 * (((raw >> 16) & 0x7ff) as usize + 1);
        prop_assert_eq!(
            reaches_past(capability, offset, size),
            (raw >> 9) & 0b11 == 0b01 && end > size
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn r25_noise(mut space in noise(), offset: u16, policy in 0u32..4, tph: bool) {
        if tph && space.bytes.len() >= FIRST + 2 {
            space.bytes[FIRST..FIRST + 2].copy_from_slice(&[0x17, 0]);
        }
        check(&space, offset, policy)?;
    }
}
