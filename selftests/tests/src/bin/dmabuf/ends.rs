// SPDX-License-Identifier: GPL-2.0-only

//! Who goes first: the descriptor, the device, its driver, an importer, a process. Nothing is freed
//! twice, nothing is left behind, and nobody is told what nobody owns any more.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use tph_selftests::bench::{self, Bench};
use tph_selftests::dma_buf::count;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::foreign::{Asker, ForeignExporter};
use tph_selftests::importer::{self, Importer};
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::msix::Traits;
use tph_selftests::policy::{self, Policy};
use tph_selftests::vfio::Hints;
use tph_selftests::{assert_errno, Errno};

use super::{assert_revoked, assert_told, expected, export, pick_completer, Exporter};
use super::{BAR, HINTS, OTHER_HINTS};

/// An exporter with hints published, and an importer that has a reference.
fn published(bench: &mut Bench) -> (Exporter, Importer) {
    let exporter = Exporter::new(bench);
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    assert_told(&importer, HINTS, "at first");
    (exporter, importer)
}

/// Nobody gets anything of a dma-buf whose device was closed, not even the device's next owner;
/// with its last reference it is gone.
fn assert_dead(importer: Importer, dma_buf: OwnedFd, endpoint: &Rc<Endpoint>, what: &str) {
    assert_revoked(&importer, what);
    assert_errno!(importer.attach(&endpoint.bdf), ENODEV, "{what}");
    let before = count();
    drop(importer);
    assert_eq!(count(), before, "{what}: the descriptor is still open");
    drop(dma_buf);
    assert_eq!(count(), before - 1, "{what}: it was the last reference");
}

/// The next owner of the device has nothing to say of an earlier one's dma-buf, and a dma-buf of
/// its own works.
fn assert_next_owner(importer: &Importer, dma_buf: &OwnedFd, endpoint: &Rc<Endpoint>) {
    let next = Exporter::open(endpoint.clone());
    assert_errno!(next.device.publish(dma_buf, OTHER_HINTS), EINVAL);
    assert_revoked(importer, "the device has another owner");
    next.publish(OTHER_HINTS).expect("SET");
    assert_told(&Importer::new(&next.dma_buf), OTHER_HINTS, "the next owner");
}

pub fn r59_fd_outlives_close(bench: &mut Bench) {
    let (exporter, importer) = published(bench);
    let (endpoint, device, dma_buf) = exporter.parts();
    drop(device);
    assert_revoked(&importer, "closed");
    assert_next_owner(&importer, &dma_buf, &endpoint);
    assert_dead(importer, dma_buf, &endpoint, "closed");
}

pub fn r59_fd_outlives_unbind(bench: &mut Bench) {
    let (exporter, importer) = published(bench);
    let (endpoint, device, dma_buf) = exporter.parts();
    drop(device);
    endpoint.bdf.unbind();
    assert_revoked(&importer, "unbound");
    bench::bind(&endpoint, Gate::Safe);
    assert_next_owner(&importer, &dma_buf, &endpoint);
    assert_dead(importer, dma_buf, &endpoint, "bound anew");
}

pub fn r59_fd_outlives_unbind_while_open(bench: &mut Bench) {
    let (exporter, importer) = published(bench);
    let (endpoint, device, dma_buf) = exporter.parts();
    let unbind = device.begin_unbind();
    assert_told(&importer, HINTS, "still the user's");
    drop(device);
    unbind.join().expect("unbind");
    assert_dead(importer, dma_buf, &endpoint, "unbound while open");
}

/// The module under test goes: what it would answer for is no longer asked of it.
pub fn r59_fd_outlives_rmmod(bench: &mut Bench) {
    let (exporter, importer) = published(bench);
    let (endpoint, device, dma_buf) = exporter.parts();
    assert_errno!(module::unload(VFIO_TPH), EAGAIN, "in use");
    drop(device);
    module::unload(VFIO_TPH).expect("rmmod with a dma-buf");
    assert_revoked(&importer, "no module");
    Gate::Safe.load();
    assert_revoked(&importer, "loaded anew");
    bench::bind(&endpoint, Gate::Safe);
    assert_next_owner(&importer, &dma_buf, &endpoint);
    assert_dead(importer, dma_buf, &endpoint, "loaded anew");
}

/// The descriptor goes first: importers keep the dma-buf, its owner can no longer name it.
pub fn r59_fd_closed_before_device(bench: &mut Bench) {
    let (exporter, importer) = published(bench);
    let (endpoint, device, dma_buf) = exporter.parts();
    let before = count();
    drop(dma_buf);
    assert_eq!(count(), before, "an importer has it");
    assert_told(&importer, HINTS, "without a descriptor");
    device.decode_memory(false);
    assert_revoked(&importer, "memory off");
    device.decode_memory(true);
    assert_told(&importer, HINTS, "memory on");
    drop(importer);
    assert_eq!(count(), before - 1, "nobody has it");
    // With nobody to revoke, and with many that came and went.
    for _ in 0..20 {
        let dma_buf = export(&device);
        device.publish(&dma_buf, OTHER_HINTS).expect("SET");
        assert_told(&Importer::new(&dma_buf), OTHER_HINTS, "another one");
    }
    assert_eq!(count(), before - 1, "nobody has one");
    device.decode_memory(false);
    drop(device);
    drop(Exporter::open(endpoint));
}

