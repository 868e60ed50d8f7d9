// SPDX-License-Identifier: GPL-2.0-only

//! Steering tags of CPUs, which firmware is asked for as rarely as possible.
//!
//! The `_DSM` of a host bridge is slow: it runs in the AML interpreter, under its locks. So its
//! answers are kept, for each host bridge and CPU: a tag for good, since it does not change, and a
//! failure for [`RETRY_AFTER`], since it may not fail again. A host bridge without the function
//! counts as a failure for all CPUs. Whenever firmware aborts, the kernel logs it, and users must
//! not make it do so at will: one of them at a time asks, and the others wait for what it learns. A
//! lack of memory is not kept, as it says nothing of firmware.

use crate::{
    debugfs::{
        Count,
        Counters,
        Describe, //
    },
    failure::Failure,
    rules::{
        firmware::CpuTags,
        guest::{
            Answer,
            Target, //
        },
        lookup::Hint,
        refusal::Refusal,
        source::{
            MemoryType,
            Namespace, //
        },
    },
    rust::{
        acpi::dsm::{
            AcpiHandle, //
            FunctionSet,
        },
        cpu::{
            self,
            PresentCpu, //
        },
    },
};
use kernel::{
    fmt, new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex,
        SetOnce, //
    },
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
};

/// e5c937d0-3553-4d7a-9117-ea4d19c3434d, revision 7: the PCI Firmware Specification's functions.
const PCI_FIRMWARE: FunctionSet = FunctionSet {
    guid: [
        0xd0, 0x37, 0xc9, 0xe5, 0x53, 0x35, 0x7a, 0x4d, 0x91, 0x17, 0xea, 0x4d, 0x19, 0xc3, 0x43,
        0x4d,
    ],
    revision: 7,
};

/// "Query cache locality TPH features".
const QUERY_CACHE_LOCALITY: u32 = 0xf;

/// How long firmware is not asked again after it has failed to answer.
const RETRY_AFTER: Delta = Delta::from_secs(10);

/// When something failed last, on the clock of a [`HostBridge`].
struct LastFailure(Atomic<i64>);

impl LastFailure {
    /// In nanoseconds; no moment is negative.
    const NEVER: i64 = -1;

    const fn new() -> Self {
        Self(Atomic::new(Self::NEVER))
    }

    /// Whether it has failed at all.
    fn ever(&self) -> bool {
        self.0.load(Relaxed) != Self::NEVER
    }

    /// It fails now.
    fn set(&self, now: Delta) {
        self.0.store(now.as_nanos(), Relaxed);
    }

    /// Whether that is not long ago.
    fn lately(&self, now: Delta) -> bool {
        let then = self.0.load(Relaxed);
        then != Self::NEVER && now.as_nanos().saturating_sub(then) < RETRY_AFTER.as_nanos()
    }
}

/// What firmware said of one CPU.
struct CpuRecord {
    tags: SetOnce<CpuTags>,
    failed: LastFailure,
}

/// What firmware said of the CPUs, by one host bridge.
#[pin_data]
pub(crate) struct HostBridge {
    handle: AcpiHandle,
    /// The moment from which failures are counted.
    since: Instant<Monotonic>,
    cpus: KVVec<CpuRecord>,
    /// When firmware last had no function to ask for tags.
    absent: LastFailure,
    /// Whether firmware has said that it can be asked. Whoever asks it holds the lock.
    #[pin]
    answers: Mutex<bool>,
}

impl HostBridge {
    fn new(handle: AcpiHandle) -> Result<Arc<Self>> {
        let mut cpus = KVVec::with_capacity(cpu::count(), GFP_KERNEL)?;
        for _ in 0..cpu::count() {
            cpus.push(
                CpuRecord {
                    tags: SetOnce::new(),
                    failed: LastFailure::new(),
                },
                GFP_KERNEL,
            )?;
        }
        Arc::pin_init(
            pin_init!(Self {
                handle,
                since: Instant::now(),
                cpus,
                absent: LastFailure::new(),
                answers <- new_mutex!(false),
            }),
            GFP_KERNEL,
        )
    }

    /// The hint for memory of `cpu`, in one namespace. `NoTag` if firmware has no valid one. Counts
    /// the look-up in `counters`.
    pub(crate) fn hint(
        &self,
        cpu: PresentCpu,
        memory: MemoryType,
        namespace: Namespace,
        counters: &Counters,
    ) -> Result<Hint, Failure> {
        counters.count(Count::Resolutions);
        match self.tags(cpu, counters) {
            Ok(tags) => Ok(tags.hint(memory, namespace)?),
            // Without memory firmware was not asked.
            Err(error) if error == ENOMEM => Err(error.into()),
            Err(_) => Err(Refusal::NoTag.into()),
        }
    }

    /// What is kept of a CPU.
    fn answer(&self, cpu: PresentCpu) -> Answer {
        let kept = self.cpus.get(cpu.number()).map(|record| self.kept(record));
        match kept.unwrap_or(Some(Err(EINVAL))) {
            None => Answer::Unknown,
            Some(Ok(tags)) => Answer::Tags(tags),
            Some(Err(_)) => Answer::Failed,
        }
    }

