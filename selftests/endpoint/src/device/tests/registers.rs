// SPDX-License-Identifier: GPL-2.0-only

//! The TPH capability's registers bit by bit, and every violation.

use proptest::prelude::*;
use tph_protocol::ViolationKind::{self, *};

use super::*;

/// What writing Control over 0 violates, said from the specification's side.
fn expected(value: u32, modes: u8, extended: bool, root_port: u8) -> Vec<ViolationKind> {
    let mut kinds = vec![];
    let enable = (value >> 8) & 3;
    if enable == 2 {
        kinds.push(RequesterEnableReserved);
    }
    if enable == 3 && !extended {
        kinds.push(ExtendedNotSupported);
    }
    if enable == 3 && root_port != 3 {
        kinds.push(ExtendedBeyondPath);
    }
    let offered = match value & 7 {
        mode @ 0..=2 => (modes >> mode) & 1 == 1,
        _ => false,
    };
    if enable != 0 && !offered {
        kinds.push(ModeNotSupported);
    }
    if value & !0x307 != 0 {
        kinds.push(ControlReserved);
    }
    kinds.sort();
    kinds
}

#[test]
fn every_control_value() {
    for extended in [false, true] {
        for root_port in [0, 1, 3] {
            for modes in 1..8u8 {
                let names: Vec<_> = ["ns", "iv", "ds"]
                    .into_iter()
                    .enumerate()
                    .filter_map(|(mode, name)| (modes & (1 << mode) != 0).then_some(name))
                    .collect();
                let mut ep = endpoint(&format!(
                    "modes={},extended={},rp={root_port}",
                    names.join("+"),
                    u8::from(extended)
                ));
                for value in 0..0x800 {
                    ep.write_control(0);
                    ep.write_control(value);
                    assert_eq!(ep.read_u32(ep.tph(CONTROL)), value & 0x307);
                    let found = ep.violations();
                    let wanted = expected(value, modes, extended, root_port);
                    assert_eq!(found, wanted, "{value:#x} {modes} {extended} {root_port}");
                }
            }
        }
    }
}

#[test]
fn control_bytes_stand_for_themselves() {
    let mut ep = endpoint("");
    ep.config_write(ep.tph(CONTROL), &[1]);
    ep.config_write(ep.tph(CONTROL) + 1, &[1]);
    assert_eq!(ep.read_u32(ep.tph(CONTROL)), 0x101);
    ep.config_write(ep.tph(CONTROL) + 2, &[0, 0]);
    assert_eq!(ep.violations(), []);
    ep.config_write(ep.tph(CONTROL) + 3, &[0x80]);
    assert_eq!(ep.violations(), [ControlReserved]);
    // Enable is not written here, but what it enables is not there.
    ep.write_control(0x100);
    ep.violations();
    ep.config_write(ep.tph(CONTROL), &[5]);
    assert_eq!(ep.violations(), [ModeNotSupported, ModeChangedWhileEnabled]);
}

#[test]
fn mode_change_goes_through_disabled() {
    let mut ep = endpoint("");
    ep.write_control(IV | ENABLE);
    ep.write_control(IV | ENABLE_EXTENDED);
    assert_eq!(ep.violations(), []);
    ep.write_control(DS | ENABLE);
    assert_eq!(ep.violations(), [ModeChangedWhileEnabled]);
    ep.write_control(0);
    ep.write_control(IV | ENABLE);
    assert_eq!(ep.violations(), []);
}

#[test]
fn read_only_registers() {
    for spec in ["", "position=first", "position=last", "extended=0,modes=ns"] {
        let mut ep = endpoint(spec);
        for offset in 0..8 {
            let at = ep.tph(offset);
            let present = ep.config_read(at, 1)[0];
            ep.config_write(at, &[present]);
            assert_eq!(ep.violations(), []);
            ep.config_write(at, &[!present]);
            assert_eq!(ep.violations(), [WriteToReadOnly]);
            assert_eq!(ep.config_read(at, 1), [present]);
        }
    }
}

#[test]
fn capability_register() {
    for (spec, value) in [
        ("modes=ns,entries=1,extended=0", 0x0000_0201),
        ("modes=ns+iv,entries=64,extended=1", 0x003f_0303),
        ("modes=iv+ds,entries=2048", 0x07ff_0306),
        ("tph=msix,msix=2048", 0x07ff_0507),
        ("tph=msix,msix=8,entries=3,extended=0", 0x0002_0407),
        ("tph=none-table,extended=0", 0x0000_0007),
    ] {
        let mut ep = endpoint(spec);
        assert_eq!(ep.read_u32(ep.tph(4)), value, "{spec}");
    }
}