/// A device is closed under an importer that is attached and has mapped.
pub fn r59_importer_attached_over_close(bench: &mut Bench) {
    let (exporter, importer) = published(bench);
    importer.attach(&exporter.endpoint.bdf).expect("attach");
    importer.map().expect("map");
    let ignorant = Importer::new(&exporter.dma_buf);
    ignorant
        .attach_ignorant(&exporter.endpoint.bdf)
        .expect("attach");
    ignorant.map().expect("map");
    let (endpoint, device, dma_buf) = exporter.parts();
    drop(device);
    for importer in [&importer, &ignorant] {
        let report = importer.report();
        assert!(report.attached && !report.mapped, "{report:?}");
        assert_eq!(report.invalidations, 1, "{report:?}");
        assert_errno!(importer.map(), ENODEV);
        importer.detach().expect("detach");
    }
    drop(ignorant);
    assert_dead(importer, dma_buf, &endpoint, "closed");
}

/// The importer's attachment outlives exporter, driver and module, and is taken down after them.
pub fn r59_importer_attached_over_rmmod(bench: &mut Bench) {
    let (exporter, importer) = published(bench);
    importer.attach(&exporter.endpoint.bdf).expect("attach");
    importer.map().expect("map");
    let (endpoint, device, dma_buf) = exporter.parts();
    drop(device);
    module::unload(VFIO_TPH).expect("rmmod");
    assert_errno!(module::unload(importer::MODULE), EAGAIN, "in use");
    drop(dma_buf);
    assert_revoked(&importer, "no module");
    assert!(importer.report().attached);
    let before = count();
    drop(importer);
    assert_eq!(count(), before - 1, "it was the last reference");
    module::unload(importer::MODULE).expect("rmmod of the importer");
    bench::bind(&endpoint, Gate::Safe);
}

/// kill -9 of the process that published: its device is closed, and that is all that there is to
/// it.
pub fn r59_owner_is_killed(bench: &mut Bench) {
    drop(Exporter::new(bench));
    bench.next_round();
    let endpoint = pick_completer(bench);
    bench::bind(&endpoint, Gate::Safe);
    let exporter = ForeignExporter::start(&endpoint.bdf, BAR, HINTS);
    let importer = Importer::new(&exporter.dma_buf);
    importer.attach(&endpoint.bdf).expect("attach");
    importer.map().expect("map");
    assert_told(&importer, HINTS, "of another process");
    let dma_buf = exporter.kill();
    assert!(!importer.report().mapped, "mapped, with its owner gone");
    assert_next_owner(&importer, &dma_buf, &endpoint);
    importer.detach().expect("detach");
    assert_dead(importer, dma_buf, &endpoint, "killed");
}

/// The owner of another device asks in a process of its own, and is told what is true at the time.
pub fn r59_asker_in_another_process(bench: &mut Bench) {
    let exporter = Exporter::under(bench, Gate::Unsafe, Policy::IvSt);
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    let group = exporter.endpoint.bdf.iommu_group();
    let other = bench.pick_where("extended TPH, in another IOMMU group", |bdf| {
        bdf.iommu_group() != group
            && bdf.root_port().is_some()
            && Traits::of(bdf).is_some_and(|traits| traits.extended)
    });
    policy::bind_under(&other, exporter.gate, Policy::DsSt);
    let mut asker = Asker::start(&other.bdf, &exporter.dma_buf);
    let told = |hints| [false, true].map(|extended| expected(hints, extended));
    let revoked = [Err(Errno::ENODEV); 2];
    assert_eq!(asker.ask(), told(HINTS));
    for hints in [OTHER_HINTS, Hints::NONE, HINTS] {
        exporter.publish(hints).expect("SET");
        assert_eq!(asker.ask(), told(hints));
    }
    exporter.device.decode_memory(false);
    assert_eq!(asker.ask(), revoked, "memory off");
    exporter.device.decode_memory(true);
    assert_eq!(asker.ask(), told(HINTS), "memory on");
    let (endpoint, device, dma_buf) = exporter.parts();
    drop(device);
    assert_eq!(asker.ask(), revoked, "closed");
    let before = count();
    drop(dma_buf);
    drop(importer);
    assert_eq!(count(), before, "the other process has it");
    assert_eq!(asker.ask(), revoked, "its own reference");
    drop(asker);
    assert_eq!(count(), before - 1, "with the process");
    drop(Exporter::open(endpoint));
}
