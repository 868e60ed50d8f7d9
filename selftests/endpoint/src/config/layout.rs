// SPDX-License-Identifier: GPL-2.0-only

//! What lies where in configuration space, and its reset values.

use anyhow::{ensure, Result};
use tph_protocol::registers::MSIX_PBA;
use tph_protocol::{ExtendedCapability, Position, Table};

use super::space::ConfigSpace;
use super::tph;
use crate::spec::{Spec, Tph};

/// Size of configuration space.
pub const SIZE: u16 = 0x1000;
/// Where the header ends, and capabilities begin.
pub const HEADER_END: u16 = 0x40;
/// Where extended capabilities begin.
pub const EXTENDED: u16 = 0x100;

/// Command register.
pub const COMMAND: u16 = 0x04;
/// I/O Space Enable, which is there if an I/O BAR is.
pub const COMMAND_IO: u16 = 1 << 0;
/// Memory Space Enable.
pub const COMMAND_MEMORY: u16 = 1 << 1;
/// Bus Master Enable.
pub const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_WRITABLE: u16 = 0x0546;
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Expansion ROM Enable in its BAR.
const ROM_ENABLE: u32 = 1;

/// Power Management capability.
pub const PM: u16 = 0x40;
/// Power Management Control/Status.
pub const PMCSR: u16 = PM + 4;
/// PowerState in PMCSR.
pub const PMCSR_STATE: u16 = 3;
/// D3hot in PMCSR.
pub const PMCSR_D3HOT: u16 = 3;
const PMCSR_NO_SOFT_RESET: u16 = 1 << 3;

/// MSI-X capability.
pub const MSIX: u16 = 0x50;
/// Message Control.
pub const MSIX_CONTROL: u16 = MSIX + 2;
/// MSI-X Enable.
pub const MSIX_ENABLE: u16 = 1 << 15;
/// Function Mask.
pub const MSIX_MASK: u16 = 1 << 14;

/// PCI Express capability.
pub const EXPRESS: u16 = 0x60;
const DEVICE_CAPABILITIES_FLR: u32 = 1 << 28;
/// Device Control.
pub const DEVICE_CONTROL: u16 = EXPRESS + 0x08;
/// Initiate Function Level Reset.
pub const DEVICE_CONTROL_FLR: u16 = 1 << 15;
/// Device Capabilities 2.
pub const DEVICE_CAPABILITIES_2: u16 = EXPRESS + 0x24;
/// Shift of TPH Completer Supported in it.
pub const COMPLETER_SHIFT: u32 = 12;
/// End-End TLP Prefix Supported in it.
pub const PREFIX: u32 = 1 << 21;
/// Shift of Max End-End TLP Prefixes in it, where 4 is 00b.
pub const PREFIX_MAX_SHIFT: u32 = 22;

const CAPABILITY_PM: u16 = 0x01;
const CAPABILITY_EXPRESS: u16 = 0x10;
const CAPABILITY_MSIX: u16 = 0x11;
/// Advanced Error Reporting.
pub const EXTENDED_AER: u16 = 0x01;
const EXTENDED_DSN: u16 = 0x03;
/// TPH Requester.
pub const EXTENDED_TPH: u16 = 0x17;
const AER_SIZE: u16 = 0x48;
const DSN_SIZE: u16 = 0x0c;

/// Where the TPH capability is unless the offset is given.
pub fn default_offset(position: Position) -> u16 {
    match position {
        Position::First | Position::Only => EXTENDED,
        Position::Middle | Position::Last => 0x160,
    }
}

/// One extended capability of the chain.
struct Link {
    id: u16,
    version: u8,
    offset: u16,
    size: u16,
}

/// Extended capabilities in the order of the chain.
pub fn chain(tph: &Tph) -> Result<Vec<ExtendedCapability>> {
    let links = links(tph)?;
    let next = links.iter().skip(1).map(|l| l.offset).chain([0]);
    Ok(links
        .iter()
        .zip(next)
        .map(|(link, next)| ExtendedCapability {
            id: link.id,
            version: link.version,
            offset: link.offset,
            next,
        })
        .collect())
}

