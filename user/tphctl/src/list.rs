// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! `tphctl list`.

use std::process::ExitCode;

use owo_colors::OwoColorize;
use serde::Serialize;
use vfio_tph::registers::Express;
use vfio_tph::StMode;

use crate::failure::{Failure, Kind};
use crate::machine::{Machine, Pci};
use crate::names::Names;
use crate::output;
use crate::path::{self, Path};

#[derive(Debug, Serialize)]
struct Row {
    address: String,
    name: String,
    vendor_id: String,
    device_id: String,
    driver: Option<String>,
    requester: bool,
    table: Option<&'static str>,
    entries: u16,
    modes: Vec<&'static str>,
    extended: bool,
    completer: Option<&'static str>,
    root_port: Option<String>,
    root_port_completer: Option<&'static str>,
    iommu_group: Option<String>,
    policy: Option<String>,
    usable: bool,
    reason: Option<String>,
}

/// Lists them.
pub fn run(machine: &Machine, all: bool, json: bool) -> Result<ExitCode, Failure> {
    let rows = collect(machine, all)?;
    if json {
        output::json(&rows);
    } else if rows.is_empty() {
        crate::say!("no device of this machine has TPH");
    } else {
        show(&rows);
    }
    Ok(ExitCode::SUCCESS)
}

fn collect(machine: &Machine, all: bool) -> Result<Vec<Row>, Failure> {
    let mut found = Vec::new();
    let mut cut_off = false;
    for device in machine.devices()? {
        let path = Path::of(machine, &device);
        cut_off |= path.cut_off;
        let is_port = path.express.as_ref().is_some_and(Express::is_port);
        if path.requester.is_some() || path.is_completer() && (all || !is_port) {
            found.push((device, path));
        }
    }
    if cut_off && found.is_empty() {
        return Err(Failure::new(
            Kind::Permission,
            "extended config space is shown to root alone: try sudo tphctl list",
        ));
    }
    let ids: Vec<_> = found.iter().map(|(device, _)| device.ids()).collect();
    let names = Names::of(machine.root(), &ids);
    Ok(found
        .iter()
        .map(|(device, path)| row(machine, device, path, &names))
        .collect())
}

fn row(machine: &Machine, device: &Pci, path: &Path, names: &Names) -> Row {
    let (vendor, id) = device.ids();
    let reason = first_reason(machine, device, path);
    let root_port = path.root_port();
    let requester = path.requester;
    Row {
        address: device.address.to_string(),
        name: names.get((vendor, id)),
        vendor_id: format!("{vendor:04x}"),
        device_id: format!("{id:04x}"),
        driver: device.driver(),
        requester: requester.is_some(),
        table: requester.map(|requester| path::table_name(requester.table())),
        entries: path.entries(),
        modes: requester.map_or_else(Vec::new, |requester| {
            StMode::ALL
                .into_iter()
                .filter(|mode| requester.modes() & mode.bit() != 0)
                .map(path::short)
                .collect()
        }),
        extended: requester.is_some() && path.extended_obstacle().is_none(),
        completer: path
            .express
            .map(|express| path::completer_name(express.completer)),
        root_port: root_port.map(|(port, _)| port.address.to_string()),
        root_port_completer: root_port
            .and_then(|(_, express)| *express)
            .map(|express| path::completer_name(express.completer)),
        iommu_group: device.group(),
        policy: device.policy(),
        usable: reason.is_none(),
        reason,
    }
}

/// Why a user of the device has no TPH now; the first reason.
fn first_reason(machine: &Machine, device: &Pci, path: &Path) -> Option<String> {
    if path.requester.is_none() {
        return Some("a completer alone".to_owned());
    }
    if let Some(obstacle) = path
        .root_port_obstacle()
        .or_else(|| path::kernel_obstacle(machine))
    {
        return Some(obstacle.reason);
    }
    if device.group().is_none() {
        return Some("no IOMMU group: no IOMMU, or it is off".to_owned());
    }
    if machine.ours(device).is_none() {
        return Some("not bound to vfio_tph".to_owned());
    }
    None
}

