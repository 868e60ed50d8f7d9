// SPDX-License-Identifier: GPL-2.0-only

//! A round: some operations on some devices. By one thread, each is judged by the model; by several
//! threads, or processes, what they leave is judged at the end.

use std::collections::VecDeque;
use std::env;
use std::process::{Child, Command};
use std::thread;

use fastrand::Rng;
use tph_selftests::bench::Bench;
use tph_selftests::cpus;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::kernel;
use tph_selftests::kmsg::KernelLog;
use tph_selftests::pci::Bdf;
use tph_selftests::protocol::{Violation, ViolationKind};

use crate::draw::{self, Script};
use crate::kcov;
use crate::model::Model;
use crate::op::Op;
use crate::outcome::Tally;
use crate::setup::Setup;
use crate::watch::Watch;
use crate::world::{Habit, World};

/// What a round is; the same one does the same.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// What everything is drawn from.
    pub seed: u64,
    /// Operations of each thread.
    pub ops: u64,
    /// Threads of each process.
    pub threads: u64,
    /// Processes.
    pub processes: u64,
}

/// Operations on a device that are shown when the last of them failed.
const SHOWN: usize = 16;
/// Most of an operation that is shown.
const LINE: usize = 500;

/// The argument that makes this program the other process of a round.
pub const CHILD: &str = "--child";

impl Round {
    /// The arguments that repeat it.
    pub fn arguments(&self) -> Vec<String> {
        let named = [
            ("--seed", self.seed),
            ("--ops", self.ops),
            ("--threads", self.threads),
            ("--processes", self.processes),
        ];
        named
            .iter()
            .flat_map(|(name, value)| [name.to_string(), value.to_string()])
            .collect()
    }

    fn alone(&self) -> bool {
        self.threads == 1 && self.processes == 1
    }

    /// Runs it, and adds its operations, and how they ended, to `sum`; panics if something is
    /// wrong.
    pub fn run(&self, bench: &mut Bench, watch: &Watch, sum: &Tally) {
        let mut log = KernelLog::from_now();
        {
            let place = watch.place("set-up");
            let mut rng = Rng::with_seed(self.seed);
            let setup = Setup::draw(bench, &mut rng);
            let world = World::new(&setup.devices());
            drop(place);
            if self.alone() {
                self.run_alone(&setup, &world, rng, watch);
            } else {
                self.run_together(&setup, &world, watch);
            }
            println!("# {}", world.tally);
            sum.add_all(&world.tally);
            let _place = watch.place("settling");
            setup.settle(&world);
        }
        check_log(&log.until_now());
    }

    /// One thread, with the model beside it.
    fn run_alone(&self, setup: &Setup, world: &World, mut rng: Rng, watch: &Watch) {
        let place = watch.place("alone");
        let trace = kcov::trace();
        let states = setup.endpoints.iter().map(|endpoint| endpoint.state());
        let devices: Vec<_> = world
            .seats
            .iter()
            .map(|seat| seat.shape)
            .zip(states)
            .collect();
        let mut model = Model::new(
            &devices,
            setup.gate,
            &setup.policies,
            cpus::present(),
            kernel::is_patched(),
        );
        let mut last = vec![VecDeque::new(); world.seats.len()];
        // Some of the devices have a driver that knows what it does, at first.
        let habits = vec![Habit::All; world.seats.len()];
        let mut script = Script::default();
        for (seat, of) in world.seats.iter().enumerate() {
            if rng.u8(..8) != 0 {
                script.begin(&mut rng, seat, &of.shape, Habit::All);
            }
        }
        for number in 0..self.ops {
            kcov::keep(&trace);
            let (seat, op) = script.next(&mut rng, &world.seats, &habits);
            place.begin(format!("{number}: device {seat}: {op:?}"));
            let in_d3 = !model.is_powered(seat);
            let outcome = world.run(seat, &op);
            let endpoint = &setup.endpoints[seat];
            let state = endpoint.state();
            let mut line = format!("{number}: device {seat}: {op:?}: {outcome:x?}");
            line.truncate(LINE);
            let last = &mut last[seat];
            last.push_back(line);
            if last.len() > SHOWN {
                last.pop_front();
            }
            let judged = model.judge(seat, &op, &outcome, &state);
            let mut violations = violations(endpoint);
            // As vfio-pci does it, see `Habit`.
            if in_d3 && matches!(op, Op::Irqs(..) | Op::FreeIrqs(_)) {
                violations.retain(|violation| violation.kind != ViolationKind::MmioInD3);
                endpoint.clear_violations();
            }
            if judged.is_err() || !violations.is_empty() {
                let lines: Vec<_> = last.iter().map(String::as_str).collect();
                panic!(
                    "operation {number} on {}: {judged:?}, violations {violations:?}\nlast:\n{}",
                    endpoint.bdf,
                    lines.join("\n")
                );
            }
            if model.agrees(seat) && world.seats[seat].shape.capability.is_some() {
                endpoint.assert_kernel_agrees();
            }
        }
    }

