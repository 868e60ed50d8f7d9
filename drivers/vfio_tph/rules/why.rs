// SPDX-License-Identifier: GPL-2.0-only

//! Why a device has no TPH, or not all of it, in words for its administrator. The offer
//! ([`super::capability::Offer`]) decides; this says what stood in its way first.

use super::{
    capability::Hardware,
    policy::Policy,
    regs::{
        Completer,
        StMode,
        TableLocation, //
    },
};
use crate::uapi;

/// What is above a device.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Above {
    /// The root complex itself: the device is a root complex integrated endpoint.
    RootComplex,
    /// A root port, with its raw Device Capabilities 2.
    RootPort(u32),
    /// Nothing that the kernel knows of.
    Unknown,
}

impl Above {
    /// What the root port completes; `None` for a device of the root complex, which has none above.
    pub(crate) const fn completer(self) -> Option<Completer> {
        match self {
            Self::RootComplex => None,
            Self::RootPort(raw) => Some(Completer::from_device_capabilities_2(raw)),
            Self::Unknown => Some(Completer::None),
        }
    }

    /// TPH Completer Supported of the root port, two bits.
    pub(crate) const fn completer_field(self) -> Option<u32> {
        match self {
            Self::RootPort(raw) => Some(
                (raw & uapi::PCI_EXP_DEVCAP2_TPH_COMP_MASK)
                    >> uapi::PCI_EXP_DEVCAP2_TPH_COMP_MASK.trailing_zeros(),
            ),
            Self::RootComplex | Self::Unknown => None,
        }
    }
}

/// What was found when a device was bound, or opened last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Findings {
    /// Whether the kernel was built with `CONFIG_PCIE_TPH`.
    pub(crate) kernel_has_tph: bool,
    /// Whether config space has a TPH Requester capability.
    pub(crate) has_capability: bool,
    /// The device, if there is room for the registers of its capability.
    pub(crate) hardware: Option<Hardware>,
    /// What is above it.
    pub(crate) above: Above,
    /// Whether the kernel lets anyone enable TPH.
    pub(crate) allowed: bool,
    /// Whether vfio-pci-core shows the capability in the chain.
    pub(crate) in_chain: bool,
    /// Whether there is room for an entry of a guest; taken for granted before the device is
    /// opened.
    pub(crate) guest_fits: bool,
}

/// What stands in the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    /// The device is no TPH requester.
    NoCapability,
    /// The kernel was built without `CONFIG_PCIE_TPH`.
    KernelWithoutTph,
    /// There is no room for the registers.
    CutOff,
    /// The device does not answer.
    Silent,
    /// No root port is known above the device.
    NoRootPort,
    /// The root port takes no hints.
    RootPort,
    /// The root port's field has its reserved value.
    RootPortReserved,
    /// The kernel was booted with `pci=notph`.
    NoTph,
    /// The user's chain of capabilities does not lead there.
    Hidden,
    /// The requester sends no extended tags.
    NotExtended,
    /// The root port takes no extended tags.
    RootPortNotExtended,
    /// The path to the root port does not carry them.
    NoPrefixes,
    /// The requester does not have the ST mode.
    NoMode,
    /// The policy leaves the ST mode out.
    Policy,
    /// The ST table is said to be in MSI-X, where there is none.
    NoTable,
    /// Others reach an ST table in MSI-X.
    Group,
    /// Another capability owns some of the ST table.
    Overlap,
    /// The device has no ST table.
    NoEntries,
    /// There is no room for virtual entries.
    NoRoom,
}