fn show(rows: &[Row]) {
    let mut table = output::table([
        "DEVICE",
        "DRIVER",
        "TABLE",
        "ENTRIES",
        "MODES",
        "EXT",
        "ROOT PORT",
        "GROUP",
        "TPH",
        "NAME",
    ]);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for row in rows {
        table.add_row([
            row.address.clone(),
            or_dash(&row.driver),
            row.table.unwrap_or("-").to_owned(),
            row.entries.to_string(),
            match row.modes.is_empty() {
                true => "-".to_owned(),
                false => row.modes.join(","),
            },
            if row.extended { "yes" } else { "no" }.to_owned(),
            row.root_port_completer.unwrap_or("-").to_owned(),
            or_dash(&row.iommu_group),
            match &row.reason {
                None => format!("usable, {}", or_dash(&row.policy)),
                Some(reason) => reason.clone(),
            },
            row.name.clone(),
        ]);
    }
    for (line, row) in table
        .lines()
        .zip(std::iter::once(None).chain(rows.iter().map(Some)))
    {
        let line = line.trim_end();
        match row {
            None => crate::say!("{}", line.bold()),
            Some(row) if row.usable => crate::say!("{}", line.green()),
            Some(_) => crate::say!("{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::DRIVER;
    use crate::tree::{config, Tree, REQUESTER};

    /// Seconds of this thread on a CPU.
    fn cpu_time() -> f64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    }

    fn rows(tree: &Tree) -> Vec<Row> {
        let names = Names::of(tree.machine.root(), &[]);
        tree.machine
            .devices()
            .unwrap()
            .iter()
            .map(|device| {
                row(
                    &tree.machine,
                    device,
                    &Path::of(&tree.machine, device),
                    &names,
                )
            })
            .collect()
    }

    #[test]
    fn a_usable_device() {
        let tree = Tree::new();
        tree.endpoint("0000:01:00.0", Some(DRIVER));
        let rows = rows(&tree);
        let row = rows.iter().find(|row| row.requester).unwrap();
        assert_eq!(row.address, "0000:01:00.0");
        assert_eq!((row.table, row.entries), (Some("capability"), 64));
        assert_eq!(row.modes, ["NS", "IV", "DS"]);
        assert_eq!(row.root_port.as_deref(), Some("0000:00:10.0"));
        assert_eq!(row.root_port_completer, Some("extended"));
        assert_eq!(row.iommu_group.as_deref(), Some("01"));
        assert!(row.extended && row.usable, "{row:?}");
        assert_eq!(row.name, "1234:5678");
    }

    /// The first reason is given, and each of them alone.
    #[test]
    fn reasons_in_their_order() {
        let reason = |change: &dyn Fn(&Tree)| {
            let tree = Tree::new();
            change(&tree);
            let rows = rows(&tree);
            let row = rows.into_iter().find(|row| row.requester).unwrap();
            row.reason.unwrap()
        };
        let port = |completer| {
            move |tree: &Tree| {
                tree.function("0000:00:10.0", &config(4, completer, true, None), None);
                tree.endpoint("0000:01:00.0", None);
                tree.write("proc/cmdline", "quiet pci=nomsi,notph");
            }
        };
        assert_eq!(
            reason(&port(0b00)),
            "root port 0000:00:10.0 completes no TPH requests (field 00b)"
        );
        assert_eq!(
            reason(&port(0b10)),
            "root port 0000:00:10.0 has the reserved value 10b as its completer field"
        );
        assert_eq!(reason(&port(0b01)), "the kernel was booted with pci=notph");
        assert_eq!(
            reason(&|tree| {
                tree.endpoint("0000:01:00.0", None);
                tree.write("boot/config-7.3.4", "# CONFIG_PCIE_TPH is not set\n");
            }),
            "the kernel was built without CONFIG_PCIE_TPH"
        );
        assert_eq!(
            reason(&|tree| {
                tree.function("0000:00:03.0", &config(9, 0, true, Some(REQUESTER)), None);
            }),
            "no IOMMU group: no IOMMU, or it is off"
        );
        assert_eq!(
            reason(&|tree| drop(tree.endpoint("0000:01:00.0", Some("nvme")))),
            "not bound to vfio_tph"
        );
    }

    #[test]
    fn a_kernel_that_says_nothing_of_itself() {
        let tree = Tree::new();
        tree.endpoint("0000:01:00.0", Some(DRIVER));
        tree.write("proc/sys/kernel/osrelease", "other");
        assert_eq!(tree.machine.kernel_has_tph(), None);
        let tree = Tree::new();
        tree.write("proc/sys/kernel/osrelease", "other");
        tree.write("proc/kallsyms", "0000000000000000 T pci_enable_device\n");
        assert_eq!(tree.machine.kernel_has_tph(), Some(false));
    }

    #[test]
    fn who_is_not_root_sees_too_little() {
        let tree = Tree::new();
        let device = tree.endpoint("0000:01:00.0", None);
        std::fs::write(device.path("config"), [0; 64]).unwrap();
        std::fs::write(
            tree.machine.device("0000:00:10.0").unwrap().path("config"),
            [0; 64],
        )
        .unwrap();
        let failure = run(&tree.machine, false, false).unwrap_err();
        assert_eq!(failure.kind(), Kind::Permission);
    }

    /// By the processor's time: other work on the machine does not count.
    #[test]
    fn sixty_four_devices_take_less_than_a_fifth_of_a_second() {
        let tree = Tree::new();
        for bus in 1..=64 {
            tree.endpoint(&format!("0000:{bus:02x}:00.0"), Some(DRIVER));
        }
        // As many names as there are in the world.
        let mut ids = String::new();
        for vendor in 0..2500 {
            ids += &format!("{vendor:04x}  Vendor\n");
            for device in 0..15 {
                ids += &format!("\t{device:04x}  Device\n");
            }
        }
        tree.write("usr/share/misc/pci.ids", ids);
        let least = (0..10)
            .map(|_| {
                let start = cpu_time();
                assert_eq!(collect(&tree.machine, false).unwrap().len(), 64);
                cpu_time() - start
            })
            .fold(f64::MAX, f64::min);
        assert!(least < 0.2, "{least} s");
    }

    #[test]
    fn extended_tags_need_every_port_of_the_path() {
        let tree = Tree::new();
        tree.function("0000:00:10.0", &config(4, 0b11, true, None), None);
        tree.function("0000:00:10.0/0000:01:00.0", &config(5, 0, true, None), None);
        tree.function(
            "0000:00:10.0/0000:01:00.0/0000:02:00.0",
            &config(6, 0, false, None),
            None,
        );
        let device = tree.function(
            "0000:00:10.0/0000:01:00.0/0000:02:00.0/0000:03:00.0",
            &config(0, 0, true, Some(REQUESTER)),
            None,
        );
        let obstacle = Path::of(&tree.machine, &device)
            .extended_obstacle()
            .unwrap();
        assert_eq!(
            obstacle.reason,
            "port 0000:02:00.0 has no End-End TLP prefixes, and not every link is in flit mode"
        );
    }
}
