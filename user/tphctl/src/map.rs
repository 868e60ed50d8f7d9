// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! `tphctl map`: which CPU has which tag.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use vfio_tph::{Device, Error, Hint, Namespace, Refusal, Source, Tph};

use crate::failure::{Failure, Kind};
use crate::machine::{Machine, Pci};
use crate::{output, picture};

/// A CPU, where it is, and its tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Its number.
    pub cpu: u32,
    /// Its package.
    pub package: i64,
    /// The id of its last level cache.
    pub l3: Option<i64>,
    /// Its core in the package.
    pub core: i64,
    /// Its tag, if firmware has a valid one.
    pub tag: Option<u16>,
    /// The completer ignores the processing hint.
    pub ph_ignored: bool,
}

#[derive(Serialize)]
struct Map<'a> {
    address: String,
    namespace: &'static str,
    memory: &'static str,
    resolve_calls: u32,
    cpus: &'a [Cpu],
}

/// Shows it.
pub fn run(
    machine: &Machine,
    device: &Pci,
    extended: bool,
    persistent: bool,
    svg: Option<&Path>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut cpus = present(machine)?;
    let open = Device::open(&device.address)?;
    let tph = Tph::of(&open)?;
    let namespace = match extended {
        true => Namespace::Extended,
        false => Namespace::Standard,
    };
    if extended && !tph.offer().extended {
        return Err(Failure::new(
            Kind::NotUsable,
            format_args!("{0}: no extended tags: tphctl why {0}", device.address),
        ));
    }
    let calls = look_up(&mut cpus, persistent, |sources| {
        tph.resolve(namespace, sources)
    })
    .map_err(|error| undisclosed(machine, device, error))?;
    cpus.sort_by_key(|cpu| (cpu.package, cpu.l3, cpu.core, cpu.cpu));

    let namespace = if extended { "extended" } else { "standard" };
    if let Some(file) = svg {
        let title = format!("{} tags, {}", namespace, device.address);
        fs::write(file, picture::draw(&title, &cpus))
            .map_err(|error| Failure::file(file, &error))?;
    }
    if json {
        output::json(&Map {
            address: device.address.to_string(),
            namespace,
            memory: if persistent { "persistent" } else { "volatile" },
            resolve_calls: calls,
            cpus: &cpus,
        });
    } else if svg.is_none() {
        show(&cpus);
    }
    Ok(ExitCode::SUCCESS)
}

fn undisclosed(machine: &Machine, device: &Pci, error: Error) -> Failure {
    if !matches!(
        error,
        Error::Refused {
            refusal: Refusal::Undisclosed,
            ..
        }
    ) {
        return error.into();
    }
    let policy = device.policy().unwrap_or_default();
    let name = machine.name(device);
    let remedy = match machine.unsafe_gate(&name).as_deref() {
        Some("Y") => format!("tphctl policy {} ds_st", device.address),
        _ => format!("load {name} with enable_unsafe_tph=Y, and choose ds_st"),
    };
    Failure::new(
        Kind::Permission,
        format_args!(
            "{}: policy {policy} shows no tags: {remedy}",
            device.address
        ),
    )
}

/// Looks up the tags of CPUs: in one call, and one more for each CPU that has none. Returns the
/// number of calls.
fn look_up(
    cpus: &mut [Cpu],
    persistent: bool,
    mut resolve: impl FnMut(&[Source]) -> Result<Vec<Hint>, Error>,
) -> Result<u32, Error> {
    let mut wanted: Vec<usize> = (0..cpus.len()).collect();
    let mut calls = 0;
    while !wanted.is_empty() {
        let sources: Vec<Source> = wanted
            .iter()
            .map(|&at| Source::Cpu {
                number: cpus[at].cpu,
                persistent,
            })
            .collect();
        calls += 1;
        match resolve(&sources) {
            Ok(hints) => {
                for (&at, hint) in wanted.iter().zip(hints) {
                    cpus[at].tag = hint.tag;
                    cpus[at].ph_ignored = hint.ph_ignored;
                }
                break;
            }
            Err(Error::Refused {
                refusal: Refusal::NoTag,
                source_at: Some((position, _)),
                ..
            }) if position < wanted.len() => {
                wanted.remove(position);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(calls)
}

/// The CPUs that are present, and where they are.
fn present(machine: &Machine) -> Result<Vec<Cpu>, Failure> {
    let path = machine.path("sys/devices/system/cpu/present");
    let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
    Ok(list(text.trim())
        .into_iter()
        .map(|cpu| {
            let number = |file: &str| {
                machine
                    .read(&format!("sys/devices/system/cpu/cpu{cpu}/{file}"))?
                    .parse()
                    .ok()
            };
            Cpu {
                cpu,
                // An offline CPU has no topology.
                package: number("topology/physical_package_id").unwrap_or(-1),
                l3: number("cache/index3/id"),
                core: number("topology/core_id").unwrap_or(-1),
                tag: None,
                ph_ignored: false,
            }
        })
        .collect())
}

/// A list of CPUs as the kernel writes it: `0-3,8`.
fn list(text: &str) -> Vec<u32> {
    text.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse::<u32>().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

/// A tag for people.
pub fn tag(cpu: &Cpu) -> String {
    cpu.tag.map_or("-".to_owned(), |tag| format!("{tag:#04x}"))
}

fn show(cpus: &[Cpu]) {
    let mut table = output::table(["PACKAGE", "L3", "CORE", "CPU", "TAG"]);
    for cpu in cpus {
        table.add_row([
            cpu.package.to_string(),
            cpu.l3.map_or("-".to_owned(), |id| id.to_string()),
            cpu.core.to_string(),
            cpu.cpu.to_string(),
            tag(cpu),
        ]);
    }
    output::show(&table);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(cpu: u32) -> Cpu {
        Cpu {
            cpu,
            package: 0,
            l3: None,
            core: 0,
            tag: None,
            ph_ignored: false,
        }
    }

    fn hint(source: &Source) -> Hint {
        let Source::Cpu { number, .. } = source else {
            panic!("{source} is no CPU");
        };
        Hint {
            tag: Some(*number as u16 + 1),
            ph: 0,
            ph_ignored: false,
        }
    }

    #[test]
    fn sixty_four_cpus_are_one_call() {
        let mut cpus: Vec<Cpu> = (0..64).map(cpu).collect();
        let calls = look_up(&mut cpus, false, |sources| {
            Ok(sources.iter().map(hint).collect())
        });
        assert_eq!(calls.unwrap(), 1);
        assert!(cpus.iter().all(|cpu| cpu.tag == Some(cpu.cpu as u16 + 1)));
    }

    #[test]
    fn a_cpu_without_a_tag_is_one_call_more() {
        let mut cpus: Vec<Cpu> = (0..4).map(cpu).collect();
        let without = [0, 3];
        let calls = look_up(&mut cpus, false, |sources| {
            let fault = sources
                .iter()
                .position(|source| without.iter().any(|&cpu| *source == Source::cpu(cpu)));
            match fault {
                None => Ok(sources.iter().map(hint).collect()),
                Some(position) => Err(Error::Refused {
                    feature: vfio_tph::Feature::Resolve,
                    refusal: Refusal::NoTag,
                    source_at: Some((position, sources[position])),
                    errno: 95,
                }),
            }
        });
        assert_eq!(calls.unwrap(), 3);
        let tags: Vec<_> = cpus.iter().map(|cpu| cpu.tag).collect();
        assert_eq!(tags, [None, Some(2), Some(3), None]);
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(list("0"), [0]);
        assert!(list("").is_empty());
    }
}
