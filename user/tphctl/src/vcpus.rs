// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! The map of a guest's tags, sysfs `tph_vcpus`: tag n + 1 stands for where vCPU n runs.
//!
//! QEMU's threads have names by which /proc tells which vCPU each of them is; or its QMP says so.
//! Where a thread may run is the kernel's to say.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{json, Value};

use crate::bind;
use crate::failure::{Failure, Kind};
use crate::guest_acpi::MAX_VCPUS;
use crate::machine::{read, try_write, Machine, Pci};
use crate::output;

/// How long QEMU may take for an answer. Its monitor serves one client at a time: the next one
/// waits for a greeting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who knows which threads are vCPUs.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// /proc, of this process.
    Process(u32),
    /// QEMU's monitor in JSON, at this socket.
    Monitor(&'a Path),
}

/// Shows the map, or makes it what a guest's threads say.
pub fn run(
    machine: &Machine,
    device: &Pci,
    source: Option<Source<'_>>,
    first: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    if machine.ours(device).is_none() {
        return Err(bind::not_bound(device));
    }
    let path = device.path("tph_vcpus");
    let before = read(&path).ok_or_else(|| too_old(device))?;
    if let Some(source) = source {
        let cpus = match source {
            Source::Process(pid) => of_process(machine, pid)?,
            Source::Monitor(socket) => of_monitor(machine, socket)?,
        };
        let map = map(&cpus, first)?;
        try_write(&path, &map).map_err(|error| refused(device, &path, &map, &error))?;
    }
    let now = read(&path).unwrap_or_default();
    if json {
        output::json(&json!({
            "address": device.address.to_string(),
            "vcpus": now,
            "before": before,
        }));
    } else {
        crate::say!("{now}");
    }
    Ok(ExitCode::SUCCESS)
}

fn too_old(device: &Pci) -> Failure {
    Failure::new(
        Kind::NotBound,
        format_args!(
            "{}: the driver has no tph_vcpus: load a newer vfio_tph",
            device.address
        ),
    )
}

fn refused(device: &Pci, path: &Path, map: &str, error: &io::Error) -> Failure {
    let address = device.address;
    match error.kind() {
        io::ErrorKind::ResourceBusy => Failure::new(
            Kind::Busy,
            format_args!(
                "{address}: it was opened without tph_vcpus: \
                 write that after the bind and before the virtual machine starts"
            ),
        ),
        io::ErrorKind::InvalidInput => Failure::new(
            Kind::Failed,
            format_args!("{address}: not CPUs of this machine: {map}"),
        ),
        _ => Failure::file(path, error),
    }
}

/// The CPUs of each vCPU's thread, as the kernel writes lists of them.
type Affinity = BTreeMap<u32, String>;

/// What goes to sysfs: a vCPU that may run on several CPUs has no tag, or the first one's.
fn map(cpus: &Affinity, first: bool) -> Result<String, Failure> {
    let last = cpus.keys().next_back().copied().unwrap_or(0);
    if last >= u32::from(MAX_VCPUS) {
        return Err(Failure::new(
            Kind::Failed,
            format_args!(
                "the guest has {} vCPUs, tags are for {MAX_VCPUS}: give it fewer",
                last + 1
            ),
        ));
    }
    let tags: Vec<&str> = (0..=last)
        .map(|vcpu| {
            let list = cpus.get(&vcpu).map_or("", String::as_str);
            match list.split(['-', ',']).next() {
                Some(cpu) if !cpu.is_empty() && (first || cpu == list) => cpu,
                _ => "-",
            }
        })
        .collect();
    if tags.iter().all(|tag| *tag == "-") {
        return Err(Failure::new(
            Kind::Failed,
            "no vCPU is bound to one CPU: pin them (virsh vcpupin), or say --first",
        ));
    }
    Ok(tags.join(","))
}

/// The CPUs that a thread may run on.
fn affinity(thread: &Path) -> Option<String> {
    let status = fs::read_to_string(thread.join("status")).ok()?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}

/// The vCPU that QEMU names a thread after.
fn vcpu_of(name: &str) -> Option<u32> {
    let (number, accelerator) = name.strip_prefix("CPU ")?.split_once('/')?;
    (!accelerator.is_empty())
        .then(|| number.parse().ok())
        .flatten()
}

