// SPDX-License-Identifier: GPL-2.0-only

//! What the endpoint sends: DMA with hints, interrupts.

use tph_protocol::registers::{self, command, status};
use tph_protocol::{Access, Tag, TlpHint, ViolationKind::*};

use super::*;
use crate::device::{Origin, Payload};

fn start(ep: &mut Endpoint, what: u32) -> u32 {
    ep.mmio_u32(registers::COMMAND, what);
    ep.mmio_read_u32(registers::STATUS)
}

fn last_hint(ep: &mut Endpoint) -> Option<TlpHint> {
    let entry = ep.journal.page(ep.journal.last().saturating_sub(4), 10);
    let hint = entry.entries.iter().rev().find_map(|e| match e.access {
        Access::DmaWrite { hint, .. } | Access::DmaRead { hint, .. } => Some(hint),
        _ => None,
    });
    hint.expect("no request")
}

/// One write, and the hint it carried.
fn write_with_hint(ep: &mut Endpoint) -> Option<TlpHint> {
    ep.mmio_u32(registers::LENGTH, 4);
    assert_eq!(start(ep, command::WRITE), status::BUSY);
    let hint = last_hint(ep);
    ep.take_outgoing();
    ep.completed(Origin::Engine, Ok(&[]));
    assert_eq!(ep.mmio_read_u32(registers::STATUS), status::DONE);
    hint
}

fn entry_tag(ep: &mut Endpoint, msix: bool, entry: u16, tag: u16) {
    if msix {
        ep.mmio_u32(16 * u64::from(entry) + 12, (u32::from(tag) << 16) | 1);
    } else {
        ep.set_entry(entry, tag);
    }
}

#[test]
fn hints() {
    for msix in [false, true] {
        let table = if msix { "tph=msix" } else { "tph=cap" };
        let mut ep = endpoint(table);
        entry_tag(&mut ep, msix, 5, 0x1234);
        entry_tag(&mut ep, msix, 6, 0x5678);
        ep.mmio_u32(registers::HINT, 2);
        ep.mmio_u32(registers::INDEX, 5);
        ep.mmio_u32(registers::DS_TAG, 6);
        assert_eq!(write_with_hint(&mut ep), None);
        for (control, tag) in [
            (ENABLE, None),
            (ENABLE_EXTENDED, None),
            (IV | ENABLE, Some(Tag::St(0x34))),
            (IV | ENABLE_EXTENDED, Some(Tag::Xst(0x1234))),
            (DS | ENABLE, Some(Tag::St(0x78))),
            (DS | ENABLE_EXTENDED, Some(Tag::Xst(0x5678))),
        ] {
            ep.write_control(0);
            ep.write_control(control);
            let hint = Some(TlpHint { ph: 2, tag });
            assert_eq!(write_with_hint(&mut ep), hint, "{table} {control:#x}");
        }
        ep.mmio_u32(registers::DS_TAG, registers::DS_RAW | 0xabcd);
        let tag = Some(Tag::Xst(0xabcd));
        assert_eq!(write_with_hint(&mut ep), Some(TlpHint { ph: 2, tag }));
        assert_eq!(ep.violations(), []);
        let bits = ep.mmio_read_u32(registers::LAST_HINT);
        assert_eq!(bits, 0x0027_abcd);
    }
}

#[test]
fn entry_that_is_not_there() {
    for (spec, index) in [
        ("entries=8", 8),
        ("tph=msix,msix=4", 4),
        ("tph=none-table", 0),
    ] {
        let mut ep = endpoint(spec);
        ep.write_control(IV | ENABLE);
        ep.mmio_u32(registers::LENGTH, 4);
        ep.mmio_u32(registers::INDEX, index);
        assert_eq!(start(&mut ep, command::WRITE), status::BAD_COMMAND);
        assert!(ep.take_outgoing().is_empty());
    }
}

