// SPDX-License-Identifier: GPL-2.0-only

//! Faults in the device features.

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::slice;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::injection::Kind::{Slab, Usercopy};
use tph_selftests::injection::{each_fault, each_fault_and_again};
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{
    cpu, dma_buf, unresolved, Device, Hints, Op, ResolveRequest, Source, StRequest, FAULT_UNTOUCHED,
};
use tph_selftests::{kernel, skip};
use tph_tests::{each_table, enabled, enabled_as, fill, opened, st, CPU, OTHER_CPU};

use super::{first_page, MEMORY};

/// Room for the data of any feature that is asked about, not called.
const DATA: usize = 64;

pub fn r51_fault_in_tph(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Gate::Safe);
    let call = || device.tph().map(drop);
    each_fault_and_again("TPH", &[Usercopy], || (), call, |_| ()).assert_plain("TPH");
}

pub fn r51_fault_in_probe(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Gate::Unsafe);
    for index in [
        VFIO_DEVICE_FEATURE_TPH,
        VFIO_DEVICE_FEATURE_TPH_ST,
        VFIO_DEVICE_FEATURE_TPH_RESOLVE,
    ] {
        let what = format!("PROBE of {index:#x}");
        each_fault_and_again(
            &what,
            &[Usercopy],
            || (),
            || device.feature(Op::Probe, index, &mut [0; DATA]),
            |_| (),
        )
        .assert_plain(&what);
    }
}

/// TPH_ST with these sources in place of a table full of another tag: after a fault the table is
/// what it was.
fn faults_of_program(what: &str, endpoint: &Endpoint, device: &Device, sources: &[Source]) {
    let before = vec![cpu(OTHER_CPU); endpoint.entries().len()];
    let control = device.control();
    each_fault_and_again(
        what,
        &[Slab, Usercopy],
        || device.program(0, &before).expect("TPH_ST of all entries"),
        || {
            let mut request = StRequest::new(0, sources);
            let result = device.tph_st(&mut request);
            assert_eq!(request.fault, FAULT_UNTOUCHED, "{what}: {result:?}");
            result
        },
        |attempt| {
            let held = endpoint.entries();
            let (written, left) = held.split_at(sources.len());
            let expected = match attempt.result {
                Ok(()) => st(CPU),
                Err(_) => st(OTHER_CPU),
            };
            assert!(
                written.iter().all(|&tag| tag == expected),
                "{what}: {attempt:?}: {held:x?}"
            );
            assert!(
                left.iter().all(|&tag| tag == st(OTHER_CPU)),
                "{what}: {attempt:?}: {held:x?}"
            );
            assert_eq!(device.control(), control, "{what}: {attempt:?}");
            endpoint.assert_kernel_agrees();
        },
    )
    .assert_plain(what);
}

pub fn r51_fault_in_tph_st(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let (endpoint, device) = enabled_as(bench, want, Gate::Safe, Requester::Standard);
        for count in [1, 5, endpoint.entries().len()] {
            let what = format!("TPH_ST of {count}, in MSI-X: {}", want.in_msix);
            faults_of_program(&what, &endpoint, &device, &vec![cpu(CPU); count]);
        }
    });
}

fn needs_dma_bufs() {
    if !kernel::is_patched() {
        skip!("the kernel's dma-bufs know no TPH");
    }
}

/// A dma-buf of a device's memory, which the device decodes.
fn exported(device: &Device) -> OwnedFd {
    device.decode_memory(true);
    device
        .export_dma_buf(MEMORY, slice::from_ref(&first_page()))
        .expect("a dma-buf of the endpoint's memory")
}

/// One standard tag.
fn tagged(tag: u16) -> Hints {
    Hints {
        st: Some(tag as u8),
        ph: 1,
        ..Hints::NONE
    }
}

/// An endpoint that completes TPH requests, enabled, and a dma-buf of it that has the tag of
/// [`CPU`].
fn with_hints(bench: &mut Bench) -> (Rc<Endpoint>, Device, OwnedFd) {
    needs_dma_bufs();
    let (endpoint, device) = enabled(bench, Gate::Unsafe, Requester::Standard);
    let fd = exported(&device);
    device.publish(&fd, tagged(st(CPU))).expect("DMA_BUF_TPH");
    (endpoint, device, fd)
}

