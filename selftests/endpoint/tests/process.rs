// SPDX-License-Identifier: GPL-2.0-only

//! The program from outside: sockets, clients that come and go, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use tempfile::TempDir;
use tph_protocol::{Client, Error};

const VERSION: u16 = 1;
const DEVICE_GET_INFO: u16 = 4;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DMA_WRITE: u16 = 12;
const DEVICE_RESET: u16 = 13;
const CONFIG: u32 = 7;

struct Process {
    child: Child,
    dir: TempDir,
}

impl Process {
    fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tph-endpoint"))
            .arg("--ready")
            .arg("--dir")
            .arg(dir.path())
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Process { child, dir }
    }

    fn socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn control(&self) -> Client<UnixStream> {
        Client::new(UnixStream::connect(self.socket("control.sock")).unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended: that is what most tests are about.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What QEMU does, as far as it matters here.
struct Qemu(UnixStream);

impl Qemu {
    fn connect(path: &Path) -> Self {
        let mut qemu = Qemu(UnixStream::connect(path).unwrap());
        let capabilities = br#"{"capabilities":{"max_msg_fds":8}}"#;
        let reply = qemu.ask(VERSION, &[&[0; 4], &capabilities[..], &[0]].concat());
        assert_eq!(reply[..4], [0; 4]);
        qemu
    }

    fn send(&mut self, id: u16, command: u16, flags: u32, payload: &[u8]) {
        let mut message = vec![];
        message.extend(id.to_le_bytes());
        message.extend(command.to_le_bytes());
        message.extend((16 + payload.len() as u32).to_le_bytes());
        message.extend(flags.to_le_bytes());
        message.extend([0; 4]);
        message.extend(payload);
        self.0.write_all(&message).unwrap();
    }

    /// Identifier, command, flags and payload of the next message.
    fn receive(&mut self) -> (u16, u16, u32, Vec<u8>) {
        let mut header = [0; 16];
        self.0.read_exact(&mut header).unwrap();
        let word = |i| u32::from_le_bytes(header[i..i + 4].try_into().unwrap());
        let mut payload = vec![0; word(4) as usize - 16];
        self.0.read_exact(&mut payload).unwrap();
        (word(0) as u16, (word(0) >> 16) as u16, word(8), payload)
    }

    fn ask(&mut self, command: u16, payload: &[u8]) -> Vec<u8> {
        self.send(77, command, 0, payload);
        let (id, replied, flags, reply) = self.receive();
        assert_eq!((id, replied, flags), (77, command, 1));
        reply
    }

    fn read(&mut self, region: u32, offset: u64, count: u32) -> Vec<u8> {
        let reply = self.ask(REGION_READ, &access(region, offset, count));
        reply[16..].to_vec()
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) {
        let head = access(region, offset, data.len() as u32);
        self.ask(REGION_WRITE, &[&head[..], data].concat());
    }
}

fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    let mut bytes = offset.to_le_bytes().to_vec();
    bytes.extend(region.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes
}

#[test]
fn clients_come_and_go() {
    let process = Process::start(&["--device", "name=a", "--device", "name=b,id=1234:5678"]);
    let mut control = process.control();
    assert_eq!(control.list().unwrap(), ["a", "b"]);
    assert!(!control.state("b").unwrap().connected);
    for round in 1..=3 {
        let mut qemu = Qemu::connect(&process.socket("b.sock"));
        assert_eq!(qemu.read(CONFIG, 0, 4), [0x34, 0x12, 0x78, 0x56]);
        // MSI-X shows after the reset only.
        assert_eq!(qemu.read(CONFIG, 0x50, 1), [0]);
        qemu.ask(DEVICE_RESET, &[]);
        assert_eq!(qemu.read(CONFIG, 0x50, 1), [0x11]);
        assert!(control.state("b").unwrap().connected);
        let counters = control.counters("b").unwrap();
        assert_eq!((counters.config_read, counters.reset), (3 * round, round));
    }
    assert_eq!(control.log("b", 1).unwrap().len(), 12);
    assert_eq!(control.counters("a").unwrap().config_read, 0);
}

#[test]
fn nonsense_ends_the_connection_only() {
    let process = Process::start(&["--device", "name=a"]);
    let mut raw = UnixStream::connect(process.socket("a.sock")).unwrap();
    raw.write_all(&[0xff; 64]).unwrap();
    // End of file, or a reset as there was unread data.
    let _ = raw.read(&mut [0; 16]);

    let mut qemu = Qemu::connect(&process.socket("a.sock"));
    let bad = access(CONFIG, 4095, 2);
    for (command, payload) in [
        (99, &[][..]),
        (DEVICE_GET_INFO + 1, &[1, 2][..]),
        (REGION_READ, &bad[..]),
        (REGION_WRITE, &access(0, 0, 4)[..]),
    ] {
        qemu.send(1, command, 0, payload);
        let (_, _, flags, _) = qemu.receive();
        assert_eq!(flags & 0x20, 0x20, "command {command}");
    }
    assert_eq!(qemu.ask(DEVICE_GET_INFO, &[0; 16]).len(), 16);

    let mut control = UnixStream::connect(process.socket("control.sock")).unwrap();
    control.write_all(b"what?\n").unwrap();
    let mut line = String::new();
    BufReader::new(&control).read_line(&mut line).unwrap();
    assert!(line.starts_with(r#"{"error":"#), "{line}");
    let mut control = Client::new(control);
    assert!(matches!(control.state("zz"), Err(Error::Refused(_))));
    assert!(control.state("a").is_ok());
}

#[test]
fn interrupt_is_answered_when_delivered() {
    let process = Process::start(&["--device", "name=a"]);
    let mut qemu = Qemu::connect(&process.socket("a.sock"));
    qemu.ask(DEVICE_RESET, &[]);
    qemu.write(CONFIG, 4, &[6, 0]);
    qemu.write(0, 0, &0xfee0_0000u32.to_le_bytes());
    qemu.write(0, 8, &0x55u32.to_le_bytes());
    qemu.write(0, 12, &[0; 4]);
    qemu.write(CONFIG, 0x52, &0x8000u16.to_le_bytes());

    let mut control = process.control();
    let raiser = thread::spawn(move || control.raise_interrupt("a", 0));
    let (id, command, flags, payload) = qemu.receive();
    assert_eq!((command, flags), (DMA_WRITE, 0));
    let mut expected = 0xfee0_0000u64.to_le_bytes().to_vec();
    expected.extend(4u64.to_le_bytes());
    expected.extend(0x55u32.to_le_bytes());
    assert_eq!(payload, expected);
    qemu.send(id, DMA_WRITE, 1, &[]);
    raiser.join().unwrap().unwrap();

    // A client that goes away answers for ever.
    let mut control = process.control();
    let raiser = thread::spawn(move || control.raise_interrupt("a", 0));
    qemu.receive();
    drop(qemu);
    raiser.join().unwrap().unwrap();
}

#[test]
fn ends_when_told() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut process = Process::start(&["--device", "name=a"]);
        let _qemu = Qemu::connect(&process.socket("a.sock"));
        process.signal(signal);
        assert!(process.wait().success());
        assert!(!process.socket("a.sock").exists());
        assert!(!process.socket("control.sock").exists());
    }
    let mut process = Process::start(&["--device", "name=a"]);
    process.control().exit().unwrap();
    assert!(process.wait().success());
}

#[test]
fn ends_in_time() {
    let mut process = Process::start(&["--device", "name=a", "--timeout", "1"]);
    assert_eq!(process.wait().code(), Some(1));
}

#[test]
fn bad_arguments() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    for args in [
        &["--dir", dir][..],
        &["--dir", dir, "--device", "name=a,what=1"],
        &["--dir", dir, "--device", "name=control"],
        &["--dir", dir, "--device", "name=a", "--device", "name=a"],
        &["--dir", "/nonexistent", "--device", "name=a"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_tph-endpoint"))
            .args(args)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}
