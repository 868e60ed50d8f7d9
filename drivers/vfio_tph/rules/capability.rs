// SPDX-License-Identifier: GPL-2.0-only

//! What a device has on offer.

use super::{
    owners::{
        claimed_table,
        Owners, //
    },
    policy::Policy,
    regs::{
        Capability,
        Completer,
        Control,
        Modes,
        RequesterEnable,
        StMode,
        TableLocation,
        BASE_SIZE,
        ENTRY_SIZE, //
    },
};
use crate::uapi;
use core::ops::Range;

/// ST entries that a capability can hold, PCIe r6.2 7.9.13.2.
pub(crate) const MAX_CAPABILITY_ENTRIES: u16 = 64;

/// What the hardware says of itself and of its path, read at open.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hardware {
    /// TPH Requester Capability, raw.
    pub(crate) capability: Capability,
    /// What the root port above completes; `None` for an RCiEP, which has none above.
    pub(crate) root_port: Option<Completer>,
    /// Whether the path to the root port carries extended tags. They need no path below a root
    /// complex.
    pub(crate) path_carries_extended: bool,
    /// What the device itself completes.
    pub(crate) completer: Completer,
    /// The ST entries that the capability really has room for, by [`room`].
    pub(crate) room: u16,
    /// Whether another capability owns some of the ST table, by [`is_overlapped`].
    pub(crate) overlapped: bool,
    /// The number of vectors in the MSI-X table, 0 without one that can be used.
    pub(crate) msix_vectors: u16,
    /// Whether no other function but ports is in the IOMMU group.
    pub(crate) alone_in_group: bool,
}

impl Hardware {
    /// The ST entries of a table in the capability, 0 if the table is elsewhere.
    pub(crate) fn entries_in_capability(&self) -> u16 {
        match self.capability.table_location() {
            TableLocation::Capability => self.capability.table_size().min(self.room),
            _ => 0,
        }
    }

    /// The ST modes that a user may select under `policy`.
    ///
    /// The DMA of another function of the group reaches the MSI-X table past the IOMMU, and could
    /// put any tag there; where another capability owns some of the table, hardware goes on using
    /// what is there. A user who may not choose tags gets no mode that would send it.
    fn modes(&self, policy: Policy) -> Modes {
        let in_reach =
            self.capability.table_location() == TableLocation::Msix && !self.alone_in_group;
        let policy = if (in_reach || self.overlapped) && !policy.discloses_tags() {
            Policy::NoSt
        } else {
            policy
        };
        let modes = self.capability.modes().and(policy.modes());
        if self.lacks_table() {
            // The device would send what nobody has cleared and nobody may choose.
            modes.without(StMode::InterruptVector)
        } else {
            modes
        }
    }

    /// The ST entries of a table in MSI-X, 0 if the table is elsewhere.
    pub(crate) fn vectors_in_table(&self) -> u16 {
        match self.capability.table_location() {
            TableLocation::Msix => self.msix_vectors,
            _ => 0,
        }
    }

    /// Whether the table is said to be in MSI-X, where there is none that can be used.
    fn lacks_table(&self) -> bool {
        self.capability.table_location() == TableLocation::Msix && self.msix_vectors == 0
    }
}

/// What a user may have of TPH on a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// The Capability register that the user sees.
    pub(crate) capability: Capability,
    /// The policy that it was filtered by.
    pub(crate) policy: Policy,
    /// What the device itself completes.
    pub(crate) completer: Completer,
    /// Where the device has its ST table, shown or not.
    pub(crate) hardware_table: TableLocation,
    /// ST entries that `VFIO_DEVICE_FEATURE_TPH_ST` can address, or virtual ones.
    pub(crate) entries: u16,
    /// Whether they are virtual, and `VFIO_DEVICE_FEATURE_TPH_ST` cannot.
    pub(crate) has_virtual_tags: bool,
}

impl Offer {
    /// The offer of `hardware` under `policy`. `None` where TPH is not usable: the root port above
    /// completes no TPH requests, or the device does not answer.
    pub(crate) fn new(hardware: &Hardware, policy: Policy) -> Option<Self> {
        let path_extended = match hardware.root_port {
            Some(Completer::None) => return None,
            Some(Completer::Standard) => false,
            Some(Completer::Extended) => hardware.path_carries_extended,
            None => true,
        };
        let raw = hardware.capability;
        if !raw.is_answer() {
            return None;
        }
        let modes = hardware.modes(policy);
        let mut capability = raw
            .without_reserved()
            .with_modes(modes)
            .with_extended(raw.extended() && path_extended);

        let mut entries = 0;
        if modes.use_table() {
            match raw.table_location() {
                TableLocation::None => capability = capability.without_table(),
                TableLocation::Capability => {
                    entries = hardware.entries_in_capability();
                    capability = if entries == 0 {
                        capability.without_table()
                    } else {
                        capability.with_table_size(entries)
                    };
                }
                TableLocation::Msix if hardware.lacks_table() => {
                    capability = capability.without_table();
                }
                TableLocation::Msix => entries = hardware.msix_vectors,
            }
        } else {
            capability = capability.without_table();
        }

        Some(Self {
            capability,
            policy,
            completer: hardware.completer,
            hardware_table: raw.table_location(),
            entries,
            has_virtual_tags: false,
        })
    }

