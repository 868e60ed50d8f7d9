// SPDX-License-Identifier: GPL-2.0-only

//! What is found out of a device when it is bound or opened, and what its user gets: terms, TPH in
//! hardware, and the config space that they see.

use crate::{
    device::{
        vcpus_map,
        GuestTerms,
        Offered,
        Terms,
        TphSession,
        VfioTph, //
    },
    events,
    hardware::{
        self,
        Tph, //
    },
    ratelimit::{
        self,
        Message, //
    },
    rules::{
        capability::{
            self,
            Hardware,
            Offer, //
        },
        chain::{
            self,
            Location, //
        },
        guest::Map,
        isolation,
        owners::{
            ByteSet,
            Owners, //
        },
        placement,
        reconcile::Place,
        regs::{
            Capability,
            Completer,
            TableLocation,
            BASE_SIZE,
            CAPABILITY, //
        },
        why::{
            Above,
            Findings, //
        },
    },
    rust::{
        pci::{
            self as bus,
            config::Config,
            tph::Requester, //
        },
        vfio::pci::{
            OpenDevice,
            Opening,
            Unmappable,
            VfioPciDevice,
            MAP_UNASSIGNED,
            MAP_VIRTUAL, //
        },
    },
    spans::Spans,
    uapi, //
};
use core::ops::Range;
use kernel::{
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
};

/// Turns TPH off before vfio-pci-core resets the device and takes the snapshot that it restores at
/// close, so that neither carries what an earlier driver left behind. EIO for a device that must
/// not be opened.
pub(crate) fn before_open(vdev: &VfioPciDevice) -> Result {
    let Some(offset) = bus::tph::found_at(vdev.pci()) else {
        return Ok(());
    };
    refuse_past_the_end(vdev, offset, hardware::before_open(vdev.pci()))
}

/// vfio-pci-core has enabled the device: looks at it, turns TPH off, and shows its user what they
/// may have.
pub(crate) fn open(device: &VfioTph, opening: &mut Opening<'_>) -> Result<(Terms, TphSession)> {
    let mut looked = look(device, opening)?;
    let map = vcpus_map(&device.files.visible().vcpus.lock())?;
    let shown = show(&mut looked, map.is_some(), opening)?;
    let guest_fits = shown.has_room;
    let terms = terms(device, opening.vdev(), &looked, shown);
    if let Some(tph) = &mut looked.tph {
        start(&terms, tph, map)?;
    }
    if let Some(findings) = looked.findings {
        device.files.visible().set_findings(Findings {
            in_chain: terms.offered.is_some() || findings.tph().is_some(),
            guest_fits,
            ..findings
        });
    }
    Ok((terms, TphSession { tph: looked.tph }))
}

/// What was found out of a device that is being opened.
struct Looked {
    /// TPH in hardware; `None` without a capability that can be used.
    tph: Option<Tph>,
    /// What its user may have.
    offered: Option<Offered>,
    /// Where a capability is, whether or not it can be used.
    found: Option<Location>,
    /// What others own, if that is known already.
    owners: Option<KBox<Owners>>,
    /// How many entries hardware has.
    entries: u16,
    completer: Completer,
    /// What is to be said of it.
    findings: Option<Findings>,
}

/// Looks at a device that is being opened, and turns TPH off.
fn look(device: &VfioTph, opening: &mut Opening<'_>) -> Result<Looked> {
    let pdev = opening.pci();
    let completer = completer(pdev);
    let Some(requester) = Requester::new(pdev) else {
        return Ok(Looked {
            tph: None,
            offered: None,
            // The capability is hidden, and as much the driver's as one that is shown.
            found: tph_out_of_use(pdev),
            owners: None,
            entries: 0,
            completer,
            findings: None,
        });
    };

    let offset = requester.offset();
    let owners = find_owners(pdev, Some(offset))?;
    let above = above(pdev);
    let hardware = read_hardware(opening.vdev(), &requester, above, completer, &owners);
    warn_of_size(device, pdev, &hardware);
    let mut tph = tph_of(&hardware, &owners, offset)?;
    events::open(&mut tph, opening);
    if device.retired.load(Relaxed) {
        tph.retire();
    }
    let offer = Offer::new(&hardware, device.policy()).filter(|_| device.allowed);
    Ok(Looked {
        tph: Some(tph),
        offered: offer.map(|offer| Offered { offer, offset }),
        found: Some(Location {
            offset,
            capability: hardware.capability,
        }),
        owners: Some(owners),
        entries: hardware
            .entries_in_capability()
            .max(hardware.vectors_in_table()),
        completer,
        findings: Some(Findings {
            hardware: Some(hardware),
            above,
            ..findings_of(device.allowed)
        }),
    })
}

