// SPDX-License-Identifier: GPL-2.0-only

//! A guest of the test VM, to which QEMU passes devices on. Its init (guest/nested/init) is told
//! over its console what to run.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tph_selftests::pci::Bdf;
use tph_selftests::skip;
use tph_selftests::vfio::OpenBy;

/// The build root, where QEMU is.
const ROOT: &str = "/build-root";
/// What the guest's kernel says; the same file inside of the build root.
const CONSOLE: &str = "/tmp/nested-console";
/// First slot of the guest's root ports.
const FIRST_SLOT: usize = 0x10;

/// A running guest; it ends when this is dropped.
pub struct Guest {
    qemu: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A path that selftests/nested hands over in the environment.
fn path(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| skip!("needs a guest to boot: run selftests/nested"))
}

impl Guest {
    /// Boots it, with each device below a root port of its own.
    pub fn boot(devices: &[&Bdf], by: OpenBy) -> Self {
        let mut command = Command::new("chroot");
        command.args([ROOT, "qemu-system-x86_64"]);
        command.args(["-nodefaults", "-no-user-config", "-no-reboot"]);
        command.args(["-machine", "q35", "-accel", "tcg", "-cpu", "max"]);
        command.args(["-m", "192M", "-display", "none"]);
        command.args(["-kernel", &path("NESTED_KERNEL")]);
        command.args(["-initrd", &path("NESTED_INITRAMFS")]);
        command.args([
            "-append",
            "console=ttyS0 quiet panic=-1 kunit.enable=0 no_timer_check",
        ]);
        command.args(["-serial", &format!("file:{CONSOLE}")]);
        command.args(["-chardev", "stdio,id=shell,signal=off"]);
        command.args(["-device", "virtio-serial-pci,disable-legacy=on"]);
        command.args(["-device", "virtconsole,chardev=shell"]);
        let backend = match by {
            OpenBy::Cdev => {
                command.args(["-object", "iommufd,id=backend"]);
                ",iommufd=backend"
            }
            _ => "",
        };
        for (number, bdf) in devices.iter().enumerate() {
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
        };
        let (said, status) = guest.answer();
        assert_eq!(status, 0, "the nested guest's init: {said}");
        guest
    }

    /// Runs a line of shell: what it printed, and its status.
    pub fn run(&mut self, line: &str) -> (String, i32) {
        println!("# nested guest: {line}");
        writeln!(self.input, "{line}").unwrap_or_else(|error| panic!("{line}: {error}"));
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
        let mut said = String::new();
        loop {
            let mut line = String::new();
            let got = self.output.read_line(&mut line).expect("the guest's text");
            if got == 0 {
                panic!("the nested guest is gone: {said}{}", last_words());
            }
            let line = line.trim_end();
            match line.strip_prefix("<== ") {
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
}

/// The end of the guest's kernel log.
fn last_words() -> String {
    let text = fs::read(Path::new(CONSOLE)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.qemu.kill().expect("kill -9");
        self.qemu.wait().expect("wait");
    }
}
