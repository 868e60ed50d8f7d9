// SPDX-License-Identifier: GPL-2.0-only

//! What happens to a device, and who sees to it.

use crate::{
    config,
    debugfs::{
        Files,
        Known,
        Show, //
    },
    denylist,
    device::{
        GuestTerms,
        Offered,
        Shared,
        Terms,
        TphSession,
        VfioTph, //
    },
    dmabuf,
    events,
    feature,
    hardware::Tph,
    lookup::HostBridges,
    rules::{
        capability::{
            self,
            Hardware,
            Offer, //
        },
        chain::{
            self,
            Found, //
        },
        isolation,
        owners::{
            ByteSet,
            Owners, //
        },
        placement,
        policy::{
            Misfit,
            Policy, //
        },
        reconcile::Place,
        regs::{
            Capability,
            Completer,
            TableLocation, //
        },
        why::{
            Above,
            Findings, //
        },
    },
    rust::{
        bindings::PCI_BASE_CLASS_DISPLAY,
        dma_buf::Tph as DmaBufTph,
        module_param,
        pci::{
            self as bus,
            config::Config,
            tph::Requester,
            Upstream, //
        },
        ratelimit::{
            self,
            Message, //
        },
        vfio::{
            feature::{
                Call,
                Operation, //
            },
            pci::{
                Access,
                Attribute,
                CoreDevice,
                DeviceId,
                Driver,
                Handle,
                HeldVectors,
                Hooks,
                IdTable,
                InReset,
                Open,
                OpenDevice,
                Opening,
                Registration,
                Settings,
                Unmappable,
                MAP_UNASSIGNED,
                MAP_VIRTUAL, //
            },
        },
    },
    spans::Spans,
    sysfs,
    uapi, //
};
use core::ops::{
    Range,
    RangeInclusive, //
};
use kernel::{
    c_str,
    debugfs::Dir,
    device::Bound,
    device_id::IdArray,
    page::PAGE_SIZE,
    pci::{
        self,
        Vendor, //
    },
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// The module, under whichever name.
#[pin_data]
pub(crate) struct Module {
    #[pin]
    _registration: Registration<VfioTph>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _registration <- Registration::new(VfioTph::NAME, module),
        })
    }
}

/// As vfio-pci: any device. modpost is not told, so that tools which choose a driver by its alias
/// go on to choose vfio-pci.
static ANY: IdArray<DeviceId, (), 1> = IdArray::new_without_index([DeviceId::ANY]);

#[vtable]
impl Driver for VfioTph {
    type Shared = Shared;

    const NAME: &'static CStr = c_str!(env!("VFIO_TPH_NAME"));
    const ID_TABLE: IdTable = &ANY;
    const ATTRIBUTES: &'static [Attribute<Self>] = sysfs::ATTRIBUTES;
    const FEATURES: RangeInclusive<u32> =
        uapi::VFIO_DEVICE_FEATURE_TPH..=uapi::VFIO_DEVICE_FEATURE_TPH_MAP;

    fn shared() -> impl PinInit<Shared, Error> {
        let gate = module_param::enable_unsafe_tph();
        let policy = policy_at_bind(gate, module_param::tph_policy());
        try_pin_init!(Shared {
            // First, so that a module that is not loaded leaves nothing in debugfs.
            policy: policy?,
            gate,
            host_bridges <- HostBridges::new(),
            debugfs: Dir::new(Self::NAME),
        })
    }

