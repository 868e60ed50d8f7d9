// SPDX-License-Identifier: GPL-2.0-only

//! What drivers in the kernel are told: with and without the lock, before and after an
//! invalidation, and when they know nothing of TPH.

use std::fs;

use tph_selftests::bench::{bind, Bench, Want};
use tph_selftests::dma_buf::udmabuf;
use tph_selftests::importer::{Answer, Importer, UNTOUCHED};
use tph_selftests::kmsg::KernelLog;
use tph_selftests::module::Gate;
use tph_selftests::msix::capability;
use tph_selftests::policy::{self, Policy};
use tph_selftests::slab::InUse;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{dma_buf, Device, Hints};
use tph_selftests::{assert_errno, skip, Errno};

use super::{assert_revoked, assert_told, expected, hint, noted, refused, Exporter};
use super::{HINTS, OTHER_HINTS};

/// Whether lockdep watches. It does not any more after a report, whose ever: in early boot KASAN
/// takes the address of an interrupt's descriptor for wild, if it comes in identify_cpu(), which
/// finds out just then how long addresses are.
fn lockdep() -> bool {
    let Ok(stats) = fs::read_to_string("/proc/lockdep_stats") else {
        return false;
    };
    let mut lines = stats.lines().map(str::trim);
    let watches = lines
        .find_map(|line| line.strip_prefix("debug_locks:"))
        .expect("a line of lockdep's state");
    if watches.trim() != "1" {
        skip!("a report before the test has turned lockdep off");
    }
    true
}

/// On every error the outputs keep what they had.
pub fn r57_outputs_untouched_on_error(bench: &mut Bench) {
    let untouched = |errno: Errno| {
        Ok(Answer {
            errno: errno as u32,
            ..UNTOUCHED
        })
    };
    let memory = udmabuf(1);
    let no_exporter = Importer::new(&memory);
    for extended in [false, true] {
        assert_eq!(no_exporter.ask(extended), untouched(Errno::EOPNOTSUPP));
    }
    let exporter = Exporter::new(bench);
    let importer = Importer::new(&exporter.dma_buf);
    let ask_both = || [false, true].map(|extended| importer.ask(extended));
    assert_eq!(ask_both(), [untouched(Errno::EOPNOTSUPP); 2]);
    let only_st = Hints { xst: None, ..HINTS };
    exporter.publish(only_st).expect("SET");
    assert_eq!(importer.ask(true), untouched(Errno::EOPNOTSUPP));
    let only_xst = Hints { st: None, ..HINTS };
    exporter.publish(only_xst).expect("SET");
    assert_eq!(importer.ask(false), untouched(Errno::EOPNOTSUPP));
    exporter.publish(HINTS).expect("SET");
    exporter.device.decode_memory(false);
    assert_eq!(ask_both(), [untouched(Errno::ENODEV); 2], "memory off");
    exporter.device.decode_memory(true);
    drop(exporter.device);
    assert_eq!(ask_both(), [untouched(Errno::ENODEV); 2], "closed");
}

/// A driver that forgets the lock is told off where lockdep watches, and nowhere else.
pub fn r57_without_the_lock(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    let mut log = KernelLog::from_now();
    let answer = importer.ask_unlocked(false).expect("an answer");
    assert_eq!(answer.hint(), expected(HINTS, false));
    let told_off = log
        .until_now()
        .iter()
        .any(|line| line.contains("WARNING:") && line.contains("dma_buf_get_tph"));
    assert_eq!(told_off, lockdep(), "a warning in the kernel's log");
}

