// SPDX-License-Identifier: GPL-2.0-only

//! The set-up of a round, drawn like its operations: which devices, below which root ports, with
//! which policies; and what has to hold when it is over.

use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use fastrand::Rng;
use tph_selftests::bench::Bench;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::pci::Bdf;
use tph_selftests::policy::{self, Policy};
use tph_selftests::root_port;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::VFIO_TPH_FLAG_VIRTUAL;
use tph_selftests::vcpus;
use tph_selftests::vfio::Device;
use vfio_bindings::bindings::vfio::VFIO_PCI_MSIX_IRQ_INDEX;

use crate::world::{Seat, World};

/// Devices in a round.
const SEATS: usize = 3;

/// The devices of a round, bound to vfio_tph.
pub struct Setup {
    /// As hardware, in the order of the world's seats.
    pub endpoints: Vec<Rc<Endpoint>>,
    /// The gate of the module.
    pub gate: Gate,
    /// The policy of each device.
    pub policies: Vec<Policy>,
}

impl Setup {
    /// Takes devices of the bench, whoever had them.
    pub fn draw(bench: &mut Bench, rng: &mut Rng) -> Self {
        let mut endpoints = bench.all();
        rng.shuffle(&mut endpoints);
        endpoints.truncate(SEATS);

        let gate = match rng.u8(..3) {
            0 => Gate::Safe,
            _ => Gate::Unsafe,
        };
        let allowed: Vec<Policy> = Policy::ALL
            .into_iter()
            .filter(|policy| *policy <= Policy::of(gate))
            .collect();
        gate.load();
        let mut policies = Vec::new();
        // At most one is below a root port that is no extended completer, as the others are.
        let odd = rng.usize(..2 * SEATS);
        for (at, endpoint) in endpoints.iter().enumerate() {
            if at == odd && endpoint.bdf.root_port().is_some() {
                let ports = [root_port::STANDARD, root_port::RESERVED, root_port::NONE];
                endpoint.set_root_port(ports[rng.usize(..ports.len())]);
            }
            // The narrowest allows so little that it is enough now and then.
            let policy = match rng.u8(..16) {
                0 => Policy::NoSt,
                _ => allowed[rng.usize(1..allowed.len())],
            };
            tph_selftests::bench::bind(endpoint, gate);
            policy::write(&endpoint.bdf, policy.name().as_bytes())
                .unwrap_or_else(|errno| panic!("{}: {policy:?}: {errno}", endpoint.bdf));
            vcpus::write(&endpoint.bdf, "").expect("no map");
            policies.push(policy);
            let above = endpoint.bdf.root_port();
            let completer = above.map_or(0, |port| root_port::completer(&port));
            println!(
                "# {} gate {}, {}, root port {completer}",
                endpoint.bdf,
                gate.letter(),
                policy.name()
            );
        }
        Self {
            endpoints,
            gate,
            policies,
        }
    }

    /// The addresses of the devices.
    pub fn devices(&self) -> Vec<Bdf> {
        self.endpoints.iter().map(|e| e.bdf.clone()).collect()
    }

    /// Ends a round: what is read is in force, the kernel knows it, and when all is closed nothing
    /// is left.
    pub fn settle(&self, world: &World) {
        for (seat, endpoint) in world.seats.iter().zip(&self.endpoints) {
            if let Some(device) = seat.device() {
                settle_open(seat, endpoint, &device);
            }
        }
        world.clear();
        for endpoint in &self.endpoints {
            vcpus::write(&endpoint.bdf, "").expect("no map");
        }
        for (seat, endpoint) in world.seats.iter().zip(&self.endpoints) {
            if seat.shape.capability.is_none() {
                continue;
            }
            endpoint.assert_off("close");
            if seat.shape.in_msix {
                endpoint.assert_off("close");
            }
        }
    }
}

/// What a device has lost by itself is found at the next enable.
fn find_losses(device: &Device, capability: u16) {
    let Ok(offer) = device.tph() else {
        return;
    };
    let mode = u32::from(offer.modes).trailing_zeros();
    for value in [0, mode | (1 << PCI_TPH_CTRL_REQ_EN_MASK.trailing_zeros())] {
        device.set_config(capability + PCI_TPH_CTRL as u16, &value.to_le_bytes());
    }
}

fn settle_open(seat: &Seat, endpoint: &Endpoint, device: &Arc<Device>) {
    // Not asleep is an error.
    let _ = device.exit_low_power();
    device.set_config(seat.shape.power + PCI_PM_CTRL as u16, &[0]);
    device.set_config(PCI_COMMAND as u16, &[PCI_COMMAND_MEMORY as u8, 0]);
    let Some(capability) = seat.shape.capability else {
        return;
    };
    if seat.has_lost.load(Ordering::Relaxed) {
        find_losses(device, capability);
    }
    endpoint.assert_kernel_agrees();
    let in_force = endpoint.control();
    let Ok(offer) = device.tph() else {
        assert_eq!(in_force, 0, "{}: not usable, and on", seat.bdf);
        return;
    };
    let seen = device.config_dword(capability + PCI_TPH_CTRL as u16);
    assert_eq!(seen, in_force, "{}: Control", seat.bdf);
    if seat.shape.in_msix {
        // Nothing allocated is an error.
        let _ = device.free_irqs(VFIO_PCI_MSIX_IRQ_INDEX);
        let tags = endpoint.entries();
        assert!(
            tags.iter().all(|&tag| tag == 0),
            "{}: tags of vectors that are free: {tags:x?}",
            seat.bdf
        );
        return;
    }
    if offer.flags & VFIO_TPH_FLAG_VIRTUAL != 0 {
        return;
    }
    let entries: Vec<u16> = (0..endpoint.entries().len() as u16)
        .map(|index| device.config_word(tph_selftests::tph::entry_offset(capability, index)))
        .collect();
    if offer.policy >= 2 {
        assert_eq!(entries, endpoint.entries(), "{}: ST table", seat.bdf);
    } else {
        assert!(
            entries.iter().all(|&tag| tag == 0),
            "{}: policy {} sees tags: {entries:x?}",
            seat.bdf,
            offer.policy
        );
    }
}