#[test]
fn requests_and_answers() {
    let mut ep = endpoint("");
    ep.mmio_u32(registers::ADDRESS_LO, 0x1000);
    ep.mmio_u32(registers::ADDRESS_HI, 2);
    ep.mmio_u32(registers::LENGTH, 8);
    assert_eq!(start(&mut ep, command::READ), status::BUSY);
    // Busy: nothing more is taken.
    assert_eq!(start(&mut ep, command::READ), status::BUSY);
    let sent = ep.take_outgoing();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].address, &sent[0].payload),
        (0x2_0000_1000, &Payload::Read(8))
    );
    ep.completed(Origin::Engine, Ok(&[1, 2, 3, 4, 5, 6, 7, 8]));
    assert_eq!(ep.mmio_read_u32(registers::VALUE_LO), 0x0403_0201);
    assert_eq!(ep.mmio_read_u32(registers::VALUE_HI), 0x0807_0605);

    assert_eq!(start(&mut ep, command::WRITE), status::BUSY);
    ep.completed(Origin::Engine, Err(()));
    assert_eq!(ep.mmio_read_u32(registers::STATUS), status::FAULT);

    // The client goes away while a request is on its way.
    assert_eq!(start(&mut ep, command::WRITE), status::BUSY);
    ep.disconnect();
    assert_eq!(ep.mmio_read_u32(registers::STATUS), status::FAULT);

    // An answer that comes after a reset.
    assert_eq!(start(&mut ep, command::WRITE), status::BUSY);
    ep.bus_reset();
    ep.completed(Origin::Engine, Ok(&[]));
    ep.write_u16(layout::COMMAND, 6);
    assert_eq!(ep.mmio_read_u32(registers::STATUS), status::IDLE);
}

#[test]
fn no_bus_master() {
    let mut ep = endpoint("");
    ep.write_u16(layout::COMMAND, 2);
    ep.mmio_u32(registers::LENGTH, 4);
    assert_eq!(start(&mut ep, command::WRITE), status::NO_BUS_MASTER);
    assert!(ep.take_outgoing().is_empty());
    assert_eq!(ep.violations(), [DmaWithoutBusMaster]);
    assert_eq!(ep.journal.counters().dma_write, 0);
}

/// Vector 1 with an address and data, unmasked; MSI-X enabled.
fn with_vector(ep: &mut Endpoint) {
    ep.mmio_u32(16, 0xfee0_1000);
    ep.mmio_u32(24, 0x4242);
    ep.mmio_u32(28, 0);
    ep.write_u16(layout::MSIX_CONTROL, layout::MSIX_ENABLE);
}

#[test]
fn interrupts() {
    let mut ep = endpoint("");
    let raise = Command::RaiseInterrupt { vector: 1 };
    assert!(matches!(ep.ask(raise.clone()), Reply::Error(_)));
    with_vector(&mut ep);
    assert_eq!(ep.ask(raise.clone()), Reply::Ok);
    let sent = ep.take_outgoing();
    assert_eq!((sent.len(), sent[0].address), (1, 0xfee0_1000));
    assert_eq!(sent[0].payload, Payload::Write(vec![0x42, 0x42, 0, 0]));
    assert_eq!(ep.journal.counters().interrupt, 1);

    ep.mmio_u32(registers::INDEX, 1);
    assert_eq!(start(&mut ep, command::INTERRUPT), status::DONE);
    assert_eq!(ep.take_outgoing().len(), 1);
    ep.mmio_u32(registers::INDEX, 16);
    assert_eq!(start(&mut ep, command::INTERRUPT), status::BAD_COMMAND);

    ep.write_u16(layout::COMMAND, 2);
    assert!(matches!(ep.ask(raise), Reply::Error(_)));
    assert!(ep.take_outgoing().is_empty());
    assert_eq!(ep.violations(), [DmaWithoutBusMaster]);
}

#[test]
fn masked_interrupts_wait() {
    let raise = Command::RaiseInterrupt { vector: 1 };
    let pba = registers::MSIX_PBA;

    let mut ep = endpoint("");
    with_vector(&mut ep);
    ep.mmio_u32(28, 1);
    assert_eq!(ep.ask(raise.clone()), Reply::Ok);
    assert!(ep.take_outgoing().is_empty());
    assert_eq!(ep.mmio_read_u32(pba), 2);
    ep.mmio_u32(28, 0);
    assert_eq!(ep.take_outgoing().len(), 1);
    assert_eq!(ep.mmio_read_u32(pba), 0);

    ep.write_u16(
        layout::MSIX_CONTROL,
        layout::MSIX_ENABLE | layout::MSIX_MASK,
    );
    assert_eq!(ep.ask(raise), Reply::Ok);
    assert!(ep.take_outgoing().is_empty());
    ep.write_u16(layout::MSIX_CONTROL, layout::MSIX_ENABLE);
    assert_eq!(ep.take_outgoing().len(), 1);
}
