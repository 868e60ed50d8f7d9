// SPDX-License-Identifier: GPL-2.0-only

//! TPH_RESOLVE against pcie_tph_get_cpu_st(): instructions, firmware calls and device accesses.

use std::ops::Range;

use tph_bench::{point, Row};
use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::kstate;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::uapi::vfio_tph::VFIO_DEVICE_FEATURE_TPH_RESOLVE;
use tph_selftests::vfio::{cpu, feature_bytes, Device, Op, ResolveRequest, FEATURE_HEADER};

use crate::clock::{ticks, SystemCall};
use crate::peer::CPath;
use crate::DEVICE_FEATURE;

const PEER: &str = "pcie_tph_get_cpu_st()";
const WHY_CACHED: &str = "asks nobody";

/// A TPH_RESOLVE, and the memory that it is in.
pub struct Lookup {
    bytes: Vec<u8>,
}

impl Lookup {
    /// Of these CPUs.
    pub fn new(cpus: impl Iterator<Item = u32>) -> Self {
        let sources: Vec<_> = cpus.map(cpu).collect();
        let data = ResolveRequest::new(&sources).bytes();
        let flags = Op::Get.flags() | VFIO_DEVICE_FEATURE_TPH_RESOLVE;
        Self {
            bytes: feature_bytes(flags, (FEATURE_HEADER + data.len()) as u32, &data),
        }
    }

    /// The system call that looks them up.
    pub fn call(&mut self, device: &Device) -> SystemCall {
        SystemCall::ioctl(device, DEVICE_FEATURE, self.bytes.as_mut_ptr())
    }
}

/// What the C driver takes for the first `count` CPUs: instructions, firmware calls.
fn c_path(endpoint: &Endpoint, count: u32) -> (f64, f64) {
    let path = CPath::enabled(&endpoint.bdf);
    path.look_up(count);
    let before = kstate::dsm_evaluations();
    let ticks = (0..3)
        .map(|_| path.look_up(count))
        .min()
        .expect("some runs");
    (
        ticks as f64,
        (kstate::dsm_evaluations() - before) as f64 / 3.0,
    )
}

/// A load of the module that has asked firmware nothing yet.
fn forget(endpoint: &Endpoint) -> Device {
    endpoint.bdf.unbind();
    if module::loaded(VFIO_TPH) {
        module::unload(VFIO_TPH).unwrap_or_else(|error| panic!("rmmod {VFIO_TPH}: {error}"));
    }
    bench::bind(endpoint, Gate::Unsafe);
    endpoint.open()
}

/// Instructions and firmware calls of one lookup of CPUs that nobody has asked for yet.
fn first(device: &Device, cpus: Range<u32>) -> (f64, f64) {
    let mut lookup = Lookup::new(cpus.clone());
    let call = lookup.call(device);
    let before = kstate::dsm_evaluations();
    let start = ticks();
    let result = call.result();
    let ticks = ticks() - start;
    assert_eq!(result, 0, "TPH_RESOLVE of CPUs {cpus:?}");
    (ticks as f64, (kstate::dsm_evaluations() - before) as f64)
}

