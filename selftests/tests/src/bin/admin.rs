// SPDX-License-Identifier: GPL-2.0-only

//! The command line for administrators, `user/tphctl`, on real devices and the real module.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::rc::Rc;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::firmware::CPUS;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::msix::Traits;
use tph_selftests::pci;
use tph_selftests::policy::{self, Policy};
use tph_selftests::process::Process;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::cpu;
use tph_selftests::{harness, kstate, root_port, skip, tests};
use tph_tests::{bound_anew, needs_known_firmware, needs_tph, st, xst, CPU, OTHER_CPU};

const NOBODY: u32 = 65534;

/// The program under test.
fn program() -> PathBuf {
    env::var_os("TPH_TPHCTL").map_or_else(|| "/bin/tphctl".into(), PathBuf::from)
}

fn tphctl(words: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(words);
    command
}

/// What a run of it came to.
#[derive(Debug)]
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

fn run(command: &mut Command) -> Outcome {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program().display()));
    Outcome {
        status: output.status.code().expect("an exit status"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

#[track_caller]
fn ok(words: &[&str]) -> String {
    let outcome = run(&mut tphctl(words));
    assert_eq!(
        (outcome.status, outcome.stderr.as_str()),
        (0, ""),
        "{words:?}: {outcome:?}"
    );
    outcome.stdout
}

#[track_caller]
fn json(words: &[&str]) -> Value {
    let text = ok(&[words, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Fails the test unless it ends with `status` and one line, which says why.
#[track_caller]
fn refused(words: &[&str], status: i32, why: &str) {
    refuses(&mut tphctl(words), status, why);
}

/// The same, run by whomever.
#[track_caller]
fn refuses(command: &mut Command, status: i32, why: &str) {
    let outcome = run(command);
    assert_eq!(outcome.status, status, "{command:?}: {outcome:?}");
    assert_eq!(
        outcome.stderr.lines().count(),
        1,
        "{command:?}: {outcome:?}"
    );
    assert!(outcome.stderr.contains(why), "{why}: {outcome:?}");
    assert_eq!(outcome.stdout, "", "{command:?}");
}

/// A device that vfio_tph has anew, with the policy of the gate.
fn bound(bench: &mut Bench, gate: Gate) -> (Rc<Endpoint>, String) {
    let endpoint = bound_anew(bench, gate, &Want::TABLE);
    let address = endpoint.bdf.to_string();
    (endpoint, address)
}

fn with_table_in_msix(bench: &mut Bench) -> Rc<Endpoint> {
    bench.pick_where("a table in MSI-X, alone in its group", |bdf| {
        !bdf.shares_group() && Traits::of(bdf).is_some_and(|traits| traits.in_msix)
    })
}

fn lists_the_devices(bench: &mut Bench) {
    needs_tph();
    let (_, address) = bound(bench, Gate::Safe);
    let rows = json(&["list"]);
    let rows = rows.as_array().expect("an array");
    let row = |address: &str| rows.iter().find(|row| row["address"] == address);
    let found = row(&address).expect("the device");
    for (field, value) in [
        ("driver", Value::from("vfio_tph")),
        ("table", "capability".into()),
        ("entries", 64.into()),
        ("extended", true.into()),
        ("root_port_completer", "extended".into()),
        ("policy", "iv_st".into()),
        ("usable", true.into()),
        ("reason", Value::Null),
    ] {
        assert_eq!(found[field], value, "{field} in {found}");
    }
    assert_eq!(found["modes"], serde_json::json!(["NS", "IV", "DS"]));
    for endpoint in bench.all() {
        let has_tph = !Want::NO_TPH.fits(&endpoint.bdf);
        assert_eq!(
            row(&endpoint.bdf.to_string()).is_some_and(|row| row["requester"] == true),
            has_tph,
            "{}",
            endpoint.bdf
        );
    }
    let text = ok(&["list"]);
    assert!(
        text.lines().all(|line| !line.contains('\x1b')),
        "no terminal: {text:?}"
    );
    assert!(text.contains(&address), "{text}");
}

/// Without the module, and in the order of the path.
fn why_says_the_first_reason(bench: &mut Bench) {
    needs_tph();
    let (endpoint, address) = bound(bench, Gate::Safe);
    let answer = json(&["why", &address]);
    assert_eq!(answer["usable"], true, "{answer}");
    let lines = answer["driver"].as_array().expect("lines of the driver");
    assert!(lines.contains(&"usable yes".into()), "{answer}");

    endpoint.bdf.unbind();
    let reason = |words: &[&str]| {
        let outcome = run(tphctl(words).arg("--json"));
        assert_eq!(outcome.status, 6, "{outcome:?}");
        let answer: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        answer["reason"].as_str().expect("a reason").to_owned()
    };
    assert_eq!(reason(&["why", &address]), "no driver has the device");
    endpoint.set_root_port(root_port::NONE);
    let port = endpoint.bdf.root_port().expect("a root port");
    assert_eq!(
        reason(&["why", &address]),
        format!("root port {port} completes no TPH requests (field 00b)")
    );
    let plain = bench.pick(&Want::NO_TPH).bdf.to_string();
    assert_eq!(
        reason(&["why", &plain]),
        "the device has no TPH Requester capability"
    );
    // For people: a step a line, and what to do.
    let outcome = run(&mut tphctl(&["why", &address]));
    assert!(outcome.stdout.contains("NO root port"), "{outcome:?}");
    assert!(outcome.stdout.contains("-> "), "{outcome:?}");
}

fn binds_and_gives_back(bench: &mut Bench) {
    let (endpoint, address) = bound(bench, Gate::Safe);
    let bdf = &endpoint.bdf;
    for former in [Some("vfio-pci"), None] {
        bdf.unbind();
        bdf.clear_override().expect("driver_override");
        if let Some(former) = former {
            bdf.bind(former).expect("the former driver");
        }
        let had = fs::read_to_string(bdf.path("driver_override")).expect("driver_override");
        let answer = json(&["bind", &address, "--policy", "no_st"]);
        assert_eq!(answer["driver"], VFIO_TPH);
        assert_eq!(answer["former_driver"], Value::from(former));
        assert_eq!(policy::shown(bdf), "no_st\n");
        assert_eq!(ok(&["policy", &address]), "no_st\n");
        assert_eq!(ok(&["policy", &address, "iv_st"]), "iv_st\n");

        ok(&["unbind", &address]);
        assert_eq!(bdf.driver().as_deref(), former);
        let has = fs::read_to_string(bdf.path("driver_override")).expect("driver_override");
        assert_eq!(has, had);
    }
}

/// What fails leaves everything as it was.
fn binds_all_or_nothing(bench: &mut Bench) {
    let (endpoint, address) = bound(bench, Gate::Safe);
    let bdf = &endpoint.bdf;
    bdf.bind("vfio-pci").expect("vfio-pci");
    refused(
        &["bind", &address, "--policy", "ds_st", "--persist"],
        4,
        "all is as it was: policy ds_st lets users see tags: load vfio_tph with enable_unsafe_tph=Y",
    );
    assert_eq!(bdf.driver().as_deref(), Some("vfio-pci"));
    assert!(!rule(&address).exists());

    // A rule that cannot be written: its directory is a file.
    let etc = Path::new("/etc/udev");
    fs::remove_dir_all(etc).unwrap_or_default();
    fs::write(etc, "").expect("/etc/udev");
    let outcome = run(&mut tphctl(&["bind", &address, "--persist"]));
    fs::remove_file(etc).expect("/etc/udev");
    assert_eq!(outcome.status, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("all is as it was"), "{outcome:?}");
    assert_eq!(bdf.driver().as_deref(), Some("vfio-pci"));

    // The same of a device that has vfio_tph: it keeps its policy.
    bench::bind(&endpoint, Gate::Safe);
    refused(
        &["bind", &address, "-p", "literal"],
        4,
        "enable_unsafe_tph=Y",
    );
    assert_eq!(policy::shown(bdf), "iv_st\n");
    assert_eq!(bdf.driver().as_deref(), Some(VFIO_TPH));
}

fn rule(address: &str) -> PathBuf {
    PathBuf::from(format!("/etc/udev/rules.d/70-tphctl-{address}.rules"))
}

fn persists(bench: &mut Bench) {
    let (_, address) = bound(bench, Gate::Safe);
    ok(&["bind", &address, "--policy", "no_st", "--persist"]);
    let text = fs::read_to_string(rule(&address)).expect("a rule");
    assert!(text.contains(&format!("KERNEL==\"{address}\"")), "{text}");
    assert!(text.contains("ATTR{tph_policy}=\"no_st\""), "{text}");
    ok(&["unbind", &address]);
    assert!(rule(&address).exists(), "unbind is until the next boot");
    ok(&["bind", &address]);
    ok(&["unbind", &address, "--persist"]);
    assert!(!rule(&address).exists());
}

fn leaves_open_devices_alone(bench: &mut Bench) {
    let (endpoint, address) = bound(bench, Gate::Safe);
    let device = endpoint.open();
    for words in [
        &["unbind", &address][..],
        &["policy", &address, "no_st"],
        &["bind", &address, "--policy", "no_st"],
    ] {
        refused(words, 7, "somebody has the device open");
    }
    refused(&["hold", &address, "-e", "0=cpu0"], 7, "somebody else");
    assert_eq!(endpoint.bdf.driver().as_deref(), Some(VFIO_TPH));
    assert_eq!(policy::shown(&endpoint.bdf), "iv_st\n");
    drop(device);
    ok(&["policy", &address, "no_st"]);
}

fn maps_cpus_to_tags(bench: &mut Bench) {
    needs_tph();
    needs_known_firmware();
    let (endpoint, address) = bound(bench, Gate::Unsafe);
    for extended in [false, true] {
        let words: &[&str] = match extended {
            false => &["map", &address],
            true => &["map", &address, "--extended"],
        };
        let map = json(words);
        let cpus = map["cpus"].as_array().expect("CPUs");
        assert_eq!(cpus.len(), 4, "{map}");
        let mut without = 0;
        for cpu in cpus {
            let number = cpu["cpu"].as_u64().expect("a number") as usize;
            let known = &CPUS[number].volatile;
            let tag = match extended {
                false => known.st.map(u16::from),
                true => known.xst,
            };
            without += u64::from(tag.is_none());
            assert_eq!(cpu["tag"], Value::from(tag), "{map}");
        }
        // One call for all, and one more for each CPU that has no tag.
        assert_eq!(map["resolve_calls"], 1 + without, "{map}");
        assert_eq!(map["resolve_calls"], if extended { 2 } else { 1 });
    }
    let svg = "/tmp/map.svg";
    ok(&["map", &address, "--svg", svg]);
    let drawn = fs::read_to_string(svg).expect("a picture");
    assert!(
        drawn.starts_with("<svg") && drawn.contains("CPU 3"),
        "{drawn}"
    );

    policy::write(&endpoint.bdf, b"iv_st").expect("tph_policy");
    refused(
        &["map", &address],
        4,
        &format!("policy iv_st shows no tags: tphctl policy {address} ds_st"),
    );
}

/// It and its command, which goes on until its standard input ends.
fn start(words: &[&str], command: &[&str]) -> (Process, String) {
    let mut whole = tphctl(words);
    if !command.is_empty() {
        whole.arg("--").args(command);
    }
    let mut process = Process::start(&mut whole);
    let line = process.line();
    (process, line)
}

fn holds_until_the_command_ends(bench: &mut Bench) {
    needs_tph();
    let (endpoint, address) = bound(bench, Gate::Safe);
    let entries = [
        "hold",
        &address,
        "--entry",
        "0=cpu1",
        "-e",
        "1-2=cpu0-1",
        "--json",
    ];
    let (process, line) = start(&entries, &["cat"]);
    let said: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(said["control"], "Interrupt Vector, enabled", "{said}");
    assert_eq!(said["entries"][2]["cpu"], 1, "{said}");
    assert_eq!(
        said["entries"][2]["tag"],
        Value::Null,
        "iv_st shows none: {said}"
    );
    assert_eq!(
        endpoint.control(),
        control(StMode::InterruptVector, Requester::Standard)
    );
    assert_eq!(
        endpoint.entries()[..4],
        [st(OTHER_CPU), st(CPU), st(OTHER_CPU), 0]
    );
    process.wait();
    endpoint.assert_off("the command has ended");

    let outcome = run(
        tphctl(&["hold", &address, "-e", "0=none", "--", "sh", "-c", "exit 7"]).env("PATH", "/bin"),
    );
    assert_eq!(outcome.status, 7, "{outcome:?}");
    let outcome = run(&mut tphctl(&[
        "hold", &address, "-e", "0=cpu0", "--", "/no/such",
    ]));
    assert_eq!(outcome.status, 1, "{outcome:?}");
    endpoint.assert_off("there was no command");
}

fn holds_extended_tags_until_a_signal(bench: &mut Bench) {
    needs_tph();
    let (endpoint, address) = bound(bench, Gate::Unsafe);
    let words = ["hold", &address, "-e", "3=cpu0", "--extended", "--json"];
    let (process, line) = start(&words, &[]);
    let said: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(said["entries"][0]["tag"], xst(CPU), "{said}");
    assert_eq!(endpoint.entries()[3], xst(CPU));
    kill(Pid::from_raw(process.id() as i32), Signal::SIGTERM).expect("a signal");
    process.wait();
    endpoint.assert_off("a signal");
}

fn holds_vectors(bench: &mut Bench) {
    needs_tph();
    let endpoint = with_table_in_msix(bench);
    policy::bind(&endpoint, Policy::IvSt);
    let address = endpoint.bdf.to_string();
    let (process, _) = start(&["hold", &address, "-e", "0-1=cpu0-1", "--json"], &["cat"]);
    assert_eq!(endpoint.entries()[..3], [st(CPU), st(OTHER_CPU), 0]);
    process.wait();
    endpoint.assert_off("the command has ended");
}

/// `examples/rust`, on the library alone.
fn example_steers(bench: &mut Bench) {
    needs_tph();
    let (endpoint, address) = bound(bench, Gate::Safe);
    let example = program().with_file_name("steer");
    let mut process = Process::start(Command::new(example).args([&address, "1", "0"]));
    let expected = format!("{address}: Interrupt Vector, enabled, 2 entries");
    assert_eq!(process.line(), expected);
    assert_eq!(endpoint.entries()[..3], [st(OTHER_CPU), st(CPU), 0]);
    process.wait();
    endpoint.assert_off("the example has ended");
}

fn watches(bench: &mut Bench) {
    needs_tph();
    let (endpoint, address) = bound(bench, Gate::Safe);
    let words = ["watch", &address, "--json", "--interval", "0.1"];
    let mut child = tphctl(&words)
        .stdout(Stdio::piped())
        .spawn()
        .expect("tphctl");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    // It looks at everything before its first line: from here on nothing is missed.
    lines.next().expect("a line").expect("a line");
    let device = endpoint.open();
    device.enable(StMode::InterruptVector, Requester::Standard);
    device
        .program(0, &[cpu(CPU), cpu(OTHER_CPU)])
        .expect("TPH_ST");
    let (mut writes, mut events) = (0, Vec::new());
    while writes == 0
        || !events
            .iter()
            .any(|event: &String| event.starts_with("table_write: "))
    {
        let line = lines.next().expect("a line").expect("a line");
        let look: Value = serde_json::from_str(&line).expect("JSON");
        writes += look["counters"]["table_writes"].as_u64().unwrap_or(0);
        let seen = look["events"].as_array().expect("events");
        events.extend(
            seen.iter()
                .filter_map(|event| event.as_str().map(str::to_owned)),
        );
    }
    assert_eq!(writes, 1);
    let enabled = format!("enable: {address} st_mode=1 requester_enable=1");
    assert!(events.contains(&enabled), "{events:?}");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).expect("a signal");
    let mut rest = String::new();
    for line in lines {
        rest += &line.expect("a line");
    }
    assert!(child.wait().expect("its end").success(), "{rest}");
    let instances = fs::read_dir("/sys/kernel/tracing/instances").expect("instances");
    assert_eq!(instances.count(), 0, "an instance is left");
}

/// Each one line, with what to do; nothing is changed.
fn bad_input(bench: &mut Bench) {
    let (endpoint, address) = bound(bench, Gate::Safe);
    let bdf = &endpoint.bdf;
    let commands: [&[&str]; 6] = [
        &["why"],
        &["bind"],
        &["unbind"],
        &["policy"],
        &["map"],
        &["watch"],
    ];
    for command in commands {
        let with = |device: &'static str| [command, &[device]].concat();
        refused(&with("ffff:ff:1f.7"), 3, "no such device: 'tphctl list'");
        refused(&with("0000:01:00.*"), 2, "without wildcards");
        refused(&with("eth0"), 2, "looks like 0000:01:00.0");
        refused(&with("../../../etc"), 2, "looks like 0000:01:00.0");
    }
    refused(&["hold", &address, "-e", "64=cpu0"], 2, "entries 0 to 63");
    refused(
        &["hold", &address, "-e", "0=cpu4000"],
        1,
        "there is no such CPU (source 0, CPU 4000)",
    );
    endpoint.assert_off("refused");

    for words in [
        &["bind", &address][..],
        &["unbind", &address],
        &["policy", &address, "no_st"],
    ] {
        let mut command = tphctl(words);
        command.uid(NOBODY).gid(NOBODY);
        refuses(&mut command, 4, "needs root");
    }
    for words in [&["list"][..], &["why", &address]] {
        let mut command = tphctl(words);
        command.uid(NOBODY).gid(NOBODY);
        refuses(&mut command, 4, "try sudo tphctl");
    }
    assert_eq!(bdf.driver().as_deref(), Some(VFIO_TPH));
    assert_eq!(policy::shown(bdf), "iv_st\n");

    bdf.bind("vfio-pci").expect("vfio-pci");
    for words in [
        &["unbind", &address][..],
        &["policy", &address],
        &["watch", &address],
    ] {
        refused(words, 5, &format!("tphctl bind {address}"));
    }
    for words in [&["map", &address][..], &["hold", &address, "-e", "0=cpu0"]] {
        refused(words, 5, "is not vfio_tph");
    }
    assert_eq!(bdf.driver().as_deref(), Some("vfio-pci"));
}

fn module_that_is_not_loaded(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    module::remove(VFIO_TPH);
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let address = endpoint.bdf.to_string();
    let override_before = fs::read_to_string(endpoint.bdf.path("driver_override"));
    refused(&["bind", &address], 5, "vfio_tph is not loaded");
    assert_eq!(endpoint.bdf.driver().as_deref(), Some("vfio-pci"));
    assert_eq!(
        fs::read_to_string(endpoint.bdf.path("driver_override")).expect("driver_override"),
        override_before.expect("driver_override")
    );
    let outcome = run(&mut tphctl(&["why", &address]));
    assert_eq!(outcome.status, 6, "{outcome:?}");
    assert!(
        outcome.stdout.contains("-> modprobe vfio_tph"),
        "{outcome:?}"
    );
    let rows = json(&["list"]);
    let row = rows
        .as_array()
        .and_then(|rows| rows.iter().find(|row| row["address"] == address.as_str()));
    assert_eq!(row.expect("the device")["reason"], "not bound to vfio_tph");
}

fn reads_only_what_it_needs(bench: &mut Bench) {
    let (endpoint, address) = bound(bench, Gate::Safe);
    if !endpoint.is_emulated() {
        skip!("accesses are counted on the emulated endpoint");
    }
    let asked = kstate::dsm_evaluations();
    // Waking up is the kernel's business.
    let control = endpoint.bdf.path("power/control");
    pci::write(&control, "on").expect("runtime PM off");
    endpoint.reset_counters();
    ok(&["list"]);
    ok(&["why", &address]);
    let counters = endpoint.counters();
    pci::write(&control, "auto").expect("runtime PM on");
    assert_eq!(counters.config_write, 0, "{counters:?}");
    assert!(counters.config_read < 100, "{counters:?}");
    assert_eq!(kstate::dsm_evaluations(), asked, "firmware was asked");
}

fn man_pages_and_completions(_: &mut Bench) {
    let directory = "/tmp/man";
    ok(&["man", directory]);
    let pages: Vec<OsString> = fs::read_dir(directory)
        .expect("man pages")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    for page in ["tphctl.1", "tphctl-bind.1", "tphctl-hold.1"] {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
    let mut text = String::new();
    fs::File::open(format!("{directory}/tphctl.1"))
        .and_then(|mut file| file.read_to_string(&mut text))
        .expect("tphctl.1");
    assert!(text.contains("Exit status"), "{text}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(ok(&["completions", shell]).contains("tphctl"), "{shell}");
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        lists_the_devices,
        why_says_the_first_reason,
        binds_and_gives_back,
        binds_all_or_nothing,
        persists,
        leaves_open_devices_alone,
        maps_cpus_to_tags,
        holds_until_the_command_ends,
        holds_extended_tags_until_a_signal,
        holds_vectors,
        example_steers,
        watches,
        bad_input,
        module_that_is_not_loaded,
        reads_only_what_it_needs,
        man_pages_and_completions,
    ])
}
