// SPDX-License-Identifier: GPL-2.0-only

//! What depends on who calls: below policy 2 an ST entry may have the tag of a CPU that the caller
//! may run on, and of no other; and what the kernel needs for a call is charged to who makes it.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{clone, sched_setaffinity, CloneFlags, CpuSet};
use nix::sys::wait::waitpid;
use nix::unistd::{gettid, Pid};
use tph_selftests::bench::{Bench, Want};
use tph_selftests::cgroup::{self, Cgroup};
use tph_selftests::crowd::{self, Call, Crowd};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::monitor::wait_until;
use tph_selftests::pci::Bdf;
use tph_selftests::policy::{self, Policy};
use tph_selftests::process::{arguments, Process};
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{self, cpu, Device, OpenBy, Source, StRequest};
use tph_selftests::{assert_errno, cpus, harness, kernel, kstate, skip, tests, Errno};
use tph_tests::{needs_known_firmware, st, CPU, OTHER_CPU};

/// A CPU of somebody else's: not one of those that callers are confined to.
const FOREIGN: u32 = 3;
/// Those, as a cpuset has them.
const OWN: &str = "0-1";
/// A thread that was told to end has ended by then.
const SOON: Duration = Duration::from_secs(60);
/// Makes this program the process of [`r72_exited_leader`].
const EXITED_LEADER: &str = "--exited-leader";

/// Leaves the test out where there are not enough CPUs.
fn needs_cpus() {
    needs_known_firmware();
    if cpus::present() <= FOREIGN {
        skip!("needs CPU {FOREIGN}");
    }
}

fn only(number: u32) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(number as usize).expect("a CPU's number");
    set
}

/// The threads of this process.
fn threads() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").expect("/proc/self/task");
    tasks
        .flatten()
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

/// Whether a thread of this process may run on a CPU, as /proc has it.
fn may_run_on(thread: Pid, number: u32) -> bool {
    let path = format!("/proc/self/task/{thread}/status");
    let status = fs::read_to_string(&path).unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed:"))
        .and_then(|mask| mask.trim().rsplit(',').next())
        .and_then(|low| u32::from_str_radix(low, 16).ok());
    mask.is_some_and(|mask| mask & (1 << number) != 0)
}

/// Threads of this process on one CPU, until this is dropped: then all are on any.
struct Pinned;

impl Pinned {
    fn to(number: u32) -> Self {
        for thread in threads() {
            let pinned = sched_setaffinity(thread, &only(number));
            // Who waits for a thread does not wait for the kernel to have done with it.
            assert!(
                matches!(pinned, Ok(()) | Err(Errno::ESRCH)),
                "sched_setaffinity of {thread}: {pinned:?}"
            );
        }
        Self
    }

    /// This thread alone.
    fn this(number: u32) -> Self {
        sched_setaffinity(gettid(), &only(number)).expect("sched_setaffinity");
        Self
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let mut all = CpuSet::new();
        for number in 0..cpus::present() {
            all.set(number as usize).expect("a CPU's number");
        }
        for thread in threads() {
            // It may have ended.
            let _ = sched_setaffinity(thread, &all);
        }
    }
}

/// This process in a cpuset of [`OWN`], until this is dropped.
struct Confined(Cgroup);

impl Confined {
    fn new() -> Self {
        let group = own_cpuset();
        group.enter();
        // A thread that ends stays where it was, and is listed until it has.
        let entered = Instant::now();
        wait_until(|| {
            let mut outside = threads();
            outside.retain(|&thread| may_run_on(thread, FOREIGN));
            assert!(entered.elapsed() < SOON, "not in the cpuset: {outside:?}");
            outside.is_empty()
        });
        Self(group)
    }
}

/// A cpuset of [`OWN`], nobody in it.
fn own_cpuset() -> Cgroup {
    let group = Cgroup::new("confined", "cpuset");
    group.set("cpuset.cpus", OWN);
    group
}

/// A device of which firmware has not been asked anything, enabled.
fn fresh(bench: &mut Bench, policy: Policy) -> (Rc<Endpoint>, Device) {
    needs_cpus();
    let endpoint = bench.pick(&Want::TABLE);
    // Another load has another cache.
    module::remove(VFIO_TPH);
    policy::bind(&endpoint, policy);
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Extended);
    (endpoint, device)
}