    fn ids() -> &'static CStr {
        module_param::ids()
    }

    fn settings() -> Settings {
        module_param::settings()
    }

    fn sriov_enabled() -> bool {
        module_param::enable_sriov()
    }

    fn probe(pdev: &pci::Device<Bound>, shared: &Shared) -> Result<Self> {
        if denylist::lists(pdev) {
            let taken = module_param::disable_denylist();
            dev_warn!(
                pdev,
                "device {:#06x} is in vfio-pci's device denylist{}\n",
                pdev.device_id(),
                if taken { ", which is disabled" } else { "" }
            );
            if !taken {
                return Err(EINVAL);
            }
        }
        if is_intel_graphics(pdev) {
            dev_info!(
                pdev,
                "vfio-pci's regions for Intel graphics are not there\n"
            );
        }
        // An earlier driver may have left TPH on. The PCI core would restore it when the device
        // wakes up for its first user, and write the table under an enabled requester.
        if let Some(requester) = Requester::new(pdev) {
            requester.disable();
        }
        let host_bridge = bus::host_bridge(pdev)
            .map(|node| shared.host_bridges.get(node))
            .transpose()?;
        let allowed = bus::tph::allowed(pdev);
        let known = Known {
            root_port: bus::root_port(pdev)
                .map(|port| CString::try_from(port.as_ref().name()))
                .transpose()?,
            firmware: host_bridge
                .clone()
                .map(|host_bridge| -> Arc<dyn Show> { host_bridge }),
        };
        let name = pdev.as_ref().name();
        let findings = findings_at_bind(pdev, allowed);
        Ok(Self::new(
            shared.gate,
            shared.policy,
            Files::new(&shared.debugfs, name, known, findings, shared.policy)?,
            host_bridge,
            allowed,
        ))
    }

    /// Turns TPH off before vfio-pci-core resets the device and takes the snapshot that it restores
    /// at close, so that neither carries what an earlier driver left behind.
    fn before_open(&self, vdev: &CoreDevice) -> Result {
        let Some(offset) = bus::tph::found_at(vdev.pci()) else {
            return Ok(());
        };
        let requester = Requester::new(vdev.pci());
        if let Some(requester) = &requester {
            requester.disable();
        }
        refuse_past_the_end(vdev, offset, requester)
    }

    fn open(&self, opening: &mut Opening<'_>) -> Result<(Terms, TphSession)> {
        let pdev = opening.pci();
        let completer = completer(pdev);
        let mut offered = None;
        let mut findings = None;
        let mut entries = 0;

        let mut owners = None;
        let (mut tph, tph_at) = if let Some(requester) = Requester::new(pdev) {
            let owners = owners.insert(find_owners(pdev, Some(requester.offset()))?);
            let above = above(pdev);
            let found = read_hardware(opening.vdev(), &requester, above, completer, owners);
            let tph_at = Found {
                offset: requester.offset(),
                capability: found.capability,
            };
            findings = Some(Findings {
                hardware: Some(found),
                above,
                ..findings_of(self.allowed)
            });
            entries = found.entries_in_capability().max(found.vectors_in_table());
            self.warn_of_size(pdev, &found);
            let mut tph = tph_of(&found, owners, requester.offset())?;
            events::open(&mut tph, opening);
            if self.retired.load(Relaxed) {
                tph.retire();
            }
            offered = Offer::new(&found, self.policy())
                .filter(|_| self.allowed)
                .map(|offer| Offered {
                    offer,
                    offset: requester.offset(),
                });
            (Some(tph), Some(tph_at))
        } else {
            // It is hidden, and as much the driver's as one that is shown.
            (None, tph_out_of_use(pdev))
        };

        let mut map = sysfs::map_of(&self.files.visible().vcpus.lock())?;
        let shown = show(
            &mut offered,
            entries,
            map.is_some(),
            opening,
            owners,
            tph_at,
        )?;
        let guest_fits = shown.has_room;
        let terms = self.terms(opening.vdev(), offered, completer, shown, tph.as_ref());
        if let Some(tph) = &mut tph {
            if tph.place() == Place::Msix && terms.unmappable.is_none() {
                tph.set_mappable();
            }
            if let Some((map, guest)) = map.take().zip(terms.guest.as_ref()) {
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
                let in_capability = tph.shown().len();
                terms.visible.opened(&shown.offer, in_capability, entries)?;
            }
        }
        if let Some(findings) = findings {
            self.files.visible().set_findings(Findings {
                in_chain: terms.offered.is_some() || findings.tph().is_some(),
                guest_fits,
                ..findings
            });
        }
        Ok((terms, TphSession { tph }))
    }

    fn before_close(&self, handle: Handle<'_, Self>) {
        // It fails only if it waits for another user, and there is none any more.
        let _ = events::before_close(handle);
    }

    fn close(&self, open: &mut Open<'_, Self>) {
        events::close(open);
        open.terms().visible.closed();
    }

    #[inline(always)]
    fn wants_read(terms: &Terms, position: u64, count: usize) -> bool {
        terms.spans.concern_read(position, count)
    }

    #[inline(always)]
    fn wants_write(terms: &Terms, position: u64, count: usize) -> bool {
        terms.spans.concern_write(position, count)
    }

    fn read(&self, handle: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        config::read(handle, access)
    }

    fn write(&self, handle: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        config::write(handle, access)
    }

    fn feature(&self, handle: Handle<'_, Self>, call: Call) -> Result<i32> {
        feature::dispatch(self, handle, call)
    }

    #[inline(always)]
    fn unmappable(terms: &Terms) -> Option<&Unmappable> {
        terms.unmappable.as_ref()
    }

    fn shutdown(&self, open: &mut Open<'_, Self>, reset: &mut InReset<'_>) {
        events::shutdown(open, reset);
    }

    fn is_shut_down(&self) {
        self.retired.store(true, Relaxed);
    }

    fn suspend(&self, open: &mut Open<'_, Self>) {
        events::sleep(open);
    }

    fn resume(&self, open: &mut Open<'_, Self>, woken: &mut InReset<'_>) {
        events::wake(open, woken);
    }

    fn system_suspend(&self, open: &mut Open<'_, Self>) {
        events::system_sleep(open);
    }

    fn system_resume(&self, open: &mut Open<'_, Self>, reset: &mut InReset<'_>) {
        events::system_wake(open, reset);
    }

    fn reset_prepare(&self, open: &mut Open<'_, Self>, reset: &mut InReset<'_>) {
        events::before_reset(open, reset);
    }

    fn reset_done(&self, open: &mut Open<'_, Self>, reset: &mut InReset<'_>) {
        events::after_reset(open, reset);
    }

    fn error_detected(&self, open: &mut Open<'_, Self>, accessible: bool, reset: &mut InReset<'_>) {
        if accessible {
            events::doubt(open, reset);
        } else {
            events::lose(open);
        }
    }

    fn error_resume(&self, open: &mut Open<'_, Self>, reset: &mut InReset<'_>) {
        events::settle(open, reset);
    }
}