fn links(shape: &Tph) -> Result<Vec<Link>> {
    let aer = |offset| Link {
        id: EXTENDED_AER,
        version: 2,
        offset,
        size: AER_SIZE,
    };
    let dsn = |offset| Link {
        id: EXTENDED_DSN,
        version: 1,
        offset,
        size: DSN_SIZE,
    };
    let tph = Link {
        id: EXTENDED_TPH,
        version: 1,
        offset: shape.offset,
        size: shape.len(),
    };
    let links = match (shape.table, shape.position) {
        (Table::Absent, Position::Only) => vec![],
        (Table::Absent, _) => vec![aer(EXTENDED), dsn(0x150)],
        (_, Position::Only) => vec![tph],
        (_, Position::First) => vec![tph, aer(0x200), dsn(0x250)],
        (_, Position::Middle) => {
            // Offsets ascend along the chain where there is room for it.
            let after = if tph.offset + tph.size <= 0x200 {
                0x200
            } else {
                0x150
            };
            vec![aer(EXTENDED), tph, dsn(after)]
        }
        (_, Position::Last) => vec![aer(EXTENDED), dsn(0x150), tph],
    };
    for (i, a) in links.iter().enumerate() {
        ensure!(
            (i == 0) == (a.offset == EXTENDED),
            "the first capability, and no other, is at {EXTENDED:#x}"
        );
        for b in &links[..i] {
            ensure!(
                a.offset + a.size <= b.offset || b.offset + b.size <= a.offset,
                "extended capabilities at {:#x} and {:#x} overlap",
                a.offset,
                b.offset
            );
        }
    }
    Ok(links)
}

/// Registers of AER, which no reset touches.
pub fn sticky(chain: &[ExtendedCapability]) -> std::ops::Range<u16> {
    match chain.iter().find(|c| c.id == EXTENDED_AER) {
        Some(aer) => aer.offset + 4..aer.offset + AER_SIZE,
        None => 0..0,
    }
}

/// Configuration space of an endpoint after power-on.
pub fn build(spec: &Spec) -> Result<ConfigSpace> {
    let mut space = ConfigSpace::new();
    header(&mut space, spec);
    power_management(&mut space, spec);
    if spec.msix > 0 {
        msix(&mut space, spec);
    }
    express(&mut space, spec);
    build_extended(&mut space, spec)?;
    Ok(space)
}

/// Device Capabilities 2.
fn device_capabilities_2(spec: &Spec) -> u32 {
    let prefixes = match spec.eetlp {
        0 => 0,
        most => PREFIX | (u32::from(most & 3) << PREFIX_MAX_SHIFT),
    };
    (u32::from(spec.completer) << COMPLETER_SHIFT) | prefixes
}

/// Anything about TPH, anew: extended capabilities and Device Capabilities 2.
pub fn build_extended(space: &mut ConfigSpace, spec: &Spec) -> Result<()> {
    let chain = chain(&spec.tph)?;
    space.define_u32(DEVICE_CAPABILITIES_2, device_capabilities_2(spec), 0);
    space.truncate(EXTENDED);
    for capability in &chain {
        let header = u32::from(capability.id)
            | (u32::from(capability.version) << 16)
            | (u32::from(capability.next) << 20);
        space.define_u32(capability.offset, header, 0);
        match capability.id {
            EXTENDED_AER => aer(space, capability.offset),
            EXTENDED_TPH => tph::define(space, &spec.tph),
            _ => {
                // Device Serial Number: the ids, so that two endpoints differ where they can.
                space.define_u32(capability.offset + 4, u32::from(spec.device), 0);
                space.define_u32(capability.offset + 8, u32::from(spec.vendor), 0);
            }
        }
    }
    Ok(())
}