/// Fails the test unless the tag of [`FOREIGN`] is refused wherever it stands among others, with no
/// question to firmware and nothing written.
#[track_caller]
fn assert_foreign(endpoint: &Endpoint, device: &Device, what: &str) {
    // What is to be had is asked for first: nothing is left to be asked of firmware.
    let own = [cpu(CPU), cpu(OTHER_CPU), cpu(CPU), cpu(OTHER_CPU)];
    device.program(0, &own).expect("TPH_ST of own CPUs");
    let (before, calls) = (endpoint.registers(), kstate::dsm_evaluations());
    for position in 0..own.len() {
        for extended in [false, true] {
            let mut sources = own;
            sources[position] = cpu(FOREIGN);
            let mut request = StRequest::new(0, &sources).extended_if(extended);
            assert_errno!(device.tph_st(&mut request), EPERM, "{what}");
            assert_eq!(request.fault, position as u32, "{what}");
        }
    }
    assert_eq!(
        kstate::dsm_evaluations(),
        calls,
        "{what}: firmware was asked"
    );
    assert_eq!(endpoint.registers(), before, "{what}");
}

/// Programs create their threads and pin them before they ask for tags.
fn r72_pinned_thread_names_a_siblings_cpu(bench: &mut Bench) {
    let (endpoint, device) = fresh(bench, Policy::IvSt);
    let _pinned = Pinned::to(CPU);
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    thread::scope(|scope| {
        scope.spawn(|| {
            sched_setaffinity(gettid(), &only(OTHER_CPU)).expect("sched_setaffinity");
            ready.wait();
            done.wait();
        });
        ready.wait();
        let programmed = device.program(0, &[cpu(OTHER_CPU), cpu(CPU)]);
        done.wait();
        assert_eq!(programmed, Ok(()));
    });
    assert_eq!(endpoint.entries()[..2], [st(OTHER_CPU), st(CPU)]);
}

/// The bound is the cpuset, if the kernel tells of it: any thread may move there. Another kernel
/// has nothing but the threads' own CPUs to go by.
fn r72_cpu_of_no_thread(bench: &mut Bench) {
    let (endpoint, device) = fresh(bench, Policy::IvSt);
    let _pinned = Pinned::to(CPU);
    if kernel::is_patched() {
        device
            .program(0, &[cpu(FOREIGN)])
            .expect("TPH_ST of a CPU of the cpuset");
        assert_eq!(endpoint.entries()[0], st(FOREIGN));
        return;
    }
    let calls = kstate::dsm_evaluations();
    for number in [OTHER_CPU, FOREIGN] {
        assert_errno!(device.program(0, &[cpu(number)]), EPERM, "CPU {number}");
    }
    assert_eq!(kstate::dsm_evaluations(), calls, "firmware was asked");
    endpoint.assert_tags(&[], "refused");
    device.program(0, &[cpu(CPU)]).expect("TPH_ST of its CPU");
}

fn r72_process_in_a_cpuset(bench: &mut Bench) {
    let (endpoint, device) = fresh(bench, Policy::IvSt);
    let confined = Confined::new();
    assert_foreign(&endpoint, &device, "in a cpuset");
    // That it is not there is found first.
    assert_errno!(device.program(0, &[cpu(cpus::possible())]), EINVAL);
    assert_errno!(device.program(0, &[cpu(u32::MAX)]), EINVAL);
    // Nor does it help to pin a thread inside it, and it takes nothing away: others are not pinned.
    let pinned = Pinned::this(OTHER_CPU);
    assert_foreign_in_any_order(&device);
    drop(pinned);
    // One that is widened is wider at once, and the other way round.
    for (set, expected) in [("0-3", Ok(())), (OWN, Err(Errno::EPERM))] {
        confined.0.set("cpuset.cpus", set);
        assert_eq!(device.program(0, &[cpu(FOREIGN)]), expected, "{set}");
    }
}

