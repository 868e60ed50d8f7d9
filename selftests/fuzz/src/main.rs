// SPDX-License-Identifier: GPL-2.0-only

//! Does what a user can do to a device, in any order, with any arguments, and judges what comes of
//! it.
//!
//! Runs in the guest of `selftests/run`. A *round* takes three devices, binds them with random
//! policies below random root ports, and has some operations done: by one thread, each judged by a
//! model of the contract; by several threads; or by two processes that want the same devices. Then
//! come the checks of every test: no violation counted by the endpoint, the kernel's idea of the
//! device is what it holds, nothing is left after close, the kernel's log is clean.
//!
//!     fuzz --seconds 60                    rounds of all kinds, seeds from the clock
//!     fuzz --seed 7 --ops 300              one round, judged by the model; the same every time
//!     fuzz --seed 7 --threads 4 --processes 2
//!
//! Prints KTAP: a round is a test, named by the arguments that repeat it.

mod draw;
mod kcov;
mod model;
mod op;
mod outcome;
mod round;
mod setup;
mod watch;
mod world;

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tph_selftests::bench::Bench;
use tph_selftests::harness;
use tph_selftests::kmsg;
use tph_selftests::pci::Bdf;

use crate::outcome::Tally;
use crate::round::Round;
use crate::watch::Watch;

/// Random operations on vfio_tph devices; prints KTAP.
#[derive(Parser)]
struct Arguments {
    /// What everything is drawn from; with --seconds, the first round's
    #[arg(long)]
    seed: Option<u64>,
    /// Operations of each thread in a round
    #[arg(long, default_value_t = 500)]
    ops: u64,
    /// Threads of each process
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Processes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    processes: u64,
    /// Rounds of all kinds for that long, in place of one; or until each call has succeeded once
    #[arg(long)]
    seconds: Option<u64>,
    /// Device to use, repeatable; by default the emulated endpoints of the test VM
    #[arg(long = "device", value_name = "BDF")]
    devices: Vec<Bdf>,
    /// Also say which code of the module was reached
    #[arg(long)]
    kcov: bool,
    /// Longest time for all of it, in seconds
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
    /// Be the other process of a round
    #[arg(long, hide = true)]
    child: bool,
}

fn text(payload: &dyn Any) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "left out: a device that a round needs is not there".to_owned()
    }
}

/// Rounds that failed after which there is nothing to be learned from more.
const ENOUGH: u64 = 5;

/// So many rounds until a call has to have succeeded: policies are drawn, and not all allow it.
const FEW: u64 = 16;

/// Kinds of rounds, in turn: threads and processes.
const KINDS: [(u64, u64); 4] = [(1, 1), (4, 1), (1, 1), (2, 2)];

fn run(round: &Round, devices: &[Bdf], watch: &Watch, sum: &Tally) -> Result<(), String> {
    let mut bench = Bench::new(devices);
    let guarded = |f: &mut dyn FnMut()| {
        panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| text(&*payload))
    };
    let done = guarded(&mut || round.run(&mut bench, watch, sum));
    let checked = guarded(&mut || bench.check());
    let put_back = guarded(&mut || bench.put_back());
    kcov::leave();
    done.and(checked).and(put_back)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.kcov {
        kcov::turn_on();
    }
    let clock = SystemTime::now().duration_since(UNIX_EPOCH);
    let clock = clock.map_or(0, |time| time.as_secs());
    let first = Round {
        seed: arguments.seed.unwrap_or(clock),
        ops: arguments.ops,
        threads: arguments.threads,
        processes: arguments.processes,
    };
    let watch = Watch::start();
    if arguments.child {
        first.run_as_other(&arguments.devices, &watch);
        kcov::leave();
        return ExitCode::SUCCESS;
    }

    let _watchdog = arguments
        .deadline
        .map(|seconds| harness::watch("fuzz", Duration::from_secs(seconds)));
    println!("KTAP version 1");
    let start = Instant::now();
    let sum = Tally::default();
    let more = |done: u64, failed: u64| match arguments.seconds {
        _ if done == 0 => true,
        None => false,
        _ if failed == ENOUGH => false,
        Some(seconds) => {
            start.elapsed() < Duration::from_secs(seconds)
                || (done < FEW && !sum.never_done().is_empty())
        }
    };
    let (mut number, mut failed) = (0, 0);
    while more(number, failed) {
        let mut round = first;
        if arguments.seconds.is_some() {
            round.seed = first.seed.wrapping_add(number);
            (round.threads, round.processes) = KINDS[number as usize % KINDS.len()];
        }
        number += 1;
        let name = round.arguments().join(" ");
        kmsg::say(&format!("<6>fuzz {name}\n"));
        let begun = Instant::now();
        let result = run(&round, &arguments.devices, &watch, &sum);
        println!("# {} s", begun.elapsed().as_secs());
        match result {
            Ok(()) => println!("ok {number} fuzz {name}"),
            Err(why) => {
                failed += 1;
                why.lines().for_each(|line| println!("# {line}"));
                println!("not ok {number} fuzz {name}");
            }
        }
    }
    if arguments.kcov {
        kcov::report();
    }
    println!("1..{number}");
    println!("# Totals: pass:{} fail:{failed}", number - failed);
    let idle = match arguments.seconds {
        Some(_) => sum.never_done(),
        None => Vec::new(),
    };
    for call in &idle {
        println!("# {call} has not succeeded once in {number} rounds");
    }
    ExitCode::from(u8::from(failed > 0 || !idle.is_empty()))
}
