// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! `tphctl why`: the whole path, step by step.

use std::fs;
use std::io;
use std::process::ExitCode;

use owo_colors::OwoColorize;
use serde::Serialize;
use vfio_tph::registers::{Completer, Table};

use crate::failure::{Failure, Kind};
use crate::machine::{Machine, Pci, IN_PLACE};
use crate::output;
use crate::path::{self, obstacle, Obstacle, Path};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// TPH is not usable.
    Wrong,
    /// TPH is usable, but not all of it.
    Limited,
    /// Nothing tells.
    Unknown,
}

#[derive(Debug, Serialize)]
struct Step {
    step: &'static str,
    verdict: Verdict,
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

#[derive(Debug, Serialize)]
struct Answer {
    address: String,
    usable: bool,
    reason: Option<String>,
    steps: Vec<Step>,
    /// What the driver itself says, a line each.
    driver: Option<Vec<String>>,
}

struct Steps(Vec<Step>);

impl Steps {
    fn add(&mut self, step: &'static str, verdict: Verdict, what: impl Into<String>) {
        self.0.push(Step {
            step,
            verdict,
            what: what.into(),
            remedy: None,
        });
    }

    fn obstacle(&mut self, step: &'static str, verdict: Verdict, obstacle: Obstacle) {
        self.0.push(Step {
            step,
            verdict,
            what: obstacle.reason,
            remedy: Some(obstacle.remedy),
        });
    }