/// The same call asks for a CPU of its thread, of another thread, and of nobody.
fn assert_foreign_in_any_order(device: &Device) {
    for numbers in [
        [CPU, OTHER_CPU, FOREIGN],
        [OTHER_CPU, FOREIGN, CPU],
        [FOREIGN, CPU, OTHER_CPU],
    ] {
        let mut request = StRequest::new(0, &numbers.map(cpu));
        assert_errno!(device.tph_st(&mut request), EPERM, "{numbers:?}");
        let place = numbers.iter().position(|&number| number == FOREIGN);
        assert_eq!(Some(request.fault as usize), place, "{numbers:?}");
    }
}

/// From policy 2 on a user may have any tag that firmware has.
fn r72_policy_2_takes_any_cpu(bench: &mut Bench) {
    bench.each([Policy::DsSt, Policy::Literal], |bench, policy| {
        let (endpoint, device) = fresh(bench, policy);
        let confined = Confined::new();
        let sources: Vec<Source> = [CPU, OTHER_CPU, FOREIGN].map(cpu).into();
        device.program(0, &sources).expect("TPH_ST of any CPU");
        let tags = [CPU, OTHER_CPU, FOREIGN].map(st);
        assert_eq!(endpoint.entries()[..3], tags, "{policy:?}");
        drop(confined);
    });
}

/// An io_uring's thread, which is one of the process's and may run anywhere.
fn sqpoll_ring() -> OwnedFd {
    const SQPOLL: u32 = 1 << 1;
    const ENTRIES: u32 = 4;
    /// Milliseconds until the thread sleeps: it stays.
    const IDLE: u32 = 1;

    // struct io_uring_params: entries of the two rings, flags, CPU, milliseconds.
    let mut params = [0u32; 30];
    params[2] = SQPOLL;
    params[4] = IDLE;
    // SAFETY: as many bytes as the kernel knows of, and it writes no more.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
    if fd < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::ENOSYS) {
            skip!("the kernel has no io_uring");
        }
        panic!("io_uring_setup: {error}");
    }
    // SAFETY: it was just opened, and nobody else has it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn r72_thread_of_an_io_uring(bench: &mut Bench) {
    let (endpoint, device) = fresh(bench, Policy::IvSt);
    let _confined = Confined::new();
    let _ring = sqpoll_ring();
    wait_until(|| threads().iter().any(|&thread| may_run_on(thread, FOREIGN)));
    assert_foreign(&endpoint, &device, "beside a thread of an io_uring");
}

fn r72_exited_leader(bench: &mut Bench) {
    needs_cpus();
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    let group = own_cpuset();
    let path = group.path().to_str().expect("UTF-8");
    Process::again(EXITED_LEADER, [path, &endpoint.bdf.to_string()]).wait();
}

/// What the thread does whose process's first thread has ended.
fn without_leader(group: &Path, bdf: &Bdf) {
    let leader = Pid::this();
    let ended = || {
        let path = format!("/proc/self/task/{leader}/stat");
        let stat = fs::read_to_string(path).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
    };
    wait_until(ended);
    cgroup::enter(group);
    assert!(may_run_on(leader, FOREIGN), "the leader's CPUs");
    assert!(!may_run_on(gettid(), FOREIGN), "this thread's CPUs");
    let device = vfio::open(bdf, OpenBy::Cdev).expect("open");
    device.enable(StMode::InterruptVector, Requester::Standard);
    device
        .program(0, &[cpu(OTHER_CPU), cpu(CPU)])
        .expect("TPH_ST of own CPUs");
    assert_foreign_in_any_order(&device);
}

/// What the process of [`r72_exited_leader`] does, if this is it.
fn exited_leader() -> Option<ExitCode> {
    let mut arguments = arguments(EXITED_LEADER)?;
    let group = PathBuf::from(arguments.next()?);
    let bdf = Bdf::unchecked(&arguments.next()?);
    thread::spawn(move || {
        let ended = thread::spawn(move || without_leader(&group, &bdf)).join();
        std::process::exit(i32::from(ended.is_err()));
    });
    // SAFETY: ends this thread alone, which owns nothing that others use.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    None
}

/// Runs `child` as a process that shares this one's memory, while this thread waits for it to end.
fn vfork(mut child: impl FnMut()) {
    let mut stack = vec![0; 256 * 1024];
    let body = Box::new(|| {
        child();
        0
    });
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: this thread, whose thread-local memory the child has, stands still meanwhile, and the
    // stack is large enough.
    let pid = unsafe { clone(body, &mut stack, flags, Some(libc::SIGCHLD)) };
    waitpid(pid.expect("clone"), None).expect("waitpid");
}