#[test]
fn every_entry_in_every_width() {
    for extended in [false, true] {
        let mask = if extended { 0xffff } else { 0x00ff };
        for entries in [1u16, 2, 7, 64] {
            let mut ep = endpoint(&format!(
                "entries={entries},extended={}",
                u8::from(extended)
            ));
            for entry in 0..entries {
                let at = ep.tph(tph::ENTRIES) + 2 * entry;
                ep.write_u16(at, (0x1200 + entry) & mask);
                assert_eq!(ep.violations(), []);
            }
            for entry in 0..entries {
                assert_eq!(
                    ep.ask_state().tph.unwrap().entries[usize::from(entry)],
                    (0x1200 + entry) & mask
                );
                let at = ep.tph(tph::ENTRIES) + 2 * entry;
                ep.config_write(at, &[0xa5]);
                ep.config_write(at + 1, &[0x5a]);
                let refused = if extended {
                    vec![]
                } else {
                    vec![WriteToReadOnly]
                };
                assert_eq!(ep.violations(), refused);
                assert_eq!(ep.config.u16(at), 0x5aa5 & mask);
            }
            // A pair as a dword.
            if entries > 1 {
                ep.write_u32(ep.tph(tph::ENTRIES), 0x00bb_00aa);
                assert_eq!(ep.ask_state().tph.unwrap().entries[..2], [0xaa, 0xbb]);
                assert_eq!(ep.violations(), []);
            }
        }
    }
}

#[test]
fn behind_the_last_entry() {
    let mut ep = endpoint("entries=3");
    // The reserved half of the last dword may be written as it is.
    ep.write_u32(ep.tph(tph::ENTRIES) + 4, 0x0000_0011);
    assert_eq!(ep.violations(), []);
    ep.write_u32(ep.tph(tph::ENTRIES) + 4, 0x0022_0011);
    assert_eq!(ep.violations(), [StWriteBeyondTable]);
    ep.set_entry(4, 0);
    assert_eq!(ep.violations(), [StWriteBeyondTable]);
    ep.set_entry(63, 0);
    assert_eq!(ep.violations(), [StWriteBeyondTable]);
    ep.write_u16(ep.tph(tph::ENTRIES) + 128, 0);
    assert_eq!(ep.violations(), []);

    for spec in ["tph=msix", "tph=none-table"] {
        let mut ep = endpoint(spec);
        ep.set_entry(0, 0);
        assert_eq!(ep.violations(), [StWriteBeyondTable], "{spec}");
    }

    // What claims more than there is room for ends where configuration space does.
    let mut ep = endpoint("position=last,offset=0xff0,entries=2048");
    assert_eq!(ep.ask_state().tph.unwrap().entries.len(), 2);
    ep.write_u32(0xffc, 0x0002_0001);
    assert_eq!(ep.violations(), []);
    assert_eq!(ep.ask_state().tph.unwrap().entries, [1, 2]);
}

#[test]
fn table_while_enabled() {
    let mut ep = endpoint("");
    ep.set_entry(3, 0x11);
    for control in [ENABLE, IV | ENABLE, DS | ENABLE_EXTENDED] {
        ep.write_control(control);
        ep.set_entry(3, 0x11);
        assert_eq!(ep.violations(), [TableWrittenWhileEnabled]);
        ep.set_entry(3, 0x12);
        assert_eq!(ep.violations(), [TableChangedWhileEnabled]);
        ep.write_control(0);
        ep.set_entry(3, 0x11);
        assert_eq!(ep.violations(), []);
    }
}