pub fn r51_fault_in_tph_st_by_dma_buf(bench: &mut Bench) {
    let (endpoint, device, fd) = with_hints(bench);
    faults_of_program("TPH_ST by dma-buf", &endpoint, &device, &[dma_buf(&fd); 3]);
}

pub fn r51_fault_in_dma_buf_tph(bench: &mut Bench) {
    const OTHER: u16 = 0x77;

    let (_endpoint, device, fd) = with_hints(bench);
    let published = || {
        let answer = device.resolve(&[dma_buf(&fd)], false);
        answer.expect("TPH_RESOLVE")[0].st
    };
    each_fault_and_again(
        "DMA_BUF_TPH",
        &[Usercopy],
        || device.publish(&fd, tagged(st(CPU))).expect("DMA_BUF_TPH"),
        || device.publish(&fd, tagged(OTHER)),
        |attempt| {
            let expected = attempt.result.map_or(st(CPU), |()| OTHER);
            assert_eq!(published(), expected, "{attempt:?}");
        },
    )
    .assert_plain("DMA_BUF_TPH");
}

pub fn r51_fault_in_tph_resolve(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Gate::Unsafe);
    let mut sources = vec![cpu(CPU), cpu(OTHER_CPU)];
    let fd = kernel::is_patched().then(|| exported(&device));
    if let Some(fd) = &fd {
        device.publish(fd, tagged(0x11)).expect("DMA_BUF_TPH");
        sources.push(dma_buf(fd));
    }
    let known = device.resolve(&sources, false).expect("TPH_RESOLVE");
    let asked: Vec<_> = sources.iter().copied().map(unresolved).collect();
    let request = RefCell::new(ResolveRequest::new(&sources));
    each_fault_and_again(
        "TPH_RESOLVE",
        &[Slab, Usercopy],
        || drop(request.replace(ResolveRequest::new(&sources))),
        || device.tph_resolve(&mut request.borrow_mut()),
        |attempt| {
            let request = request.borrow();
            assert_eq!(request.fault, FAULT_UNTOUCHED, "{attempt:?}");
            // All results are copied at once.
            let expected = attempt.result.map_or(&asked, |()| &known);
            assert_eq!(request.entries, *expected, "{attempt:?}");
        },
    )
    .assert_plain("TPH_RESOLVE");
    endpoint.assert_off("TPH_RESOLVE");
}

/// A CPU that firmware was not asked about yet: what fails in there is not taken for its answer. An
/// answer is kept for as long as the module is loaded.
pub fn r51_fault_in_a_firmware_lookup(bench: &mut Bench) {
    /// All of whose tags firmware knows.
    const KNOWN: [u32; 3] = [0, 1, 2];

    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    // Looked up here: a fault that is still to come hits any call.
    let tags = KNOWN.map(st);
    let device: RefCell<Option<Device>> = RefCell::new(None);
    let unasked: RefCell<Vec<usize>> = RefCell::new(Vec::new());
    each_fault(
        "a lookup in firmware",
        &[Slab, Usercopy],
        || {
            if unasked.borrow().is_empty() {
                drop(device.take());
                endpoint.bdf.unbind();
                module::unload(VFIO_TPH).expect("rmmod");
                bench::bind(&endpoint, Gate::Unsafe);
                device.replace(Some(endpoint.open()));
                unasked.replace((0..KNOWN.len()).collect());
            }
        },
        || {
            let first = unasked.borrow()[0];
            let device = device.borrow();
            let answer = device
                .as_ref()
                .expect("opened")
                .resolve(&[cpu(KNOWN[first])], false)?;
            assert_eq!(answer[0].st, tags[first], "made up");
            Ok(())
        },
        |attempt| {
            if attempt.result.is_ok() {
                unasked.borrow_mut().remove(0);
            }
        },
    )
    .assert_plain("a lookup in firmware");
    let device = device.take().expect("opened");
    device.enable(StMode::InterruptVector, Requester::Standard);
    fill(&endpoint, &device);
}
