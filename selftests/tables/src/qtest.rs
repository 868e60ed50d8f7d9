// SPDX-License-Identifier: GPL-2.0-only

//! Reads files of QEMU's fw_cfg as the firmware of a guest would, by QEMU's protocol for tests: no
//! instruction of a guest is run.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{bail, ensure, Context, Result};

/// The virt machine's fw_cfg, whose register for DMA is at offset 16, and its memory.
const FW_CFG_DMA: u64 = 0x0902_0000 + 16;
const MEMORY: u64 = 0x4000_0000;
/// Where in it the request is, and where its answer goes.
const REQUEST: u64 = MEMORY + 0x1000;
const ANSWER: u64 = MEMORY + 0x10_0000;

/// Bits of the request's control word: read, and select the item of the upper half first.
const READ: u32 = 1 << 1;
const SELECT: u32 = 1 << 3;

/// The item that lists the files.
const DIRECTORY: u16 = 0x19;
/// Bytes of an entry: size, selector, reserved, and the name in the last 56.
const ENTRY: usize = 64;

/// A QEMU that waits for commands; it ends with this.
struct Qtest {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Qtest {
    fn drop(&mut self) {
        // It has no end of its own; that it may be gone already is no matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qtest {
    fn start(qemu: &[String]) -> Result<Self> {
        let (program, arguments) = qemu.split_first().context("no QEMU")?;
        let mut child = Command::new(program)
            .args(arguments)
            .args([
                "-accel",
                "qtest",
                "-qtest",
                "stdio",
                "-qtest-log",
                "/dev/null",
                "-S",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        let stdin = child.stdin.take().context("no pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("no pipe")?);
        Ok(Self {
            child,
            stdin,
            stdout,
        })
    }

    /// What QEMU answers to a command.
    fn ask(&mut self, command: &str) -> Result<String> {
        writeln!(self.stdin, "{command}").context("QEMU has ended")?;
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.stdout.read_line(&mut line)? != 0, "QEMU has ended");
            if let Some(answer) = line.strip_prefix("OK") {
                return Ok(answer.trim().to_owned());
            }
            // Interrupts are told meanwhile.
            ensure!(line.starts_with("IRQ"), "QEMU says to {command}: {line}");
        }
    }

    /// The first `size` bytes of an item.
    fn item(&mut self, selector: u16, size: u32) -> Result<Vec<u8>> {
        let mut request = Vec::new();
        request.extend(((u32::from(selector) << 16) | SELECT | READ).to_be_bytes());
        request.extend(size.to_be_bytes());
        request.extend(ANSWER.to_be_bytes());
        let mut write = format!("write {REQUEST:#x} {:#x} 0x", request.len());
        for byte in request {
            write!(write, "{byte:02x}")?;
        }
        self.ask(&write)?;
        // The register is big endian.
        self.ask(&format!(
            "writeq {FW_CFG_DMA:#x} {:#x}",
            REQUEST.swap_bytes()
        ))?;
        bytes(&self.ask(&format!("read {ANSWER:#x} {size:#x}"))?)
    }
}

/// From the digits that QEMU answers with.
fn bytes(answer: &str) -> Result<Vec<u8>> {
    let digits = answer.strip_prefix("0x").context("no number")?;
    (0..digits.len() / 2)
        .map(|n| Ok(u8::from_str_radix(&digits[2 * n..2 * n + 2], 16)?))
        .collect()
}

/// Where a file of the directory is: its selector and size.
fn place(directory: &[u8], name: &str) -> Result<(u16, u32)> {
    for entry in directory.chunks_exact(ENTRY) {
        let (head, text) = entry.split_at(8);
        let end = text
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(text.len());
        if &text[..end] == name.as_bytes() {
            let size = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            return Ok((u16::from_be_bytes([head[4], head[5]]), size));
        }
    }
    bail!("QEMU has no {name}")
}

/// The contents of files that this QEMU would show its guest.
pub fn read(qemu: &[String], names: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut qtest = Qtest::start(qemu)?;
    let head = qtest.item(DIRECTORY, 4)?;
    let count = u32::from_be_bytes(head.as_slice().try_into().context("a short answer")?);
    let directory = qtest.item(DIRECTORY, 4 + count * ENTRY as u32)?;
    names
        .iter()
        .map(|name| {
            let (selector, size) = place(&directory[4..], name)?;
            qtest.item(selector, size)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_bytes() {
        assert_eq!(bytes("0x00ff1a").unwrap(), [0, 0xff, 0x1a]);
        assert!(bytes("12").is_err());
    }

    #[test]
    fn a_file_is_found_by_its_whole_name() {
        let mut directory = Vec::new();
        for (size, selector, name) in [(5u32, 0x20u16, "etc/a/b"), (6, 0x21, "etc/a")] {
            directory.extend(size.to_be_bytes());
            directory.extend(selector.to_be_bytes());
            directory.extend([0; 2]);
            let mut text = name.as_bytes().to_vec();
            text.resize(56, 0);
            directory.extend(text);
        }
        assert_eq!(place(&directory, "etc/a").unwrap(), (0x21, 6));
        assert!(place(&directory, "etc").is_err());
    }
}