/// A child in a cpuset has nothing of its parent, which is in none.
fn r72_vforked_child(bench: &mut Bench) {
    let (endpoint, device) = fresh(bench, Policy::IvSt);
    device.program(0, &[cpu(CPU)]).expect("TPH_ST of its CPU");
    let group = own_cpuset();
    let calls = kstate::dsm_evaluations();
    let mut results = [Ok(()); 2];
    vfork(|| {
        group.enter();
        results = [CPU, FOREIGN].map(|number| device.program(0, &[cpu(number)]));
    });
    assert_eq!(results, [Ok(()), Err(Errno::EPERM)]);
    assert_eq!(kstate::dsm_evaluations(), calls, "firmware was asked");
    assert_eq!(endpoint.entries()[0], st(CPU));
}

/// Nor has a parent in a cpuset anything of its child.
fn r72_parent_of_a_vforked_child(bench: &mut Bench) {
    let (_endpoint, device) = fresh(bench, Policy::IvSt);
    let _confined = Confined::new();
    let (ready, done) = (Barrier::new(2), Barrier::new(2));
    let result = thread::scope(|scope| {
        let other = scope.spawn(|| {
            ready.wait();
            let result = device.program(0, &[cpu(FOREIGN)]);
            done.wait();
            result
        });
        vfork(|| {
            cgroup::leave();
            ready.wait();
            done.wait();
        });
        other.join().expect("a thread")
    });
    assert_errno!(result, EPERM);
}

/// How many calls go on at once.
const CALLS: usize = 64;

/// What is charged to a control group, less what is charged ahead of time, and what it can do
/// without. The former is kept by CPU, up to 64 pages, which is more than many calls take: it goes
/// back when the group is over its limit, at once where this thread is on the CPU of all that are
/// in the group. The latter is written out meanwhile, some of it only when it is asked for again.
fn charged(group: &Cgroup) -> usize {
    let mut last = None;
    loop {
        group.set("memory.high", "0");
        group.set("memory.high", "max");
        let now = group.get("memory.current").parse().expect("a number");
        if last == Some(now) {
            return now;
        }
        last = Some(now);
    }
}

/// What one call of `count` sources takes, many of which go on at once.
fn assert_charged(bdf: &Bdf, call: Call, count: u16, bytes: usize) {
    let group = Cgroup::new("charged", "memory");
    let _pinned = Pinned::this(crowd::CPU);
    let mut crowd = Crowd::new(&group, bdf, call, count, CALLS);
    let before = charged(&group);
    crowd.call(CALLS);
    let grown = charged(&group).saturating_sub(before);
    crowd.go_on();
    let all = CALLS * bytes;
    println!("# {CALLS} {call:?} of {count}: {grown} bytes were charged, which take {all}");
    assert!(grown >= all / 2, "{grown} bytes were charged of {all}");
}

/// Four thousand sources and as many results: 64 KiB.
fn r82_lookups_are_charged_to_the_caller(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::TABLE);
    assert_charged(&endpoint.bdf, Call::Resolve, 4096, 64 * 1024);
}

/// A tag for each vector.
fn r82_batches_are_charged_to_the_caller(bench: &mut Bench) {
    let endpoint = bench.pick_with("512 ST entries in MSI-X", |traits| {
        traits.in_msix && traits.vectors >= 512
    });
    policy::bind(&endpoint, Policy::IvSt);
    let vectors = endpoint.entries().len();
    assert_charged(&endpoint.bdf, Call::Program, vectors as u16, 2 * vectors);
}

fn main() -> ExitCode {
    if let Some(code) = exited_leader() {
        return code;
    }
    harness::run(tests![
        r72_pinned_thread_names_a_siblings_cpu,
        r72_cpu_of_no_thread,
        r72_process_in_a_cpuset,
        r72_policy_2_takes_any_cpu,
        r72_thread_of_an_io_uring,
        r72_exited_leader,
        r72_vforked_child,
        r72_parent_of_a_vforked_child,
        r82_lookups_are_charged_to_the_caller,
        r82_batches_are_charged_to_the_caller,
    ])
}