fn of_process(machine: &Machine, pid: u32) -> Result<Affinity, Failure> {
    let tasks = machine.path(&format!("proc/{pid}/task"));
    let threads = fs::read_dir(&tasks).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Kind::Failed,
            format_args!("no process {pid}: say QEMU's, as in /run/libvirt/qemu/NAME.pid"),
        ),
        _ => Failure::file(&tasks, &error),
    })?;
    // A thread that ends meanwhile is none.
    let cpus: Affinity = threads
        .flatten()
        .filter_map(|thread| {
            let vcpu = vcpu_of(&read(&thread.path().join("comm"))?)?;
            Some((vcpu, affinity(&thread.path())?))
        })
        .collect();
    if cpus.is_empty() {
        return Err(Failure::new(
            Kind::Failed,
            format_args!(
                "process {pid} has no threads of vCPUs: start QEMU with \
                 '-name NAME,debug-threads=on', or say --qmp SOCKET"
            ),
        ));
    }
    Ok(cpus)
}

fn of_monitor(machine: &Machine, socket: &Path) -> Result<Affinity, Failure> {
    let failed = |error: &io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::new(
            Kind::Busy,
            format_args!(
                "{}: no answer: another program has this monitor (libvirt?): say --qemu PID",
                socket.display()
            ),
        ),
        io::ErrorKind::InvalidData => Failure::new(
            Kind::Failed,
            format_args!(
                "{}: not QMP ({error}): say the socket of '-qmp unix:SOCKET,server=on,wait=off'",
                socket.display()
            ),
        ),
        _ => Failure::file(socket, error),
    };
    let answer = ask(socket).map_err(|error| failed(&error))?;
    let mut cpus = Affinity::new();
    for vcpu in answer.as_array().into_iter().flatten() {
        let number = |field: &str| vcpu[field].as_u64().and_then(|it| u32::try_from(it).ok());
        let (Some(index), Some(thread)) = (number("cpu-index"), number("thread-id")) else {
            continue;
        };
        let directory = machine.path(&format!("proc/{thread}"));
        let list = affinity(&directory).ok_or_else(|| {
            Failure::new(
                Kind::Failed,
                format_args!("no thread {thread}: run this where QEMU runs, not in a container"),
            )
        })?;
        cpus.insert(index, list);
    }
    Ok(cpus)
}