impl Hooks for VfioTph {
    fn tracks_interrupts(terms: &Terms) -> bool {
        terms.tracks_vectors
    }

    fn interrupts_change(&self, handle: Handle<'_, Self>) {
        events::vectors_change(handle);
    }

    fn interrupts_changed(&self, handle: Handle<'_, Self>, held: HeldVectors<'_>) {
        // It fails only if it waits for a user who changes the power state; there is none now.
        let _ = events::vectors_changed(handle, held);
    }

    fn low_power_exit(&self, handle: Handle<'_, Self>, call: Call) -> Result<i32> {
        let terms = handle.terms();
        let concerns_us = terms.tracks_vectors || terms.has_guest();
        // What is only asked, or refused, changes nothing, and waits for nobody.
        if concerns_us && matches!(call.check(Operation::Set, 0), Ok(true)) {
            events::exit_low_power(handle, call)
        } else {
            handle.vdev().feature(call)
        }
    }

    fn reset_failed(&self, handle: Handle<'_, Self>) {
        // If it fails, another user is changing the power state, and does the same afterwards.
        let _ = events::reset_failed(handle);
    }

    fn dma_buf_tph(&self, word: u64, extended: bool) -> Result<DmaBufTph> {
        dmabuf::answer(word, extended)
    }
}

/// Whether vfio-pci would give regions to the user that are not the device's: OpRegion, and config
/// space of bridges.
fn is_intel_graphics(pdev: &pci::Device<Bound>) -> bool {
    pdev.vendor_id() == Vendor::INTEL && pdev.pci_class().as_raw() >> 16 == PCI_BASE_CLASS_DISPLAY
}

/// The policy that devices start with. EINVAL if the module was loaded with a name that is none, or
/// that the gate does not allow.
fn policy_at_bind(gate: bool, name: Option<&CStr>) -> Result<Policy> {
    Policy::at_bind(gate, name.map(CStr::to_bytes)).map_err(|misfit| {
        let name = name.unwrap_or_default();
        match misfit {
            Misfit::Unknown => {
                pr_err!("tph_policy={name}: not one of no_st, iv_st, ds_st, literal\n")
            }
            Misfit::BeyondGate => {
                pr_err!("tph_policy={name} needs enable_unsafe_tph=Y\n")
            }
        }
        EINVAL
    })
}

