// SPDX-License-Identifier: GPL-2.0-only

//! Faults in accesses to regions, and in interrupts: what vfio-pci does too.

use std::rc::Rc;
use std::slice;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::injection::Kind::{Slab, Usercopy};
use tph_selftests::injection::{each_fault_and_again, Answers};
use tph_selftests::module::{Gate, VFIO_TPH};
use tph_selftests::tph::{self, control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, Device, Vectors};
use tph_selftests::{errno, Errno};
use tph_tests::{enabled, fill, CPU};
use vfio_bindings::bindings::vfio::{VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_MSIX_IRQ_INDEX};

use super::{first_page, MEMORY, VFIO_PCI};

/// Errors of an access, or that it was not whole.
fn whole(length: usize, done: std::io::Result<usize>) -> Result<(), Errno> {
    match done {
        Ok(count) => {
            assert_eq!(count, length);
            Ok(())
        }
        Err(error) => Err(errno(error)),
    }
}

/// Runs `faults` on a device that vfio_tph drives; if it answers in other words, on the same one
/// driven by vfio-pci.
fn as_vfio_pci(
    endpoint: &Rc<Endpoint>,
    gate: Gate,
    what: &str,
    faults: impl Fn(&Device) -> Answers,
) {
    bench::bind(endpoint, gate);
    assert_eq!(endpoint.bdf.driver().as_deref(), Some(VFIO_TPH));
    let device = endpoint.open();
    let answers = faults(&device);
    drop(device);
    answers.assert_as(what, || {
        endpoint.bdf.bind(VFIO_PCI).expect("vfio-pci");
        faults(&endpoint.open())
    });
}

/// The capability and what is around it, and the table alone: where it shows, it is read in another
/// way.
pub fn r51_fault_in_config_reads(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = enabled(bench, gate, Requester::Standard);
        fill(&endpoint, &device);
        let table = device.tph_offset() + PCI_TPH_BASE_SIZEOF as u16;
        let space = device.config_space();
        for (offset, length) in [(device.tph_offset() - 8, 64), (table, 16)] {
            let what = format!("a config read of {length}");
            each_fault_and_again(
                &what,
                &[Usercopy],
                || (),
                || {
                    let mut bytes = vec![0; length];
                    whole(length, device.read_config(offset, &mut bytes))
                },
                |_| endpoint.assert_kernel_agrees(),
            )
            .assert_plain(&what);
        }
        assert_eq!(device.config_space(), space);
    });
}

pub fn r51_fault_in_config_writes(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    fill(&endpoint, &device);
    let at = device.tph_offset() + PCI_TPH_CTRL as u16;
    let before = endpoint.registers();
    let new = control(StMode::InterruptVector, Requester::Extended);
    each_fault_and_again(
        "a write to Control",
        &[Usercopy],
        || device.set_control(before.control),
        || whole(4, device.write_config(at, &new.to_le_bytes())),
        |attempt| {
            let mut expected = before.clone();
            if attempt.result.is_ok() {
                expected.control = new;
            }
            assert_eq!(endpoint.registers(), expected, "{attempt:?}");
            assert_eq!(device.control(), expected.control, "{attempt:?}");
            endpoint.assert_kernel_agrees();
        },
    )
    .assert_plain("a write to Control");

    // From in front of the capability to the end of the table: vfio-pci-core's part, and ours.
    let start = device.tph_offset() - 8;
    let end = tph::entry_offset(device.tph_offset(), endpoint.entries().len() as u16);
    let bytes = device.config_space()[start.into()..end.into()].to_vec();
    let before = endpoint.registers();
    each_fault_and_again(
        "a write across the capability",
        &[Usercopy],
        || (),
        || whole(bytes.len(), device.write_config(start, &bytes)),
        |attempt| assert_eq!(endpoint.registers(), before, "{attempt:?}"),
    )
    .assert_plain("a write across the capability");
}

pub fn r51_fault_in_set_irqs(bench: &mut Bench) {
    const COUNT: usize = 2;

    let endpoint = bench.pick(&Want::MSIX);
    as_vfio_pci(&endpoint, Gate::Safe, "SET_IRQS", |device| {
        let ours = endpoint.bdf.driver().as_deref() == Some(VFIO_TPH);
        let vectors = Vectors::allocate(device, COUNT as u32).expect("SET_IRQS");
        let events = vectors.descriptors();
        if ours {
            device.enable(StMode::InterruptVector, Requester::Standard);
        }
        let allocation = each_fault_and_again(
            "SET_IRQS of vectors",
            &[Slab, Usercopy],
            || {
                // None may be left of the time before.
                let _ = device.free_irqs(VFIO_PCI_MSIX_IRQ_INDEX);
            },
            || device.set_msix(0, &events),
            |attempt| {
                assert!(
                    endpoint.entries().iter().all(|&tag| tag == 0),
                    "{attempt:?}: a new vector has a tag"
                );
                endpoint.assert_kernel_agrees();
            },
        );
        let freeing = each_fault_and_again(
            "SET_IRQS of none",
            &[Usercopy],
            || {
                let _ = device.set_msix(0, &events);
                if ours {
                    let sources = [cpu(CPU); COUNT];
                    device.program(0, &sources).expect("TPH_ST");
                }
            },
            || device.free_irqs(VFIO_PCI_MSIX_IRQ_INDEX),
            |attempt| {
                let left = endpoint.entries().iter().filter(|&&tag| tag != 0).count();
                let expected = match attempt.result {
                    Err(_) if ours => COUNT,
                    _ => 0,
                };
                assert_eq!(left, expected, "{attempt:?}: tags");
                endpoint.assert_kernel_agrees();
            },
        );
        allocation.and(freeing)
    });
}

/// The same of a single call, after which there is nothing to look at.
fn call_as_vfio_pci(
    endpoint: &Rc<Endpoint>,
    gate: Gate,
    what: &str,
    call: impl Fn(&Device) -> Result<(), Errno>,
) {
    as_vfio_pci(endpoint, gate, what, |device| {
        each_fault_and_again(what, &[Slab, Usercopy], || (), || call(device), |_| ())
    });
}

/// Of a BAR that has no hole, and of one that has: the list of areas is allocated.
pub fn r51_fault_in_region_info(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::MSIX);
    for gate in Gate::BOTH {
        call_as_vfio_pci(&endpoint, gate, "region info", |device| {
            device.region_bytes(VFIO_PCI_BAR0_REGION_INDEX).map(drop)
        });
    }
}

pub fn r51_fault_in_mmap(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    call_as_vfio_pci(&endpoint, Gate::Safe, "mmap", |device| {
        device.map_bar(MEMORY, first_page()).map(drop)
    });
}

pub fn r51_fault_in_dma_buf_export(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    call_as_vfio_pci(&endpoint, Gate::Safe, "a dma-buf", |device| {
        let exported = device.export_dma_buf(MEMORY, slice::from_ref(&first_page()));
        exported.map(drop)
    });
}