/// The user of a device comes next, who is a guest if the administrator has set a `map`.
fn start(terms: &Terms, tph: &mut Tph, map: Option<KBox<Map>>) -> Result {
    if tph.place() == Place::Msix && terms.unmappable.is_none() {
        tph.set_mappable();
    }
    if let Some((map, guest)) = map.zip(terms.guest.as_ref()) {
        tph.start_guest(map, guest.shown.offer.entries)?;
        let power = guest.power.clone();
        terms
            .spans
            .add_guest(guest.table(), power, terms.tracks_vectors);
        terms.set_guest(true);
    }
    if let Some(shown) = terms.shown() {
        let guest = terms.guest.as_ref();
        let entries = guest.map_or(0, |guest| guest.shown.offer.entries.into());
        let in_capability = tph.shown_tags().len();
        terms.visible.opened(&shown.offer, in_capability, entries)?;
    }
    Ok(())
}

/// The terms of a device that is being opened.
fn terms(device: &VfioTph, vdev: &OpenDevice, looked: &Looked, shown: Shown) -> Terms {
    let tph = looked.tph.as_ref();
    let offered = looked.offered;
    let in_msix = tph.is_some_and(|tph| tph.place() == Place::Msix);
    let table = offered
        .as_ref()
        .filter(|offered| offered.offer.policy.discloses_tags())
        .zip(tph)
        .map_or(0..0, |(offered, tph)| {
            // CAST: a small number, and at most 64 entries.
            let start = offered.offset + BASE_SIZE as u16;
            start..start + 2 * tph.shown_tags().len() as u16
        });
    // A write that takes the device to D3hot and back concerns us if the device loses its state
    // on the way, or has a table that cannot be reached meanwhile.
    let concerned = offered.is_some() && (vdev.loses_state() || in_msix);
    let power = if concerned { power_state(vdev) } else { 0..0 };
    let unmappable = vdev
        .msix()
        .zip(offered.as_ref())
        .filter(|(_, offered)| isolation::isolates(&offered.offer))
        .map(|(msix, _)| Unmappable {
            region: msix.bar,
            bytes: isolation::pages(msix.offset, msix.size, PAGE_SIZE as u64),
        });
    let hull = shown.kept.hull();
    Terms {
        // CAST: offsets in config space, at most 4096.
        spans: Spans::new(hull.start as u16..hull.end as u16, table.clone(), power),
        table,
        guest: shown.guest,
        has_guest: Atomic::new(false),
        had_guest: Atomic::new(false),
        host_bridge: device.host_bridge.clone(),
        tracks_vectors: in_msix && offered.is_some(),
        unmappable,
        offered,
        completer: if device.allowed {
            looked.completer
        } else {
            Completer::None
        },
        kept: shown.kept,
        visible: device.files.visible().clone(),
    }
}

/// The administrator is told once of a capability that claims more entries than it has room for.
fn warn_of_size(device: &VfioTph, pdev: &pci::Device<Bound>, found: &Hardware) {
    let claimed = found.capability.table_size();
    if found.capability.table_location() == TableLocation::Capability
        && claimed > found.room
        && !device.warned_of_size.xchg(true, Relaxed)
    {
        dev_warn!(
            pdev,
            "TPH capability claims {} ST entries and has room for {}\n",
            claimed,
            found.room
        );
    }
}