fn header(space: &mut ConfigSpace, spec: &Spec) {
    space.define_u16(0x00, spec.vendor, 0);
    space.define_u16(0x02, spec.device, 0);
    let io = if spec.io_size > 0 { COMMAND_IO } else { 0 };
    space.define_u16(COMMAND, 0, COMMAND_WRITABLE | io);
    space.define_u16(0x06, STATUS_CAPABILITIES, 0);
    space.define_u32(0x08, (spec.class << 8) | 1, 0); // Revision 1.
    space.define_u16(0x0c, 0, 0x00ff); // Cache Line Size.
    space.define_u32(0x10, 0, !(spec.bar0_size as u32 - 1));
    let mask = !(spec.bar_size - 1);
    space.define_u32(0x18, 0x0c, mask as u32);
    space.define_u32(0x1c, 0, (mask >> 32) as u32);
    if spec.io_size > 0 {
        space.define_u32(0x20, 1, !(spec.io_size as u32 - 1));
    }
    space.define_u16(0x2c, spec.vendor, 0);
    space.define_u16(0x2e, spec.device, 0);
    if spec.rom_size > 0 {
        space.define_u32(0x30, 0, !(spec.rom_size as u32 - 1) | ROM_ENABLE);
    }
    space.define_u16(0x34, PM, 0);
    space.define_u16(0x3c, 0, 0x00ff); // Interrupt Line; there is no pin.
}

fn power_management(space: &mut ConfigSpace, spec: &Spec) {
    let next = if spec.msix > 0 { MSIX } else { EXPRESS };
    space.define_u16(PM, CAPABILITY_PM | (next << 8), 0);
    space.define_u16(PM + 2, 3, 0); // Version 3: D0 and D3 only, no PME.
    let no_soft_reset = if spec.no_soft_reset {
        PMCSR_NO_SOFT_RESET
    } else {
        0
    };
    space.define_u16(PMCSR, no_soft_reset, PMCSR_STATE);
}

fn msix(space: &mut ConfigSpace, spec: &Spec) {
    space.define_u16(MSIX, CAPABILITY_MSIX | (EXPRESS << 8), 0);
    space.define_u16(MSIX_CONTROL, spec.msix - 1, MSIX_ENABLE | MSIX_MASK);
    // The number of the BAR is in the low bits: 0.
    space.define_u32(MSIX + 4, spec.msix_offset as u32, 0);
    space.define_u32(MSIX + 8, MSIX_PBA as u32, 0);
}

fn express(space: &mut ConfigSpace, spec: &Spec) {
    space.define_u16(EXPRESS, CAPABILITY_EXPRESS, 0);
    space.define_u16(EXPRESS + 2, 2, 0); // Version 2, PCI Express Endpoint.
    let role_based_errors = 1 << 15;
    let flr = if spec.flr { DEVICE_CAPABILITIES_FLR } else { 0 };
    space.define_u32(EXPRESS + 4, role_based_errors | flr, 0);
    // Initiate FLR is judged before a write reaches the register, where it reads as 0.
    space.define_u16(DEVICE_CONTROL, 0x2810, 0x7fff);
    space.define_clear_u32(DEVICE_CONTROL, 0x000f_0000);
    // 32 GT/s, one lane: no slower than any root port.
    space.define_u32(EXPRESS + 0x0c, 0x15, 0);
    space.define_u16(EXPRESS + 0x10, 0, 0x01fb);
    space.define_u16(EXPRESS + 0x12, 0x15, 0);
    // Device Capabilities 2 is made with the extended capabilities.
    space.define_u16(EXPRESS + 0x28, 0, 0x7fff);
    space.define_u32(EXPRESS + 0x2c, 0x3e, 0);
    space.define_u16(EXPRESS + 0x30, 5, 0xffff);
}

