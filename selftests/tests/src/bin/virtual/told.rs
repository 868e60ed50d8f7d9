// SPDX-License-Identifier: GPL-2.0-only

//! What an administrator is told of a guest's table: each time that hardware gets tags, and no
//! other.

use std::fs;

use tph_selftests::bench::Bench;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::vfio::cpu;
use tph_tests::each_table;

use super::{Bed, EXTENDED, STANDARD};

const EVENT: &str = "/sys/kernel/tracing/events/vfio_tph/vfio_tph_table_write/enable";
const TRACE: &str = "/sys/kernel/tracing/trace";

/// What is traced of writes to the table meanwhile, from the first entry on.
fn traced(endpoint: &Endpoint, body: impl FnOnce()) -> Vec<String> {
    fs::write(TRACE, "").expect("an empty trace");
    fs::write(EVENT, "1").expect("the event");
    body();
    fs::write(EVENT, "0").expect("no more events");
    let trace = fs::read_to_string(TRACE).expect("the trace");
    let event = format!("vfio_tph_table_write: {} ", endpoint.bdf);
    let of_line = |line: &str| Some(line.split_once(&event)?.1.to_owned());
    trace.lines().filter_map(of_line).collect()
}

/// While TPH is off, a map that replaces another one is written in the namespace of before.
pub fn r93_the_namespace_of_what_is_written(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let maps = [[cpu(1)], [cpu(0)]];
        bed.write(0, &[1]);
        for (on, is_extended) in [(EXTENDED, 1), (STANDARD, 0), (EXTENDED, 1)] {
            let expected = [format!("index=0 count=1 extended={is_extended}")];
            let told = traced(&bed.endpoint, || bed.enable(on));
            assert_eq!(told, expected, "an enable");
            for map in maps {
                let told = traced(&bed.endpoint, || bed.device.set_map(&map).expect("on"));
                assert_eq!(told, expected, "moved while on");
            }
            bed.device.set_control(1);
            for map in maps {
                let told = traced(&bed.endpoint, || bed.device.set_map(&map).expect("off"));
                assert_eq!(told, expected, "moved while off");
            }
            bed.assert_means(&[1], is_extended == 1, "off");
        }
    });
}
