// SPDX-License-Identifier: GPL-2.0-only

//! Runs the kselftests in virtual machines: has built what they take, boots a machine for each
//! session of the table, judges KTAP and kernel log, and sums up.
//!
//! `session.rs` says what a session is, `table.rs` has them all. `plan.rs` decides which are run,
//! `schedule.rs` in which order; `go.rs` runs them, each by `vm.rs`, and `judge.rs` says what came
//! of it.

mod built;
mod command;
mod compared;
mod go;
mod host;
mod judge;
mod junit;
mod ktap;
mod parts;
mod plan;
mod progress;
mod schedule;
mod session;
mod stop;
mod table;
mod vm;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{bail, Context, Result};
use clap::Parser;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::command::Setting;
use crate::go::Go;
use crate::judge::Counts;
use crate::plan::{Chosen, Plan};
use crate::schedule::Room;
use crate::session::Session;
use crate::stop::Stop;
use crate::table::SESSIONS;

/// Runs the kselftests of vfio_tph: on the host, and in virtual machines with emulated endpoints.
#[derive(Parser)]
#[command(name = "selftests/test", version)]
struct Arguments {
    /// Kernel to boot; sessions that are about a kernel of their own are left out on any but lean
    #[arg(long, value_name = "VARIANT", default_value = session::LEAN)]
    kernel: String,
    /// Where results go: KTAP of each program, junit.xml, logs of machines that failed
    #[arg(long, value_name = "DIR")]
    ktap: Option<PathBuf>,
    /// Machines at once; by default one for each core, as far as there is memory
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// Run all that is run N times
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Keep the logs of all machines, not only of those that failed
    #[arg(long)]
    keep: bool,
    /// Print the sessions and their programs, or the tests of those that are named, and end
    #[arg(long)]
    list: bool,
    /// Print the command that boots each machine, and end
    #[arg(long)]
    print: bool,
    /// Not the tests of the host
    #[arg(long)]
    no_host: bool,
    /// A vfio_tph.ko to test in place of the one that is built here: a mutant, an older one
    #[arg(long, value_name = "FILE", env = "TPH_MODULE")]
    module: Option<PathBuf>,
    /// The QEMU that boots a guest in the guest, in place of the build root's own
    #[arg(long, value_name = "FILE", env = "NESTED_QEMU")]
    nested_qemu: Option<PathBuf>,
    /// Build tree of a kernel of one's own, for the sessions that virtme-ng boots: vfio_tph.ko and
    /// the test modules are in build/own and build/selftests-modules-own, the programs are built
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kernel", "module"])]
    kdir: Option<PathBuf>,
    /// The root of kernel/packages.clients, for the session clients
    #[arg(long, value_name = "DIR")]
    clients_root: Option<PathBuf>,
    /// Life cycles of each device in the session soak
    #[arg(long, value_name = "N", env = "TPH_SOAK_CYCLES", default_value_t = 20)]
    soak_cycles: u64,
    /// Seconds of everything at once in that session; seconds of the session fuzz
    #[arg(long, value_name = "N", env = "TPH_SOAK_SECONDS", default_value_t = 20)]
    soak_seconds: u64,
    /// What the fuzzer is told in place of the seconds
    #[arg(long, value_name = "ARGS", allow_hyphen_values = true)]
    fuzz: Option<String>,
    /// Operations in the session parity_differential
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    operations: u64,
    /// Which ones; by default others each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Sessions, programs, words in the names of tests, SESSION/PROGRAM or SESSION/WORD; without
    /// any, everything
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// The checkout that this program was built from.
fn top() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::canonicalize(&here).with_context(|| format!("{} is gone", here.display()))
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    let top = top()?;
    let ktap = arguments.ktap.clone().unwrap_or(top.join("build/ktap"));
    let ktap = std::path::absolute(ktap)?;
    let setting = Setting {
        top,
        ktap,
        kdir: arguments.kdir.clone(),
        clients_root: arguments.clients_root.clone(),
        nested_qemu: arguments.nested_qemu.clone(),
        soak_cycles: arguments.soak_cycles,
        soak_seconds: arguments.soak_seconds,
    };
    if arguments.list && arguments.names.is_empty() {
        SESSIONS.iter().for_each(list);
        return Ok(ExitCode::SUCCESS);
    }
    built::known(&setting.top, &arguments.kernel)?;
    if let Some(module) = arguments.module.as_deref().filter(|one| !one.is_file()) {
        bail!("no such file: {}", module.display());
    }
    let plan = decide(&setting, &arguments)?;
    let client = plan.chosen.iter().find(|one| one.session.clients);
    if let (Some(_), None, false) = (client, &setting.clients_root, arguments.list) {
        bail!("selftests/clients makes what the session clients takes: run that");
    }
    let others = plan.chosen.iter().find(|one| !one.session.vng);
    if let (Some(kdir), Some(other)) = (&setting.kdir, others) {
        bail!(
            "virtme-ng does not boot {}, so {} is not for it",
            other.label,
            kdir.display()
        );
    }
    if arguments.list {
        return list_tests(&setting, &arguments.kernel, &plan);
    }
    let sessions: Vec<&Session> = plan.chosen.iter().map(|one| one.session).collect();
    let jobs = arguments.jobs.map(usize::from);
    let room = Room::ask(jobs)?;
    room.check(&sessions, jobs)?;
    let _lock = match arguments.print {
        true => None,
        false => Some(take_place(&setting.ktap)?),
    };
    let stop = Stop::listen()?;