impl VfioTph {
    /// The terms of a device that is being opened.
    fn terms(
        &self,
        vdev: &OpenDevice,
        offered: Option<Offered>,
        completer: Completer,
        shown: Shown,
        tph: Option<&Tph>,
    ) -> Terms {
        let in_msix = tph.is_some_and(|tph| tph.place() == Place::Msix);
        let table = offered
            .as_ref()
            .filter(|offered| offered.offer.policy.discloses_tags())
            .zip(tph)
            .map_or(0..0, |(offered, tph)| {
                let start = offered.offset + uapi::PCI_TPH_BASE_SIZEOF as u16;
                // CAST: at most 64 entries.
                start..start + 2 * tph.shown().len() as u16
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
            host_bridge: self.host_bridge.clone(),
            tracks_vectors: in_msix && offered.is_some(),
            unmappable,
            offered,
            completer: if self.allowed {
                completer
            } else {
                Completer::None
            },
            kept: shown.kept,
            visible: self.files.visible().clone(),
        }
    }

    fn warn_of_size(&self, pdev: &pci::Device<Bound>, found: &Hardware) {
        let claimed = found.capability.table_size();
        if found.capability.table_location() == TableLocation::Capability
            && claimed > found.room
            && !self.warned_of_size.xchg(true, Relaxed)
        {
            dev_warn!(
                pdev,
                "TPH capability claims {} ST entries and has room for {}\n",
                claimed,
                found.room
            );
        }
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
fn refuse_past_the_end(vdev: &CoreDevice, offset: u16, requester: Option<Requester<'_>>) -> Result {
    if CoreDevice::BOUNDS_CAPABILITIES {
        return Ok(());
    }
    let past = requester.is_none_or(|requester| {
        capability::reaches_past(
            Capability::from_raw(requester.read_dword(uapi::PCI_TPH_CAP as u16)),
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
    match bus::upstream(pdev) {
        Upstream::RootComplex => Above::RootComplex,
        Upstream::RootPort(devcap2) => Above::RootPort(devcap2),
        Upstream::Unknown => Above::Unknown,
    }
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
    let capability = Capability::from_raw(requester.read_dword(uapi::PCI_TPH_CAP as u16));
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

/// What is to be said of a device that nobody has opened yet: as much as can be told without
/// what vfio-pci-core makes of it then.
fn findings_at_bind(pdev: &pci::Device<Bound>, allowed: bool) -> Findings {
    let above = above(pdev);
    let hardware = Requester::new(pdev).map(|requester| Hardware {
        capability: Capability::from_raw(requester.read_dword(uapi::PCI_TPH_CAP as u16)),
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

/// Of a device of which nothing is known but that it has a capability, which is not hidden.
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
fn tph_out_of_use(pdev: &pci::Device<Bound>) -> Option<Found> {
    let offset = bus::tph::offset_in_config_space(pdev)?;
    let register = usize::from(offset) + uapi::PCI_TPH_CAP as usize;
    let raw = Config::new(pdev).read_u32(register).unwrap_or(0);
    Some(Found {
        offset,
        capability: Capability::from_raw(raw),
    })
}

/// What the capabilities of hardware's chain own, but for the one at `except`.
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
/// `has_map`: there is a guest already. `entries`: how many hardware has. `owners`, and `found`,
/// are those of a device that has one.
fn show(
    offered: &mut Option<Offered>,
    entries: u16,
    has_map: bool,
    opening: &mut Opening<'_>,
    owners: Option<KBox<Owners>>,
    found: Option<Found>,
) -> Result<Shown> {
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
    let (map, space) = opening.config();
    // Of a device without one, nothing is asked.
    if found.is_some() || chain::has_tph(space) {
        let at = found.map(|found| found.offset);
        let owners = match owners {
            Some(owners) => owners,
            None => find_owners(pdev, at)?,
        };
        let offer = offered.as_ref().map(|offered| &offered.offer);
        has_room =
            found.is_some_and(|found| placement::has_room(map, space, &owners, found, entries));
        let placed = placement::place(map, space, &owners, found, offer, has_map);
        let shows = match &placed {
            Some(placed) if has_map => placed.show(map, space, &owners, &mut kept),
            _ => chain::arrange(map, space, &owners, found, offer, &mut kept),
        };
        if !shows {
            *offered = None;
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
