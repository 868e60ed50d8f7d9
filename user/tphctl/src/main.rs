// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! `tphctl`: TPH of PCI devices for administrators.
#![forbid(unsafe_code)]

mod aml;
mod bind;
mod cli;
mod failure;
mod guest_acpi;
mod hold;
mod list;
mod machine;
mod map;
mod names;
mod output;
mod path;
mod picture;
#[cfg(test)]
mod tree;
mod vcpus;
mod watch;
mod why;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::vcpus::Source;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(code) => code,
        Err(failure) => {
            if cli.json {
                output::json(&serde_json::json!({ "error": failure.to_string() }));
            }
            anstream::eprintln!("tphctl: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode, Failure> {
    let machine = Machine::new(&cli.root);
    match &cli.command {
        Command::List { all } => list::run(&machine, *all, cli.json),
        Command::Why { device } => why::run(&machine, &machine.device(device)?, cli.json),
        Command::Bind {
            device,
            policy,
            persist,
        } => bind::bind(
            &machine,
            &machine.device(device)?,
            policy.as_ref().map(|policy| policy.0),
            *persist,
            cli.json,
        ),
        Command::Unbind { device, persist } => {
            bind::unbind(&machine, &machine.device(device)?, *persist, cli.json)
        }
        Command::Policy { device, policy } => bind::policy(
            &machine,
            &machine.device(device)?,
            policy.as_ref().map(|policy| policy.0),
            cli.json,
        ),
        Command::Map {
            device,
            extended,
            persistent,
            svg,
        } => map::run(
            &machine,
            &machine.device(device)?,
            *extended,
            *persistent,
            svg.as_deref(),
            cli.json,
        ),
        Command::Hold {
            device,
            entries,
            extended,
            command,
        } => hold::run(
            &machine,
            &machine.device(device)?,
            entries,
            *extended,
            command,
            cli.json,
        ),
        Command::Watch {
            device,
            interval,
            count,
        } => watch::run(
            &machine,
            &machine.device(device)?,
            *interval,
            *count,
            cli.json,
        ),
        Command::GuestAcpi {
            vcpus,
            bridges,
            output,
        } => guest_acpi::run(*vcpus, bridges, output, cli.json),
        Command::Vcpus {
            device,
            qemu,
            qmp,
            first,
        } => vcpus::run(
            &machine,
            &machine.device(device)?,
            qemu.map(Source::Process)
                .or(qmp.as_deref().map(Source::Monitor)),
            *first,
            cli.json,
        ),
        Command::Man { directory } => output::man_pages(directory),
        Command::Completions { shell } => {
            clap_complete::generate(
                *shell,
                &mut Cli::command(),
                "tphctl",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
    }
}
