// SPDX-License-Identifier: GPL-2.0-only

//! Faults while a device is bound, opened, reset, closed and unbound, and in what the administrator
//! sees of it.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::injection::Kind::{Slab, Usercopy};
use tph_selftests::injection::{each_fault, each_fault_and_again, Answers, NOTHING};
use tph_selftests::module::{Gate, VFIO_TPH};
use tph_selftests::pci::{self, Bdf};
use tph_selftests::policy::{self, Policy};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{cpu, Device, OpenBy, Unopened};
use tph_selftests::{debugfs, errno, Errno};
use tph_tests::bed::{works_again, Bed, Kind};
use tph_tests::{fill, opened, CPU};

use super::VFIO_PCI;

fn to_write(path: &Path) -> File {
    OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// One write of all of it.
fn write(file: &File, text: &str) -> Result<(), Errno> {
    let written = file.write_at(text.as_bytes(), 0).map_err(errno)?;
    assert_eq!(written, text.len());
    Ok(())
}

fn debugfs(endpoint: &Endpoint) -> PathBuf {
    debugfs::path(&endpoint.bdf, "")
}

/// The "bind" file of a driver that may have a device which has none. Writing it, and not
/// "drivers_probe", says what probe() said.
fn to_bind(bdf: &Bdf, driver: &str) -> File {
    bdf.unbind();
    pci::write(&bdf.path("driver_override"), driver).expect("driver_override");
    to_write(&Path::new("/sys/bus/pci/drivers").join(driver).join("bind"))
}

fn faults_of_bind(endpoint: &Endpoint, driver: &str) -> Answers {
    let bdf = &endpoint.bdf;
    let file = to_bind(bdf, driver);
    let name = bdf.to_string();
    let answers = each_fault_and_again(
        &format!("bind to {driver}"),
        &[Slab, Usercopy],
        || bdf.unbind(),
        || write(&file, &name),
        |attempt| {
            let bound = attempt.result.is_ok();
            assert_eq!(bdf.driver().is_some(), bound, "{attempt:?}");
            assert!(bound || !debugfs(endpoint).exists(), "{attempt:?}");
            assert!(bound || bdf.vfio_cdev().is_none(), "{attempt:?}");
        },
    );
    bdf.unbind();
    answers
}

pub fn r51_fault_in_bind(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    Gate::Safe.load();
    faults_of_bind(&endpoint, VFIO_TPH).assert_as("bind", || faults_of_bind(&endpoint, VFIO_PCI));
    bench::bind(&endpoint, Gate::Safe);
    works_again(&endpoint);
}

/// vfio-pci-core sets the power management callbacks of the driver, for all of its devices, in the
/// middle of each bind: one that fails after that takes nothing away from a device that is open.
/// What the PCI core does not restore tells: tags of a requester that is disabled.
pub fn r83_bind_that_fails(bench: &mut Bench) {
    let loses_state = Kind {
        in_msix: false,
        loses_state: true,
    };
    let bed = Bed::new(bench, loses_state, Policy::IvSt);
    bed.put(StMode::InterruptVector, Requester::Disabled);
    let before = bed.in_force();
    assert_eq!(
        before.registers.entries[..bed.programmed().len()],
        bed.programmed()
    );

    let other = &bench.pick(&Want::TABLE).bdf;
    let file = to_bind(other, VFIO_TPH);
    let name = other.to_string();
    let mut failed = 0;
    each_fault(
        "bind beside an open device",
        &[Slab],
        || other.unbind(),
        || write(&file, &name),
        |attempt| {
            if attempt.result.is_err() {
                failed += 1;
                bed.low_power_and_back();
                assert_eq!(bed.in_force(), before, "{attempt:?}");
            }
        },
    );
    println!("# {failed} binds failed");
    assert!(failed > 0, "no bind failed");
    other.unbind();
}

pub fn r51_fault_in_unbind(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    let bdf = &endpoint.bdf;
    Gate::Safe.load();
    let file = to_write(Path::new("/sys/bus/pci/drivers/vfio_tph/unbind"));
    let name = bdf.to_string();
    each_fault_and_again(
        "unbind",
        &[Slab, Usercopy],
        || bench::bind(&endpoint, Gate::Safe),
        || write(&file, &name),
        |attempt| {
            let bound = attempt.result.is_err();
            assert_eq!(bdf.driver().is_some(), bound, "{attempt:?}");
            assert_eq!(debugfs(&endpoint).exists(), bound, "{attempt:?}");
            endpoint.assert_off("unbind");
        },
    )
    .assert_plain("unbind");
    bench::bind(&endpoint, Gate::Safe);
    works_again(&endpoint);
}

/// A device that is open, enabled and programmed.
fn in_use_by(endpoint: &Endpoint, by: OpenBy) -> Device {
    let device = endpoint.open_by(by);
    device.enable(StMode::InterruptVector, Requester::Standard);
    fill(endpoint, &device);
    device.program(0, &[cpu(CPU)]).expect("TPH_ST");
    device
}

/// Each open is closed again, before the next.
fn faults_of_open(endpoint: &Endpoint) -> Answers {
    let unopened = RefCell::new(None);
    let ours = endpoint.bdf.driver().as_deref() == Some(VFIO_TPH);
    each_fault_and_again(
        "open",
        &[Slab, Usercopy],
        || {
            unopened.take();
            unopened.replace(Some(Unopened::new(&endpoint.bdf).expect("files")));
        },
        || unopened.borrow().as_ref().map_or(Ok(()), Unopened::open),
        |attempt| {
            endpoint.assert_off("open");
            if ours {
                // Whether it is open: the policy of an open device cannot be changed.
                let busy = match attempt.result {
                    Ok(()) => Err(Errno::EBUSY),
                    Err(_) => Ok(()),
                };
                let name = Policy::IvSt.name().as_bytes();
                assert_eq!(policy::write(&endpoint.bdf, name), busy, "{attempt:?}");
            }
        },
    )
}

pub fn r51_fault_in_open(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    faults_of_open(&endpoint).assert_as("open", || {
        endpoint.bdf.bind(VFIO_PCI).expect("vfio-pci");
        faults_of_open(&endpoint)
    });
    bench::bind(&endpoint, Gate::Safe);
    works_again(&endpoint);
}

/// A device is closed, whatever there is no memory for. By its group: an iommufd changes the
/// IOMMU's domain in the same call, and the IOMMU core warns if it cannot go back to its own.
pub fn r51_fault_in_close(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    let device = RefCell::new(None);
    let behind = RefCell::new(None);
    each_fault(
        "close",
        NOTHING,
        || {
            behind.take();
            device.replace(Some(in_use_by(&endpoint, OpenBy::Group)));
        },
        || {
            behind.replace(device.take().map(Device::close));
            Ok(())
        },
        |_| endpoint.assert_off("close"),
    )
    .assert_plain("close");
    behind.take();
    works_again(&endpoint);
}

fn faults_of_reset(endpoint: &Endpoint) -> Answers {
    let device = endpoint.open();
    let ours = endpoint.bdf.driver().as_deref() == Some(VFIO_TPH);
    each_fault_and_again(
        "VFIO_DEVICE_RESET",
        NOTHING,
        || {
            if ours {
                device.enable(StMode::InterruptVector, Requester::Standard);
                fill(endpoint, &device);
            }
        },
        || device.reset(),
        |attempt| {
            if attempt.result.is_ok() {
                endpoint.assert_off("a reset");
            }
            endpoint.assert_kernel_agrees();
        },
    )
}

pub fn r51_fault_in_reset(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    faults_of_reset(&endpoint).assert_as("reset", || {
        endpoint.bdf.bind(VFIO_PCI).expect("vfio-pci");
        faults_of_reset(&endpoint)
    });
}

pub fn r51_fault_in_the_policy(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    let file = to_write(&policy::path(&endpoint.bdf));
    let shown = || policy::shown(&endpoint.bdf);
    each_fault_and_again(
        "tph_policy is written",
        &[Slab, Usercopy],
        || policy::write(&endpoint.bdf, b"literal").expect("tph_policy"),
        || write(&file, "iv_st"),
        |attempt| {
            let expected = attempt.result.map_or("literal\n", |()| "iv_st\n");
            assert_eq!(shown(), expected, "{attempt:?}");
        },
    )
    .assert_plain("tph_policy");
    faults_of_a_read(&policy::path(&endpoint.bdf));
}

fn faults_of_a_read(path: &Path) {
    let what = path.display().to_string();
    each_fault_and_again(
        &what,
        &[Slab, Usercopy],
        || (),
        || fs::read(path).map(drop).map_err(errno),
        |_| (),
    )
    .assert_plain(&what);
}

pub fn r51_fault_in_debugfs(bench: &mut Bench) {
    let (endpoint, _device) = opened(bench, Gate::Unsafe);
    for file in ["state", "counters"] {
        faults_of_a_read(&debugfs(&endpoint).join(file));
    }
}