    fn check(&mut self, step: &'static str, obstacle: Option<Obstacle>, fine: impl Into<String>) {
        match obstacle {
            Some(obstacle) => self.obstacle(step, Verdict::Wrong, obstacle),
            None => self.add(step, Verdict::Ok, fine),
        }
    }
}

/// Says why. The exit status is 0 if TPH is usable by who opens the device.
pub fn run(machine: &Machine, device: &Pci, json: bool) -> Result<ExitCode, Failure> {
    let path = Path::of(machine, device);
    if path.cut_off && path.requester.is_none() {
        return Err(Failure::new(
            Kind::Permission,
            format_args!(
                "{}: extended config space is shown to root alone: try sudo tphctl why",
                device.address
            ),
        ));
    }
    let mut steps = Steps(Vec::new());
    capability(&mut steps, &path);
    if path.requester.is_some() {
        ports(&mut steps, &path);
        kernel(&mut steps, machine);
        group(&mut steps, machine, device, &path);
        driver(&mut steps, machine, device, &path);
    }
    let said = firmware(&mut steps, machine, device);

    let reason = steps
        .0
        .iter()
        .find(|step| step.verdict == Verdict::Wrong)
        .map(|step| step.what.clone());
    let answer = Answer {
        address: device.address.to_string(),
        usable: reason.is_none(),
        reason,
        steps: steps.0,
        driver: said,
    };
    if json {
        output::json(&answer);
    } else {
        show(&answer);
    }
    Ok(match answer.usable {
        true => ExitCode::SUCCESS,
        false => Kind::NotUsable.exit_code(),
    })
}

fn capability(steps: &mut Steps, path: &Path) {
    let Some(requester) = path.requester else {
        let what = obstacle(
            "the device has no TPH Requester capability",
            "look for TPH in the setup of the device's own firmware; else it is another device's turn",
        );
        steps.obstacle("capability", Verdict::Wrong, what);
        return;
    };
    let table = match requester.table() {
        Table::None => "no ST table".to_owned(),
        Table::Capability => format!("ST table of {} entries in the capability", path.entries()),
        Table::Msix => format!("ST table in MSI-X, of {} vectors", path.entries()),
    };
    steps.add("capability", Verdict::Ok, format!("TPH Requester, {table}"));
}

fn ports(steps: &mut Steps, path: &Path) {
    let fine = match path.root_port() {
        Some((port, express)) => {
            let extended = express.is_some_and(|express| express.completer == Completer::Extended);
            let extended = if extended { ", extended ones too" } else { "" };
            format!(
                "root port {} completes TPH requests{extended}",
                port.address
            )
        }
        None => "the device is in the root complex".to_owned(),
    };
    steps.check("root port", path.root_port_obstacle(), fine);
    let switches: Vec<String> = path
        .ports
        .iter()
        .skip(1)
        .map(|(port, _)| port.address.to_string())
        .collect();
    match path.extended_obstacle() {
        Some(obstacle) => steps.obstacle("extended tags", Verdict::Limited, obstacle),
        None => {
            let behind = match switches.is_empty() {
                true => String::new(),
                false => format!(", through {}", switches.join(" and ")),
            };
            steps.add(
                "extended tags",
                Verdict::Ok,
                format!("the path carries them{behind}"),
            );
        }
    }
}

fn kernel(steps: &mut Steps, machine: &Machine) {
    match path::kernel_obstacle(machine) {
        Some(obstacle) => steps.obstacle("kernel", Verdict::Wrong, obstacle),
        None if machine.kernel_has_tph().is_none() => steps.add(
            "kernel",
            Verdict::Unknown,
            "nothing says whether it was built with CONFIG_PCIE_TPH",
        ),
        None => steps.add(
            "kernel",
            Verdict::Ok,
            "has CONFIG_PCIE_TPH, and no pci=notph",
        ),
    }
}

fn group(steps: &mut Steps, machine: &Machine, device: &Pci, path: &Path) {
    let Some(group) = device.group() else {
        let what = obstacle(
            "the device is in no IOMMU group",
            "switch the IOMMU on: in the setup of the firmware, and with intel_iommu=on",
        );
        steps.obstacle("IOMMU group", Verdict::Wrong, what);
        return;
    };
    let others: Vec<String> = device
        .neighbours(machine)
        .into_iter()
        .filter(|neighbour| !neighbour.is_bridge())
        .filter(|neighbour| {
            neighbour
                .driver()
                .is_some_and(|driver| !driver.contains("vfio") && driver != "pci-stub")
        })
        .map(|neighbour| neighbour.address.to_string())
        .collect();
    if !others.is_empty() {
        let what = obstacle(
            format!(
                "{} of group {group} has a driver of the kernel's",
                others.join(" and ")
            ),
            "bind all devices of the group to vfio_tph or vfio-pci, or unbind them",
        );
        steps.obstacle("IOMMU group", Verdict::Wrong, what);
        return;
    }
    let discloses = matches!(device.policy().as_deref(), Some("ds_st" | "literal"));
    match path.group_obstacle(Some(&group)).filter(|_| !discloses) {
        Some(obstacle) => steps.obstacle("IOMMU group", Verdict::Limited, obstacle),
        None => steps.add("IOMMU group", Verdict::Ok, group),
    }
}

fn driver(steps: &mut Steps, machine: &Machine, device: &Pci, path: &Path) {
    let is_ours = machine.ours(device).is_some();
    if !is_ours && !machine.driver_is_loaded() {
        let what = obstacle("vfio_tph is not loaded", "modprobe vfio_tph");
        steps.obstacle("module", Verdict::Wrong, what);
        return;
    }
    let name = machine.name(device);
    let loaded = match name.as_str() {
        IN_PLACE => "vfio-pci is loaded, this driver in its place and not the kernel's",
        _ => "vfio_tph is loaded",
    };
    let gate = match machine.unsafe_gate(&name).as_deref() {
        Some("Y") => ", enable_unsafe_tph=Y: users may be let see and choose tags",
        _ => ", enable_unsafe_tph=N: users see no tags",
    };
    steps.add("module", Verdict::Ok, format!("{loaded}{gate}"));

    if !is_ours {
        let what = obstacle(
            match device.driver() {
                Some(other) if other == IN_PLACE => {
                    "the kernel's vfio-pci has the device".to_owned()
                }
                Some(other) => format!("{other} has the device"),
                None => "no driver has the device".to_owned(),
            },
            format!("tphctl bind {}", device.address),
        );
        steps.obstacle("binding", Verdict::Wrong, what);
        return;
    }
    steps.add("binding", Verdict::Ok, format!("{name} has the device"));
    let Some(policy) = device.policy() else {
        return;
    };
    let what = match policy.as_str() {
        "no_st" => "no_st: hints without tags",
        "iv_st" => "iv_st: tags for vectors, by the caller's CPUs, and not shown",
        "ds_st" => "ds_st: tags by any CPU or dma-buf, and shown",
        "literal" => "literal: any tag",
        other => other,
    };
    if policy == "no_st" && path.entries() != 0 {
        let remedy = format!("tphctl policy {} iv_st", device.address);
        steps.obstacle("policy", Verdict::Limited, obstacle(what, remedy));
    } else {
        steps.add("policy", Verdict::Ok, what);
    }
}

/// What the driver knows and nobody else. Without it there is nothing to add.
fn firmware(steps: &mut Steps, machine: &Machine, device: &Pci) -> Option<Vec<String>> {
    machine.ours(device)?;
    let file = machine.debugfs(device, "why");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            let why = match error.kind() {
                io::ErrorKind::PermissionDenied => "debugfs is shown to root alone",
                _ => "debugfs is not mounted, or this vfio_tph has no 'why'",
            };
            steps.add("firmware", Verdict::Unknown, why);
            return None;
        }
    };
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Some(reason) = lines
        .iter()
        .find_map(|line| line.strip_prefix("usable no: "))
    {
        let known = steps.0.iter().any(|step| step.verdict == Verdict::Wrong);
        if !known {
            let remedy = "bind the device again, if this has changed since it was bound or opened";
            steps.obstacle("driver", Verdict::Wrong, obstacle(reason, remedy));
        }
    }
    let cpus: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("cpu "))
        .collect();
    if let Some(line) = lines.iter().find(|line| line.starts_with("firmware ")) {
        let verdict = match line.ends_with("not asked yet") {
            true => Verdict::Unknown,
            false => Verdict::Limited,
        };
        let remedy = match verdict {
            Verdict::Unknown => "tphctl hold or map has it asked",
            _ => {
                "a version of the firmware with the _DSM of the PCI Firmware Specification for \
                 steering tags"
            }
        };
        steps.obstacle("firmware", verdict, obstacle(line.clone(), remedy));
    } else if !cpus.is_empty() {
        let without = cpus.iter().filter(|line| !has_tag(line)).count();
        let what = format!(
            "has tags of {} of {} CPUs that were looked up",
            cpus.len() - without,
            cpus.len()
        );
        steps.add(
            "firmware",
            if without == 0 {
                Verdict::Ok
            } else {
                Verdict::Limited
            },
            what,
        );
    }
    Some(lines)
}