    /// Several threads, and maybe another process that wants the same devices.
    fn run_together(&self, setup: &Setup, world: &World, watch: &Watch) {
        let other = (self.processes > 1).then(|| self.start_other(&setup.devices()));
        self.run_threads(self.seed, world, watch);
        if let Some(mut other) = other {
            // Its operations are not ours to watch: it watches them itself.
            let status = other.wait().expect("wait");
            assert!(status.success(), "the other process: {status}");
        }
        for endpoint in &setup.endpoints {
            let violations = violations(endpoint);
            assert!(violations.is_empty(), "{}: {violations:?}", endpoint.bdf);
        }
    }

    fn run_threads(&self, seed: u64, world: &World, watch: &Watch) {
        // The same for both processes.
        let habits: Vec<Habit> = (0..world.seats.len())
            .map(|seat| match (seed >> seat) & 1 {
                0 => Habit::Awake,
                _ => Habit::Silent,
            })
            .collect();
        let habits = &habits;
        // Another process may have been faster: then they fail.
        let mut rng = Rng::with_seed(seed);
        let place = watch.place("at first");
        for (seat, of) in world.seats.iter().enumerate() {
            for op in draw::first(&mut rng, &of.shape) {
                place.begin(format!("at first: device {seat}: {op:?}"));
                world.run(seat, &op);
            }
        }
        drop(place);
        thread::scope(|scope| {
            for thread in 0..self.threads {
                let mut rng = Rng::with_seed(self.seed ^ (thread + 1).wrapping_mul(0x9e37_79b9));
                let place = watch.place("a thread");
                scope.spawn(move || {
                    let trace = kcov::trace();
                    let mut script = Script::default();
                    for number in 0..self.ops {
                        kcov::keep(&trace);
                        let (seat, op) = script.next(&mut rng, &world.seats, habits);
                        place.begin(format!("thread {thread}, {number}: device {seat}: {op:?}"));
                        world.run(seat, &op);
                    }
                });
            }
        });
    }

    fn start_other(&self, devices: &[Bdf]) -> Child {
        let program = env::current_exe().expect("the path of this program");
        let mut command = Command::new(program);
        command.args(self.arguments()).arg(CHILD);
        if kcov::is_on() {
            command.arg("--kcov");
        }
        for device in devices {
            command.args(["--device", &device.to_string()]);
        }
        command.spawn().expect("this program, once more")
    }

    /// The other process of a round.
    pub fn run_as_other(&self, devices: &[Bdf], watch: &Watch) {
        let other = Self {
            // Not what the first one does.
            seed: self.seed.rotate_left(32) ^ 0x5bd1_e995,
            ..*self
        };
        let place = watch.place("the other process's set-up");
        let world = World::new(devices);
        drop(place);
        other.run_threads(self.seed, &world, watch);
        println!("# {}", world.tally);
        let _place = watch.place("the other process's end");
        world.clear();
    }
}

/// What software did wrong. Not counted: what the user may write as under vfio-pci, bytes behind
/// the capability that belong to nothing.
fn violations(endpoint: &Endpoint) -> Vec<Violation> {
    let mut violations = endpoint.violations();
    violations.retain(|violation| violation.kind != ViolationKind::StWriteBeyondTable);
    if violations.is_empty() {
        endpoint.clear_violations();
    }
    violations
}

/// Fails the round for what the kernel said meanwhile, by the runner's own list.
fn check_log(lines: &[String]) {
    const SPLATS: &str = "/lib/tph/splats";

    let text = lines.join("");
    let list = std::fs::read_to_string(SPLATS).unwrap_or_else(|error| panic!("{SPLATS}: {error}"));
    let expressions: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(!expressions.is_empty(), "{SPLATS}: nothing in it");
    let path = "/tmp/fuzz-log";
    std::fs::write(path, text).expect(path);
    let found = Command::new("grep")
        .args(["-E", &expressions.join("|"), path])
        .output()
        .expect("grep");
    let lines = String::from_utf8_lossy(&found.stdout);
    assert!(lines.is_empty(), "the kernel says:\n{lines}");
    // Nothing found, and no error.
    assert_eq!(found.status.code(), Some(1), "grep");
}