/// Where a device has its power state in config space; empty if nowhere.
fn power_state(vdev: &OpenDevice) -> Range<u16> {
    let at = vdev.pm_capability() + uapi::PCI_PM_CTRL as u16;
    match vdev.pm_capability() {
        0 => 0..0,
        _ => at..at + 1,
    }
}

/// vfio-pci-core marks in its map as many bytes as the device claims. Where it does so without
/// looking at the size of the map, a device that claims too many must not be opened: EIO.
fn refuse_past_the_end(
    vdev: &VfioPciDevice,
    offset: u16,
    requester: Option<Requester<'_>>,
) -> Result {
    if VfioPciDevice::BOUNDS_CAPABILITIES {
        return Ok(());
    }
    let past = requester.is_none_or(|requester| {
        capability::reaches_past(
            Capability::from_raw(requester.read_dword(CAPABILITY)),
            offset,
            Config::new(vdev.pci()).size(),
        )
    });
    if !past {
        return Ok(());
    }
    if ratelimit::allows(Message::PastTheEnd) {
        dev_err!(
            vdev.pci(),
            "TPH capability at {:#x} claims ST entries past the end of config space\n",
            offset
        );
    }
    Err(EIO)
}

fn above(pdev: &pci::Device<Bound>) -> Above {
    if bus::is_in_root_complex(pdev) {
        return Above::RootComplex;
    }
    bus::root_port(pdev)
        .and_then(|root_port| bus::device_capabilities_2(root_port).ok())
        .map_or(Above::Unknown, Above::RootPort)
}

fn completer(pdev: &pci::Device<Bound>) -> Completer {
    bus::device_capabilities_2(pdev).map_or(Completer::None, Completer::from_device_capabilities_2)
}

/// Reads what the device says of itself and of its path; `completer` was read before.
///
/// The capability is read after `completer` and `owners`: if the device answers now, it answered
/// before, too.
fn read_hardware(
    vdev: &OpenDevice,
    requester: &Requester<'_>,
    above: Above,
    completer: Completer,
    owners: &Owners,
) -> Hardware {
    let offset = requester.offset();
    let capability = Capability::from_raw(requester.read_dword(CAPABILITY));
    Hardware {
        capability,
        root_port: above.completer(),
        path_carries_extended: bus::carries_extended_tags(vdev.pci()),
        completer,
        room: capability::room(owners, offset),
        overlapped: capability::is_overlapped(capability, owners, offset),
        msix_vectors: vdev.msix().map_or(0, |msix| msix.vectors()),
        alone_in_group: bus::is_alone_in_group(vdev.pci()),
    }
}

/// TPH of a device that is being opened. Everything is unknown, and so is written: an earlier
/// driver may have left anything, also what the kernel does not know of.
fn tph_of(found: &Hardware, owners: &Owners, offset: u16) -> Result<Tph> {
    let mut unused = KVec::new();
    let (place, entries) = match found.capability.table_location() {
        TableLocation::None => (Place::None, 0),
        TableLocation::Capability => {
            let entries = found.entries_in_capability();
            for bytes in capability::unused(found.capability, owners, offset, entries) {
                unused.push(bytes, GFP_KERNEL)?;
            }
            (Place::Capability, entries)
        }
        // A table that cannot be used counts as none: no mode that would use it is offered.
        TableLocation::Msix if found.vectors_in_table() == 0 => (Place::None, 0),
        TableLocation::Msix => (Place::Msix, found.msix_vectors),
    };
    Tph::new(place, entries, unused)
}

/// What can be said of a device that nobody has opened yet, and so without what vfio-pci-core finds
/// when it is opened.
pub(crate) fn findings_at_bind(pdev: &pci::Device<Bound>, allowed: bool) -> Findings {
    let above = above(pdev);
    let hardware = Requester::new(pdev).map(|requester| Hardware {
        capability: Capability::from_raw(requester.read_dword(CAPABILITY)),
        root_port: above.completer(),
        path_carries_extended: bus::carries_extended_tags(pdev),
        completer: Completer::None,
        room: capability::MAX_CAPABILITY_ENTRIES,
        overlapped: false,
        msix_vectors: bus::claimed_msix_vectors(pdev),
        alone_in_group: bus::is_alone_in_group(pdev),
    });
    Findings {
        has_capability: bus::tph::offset_in_config_space(pdev).is_some(),
        hardware,
        above,
        ..findings_of(allowed)
    }
}