#[test]
fn tags_in_msix_while_enabled() {
    let mut ep = endpoint("tph=msix,msix=4");
    let control = |vector: u64| 16 * vector + 12;
    ep.mmio_u32(control(2), 0x1234_0001);
    assert_eq!(ep.ask_state().msix.unwrap().entries[2].tag, 0x1234);
    ep.write_control(IV | ENABLE);
    // Masking and unmasking is what interrupts need all the time.
    ep.mmio_u32(control(2), 0x1234_0000);
    ep.mmio_u32(control(2), 0x1234_0001);
    assert_eq!(ep.violations(), []);
    ep.mmio_write(0, control(2) + 2, &[0x35]);
    assert_eq!(ep.violations(), [TableChangedWhileEnabled]);

    let mut ep = endpoint("tph=msix,msix=4,extended=0");
    ep.mmio_u32(control(0), 0x1234_0001);
    assert_eq!(ep.violations(), [WriteToReadOnly]);
    assert_eq!(ep.ask_state().msix.unwrap().entries[0].tag, 0x34);

    // Elsewhere these bits are reserved, and nobody's tags.
    let mut ep = endpoint("msix=4");
    ep.mmio_u32(control(0), 0x1234_0001);
    assert_eq!(ep.violations(), []);
    assert_eq!(ep.ask_state().msix.unwrap().entries[0].tag, 0);
}

#[test]
fn no_capability_no_violation() {
    let mut ep = endpoint("tph=absent");
    for offset in (0x100..0x1000).step_by(4) {
        ep.write_u32(offset, 0xffff_ffff);
    }
    assert_eq!(ep.violations(), []);
    assert!(ep.ask_state().tph.is_none());
}

#[test]
fn memory_that_is_not_decoded() {
    let mut ep = endpoint("");
    ep.mmio_u32(0xa000, 0x1234);
    ep.write_u16(layout::PMCSR, 3);
    assert_eq!(ep.mmio_read_u32(0xa000), !0);
    ep.mmio_u32(0xa000, 0);
    assert_eq!(ep.violations(), [MmioInD3, MmioInD3]);
    ep.write_u16(layout::PMCSR, 0);
    assert_eq!(ep.mmio_read_u32(0xa000), 0x1234);
    ep.write_u16(layout::COMMAND, 4);
    assert_eq!(ep.mmio_read_u32(0xa000), !0);
    assert_eq!(ep.violations(), [MmioInD3]);
}

#[test]
fn counters_tell_the_capability_apart() {
    let mut ep = endpoint("");
    let base = ep.journal.counters();
    ep.config_read(0, 4);
    ep.config_read(ep.tph(0), 1);
    ep.config_read(ep.tph(0) - 4, 8);
    ep.config_read(ep.tph(0) - 4, 4);
    ep.write_control(0);
    ep.config_write(0x0c, &[0]);
    let c = ep.journal.counters();
    assert_eq!((c.config_read - base.config_read, c.tph_read), (4, 2));
    assert_eq!((c.config_write - base.config_write, c.tph_write), (2, 1));
}

proptest! {
    /// Whatever is written where in whatever width: bytes read alone are those read together, and
    /// registers keep what they are.
    #[test]
    fn any_write(
        writes in proptest::collection::vec(
            (0u16..4096, proptest::collection::vec(any::<u8>(), 1..9)), 1..40),
        spec in prop::sample::select(vec![
            "", "tph=msix,position=first", "tph=absent", "position=only,entries=2048,msix=0",
            "position=last,offset=0xfe4,extended=0", "nosoftrst=0",
        ]),
    ) {
        let mut ep = endpoint(spec);
        let shape = ep.read_u32(0);
        for (offset, data) in &writes {
            let fits = data.len().min(4096 - usize::from(*offset));
            ep.config_write(*offset, &data[..fits]);
        }
        let whole = ep.config_read(0, 4096);
        for (at, byte) in (0..4096).zip(&whole) {
            prop_assert_eq!(&ep.config_read(at, 1)[0], byte);
        }
        prop_assert_eq!(ep.read_u32(0), shape);
        let state = ep.ask_state();
        if let Some(tph) = state.tph {
            prop_assert_eq!(tph.control & !0x307, 0);
            prop_assert_eq!(u32::from(tph.st_mode), tph.control & 7);
        }
    }

    /// A BAR takes an access of any width at any offset.
    #[test]
    fn any_mmio(
        accesses in proptest::collection::vec(
            (0u8..3, 0u64..0x1_0010, proptest::collection::vec(any::<u8>(), 1..64)), 1..60),
        msix in prop::sample::select(vec![1u16, 63, 2048]),
    ) {
        let mut ep = endpoint(&format!("tph=msix,msix={msix},bar=4K"));
        for (bar, offset, data) in &accesses {
            ep.mmio_write(*bar, *offset, data);
            let read = ep.mmio_read(*bar, *offset, data.len());
            for (at, byte) in (*offset..).zip(read) {
                prop_assert_eq!(ep.mmio_read(*bar, at, 1)[0], byte);
            }
            ep.take_outgoing();
        }
    }
}