/// An importer is told that its mapping is void, maps again when it can, and asks again.
pub fn r60_memory_off_and_on(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    importer.attach(&exporter.endpoint.bdf).expect("attach");
    for round in 1..=3 {
        let what = format!("round {round}");
        importer.map().expect("map");
        let before = importer.report();
        assert!(before.mapped, "{what}");
        assert_eq!(before.when_mapped, noted(HINTS), "{what}");

        exporter.device.decode_memory(false);
        let report = importer.report();
        assert!(!report.mapped, "{what}: still mapped");
        assert_eq!(report.invalidations, before.invalidations + 1, "{what}");
        let gone = Some([refused(Errno::ENODEV); 2]);
        assert_eq!(report.when_invalidated, gone, "{what}");
        assert_errno!(importer.map(), ENODEV, "{what}");
        assert_revoked(&importer, &what);
        assert_errno!(
            Importer::new(&exporter.dma_buf).attach(&exporter.endpoint.bdf),
            ENODEV,
            "{what}: who comes now"
        );

        exporter.device.decode_memory(true);
        assert_told(&importer, HINTS, &what);
    }
    importer.map().expect("map");
    importer.unmap().expect("unmap");
    importer.detach().expect("detach");
}

/// A way for the user to put the device's memory out of reach, and what brings it back besides
/// Memory Space Enable.
struct Absence {
    name: &'static str,
    begin: fn(&Device),
    end: fn(&Device),
}

fn flr(device: &Device) {
    let express = capability(&device.bdf().config(), PCI_CAP_ID_EXP).expect("PCI Express");
    let at = express + PCI_EXP_DEVCTL as u16;
    let control = device.config_word(at) | PCI_EXP_DEVCTL_BCR_FLR as u16;
    device.set_config(at, &control.to_le_bytes());
}

const ABSENCES: [Absence; 5] = [
    Absence {
        name: "memory off",
        begin: |device| device.decode_memory(false),
        end: |_| (),
    },
    Absence {
        name: "VFIO_DEVICE_RESET",
        begin: |device| device.reset().expect("a reset"),
        end: |_| (),
    },
    Absence {
        name: "hot reset",
        begin: |device| device.hot_reset(&[]).expect("a hot reset"),
        end: |_| (),
    },
    Absence {
        name: "FLR by config space",
        begin: flr,
        end: |_| (),
    },
    Absence {
        name: "D3hot",
        begin: |device| device.set_power_state(3),
        end: |device| device.set_power_state(0),
    },
];

/// Whatever took the memory away: mappings are void, and mapped and asked for again all is as it
/// was.
pub fn r60_every_way_out_of_reach(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    // A reset of the bus needs the owner of all that is on it.
    let mut others = Vec::new();
    for bdf in exporter.endpoint.bdf.siblings() {
        let other = bench.pick_where("the exporter on its bus", |known| *known == bdf);
        bind(&other, exporter.gate);
        others.push(exporter.open_other(&other));
    }
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    importer.attach(&exporter.endpoint.bdf).expect("attach");
    for absence in ABSENCES {
        let what = absence.name;
        importer.map().unwrap_or_else(|e| panic!("{what}: {e}"));
        let before = importer.report();
        assert_eq!(before.when_mapped, noted(HINTS), "{what}");
        (absence.begin)(&exporter.device);
        let report = importer.report();
        assert!(!report.mapped, "{what}: still mapped");
        assert!(report.invalidations > before.invalidations, "{what}");
        (absence.end)(&exporter.device);
        // A reset restores what the user had, or leaves memory off.
        exporter.device.decode_memory(true);
        assert_told(&importer, HINTS, what);
    }
    importer.map().expect("map");
}

/// What is published while the memory is out of reach is told when it is back.
pub fn r60_set_while_revoked(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    exporter.device.decode_memory(false);
    exporter.publish(OTHER_HINTS).expect("SET");
    assert_revoked(&importer, "memory off");
    exporter.device.decode_memory(true);
    assert_told(&importer, OTHER_HINTS, "memory on");
    exporter.device.decode_memory(false);
    exporter.publish(Hints::NONE).expect("SET");
    exporter.device.decode_memory(true);
    assert_told(&importer, Hints::NONE, "withdrawn meanwhile");
    // A dma-buf that was made while there was nothing to reach.
    exporter.device.decode_memory(false);
    let early = super::export(&exporter.device);
    exporter.device.publish(&early, HINTS).expect("SET");
    let importer = Importer::new(&early);
    assert_revoked(&importer, "made while memory was off");
    exporter.device.decode_memory(true);
    assert_told(&importer, HINTS, "made while memory was off");
}