/// Lookups of one CPU, of a VM that has two.
pub fn one(bench: &mut Bench) {
    let endpoint = bench.named("cap");
    let (theirs, their_calls) = c_path(&endpoint, 1);
    // Least of three: a timer interrupt may come in between.
    let rounds: Vec<_> = (0..3)
        .map(|_| {
            let device = forget(&endpoint);
            [first(&device, 0..1), first(&device, 1..2)]
        })
        .collect();
    for (which, size) in [(0, "first CPU of a host bridge"), (1, "another CPU")] {
        let costs = rounds.iter().map(|round| round[which]);
        let (cost, calls) = costs.min_by(|a, b| a.0.total_cmp(&b.0)).expect("rounds");
        let row = Row::new("CPU lookup, first", size, "instructions", cost).peer(PEER, theirs);
        match which {
            0 => row.at_most_times(1.02),
            _ => row.less_than_peer(),
        }
        .print();
        Row::new("CPU lookup, first", size, "firmware calls", calls)
            .peer(PEER, their_calls)
            .limit(1.0, "firmware knows")
            .at_limit()
            .print();
    }

    let device = endpoint.open();
    let mut lookup = Lookup::new(0..1);
    let call = lookup.call(&device);
    let before = kstate::dsm_evaluations();
    endpoint.reset_counters();
    Row::new(
        "CPU lookup, cached",
        "1 CPU",
        "instructions",
        call.instructions(32),
    )
    .peer(PEER, theirs)
    .limit(
        SystemCall::nothing().instructions(32),
        "a system call that does nothing",
    )
    .times_less(100.0)
    .print();
    let calls = (kstate::dsm_evaluations() - before) as f64;
    Row::new("CPU lookup, cached", "1 CPU", "firmware calls", calls)
        .peer(PEER, their_calls)
        .limit(0.0, WHY_CACHED)
        .at_limit()
        .print();
    drop(device);
}

/// One TPH_RESOLVE of 64 CPUs; of the same ones again if there are fewer.
fn many(endpoint: &Endpoint, present: u32) {
    let all = 64;
    let (theirs, their_calls) = c_path(endpoint, present);
    let times = f64::from(all) / f64::from(present);
    let size = match present {
        64.. => "64 CPUs".to_owned(),
        _ => format!("64 entries, {present} CPUs"),
    };

    bench::bind(endpoint, Gate::Unsafe);
    let device = endpoint.open();
    let mut lookup = Lookup::new((0..all).map(|number| number % present));
    let call = lookup.call(&device);
    assert_eq!(call.result(), 0, "TPH_RESOLVE of 64 CPUs");
    let before = kstate::dsm_evaluations();
    endpoint.reset_counters();
    let cost = call.instructions(8);
    let accesses = endpoint.counters().accesses();
    let calls = (kstate::dsm_evaluations() - before) as f64;

    let operation = "TPH_RESOLVE, cached";
    Row::new(operation, &size, "instructions", cost)
        .peer(PEER, theirs * times)
        .times_less(100.0)
        .print();
    Row::new(operation, &size, "firmware calls", calls)
        .peer(PEER, their_calls * times)
        .limit(0.0, WHY_CACHED)
        .at_limit()
        .print();
    Row::new(operation, &size, "device accesses", accesses as f64)
        .limit(0.0, WHY_CACHED)
        .at_limit()
        .print();
}

/// One TPH_RESOLVE of many entries, in a VM that has two CPUs.
pub fn repeated(bench: &mut Bench, present: u32) {
    let endpoint = bench.named("cap");
    many(&endpoint, present);
}

/// Lookups of 64 CPUs, and cost over their number.
pub fn over_size(bench: &mut Bench, present: u32) {
    const SIZES: [u32; 9] = [1, 8, 16, 24, 32, 40, 48, 56, 64];

    let endpoint = bench.named("cap");
    assert!(present >= 64, "{present} CPUs are present, not 64");
    {
        // So many more in each call: one load of the module does for all sizes.
        let device = forget(&endpoint);
        let (mut known, mut total) = (0, 0.0);
        for count in SIZES {
            let (cost, calls) = first(&device, known..count);
            assert_eq!(calls, f64::from(count - known), "firmware calls");
            (known, total) = (count, total + cost);
            point("cpus-first", "vfio_tph", count, total);
        }
        for count in SIZES {
            let mut lookup = Lookup::new(0..count);
            let cost = lookup.call(&device).instructions(4);
            point("cpus-cached", "vfio_tph", count, cost);
        }
    }
    {
        let path = CPath::enabled(&endpoint.bdf);
        for count in SIZES {
            point("cpus-first", PEER, count, path.look_up(count) as f64);
        }
    }
    many(&endpoint, present);
}
