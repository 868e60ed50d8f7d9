// SPDX-License-Identifier: GPL-2.0-only

//! The bench of one test: the devices that there are, those that it has taken, and the checks that
//! it ends with.

use std::cell::RefCell;
use std::fs::{self, OpenOptions};
use std::rc::Rc;

use tph_protocol::Client;
use tph_uapi::pci_regs::*;

use crate::endpoint::{Control, Endpoint};
use crate::module::{Gate, VFIO_TPH};
use crate::msix::Traits;
use crate::pci::Bdf;
use crate::root_port;
use crate::skip;
use crate::tph;
use crate::vfio::NOIOMMU_SWITCH;

/// The devices of the test VM, by name: written by its init.
const DEVICES: &str = "/run/tph-devices";
const CONTROL: &str = "/dev/virtio-ports/tph.control";

/// Whether this is the guest of `selftests/run`, with its firmware and its devices.
pub fn in_test_vm() -> bool {
    fs::exists(DEVICES).unwrap_or(false)
}

/// What a test wants of a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Want {
    /// Whether it has a TPH Requester capability.
    pub tph: bool,
    /// The least number of ST entries.
    pub entries: u16,
    /// Whether these are in MSI-X, or in the capability.
    pub in_msix: bool,
    /// Extended TPH Requester Supported.
    pub extended: bool,
    /// Below a root port, or a root complex integrated endpoint.
    pub root_port: Option<bool>,
    /// Not one with Function Level Reset.
    pub without_flr: bool,
}

impl Want {
    /// A device without TPH.
    pub const NO_TPH: Want = Want {
        tph: false,
        entries: 0,
        in_msix: false,
        extended: false,
        root_port: None,
        without_flr: false,
    };
    /// A device below a root port with extended TPH and a table of some size in the capability.
    pub const TABLE: Want = Want {
        tph: true,
        entries: 8,
        in_msix: false,
        extended: true,
        root_port: Some(true),
        without_flr: false,
    };
    /// The same with the table in MSI-X.
    pub const MSIX: Want = Want {
        in_msix: true,
        ..Want::TABLE
    };
    /// Either place of the table.
    pub const TABLES: [Want; 2] = [Want::TABLE, Want::MSIX];
    /// A root complex integrated endpoint, the same otherwise.
    pub const RCIEP: Want = Want {
        root_port: Some(false),
        ..Want::TABLE
    };
    /// One with its table in MSI-X that no reset hits: in no slot whose bus could be reset, either.
    pub const NO_RESET: Want = Want {
        root_port: Some(false),
        without_flr: true,
        ..Want::MSIX
    };
    /// Devices with a table, which resets hit.
    pub const EVERY_TABLE: [Want; 3] = [Want::TABLE, Want::RCIEP, Want::MSIX];

    /// Whether a device is what is wanted.
    pub fn fits(&self, bdf: &Bdf) -> bool {
        let config = bdf.config();
        let Some(link) = tph::find(|offset| config.dword(offset)) else {
            return !self.tph;
        };
        let capability = config.dword(link.offset + PCI_TPH_CAP as u16);
        let entries = match self.in_msix {
            false => tph::claimed_entries(capability),
            true => Traits::of(bdf)
                .filter(|traits| traits.in_msix)
                .map_or(0, |traits| traits.vectors),
        };
        self.tph
            && entries >= self.entries
            && (!self.extended || capability & PCI_TPH_CAP_EXT_TPH != 0)
            && !(self.without_flr && Traits::of(bdf).is_none_or(|traits| traits.flr))
            && self
                .root_port
                .is_none_or(|below| bdf.root_port().is_some() == below)
    }
}

/// The bench of one test.
pub struct Bench {
    pub(crate) known: Vec<(Bdf, Option<String>)>,
    control: Option<Control>,
    pub(crate) taken: Vec<Rc<Endpoint>>,
}