/// A driver in the kernel, attached for one device, and vfio_tph's own lookups for another.
pub fn r61_two_importers(bench: &mut Bench) {
    let exporter = Exporter::under(bench, Gate::Unsafe, Policy::IvSt);
    let other = bench.pick(&Want::TABLE);
    policy::bind_under(&other, exporter.gate, Policy::DsSt);
    let device = exporter.open_other(&other);
    let importer = Importer::new(&exporter.dma_buf);
    importer.attach(&other.bdf).expect("attach");
    importer.map().expect("map for a neighbour");
    for hints in [HINTS, OTHER_HINTS, Hints::both(0, 0, 0)] {
        exporter.publish(hints).expect("SET");
        for extended in [false, true] {
            let (tag, ph) = hint(&importer, extended).expect("a hint");
            let found = device
                .resolve(&[dma_buf(&exporter.dma_buf)], extended)
                .expect("TPH_RESOLVE");
            assert_eq!((found[0].st, found[0].ph), (tag, ph), "{hints:?}");
        }
    }
    exporter.device.decode_memory(false);
    assert_revoked(&importer, "memory off");
    let found = device.resolve(&[dma_buf(&exporter.dma_buf)], false);
    assert_errno!(found, ENODEV, "memory off");
    importer.detach().expect("detach");
    drop(device);
}

/// "dma-buf: Free the scatterlist of a mapping": nothing of a mapping stays behind.
pub fn mapping_frees_its_scatterlist(bench: &mut Bench) {
    const MAPPINGS: usize = 400;
    // What others may have allocated meanwhile.
    const SLACK: i64 = 50;
    let exporter = Exporter::new(bench);
    let importer = Importer::new(&exporter.dma_buf);
    importer.attach(&exporter.endpoint.bdf).expect("attach");
    let cycle = || {
        importer.map().expect("map");
        importer.unmap().expect("unmap");
    };
    cycle();
    let before = InUse::now();
    for _ in 0..MAPPINGS {
        cycle();
    }
    let grown = InUse::now().grown_since(&before, SLACK);
    assert!(grown.is_empty(), "{MAPPINGS} mappings have left {grown:?}");
}

/// It maps, is told when to let go, and maps again, whatever is published.
pub fn r61_importer_that_knows_no_tph(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    let importers = [(); 2].map(|()| Importer::new(&exporter.dma_buf));
    let [ignorant, knowing] = &importers;
    ignorant
        .attach_ignorant(&exporter.endpoint.bdf)
        .expect("attach");
    knowing.attach(&exporter.endpoint.bdf).expect("attach");
    for hints in [Hints::NONE, HINTS, OTHER_HINTS] {
        exporter.publish(hints).expect("SET");
        for importer in &importers {
            importer.map().unwrap_or_else(|e| panic!("{hints:?}: {e}"));
        }
        exporter.publish(HINTS).expect("SET");
        exporter.device.decode_memory(false);
        exporter.device.decode_memory(true);
        let [ignored, known] = [ignorant, knowing].map(Importer::report);
        assert!(!ignored.mapped && !known.mapped, "{hints:?}");
        assert_eq!(ignored.invalidations, known.invalidations, "{hints:?}");
        assert_eq!(ignored.when_mapped, None, "{hints:?}");
        assert_eq!(ignored.when_invalidated, None, "{hints:?}");
        assert_eq!(known.when_mapped, noted(hints), "{hints:?}");
    }
}

/// udmabuf: maps as ever, and has no hint.
pub fn r61_exporter_that_knows_no_tph(bench: &mut Bench) {
    let memory = udmabuf(2);
    let endpoint = bench.pick(&Want::TABLE);
    let importer = Importer::new(&memory);
    importer.attach(&endpoint.bdf).expect("attach");
    importer.map().expect("map");
    let report = importer.report();
    assert!(report.mapped);
    assert_eq!(report.when_mapped, noted(Hints::NONE));
    assert_told(&importer, Hints::NONE, "udmabuf");
    importer.unmap().expect("unmap");
}