    let mut counts = Counts::default();
    let mut failures = Vec::new();
    if arguments.names.is_empty() && !arguments.no_host && !arguments.print {
        let mut reports = vec![host::tests(&setting.top, &arguments.kernel)?];
        if !built::has_compilers(&setting.top, &arguments.kernel) {
            reports.push(host::module_for_bare(&setting.top));
        }
        for report in reports {
            counts += report.counts;
            failures.extend(report.failures);
        }
    }
    let tested = arguments.module.as_deref();
    let built = built::all(&setting, &plan.chosen, &arguments.kernel, tested)?;
    if arguments.print {
        for one in &plan.chosen {
            let words = command::arguments(one, &built[&one.kernel], &setting);
            println!(
                "selftests/run {}",
                words
                    .iter()
                    .map(|w| quoted(w))
                    .collect::<Vec<_>>()
                    .join(" ")
            );
        }
        return Ok(ExitCode::SUCCESS);
    }
    let go = Go {
        setting: &setting,
        built: &built,
        room,
        keep: arguments.keep,
        stop: &stop,
    };
    let results = go.run(&plan.chosen)?;
    if let Some(signal) = stop.signal() {
        eprintln!("error: ended by signal {signal}");
        return Ok(ExitCode::from(128 + signal as u8));
    }
    counts += results.counts;
    plan.left_out
        .iter()
        .chain(&results.notes)
        .chain(&failures)
        .chain(&results.failures)
        .for_each(|line| println!("{line}"));
    println!("{}", counts.line());
    Ok(match counts.good() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Which sessions are run. The programs know the names of their tests, and are asked only if they
/// have to be.
fn decide(setting: &Setting, arguments: &Arguments) -> Result<Plan> {
    let built = std::cell::OnceCell::new();
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
    };
    let fuzz = match &arguments.fuzz {
        Some(fuzz) => fuzz.clone(),
        None => format!("--seconds={}", arguments.soak_seconds),
    };
    let said = [
        ("{operations}", arguments.operations.to_string()),
        ("{seed}", seed.to_string()),
        ("{fuzz}", fuzz),
    ];
    let tests_of = |program: &plan::Program| {
        if built.get().is_none() {
            built::programs(setting, &arguments.kernel)?;
            let _ = built.set(());
        }
        let mut program = program.clone();
        program.fill_in(&said);
        built::tests_of(&setting.top, &program)
    };
    let mut plan = plan::plan(SESSIONS, &arguments.kernel, &arguments.names, &tests_of)?;
    let programs = plan.chosen.iter_mut().flat_map(|one| &mut one.programs);
    programs.for_each(|program| program.fill_in(&said));
    let once = plan.chosen.clone();
    for number in 2..=arguments.repeat {
        plan.chosen.extend(once.iter().map(|one| Chosen {
            label: format!("{}.{number}", one.label),
            ..one.clone()
        }));
    }
    Ok(plan)
}

/// One session of the table.
fn list(session: &Session) {
    println!("{:<14} {}", session.name, session.about);
    println!("{:<14}   {}", "", session.programs.join(" "));
}

/// The tests that would be run.
fn list_tests(setting: &Setting, kernel: &str, plan: &Plan) -> Result<ExitCode> {
    built::programs(setting, kernel)?;
    for one in plan
        .chosen
        .iter()
        .filter(|one| one.session.must_fail.is_empty())
    {
        for program in &one.programs {
            if !one.session.has_tests() {
                println!("{}/{}", one.session.name, program.name);
                continue;
            }
            for test in built::tests_of(&setting.top, program)? {
                println!("{}/{} {test}", one.session.name, program.name);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the place of the results, for this run alone: two that write to one place would judge
/// each other's. What an earlier run left there goes.
fn take_place(ktap: &Path) -> Result<Flock<File>> {
    let cannot = || format!("cannot write {}", ktap.display());
    fs::create_dir_all(ktap).with_context(cannot)?;
    let mut path = ktap.as_os_str().to_owned();
    path.push(".lock");
    let file = File::create(&path).with_context(cannot)?;
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => {
            bail!(
                "another one writes to {}; --ktap names another place",
                ktap.display()
            )
        }
        Err((_, why)) => return Err(why).with_context(cannot),
    };
    for entry in fs::read_dir(ktap).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("ktap" | "err" | "xml") => fs::remove_file(&path).with_context(cannot)?,
            Some("logs") => fs::remove_dir_all(&path).with_context(cannot)?,
            _ => (),
        }
    }
    Ok(lock)
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
