// SPDX-License-Identifier: GPL-2.0-only

//! Runs a program's tests and reports them as KTAP, version 1.
//!
//! A test is a function; a panic fails it, [`skip!`](crate::skip) leaves it out with a reason, and
//! [`pass`] ends it where there is nothing more to see.
//! After each test the [`Bench`] it was given makes the checks that every test ends with.

use std::any::Any;
use std::cell::RefCell;
use std::env;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use clap::{Args, Parser};

use crate::bench::Bench;
use crate::child;
use crate::crowd;
use crate::foreign;
use crate::hold;
use crate::kmsg;
use crate::pci::Bdf;

/// One test.
pub struct Test {
    /// Its name, which starts with the requirement that it proves.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&mut Bench),
}

/// The table of a program's tests: `tests![r1_one_thing, r2_another]`.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        &[$($crate::harness::Test { name: stringify!($test), run: $test }),*]
    };
}

/// Leaves the running test out; the arguments are the reason, as for `format!`.
#[macro_export]
macro_rules! skip {
    ($($why:tt)*) => {
        ::std::panic::panic_any($crate::harness::Skip(format!($($why)*)))
    };
}

/// Why a test was left out.
pub struct Skip(pub String);

/// A test that has ended early, and has passed.
struct Passed;

/// Ends the running test: what there is to see on this kernel it has seen.
pub fn pass() -> ! {
    panic::panic_any(Passed)
}

#[derive(Parser)]
#[command(about = "A kselftest of vfio_tph; prints KTAP.")]
struct Arguments<A: Args> {
    /// Device to test, repeatable; by default the emulated endpoints of the test VM
    #[arg(long = "device", value_name = "BDF")]
    devices: Vec<Bdf>,
    /// Only print the names of the tests
    #[arg(long)]
    list: bool,
    /// Longest time for one test, in seconds: one that hangs must not take the report of all
    /// others with it
    #[arg(long, default_value_t = 120)]
    deadline: u64,
    #[command(flatten)]
    own: A,
    /// Run the tests whose name contains one of these words
    #[arg(value_name = "WORD")]
    words: Vec<String>,
}

/// No arguments but those that every program takes.
#[derive(Args)]
struct NoArguments {}

thread_local! {
    static MESSAGE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps where and why this thread, which runs the tests, panics. Others say it at once: who joins
/// them only learns that they panicked.
fn catch_messages() {
    let tests = thread::current().id();
    panic::set_hook(Box::new(move |info| {
        let text = payload_text(info.payload());
        let place = info.location().map_or(String::new(), |l| l.to_string());
        let text = format!("{place}: {text}");
        if thread::current().id() == tests {
            MESSAGE.with_borrow_mut(|message| *message = text);
        } else {
            println!("# {}", text.replace('\n', "\n# "));
        }
    }));
}

fn payload_text(payload: &dyn Any) -> String {
    if let Some(Skip(why)) = payload.downcast_ref::<Skip>() {
        why.clone()
    } else if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic with a payload that is no text".to_owned()
    }
}

enum Outcome {
    Passed,
    Skipped(String),
    Failed(Vec<String>),
}

/// Runs `body`; what a panic in it says, or that it asked to be left out.
fn guarded(body: impl FnOnce()) -> Result<(), Outcome> {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Err(payload) if payload.is::<Skip>() => Err(Outcome::Skipped(payload_text(&*payload))),
        Err(payload) if !payload.is::<Passed>() => {
            Err(Outcome::Failed(vec![MESSAGE.with_borrow(String::clone)]))
        }
        _ => Ok(()),
    }
}

fn run_one(test: &Test, devices: &[Bdf]) -> Outcome {
    let mut bench = Bench::new(devices);
    let outcome = guarded(|| (test.run)(&mut bench));
    let after = guarded(|| bench.check());
    let put_back = guarded(|| bench.put_back());

    let mut failures = Vec::new();
    let mut skipped = None;
    for outcome in [outcome, after, put_back] {
        match outcome {
            Err(Outcome::Failed(mut why)) => failures.append(&mut why),
            Err(Outcome::Skipped(why)) => skipped = Some(why),
            _ => (),
        }
    }
    match (failures.is_empty(), skipped) {
        (false, _) => Outcome::Failed(failures),
        (true, Some(why)) => Outcome::Skipped(why),
        (true, None) => Outcome::Passed,
    }
}

