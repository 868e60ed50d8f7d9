// SPDX-License-Identifier: GPL-2.0-only

//! Where the table is shown: in place, moved, shortened.

use tph_selftests::bench::{Bench, Want};
use tph_selftests::module::Gate;
use tph_selftests::protocol::{Position, Table, TphShape};
use tph_selftests::tph::{claimed_entries, control, Link};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::{assert_errno, bench, debugfs, vcpus};

use super::{map, probe_map, Bed, EXTENDED, STANDARD};

const FULL: &str = "0,1,-,3";

/// Another capability right behind the registers: the capability moves for the administrator's map,
/// and is of no use to the feature.
pub fn r95_moved(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::MSIX);
    let old = 0x1f4;
    endpoint.reshape(TphShape {
        table: Some(Table::Msix),
        position: Some(Position::Middle),
        offset: Some(old),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    let bed = Bed::open(endpoint.clone(), true);
    assert_eq!(bed.device.tph_offset(), old);
    assert_errno!(probe_map(&bed.device), EOPNOTSUPP, "no room");
    let before = bed.device.chain();
    drop(bed);

    vcpus::write(&endpoint.bdf, FULL).expect("tph_vcpus");
    let why = debugfs::show(&endpoint.bdf, "why");
    assert!(why.contains("\ntph_vcpus yes\n"), "{why}");
    let bed = Bed::open(endpoint.clone(), true);
    let at = bed.device.tph_offset();
    // Behind AER and its log of prefixes.
    assert_eq!(at, 0x148);
    let others = |chain: &[Link]| -> Vec<(u16, u16, u8)> {
        let mut links: Vec<_> = chain
            .iter()
            .map(|link| (link.id, link.offset, link.version))
            .collect();
        links.retain(|&(id, ..)| u32::from(id) != PCI_EXT_CAP_ID_TPH);
        links.sort_unstable();
        links
    };
    let chain = bed.device.chain();
    assert_eq!(others(&chain), others(&before));
    assert_eq!(chain.len(), before.len());
    assert_eq!(bed.device.tph().expect("GET").st_entries, 16);
    bed.write(0, &[1, 2]);
    bed.enable(EXTENDED);
    bed.assert_means(&[1, 2], true, "moved");
    // The old place is nobody's.
    for (bytes, value) in [(old..old + 12, 0xffu8), (old + 8..old + 12, 0)] {
        let length = usize::from(bytes.end - bytes.start);
        bed.device.set_config(bytes.start, &vec![value; length]);
        for offset in bytes {
            assert_eq!(bed.device.config_byte(offset), 0, "{offset:#x}");
        }
    }
    bed.assert_means(&[1, 2], true, "the old place");
    assert_eq!(bed.endpoint.control(), control(EXTENDED.0, EXTENDED.1));
    bed.device.reset().expect("VFIO_DEVICE_RESET");
    assert_eq!(bed.device.control(), 0);
    bed.write(0, &[2]);
    bed.enable(STANDARD);
    bed.assert_means(&[2], false, "after a reset");
    drop(bed);
    vcpus::write(&endpoint.bdf, "").expect("empty");
    let device = endpoint.open();
    assert_eq!(device.tph_offset(), old, "back");
}

/// The first capability of the chain, which would leave an empty header at 100h (host test
/// `r95_the_first_one_leaves_an_empty_header`), has room for a table and does not move.
pub fn r95_the_first_one_stays_where_there_is_room(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::MSIX);
    endpoint.reshape(TphShape {
        table: Some(Table::Msix),
        position: Some(Position::First),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    vcpus::write(&endpoint.bdf, FULL).expect("tph_vcpus");
    let bed = Bed::open(endpoint.clone(), true);
    assert_eq!(bed.device.tph_offset(), 0x100, "there is room");
    bed.write(0, &[1, 2]);
    bed.enable(EXTENDED);
    bed.assert_means(&[1, 2], true, "in place");
    drop(bed);
    vcpus::write(&endpoint.bdf, "").expect("empty");
}

/// As many entries as fit, by the feature.
pub fn r95_shortened(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::MSIX);
    endpoint.reshape(TphShape {
        table: Some(Table::Msix),
        position: Some(Position::Middle),
        offset: Some(0x1e4),
        ..TphShape::default()
    });
    bench::bind(&endpoint, Gate::Safe);
    let bed = Bed::open(endpoint.clone(), true);
    let before = bed.device.config_space();
    bed.device.set_map(&map()).expect("TPH_MAP");
    assert_eq!(bed.device.tph_offset(), 0x1e4);
    assert_eq!(bed.device.tph().expect("GET").st_entries, 8);
    assert_eq!(claimed_entries(bed.device.tph_capability()), 8);
    bed.enable(STANDARD);
    bed.write(0, &[1, 2, 4, 1, 2, 4, 1, 2]);
    bed.device.set_config(0x200, &[0xff; 4]);
    bed.assert_means(&[1, 2, 4, 1, 2, 4, 1, 2], false, "all that there is");
    assert_eq!(bed.device.config_space()[0x200..], before[0x200..]);
    // Made virtual, bytes stay so.
    bed.device.set_control(0);
    bed.device.set_map(&[]).expect("taken away");
    bed.device.set_config(0x1f0, &[0xff; 16]);
    assert_eq!(bed.device.config_space()[0x1f0..0x200], [0; 16]);
}
