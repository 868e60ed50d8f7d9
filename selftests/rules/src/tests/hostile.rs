// SPDX-License-Identifier: GPL-2.0-only

//! Config spaces that no honest device has: whatever is in there, the invariants hold. Most are
//! made as the fuzz target makes them.

use crate::fuzz::capability::{
    space,
    SIZES, //
};
use crate::oracle::{
    invariants::check,
    model::Device,
    offer,
    space::{
        Space,
        FIRST, //
    },
};
use crate::rules::{
    capability::{
        reaches_past,
        Offer, //
    },
    regs::Capability,
};
use arbitrary::Unstructured;
use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{
        RngAlgorithm,
        TestRng, //
    },
};
use std::env;

/// The offer of a device with everything.
fn everything(policy: u32) -> Offer {
    offer(&Device::FULL, policy).expect("usable")
}

/// Where hardware has a capability: most are where the others are.
fn at() -> impl Strategy<Value = u16> {
    let dword = prop_oneof![64u16..96, 64u16..1024, 0u16..0x4000];
    dword.prop_map(|dword| dword * 4)
}

/// Nothing but noise.
fn noise(seed: u64, size: usize) -> Space {
    let mut drawn = TestRng::from_seed(RngAlgorithm::XorShift, &[seed.to_le_bytes(); 2].concat());
    let mut bytes = || {
        let mut bytes = vec![0; size];
        drawn.fill_bytes(&mut bytes);
        bytes
    };
    Space {
        map: bytes(),
        bytes: bytes(),
        hardware: bytes(),
    }
}

/// So many cases, or as many as PROPTEST_CASES says.
fn config(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: env::var_os("PROPTEST_CASES").map_or(cases, |_| default.cases),
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[test]
    fn r25_r75_hostile_chains(
        bytes in vec(any::<u8>(), 64..512),
        offset in at(),
        raw: u32,
        policy in 0u32..4,
    ) {
        let space = space(&mut Unstructured::new(&bytes)).expect("a config space");
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
    #![proptest_config(config(500))]

    #[test]
    fn r25_r75_noise(
        seed: u64,
        size in select(&SIZES[..]),
        offset in at(),
        raw: u32,
        policy in 0u32..4,
        tph: bool,
    ) {
        let mut space = noise(seed, size);
        if tph && space.bytes.len() >= FIRST + 2 {
            space.bytes[FIRST..FIRST + 2].copy_from_slice(&[0x17, 0]);
        }
        check(&space, offset, raw, &everything(policy));
    }
}
