// SPDX-License-Identifier: GPL-2.0-only

//! What an administrator is told of a guest's table: of each time that hardware gets tags, and not
//! before it does.

use std::fs;

use tph_selftests::bench::Bench;
use tph_selftests::debugfs;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::protocol::Access;
use tph_selftests::vfio::{cpu, none};
use tph_tests::bed::{D0, D3HOT};
use tph_tests::{each_table, xst};

use super::{counter, Bed, EXTENDED, STANDARD};

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

/// A map that comes while the device sleeps is told of when hardware gets its tags.
pub fn r93_moved_in_d3hot_is_told_once(bench: &mut Bench) {
    each_table(bench, |bench, want| {
        let bed = Bed::new(bench, want, Gate::Safe);
        let table = u64::from(bed.device.tph_offset()) + 12;
        let table = table..table + 2 * bed.endpoint.entries().len() as u64;
        let is_write = |access: &Access| match access {
            Access::MmioWrite { .. } => true,
            Access::ConfigWrite { offset, .. } => !want.in_msix && table.contains(offset),
            _ => false,
        };
        let writes = |mark: u64| {
            let log = bed.endpoint.log_after(mark).into_iter();
            log.filter(|entry| is_write(&entry.access)).count()
        };
        bed.write(0, &[1, 2]);
        bed.enable(EXTENDED);
        bed.device.set_power_state(D3HOT);
        let (mark, counted) = (bed.endpoint.mark(), counter(&bed.endpoint, "table_writes"));
        let told = traced(&bed.endpoint, || {
            bed.device.set_map(&[cpu(1), cpu(0)]).expect("TPH_MAP");
        });
        assert_eq!(writes(mark), 0, "asleep");
        assert_eq!(told, [""; 0], "asleep");
        assert_eq!(counter(&bed.endpoint, "table_writes"), counted, "asleep");

        let told = traced(&bed.endpoint, || bed.device.set_power_state(D0));
        assert_ne!(writes(mark), 0, "awake");
        assert_eq!(told, ["index=0 count=2 extended=1"], "awake");
        assert_eq!(counter(&bed.endpoint, "table_writes"), counted + 1, "awake");
        bed.assert_holds(&[xst(1), xst(0)], "awake");

        // What is shown is the table as it is to be, also where nothing comes in a tag's place.
        bed.device.set_power_state(D3HOT);
        bed.device.set_map(&[none(), cpu(0)]).expect("TPH_MAP");
        bed.device.set_power_state(D0);
        bed.assert_holds(&[0, xst(0)], "one less");
        let shown = debugfs::show(&bed.endpoint.bdf, "state");
        let holds = |line: &str| assert!(shown.contains(line), "{line} in {shown}");
        holds("guest[0] 0x0001 0x0000\n");
        holds(&format!("guest[1] 0x0002 {:#06x}\n", xst(0)));
        if !want.in_msix {
            holds("\ntable[0] 0x0000\n");
            holds(&format!("\ntable[1] {:#06x}\n", xst(0)));
        }
    });
}
