// SPDX-License-Identifier: GPL-2.0-only

//! What a device has on offer, and how the capability looks to the user.
//!
//! vfio-pci-core keeps two byte arrays per open device, each as large as config space: a *map* that
//! says which capability a byte belongs to, and the *virtual space* that the user sees in place of
//! hardware. A byte that the map marks [`MAP_VIRTUAL`] is read from the virtual space alone. The
//! functions here edit both, before the user can look.

use super::{
    policy::Policy,
    regs::{
        Capability,
        Completer,
        Modes,
        StMode,
        TableLocation, //
    },
};
use crate::uapi;
use core::ops::Range;

/// `PCI_CAP_ID_INVALID_VIRT` of drivers/vfio/pci/vfio_pci_priv.h: all of the byte is virtual.
pub(crate) const MAP_VIRTUAL: u8 = 0xfe;

/// ST entries that a capability can hold, PCIe r6.2 7.9.13.2.
pub(crate) const MAX_CAPABILITY_ENTRIES: u16 = 64;

const BASE: usize = uapi::PCI_TPH_BASE_SIZEOF as usize;
const ENTRY: usize = 2;
const EXTENDED_SPACE: usize = 256;
const HEADER: usize = size_of::<u32>();

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
    /// put any tag there: who may not choose tags gets no mode that would send it.
    fn modes(&self, policy: Policy) -> Modes {
        let in_reach = self.capability.table_location() == TableLocation::Msix
            && !policy.discloses_tags()
            && !self.alone_in_group;
        let policy = if in_reach { Policy::NoSt } else { policy };
        let modes = self.capability.modes().and(policy.modes());
        if self.lacks_table() {
            // What the device would send nobody has cleared, and nobody can choose.
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
    /// ST entries that `VFIO_DEVICE_FEATURE_TPH_ST` can address.
    pub(crate) entries: u16,
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

    /// Whether `VFIO_DEVICE_FEATURE_TPH_ST` exists on this device.
    pub(crate) fn programmable(&self) -> bool {
        self.policy.programs_table() && self.entries != 0
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

/// The chain of extended capabilities in a config space, as (offset, header) pairs.
///
/// Ends at a pointer that leads nowhere, and after as many steps as there is room for headers
/// (the bound of vfio-pci-core's own walk, so that what vfio-pci-core found is found), so that a
/// loop in the chain is no loop here.
struct Chain<'a> {
    space: &'a [u8],
    next: usize,
    steps: usize,
}

impl<'a> Chain<'a> {
    fn new(space: &'a [u8]) -> Self {
        Self {
            space,
            next: EXTENDED_SPACE,
            steps: space.len().saturating_sub(EXTENDED_SPACE) / HEADER,
        }
    }
}

impl Iterator for Chain<'_> {
    type Item = (usize, u32);

    fn next(&mut self) -> Option<Self::Item> {
        self.steps = self.steps.checked_sub(1)?;
        let offset = self.next;
        if offset < EXTENDED_SPACE {
            return None;
        }
        let header = read_dword(self.space, offset)?;
        self.next = next_pointer(header);
        Some((offset, header))
    }
}

fn read_dword(space: &[u8], offset: usize) -> Option<u32> {
    let bytes = space.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn write_dword(space: &mut [u8], offset: usize, value: u32) {
    if let Some(bytes) = space.get_mut(offset..offset.saturating_add(4)) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

/// Next Capability Offset of an extended capability header.
const fn next_pointer(header: u32) -> usize {
    // CAST: twelve bits.
    ((header >> 20) & 0xffc) as usize
}

const fn with_next_pointer(header: u32, next: usize) -> u32 {
    // CAST: an offset in config space has twelve bits.
    (header & 0x000f_ffff) | ((next as u32) << 20)
}

const fn is_tph(header: u32) -> bool {
    header & 0xffff == uapi::PCI_EXT_CAP_ID_TPH
}

/// The ST entries that fit into a capability at `offset`: up to 64, the end of config space, or
/// the next capability in `space`, whichever comes first.
pub(crate) fn room(space: &[u8], offset: u16) -> u16 {
    let table = usize::from(offset) + BASE;
    let entries = limit(space, offset.into()).saturating_sub(table) / ENTRY;
    // CAST: at most 64 after min().
    entries.min(usize::from(MAX_CAPABILITY_ENTRIES)) as u16
}

/// Whether a capability at `offset` claims to reach past the end of a config space of `size` bytes.
pub(crate) fn reaches_past(capability: Capability, offset: u16, size: usize) -> bool {
    capability.table_location() == TableLocation::Capability
        && usize::from(offset) + BASE + ENTRY * usize::from(capability.table_size()) > size
}

/// Where a capability at `offset` ends at the latest.
fn limit(space: &[u8], offset: usize) -> usize {
    Chain::new(space)
        .map(|(other, _)| other)
        .filter(|&other| other > offset)
        .min()
        .unwrap_or(space.len())
}

/// Takes a capability away from hardware and zeroes it: the registers, and behind them all that
/// vfio-pci-core took for a part of it, which is what the device claims, not what a capability
/// can have. The last dword is taken whole.
fn take(map: &mut [u8], space: &mut [u8], offset: usize) -> Range<usize> {
    let limit = limit(space, offset).min(map.len());
    // CAST: the id has eight significant bits, as vfio-pci-core's map assumes too.
    let id = uapi::PCI_EXT_CAP_ID_TPH as u8;
    let registers = offset.saturating_add(BASE).min(limit);
    let table = map[registers..limit]
        .iter()
        .take_while(|&&owner| owner == id)
        .count();
    let end = (registers + table).next_multiple_of(4).min(limit);
    let range = offset.min(end)..end;

    map[range.clone()].fill(MAP_VIRTUAL);
    space[range.clone()].fill(0);
    range
}

/// Makes the capability at `offset` the virtual one, in its reset state. Returns its bytes; `None`
/// if the chain that the user walks has no TPH capability there, or one without room for its
/// registers.
pub(crate) fn expose(
    map: &mut [u8],
    space: &mut [u8],
    offset: u16,
    offer: &Offer,
) -> Option<Range<usize>> {
    let at = usize::from(offset);
    let (_, header) = Chain::new(space).find(|&(found, header)| found == at && is_tph(header))?;
    if limit(space, at) < at + BASE {
        return None;
    }

    let range = take(map, space, at);
    write_dword(space, at, header);
    write_dword(
        space,
        at + uapi::PCI_TPH_CAP as usize,
        offer.capability.raw(),
    );
    Some(range)
}

/// Hides the first TPH capability of the chain that is not at `keep`: it leaves the chain, and its
/// bytes become virtual zeros. Returns its bytes.
pub(crate) fn hide_one(
    map: &mut [u8],
    space: &mut [u8],
    keep: Option<u16>,
) -> Option<Range<usize>> {
    let (offset, header) = Chain::new(space)
        .find(|&(offset, header)| is_tph(header) && Some(offset) != keep.map(usize::from))?;
    let next = next_pointer(header);
    let predecessor = Chain::new(space).find(|&(_, header)| next_pointer(header) == offset);

    let range = take(map, space, offset);
    if offset == EXTENDED_SPACE {
        // The first one cannot leave its place: an empty header carries the chain on.
        write_dword(space, offset, with_next_pointer(0, next));
    } else if let Some((at, header)) = predecessor {
        write_dword(space, at, with_next_pointer(header, next));
    }
    Some(range)
}
