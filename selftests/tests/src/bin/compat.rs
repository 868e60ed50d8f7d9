// SPDX-License-Identifier: GPL-2.0-only

//! The user ABI as a 32-bit program has it: `compat/compat32.c`.

use std::env;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::fcntl::{fcntl, FcntlArg, FdFlag};
use std::os::fd::BorrowedFd;
use tph_selftests::bench::Bench;
use tph_selftests::harness;
use tph_selftests::module::Gate;
use tph_selftests::tph::Requester;
use tph_selftests::{skip, tests};
use tph_tests::{enabled, st, CPU, OTHER_CPU};

fn r8_a_32_bit_program(bench: &mut Bench) {
    let program = env::var_os("TPH_COMPAT32").map_or_else(|| "/bin/compat32".into(), PathBuf::from);
    if !program.exists() {
        skip!("{} is not there", program.display());
    }
    bench.each(Gate::BOTH, |bench, gate| {
        let (endpoint, device) = enabled(bench, gate, Requester::Standard);
        // SAFETY: the device is open until the end of the round.
        let fd = unsafe { BorrowedFd::borrow_raw(device.as_raw_fd()) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).expect("a descriptor to inherit");
        let output = Command::new(&program)
            .args([
                fd.as_raw_fd().to_string(),
                CPU.to_string(),
                OTHER_CPU.to_string(),
            ])
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(endpoint.entries()[..2], [st(CPU), st(OTHER_CPU)]);
        let offer = device.tph().expect("GET of TPH");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            format!(
                "{:x} {:x} {:x} {:x}",
                offer.flags, offer.st_entries, offer.modes, offer.policy
            )
        );
    });
}

fn main() -> ExitCode {
    harness::run(tests![r8_a_32_bit_program])
}
