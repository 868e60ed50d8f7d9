// SPDX-License-Identifier: GPL-2.0-only

//! A device from bind to unbind, and from open to close; spec section 6.

use crate::{
    config::{
        ByteRange,
        Spans, //
    },
    debugfs::{
        Counters,
        Files,
        Visible, //
    },
    denylist, dmabuf, feature,
    lookup::{
        HostBridge,
        HostBridges, //
    },
    power,
    rules::{
        capability::{
            self,
            Hardware,
            Offer, //
        },
        isolation,
        policy::Policy,
        refusal::Refusal,
        regs::{
            Capability,
            Completer,
            Control,
            TableLocation, //
        },
    },
    rust::{
        dma_buf::Tph,
        module_param,
        pci::{
            self as bus,
            tph::Requester,
            Upstream, //
        },
        vfio::{
            feature::Call,
            pci::{
                Access,
                CoreDevice,
                Driver,
                Handle,
                InReset,
                Open,
                Opening,
                Unmappable, //
            },
        },
    },
    sysfs::TphPolicy,
    table, uapi,
    vectors::{
        self,
        Vectors, //
    },
};
use core::ops::{
    Range,
    RangeInclusive, //
};
use kernel::{
    debugfs::Dir,
    device::Bound,
    page::PAGE_SIZE,
    pci,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

/// The driver's data of a bound device.
pub(crate) struct VfioTph {
    /// The gate when the device was bound.
    pub(crate) gate: bool,
    /// What the administrator lets users have, up to what the gate allows.
    policy: Atomic<u32>,
    /// What the administrator sees.
    files: Files,
    /// Who knows the tags of CPUs.
    pub(crate) host_bridge: Option<Arc<HostBridge>>,
    /// Which config space accesses are not vfio-pci-core's alone.
    pub(crate) spans: Spans,
    warned_of_size: Atomic<bool>,
    /// Whether the kernel lets anyone enable TPH.
    allowed: bool,
    /// Whether the device is open with vectors that may have tags.
    tracks_vectors: Atomic<bool>,
}

/// What all devices share.
#[pin_data]
pub(crate) struct Shared {
    #[pin]
    host_bridges: HostBridges,
    debugfs: Dir,
}

/// The TPH side of an open device.
pub(crate) struct TphSession {
    /// What the user has; `None` where TPH is not usable.
    pub(crate) offered: Option<Offered>,
    /// How many vectors with an ST entry there are whose table the user can map, and write.
    pub(crate) open_vectors: u16,
    /// What the device itself completes, as far as anyone may use it: what its owner may publish.
    pub(crate) completer: Completer,
    /// The bytes of TPH capabilities, shown or hidden: writes to them never reach vfio-pci-core.
    pub(crate) virtual_bytes: KVec<ByteRange>,
    /// What the administrator sees.
    pub(crate) visible: Arc<Visible>,
}

/// A TPH capability that a user may drive.
pub(crate) struct Offered {
    /// Its terms; they do not change while the device is open.
    pub(crate) offer: Offer,
    /// Its offset in config space.
    pub(crate) offset: u16,
    /// The ST entries of the table in the capability, none if the table is elsewhere: what was
    /// written there, for a device that has to be told again.
    pub(crate) tags: KVec<u16>,
    /// The Control register in force.
    pub(crate) control: Control,
    /// The vectors of a table in MSI-X, if it is there.
    pub(crate) vectors: Option<Vectors>,
    /// Whether an entry in the capability was written since the table was last cleared.
    pub(crate) table_written: bool,
    /// Whether hardware need not have what is recorded: the device has slept since, or TPH is off
    /// in it for tags that could not be cleared.
    pub(crate) asleep: bool,
    /// Whether hardware may have something else than [`Self::control`] and [`Self::tags`]: it
    /// could not be reached.
    pub(crate) out_of_reach: bool,
}

/// What the user sees of an offered capability.
pub(crate) trait Show {
    /// Shows the Control register in force.
    fn show_control(&mut self) -> Result;

    /// Shows some entries of the ST table in the capability, if the policy discloses them.
    fn show_table(&mut self, entries: Range<usize>) -> Result;
}

impl Show for Open<'_, VfioTph> {
    fn show_control(&mut self) -> Result {
        let Some(offered) = &self.offered else {
            return Ok(());
        };
        let at = usize::from(offered.offset) + uapi::PCI_TPH_CTRL as usize;
        let control = offered.control;
        self.visible.set_control(control);
        self.virtual_config().write_dword(at, control.raw())
    }

    fn show_table(&mut self, entries: Range<usize>) -> Result {
        let (session, mut config) = self.split();
        let Some(offered) = &session.offered else {
            return Ok(());
        };
        // None if the table is in MSI-X.
        let Some(tags) = offered.tags.get(entries.clone()) else {
            return Ok(());
        };
        session.visible.set_tags(entries.clone(), tags);
        if offered.offer.policy.discloses_tags() {
            table::show(&mut config, offered.offset, entries.start, tags)?;
        }
        Ok(())
    }
}

