// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! What is written, for people and for programs.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use comfy_table::presets::NOTHING;
use comfy_table::Table;
use serde::Serialize;

use crate::cli::Cli;
use crate::failure::Failure;

/// Writes a line for people. Whoever reads may have gone.
#[macro_export]
macro_rules! say {
    ($($what:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(anstream::stdout(), $($what)*);
    }};
}

/// Writes one JSON value, in a line of its own.
pub fn json(value: &impl Serialize) {
    // Values of ours always serialize.
    let text = serde_json::to_string(value).unwrap_or_default();
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A table without lines, with a header.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Writes a table, without blanks at the ends of lines.
pub fn show(table: &Table) {
    for line in table.lines() {
        say!("{}", line.trim_end());
    }
}

/// Writes the man pages of all commands.
pub fn man_pages(directory: &Path) -> Result<ExitCode, Failure> {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|error| Failure::file(directory, &error))?;
    Ok(ExitCode::SUCCESS)
}
