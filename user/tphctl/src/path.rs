// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! What is between a device and the host: from config space and sysfs, without the driver.

use serde::Serialize;
use vfio_tph::registers::{
    find_tph_requester, msix_vectors, Completer, Express, ReadConfig, Requester, Table, CAPABILITY,
};
use vfio_tph::{Address, StMode};

use crate::machine::{Machine, Pci};

/// What was found out about a device.
pub struct Path {
    /// Who reads is not root.
    pub cut_off: bool,
    /// The requester's capability.
    pub requester: Option<Requester>,
    /// The device as an Express function.
    pub express: Option<Express>,
    /// Its MSI-X vectors.
    pub vectors: u16,
    /// The ports above it, from the root port down, each with what it says.
    pub ports: Vec<(Pci, Option<Express>)>,
    /// Other functions of the IOMMU group that are no ports.
    pub neighbours: Vec<Address>,
}

/// What stands in the way first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// What it is.
    pub reason: String,
    /// What can be done.
    pub remedy: String,
}

/// An obstacle with what to do.
pub fn obstacle(reason: impl Into<String>, remedy: impl Into<String>) -> Obstacle {
    Obstacle {
        reason: reason.into(),
        remedy: remedy.into(),
    }
}

impl Path {
    /// Looks at a device.
    pub fn of(machine: &Machine, device: &Pci) -> Self {
        let config = device.config();
        let requester = config.as_ref().and_then(|config| {
            let offset = find_tph_requester(config)?;
            Some(Requester(config.dword(offset + CAPABILITY)?))
        });
        let express = config.as_ref().and_then(Express::read);
        let mut path = Self {
            cut_off: config.as_ref().is_some_and(|config| !config.is_whole()),
            requester,
            express,
            vectors: 0,
            ports: Vec::new(),
            neighbours: Vec::new(),
        };
        if let (Some(requester), Some(config)) = (requester, &config) {
            path.ports = device
                .ports(machine)
                .into_iter()
                .map(|port| {
                    let express = port.config().and_then(|config| Express::read(&config));
                    (port, express)
                })
                .collect();
            if requester.table() == Table::Msix {
                path.vectors = msix_vectors(config);
                path.neighbours = device
                    .neighbours(machine)
                    .into_iter()
                    .filter(|neighbour| !is_port(neighbour))
                    .map(|neighbour| neighbour.address)
                    .collect();
            }
        }
        path
    }

    /// Whether the device completes requests with hints.
    pub fn is_completer(&self) -> bool {
        self.express
            .is_some_and(|express| express.completer != Completer::None)
    }

    /// The root port above the device.
    pub fn root_port(&self) -> Option<&(Pci, Option<Express>)> {
        self.ports.first()
    }

    /// Whether no port is above the device.
    pub fn is_in_root_complex(&self) -> bool {
        self.express
            .is_some_and(|express| express.is_in_root_complex())
    }

    /// Entries of the ST table, as the device has it.
    pub fn entries(&self) -> u16 {
        match self.requester {
            Some(requester) => match requester.table() {
                Table::Capability => requester.table_size().min(64),
                Table::Msix => self.vectors,
                Table::None => 0,
            },
            None => 0,
        }
    }

    /// Why the root port does not take the device's hints.
    pub fn root_port_obstacle(&self) -> Option<Obstacle> {
        if self.is_in_root_complex() {
            return None;
        }
        let Some((port, express)) = self.root_port() else {
            return Some(obstacle(
                "no root port is above the device",
                "in a virtual machine: have the device below a root port",
            ));
        };
        let at = port.address;
        let completer = express.map_or(Completer::None, |express| express.completer);
        let reason = match completer {
            Completer::Standard | Completer::Extended => return None,
            Completer::None => format!("root port {at} completes no TPH requests (field 00b)"),
            Completer::Reserved => {
                format!("root port {at} has the reserved value 10b as its completer field")
            }
        };
        Some(obstacle(
            reason,
            "look for TPH in the setup of the firmware, or use a slot of another root port",
        ))
    }

    /// Why the path does not carry extended tags.
    pub fn extended_obstacle(&self) -> Option<Obstacle> {
        let requester = self.requester?;
        if !requester.extended() {
            return Some(obstacle(
                "the device sends no extended tags",
                "nothing: use standard tags",
            ));
        }
        if self.is_in_root_complex() {
            return None;
        }
        let root_port = self.root_port().and_then(|(_, express)| *express);
        if root_port.map(|express| express.completer) != Some(Completer::Extended) {
            return Some(obstacle(
                "the root port completes no extended requests",
                "nothing: use standard tags",
            ));
        }
        let all = |what: fn(&Express) -> bool| {
            self.ports
                .iter()
                .all(|(_, express)| express.as_ref().is_some_and(what))
        };
        let prefixes =
            self.express.is_some_and(|express| express.prefixes) && all(|express| express.prefixes);
        // The link below each port: those of root ports and of downstream ports.
        let flit = self
            .ports
            .iter()
            .filter_map(|(_, express)| express.as_ref())
            .filter(|express| express.port_type != 0x5)
            .all(|express| express.flit_mode);
        if prefixes || flit {
            return None;
        }
        let without = self
            .ports
            .iter()
            .find(|(_, express)| !express.is_some_and(|express| express.prefixes))
            .map_or("the device".to_owned(), |(port, _)| {
                format!("port {}", port.address)
            });
        Some(obstacle(
            format!("{without} has no End-End TLP prefixes, and not every link is in flit mode"),
            "use standard tags, or a slot whose ports forward prefixes",
        ))
    }

    /// Why vectors get no tags under a policy that does not disclose them.
    pub fn group_obstacle(&self, group: Option<&str>) -> Option<Obstacle> {
        let neighbour = self.neighbours.first()?;
        Some(obstacle(
            format!(
                "the ST table is in MSI-X, and {neighbour} of IOMMU group {} reaches it",
                group.unwrap_or("?")
            ),
            "a slot or a device with ACS; or policy ds_st, for a user who may see tags",
        ))
    }
}

fn is_port(device: &Pci) -> bool {
    device.is_bridge()
        && device
            .config()
            .and_then(|config| Express::read(&config))
            .is_some_and(|express| express.is_port())
}

/// What stands in the way of TPH in the kernel.
pub fn kernel_obstacle(machine: &Machine) -> Option<Obstacle> {
    if machine.booted_with_notph() {
        return Some(obstacle(
            "the kernel was booted with pci=notph",
            "take notph out of the kernel's command line",
        ));
    }
    (machine.kernel_has_tph() == Some(false)).then(|| {
        obstacle(
            "the kernel was built without CONFIG_PCIE_TPH",
            "use a kernel with CONFIG_PCIE_TPH=y",
        )
    })
}

/// A mode's name, as short as can be.
pub fn short(mode: StMode) -> &'static str {
    match mode {
        StMode::NoSt => "NS",
        StMode::InterruptVector => "IV",
        StMode::DeviceSpecific => "DS",
    }
}

/// Where the table is, as short as can be.
pub fn table_name(table: Table) -> &'static str {
    match table {
        Table::None => "none",
        Table::Capability => "capability",
        Table::Msix => "msix",
    }
}

/// A completer's field in the driver's words.
pub fn completer_name(completer: Completer) -> &'static str {
    match completer {
        Completer::None => "no",
        Completer::Standard => "yes",
        Completer::Reserved => "reserved",
        Completer::Extended => "extended",
    }
}