impl Offered {
    /// Records what was written to the table in the capability.
    pub(crate) fn record(&mut self, index: u16, tags: &[u16]) -> Result<(), Refusal> {
        let range = usize::from(index)..usize::from(index) + tags.len();
        let entries = self.tags.get_mut(range).ok_or(Refusal::Malformed)?;
        entries.copy_from_slice(tags);
        Ok(())
    }

    /// Takes it that TPH is off, of a device that has stopped answering: no write since then need
    /// have reached it, and it may come back.
    pub(crate) fn lost(&mut self) {
        self.control = Control::RESET;
        self.out_of_reach = true;
    }

    /// Whether no vector has a tag that it should not have.
    pub(crate) fn is_settled(&self) -> bool {
        self.vectors.as_ref().is_none_or(Vectors::is_settled)
    }

    /// Puts in force what could not reach the device, if it can be reached now: of a batch that
    /// did not come through, half may have.
    pub(crate) fn catch_up(&mut self, requester: &Requester<'_>) -> Result {
        if self.out_of_reach && !self.asleep {
            table::set_control(requester, table::disabled(self.control))?;
            table::restore(requester, &self.tags)?;
            if self.control.enabled() && self.is_settled() {
                table::set_control(requester, self.control)?;
            }
            self.out_of_reach = table::control(requester)? != Some(self.control);
        }
        Ok(())
    }

    /// Turns TPH off and clears the table, in hardware as far as it can be reached, and in what
    /// the user sees.
    fn reset(open: &mut Open<'_, VfioTph>, reset: Reset, callback: Option<&InReset>) -> Result {
        let vdev = open.vdev();
        let (Some(requester), Some(offered)) = (Requester::new(vdev.pci()), &mut open.offered)
        else {
            return Ok(());
        };
        offered.asleep = false;
        offered.tags.fill(0);
        let table = offered.tags.len();

        if reset == Reset::OutOfReach {
            requester.set_core_state(0, 0);
            offered.out_of_reach = true;
        } else if offered.control != Control::RESET {
            table::set_control(&requester, Control::RESET)?;
        }
        offered.control = Control::RESET;
        if reset != Reset::OutOfReach {
            offered.catch_up(&requester)?;
        }

        let written = offered.table_written;
        if written && reset == Reset::Over {
            table::restore(&requester, &offered.tags)?;
            offered.table_written = false;
        }
        vectors::clear_for_reset(open, callback.filter(|_| reset != Reset::OutOfReach));

        open.show_control()?;
        if written {
            open.show_table(0..table)?;
        }
        Ok(())
    }
}

/// When, relative to a reset, the state of a device is taken back to what a reset leaves.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Reset {
    /// Before it: the table in hardware is left to it.
    Coming,
    /// The device does not answer now: what hardware holds is seen to when it does again.
    OutOfReach,
    /// After it, or without one.
    Over,
}

impl VfioTph {
    /// What has happened to the device.
    pub(crate) fn counters(&self) -> &Counters {
        &self.files.visible().counters
    }

    /// The policy of who opens the device next.
    pub(crate) fn policy(&self) -> Policy {
        Policy::from_value(self.policy.load(Relaxed))
    }

    /// Changes the policy of who opens the device next.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u32, Relaxed);
    }

    fn completer(vdev: &CoreDevice) -> Completer {
        bus::device_capabilities_2(vdev.pci())
            .map_or(Completer::None, Completer::from_device_capabilities_2)
    }

    /// Reads what the hardware says of itself, but for what it is as a completer, and of its path.
    ///
    /// The capability comes after `completer`: if the device answers then, what it answered before
    /// was no silence.
    fn hardware(
        vdev: &CoreDevice,
        requester: &Requester<'_>,
        completer: Completer,
        space: &[u8],
    ) -> Result<Hardware> {
        let capability = requester.read_dword(uapi::PCI_TPH_CAP as u16)?;
        Ok(Hardware {
            capability: Capability::from_raw(capability),
            root_port: match bus::upstream(vdev.pci()) {
                Upstream::RootComplex => None,
                Upstream::RootPort(devcap2) => Some(Completer::from_device_capabilities_2(devcap2)),
                Upstream::Unknown => Some(Completer::None),
            },
            completer,
            room: capability::room(space, requester.offset()),
            msix_vectors: vdev.msix().map_or(0, |msix| msix.vectors()),
        })
    }

    fn warn_of_size(&self, vdev: &CoreDevice, hardware: &Hardware) {
        let claimed = hardware.capability.table_size();
        if hardware.capability.table_location() == TableLocation::Capability
            && claimed > hardware.room
            && !self.warned_of_size.xchg(true, Relaxed)
        {
            dev_warn!(
                vdev.pci(),
                "TPH capability claims {} ST entries and has room for {}\n",
                claimed,
                hardware.room
            );
        }
    }
}