/// Advanced Error Reporting: errors are injected in the guest, none comes from here.
fn aer(space: &mut ConfigSpace, at: u16) {
    let uncorrectable = 0x07ff_f030;
    let correctable = 0x0000_f1c1;
    space.define_u32(at + 0x04, 0, 0);
    space.define_clear_u32(at + 0x04, uncorrectable);
    space.define_u32(at + 0x08, 0, uncorrectable);
    space.define_u32(at + 0x0c, 0x0046_2030, uncorrectable);
    space.define_u32(at + 0x10, 0, 0);
    space.define_clear_u32(at + 0x10, correctable);
    space.define_u32(at + 0x14, 0x0000_e000, correctable);
    space.define_u32(at + 0x18, 0x0000_00a0, 0x0000_0140);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(spec: &str) -> Vec<(u16, u16)> {
        let spec: Spec = spec.parse().unwrap();
        let space = build(&spec).unwrap();
        let mut found = vec![];
        let mut at = EXTENDED;
        while at != 0 && space.u32(at) != 0 {
            found.push((space.u16(at), at));
            at = space.u16(at + 2) >> 4;
        }
        found
    }

    #[test]
    fn chains() {
        let (aer, dsn, tph) = (EXTENDED_AER, EXTENDED_DSN, EXTENDED_TPH);
        assert_eq!(
            walk("name=a,position=first"),
            [(tph, 0x100), (aer, 0x200), (dsn, 0x250)]
        );
        assert_eq!(
            walk("name=a,position=middle"),
            [(aer, 0x100), (tph, 0x160), (dsn, 0x200)]
        );
        assert_eq!(
            walk("name=a,position=last"),
            [(aer, 0x100), (dsn, 0x150), (tph, 0x160)]
        );
        assert_eq!(walk("name=a,position=only"), [(tph, 0x100)]);
        assert_eq!(walk("name=a,tph=absent"), [(aer, 0x100), (dsn, 0x150)]);
        assert_eq!(walk("name=a,tph=absent,position=only"), []);
        assert_eq!(
            walk("name=a,position=middle,offset=0xff0"),
            [(aer, 0x100), (tph, 0xff0), (dsn, 0x150)]
        );
    }

    #[test]
    fn standard_capabilities() {
        for (spec, expected) in [
            (
                "name=a",
                &[CAPABILITY_PM, CAPABILITY_MSIX, CAPABILITY_EXPRESS][..],
            ),
            ("name=a,msix=0", &[CAPABILITY_PM, CAPABILITY_EXPRESS][..]),
        ] {
            let space = build(&spec.parse().unwrap()).unwrap();
            let mut found = vec![];
            let mut at = u16::from(space.u8(0x34));
            while at != 0 {
                found.push(u16::from(space.u8(at)));
                at = u16::from(space.u8(at + 1));
            }
            assert_eq!(found, expected);
        }
    }

    /// Each BAR as whoever sizes it sees it.
    #[test]
    fn bars() {
        for (spec, sizes) in [
            ("name=a", [0xffff_0000, 0, 0xffff_000c, !0, 0, 0, 0]),
            (
                "name=a,bar0=4K,bar=1M,io=256,rom=64K",
                [0xffff_f000, 0, 0xfff0_000c, !0, 0xffff_ff01, 0, 0xffff_0001],
            ),
            (
                "name=a,bar=4G,io=4,rom=2K",
                [0xffff_0000, 0, 0x0000_000c, !0, 0xffff_fffd, 0, 0xffff_f801],
            ),
        ] {
            let spec: Spec = spec.parse().unwrap();
            let mut space = build(&spec).unwrap();
            let places = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x30];
            for (at, size) in places.into_iter().zip(sizes) {
                space.write(at, &[0xff; 4]);
                assert_eq!(space.u32(at), size, "{spec:?}: {at:#x}");
            }
            space.write(COMMAND, &[0xff]);
            assert_eq!(space.u16(COMMAND) & COMMAND_IO != 0, spec.io_size > 0);
        }
    }

    #[test]
    fn completer_field() {
        for completer in 0..4 {
            let spec = format!("name=a,completer={completer},eetlp=0");
            let space = build(&spec.parse().unwrap()).unwrap();
            assert_eq!(space.u32(DEVICE_CAPABILITIES_2), completer << 12);
        }
    }

    #[test]
    fn prefix_fields() {
        for (eetlp, fields) in [(0, 0), (1, 0b011), (2, 0b101), (3, 0b111), (4, 0b001)] {
            let spec = format!("name=a,eetlp={eetlp}");
            let space = build(&spec.parse().unwrap()).unwrap();
            assert_eq!(space.u32(DEVICE_CAPABILITIES_2), fields << 21);
        }
    }
}