impl Bench {
    /// A bench with these devices, or else those of the test VM.
    pub fn new(devices: &[Bdf]) -> Self {
        let emulated: Vec<(String, Bdf)> = fs::read_to_string(DEVICES)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((words.next()?.to_owned(), Bdf::unchecked(words.next()?)))
            })
            .collect();
        let known = if devices.is_empty() {
            let all = emulated.into_iter();
            all.map(|(name, bdf)| (bdf, Some(name))).collect()
        } else {
            let name = |bdf: &Bdf| emulated.iter().find(|(_, e)| e == bdf).map(|e| e.0.clone());
            devices.iter().map(|bdf| (bdf.clone(), name(bdf))).collect()
        };
        Self {
            known,
            control: None,
            taken: Vec::new(),
        }
    }

    /// The emulator's channel can be opened once: one client for all endpoints.
    fn control(&mut self) -> Control {
        self.control
            .get_or_insert_with(|| {
                let port = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(CONTROL)
                    .unwrap_or_else(|error| panic!("{CONTROL}: {error}"));
                Rc::new(RefCell::new(Client::new(port)))
            })
            .clone()
    }

    pub(crate) fn endpoint(&mut self, index: usize) -> Rc<Endpoint> {
        let (bdf, name) = self.known[index].clone();
        if let Some(taken) = self.taken.iter().find(|taken| taken.bdf == bdf) {
            return taken.clone();
        }
        let emulated = name.map(|name| (name, self.control()));
        let endpoint = Rc::new(Endpoint::new(bdf, emulated));
        if endpoint.is_emulated() {
            if let Some(port) = endpoint.bdf.root_port() {
                if root_port::completer(&port) != root_port::EXTENDED {
                    endpoint.set_root_port(root_port::EXTENDED);
                }
            }
            endpoint.clear_violations();
        }
        self.taken.push(endpoint.clone());
        endpoint
    }

    /// The device of that name in the test VM, as it is.
    pub fn named(&mut self, name: &str) -> Rc<Endpoint> {
        let index = self
            .known
            .iter()
            .position(|(_, known)| known.as_deref() == Some(name))
            .unwrap_or_else(|| panic!("no device is called {name}"));
        self.endpoint(index)
    }

    /// All devices as they are, whatever drives them.
    pub fn all(&mut self) -> Vec<Rc<Endpoint>> {
        (0..self.known.len())
            .map(|index| self.endpoint(index))
            .collect()
    }

    /// A device as it is, whatever drives it. The test is left out if there is none, or if vfio
    /// does not take it because it has no IOMMU.
    pub fn pick(&mut self, want: &Want) -> Rc<Endpoint> {
        let endpoint = self.pick_for_noiommu(want);
        let open_to_all =
            fs::read_to_string(NOIOMMU_SWITCH).is_ok_and(|switch| switch.trim() == "Y");
        if !endpoint.bdf.has_iommu() && !open_to_all {
            skip!("{} has no IOMMU", endpoint.bdf);
        }
        endpoint
    }

    /// The same for a test that lets vfio take a device without an IOMMU.
    pub fn pick_for_noiommu(&mut self, want: &Want) -> Rc<Endpoint> {
        let fits = (0..self.known.len()).find(|&index| {
            let bdf = &self.known[index].0;
            self.taken.iter().all(|taken| taken.bdf != *bdf) && want.fits(bdf)
        });
        match fits {
            Some(index) => self.endpoint(index),
            None => skip!("no device for {want:?}"),
        }
    }

    /// A device as it is that `fits`. The test is left out, with `what` it needs, if there is none.
    pub fn pick_where(&mut self, what: &str, fits: impl Fn(&Bdf) -> bool) -> Rc<Endpoint> {
        match self.find(fits) {
            Some(index) => self.endpoint(index),
            None => skip!("no device with {what}"),
        }
    }

    /// Whether there is such a device.
    pub fn has_where(&self, fits: impl Fn(&Bdf) -> bool) -> bool {
        self.find(fits).is_some()
    }

    fn find(&self, fits: impl Fn(&Bdf) -> bool) -> Option<usize> {
        (0..self.known.len()).find(|&index| {
            let bdf = &self.known[index].0;
            self.taken.iter().all(|taken| taken.bdf != *bdf) && fits(bdf)
        })
    }

    /// Two devices on one bus, so that a reset of the bus hits both.
    pub fn pick_pair(&mut self, want: &Want) -> (Rc<Endpoint>, Rc<Endpoint>) {
        for first in 0..self.known.len() {
            for second in first + 1..self.known.len() {
                let (a, b) = (&self.known[first].0, &self.known[second].0);
                let same_bus = a.bus_devfn().0 == b.bus_devfn().0 && a.root_port().is_some();
                if same_bus && want.fits(a) && want.fits(b) {
                    return (self.endpoint(first), self.endpoint(second));
                }
            }
        }
        skip!("no two devices on one bus for {want:?}")
    }

    /// A device driven by vfio_tph, loaded with `gate`.
    pub fn take(&mut self, gate: Gate, want: &Want) -> Rc<Endpoint> {
        let endpoint = self.pick(want);
        bind(&endpoint, gate);
        endpoint
    }

    /// What every test ends with.
    pub fn check(&mut self) {
        for endpoint in &self.taken {
            endpoint.check();
        }
    }

    /// Ends one round of a test that has several.
    pub fn next_round(&mut self) {
        self.check();
        self.put_back();
    }

    /// Calls `body` with each of `items`, a round each.
    pub fn each<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut body: impl FnMut(&mut Self, T),
    ) {
        for item in items {
            body(self, item);
            self.next_round();
        }
    }

    /// Undoes what the test has changed.
    pub fn put_back(&mut self) {
        for endpoint in self.taken.drain(..) {
            endpoint.put_back();
        }
    }
}

/// Has vfio_tph, loaded with `gate`, drive a device.
pub fn bind(endpoint: &Endpoint, gate: Gate) {
    bind_bdf(&endpoint.bdf, gate);
}

/// The same of a device that is not on the bench.
pub fn bind_bdf(bdf: &Bdf, gate: Gate) {
    gate.load();
    bdf.bind(VFIO_TPH).unwrap_or_else(|error| panic!("{error}"));
}