/// Asks QEMU which threads its vCPUs have.
fn ask(socket: &Path) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answers = BufReader::new(stream.try_clone()?).lines();
    // What has none of the fields is an event, or an answer to somebody else's question.
    let mut answer = |field: &str| -> io::Result<Value> {
        loop {
            let line = answers.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            let mut value: Value = serde_json::from_str(&line)?;
            if value.get(field).is_some() {
                return Ok(value[field].take());
            }
            if let Some(error) = value.get("error") {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    error["desc"].to_string(),
                ));
            }
        }
    };
    answer("QMP")?;
    stream.write_all(b"{\"execute\": \"qmp_capabilities\"}\n")?;
    answer("return")?;
    stream.write_all(b"{\"execute\": \"query-cpus-fast\"}\n")?;
    answer("return")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;
    use crate::tree::Tree;

    const PID: u32 = 4711;

    /// A thread of a process, by its name and where it may run.
    fn a_thread(tree: &Tree, directory: &str, name: &str, cpus: &str) {
        let at = format!("proc/{directory}");
        tree.write(&format!("{at}/comm"), format!("{name}\n"));
        let status = format!("Name:\t{name}\nCpus_allowed:\tf\nCpus_allowed_list:\t{cpus}\n");
        tree.write(&format!("{at}/status"), status);
    }

    fn guest(tree: &Tree) {
        for (thread, name, cpus) in [
            (4711, "qemu-system-x86", "0-3"),
            (4712, "IO mon_iothread", "0-3"),
            (4713, "CPU 0/KVM", "2"),
            (4714, "CPU 1/KVM", "0"),
            (4715, "CPU 3/TCG", "1,3"),
            (4716, "CPU x/KVM", "1"),
            (4717, "CPU 4/", "1"),
        ] {
            a_thread(tree, &format!("{PID}/task/{thread}"), name, cpus);
        }
    }

    fn bound(tree: &Tree) -> Pci {
        let device = tree.endpoint("0000:01:00.0", Some("vfio_tph"));
        tree.write(
            "sys/devices/pci0000:00/0000:00:10.0/0000:01:00.0/tph_vcpus",
            "\n",
        );
        device
    }

    #[track_caller]
    fn fails(tree: &Tree, source: Source<'_>, words: &str) {
        let device = tree.machine.device("0000:01:00.0").unwrap();
        let before = device.read("tph_vcpus");
        let failure = run(&tree.machine, &device, Some(source), false, false).unwrap_err();
        let line = failure.to_string();
        assert!(line.contains(words), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert_eq!(device.read("tph_vcpus"), before);
    }

    #[test]
    fn threads_that_are_vcpus() {
        let tree = Tree::new();
        guest(&tree);
        let device = bound(&tree);
        for (first, map) in [(false, "2,0,-,-"), (true, "2,0,-,1")] {
            let source = Some(Source::Process(PID));
            run(&tree.machine, &device, source, first, false).unwrap();
            assert_eq!(device.read("tph_vcpus").as_deref(), Some(map));
        }
        // Who does not say whose changes nothing.
        run(&tree.machine, &device, None, false, false).unwrap();
        assert_eq!(device.read("tph_vcpus").as_deref(), Some("2,0,-,1"));
    }

    #[test]
    fn what_is_no_guest() {
        let tree = Tree::new();
        bound(&tree);
        fails(&tree, Source::Process(PID), "no process 4711: say QEMU's");
        a_thread(&tree, "4711/task/4711", "qemu-system-x86", "0");
        fails(&tree, Source::Process(PID), "debug-threads=on");
        a_thread(&tree, "4711/task/4712", "CPU 0/KVM", "0-3");
        fails(&tree, Source::Process(PID), "pin them (virsh vcpupin)");
        a_thread(&tree, "4711/task/4712", "CPU 255/KVM", "0");
        fails(&tree, Source::Process(PID), "256 vCPUs, tags are for 255");
        a_thread(&tree, "4711/task/4712", "CPU 254/KVM", "0");
        let device = tree.machine.device("0000:01:00.0").unwrap();
        let source = Some(Source::Process(PID));
        run(&tree.machine, &device, source, false, false).unwrap();
        let map = device.read("tph_vcpus").unwrap();
        assert_eq!(map, format!("{}0", "-,".repeat(254)));
    }

    #[test]
    fn drivers_without_a_map() {
        let tree = Tree::new();
        tree.endpoint("0000:01:00.0", Some("vfio_tph"));
        fails(&tree, Source::Process(PID), "load a newer vfio_tph");
        let other = tree.endpoint("0000:02:00.0", Some("nvme"));
        let failure = run(&tree.machine, &other, None, false, false).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotBound);
    }

    #[test]
    fn what_the_driver_refuses() {
        let tree = Tree::new();
        let device = bound(&tree);
        let path = device.path("tph_vcpus");
        let line = |error: i32| {
            refused(&device, &path, "7", &io::Error::from_raw_os_error(error)).to_string()
        };
        assert!(line(16).contains("before the virtual machine starts"));
        assert!(line(22).contains("not CPUs of this machine: 7"));
        assert!(line(5).contains("tph_vcpus: "));
    }

    /// A monitor that says these lines, each after the first when it was asked something.
    fn monitor(tree: &Tree, lines: &'static [&'static str]) -> std::path::PathBuf {
        let socket = tree.machine.path("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = BufReader::new(stream.try_clone().unwrap()).lines();
            for line in lines {
                stream.write_all(format!("{line}\n").as_bytes()).unwrap();
                if !line.contains("event") {
                    asked.next();
                }
            }
        });
        socket
    }

    #[test]
    fn a_monitor_knows_the_threads() {
        let tree = Tree::new();
        let device = bound(&tree);
        a_thread(&tree, "4713", "qemu-system-x86", "2");
        a_thread(&tree, "4714", "qemu-system-x86", "1");
        let socket = monitor(
            &tree,
            &[
                r#"{"QMP": {"version": {}, "capabilities": []}}"#,
                r#"{"return": {}}"#,
                r#"{"event": "RTC_CHANGE"}"#,
                concat!(
                    r#"{"return": [{"cpu-index": 0, "thread-id": 4713}, "#,
                    r#"{"cpu-index": 1, "thread-id": 4714}]}"#
                ),
            ],
        );
        let source = Some(Source::Monitor(&socket));
        run(&tree.machine, &device, source, false, false).unwrap();
        assert_eq!(device.read("tph_vcpus").as_deref(), Some("2,1"));
    }

    #[test]
    fn a_monitor_that_is_none() {
        let tree = Tree::new();
        bound(&tree);
        let socket = tree.machine.path("qmp");
        fails(&tree, Source::Monitor(&socket), "qmp: No such file");
        let socket = monitor(&tree, &["QEMU 11.1.3 monitor - type 'help'"]);
        fails(
            &tree,
            Source::Monitor(&socket),
            "say the socket of '-qmp unix:",
        );
    }

    #[test]
    fn a_monitor_that_refuses() {
        let tree = Tree::new();
        bound(&tree);
        let socket = monitor(
            &tree,
            &[
                r#"{"QMP": {"version": {}, "capabilities": []}}"#,
                r#"{"return": {}}"#,
                r#"{"error": {"class": "CommandNotFound", "desc": "no such command"}}"#,
            ],
        );
        fails(&tree, Source::Monitor(&socket), "no such command");
    }
}