/// The findings of a device of which nothing is known but that it has a capability, which is not
/// hidden.
fn findings_of(allowed: bool) -> Findings {
    Findings {
        kernel_has_tph: bus::tph::KERNEL_HAS_TPH,
        has_capability: true,
        hardware: None,
        above: Above::Unknown,
        allowed,
        in_chain: true,
        guest_fits: true,
    }
}

/// The capability that the driver does not use: the kernel has no CONFIG_PCIE_TPH, or config space
/// ends inside the registers.
fn tph_out_of_use(pdev: &pci::Device<Bound>) -> Option<Location> {
    let offset = bus::tph::offset_in_config_space(pdev)?;
    let register = usize::from(offset) + usize::from(CAPABILITY);
    let raw = Config::new(pdev).read_u32(register).unwrap_or(0);
    Some(Location {
        offset,
        capability: Capability::from_raw(raw),
    })
}

/// What the capabilities of hardware's chain own, without the one at `except`.
fn find_owners(pdev: &pci::Device<Bound>, except: Option<u16>) -> Result<KBox<Owners>> {
    let config = Config::new(pdev);
    let mut owners = KBox::new(Owners::new(config.size()), GFP_KERNEL)?;
    owners.find(except, |at| config.read_u32(at).unwrap_or(u32::MAX));
    Ok(owners)
}

/// What became of the config space that a user sees.
struct Shown {
    /// The bytes of which vfio-pci-core must get no writes.
    kept: KBox<ByteSet>,
    /// What a guest is shown, whether or not there is one already.
    guest: Option<GuestTerms>,
    /// Whether there would be room for a guest under any policy, with a map.
    has_room: bool,
}

/// Shows the capability to the user, if there is something on offer, and hides all others.
/// `has_guest`: there is one already.
fn show(looked: &mut Looked, has_guest: bool, opening: &mut Opening<'_>) -> Result<Shown> {
    // The rules write what vfio-pci-core reads.
    const {
        assert!(chain::MAP_VIRTUAL == MAP_VIRTUAL);
        assert!(chain::MAP_UNASSIGNED == MAP_UNASSIGNED);
    };
    let mut kept = KBox::new(ByteSet::EMPTY, GFP_KERNEL)?;
    let mut guest = None;
    let mut has_room = false;
    let pdev = opening.pci();
    let power = power_state(opening.vdev());
    let (config_map, space) = opening.config();
    let config = Config::new(pdev);
    chain::read_headers(config_map, space, |at| {
        config.read_u32(at).unwrap_or(u32::MAX)
    });
    // A device that has no such capability goes on showing what it did: the headers above are where
    // nobody reads them.
    let found = looked.found;
    if found.is_some() || chain::has_tph(space) {
        let owners = match looked.owners.take() {
            Some(owners) => owners,
            None => find_owners(pdev, found.map(|found| found.offset))?,
        };
        let offer = looked.offered.as_ref().map(|offered| &offered.offer);
        has_room = found.is_some_and(|found| {
            placement::has_room(config_map, space, &owners, found, looked.entries)
        });
        let placed = placement::place(config_map, space, &owners, found, offer, has_guest);
        let shows = match &placed {
            Some(placed) if has_guest => placed.show(config_map, space, &owners, &mut kept),
            _ => chain::arrange(config_map, space, &owners, found, offer, &mut kept),
        };
        if !shows {
            looked.offered = None;
        }
        guest = placed.filter(|_| shows).map(|placed| GuestTerms {
            shown: Offered {
                offer: placed.offer,
                offset: placed.placement.offset,
            },
            // CAST: at most 4096.
            bytes: placed.placement.table().start as u16..placed.placement.table().end as u16,
            power,
        });
    }
    Ok(Shown {
        kept,
        guest,
        has_room,
    })
}