impl Driver for VfioTph {
    type Shared = Shared;
    type Session = TphSession;
    type Attribute = TphPolicy;

    const FEATURES: RangeInclusive<u32> =
        uapi::VFIO_DEVICE_FEATURE_TPH..=uapi::VFIO_DEVICE_FEATURE_DMA_BUF_TPH;
    const NAME: &'static CStr = c"vfio_tph";

    fn shared() -> impl PinInit<Shared, Error> {
        try_pin_init!(Shared {
            host_bridges <- HostBridges::new(),
            debugfs: Dir::new(c"vfio_tph"),
        })
    }

    fn sriov_enabled() -> bool {
        module_param::enable_sriov()
    }

    fn probe(pdev: &pci::Device<Bound>, shared: &Shared) -> Result<Self> {
        if denylist::lists(pdev) {
            dev_warn!(
                pdev,
                "device {:#06x} is in vfio-pci's device denylist\n",
                pdev.device_id()
            );
            return Err(EINVAL);
        }
        // What a driver before has left on, the PCI core would restore in its own order, a table
        // under an enabled requester, when the device wakes up for its first user.
        if let Some(requester) = Requester::new(pdev) {
            requester.disable();
        }
        let gate = module_param::enable_unsafe_tph();
        let host_bridge = bus::host_bridge(pdev).map(|node| shared.host_bridges.get(node));
        Ok(Self {
            gate,
            files: Files::new(&shared.debugfs, pdev.as_ref().name())?,
            policy: Atomic::new(Policy::default_for(gate) as u32),
            host_bridge: host_bridge.transpose()?,
            spans: Spans::new(),
            warned_of_size: Atomic::new(false),
            allowed: bus::tph::allowed(pdev),
            tracks_vectors: Atomic::new(false),
        })
    }

    /// Turns TPH off before vfio-pci-core resets the device and takes the snapshot that it
    /// restores at close, so that neither carries what an earlier driver left behind.
    fn before_open(&self, vdev: &CoreDevice) -> Result {
        let Some(offset) = bus::tph::found_at(vdev.pci()) else {
            return Ok(());
        };
        let requester = Requester::new(vdev.pci());
        if let Some(requester) = &requester {
            requester.disable();
        }

        // vfio-pci-core marks in its map what the device claims. Where it does so without a look
        // at the size of the map, a device that lies must not get there.
        if !CoreDevice::BOUNDS_CAPABILITIES {
            let past = match &requester {
                Some(requester) => capability::reaches_past(
                    Capability::from_raw(requester.read_dword(uapi::PCI_TPH_CAP as u16)?),
                    offset,
                    vdev.pci().cfg_size().into_raw(),
                ),
                None => true,
            };
            if past {
                dev_err!(
                    vdev.pci(),
                    "TPH capability at {:#x} claims ST entries past the end of config space\n",
                    offset
                );
                return Err(EIO);
            }
        }
        Ok(())
    }

    fn open(&self, opening: &mut Opening<'_>) -> Result<TphSession> {
        let vdev = opening.vdev();
        let completer = Self::completer(vdev);
        let mut session = TphSession {
            offered: None,
            open_vectors: 0,
            completer: if self.allowed {
                completer
            } else {
                Completer::None
            },
            virtual_bytes: KVec::new(),
            visible: self.files.visible().clone(),
        };

        if let Some(requester) = Requester::new(vdev.pci()) {
            let (_, space) = opening.config();
            let hardware = Self::hardware(vdev, &requester, completer, space)?;
            self.warn_of_size(vdev, &hardware);

            // Whatever was there before: also what the kernel knows nothing of.
            let mut tags = KVec::new();
            tags.resize(hardware.entries_in_capability().into(), 0, GFP_KERNEL)?;
            let in_msix = hardware.capability.table_location() == TableLocation::Msix;
            table::set_control(&requester, Control::RESET)?;
            table::restore(&requester, &tags)?;
            if in_msix {
                vectors::clear_at_open(opening, hardware.msix_vectors);
            }

            let offer = Offer::new(&hardware, self.policy()).filter(|_| self.allowed);
            if in_msix {
                session.open_vectors = hardware.msix_vectors;
            }
            if let Some(offer) = offer {
                session.offered = Some(Offered {
                    offer,
                    offset: requester.offset(),
                    tags,
                    control: Control::RESET,
                    vectors: in_msix
                        .then(|| Vectors::new(hardware.msix_vectors))
                        .transpose()?,
                    table_written: false,
                    asleep: false,
                    out_of_reach: false,
                });
            }
        }

        let (map, space) = opening.config();
        if let Some(offered) = &session.offered {
            match capability::expose(map, space, offered.offset, &offered.offer) {
                Some(range) => session.virtual_bytes.push(range.into(), GFP_KERNEL)?,
                None => session.offered = None,
            }
        }
        if let Some(offered) = &session.offered {
            if isolation::isolates(&offered.offer) {
                session.open_vectors = 0;
            }
        }
        let keep = session.offered.as_ref().map(|offered| offered.offset);
        while let Some(range) = capability::hide_one(map, space, keep) {
            session.virtual_bytes.push(range.into(), GFP_KERNEL)?;
        }

        if let Some(offered) = &session.offered {
            session.visible.opened(&offered.offer, offered.tags.len())?;
        }
        self.spans.set(vdev, &session);
        let vectors = |offered: &Offered| offered.vectors.is_some();
        self.tracks_vectors
            .store(session.offered.as_ref().is_some_and(vectors), Relaxed);
        Ok(session)
    }

