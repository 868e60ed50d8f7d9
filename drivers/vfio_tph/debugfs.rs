// SPDX-License-Identifier: GPL-2.0-only

//! `vfio_tph/<bdf>/` in debugfs: whether TPH is usable and why not (`why`), what is in force on an
//! open device (`state`), and what has happened to a bound one (`counters`). Only root can read it,
//! and so tags are shown whatever the policy.

use crate::rules::{
    capability::Offer,
    listed::listed,
    policy::Policy,
    refusal::Refusal,
    regs::{
        Capability,
        Control,
        StMode, //
    },
    why::{
        Above,
        Findings,
        Reason, //
    },
};
use core::ops::Range;
use kernel::{
    debugfs::{
        Dir,
        Scope, //
    },
    fmt, new_mutex,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
};

listed! {
    /// What is counted of a device, since it was bound.
    #[derive(Clone, Copy)]
    pub(crate) enum Count {
        /// Writes to Control that went to hardware.
        ConfigWrites,
        /// Writes to Control, or of a guest to its entries, that were dropped.
        DroppedWrites,
        /// Batches that were written to the ST table.
        TableWrites,
        /// Sources that were looked up: CPUs in firmware or in the cache of its answers, dma-bufs
        /// at their exporter.
        Resolutions,
        /// Sources that were answered from the cache of firmware's answers.
        CacheHits,
        /// Times that hints were published for a dma-buf, or withdrawn.
        Published,
        /// Times that a user has set a map, or taken it away.
        Maps,
        /// Writes of guests to their entries.
        GuestWrites,
        /// Entries of guests that stay 0 because firmware could not say.
        FailedLookups,
        /// Times that TPH went off because hardware did not take a guest's tags when vectors or
        /// memory came within reach.
        LostTags,
    }
}

impl Count {
    /// The names that an administrator sees, in the order of the variants.
    const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].name();
            at += 1;
        }
        names
    };

    const fn name(self) -> &'static str {
        match self {
            Self::ConfigWrites => "config_writes",
            Self::DroppedWrites => "dropped_writes",
            Self::TableWrites => "table_writes",
            Self::Resolutions => "resolutions",
            Self::CacheHits => "cache_hits",
            Self::Published => "published",
            Self::Maps => "maps",
            Self::GuestWrites => "guest_writes",
            Self::FailedLookups => "failed_lookups",
            Self::LostTags => "lost_tags",
        }
    }
}

/// What has happened since a device was bound.
pub(crate) struct Counters {
    counts: [Atomic<u64>; Count::ALL.len()],
    refusals: [Atomic<u64>; Refusal::ALL.len()],
}

impl Counters {
    const fn new() -> Self {
        Self {
            counts: [const { Atomic::new(0) }; Count::ALL.len()],
            refusals: [const { Atomic::new(0) }; Refusal::ALL.len()],
        }
    }

    /// Counts one event.
    pub(crate) fn count(&self, event: Count) {
        self.add(event, 1);
    }

    /// Counts several.
    pub(crate) fn add(&self, event: Count, times: u64) {
        // CAST: the position in `Count::ALL`.
        if let Some(count) = self.counts.get(event as usize) {
            count.fetch_add(times, Relaxed);
        }
    }

