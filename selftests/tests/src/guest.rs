// SPDX-License-Identifier: GPL-2.0-only

//! A guest of the test VM, to which QEMU passes devices on. Its init (guest/nested/init) is told
//! over its console what to run.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::Pid;
use tph_selftests::pci::Bdf;
use tph_selftests::skip;
use tph_selftests::vfio::OpenBy;

/// The build root, where QEMU is.
const ROOT: &str = "/build-root";
/// First slot of the guest's root ports.
const FIRST_SLOT: usize = 0x10;

/// What a guest is made of.
pub struct Machine<'a> {
    /// Its name, one for each that runs.
    pub name: &'a str,
    /// Its devices, each below a root port of its own.
    pub devices: &'a [&'a Bdf],
    /// How QEMU opens them. It has one way for all.
    pub by: OpenBy,
    /// How many CPUs it has.
    pub vcpus: u32,
    /// An ACPI table of its own, in a file below /tmp.
    pub table: Option<&'a Path>,
}

impl Default for Machine<'_> {
    fn default() -> Self {
        Self {
            name: "nested",
            devices: &[],
            by: OpenBy::Group,
            vcpus: 1,
            table: None,
        }
    }
}

/// A running guest; it ends when this is dropped.
pub struct Guest {
    qemu: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What the guest's kernel says; the same file inside of the build root.
    console: String,
}

/// A path that the runner hands over in the environment.
fn path(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| skip!("needs a guest to boot: run selftests/test nested"))
}

impl Guest {
    /// Boots it.
    pub fn boot(machine: &Machine<'_>) -> Self {
        let console = format!("/tmp/{}-console", machine.name);
        let qemu = env::var("NESTED_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
        let mut command = Command::new("chroot");
        command.args([ROOT, &qemu]);
        command.args(["-nodefaults", "-no-user-config"]);
        command.args(["-name", &format!("{},debug-threads=on", machine.name)]);
        // What nobody uses takes its time, too, to be emulated twice over.
        command.args([
            "-machine",
            "q35,memory-backend=memory,hpet=off,smm=off,usb=off,sata=off,i8042=off,vmport=off",
        ]);
        command.args(["-accel", "tcg", "-cpu", "max"]);
        command.args(["-smp", &machine.vcpus.to_string()]);
        // Large pages: the VM's emulated IOMMU takes a map operation for each.
        command.args(["-m", "192M", "-object"]);
        command.arg("memory-backend-memfd,id=memory,size=192M,hugetlb=on,hugetlbsize=2M");
        command.args(["-display", "none"]);
        command.args(["-kernel", &path("NESTED_KERNEL")]);
        command.args(["-initrd", &path("NESTED_INITRAMFS")]);
        command.args([
            "-append",
            "console=ttyS0 quiet panic=-1 kunit.enable=0 no_timer_check nokaslr mitigations=off",
        ]);
        if let Some(table) = machine.table {
            command.args(["-acpitable", &format!("file={}", table.display())]);
        }
        command.args(["-serial", &format!("file:{console}")]);
        command.args(["-chardev", "stdio,id=shell,signal=off"]);
        command.args(["-device", "virtio-serial-pci,disable-legacy=on"]);
        command.args(["-device", "virtconsole,chardev=shell"]);
        let backend = match machine.by {
            OpenBy::Cdev => {
                command.args(["-object", "iommufd,id=backend"]);
                ",iommufd=backend"
            }
            _ => "",
        };
        for (number, bdf) in machine.devices.iter().enumerate() {
            let slot = FIRST_SLOT + number;
            let port = format!(
                "pcie-root-port,id=port{number},bus=pcie.0,addr={slot:#x},chassis={slot},slot={slot}"
            );
            let device = format!("vfio-pci,host={bdf},bus=port{number}{backend}");
            command.args(["-device", &port, "-device", &device]);
        }
        let mut qemu = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("QEMU in {ROOT}: {error}"));
        let mut guest = Self {
            input: qemu.stdin.take().expect("a pipe"),
            output: BufReader::new(qemu.stdout.take().expect("a pipe")),
            qemu,
            console,
        };
        guest.booted();
        guest
    }

    /// Waits for its init.
    fn booted(&mut self) {
        let start = Instant::now();
        let (said, status) = self.until("=== ");
        println!("# nested guest: boots in {} s", start.elapsed().as_secs());
        assert_eq!(status, 0, "the nested guest's init: {said}");
    }

    /// Has it restart.
    pub fn reboot(&mut self) {
        self.tell("reboot -f");
        self.booted();
    }

    /// QEMU's process.
    pub fn pid(&self) -> u32 {
        self.qemu.id()
    }

    /// Binds the thread of each of its CPUs to a CPU.
    pub fn pin(&self, cpus: &[u32]) {
        let tasks = format!("/proc/{}/task", self.pid());
        let mut pinned = 0;
        for task in fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}")) {
            let task = task.expect(&tasks);
            let name = fs::read_to_string(task.path().join("comm")).expect("a thread's name");
            let Some(vcpu) = name
                .strip_prefix("CPU ")
                .and_then(|name| name.trim_end().strip_suffix("/TCG"))
            else {
                continue;
            };
            let vcpu: usize = vcpu.parse().expect("a vCPU's number");
            let thread = task.file_name().into_string().expect("UTF-8");
            let mut set = CpuSet::new();
            set.set(cpus[vcpu] as usize).expect("a CPU");
            sched_setaffinity(Pid::from_raw(thread.parse().expect("a thread")), &set)
                .unwrap_or_else(|error| panic!("vCPU {vcpu}: {error}"));
            pinned += 1;
        }
        assert_eq!(pinned, cpus.len(), "threads of vCPUs");
    }

    fn tell(&mut self, line: &str) {
        println!("# nested guest: {line}");
        writeln!(self.input, "{line}").unwrap_or_else(|error| panic!("{line}: {error}"));
    }

    /// Runs a line of shell: what it printed, and its status.
    pub fn run(&mut self, line: &str) -> (String, i32) {
        self.tell(line);
        self.answer()
    }

    /// The same for a line that must succeed.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        let (said, status) = self.run(line);
        assert_eq!(status, 0, "{line}: {said}");
        said
    }

    fn answer(&mut self) -> (String, i32) {
        self.until("<== ")
    }

    /// What it says before a line that begins in this way, and the number in that line.
    fn until(&mut self, begins: &str) -> (String, i32) {
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let got = self.output.read_line(&mut line).expect("the guest's text");
            if got == 0 {
                panic!("the nested guest is gone: {said}{}", self.last_words());
            }
            let line = line.trim_end();
            // Its init says that it is there, which nobody has asked for.
            if line.starts_with("=== ") && begins != "=== " {
                panic!("the nested guest has restarted: {}", self.last_words());
            }
            match line.strip_prefix(begins) {
                Some(status) => return (said, status.parse().expect("a status")),
                None => said += &format!("{line}\n"),
            }
        }
    }

    /// The guest's address of the device that was named as `number` when it was booted, and of the
    /// root port above it.
    pub fn addresses(&mut self, number: usize) -> (String, String) {
        let port = format!("0000:00:{:02x}.0", FIRST_SLOT + number);
        let said = self.ask(&format!("cd /sys/bus/pci/devices/{port} && echo *:00.0"));
        (said.trim().to_owned(), port)
    }

    /// The end of the guest's kernel log.
    fn last_words(&self) -> String {
        let text = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.qemu.kill().expect("kill -9");
        self.qemu.wait().expect("wait");
    }
}