impl Reason {
    /// The reason for people.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::NoCapability => "the device has no TPH Requester capability",
            Self::KernelWithoutTph => {
                "hidden by the kernel, which was built without CONFIG_PCIE_TPH"
            }
            Self::CutOff => "the TPH Requester capability reaches past the end of config space",
            Self::Silent => "the device does not answer",
            Self::NoRootPort => "no root port is known above the device",
            Self::RootPort => "the root port completes no TPH requests (completer field 00b)",
            Self::RootPortReserved => "the root port's completer field has the reserved value 10b",
            Self::NoTph => "hidden by the kernel, which was booted with pci=notph",
            Self::Hidden => {
                "hidden by vfio-pci-core: the chain of capabilities that it shows does not lead \
                 there"
            }
            Self::NotExtended => "the device sends no extended tags",
            Self::RootPortNotExtended => {
                "the root port completes no extended TPH requests (completer field 01b)"
            }
            Self::NoPrefixes => {
                "not every port up to the root port has End-End TLP prefixes, and not every link \
                 is in flit mode"
            }
            Self::NoMode => "the device does not have this mode",
            Self::Policy => "the policy leaves this mode out",
            Self::NoTable => {
                "the ST table is said to be in MSI-X, and there is no MSI-X table that can be used"
            }
            Self::Group => {
                "the ST table is in MSI-X, and another function of the IOMMU group reaches it"
            }
            Self::Overlap => "another capability of the device owns some of the ST table",
            Self::NoEntries => "the device has no ST table",
            Self::NoRoom => {
                "not one entry fits behind the registers, and there is no hole for all of them"
            }
        }
    }
}

impl Findings {
    /// Why TPH is not usable; nothing if it is.
    pub(crate) fn tph(&self) -> Option<Reason> {
        if !self.has_capability {
            return Some(Reason::NoCapability);
        }
        if !self.kernel_has_tph {
            return Some(Reason::KernelWithoutTph);
        }
        let Some(hardware) = &self.hardware else {
            return Some(Reason::CutOff);
        };
        if !hardware.capability.is_answer() {
            return Some(Reason::Silent);
        }
        if hardware.root_port == Some(Completer::None) {
            return Some(match self.above.completer_field() {
                None => Reason::NoRootPort,
                Some(0b00) => Reason::RootPort,
                Some(_) => Reason::RootPortReserved,
            });
        }
        if !self.allowed {
            return Some(Reason::NoTph);
        }
        (!self.in_chain).then_some(Reason::Hidden)
    }

    /// Why extended tags are not usable on a device with TPH; nothing if they are.
    pub(crate) fn extended(&self) -> Option<Reason> {
        let hardware = self.hardware.as_ref()?;
        if !hardware.capability.extended() {
            return Some(Reason::NotExtended);
        }
        match hardware.root_port {
            None => None,
            Some(Completer::Extended) => {
                (!hardware.path_carries_extended).then_some(Reason::NoPrefixes)
            }
            Some(_) => Some(Reason::RootPortNotExtended),
        }
    }

    /// Why whoever opens the device under `policy` has no virtual tags; nothing if they can.
    pub(crate) fn guest(&self, policy: Policy) -> Option<Reason> {
        let hardware = self.hardware.as_ref()?;
        if let Some(reason) = self.mode(StMode::InterruptVector, policy) {
            return Some(reason);
        }
        if hardware.entries_in_capability() == 0 && hardware.vectors_in_table() == 0 {
            return Some(Reason::NoEntries);
        }
        (!self.guest_fits).then_some(Reason::NoRoom)
    }

    /// Why an ST mode is not offered under `policy`, on a device with TPH; nothing if it is.
    pub(crate) fn mode(&self, mode: StMode, policy: Policy) -> Option<Reason> {
        let hardware = self.hardware.as_ref()?;
        if !hardware.capability.modes().contains(mode) {
            return Some(Reason::NoMode);
        }
        if !policy.modes().contains(mode) {
            return Some(Reason::Policy);
        }
        if mode != StMode::InterruptVector {
            return None;
        }
        if hardware.overlapped && !policy.discloses_tags() {
            return Some(Reason::Overlap);
        }
        if hardware.capability.table_location() != TableLocation::Msix {
            return None;
        }
        if hardware.msix_vectors == 0 {
            return Some(Reason::NoTable);
        }
        (!policy.discloses_tags() && !hardware.alone_in_group).then_some(Reason::Group)
    }
}
