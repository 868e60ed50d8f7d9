// SPDX-License-Identifier: GPL-2.0-only

//! Cost over the number of devices that are bound at once.

use std::rc::Rc;

use tph_bench::{point, Row};
use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::tph::{Requester, StMode};

use crate::lookup::Lookup;
use crate::table::Batch;

/// So many devices there are.
const MOST: usize = 32;

/// Binds one device after the other, and measures on the first what all could slow down.
pub fn devices(bench: &mut Bench) {
    let all: Vec<Rc<Endpoint>> = (0..MOST)
        .map(|number| bench.named(&format!("d{number}")))
        .collect();
    for endpoint in &all {
        endpoint.bdf.unbind();
    }
    bench::bind(&all[0], Gate::Unsafe);
    let device = all[0].open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    let mut lookup = Lookup::new(0..1);
    let mut batch = Batch::new(8);
    let (lookup, batch) = (lookup.call(&device), batch.call(&device));

    let mut costs = Vec::new();
    for (number, endpoint) in (1u32..).zip(&all) {
        bench::bind(endpoint, Gate::Unsafe);
        let cost = [lookup.instructions(16), batch.instructions(2)];
        point("devices", "TPH_RESOLVE of a known CPU", number, cost[0]);
        point("devices", "TPH_ST of 8 entries", number, cost[1]);
        costs.push(cost);
    }
    let [first, last] = [costs[0], costs[MOST - 1]];
    for (operation, which) in [("TPH_RESOLVE, cached", 0), ("TPH_ST, 8 entries", 1)] {
        Row::new(
            operation,
            format!("{MOST} devices bound"),
            "instructions",
            last[which],
        )
        .peer("1 device bound", first[which])
        .limit(first[which], "no device asks another")
        .at_most_times(1.02)
        .print();
    }
    drop(device);
    for endpoint in &all {
        endpoint.bdf.unbind();
    }
}
