// SPDX-License-Identifier: GPL-2.0-only

//! What vfio_tph costs, beside the C path and vfio-pci: prints a line of JSON for each measurement.
//!
//! In the VM of `selftests/bench`, whose virtual nanoseconds are instructions, without `--device`;
//! on any machine, with it, times of one device.

mod clock;
mod dropin;
mod guest;
mod lookup;
mod memory;
mod open_close;
mod parallel;
mod peer;
mod scale;
mod table;
mod time;

use std::process::ExitCode;

use clap::Parser;
use tph_selftests::bench::Bench;
use tph_selftests::cpus;
use tph_selftests::pci::Bdf;

/// Number of `VFIO_DEVICE_FEATURE`.
const DEVICE_FEATURE: u32 = 17;

#[derive(Parser)]
#[command(about = "Measures vfio_tph")]
struct Arguments {
    /// Measure the time that this device takes, on this machine
    #[arg(long, value_name = "BDF")]
    device: Option<Bdf>,
    /// Only access counts and ratios of instructions, which are exact, and without plots
    #[arg(long)]
    check: bool,
    /// Only lookups, for a VM with many CPUs
    #[arg(long)]
    lookups: bool,
    /// Only compare sizes in bytes of vfio_tph.ko and of vfio-pci's object: text, data and bss of
    /// each
    #[arg(long, num_args = 6, value_name = "BYTES")]
    module_sizes: Vec<u64>,
    /// Every program of a session is told one, and this one has no use for it: where nanoseconds
    /// are instructions, and an idle machine goes on to its next timer at once, time runs away
    /// while it waits for the host. selftests/run bounds the host's time
    #[arg(long = "deadline", value_name = "SECONDS", hide = true)]
    _deadline: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(bdf) = &arguments.device {
        return match time::all(bdf) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("error: {why}");
                ExitCode::FAILURE
            }
        };
    }
    if !arguments.module_sizes.is_empty() {
        memory::modules(&arguments.module_sizes);
        return ExitCode::SUCCESS;
    }

    println!("KTAP version 1");
    let mut bench = Bench::new(&[]);
    let bench = &mut bench;
    if arguments.lookups {
        lookup::over_size(bench, cpus::present());
        tph_bench::end();
        return ExitCode::SUCCESS;
    }
    table::in_capability(bench, !arguments.check);
    table::in_msix(bench, !arguments.check);
    table::one_of_many(bench);
    table::disclosed(bench);
    guest::all(bench);
    lookup::one(bench);
    if arguments.check {
        lookup::repeated(bench, cpus::present());
    }
    dropin::all(bench);
    open_close::all(bench);
    if !arguments.check {
        memory::objects(bench);
        scale::devices(bench);
    }
    parallel::all(bench);
    tph_bench::end();
    ExitCode::SUCCESS
}
