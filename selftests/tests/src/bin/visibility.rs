// SPDX-License-Identifier: GPL-2.0-only

//! What an administrator sees of a device: debugfs and tracepoints (contract, section 7).

use std::cell::Cell;
use std::fs;
use std::process::ExitCode;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::debugfs;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::module::Gate;
use tph_selftests::policy::Policy;
use tph_selftests::protocol::Fault;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, literal, Device};
use tph_selftests::{tests, Errno};
use tph_tests::bed::{Bed, Kind, D0, D3HOT};
use tph_tests::CPU;

const EVENTS: &str = "/sys/kernel/tracing/events/vfio_tph/enable";
const TRACE: &str = "/sys/kernel/tracing/trace";

fn show(endpoint: &Endpoint, name: &str) -> String {
    debugfs::show(&endpoint.bdf, name)
}

fn counter(endpoint: &Endpoint, name: &str) -> u64 {
    debugfs::counter(&endpoint.bdf, name)
}

fn state_shows_what_is_in_force(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Unsafe, &Want::TABLE);
    // Another program may have narrowed the policy: bound anew, it is what the gate allows.
    endpoint.bdf.unbind();
    endpoint.bdf.bind("vfio_tph").expect("bound again");
    assert_eq!(show(&endpoint, "state"), "TPH not in use\n");

    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(1, &[literal(0x5a)]).expect("TPH_ST");
    let state = show(&endpoint, "state");
    assert!(state.contains("control 0x00000101\n"), "{state}");
    assert!(
        state.contains(&format!("capability {:#010x}\n", device.tph_capability())),
        "{state}"
    );
    assert!(state.contains("table[0] 0x0000\n"), "{state}");
    assert!(state.contains("table[1] 0x005a\n"), "{state}");

    device.reset().expect("VFIO_DEVICE_RESET");
    let state = show(&endpoint, "state");
    assert!(state.contains("control 0x00000000\n"), "{state}");
    assert!(state.contains("table[1] 0x0000\n"), "{state}");
    drop(device);
    assert_eq!(show(&endpoint, "state"), "TPH not in use\n");
}

fn counters_count(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    let device = endpoint.open();
    for name in [
        "config_writes",
        "dropped_writes",
        "table_writes",
        "refused.LiteralDenied",
        "refused.NotEnabled",
    ] {
        assert_eq!(counter(&endpoint, name), 0, "{name} of a fresh device");
    }

    assert_eq!(device.program(0, &[cpu(CPU)]), Err(Errno::ENXIO));
    device.set_control(0x2);
    device.enable(StMode::InterruptVector, Requester::Standard);
    assert_eq!(device.program(0, &[literal(1)]), Err(Errno::EPERM));
    device.program(0, &[cpu(CPU), cpu(CPU)]).expect("TPH_ST");
    assert_eq!(counter(&endpoint, "config_writes"), 1);
    assert_eq!(counter(&endpoint, "dropped_writes"), 1);
    assert_eq!(counter(&endpoint, "table_writes"), 1);
    assert_eq!(counter(&endpoint, "resolutions"), 2);
    assert!(counter(&endpoint, "cache_hits") >= 1);
    assert_eq!(counter(&endpoint, "refused.NotEnabled"), 1);
    assert_eq!(counter(&endpoint, "refused.LiteralDenied"), 1);
}

fn directory_goes_with_the_device(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    assert!(debugfs::path(&endpoint.bdf, "state").exists());
    endpoint.bdf.unbind();
    assert!(!debugfs::path(&endpoint.bdf, "state").exists());
}

fn tracepoints_tell(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    fs::write(TRACE, "").expect("an empty trace");
    fs::write(EVENTS, "1").expect("the events of vfio_tph");

    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &[cpu(CPU), cpu(CPU)]).expect("TPH_ST");
    assert_eq!(
        device.program(0, &[cpu(CPU), literal(1)]),
        Err(Errno::EPERM)
    );
    // Nothing new: the same once more, and a mode that is not on offer.
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.set_control(control(StMode::DeviceSpecific, Requester::Standard));
    device.set_control(0);
    device.set_control(0);
    fs::write(EVENTS, "0").expect("no more events");

    let trace = fs::read_to_string(TRACE).expect("the trace");
    let bdf = &endpoint.bdf;
    for event in [
        format!("vfio_tph_enable: {bdf} st_mode=1 requester_enable=1"),
        format!("vfio_tph_table_write: {bdf} index=0 count=2 extended=0"),
        format!("vfio_tph_refusal: {bdf} feature=0x5451 error=-1 position=1"),
        format!("vfio_tph_disable: {bdf}"),
    ] {
        assert_eq!(trace.matches(&event).count(), 1, "{event} in\n{trace}");
    }
}

