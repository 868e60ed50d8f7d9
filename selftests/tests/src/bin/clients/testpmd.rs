// SPDX-License-Identifier: GPL-2.0-only

//! DPDK's testpmd, on two ports that are wired to each other or on one of them.

use std::fs;

use tph_selftests::foreign::take_fd;
use tph_selftests::pci::Bdf;
use tph_selftests::vfio::{self, Device};

use crate::root::{command, note, Shell, ROOT};

/// Packets that have to come through before a port counts as one that works.
pub const PACKETS: u64 = 1000;

/// What DPDK is told on a small machine: no huge pages, and no memory in excess of what a type 1
/// container maps in pages of 4 KiB.
pub const EAL: [&str; 6] = [
    "--no-shconf",
    "--no-huge",
    "-m",
    "96",
    "--no-telemetry",
    "--log-level=6",
];

/// testpmd, which forwards each port's packets to the other one if not told otherwise.
pub struct Testpmd(Shell);

impl Testpmd {
    /// Starts it with these ports, on two CPUs.
    pub fn start(lcores: &str, ports: &[&Bdf], options: &[&str]) -> Self {
        // To a pipe it would say nothing until its buffer is full.
        let mut command = command("stdbuf", &["-o0", "dpdk-testpmd"]);
        command.args(EAL);
        command.args(["--lcores", lcores]);
        for port in ports {
            command.args(["-a", &port.to_string()]);
        }
        command.args(["--", "-i", "--total-num-mbufs=4096"]);
        command.args(options);
        let (shell, said) = Shell::start(command, "testpmd> ");
        note(&said);
        Self(shell)
    }

    /// One of its commands.
    pub fn ask(&mut self, line: &str) -> String {
        let said = self.0.ask(line);
        note(&said);
        said
    }

    /// What it knows of a port: nothing in it depends on when it is asked.
    pub fn describe(&mut self, port: usize) -> Vec<String> {
        let said = self.ask(&format!("show port info {port}"));
        let said: Vec<String> = said
            .lines()
            .filter(|line| line.contains(": "))
            .map(|line| line.trim().to_owned())
            .collect();
        assert!(said.len() > 10, "{said:?}");
        said
    }

    /// A counter of a port.
    fn counter(&mut self, port: usize, name: &str) -> u64 {
        let said = self.0.ask(&format!("show port stats {port}"));
        said.split_once(&format!("{name}:"))
            .and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {name}: {said}"))
    }

    /// Packets that a port has sent.
    pub fn sent(&mut self, port: usize) -> u64 {
        self.counter(port, "TX-packets")
    }

    /// Waits until each port has sent and received so many packets more.
    pub fn wait_for_packets(&mut self, ports: usize) {
        for port in 0..ports {
            for name in ["RX-packets", "TX-packets"] {
                let wanted = self.counter(port, name) + PACKETS;
                while self.counter(port, name) < wanted {}
            }
        }
    }

    /// The device of a port, by the descriptor that testpmd has of it.
    pub fn device(&self, bdf: &Bdf) -> Device {
        let directory = format!("/proc/{}/fd", self.0.id());
        let fd = fs::read_dir(&directory)
            .expect("the descriptors of testpmd")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .find(|fd| {
                let info = format!("/proc/{}/fdinfo/{fd}", self.0.id());
                fs::read_to_string(info).is_ok_and(|info| {
                    info.lines().any(|line| {
                        line.starts_with("vfio-device-syspath:") && line.ends_with(&bdf.to_string())
                    })
                })
            })
            .unwrap_or_else(|| panic!("testpmd has no descriptor of {bdf}, in {ROOT}"));
        vfio::taken(bdf, take_fd(self.0.id(), fd)).expect("the device of testpmd")
    }

    /// Stops the ports and ends it. What it says of packets and errors.
    pub fn end(self) -> String {
        self.0.end(Some("quit"))
    }
}
