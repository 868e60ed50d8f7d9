// SPDX-License-Identifier: GPL-2.0-only

//! The process that emulates a device is killed in the middle of a batch: no access to it is ever
//! answered again, and none of the machine's reaches it. That is the end of all endpoints of the
//! virtual machine, so that this is the only test in it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use tph_selftests::bench::Bench;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::monitor::wait_until;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, Vectors};
use tph_selftests::{harness, tests, Errno};
use tph_tests::{enabled, CPU};

const ENABLED: u32 = control(StMode::InterruptVector, Requester::Standard);
/// Batches that went well before.
const BATCHES: u32 = 20;
const BATCH: usize = 8;

fn r41_killed_in_the_middle_of_a_batch(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Standard);
    let _vectors = Vectors::allocate(&device, 1).expect("SET_IRQS");
    let batches = AtomicU32::new(0);
    let error = thread::scope(|scope| {
        let programmer = scope.spawn(|| loop {
            match device.program(0, &[cpu(CPU); BATCH]) {
                Ok(()) => batches.fetch_add(1, Ordering::Relaxed),
                Err(error) => return error,
            };
        });
        wait_until(|| batches.load(Ordering::Relaxed) >= BATCHES);
        endpoint.kill();
        programmer.join().expect("TPH_ST")
    });
    println!("# {batches:?} batches before");
    assert_eq!(error, Errno::EIO);
    endpoint.assert_kernel_has_it_off("its end");
    assert_eq!(endpoint.bdf.config().dword(0), u32::MAX, "it answers");

    let again = device.program(0, &[cpu(CPU); BATCH]);
    assert!(matches!(again, Err(Errno::EIO | Errno::ENXIO)), "{again:?}");
    device.set_control(ENABLED);
    endpoint.assert_kernel_has_it_off("a write to Control");
    drop(device);
    endpoint.assert_kernel_has_it_off("close");
    endpoint.bdf.unbind();
    module::unload(VFIO_TPH).expect("rmmod");
}

fn main() -> ExitCode {
    harness::run(tests![r41_killed_in_the_middle_of_a_batch])
}