    /// The ST modes that may be selected.
    pub(crate) fn modes(&self) -> Modes {
        self.capability.modes()
    }

    /// Whether extended tags are usable.
    pub(crate) fn extended(&self) -> bool {
        self.capability.extended()
    }

    /// Whether `control` may be in force.
    pub(crate) fn allows(&self, control: Control) -> bool {
        let extended = control.requester_enable == RequesterEnable::Extended;
        control == Control::RESET
            || self.modes().contains(control.st_mode) && (!extended || self.extended())
    }

    /// Whether `VFIO_DEVICE_FEATURE_TPH_ST` exists on this device.
    pub(crate) fn programmable(&self) -> bool {
        self.policy.programs_table() && self.entries != 0 && !self.has_virtual_tags
    }

    /// Whether a guest's table can take the place of hardware's: tags of interrupt vectors are what
    /// it is made of.
    pub(crate) fn takes_virtual_tags(&self) -> bool {
        self.programmable() && self.modes().contains(StMode::InterruptVector)
    }

    /// What is shown with virtual tags: `entries` of them, behind the registers wherever hardware
    /// has its table. In Device Specific mode the device would send what it finds there.
    pub(crate) fn with_virtual_tags(&self, entries: u16) -> Self {
        Self {
            capability: self
                .capability
                .with_modes(self.modes().without(StMode::DeviceSpecific))
                .with_table_in_capability()
                .with_table_size(entries),
            entries,
            has_virtual_tags: true,
            ..*self
        }
    }

    /// `VFIO_TPH_FLAG_*`, for `VFIO_DEVICE_FEATURE_TPH`.
    pub(crate) fn flags(&self) -> u32 {
        let table = match self.capability.table_location() {
            TableLocation::None => 0,
            TableLocation::Capability => uapi::VFIO_TPH_FLAG_ST_CAP,
            TableLocation::Msix => uapi::VFIO_TPH_FLAG_ST_MSIX,
        };
        let completer = match self.completer {
            Completer::None => 0,
            Completer::Standard => uapi::VFIO_TPH_FLAG_COMPLETER,
            Completer::Extended => {
                uapi::VFIO_TPH_FLAG_COMPLETER | uapi::VFIO_TPH_FLAG_COMPLETER_EXT
            }
        };
        let when = |condition: bool, flag: u32| if condition { flag } else { 0 };

        table
            | completer
            | when(self.extended(), uapi::VFIO_TPH_FLAG_EXTENDED)
            | when(self.has_virtual_tags, uapi::VFIO_TPH_FLAG_VIRTUAL)
            | when(self.programmable(), uapi::VFIO_TPH_FLAG_ST)
            | when(self.policy.discloses_tags(), uapi::VFIO_TPH_FLAG_RESOLVE_ST)
            | when(
                self.programmable() && self.policy.takes_literals(),
                uapi::VFIO_TPH_FLAG_LITERAL,
            )
            | when(
                self.programmable() && self.policy.takes_dma_bufs(),
                uapi::VFIO_TPH_FLAG_ST_DMABUF,
            )
    }
}

/// The ST entries that fit into a capability at `offset`: up to 64, the end of config space, or
/// the first byte that another capability owns, whichever comes first.
pub(crate) fn room(owners: &Owners, offset: u16) -> u16 {
    let start = usize::from(offset)
        .saturating_add(BASE_SIZE)
        .min(owners.size());
    let table =
        start..(start + ENTRY_SIZE * usize::from(MAX_CAPABILITY_ENTRIES)).min(owners.size());
    let end = owners.first_in(table.clone()).unwrap_or(table.end);
    // CAST: at most 64.
    ((end - table.start) / ENTRY_SIZE) as u16
}

/// Whether another capability owns some of the ST table that a capability at `offset` claims.
pub(crate) fn is_overlapped(capability: Capability, owners: &Owners, offset: u16) -> bool {
    let table = claimed_table(capability, offset.into(), owners.size());
    owners.first_in(table).is_some()
}

/// Whether a capability at `offset` claims to reach past the end of a config space of `size` bytes.
pub(crate) fn reaches_past(capability: Capability, offset: u16, size: usize) -> bool {
    let len = capability.table_bytes();
    len != 0 && usize::from(offset) + BASE_SIZE + len > size
}

/// What a capability at `offset` claims for its ST table behind the first `entries` entries, which
/// are all that there are, and nothing else owns: hardware may have tags there all the same. In
/// bytes from the start of the capability, as ranges in their order.
pub(crate) fn unused(
    capability: Capability,
    owners: &Owners,
    offset: u16,
    entries: u16,
) -> impl Iterator<Item = Range<u16>> + '_ {
    let table = claimed_table(capability, offset.into(), owners.size());
    let mut at = table.start + ENTRY_SIZE * usize::from(entries);
    core::iter::from_fn(move || {
        let start = (at..table.end).find(|&at| !owners.own(at))?;
        at = owners.first_in(start..table.end).unwrap_or(table.end);
        // CAST: at most 4096.
        Some(start as u16 - offset..at as u16 - offset)
    })
}
