// SPDX-License-Identifier: GPL-2.0-only

//! Hibernation in earnest, into ACPI's S4: the image of a system with open devices is written to a
//! disk, the machine goes off, and another kernel loads the image.
//!
//! This program runs in both kernels, as the second one boots with the same files. It is the one
//! that tells it of the image; the process that goes on then is that of the first kernel.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode};

use tph_selftests::bench::{in_test_vm, Bench};
use tph_selftests::policy::Policy;
use tph_selftests::sleep::{Depth, Into, Sleep};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::{harness, module, skip, tests};
use tph_tests::bed::{Bed, InForce, KINDS};

/// The session has one for this.
const DISK: &str = "/dev/vda";
const RESUME: &str = "/sys/power/resume";

/// Whether there is a disk, which there is a driver for.
fn has_disk() -> bool {
    if !in_test_vm() || !module::path("virtio_blk").exists() {
        return false;
    }
    module::ensure("sg_pool");
    module::ensure("virtio_blk");
    Path::new(DISK).exists()
}

/// Whether nothing has been written to the disk since the machine was made.
fn is_blank() -> bool {
    let mut start = [0; 4096];
    let mut disk = File::open(DISK).expect(DISK);
    disk.read_exact(&mut start).expect(DISK);
    start.iter().all(|&byte| byte == 0)
}

/// Makes swap space of the disk, where the kernel puts its image.
fn swap_on() {
    let status = Command::new("mkswap").arg(DISK).output().expect("mkswap");
    assert!(status.status.success(), "mkswap: {status:?}");
    let disk = CString::new(DISK).expect("no NUL in a path");
    // SAFETY: the path is a string that ends.
    let done = unsafe { libc::swapon(disk.as_ptr(), 0) };
    assert_eq!(done, 0, "swapon: {}", std::io::Error::last_os_error());
}

/// What was in force before the machine went off is in force once another kernel has loaded the
/// image. Each device has lost its power, and comes up with `control`, and with `entry` in each
/// entry.
#[track_caller]
fn the_same_after(beds: &[Bed], control: u32, entry: u16) {
    let in_force = || beds.iter().map(Bed::in_force).collect::<Vec<InForce>>();
    let resets = |bed: &Bed| bed.endpoint.counters().reset;
    let (before, resets_before) = (in_force(), beds.iter().map(resets).collect::<Vec<u64>>());
    for bed in beds {
        bed.endpoint.after_reset(control, entry);
    }
    Sleep(Into::Disk, Depth::Whole)
        .sleep()
        .expect("hibernation");
    for (bed, before) in beds.iter().zip(resets_before) {
        assert!(resets(bed) > before, "{:?}: was not off", bed.kind);
        bed.endpoint.after_reset(0, 0);
    }
    assert_eq!(in_force(), before);
}

fn r86_loaded_by_another_kernel(bench: &mut Bench) {
    if !has_disk() {
        skip!("no {DISK} that an image can be written to");
    }
    swap_on();
    let beds = KINDS.map(|kind| Bed::new(bench, kind, Policy::DsSt));
    let put = |mode, requester| beds.iter().for_each(|bed| bed.put(mode, requester));

    put(StMode::InterruptVector, Requester::Extended);
    the_same_after(&beds, 0, 0);
    put(StMode::InterruptVector, Requester::Disabled);
    the_same_after(&beds, 0, 0);
    // And with what a device makes of itself.
    put(StMode::InterruptVector, Requester::Standard);
    let on = control(StMode::InterruptVector, Requester::Extended);
    the_same_after(&beds, on, 0x5a5a);
    // The PCI core puts the table in MSI-X back, and does not look at Control.
    for bed in beds.iter().filter(|bed| bed.kind.in_msix) {
        bed.endpoint.clear_violations();
    }
    beds.iter().for_each(Bed::works);
}

fn main() -> ExitCode {
    if has_disk() && !is_blank() {
        // Does not return if the image is good.
        let result = fs::write(RESUME, DISK);
        println!("Bail out! {RESUME}: the image was not loaded: {result:?}");
        return ExitCode::FAILURE;
    }
    harness::run(tests![r86_loaded_by_another_kernel])
}
