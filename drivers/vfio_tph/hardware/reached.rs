// SPDX-License-Identifier: GPL-2.0-only

//! What can be reached of a device: it may be asleep, gone, or decode no memory.

use crate::{
    ratelimit::{
        self,
        Message, //
    },
    rules::{
        capability::Offer,
        reconcile::{
            Found,
            Place,
            Reach, //
        },
        regs::{
            Control,
            CONTROL, //
        },
    },
    rust::{
        pci::{
            self as bus,
            tph::Requester, //
        },
        vfio::pci::{
            MsixTable,
            OpenDevice, //
        },
    },
};
use kernel::{
    device::Bound,
    pci,
    prelude::*, //
};

/// What can be reached of a device while an event is seen to.
pub(crate) struct Reached<'a> {
    vdev: &'a OpenDevice,
    requester: Requester<'a>,
    reach: Reach,
    msix: Option<MsixTable<'a>>,
    offer: Option<&'a Offer>,
}

impl<'a> Reached<'a> {
    /// As much as the power state and the BARs that the device decodes allow.
    #[inline(never)]
    pub(crate) fn new(
        vdev: &'a OpenDevice,
        requester: Requester<'a>,
        msix: Option<MsixTable<'a>>,
        offer: Option<&'a Offer>,
    ) -> Self {
        let pdev = vdev.pci();
        let reach = if !bus::is_accessible(pdev) {
            Reach::Nothing
        } else if bus::is_in_d3hot(pdev) {
            Reach::ControlOnly
        } else if !bus::is_powered(pdev) {
            Reach::Nothing
        } else if msix.is_none() {
            Reach::Config
        } else {
            Reach::Memory
        };
        Self {
            vdev,
            requester,
            reach,
            msix,
            offer,
        }
    }

    pub(super) fn vdev(&self) -> &'a OpenDevice {
        self.vdev
    }

    pub(super) fn requester(&self) -> &Requester<'a> {
        &self.requester
    }

    /// What its user may have of TPH; `None` if nothing.
    pub(super) fn offer(&self) -> Option<&'a Offer> {
        self.offer
    }

    /// The MSI-X table, where it is decoded.
    pub(super) fn msix_table(&self) -> Option<&MsixTable<'a>> {
        self.msix.as_ref()
    }

    /// The MSI-X table, where it is decoded, to change it.
    pub(super) fn msix_table_mut(&mut self) -> Option<&mut MsixTable<'a>> {
        self.msix.as_mut()
    }

    /// The PCI device.
    pub(super) fn pci(&self) -> &'a pci::Device<Bound> {
        self.vdev.pci()
    }

    /// How much of the device can be reached.
    pub(super) fn reach(&self) -> Reach {
        self.reach
    }

    /// Whether the table at `place` can be reached as the user has the device, and not only because
    /// memory is decoded for the moment.
    pub(super) fn is_table_users(&self, place: Place) -> bool {
        let decoded = |msix: &MsixTable<'_>| msix.is_decoded_for_user();
        self.reach >= place.reach()
            && (place != Place::Msix || self.msix.as_ref().is_some_and(decoded))
    }

    /// Writes Control.
    pub(super) fn write_control(&self, control: Control) {
        self.requester.write_dword(CONTROL, control.raw());
    }

    /// Control as hardware has it.
    pub(super) fn control(&self) -> Found {
        let raw = self.requester.read_dword(CONTROL);
        if let Some(control) = Control::from_raw(raw) {
            return Found::Control(control);
        }
        let silent = raw == u32::MAX;
        match ratelimit::allows(Message::Control) {
            false => (),
            true if silent => dev_err!(self.pci(), "TPH: the device does not answer\n"),
            true => dev_err!(
                self.pci(),
                "TPH: Control has the reserved value {raw:#010x}\n"
            ),
        }
        match silent {
            true => Found::Silent,
            false => Found::Reserved,
        }
    }
}