    /// Counts a feature that was refused.
    pub(crate) fn refused(&self, refusal: Refusal) {
        // CAST: the position in `Refusal::ALL`.
        if let Some(count) = self.refusals.get(refusal as usize) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// What is in force on an open device.
struct State {
    capability: u32,
    control: u32,
    tags: KVec<u16>,
    /// Of each entry of a guest, what was written, and what hardware is to have for it.
    guest: KVec<(u16, u16)>,
}

/// What debugfs shows of a device.
#[pin_data]
pub(crate) struct Visible {
    pub(crate) counters: Counters,
    #[pin]
    state: Mutex<Option<State>>,
    surroundings: Surroundings,
    #[pin]
    findings: Mutex<(Findings, Policy)>,
    /// The CPUs that the virtual tags of whoever opens the device stand for, as its administrator
    /// has said; written under the session's lock.
    #[pin]
    pub(crate) vcpus: Mutex<KVec<Option<u32>>>,
}

/// What is above a device, which does not change while it is bound.
pub(crate) struct Surroundings {
    /// The address of the root port.
    pub(crate) root_port: Option<CString>,
    /// What firmware has said of tags; nothing if there is nobody to ask.
    pub(crate) firmware: Option<Arc<dyn Describe>>,
}

/// Something that an administrator may look at. Looking changes nothing, and waits for nobody.
pub(crate) trait Describe: Send + Sync {
    /// Writes lines.
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

impl Visible {
    fn new(surroundings: Surroundings, findings: Findings, policy: Policy) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                counters: Counters::new(),
                state <- new_mutex!(None),
                surroundings,
                findings <- new_mutex!((findings, policy)),
                vcpus <- new_mutex!(KVec::new()),
            }),
            GFP_KERNEL,
        )
    }

    /// The device was opened, with a table of `entries` entries in the capability; a guest can have
    /// as many as `guest`.
    pub(crate) fn opened(&self, offer: &Offer, entries: usize, guest: usize) -> Result {
        let mut tags = KVec::new();
        tags.resize(entries, 0, GFP_KERNEL)?;
        let guest = KVec::with_capacity(guest, GFP_KERNEL)?;
        *self.state.lock() = Some(State {
            capability: offer.capability.raw(),
            control: 0,
            tags,
            guest,
        });
        Ok(())
    }

    /// The device was closed.
    pub(crate) fn closed(&self) {
        let state = self.state.lock().take();
        drop(state);
    }

    /// Control has a new value.
    pub(crate) fn set_control(&self, control: Control) {
        if let Some(state) = &mut *self.state.lock() {
            state.control = control.raw();
        }
    }

    /// The user is shown another Capability register: there is a guest, or none any more.
    pub(crate) fn set_capability(&self, capability: Capability) {
        if let Some(state) = &mut *self.state.lock() {
            state.capability = capability.raw();
            state.guest.clear();
        }
    }

    /// Some of a guest's entries, of which there are as many as `values`, have new values, or
    /// hardware is to have others of `tags` for them.
    pub(crate) fn set_guest(&self, entries: Range<usize>, values: &[u16], tags: &[u16]) {
        if let Some(state) = &mut *self.state.lock() {
            while state.guest.len() < values.len() {
                // There is room for all.
                if state.guest.push_within_capacity((0, 0)).is_err() {
                    return;
                }
            }
            let new = values.iter().zip(tags).skip(entries.start);
            for (shown, (&value, &tag)) in state
                .guest
                .iter_mut()
                .skip(entries.start)
                .zip(new)
                .take(entries.len())
            {
                *shown = (value, tag);
            }
        }
    }

    /// Entries of the table in the capability have new values.
    pub(crate) fn set_tags(&self, entries: Range<usize>, tags: &[u16]) {
        if let Some(state) = &mut *self.state.lock() {
            if let Some(shown) = state.tags.get_mut(entries) {
                shown.copy_from_slice(tags);
            }
        }
    }

    /// The device was looked at again.
    pub(crate) fn set_findings(&self, findings: Findings) {
        self.findings.lock().0 = findings;
    }

    /// The user who opens the device next has this policy.
    pub(crate) fn set_policy(&self, policy: Policy) {
        self.findings.lock().1 = policy;
    }

    fn show_why(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (findings, policy) = *self.findings.lock();
        let line = |f: &mut fmt::Formatter<'_>, name: &str, reason: Option<Reason>| match reason {
            None => writeln!(f, "{name} yes"),
            Some(reason) => writeln!(f, "{name} no: {}", reason.words()),
        };
        let unusable = findings.tph();
        line(f, "usable", unusable)?;
        if unusable.is_none() {
            let mode = |mode| findings.mode(mode, policy);
            line(f, "extended", findings.extended())?;
            line(f, "interrupt_vector", mode(StMode::InterruptVector))?;
            line(f, "device_specific", mode(StMode::DeviceSpecific))?;
            if !self.vcpus.lock().is_empty() {
                line(f, "tph_vcpus", findings.guest(policy))?;
            }
        }

        f.write_fmt(fmt!("policy {}\n", policy.name()))?;
        match (findings.above, &self.surroundings.root_port) {
            (Above::RootComplex, _) => {
                f.write_str("root_port none: the device is in the root complex\n")?
            }
            (above, Some(name)) => {
                let field = above.completer_field().unwrap_or(0);
                f.write_fmt(fmt!("root_port {} completer {field:02b}b\n", &**name))?
            }
            _ => f.write_str("root_port unknown\n")?,
        }
        match &self.surroundings.firmware {
            Some(firmware) => firmware.describe(f),
            None => f.write_str("firmware does not describe the host bridge\n"),
        }
    }

    fn show_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let guard = self.state.lock();
        let Some(state) = guard.as_ref() else {
            return f.write_str("TPH not in use\n");
        };
        writeln!(f, "capability {:#010x}", state.capability)?;
        writeln!(f, "control {:#010x}", state.control)?;
        for (index, (value, tag)) in state.guest.iter().enumerate() {
            writeln!(f, "guest[{index}] {value:#06x} {tag:#06x}")?;
        }
        for (index, tag) in state.tags.iter().enumerate() {
            writeln!(f, "table[{index}] {tag:#06x}")?;
        }
        Ok(())
    }

    fn show_counters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in Count::NAMES.iter().zip(&self.counters.counts) {
            writeln!(f, "{name} {}", count.load(Relaxed))?;
        }
        for (refusal, count) in Refusal::ALL.iter().zip(&self.counters.refusals) {
            writeln!(f, "refused.{refusal:?} {}", count.load(Relaxed))?;
        }
        Ok(())
    }
}

/// The files of a bound device; gone with it.
pub(crate) struct Files {
    visible: Arc<Visible>,
    _scope: Pin<KBox<Scope<Arc<Visible>>>>,
}

impl Files {
    /// Makes the directory `name` in `root`.
    pub(crate) fn new(
        root: &Dir,
        name: &CStr,
        surroundings: Surroundings,
        findings: Findings,
        policy: Policy,
    ) -> Result<Self> {
        let visible = Visible::new(surroundings, findings, policy)?;
        let scope = root.scope::<_, Error, _>(Ok(visible.clone()), name, |visible, dir| {
            dir.read_callback_file(c"why", visible, &|visible: &Arc<Visible>, f| {
                visible.show_why(f)
            });
            dir.read_callback_file(c"state", visible, &|visible: &Arc<Visible>, f| {
                visible.show_state(f)
            });
            dir.read_callback_file(c"counters", visible, &|visible: &Arc<Visible>, f| {
                visible.show_counters(f)
            });
        });
        Ok(Self {
            visible,
            _scope: KBox::pin_init(scope, GFP_KERNEL)?,
        })
    }

    /// What they show.
    pub(crate) fn visible(&self) -> &Arc<Visible> {
        &self.visible
    }
}
