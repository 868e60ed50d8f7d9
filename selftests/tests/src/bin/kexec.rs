// SPDX-License-Identifier: GPL-2.0-only

//! A kernel starts another one while devices are in use; that one finds TPH off, and no tag.
//!
//! This program runs in both kernels, one after the other: in the first one it has devices with TPH
//! on, and does not return. The second one is the same kernel with the same files, so that the same
//! program is started there; its command line says from where on the endpoints' logs count. What
//! comes out of it is what both have said.
//!
//! The kernel's image is at [`IMAGE`]: `selftests/run --image`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::process::{Command, ExitCode};

use tph_selftests::bench::Bench;
use tph_selftests::harness;
use tph_selftests::policy::Policy;
use tph_selftests::protocol::{Access, Entry};
use tph_selftests::tests;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::uapi::pci_regs::{PCI_TPH_CTRL, PCI_VENDOR_ID};
use tph_tests::bed::{Bed, KINDS};

const IMAGE: &str = "/boot/bzImage";
/// The same with a change.
const CHANGED: &str = "/tmp/bzImage";
const INITRAMFS: &str = "/tmp/initramfs";
/// What the second kernel's command line has: `NAME:PLACE` of each endpoint, with commas between.
const PARAMETER: &str = "tph_kexec=";

/// All of this system's files but those that it has made itself.
const PACK: &str = "cd / && find . -xdev | cpio --quiet -o -H newc";

fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").expect("/proc/cmdline")
}

/// The endpoints that the kernel before this one had in use, and how long their logs were then.
fn left_in_use() -> Option<Vec<(String, u64)>> {
    let line = command_line();
    let list = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(PARAMETER))?;
    let parse = |item: &str| {
        let (name, place) = item.split_once(':')?;
        Some((name.to_owned(), place.parse().ok()?))
    };
    Some(
        list.split(',')
            .map(|item| parse(item).unwrap_or_else(|| panic!("{PARAMETER}: {item}")))
            .collect(),
    )
}

/// A copy of the image that says of itself that it can be loaded anywhere. The kernel asks for
/// that; one without CONFIG_RELOCATABLE does not say it, and moves itself to where it runs.
fn image() -> File {
    /// xloadflags of the setup header, Documentation/arch/x86/boot.rst.
    const FLAGS: usize = 0x236;
    const CAN_BE_LOADED_ABOVE_4G: u8 = 1 << 1;

    let mut image = fs::read(IMAGE).unwrap_or_else(|error| panic!("{IMAGE}: {error}"));
    image[FLAGS] |= CAN_BE_LOADED_ABOVE_4G;
    fs::write(CHANGED, image).expect(CHANGED);
    File::open(CHANGED).expect(CHANGED)
}

fn initramfs() -> File {
    let file = File::create(INITRAMFS).expect(INITRAMFS);
    let status = Command::new("sh").args(["-c", PACK]).stdout(file).status();
    let status = status.expect("sh");
    assert!(status.success(), "{PACK}: {status}");
    File::open(INITRAMFS).expect(INITRAMFS)
}

/// Has the kernel load the one that comes next.
fn load(line: &str) {
    let (image, initramfs) = (image(), initramfs());
    let line = CString::new(line).expect("a command line");
    let bytes = line.as_bytes_with_nul();
    // SAFETY: the kernel reads the files, and the line as long as it is, and keeps neither.
    let done = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            image.as_raw_fd(),
            initramfs.as_raw_fd(),
            bytes.len(),
            bytes.as_ptr(),
            0usize,
        )
    };
    assert_eq!(done, 0, "kexec_file_load: {}", io::Error::last_os_error());
}

/// In the first kernel: devices with TPH on, and then the second one.
fn start_the_next_kernel() -> ExitCode {
    let mut bench = Bench::new(&[]);
    let beds: Vec<Bed> = KINDS
        .into_iter()
        .filter(|kind| !kind.loses_state)
        .map(|kind| {
            let bed = Bed::new(&mut bench, kind, Policy::DsSt);
            bed.put(StMode::InterruptVector, Requester::Extended);
            assert_eq!(
                bed.endpoint.entries()[..bed.programmed().len()],
                bed.programmed()
            );
            bed
        })
        .collect();
    let left: Vec<String> = beds
        .iter()
        .map(|bed| {
            let name = bed.endpoint.name().expect("an emulated endpoint");
            format!("{name}:{}", bed.endpoint.mark())
        })
        .collect();
    load(&format!(
        "{} {PARAMETER}{}",
        command_line().trim(),
        left.join(",")
    ));
    println!("# another kernel, after {}", left.join(", "));
    // SAFETY: comes back only if it was refused.
    unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_KEXEC) };
    panic!("reboot: {}", io::Error::last_os_error());
}

/// Splits what came after the mark: what the first kernel did, and what the second one did, which
/// begins by looking who is there.
fn by_kernel(log: &[Entry]) -> (&[Entry], &[Entry]) {
    const VENDOR_ID: u64 = PCI_VENDOR_ID as u64;
    let at = log.iter().position(|entry| {
        matches!(
            entry.access,
            Access::ConfigRead {
                offset: VENDOR_ID,
                ..
            }
        )
    });
    log.split_at(at.expect("the second kernel has found the device"))
}

fn r87_next_kernel_finds_tph_off(bench: &mut Bench) {
    for (name, mark) in left_in_use().expect("the second kernel") {
        let endpoint = bench.named(&name);
        let log = endpoint.log_after(mark);
        let (first, second) = by_kernel(&log);
        let control = u64::from(endpoint.tph().offset) + u64::from(PCI_TPH_CTRL);
        let turned_off = |entry: &Entry| match entry.access {
            Access::ConfigWrite { offset, value, .. } => offset == control && value == 0,
            _ => false,
        };
        let reset = |entry: &Entry| matches!(entry.access, Access::Reset { .. });
        assert!(first.iter().any(turned_off), "{name}: {first:?}");
        assert!(!log.iter().any(reset), "{name}: a reset has done it");

        // What is there now the first kernel has left: the second one has written to neither place.
        let end = control + 4 + 2 * endpoint.tph().entries.len() as u64;
        for entry in second {
            let changes = match entry.access {
                Access::ConfigWrite { offset, .. } => (control..end).contains(&offset),
                Access::MmioWrite { .. } => true,
                _ => false,
            };
            assert!(!changes, "{name}: the second kernel: {entry:?}");
        }
        endpoint.assert_off("another kernel");
    }
}

/// And the driver drives them there.
fn r87_next_kernel_uses_the_devices(bench: &mut Bench) {
    for kind in KINDS.into_iter().filter(|kind| !kind.loses_state) {
        let bed = Bed::in_use(bench, kind, Policy::DsSt);
        bed.works();
    }
}

fn main() -> ExitCode {
    if left_in_use().is_none() {
        return start_the_next_kernel();
    }
    harness::run(tests![
        r87_next_kernel_finds_tph_off,
        r87_next_kernel_uses_the_devices,
    ])
}