    fn before_close(&self, handle: Handle<'_, Self>) {
        vectors::clear_at_close(handle);
    }

    fn close(&self, open: &mut Open<'_, Self>) {
        self.spans.clear();
        self.tracks_vectors.store(false, Relaxed);
        // Nothing to be done about a device that is gone. Vectors have been seen to.
        let _ = Offered::reset(open, Reset::Over, None);
        open.visible.closed();
    }

    #[inline(always)]
    fn wants_read(&self, position: u64, count: usize) -> bool {
        self.wants_config_read(position, count)
    }

    #[inline(always)]
    fn wants_write(&self, position: u64, count: usize) -> bool {
        self.wants_config_write(position, count)
    }

    fn read(&self, handle: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        self.read_config(handle, access)
    }

    fn write(&self, handle: Handle<'_, Self>, access: Access<'_>) -> Result<usize> {
        self.write_config(handle, access)
    }

    fn feature(&self, handle: Handle<'_, Self>, call: Call) -> Result<i32> {
        feature::dispatch(self, handle, call)
    }

    fn tracks_interrupts(&self) -> bool {
        self.tracks_vectors.load(Relaxed)
    }

    fn interrupts_change(&self, handle: Handle<'_, Self>) {
        // What could not be done after an earlier change. Fails as little as that at close.
        let _ = vectors::clear_freed(handle);
    }

    fn interrupts_changed(&self, handle: Handle<'_, Self>) {
        // As above.
        let _ = vectors::changed(handle).and_then(|()| power::woken(handle));
    }

    fn reset_failed(&self, handle: Handle<'_, Self>) {
        // A user who changes the power state, and is waited for in vain, sees to it himself.
        // There is nothing else that could fail.
        let _ = power::woken(handle);
    }

    fn unmappable(&self, open: &Open<'_, Self>) -> Option<Unmappable> {
        let offered = open.offered.as_ref()?;
        let msix = open.vdev().msix()?;
        isolation::isolates(&offered.offer).then(|| Unmappable {
            region: msix.bar,
            bytes: isolation::pages(msix.offset, msix.size, PAGE_SIZE as u64),
        })
    }

    fn dma_buf_tph(&self, word: u64, extended: bool) -> Result<Tph> {
        dmabuf::answer(word, extended)
    }

    fn suspend(&self, open: &mut Open<'_, Self>) {
        power::sleep(open);
    }

    fn resume(&self, open: &mut Open<'_, Self>) {
        // One that did not wake up is still asleep.
        if bus::is_powered(open.vdev().pci()) {
            // A device that is not there has nothing to put back.
            let _ = power::wake(open);
        }
    }

    fn reset_prepare(&self, open: &mut Open<'_, Self>, reset: &InReset) {
        // A device that is not there has nothing to turn off, and the kernel's state is off.
        let _ = Offered::reset(open, Reset::Coming, Some(reset));
    }

    fn reset_done(&self, open: &mut Open<'_, Self>, reset: &InReset) {
        // As above.
        let _ = Offered::reset(open, Reset::Over, Some(reset));
    }

    fn error_detected(&self, open: &mut Open<'_, Self>, accessible: bool, reset: &InReset) {
        let when = if accessible {
            Reset::Over
        } else {
            Reset::OutOfReach
        };
        // As above.
        let _ = Offered::reset(open, when, Some(reset));
    }

    fn error_resume(&self, open: &mut Open<'_, Self>, reset: &InReset) {
        // As above.
        let _ = Offered::reset(open, Reset::Over, Some(reset));
    }
}
