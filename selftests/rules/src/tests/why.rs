// SPDX-License-Identifier: GPL-2.0-only

//! What an administrator is told stands in the way of TPH: it is the offer that was made, and the
//! first of several reasons; R104.

use crate::oracle::{
    hardware,
    model::{
        self,
        Device, //
    },
    offer,
    POLICIES,
    ROOT_PORTS, //
};
use crate::rules::{
    firmware::CpuTags,
    regs::StMode,
    why::{
        Above,
        Findings,
        Reason, //
    },
};

const COMPLETER_SHIFT: u32 = 12;

fn above(root_port: Option<u32>) -> Above {
    match root_port {
        None => Above::RootComplex,
        // All other bits set: only the field counts.
        Some(field) => Above::RootPort(!(0b11 << COMPLETER_SHIFT) | (field << COMPLETER_SHIFT)),
    }
}

fn findings(device: &Device) -> Findings {
    Findings {
        kernel_has_tph: true,
        has_capability: true,
        hardware: Some(hardware(device)),
        above: above(device.root_port),
        allowed: true,
        in_chain: true,
        guest_fits: true,
    }
}

/// Whatever the device: a reason is given exactly where something is not on offer.
#[test]
fn r104_reasons_are_those_of_the_offer() {
    for (root_port, modes, location, bits) in ROOT_PORTS.into_iter().flat_map(|root_port| {
        (0..8).flat_map(move |modes| {
            (0..4).flat_map(move |location| {
                (0..32).map(move |bits| (root_port, modes, location, bits))
            })
        })
    }) {
        let device = Device {
            capability: model::capability(modes, bits & 1 != 0, location, 8),
            root_port,
            prefixes: bits & 2 != 0,
            shares_group: bits & 4 != 0,
            vectors: if bits & 8 != 0 { 16 } else { 0 },
            overlapped: bits & 16 != 0,
            ..Device::FULL
        };
        let findings = findings(&device);
        for policy in 0..4 {
            let what = format!("{device:x?} under {policy}");
            let Some(offer) = offer(&device, policy) else {
                assert!(findings.tph().is_some(), "{what}");
                continue;
            };
            assert_eq!(findings.tph(), None, "{what}");
            assert_eq!(findings.extended().is_none(), offer.extended(), "{what}");
            for mode in [
                StMode::NoSt,
                StMode::InterruptVector,
                StMode::DeviceSpecific,
            ] {
                assert_eq!(
                    findings.mode(mode, POLICIES[policy as usize]).is_none(),
                    offer.modes().contains(mode),
                    "{mode:?} of {what}"
                );
            }
        }
    }
}

/// Makes something wrong.
type Spoil = fn(&mut Findings);

/// What can be wrong with a device, first to last: alone, and with all that comes after it.
#[test]
fn r104_each_reason_alone_and_the_first_one_first() {
    let wrong: [(Reason, Spoil); 8] = [
        (Reason::NoCapability, |it| it.has_capability = false),
        (Reason::KernelWithoutTph, |it| it.kernel_has_tph = false),
        (Reason::CutOff, |it| it.hardware = None),
        (Reason::Silent, |it| {
            it.hardware = Some(hardware(&Device {
                capability: u32::MAX,
                ..Device::FULL
            }))
        }),
        (Reason::RootPort, |it| set_above(it, above(Some(0b00)))),
        (Reason::RootPortReserved, |it| {
            set_above(it, above(Some(0b10)))
        }),
        (Reason::NoTph, |it| it.allowed = false),
        (Reason::Hidden, |it| it.in_chain = false),
    ];
    for (first, (reason, apply)) in wrong.iter().enumerate() {
        let mut one = findings(&Device::FULL);
        apply(&mut one);
        assert_eq!(one.tph(), Some(*reason));
        // The later ones first, so that none is undone by an earlier one.
        let mut several = findings(&Device::FULL);
        for (_, apply) in wrong[first..].iter().rev() {
            apply(&mut several);
        }
        assert_eq!(several.tph(), Some(*reason), "{several:x?}");
    }
    let mut unknown = findings(&Device::FULL);
    set_above(&mut unknown, Above::Unknown);
    assert_eq!(unknown.tph(), Some(Reason::NoRootPort));
}

fn set_above(findings: &mut Findings, above: Above) {
    findings.above = above;
    if let Some(hardware) = &mut findings.hardware {
        hardware.root_port = above.completer();
    }
}

#[test]
fn r104_validity_is_shown_without_tags() {
    for (raw, shown) in [
        (0, "volatile none persistent none"),
        (0x0000_0002_1234_5601, "volatile st persistent xst"),
        (0xffff_ff03_ffff_ff03, "volatile st,xst persistent st,xst"),
        (0xffff_fffc_0000_0000, "volatile none persistent none"),
    ] {
        assert_eq!(CpuTags::from_raw(raw).to_string(), shown);
    }
}
