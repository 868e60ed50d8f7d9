// SPDX-License-Identifier: GPL-2.0-only

//! The data of a bound and of an open device.
//!
//! Words that are used everywhere in this driver:
//!
//! - *vfio-pci-core*: what all variant drivers of vfio-pci are built on; its device is a `vdev`.
//! - *PCI core*: drivers/pci, which saves and restores config space over sleep and resets.
//! - *wanted*: what the user of a device has asked for, as Control and as entries of the ST table.
//! - *held*: what hardware has of that, as far as is known.
//! - *due*: an entry of the ST table for which hardware may have something else than is wanted.
//! - *refuse*: a device that does not have afterwards what was written to it has refused that.
//! - *witness*: an entry of the ST table that hardware is known to have, and that is not 0: if it
//!   reads as 0, the device was reset.
//! - *offer*: what a user may have of TPH on a device.
//! - *terms*: the offer, and what else is fixed when a device is opened.
//! - *guest*: a user for whom the ST table is one of virtual tags, by a *map*.
//! - *errand*: something that is done to an open device for which tags may have to be asked for, or
//!   memory to be decoded: it is tried again until nothing is missing.

use crate::{
    debugfs::{
        Counters,
        Files,
        Visible, //
    },
    hardware::Tph,
    lookup::{
        Firmware,
        HostBridge,
        HostBridges, //
    },
    rules::{
        capability::Offer,
        guest::{
            Map,
            Target, //
        },
        owners::ByteSet,
        policy::Policy,
        regs::Completer,
        source::MemoryType, //
    },
    rust::vfio::pci::{
        OpenState,
        Unmappable, //
    },
    spans::Spans, //
};
use core::ops::Range;
use kernel::{
    debugfs::Dir,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Arc, //
    },
};

/// The driver's data of a device that is bound.
pub(crate) struct VfioTph {
    /// `enable_unsafe_tph` when the device was bound.
    pub(crate) gate: bool,
    /// What the administrator lets users have, up to what the gate allows.
    policy: Atomic<u32>,
    /// What the administrator sees.
    pub(crate) files: Files,
    /// The host bridge whose firmware knows the tags of CPUs, if there is one.
    pub(crate) host_bridge: Option<Arc<HostBridge>>,
    /// Whether the administrator was told that the capability claims too many entries.
    pub(crate) warned_of_size: Atomic<bool>,
    /// Whether the kernel lets anyone enable TPH: `pci=notph` is not given.
    pub(crate) allowed: bool,
    /// Whether the kernel is about to end: TPH stays off.
    pub(crate) retired: Atomic<bool>,
}

/// What all devices share.
#[pin_data]
pub(crate) struct Shared {
    #[pin]
    pub(crate) host_bridges: HostBridges,
    pub(crate) debugfs: Dir,
    /// The gate, and the policy that a device starts with when it is bound.
    pub(crate) gate: bool,
    pub(crate) policy: Policy,
}

/// What is fixed when a device is opened, and read without a lock until it is closed. What a guest
/// is shown is fixed, too; not whether there is one.
pub(crate) struct Terms {
    /// What the user is shown; `None` where TPH is not usable.
    pub(crate) offered: Option<Offered>,
    /// What the device itself completes, as far as anyone may use it: what its owner may publish.
    pub(crate) completer: Completer,
    /// The bytes of TPH capabilities, shown or hidden, and such as others own in the midst of them:
    /// writes to them never reach vfio-pci-core.
    pub(crate) kept: KBox<ByteSet>,
    /// Which accesses to config space are not vfio-pci-core's alone.
    pub(crate) spans: Spans,
    /// The bytes of a visible ST table of hardware's.
    pub(crate) table: Range<u16>,
    /// What a guest is shown in its place; `None` where there cannot be one.
    pub(crate) guest: Option<GuestTerms>,
    /// Whether there is one now; [`Terms::set_guest`] writes it.
    pub(crate) has_guest: Atomic<bool>,
    /// Whether there was one, likewise: what was made virtual for it stays so.
    pub(crate) had_guest: Atomic<bool>,
    /// The host bridge whose firmware knows the tags of CPUs, if there is one.
    pub(crate) host_bridge: Option<Arc<HostBridge>>,
    /// Whether the user has an ST table in MSI-X, whose entries follow the interrupt vectors.
    pub(crate) tracks_vectors: bool,
    /// The pages of the MSI-X table, if the user must be kept away from it.
    pub(crate) unmappable: Option<Unmappable>,
    /// What the administrator sees.
    pub(crate) visible: Arc<Visible>,
}

