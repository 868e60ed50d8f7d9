// SPDX-License-Identifier: GPL-2.0-only

//! Steering tags of CPUs: asked of firmware once, spec section 8.
//!
//! The `_DSM` of a host bridge is slow (it runs in the AML interpreter, under its locks) and its
//! answer does not change, so all of it is kept, for each host bridge and CPU. A failure is not
//! kept: there is no telling whether it would be the same next time.

use crate::{
    debugfs::Counters,
    failure::Failure,
    rules::{
        firmware::CpuTags,
        lookup::Hint,
        refusal::Refusal,
        source::{
            MemoryType,
            Namespace, //
        },
    },
    rust::{
        acpi::dsm::{
            FunctionSet,
            Handle, //
        },
        cpu::{
            self,
            PresentCpu, //
        },
    },
};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex,
        SetOnce, //
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

/// What firmware said of the CPUs, by one host bridge.
pub(crate) struct HostBridge {
    handle: Handle,
    /// Set once firmware has said that it can be asked.
    answers: SetOnce<()>,
    cpus: KVVec<SetOnce<CpuTags>>,
}

impl HostBridge {
    fn new(handle: Handle) -> Result<Self> {
        let mut cpus = KVVec::with_capacity(cpu::count(), GFP_KERNEL)?;
        for _ in 0..cpu::count() {
            cpus.push(SetOnce::new(), GFP_KERNEL)?;
        }
        Ok(Self {
            handle,
            answers: SetOnce::new(),
            cpus,
        })
    }

    /// The hint for memory of `cpu`, in one namespace. `NoTag` if firmware has no valid one. Counts
    /// how it came by the answer.
    pub(crate) fn hint(
        &self,
        cpu: PresentCpu,
        memory: MemoryType,
        namespace: Namespace,
        counters: &Counters,
    ) -> Result<Hint, Failure> {
        counters.resolutions.count();
        match self.tags(cpu, counters) {
            Ok(tags) => Ok(tags.hint(memory, namespace)?),
            // Of firmware that nobody could ask nothing is known.
            Err(error) if error == ENOMEM => Err(error.into()),
            Err(_) => Err(Refusal::NoTag.into()),
        }
    }

    fn tags(&self, cpu: PresentCpu, counters: &Counters) -> Result<CpuTags> {
        let known = self.cpus.get(cpu.number()).ok_or(EINVAL)?;
        if let Some(tags) = known.copy() {
            counters.cache_hits.count();
            return Ok(tags);
        }

        if self.answers.copy().is_none() {
            if !PCI_FIRMWARE.has(self.handle, QUERY_CACHE_LOCALITY)? {
                return Err(ENODEV);
            }
            self.answers.populate(());
        }
        // Feature 0 (processor cache), the CPU, no properties.
        let arguments = [0, cpu.acpi_uid()?.into(), 0];
        let answer = PCI_FIRMWARE.evaluate(self.handle, QUERY_CACHE_LOCALITY, arguments)?;
        let bytes = answer.as_buffer().and_then(|bytes| bytes.first_chunk());
        let tags = CpuTags::from_raw(u64::from_le_bytes(*bytes.ok_or(EINVAL)?));

        // Another thread may have been first; it was told the same.
        known.populate(tags);
        Ok(tags)
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
    pub(crate) fn get(&self, handle: Handle) -> Result<Arc<HostBridge>> {
        let mut known = self.known.lock();
        if let Some(bridge) = known.iter().find(|bridge| bridge.handle == handle) {
            return Ok(bridge.clone());
        }
        let bridge = Arc::new(HostBridge::new(handle)?, GFP_KERNEL)?;
        known.push(bridge.clone(), GFP_KERNEL)?;
        Ok(bridge)
    }
}
