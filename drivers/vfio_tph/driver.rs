// SPDX-License-Identifier: GPL-2.0-only

//! What happens to a device, and which file sees to it.

use crate::{
    config,
    debugfs::{
        Describe,
        Files,
        Surroundings, //
    },
    denylist,
    device::{
        Shared,
        Terms,
        TphSession,
        VfioTph, //
    },
    dmabuf,
    events,
    feature,
    hardware,
    lookup::HostBridges,
    module_param,
    open,
    rules::policy::{
        BadName,
        Policy, //
    },
    rust::{
        bindings::PCI_BASE_CLASS_DISPLAY,
        dma_buf::Tph as DmaBufTph,
        pci as bus,
        vfio::{
            feature::{
                Call,
                Operation, //
            },
            pci::{
                Access,
                Attribute,
                CallbackMemory,
                DeviceId,
                Driver,
                Handle,
                Hooks,
                IdTable,
                Open,
                Opening,
                Registration,
                Settings,
                StableVectors,
                Unmappable, //
                VfioPciDevice,
            },
        },
    },
    sysfs,
    uapi, //
};
use core::ops::RangeInclusive;
use kernel::{
    c_str,
    debugfs::Dir,
    device::Bound,
    device_id::IdArray,
    pci::{
        self,
        Vendor, //
    },
    prelude::*,
    str::CString,
    sync::{
        atomic::Relaxed,
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
        module_param::ids().unwrap_or_default()
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
        hardware::before_open(pdev);
        let host_bridge = bus::host_bridge(pdev)
            .map(|node| shared.host_bridges.get(node))
            .transpose()?;
        let allowed = bus::tph::allowed(pdev);
        let surroundings = Surroundings {
            root_port: bus::root_port(pdev)
                .map(|port| CString::try_from(port.as_ref().name()))
                .transpose()?,
            firmware: host_bridge
                .clone()
                .map(|host_bridge| -> Arc<dyn Describe> { host_bridge }),
        };
        let name = pdev.as_ref().name();
        let findings = open::findings_at_bind(pdev, allowed);
        Ok(Self::new(
            shared.gate,
            shared.policy,
            Files::new(&shared.debugfs, name, surroundings, findings, shared.policy)?,
            host_bridge,
            allowed,
        ))
    }

    fn before_open(&self, vdev: &VfioPciDevice) -> Result {
        open::before_open(vdev)
    }

    fn open(&self, opening: &mut Opening<'_>) -> Result<(Terms, TphSession)> {
        open::open(self, opening)
    }

    fn before_close(&self, handle: Handle<'_, Self>) {
        // It cannot fail: there is no other user to wait for any more.
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

    fn shutdown(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        events::shutdown(open, memory);
    }

    fn system_is_down(&self) {
        self.retired.store(true, Relaxed);
    }

    fn suspend(&self, open: &mut Open<'_, Self>) {
        events::suspend(open);
    }

    fn resume(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        events::resume(open, memory);
    }

    fn system_suspend(&self, open: &mut Open<'_, Self>) {
        events::system_suspend(open);
    }

    fn system_resume(&self, open: &mut Open<'_, Self>, memory: Option<&mut CallbackMemory<'_>>) {
        events::system_resume(open, memory);
    }

    fn reset_prepare(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        events::reset_prepare(open, memory);
    }

    fn reset_done(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        events::reset_done(open, memory);
    }

    fn error_detected(
        &self,
        open: &mut Open<'_, Self>,
        accessible: bool,
        memory: Option<&mut CallbackMemory<'_>>,
    ) {
        match memory {
            _ if !accessible => events::lose_by_error(open),
            Some(memory) => events::doubt(open, memory),
            // That it may have slept, which is on record, is not enough: if it does not go to D3hot
            // in the end, nobody puts a table in MSI-X back.
            None => events::forget(open),
        }
    }

    fn slot_reset(&self, open: &mut Open<'_, Self>) {
        events::lose_by_error(open);
    }

    fn error_resume(&self, open: &mut Open<'_, Self>, memory: &mut CallbackMemory<'_>) {
        events::sync(open, memory);
    }
}

impl Hooks for VfioTph {
    fn tracks_interrupts(terms: &Terms) -> bool {
        terms.tracks_vectors
    }

    fn interrupts_change(&self, handle: Handle<'_, Self>) {
        events::vectors_change(handle);
    }

    fn interrupts_changed(&self, handle: Handle<'_, Self>, vectors: StableVectors<'_>) {
        // It cannot fail: no user can be changing the power state now, and be waited for.
        let _ = events::vectors_changed(handle, vectors);
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
    Policy::at_bind(gate, name.map(CStr::to_bytes)).map_err(|bad| {
        let name = name.unwrap_or_default();
        match bad {
            BadName::Unknown => {
                pr_err!("tph_policy={name}: not one of no_st, iv_st, ds_st, literal\n")
            }
            BadName::BeyondGate => {
                pr_err!("tph_policy={name} needs enable_unsafe_tph=Y\n")
            }
        }
        EINVAL
    })
}
