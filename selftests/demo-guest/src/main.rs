// SPDX-License-Identifier: GPL-2.0-only

//! The demo's part in the guest: a process programs the steering tags of an endpoint through
//! vfio_tph, and shows what each party made of it.
//!
//! Everything that is printed is compared with what it should be. The library panics where
//! something is not as it should be, and so do the steps here; the last line says which it was.

mod steps;

use std::panic::{self, PanicHookInfo};
use std::process::ExitCode;

use tph_selftests::harness::Skip;

fn main() -> ExitCode {
    panic::set_hook(Box::new(|info| println!("\ndemo: FAILED {}", reason(info))));
    match panic::catch_unwind(steps::run) {
        Ok(summary) => {
            println!("\ndemo: ok {summary}");
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Why and where, in one line.
fn reason(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let text = if let Some(Skip(why)) = payload.downcast_ref() {
        why
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        payload.downcast_ref::<&str>().copied().unwrap_or("a panic")
    };
    let place = info
        .location()
        .map_or(String::new(), |at| format!(" ({at})"));
    text.split_whitespace().collect::<Vec<_>>().join(" ") + &place
}