/// A TPH capability that a user may drive.
#[derive(Clone, Copy)]
pub(crate) struct Offered {
    /// What may be had of it.
    pub(crate) offer: Offer,
    /// Its offset in config space.
    pub(crate) offset: u16,
}

/// What a guest is shown.
pub(crate) struct GuestTerms {
    /// What may be had of the capability, and where it is.
    pub(crate) shown: Offered,
    /// The bytes of its table: whole dwords.
    pub(crate) bytes: Range<u16>,
    /// The power state, which a guest's entries wait for, if there is one.
    pub(crate) power: Range<u16>,
}

impl GuestTerms {
    /// The bytes of its entries.
    pub(crate) fn table(&self) -> Range<u16> {
        let start = self.bytes.start;
        start..start + 2 * self.shown.offer.entries
    }
}

impl Terms {
    /// What the user is shown now.
    #[inline(never)]
    pub(crate) fn shown(&self) -> Option<&Offered> {
        match &self.guest {
            Some(guest) if self.has_guest() => Some(&guest.shown),
            _ => self.offered.as_ref(),
        }
    }

    /// Whether there is a guest, whose tags are virtual.
    pub(crate) fn has_guest(&self) -> bool {
        // ORDERING: With `set_guest`: whoever sees the guest also sees what was set before.
        self.has_guest.load(Acquire)
    }

    /// There is a guest from now on, or none; its spans are there already. The session is locked.
    pub(crate) fn set_guest(&self, there: bool) {
        if there {
            self.had_guest.store(true, Relaxed);
        }
        // ORDERING: With `has_guest`: a write is taken apart by both, the guest's part first.
        self.has_guest.store(there, Release);
    }

    /// Whether writes to a byte of config space never reach vfio-pci-core.
    #[inline(never)]
    pub(crate) fn is_ours(&self, at: usize) -> bool {
        let guests =
            |guest: &GuestTerms| (guest.bytes.start.into()..guest.bytes.end.into()).contains(&at);
        self.kept.contains(at)
            || self.had_guest.load(Relaxed) && self.guest.as_ref().is_some_and(guests)
    }

    /// Firmware, as a guest's tags are looked up in it.
    pub(crate) fn firmware(&self) -> Firmware<'_> {
        Firmware::new(self.host_bridge.as_deref(), &self.visible.counters)
    }
}

/// What changes while a device is open.
pub(crate) struct TphSession {
    /// TPH in hardware; `None` without a capability.
    pub(crate) tph: Option<Tph>,
}

impl OpenState for VfioTph {
    type Terms = Terms;
    type Session = TphSession;
}

impl VfioTph {
    /// For a device that is being bound.
    pub(crate) fn new(
        gate: bool,
        policy: Policy,
        files: Files,
        host_bridge: Option<Arc<HostBridge>>,
        allowed: bool,
    ) -> Self {
        Self {
            gate,
            policy: Atomic::new(policy as u32),
            files,
            host_bridge,
            warned_of_size: Atomic::new(false),
            allowed,
            retired: Atomic::new(false),
        }
    }

    /// What has happened to the device.
    pub(crate) fn counters(&self) -> &Counters {
        &self.files.visible().counters
    }

    /// The policy of the user who opens the device next.
    pub(crate) fn policy(&self) -> Policy {
        Policy::from_value(self.policy.load(Relaxed))
    }

    /// Changes the policy of the user who opens the device next.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.policy.store(policy as u32, Relaxed);
        self.files.visible().set_policy(policy);
    }
}

/// The map of a list of CPUs, as the administrator sets it; `None` if it is empty.
#[inline(never)]
pub(crate) fn vcpus_map(vcpus: &[Option<u32>]) -> Result<Option<KBox<Map>>> {
    if vcpus.is_empty() {
        return Ok(None);
    }
    let mut map = KBox::new(Map::EMPTY, GFP_KERNEL)?;
    for vcpu in vcpus {
        map.push(vcpu.map_or(Target::Nothing, |cpu| Target::Cpu {
            cpu,
            memory: MemoryType::Volatile,
        }));
    }
    Ok(Some(map))
}
