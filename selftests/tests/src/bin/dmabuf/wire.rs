// SPDX-License-Identifier: GPL-2.0-only

//! From one owner to the other's device: a tag is published for memory, programmed by a peer, and
//! travels with the peer's write into that memory. Below policy 2 it does not get there.

use tph_selftests::bench::Bench;
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::policy::Policy;
use tph_selftests::protocol::{Access, Tag, TlpHint};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::dma_buf;
use tph_selftests::{skip, Errno};

use super::{size, Exporter, Peer, BAR, HINTS};

/// Where the peer finds the memory.
const IOVA: u64 = 0x40_0000;
/// ST entry.
const ENTRY: u16 = 3;

/// Every request of a device since a mark, its hint with it.
fn writes(peer: &Peer, mark: u64) -> Vec<(u64, u64, Option<TlpHint>)> {
    let log = peer.endpoint.log_after(mark).into_iter();
    log.filter_map(|entry| match entry.access {
        Access::DmaWrite {
            offset,
            value,
            hint,
            ..
        } => Some((offset, value, hint)),
        _ => None,
    })
    .collect()
}

/// A standard and an extended tag.
pub fn r64_tag_on_the_wire(bench: &mut Bench) {
    on_the_wire(bench, Policy::DsSt);
}

/// At the default policy requests carry what is in the table, which is nothing.
pub fn r71_no_tag_of_a_users_choice_on_the_wire(bench: &mut Bench) {
    on_the_wire(bench, Policy::IvSt);
}

/// The peer is at `policy`, the owner of the memory at the default one.
fn on_the_wire(bench: &mut Bench, policy: Policy) {
    let exporter = Exporter::under(bench, policy.gate(), Policy::IvSt);
    let peer = Peer::beside(bench, &exporter, policy);
    if !peer.endpoint.is_emulated() {
        skip!("needs the emulated endpoint's log");
    }
    exporter.publish(HINTS).expect("SET");
    peer.device
        .map_dma_buf(&exporter.dma_buf, size(), IOVA)
        .expect("IOMMU_IOAS_MAP_FILE of the dma-buf");
    peer.device.decode_memory(true);
    let engine = Engine::new(&peer.device);

    for (requester, extended) in [(Requester::Standard, false), (Requester::Extended, true)] {
        let source = dma_buf(&exporter.dma_buf);
        peer.device.set_control(0);
        peer.device.enable(StMode::InterruptVector, requester);
        // What the peer is always allowed to know is the processing hint.
        let found = peer.device.resolve(&[source], extended).expect("a hint");
        assert_eq!(found[0].ph, HINTS.ph);
        let programmed = peer.device.program_in(extended, ENTRY, &[source]);
        let (expected, tag) = match policy.discloses() {
            true => (Ok(()), HINTS.tag(extended).expect("a tag")),
            false => (Err(Errno::EPERM), 0),
        };
        assert_eq!(programmed, expected);
        assert_eq!(found[0].st, tag);

        let at = 0x40 + 8 * u64::from(extended);
        let value = 0x1122_3344_5566_7788 + u64::from(extended);
        let mark = peer.endpoint.mark();
        engine.write(IOVA + at, value, found[0].ph, TagFrom::Vector(ENTRY));

        let hint = TlpHint {
            ph: HINTS.ph,
            tag: Some(match extended {
                false => Tag::St(tag as u8),
                true => Tag::Xst(tag),
            }),
        };
        assert_eq!(writes(&peer, mark), [(IOVA + at, value, Some(hint))]);
        // The data is where the owner of the memory looks for it.
        let dword = |at| u64::from(exporter.device.bar_dword(BAR, at));
        assert_eq!(dword(at) | (dword(at + 4) << 32), value);
    }
}