    /// What firmware says of `cpu`, or has said.
    fn tags(&self, cpu: PresentCpu, counters: &Counters) -> Result<CpuTags> {
        let record = self.cpus.get(cpu.number()).ok_or(EINVAL)?;
        let kept = match self.kept(record) {
            Some(kept) => kept,
            None => {
                let mut answers = self.answers.lock();
                // Whoever held the lock before may have asked the same.
                match self.kept(record) {
                    Some(kept) => kept,
                    None => return self.ask(cpu, record, &mut answers),
                }
            }
        };
        counters.count(Count::CacheHits);
        kept
    }

    /// What is kept, if anything is: tags, or that there are none for now.
    #[inline(never)]
    fn kept(&self, record: &CpuRecord) -> Option<Result<CpuTags>> {
        if let Some(tags) = record.tags.copy() {
            return Some(Ok(tags));
        }
        let now = self.since.elapsed();
        (record.failed.lately(now) || self.absent.lately(now)).then_some(Err(ENODEV))
    }

    /// Asks firmware, and keeps what comes of it.
    fn ask(&self, cpu: PresentCpu, record: &CpuRecord, answers: &mut bool) -> Result<CpuTags> {
        if !*answers {
            self.keeping(&self.absent, || {
                if PCI_FIRMWARE.has(self.handle, QUERY_CACHE_LOCALITY)? {
                    Ok(())
                } else {
                    Err(ENODEV)
                }
            })?;
            *answers = true;
        }
        let tags = self.keeping(&record.failed, || {
            // Feature 0 (processor cache), the CPU, no properties.
            let arguments = [0, cpu.acpi_uid()?.into(), 0];
            let answer = PCI_FIRMWARE.evaluate(self.handle, QUERY_CACHE_LOCALITY, arguments)?;
            let bytes = answer.as_buffer().and_then(|bytes| bytes.first_chunk());
            Ok(CpuTags::from_raw(u64::from_le_bytes(*bytes.ok_or(EINVAL)?)))
        })?;
        record.tags.populate(tags);
        Ok(tags)
    }

    /// Asks something, and keeps in `failed` that it fails, unless for want of memory.
    fn keeping<T>(&self, failed: &LastFailure, ask: impl FnOnce() -> Result<T>) -> Result<T> {
        ask().inspect_err(|&error| {
            if error != ENOMEM {
                failed.set(self.since.elapsed());
            }
        })
    }
}

/// What firmware has answered so far, a line for each CPU that was looked up. Asks it nothing.
impl Describe for HostBridge {
    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut asked = false;
        for (number, record) in self.cpus.iter().enumerate() {
            if let Some(tags) = record.tags.copy() {
                asked = true;
                writeln!(f, "cpu {number} {tags}")?;
            } else if record.failed.ever() {
                asked = true;
                writeln!(f, "cpu {number} no answer")?;
            }
        }
        if asked {
            return Ok(());
        }
        f.write_str(if self.absent.ever() {
            "firmware has no function that gives tags of CPUs (_DSM function 0Fh)\n"
        } else {
            "firmware was not asked yet\n"
        })
    }
}

/// Firmware as the tags of a guest are looked up in it: asked without a lock, and what it has said
/// looked at with locks.
pub(crate) struct Firmware<'a> {
    bridge: Option<&'a HostBridge>,
    counters: &'a Counters,
}

impl<'a> Firmware<'a> {
    /// The firmware of a host bridge, if there is one; look-ups are counted in `counters`.
    pub(crate) fn new(bridge: Option<&'a HostBridge>, counters: &'a Counters) -> Self {
        Self { bridge, counters }
    }

    /// What is known of a target.
    #[inline(never)]
    pub(crate) fn answer(&self, target: Target) -> Answer {
        let Target::Cpu { cpu, .. } = target else {
            return Answer::Failed;
        };
        match self.bridge.zip(PresentCpu::from_number(cpu)) {
            Some((bridge, cpu)) => bridge.answer(cpu),
            None => Answer::Failed,
        }
    }

    /// Entries stay 0 because firmware could not say.
    pub(crate) fn count_failed(&self, entries: u32) {
        if entries != 0 {
            self.counters.add(Count::FailedLookups, entries.into());
        }
    }

    /// Asks for a target that is not known. What comes of it is kept; if there is no memory to ask
    /// with, nothing is.
    pub(crate) fn ask(&self, target: Target) {
        let Target::Cpu { cpu, .. } = target else {
            return;
        };
        if let Some((bridge, cpu)) = self.bridge.zip(PresentCpu::from_number(cpu)) {
            self.counters.count(Count::Resolutions);
            let _ = bridge.tags(cpu, self.counters);
        }
    }
}

/// The host bridges above the devices that were bound so far.
#[pin_data]
pub(crate) struct HostBridges {
    #[pin]
    known: Mutex<KVec<Arc<HostBridge>>>,
}

impl HostBridges {
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            known <- new_mutex!(KVec::new()),
        })
    }

    /// The host bridge with this ACPI node.
    pub(crate) fn get(&self, handle: AcpiHandle) -> Result<Arc<HostBridge>> {
        let mut known = self.known.lock();
        if let Some(bridge) = known.iter().find(|bridge| bridge.handle == handle) {
            return Ok(bridge.clone());
        }
        let bridge = HostBridge::new(handle)?;
        known.push(bridge.clone(), GFP_KERNEL)?;
        Ok(bridge)
    }
}