/// Watches over something until this is dropped: a thread, and what tells it to end.
pub struct Watchdog(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Drop for Watchdog {
    /// Waits for the thread: there are tests that look at all threads of their process.
    fn drop(&mut self) {
        if let Some((done, thread)) = self.0.take() {
            drop(done);
            thread.join().expect("the watchdog");
        }
    }
}

/// Prints where in the kernel the threads of this process are.
fn print_stacks() {
    let tasks = fs::read_dir("/proc/self/task");
    for task in tasks.into_iter().flatten().flatten() {
        let stack = fs::read_to_string(task.path().join("stack")).unwrap_or_default();
        println!("# thread {}:", task.file_name().to_string_lossy());
        stack.lines().for_each(|line| println!("#   {line}"));
    }
}

/// Ends the process, and says which test it was and where it is, when `name` takes too long.
pub fn watch(name: &'static str, deadline: Duration) -> Watchdog {
    let (done, wait) = mpsc::channel();
    let thread = thread::spawn(move || {
        if wait.recv_timeout(deadline) == Err(mpsc::RecvTimeoutError::Timeout) {
            println!("Bail out! {name} has not ended after {deadline:?}");
            print_stacks();
            // SAFETY: takes no memory; exit handlers could wait for the thread that hangs.
            unsafe { libc::_exit(1) }
        }
    });
    Watchdog(Some((done, thread)))
}

/// Name of this program.
fn program() -> String {
    env::args()
        .next()
        .and_then(|path| Some(Path::new(&path).file_name()?.to_str()?.to_owned()))
        .unwrap_or_default()
}

/// A test program's `main`.
pub fn run(tests: &[Test]) -> ExitCode {
    run_with(tests, |NoArguments {}| ())
}

/// The same for a program with arguments of its own: `take` is given them before the first test.
pub fn run_with<A: Args>(tests: &[Test], take: impl FnOnce(A)) -> ExitCode {
    if let Some(code) = child::run_if_child()
        .or_else(foreign::run_if_child)
        .or_else(crowd::run_if_child)
        .or_else(hold::run_if_child)
    {
        return code;
    }
    let arguments = Arguments::<A>::parse();
    take(arguments.own);
    let deadline = Duration::from_secs(arguments.deadline);
    let chosen: Vec<&Test> = tests
        .iter()
        .filter(|test| {
            arguments.words.is_empty()
                || arguments.words.iter().any(|word| test.name.contains(word))
        })
        .collect();
    if arguments.list {
        chosen.iter().for_each(|test| println!("{}", test.name));
        return ExitCode::SUCCESS;
    }

    println!("KTAP version 1\n1..{}", chosen.len());
    catch_messages();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for (number, test) in (1..).zip(&chosen) {
        // So that what the kernel has to say can be told apart.
        kmsg::say(&format!("<6>{}: {}\n", program(), test.name));
        let watchdog = watch(test.name, deadline);
        let outcome = run_one(test, &arguments.devices);
        drop(watchdog);
        match outcome {
            Outcome::Passed => {
                passed += 1;
                println!("ok {number} {}", test.name);
            }
            Outcome::Skipped(why) => {
                skipped += 1;
                println!("ok {number} {} # SKIP {why}", test.name);
            }
            Outcome::Failed(why) => {
                failed += 1;
                for line in why.iter().flat_map(|text| text.lines()) {
                    println!("# {}: {line}", test.name);
                }
                println!("not ok {number} {}", test.name);
            }
        }
    }
    println!("# Totals: pass:{passed} fail:{failed} xfail:0 xpass:0 skip:{skipped} error:0");
    if failed > 0 || passed + skipped == 0 {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
