// SPDX-License-Identifier: GPL-2.0-only

//! What has to hold when map and virtual space of any config space are edited: nothing panics, only
//! the capability and one header before it change, and the chain can be walked.

use super::space::{
    Space,
    TPH,
    VIRTUAL, //
};
use crate::rules::capability::{
    expose,
    hide_one,
    room,
    Offer, //
};

/// The offsets of the TPH capabilities that a user finds.
fn tphs(space: &Space) -> Vec<usize> {
    let found = space.walk().into_iter();
    found
        .filter(|&(_, id, _)| id == TPH)
        .map(|(offset, ..)| offset)
        .collect()
}

/// Hides all but `keep`, checking each step.
fn check_hide(space: &Space, keep: Option<u16>) -> Space {
    let keep_at = keep.map(usize::from);
    let mut now = space.clone();
    let mut hidden = Vec::new();
    loop {
        let before = now.clone();
        let Some(range) = hide_one(&mut now.map, &mut now.bytes, keep) else {
            assert_eq!(&now, &before, "changed without a result");
            break;
        };
        assert!(hidden.len() < 1024, "hides without an end");
        assert!(range.end <= now.bytes.len());
        assert!(tphs(&before).contains(&range.start));
        assert_ne!(Some(range.start), keep_at);

        let outside: Vec<_> = now
            .changed(&before)
            .into_iter()
            .filter(|at| !range.contains(at))
            .collect();
        if let Some(&first) = outside.first() {
            // One header, of the capability that led here, and only its pointer.
            let header = first & !3;
            assert!(outside.iter().all(|at| at & !3 == header));
            assert_eq!(
                &now.map[header..header + 4],
                &before.map[header..header + 4]
            );
            let (old, new) = (
                before.dword(header).expect("there"),
                now.dword(header).expect("there"),
            );
            assert_eq!(old & 0xf_ffff, new & 0xf_ffff);
            assert_eq!((old >> 20) as usize & !3, range.start);
        }
        assert!(now.map[range.clone()].iter().all(|&owner| owner == VIRTUAL));
        let body = range.start + 4..range.end;
        assert!(now.bytes[body].iter().all(|&byte| byte == 0));
        hidden.push(range.start);
    }

    assert!(tphs(&now).iter().all(|&offset| Some(offset) == keep_at));
    let mut left = space.capabilities();
    left.retain(|offset| !hidden.contains(offset));
    assert_eq!(now.capabilities(), left, "another capability was lost");
    assert!(now.ends() || !space.ends(), "a loop that was not there");
    now
}

/// Shows the capability at `offset`, if there is one, and checks what that does.
fn check_expose(space: &Space, offset: u16, offer: &Offer) -> Option<Space> {
    let at = usize::from(offset);
    let mut now = space.clone();
    let Some(range) = expose(&mut now.map, &mut now.bytes, offset, offer) else {
        assert_eq!(&now, space, "changed without a result");
        return None;
    };
    assert!(tphs(space).contains(&at));
    assert_eq!(range.start, at);
    assert!(range.end >= at + 12 && range.end <= now.bytes.len());
    let changed = now.changed(space);
    assert!(changed.iter().all(|at| range.contains(at)), "{changed:x?}");
    assert_eq!(now.walk(), space.walk());
    assert_eq!(now.dword(at), space.dword(at));
    assert_eq!(now.dword(at + 4), Some(offer.capability.raw()));
    assert!(now.bytes[at + 8..range.end].iter().all(|&byte| byte == 0));
    assert!(now.map[range].iter().all(|&owner| owner == VIRTUAL));
    Some(now)
}

/// What an open does: shows the capability at `offset` if that can be, then hides all others.
fn check_open(space: &Space, offset: u16, offer: &Offer) {
    let Some(shown) = check_expose(space, offset, offer) else {
        check_hide(space, None);
        return;
    };
    let at = usize::from(offset);
    let now = check_hide(&shown, Some(offset));
    assert_eq!(tphs(&now), [at]);
    assert_eq!(
        &now.bytes[at + 4..at + 12],
        &shown.bytes[at + 4..at + 12],
        "the registers"
    );
}

/// What fits at `offset` stays below the end, and below every capability behind it.
fn check_room(space: &Space, offset: u16) {
    let entries = room(&space.bytes, offset);
    assert!(entries <= 64);
    if entries != 0 {
        let table = usize::from(offset) + 12..usize::from(offset) + 12 + 2 * usize::from(entries);
        assert!(table.end <= space.bytes.len());
        for (other, ..) in space.walk() {
            assert!(!table.contains(&other));
        }
    }
}

/// Whatever the rules do to a config space with an `offer`, at `offset` and at each TPH capability.
pub(crate) fn check(space: &Space, offset: u16, offer: &Offer) {
    check_room(space, offset);
    check_expose(space, offset, offer);
    check_hide(space, None);
    for at in tphs(space) {
        let at = at as u16;
        check_room(space, at);
        check_expose(space, at, offer);
        check_open(space, at, offer);
    }
}