/// Whatever turns TPH off, and on again.
fn tracepoints_tell_what_turns_it_off(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    let bdf = endpoint.bdf.clone();
    let told = |what: &str, enables: usize, disables: usize, body: &dyn Fn()| {
        fs::write(TRACE, "").expect("an empty trace");
        body();
        let trace = fs::read_to_string(TRACE).expect("the trace");
        let count = |event: &str| trace.matches(&format!("{event}: {bdf}")).count();
        let counts = (count("vfio_tph_enable"), count("vfio_tph_disable"));
        assert_eq!(counts, (enables, disables), "{what}:\n{trace}");
    };
    fs::write(EVENTS, "1").expect("the events of vfio_tph");

    let device = Cell::new(Some(endpoint.open()));
    let with = |body: &dyn Fn(&Device)| {
        let open = device.take().expect("an open device");
        body(&open);
        device.set(Some(open));
    };
    let enable = |device: &Device| device.enable(StMode::InterruptVector, Requester::Standard);
    told("a write", 1, 0, &|| with(&enable));
    told("a reset", 0, 1, &|| {
        with(&|device| device.reset().expect("VFIO_DEVICE_RESET"))
    });
    told("a write, and FLR", 1, 1, &|| {
        with(&|device| {
            enable(device);
            device.initiate_flr();
        })
    });
    told("D3hot and back", 1, 0, &|| {
        with(&|device| {
            enable(device);
            device.set_power_state(3);
            device.set_power_state(0);
        })
    });
    told("a TPH_ST that does not come through", 0, 1, &|| {
        with(&|device| {
            endpoint.fault(Fault::AllOnes);
            let refused = device.program(0, &[cpu(CPU)]);
            endpoint.fault(Fault::None);
            assert_eq!(refused, Err(Errno::EIO));
        })
    });
    told("close", 1, 1, &|| {
        with(&enable);
        drop(device.take());
    });
    fs::write(EVENTS, "0").expect("no more events");
}

/// TPH is off while entries are not written; that the device sleeps then, or cannot be reached,
/// does not turn it on.
fn tracepoints_tell_what_is_in_force(bench: &mut Bench) {
    // One that loses its state has no tag left in its table when it is awake again.
    const MSIX: Kind = Kind {
        in_msix: true,
        loses_state: false,
    };

    let bed = Bed::in_use(bench, MSIX, Policy::IvSt);
    let told = |what: &str, expected: &[_], body: &dyn Fn()| {
        assert_eq!(events_of(&bed.endpoint, body), expected, "{what}");
    };
    fs::write(EVENTS, "1").expect("the events of vfio_tph");
    bed.endpoint.fault(Fault::MmioWritesDropped);
    told("vectors are freed", &["disable"], &|| {
        bed.device.free_msix();
    });
    told("D3hot", &[], &|| bed.device.set_power_state(D3HOT));
    told("awake", &[], &|| bed.device.set_power_state(D0));
    told("low power and back", &[], &|| bed.low_power_and_back());
    bed.endpoint.fault(Fault::AllOnes);
    told("does not answer", &[], &|| {
        bed.device
            .set_control(control(StMode::NoSt, Requester::Standard));
    });
    bed.endpoint.fault(Fault::None);
    told("entries are written", &["enable"], &|| {
        bed.device.set_power_state(D0);
    });
    told("D3hot and back, on", &[], &|| bed.d3hot_and_back());
    bed.endpoint.fault(Fault::AllOnes);
    told("does not answer, on", &["disable"], &|| {
        bed.device
            .set_control(control(StMode::NoSt, Requester::Standard));
    });
    bed.endpoint.fault(Fault::None);
    told("answers again", &["enable"], &|| {
        bed.device.set_power_state(D0);
    });
    fs::write(EVENTS, "0").expect("no more events");
}

/// What is told of TPH of a device meanwhile: that it was enabled, and that it was disabled.
fn events_of(endpoint: &Endpoint, body: &dyn Fn()) -> Vec<&'static str> {
    fs::write(TRACE, "").expect("an empty trace");
    body();
    let trace = fs::read_to_string(TRACE).expect("the trace");
    let of_line = |line: &str| {
        let told = |event: &&str| line.contains(&format!("vfio_tph_{event}: {}", endpoint.bdf));
        ["enable", "disable"].into_iter().find(told)
    };
    trace.lines().filter_map(of_line).collect()
}

fn main() -> ExitCode {
    harness::run(tests![
        state_shows_what_is_in_force,
        counters_count,
        directory_goes_with_the_device,
        tracepoints_tell,
        tracepoints_tell_what_turns_it_off,
        tracepoints_tell_what_is_in_force,
    ])
}
