// SPDX-License-Identifier: GPL-2.0-only

//! Config spaces that no honest device has: whatever is in there, the invariants hold.

use crate::oracle::{
    invariants::check,
    model::Device,
    offer,
    space::{
        Entry,
        Space,
        FIRST,
        TPH, //
    },
};
use crate::rules::{
    capability::{
        reaches_past,
        Offer, //
    },
    regs::Capability,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::select, //
};

/// The offer of a device with everything.
fn everything(policy: u32) -> Offer {
    offer(&Device::FULL, policy).expect("usable")
}

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
        2 => select(vec![
            0u32, 0x01, 0x02, 0x0b, 0x0d, 0x10, 0x15, 0x16, 0x1b, 0x23, 0x31, 0x117, 0xffff
        ]),
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
    let flags = (any::<bool>(), any::<bool>());
    (size(), vec(capability, 1..24), flags, any::<u8>()).prop_map(
        |(size, mut capabilities, (at_first, as_core), fill)| {
            if at_first {
                capabilities[0].0 = FIRST;
            }
            let offsets: Vec<_> = capabilities.iter().map(|capability| capability.0).collect();
            let mut space = Space::new(size);
            space.bytes.fill(fill);
            space.hardware.fill(fill);
            space.write_dword(FIRST, (offsets[0] as u32) << 20);
            for (offset, id, len, next, anywhere) in capabilities {
                let next = next.map_or(anywhere, |next| *next.get(&offsets));
                space.add(&Entry { offset, id, len }, next);
            }
            match as_core {
                true => Space::of_hardware(&space.hardware),
                false => space,
            }
        },
    )
}

/// Nothing but noise.
fn noise() -> impl Strategy<Value = Space> {
    size().prop_flat_map(|size| {
        let bytes = || vec(any::<u8>(), size);
        (bytes(), bytes(), bytes()).prop_map(|(map, bytes, hardware)| Space {
            map,
            bytes,
            hardware,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn r25_r75_hostile_chains(space in spaces(), offset: u16, raw: u32, policy in 0u32..4) {
        check(&space, offset, raw, &everything(policy));
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
    fn r25_r75_noise(mut space in noise(), offset: u16, raw: u32, policy in 0u32..4, tph: bool) {
        if tph && space.bytes.len() >= FIRST + 2 {
            space.bytes[FIRST..FIRST + 2].copy_from_slice(&[0x17, 0]);
        }
        check(&space, offset, raw, &everything(policy));
    }
}
