// SPDX-License-Identifier: GPL-2.0-only

//! Times of operations on real hardware, with percentiles.
//!
//! The device is bound to vfio-pci, then to vfio_tph, which must both be loaded, and then to what
//! it was bound to before. Operations that vfio-pci does not have, or that this device or its path
//! refuses, are left out, and the reason is printed.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use tph_bench::Row;
use tph_selftests::module::VFIO_TPH;
use tph_selftests::pci::Bdf;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{self, Device, OpenBy, NOIOMMU_SWITCH};

use crate::clock::SystemCall;
use crate::lookup::Lookup;
use crate::table::Batch;

const STOCK: &str = "vfio-pci";
const SAMPLES: usize = 10_000;
const RESETS: usize = 10;
/// Percentiles that are shown; the first one stands for the value.
const PERCENTILES: [usize; 4] = [50, 90, 99, 100];

/// Sorted times of an operation in nanoseconds.
struct Times {
    operation: &'static str,
    size: String,
    sorted: Vec<u64>,
}

impl Times {
    fn percentile(&self, percentile: usize) -> u64 {
        self.sorted[(self.sorted.len() * percentile / 100).min(self.sorted.len() - 1)]
    }

    fn shape(&self) -> String {
        let parts: Vec<String> = PERCENTILES
            .iter()
            .map(|&percentile| match percentile {
                100 => format!("most {}", self.percentile(percentile)),
                _ => format!("p{percentile} {}", self.percentile(percentile)),
            })
            .collect();
        format!("least {}, {} ns", self.sorted[0], parts.join(", "))
    }
}

fn sample<T>(samples: usize, mut body: impl FnMut() -> T) -> Vec<u64> {
    for _ in 0..samples / 100 {
        black_box(body());
    }
    let mut times: Vec<u64> = (0..samples)
        .map(|_| {
            let start = Instant::now();
            black_box(body());
            start.elapsed().as_nanos() as u64
        })
        .collect();
    times.sort_unstable();
    times
}

fn call(times: &mut Vec<Times>, operation: &'static str, size: &str, call: SystemCall) {
    let result = call.result();
    if result < 0 {
        let why = std::io::Error::from_raw_os_error(-result as i32);
        println!("# {operation}, {size}: left out: {why}");
        return;
    }
    times.push(Times {
        operation,
        size: size.to_owned(),
        sorted: sample(SAMPLES, || call.result()),
    });
}

/// What both drivers do.
fn common(device: &Device) -> Vec<Times> {
    let mut times = Vec::new();
    for (size, offset) in [
        ("Vendor ID", PCI_VENDOR_ID),
        ("Command", PCI_COMMAND),
        ("Status", PCI_STATUS),
    ] {
        times.push(Times {
            operation: "config read",
            size: size.to_owned(),
            sorted: sample(SAMPLES, || device.config_word(offset as u16)),
        });
    }
    times.push(Times {
        operation: "region info",
        size: "BAR 0".to_owned(),
        sorted: sample(SAMPLES, || device.region(0)),
    });
    times.push(Times {
        operation: "reset",
        size: "VFIO_DEVICE_RESET".to_owned(),
        sorted: sample(RESETS, || device.reset()),
    });
    times
}

/// What vfio_tph does besides.
fn tph(device: &Device) -> Vec<Times> {
    let mut times = Vec::new();
    let Ok(offer) = device.tph() else {
        println!("# TPH is not usable on this device and its path");
        return times;
    };
    for count in [1, 64] {
        let mut lookup = Lookup::new((0..count).map(|_| 0));
        let size = format!("{count} entries, cached");
        call(&mut times, "TPH_RESOLVE", &size, lookup.call(device));
    }
    if offer.st_entries == 0 {
        println!("# TPH_ST: left out: no ST table");
        return times;
    }
    device.enable(StMode::InterruptVector, Requester::Standard);
    let _ = device.set_msix(0, &vec![-1; device.irq_count(2) as usize]);
    for count in [1, 8, 64, 2048] {
        if count <= offer.st_entries {
            let mut batch = Batch::new(count);
            call(
                &mut times,
                "TPH_ST",
                &format!("{count} entries"),
                batch.call(device),
            );
        }
    }
    times
}

/// Why the device cannot be had, or must not.
fn refuse(bdf: &Bdf) -> Result<(), String> {
    for (driver, how) in [
        (VFIO_TPH, "insmod vfio_tph.ko"),
        (STOCK, "modprobe vfio-pci"),
    ] {
        if !fs::exists(format!("/sys/bus/pci/drivers/{driver}")).unwrap_or(false) {
            return Err(format!("{driver} is not loaded: {how}"));
        }
    }
    if let Some(driver) = bdf.driver() {
        if ![VFIO_TPH, STOCK].contains(&driver.as_str()) {
            return Err(format!(
                "{bdf} is driven by {driver}: whoever uses it would lose it. If nobody does, \
                 echo {bdf} >/sys/bus/pci/drivers/{driver}/unbind"
            ));
        }
    }
    if !bdf.has_iommu() && !fs::read_to_string(NOIOMMU_SWITCH).is_ok_and(|text| text.trim() == "Y")
    {
        return Err(format!(
            "{bdf} has no IOMMU: turn it on in the firmware's setup or on the kernel's command \
             line (intel_iommu=on), or, for a device that may write to all memory, \
             echo Y >{NOIOMMU_SWITCH}"
        ));
    }
    Ok(())
}

fn open(bdf: &Bdf, driver: &str) -> Result<Device, String> {
    bdf.bind(driver).map_err(|error| error.to_string())?;
    let by = [OpenBy::Cdev, OpenBy::Group, OpenBy::NoIommu]
        .into_iter()
        .find(|by| by.possible(bdf))
        .ok_or_else(|| format!("{bdf}: there is no file in /dev to open it by"))?;
    vfio::open(bdf, by).map_err(|error| {
        format!(
            "{bdf}, bound to {driver}: open: {error}; the other devices of its IOMMU group, and \
             whoever may have them open, are in /sys/bus/pci/devices/{bdf}/iommu_group/devices"
        )
    })
}

/// Times under both drivers, and of what vfio_tph does besides.
fn measure(bdf: &Bdf) -> Result<[Vec<Times>; 3], String> {
    let theirs = common(&open(bdf, STOCK)?);
    let device = open(bdf, VFIO_TPH)?;
    Ok([common(&device), theirs, tph(&device)])
}

/// All of it, of one device, which gets the driver back that it had; or why not.
pub fn all(bdf: &Bdf) -> Result<(), String> {
    refuse(bdf)?;
    let before = bdf.driver();
    // A driver cannot be taken off a device that somebody has open.
    if let Some(driver) = &before {
        drop(open(bdf, driver)?);
    }
    let measured = measure(bdf);
    match before {
        Some(driver) => bdf.bind(&driver),
        None => {
            bdf.unbind();
            bdf.clear_override()
        }
    }
    .map_err(|error| error.to_string())?;
    let [ours, theirs, own] = measured?;

    for (ours, theirs) in ours.iter().zip(&theirs) {
        Row::new(ours.operation, &ours.size, "ns", ours.percentile(50) as f64)
            .peer(STOCK, theirs.percentile(50) as f64)
            .detail(vec![ours.shape(), format!("{STOCK}: {}", theirs.shape())])
            .print();
    }
    for times in &own {
        Row::new(
            times.operation,
            &times.size,
            "ns",
            times.percentile(50) as f64,
        )
        .detail(vec![times.shape()])
        .print();
    }
    Ok(())
}
