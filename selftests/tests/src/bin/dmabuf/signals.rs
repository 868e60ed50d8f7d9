// SPDX-License-Identifier: GPL-2.0-only

//! The reservation lock is somebody else's for a while: who waits for it can be interrupted, and
//! then nothing has happened.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tph_selftests::bench::Bench;
use tph_selftests::importer::Importer;
use tph_selftests::policy::Policy;
use tph_selftests::signal::{interrupted, interrupted_after};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{
    cpu, dma_buf, Device, Hints, ResolveRequest, StRequest, FAULT_UNTOUCHED,
};
use tph_selftests::Errno;

use super::{assert_told, export_at, size, Exporter};
use super::{HINTS, OTHER_HINTS};

pub fn r63_set_is_interrupted(bench: &mut Bench) {
    let exporter = Exporter::new(bench);
    exporter.publish(HINTS).expect("SET");
    let importer = Importer::new(&exporter.dma_buf);
    let device = Arc::new(exporter.device);
    let fd = Arc::new(exporter.dma_buf);
    for hints in [OTHER_HINTS, Hints::NONE] {
        let held = importer.hold();
        let (device, fd) = (device.clone(), fd.clone());
        let result = interrupted(move || device.publish(&*fd, hints));
        assert_eq!(result, Err(Errno::EINTR), "{hints:?}");
        drop(held);
        assert_told(&importer, HINTS, "after a SET that was interrupted");
    }
    device.publish(&*fd, OTHER_HINTS).expect("SET");
    assert_told(&importer, OTHER_HINTS, "with the lock free");
}

/// TPH_ST and TPH_RESOLVE, with the busy dma-buf as the second source.
pub fn r63_lookups_are_interrupted(bench: &mut Bench) {
    let exporter = Exporter::at(bench, Policy::DsSt);
    exporter.publish(HINTS).expect("SET");
    let (endpoint, device, fd) = exporter.parts();
    device.enable(StMode::InterruptVector, Requester::Extended);
    device.program(0, &[cpu(0), cpu(1)]).expect("TPH_ST");
    let before = endpoint.registers();
    let importer = Importer::new(&fd);
    let sources = [cpu(1), dma_buf(&fd)];
    let device = Arc::new(device);
    let held = importer.hold();

    let same = device.clone();
    let (result, fault) = interrupted(move || {
        let mut request = StRequest::new(0, &sources);
        (same.tph_st(&mut request), request.fault)
    });
    assert_eq!((result, fault), (Err(Errno::EINTR), FAULT_UNTOUCHED));
    assert_eq!(endpoint.registers(), before);

    let same = device.clone();
    let (result, request) = interrupted(move || {
        let mut request = ResolveRequest::new(&sources);
        (same.tph_resolve(&mut request), request)
    });
    assert_eq!(
        (result, request.fault),
        (Err(Errno::EINTR), FAULT_UNTOUCHED)
    );
    let written = request
        .entries
        .iter()
        .any(|e| (e.st, e.ph, e.flags) != (0, 0, 0));
    assert!(!written, "{:?}", request.entries);

    drop(held);
    device.program(0, &sources).expect("TPH_ST");
    assert_eq!(endpoint.entries()[1], HINTS.tag(false).expect("a tag"));
}

/// Who waits for one dma-buf keeps nobody from another, nor from the device.
pub fn r63_others_are_not_held_up(bench: &mut Bench) {
    let exporter = Exporter::at(bench, Policy::DsSt);
    let other = export_at(&exporter.device, size());
    let importer = Importer::new(&exporter.dma_buf);
    let held = importer.hold();
    let device = Arc::new(exporter.device);
    let fd = exporter.dma_buf;
    let waiting = device.clone();
    let result = interrupted_after(
        move || waiting.publish(&fd, HINTS),
        || in_use(&device, &other),
    );
    assert_eq!(result, Err(Errno::EINTR));
    drop(held);
}

fn in_use(device: &Device, other: &OwnedFd) {
    device.publish(other, OTHER_HINTS).expect("SET");
    assert_told(&Importer::new(other), OTHER_HINTS, "another dma-buf");
    device.enable(StMode::InterruptVector, Requester::Standard);
    device
        .program(0, &[cpu(0), dma_buf(other)])
        .expect("TPH_ST");
    device.set_control(0);
}