/// Whether firmware has any valid tag of a CPU, by its line of debugfs `why`.
fn has_tag(line: &str) -> bool {
    line.split_whitespace()
        .any(|word| matches!(word, "st" | "xst" | "st,xst"))
}

fn show(answer: &Answer) {
    for step in &answer.steps {
        let name = format!("{:<14}", step.step);
        match step.verdict {
            Verdict::Ok => crate::say!("{} {name} {}", "ok".green(), step.what),
            Verdict::Wrong => crate::say!("{} {name} {}", "NO".red().bold(), step.what),
            Verdict::Limited => crate::say!("{} {name} {}", "--".yellow(), step.what),
            Verdict::Unknown => crate::say!("{} {name} {}", "??".dimmed(), step.what),
        }
        if let Some(remedy) = &step.remedy {
            crate::say!("{:18}{}", "", format_args!("-> {remedy}").italic());
        }
    }
    match &answer.reason {
        None => crate::say!("TPH is usable on {}", answer.address),
        Some(reason) => crate::say!("TPH is not usable on {}: {reason}", answer.address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::DRIVER;
    use crate::tree::{config, Tree, REQUESTER};

    fn wrong(tree: &Tree, device: &Pci) -> Option<String> {
        let path = Path::of(&tree.machine, device);
        let mut steps = Steps(Vec::new());
        capability(&mut steps, &path);
        if path.requester.is_some() {
            ports(&mut steps, &path);
            kernel(&mut steps, &tree.machine);
            group(&mut steps, &tree.machine, device, &path);
            driver(&mut steps, &tree.machine, device, &path);
        }
        firmware(&mut steps, &tree.machine, device);
        let step = steps
            .0
            .into_iter()
            .find(|step| step.verdict == Verdict::Wrong)?;
        assert!(step.remedy.is_some(), "{step:?}");
        Some(step.what)
    }

    #[test]
    fn the_first_of_several_reasons() {
        let tree = Tree::new();
        let plain = tree.function("0000:00:04.0", &config(9, 0, true, None), None);
        let integrated = config(9, 0, true, Some(REQUESTER));
        let lonely = tree.function("0000:00:05.0", &integrated, None);
        let device = tree.endpoint("0000:01:00.0", Some("nvme"));
        for (device, what) in [
            (&plain, "the device has no TPH Requester capability"),
            (&lonely, "the device is in no IOMMU group"),
            (&device, "vfio_tph is not loaded"),
        ] {
            assert_eq!(wrong(&tree, device).as_deref(), Some(what));
        }
        tree.driver(DRIVER);
        assert_eq!(
            wrong(&tree, &device).as_deref(),
            Some("nvme has the device")
        );
    }

    #[test]
    fn which_vfio_pci_has_the_device() {
        let tree = Tree::new();
        let device = tree.endpoint("0000:01:00.0", Some(IN_PLACE));
        assert_eq!(
            wrong(&tree, &device).as_deref(),
            Some("vfio_tph is not loaded")
        );
        tree.driver(DRIVER);
        assert_eq!(
            wrong(&tree, &device).as_deref(),
            Some("the kernel's vfio-pci has the device")
        );
        tree.write("sys/module/vfio_pci/parameters/enable_unsafe_tph", "N\n");
        assert_eq!(wrong(&tree, &device), None);
        let why = "sys/kernel/debug/vfio-pci/0000:01:00.0/why";
        tree.write(why, "usable no: hidden by vfio-pci-core\n");
        assert_eq!(
            wrong(&tree, &device).as_deref(),
            Some("hidden by vfio-pci-core")
        );
    }

    #[test]
    fn what_the_driver_alone_knows() {
        let tree = Tree::new();
        let device = tree.endpoint("0000:01:00.0", Some(DRIVER));
        assert_eq!(wrong(&tree, &device), None);
        let why = "sys/kernel/debug/vfio_tph/0000:01:00.0/why";
        tree.write(why, "usable no: hidden by vfio-pci-core\n");
        assert_eq!(
            wrong(&tree, &device).as_deref(),
            Some("hidden by vfio-pci-core")
        );
    }

    #[test]
    fn tags_in_a_line_of_a_cpu() {
        assert!(has_tag("0 volatile st,xst persistent none"));
        assert!(has_tag("0 volatile none persistent xst"));
        assert!(!has_tag("0 volatile none persistent none"));
        assert!(!has_tag("6 no answer"));
    }
}
