// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! `tphctl hold`: TPH on, for trying a device out.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use rustix::event::{eventfd, EventfdFlags};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use vfio_tph::registers::{ReadConfig, Table, TABLE};
use vfio_tph::{Device, Namespace, RequesterEnable, Source, StMode, Tph};

use crate::cli::Entries;
use crate::failure::{Failure, Kind};
use crate::machine::{Machine, Pci};
use crate::output;

/// Enables, programs, waits.
pub fn run(
    _machine: &Machine,
    device: &Pci,
    entries: &[Entries],
    extended: bool,
    command: &[OsString],
    json: bool,
) -> Result<ExitCode, Failure> {
    // From here on a signal ends the wait, and not this program in the middle of something.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])
        .map_err(|error| Failure::new(Kind::Failed, format_args!("signals: {error}")))?;
    let open = Device::open(&device.address)?;
    let tph = Tph::of(&open)?;
    check(device, &tph, entries, extended)?;

    // An entry of a table in MSI-X is there for a vector that is allocated.
    let vectors = eventfds(&tph, entries)?;
    if !vectors.is_empty() {
        let fds: Vec<_> = vectors.iter().map(OwnedFd::as_fd).collect();
        open.allocate_msix(&fds)?;
    }
    let (requester, namespace) = match extended {
        true => (RequesterEnable::Extended, Namespace::Extended),
        false => (RequesterEnable::Standard, Namespace::Standard),
    };
    tph.enable(StMode::InterruptVector, requester)?;
    for entries in entries {
        let sources: Vec<Source> = entries
            .entries
            .clone()
            .enumerate()
            .map(|(place, _)| {
                entries
                    .first_cpu
                    .map_or(Source::None, |first| Source::cpu(first + place as u32))
            })
            .collect();
        tph.program_in(namespace, *entries.entries.start(), &sources)?;
    }
    show(device, &tph, entries, json)?;

    if command.is_empty() {
        signals.forever().next();
        return Ok(ExitCode::SUCCESS);
    }
    let status = Command::new(&command[0])
        .args(&command[1..])
        .env("TPH_DEVICE", device.address.to_string())
        .status()
        .map_err(|error| {
            Failure::new(
                Kind::Failed,
                format_args!("{}: {error}", command[0].to_string_lossy()),
            )
        })?;
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(ExitCode::from(code as u8))
}

fn check(device: &Pci, tph: &Tph<'_>, entries: &[Entries], extended: bool) -> Result<(), Failure> {
    let offer = tph.offer();
    let address = device.address;
    if !offer.has(StMode::InterruptVector) || offer.entries == 0 {
        return Err(Failure::new(
            Kind::NotUsable,
            format_args!("{address}: no entries can be programmed: tphctl why {address}"),
        ));
    }
    if extended && !offer.extended {
        return Err(Failure::new(
            Kind::NotUsable,
            format_args!("{address}: no extended tags: tphctl why {address}"),
        ));
    }
    match last(entries) {
        last if last >= offer.entries => Err(Failure::new(
            Kind::Usage,
            format_args!(
                "{address}: entry {last}: the table has entries 0 to {}",
                offer.entries - 1
            ),
        )),
        _ => Ok(()),
    }
}

fn last(entries: &[Entries]) -> u16 {
    entries
        .iter()
        .map(|entries| *entries.entries.end())
        .max()
        .unwrap_or(0)
}

fn eventfds(tph: &Tph<'_>, entries: &[Entries]) -> Result<Vec<OwnedFd>, Failure> {
    if tph.offer().table != Table::Msix {
        return Ok(Vec::new());
    }
    (0..=last(entries))
        .map(|_| {
            eventfd(0, EventfdFlags::CLOEXEC)
                .map_err(|error| Failure::new(Kind::Failed, format_args!("eventfd: {error}")))
        })
        .collect()
}

/// The entry in the capability, where it is shown.
fn shown_tag(tph: &Tph<'_>, entry: u16) -> Option<u16> {
    if !tph.offer().discloses_tags || tph.offer().table != Table::Capability {
        return None;
    }
    let at = tph.capability() + TABLE + 2 * entry;
    let dword = tph.dword(at & !3)?;
    Some((dword >> (8 * (at & 3))) as u16)
}

fn show(device: &Pci, tph: &Tph<'_>, entries: &[Entries], json: bool) -> Result<(), Failure> {
    let control = tph.control()?;
    let mut table = output::table(["ENTRY", "CPU", "TAG"]);
    let mut rows = Vec::new();
    for entries in entries {
        for (place, entry) in entries.entries.clone().enumerate() {
            let cpu = entries.first_cpu.map(|first| first + place as u32);
            let tag = shown_tag(tph, entry);
            rows.push(json!({ "entry": entry, "cpu": cpu, "tag": tag }));
            table.add_row([
                entry.to_string(),
                cpu.map_or("none".to_owned(), |cpu| cpu.to_string()),
                tag.map_or("not shown".to_owned(), |tag| format!("{tag:#04x}")),
            ]);
        }
    }
    if json {
        output::json(&json!({
            "address": device.address.to_string(),
            "control": control.to_string(),
            "policy": tph.offer().policy.name(),
            "entries": rows,
        }));
    } else {
        crate::say!(
            "{}: {control}, policy {}",
            device.address,
            tph.offer().policy
        );
        output::show(&table);
    }
    Ok(())
}
