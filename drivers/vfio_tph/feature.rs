// SPDX-License-Identifier: GPL-2.0-only

//! The device features of `include/uapi/linux/vfio_tph.h`: copies user memory, makes the checks in
//! their order, and answers with an errno.

use crate::{
    debugfs::Count,
    device::VfioTph,
    dmabuf,
    events,
    failure::Failure,
    rules::{
        batch::Batch,
        capability::Offer,
        guest::{
            self,
            Map,
            Target, //
        },
        lookup::{
            Hint,
            Lookup, //
        },
        policy::Policy,
        published::Published,
        refusal::Refusal,
        source::{
            self,
            Namespace,
            Source, //
        },
    },
    rust::{
        cpu::{
            CallersCpus,
            PresentCpu, //
        },
        nospec,
        vfio::{
            feature::{
                Call,
                Operation, //
            },
            pci::{
                Handle, //
                VfioPciDevice,
            },
        },
    },
    trace,
    uapi, //
};
use core::mem::offset_of;
use kernel::{
    prelude::*,
    transmute::AsBytes,
    uaccess::UserSliceReader, //
};

/// How many sources are copied from the user at once: several, so that there are fewer copies, and
/// few enough for the stack, so that nothing is allocated.
const SOURCES_AT_ONCE: usize = 16;

/// Handles a feature that is ours, and leaves others to vfio-pci-core.
pub(crate) fn dispatch(device: &VfioTph, handle: Handle<'_, VfioTph>, call: Call) -> Result<i32> {
    let done = match call.index() {
        uapi::VFIO_DEVICE_FEATURE_TPH => get_tph(handle, call),
        uapi::VFIO_DEVICE_FEATURE_TPH_ST => set_tph_st(device, handle, call),
        uapi::VFIO_DEVICE_FEATURE_TPH_RESOLVE => get_tph_resolve(device, handle, call),
        uapi::VFIO_DEVICE_FEATURE_DMA_BUF_TPH => set_dma_buf_tph(device, handle, call),
        uapi::VFIO_DEVICE_FEATURE_TPH_MAP => set_tph_map(device, handle, call),
        _ => return handle.vdev().feature(call),
    };
    let (refusal, position) = match done {
        Ok(()) => return Ok(0),
        Err(Failure::Other(error)) => return Err(error),
        Err(Failure::Refused(refusal)) => (refusal, None),
        Err(Failure::Source {
            position,
            refusal,
            fault,
        }) => {
            call.data(fault).writer().write(&position)?;
            (refusal, Some(position))
        }
    };
    device.counters().refused(refusal);
    trace::refusal(
        handle.vdev().pci(),
        call.index(),
        -refusal.errno(),
        position,
    );
    Err(Error::from_errno(-refusal.errno()))
}

/// What the user may have.
fn offer<'a>(handle: Handle<'a, VfioTph>) -> Option<&'a Offer> {
    handle
        .terms()
        .offered
        .as_ref()
        .map(|offered| &offered.offer)
}

/// What a guest may have; `None` where there cannot be one.
fn guest_offer<'a>(handle: Handle<'a, VfioTph>) -> Option<&'a Offer> {
    let guest = handle.terms().guest.as_ref();
    guest.map(|guest| &guest.shown.offer)
}

/// Whether the call is to be done. A PROBE is not: the check answers it.
fn to_do(call: &Call, operation: Operation, min_size: usize) -> Result<bool, Refusal> {
    call.check(operation, min_size)
        .map_err(|_| Refusal::Malformed)
}

/// `VFIO_DEVICE_FEATURE_TPH`.
fn get_tph(handle: Handle<'_, VfioTph>, call: Call) -> Result<(), Failure> {
    let shown = handle.terms().shown().ok_or(Refusal::Unsupported)?;
    let offer = &shown.offer;
    if !to_do(
        &call,
        Operation::Get,
        size_of::<uapi::vfio_device_feature_tph>(),
    )? {
        return Ok(());
    }

    call.data(0)
        .writer()
        .write(&uapi::vfio_device_feature_tph {
            flags: offer.flags(),
            st_entries: offer.entries,
            modes: offer.modes().bits(),
            policy: offer.policy as u8,
        })?;
    Ok(())
}

/// `VFIO_DEVICE_FEATURE_TPH_ST`.
fn set_tph_st(device: &VfioTph, handle: Handle<'_, VfioTph>, call: Call) -> Result<(), Failure> {
    type Header = uapi::vfio_device_feature_tph_st;

    let offer = Batch::available(offer(handle))?;
    if handle.terms().has_guest() {
        return Err(Refusal::Busy.into());
    }
    if !to_do(&call, Operation::Set, size_of::<Header>())? {
        return Ok(());
    }

    let mut reader = call.data(0).reader();
    let batch = confine(Batch::shape(&reader.read()?, offer, call.len())?, offer);

    program(device, handle, offer, &batch, reader)
}

/// `VFIO_DEVICE_FEATURE_TPH_RESOLVE`.
fn get_tph_resolve(
    device: &VfioTph,
    handle: Handle<'_, VfioTph>,
    call: Call,
) -> Result<(), Failure> {
    type Header = uapi::vfio_device_feature_tph_resolve;

    let offer = offer(handle).ok_or(Refusal::Unsupported)?;
    if !to_do(&call, Operation::Get, size_of::<Header>())? {
        return Ok(());
    }

    let mut reader = call.data(0).reader();
    let lookup = Lookup::shape(&reader.read()?, offer, call.len())?;
    // CAST: at most 4096.
    let mut entries =
        KVVec::<uapi::vfio_tph_resolution>::zeroed(lookup.count as usize, GFP_KERNEL_ACCOUNT)?;
    reader.read_slice(entries.as_bytes_mut())?;

    let mut resolver = Resolver::new(device, offer.policy, lookup.namespace);
    for (position, entry) in (0..).zip(entries.iter_mut()) {
        let hint = lookup
            .source(entry, offer.policy)
            .map_err(Failure::from)
            .and_then(|source| resolver.hint(source))
            .map_err(|failure| failure.of_source(position, offset_of!(Header, fault)))?;
        hint.disclose(entry, offer.policy);
    }

    call.data(size_of::<Header>())
        .writer()
        .write_slice(entries.as_bytes())?;
    trace::resolve(
        handle.vdev().pci(),
        lookup.count,
        lookup.namespace == Namespace::Extended,
    );
    Ok(())
}

/// `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`.
fn set_dma_buf_tph(
    device: &VfioTph,
    handle: Handle<'_, VfioTph>,
    call: Call,
) -> Result<(), Failure> {
    type Header = uapi::vfio_device_feature_dma_buf_tph;

    // Whether the device is a requester, and what its policy is, does not matter here.
    let completer = handle.terms().completer;
    if !VfioPciDevice::KEEPS_DMA_BUF_WORDS {
        return Err(Refusal::Unsupported.into());
    }
    Published::available(completer)?;
    if !to_do(&call, Operation::Set, size_of::<Header>())? {
        return Ok(());
    }

    let raw: Header = call.data(0).reader().read()?;
    let published = Published::from_user(&raw, completer)?;
    dmabuf::publish(handle.vdev(), raw.dmabuf_fd, published)?;
    device.counters().count(Count::Published);
    Ok(())
}

/// `VFIO_DEVICE_FEATURE_TPH_MAP`.
fn set_tph_map(device: &VfioTph, handle: Handle<'_, VfioTph>, call: Call) -> Result<(), Failure> {
    type Header = uapi::vfio_device_feature_tph_map;

    let offer = guest_offer(handle).ok_or(Refusal::Unsupported)?;
    if !to_do(&call, Operation::Set, size_of::<Header>())? {
        return Ok(());
    }

    let mut reader = call.data(0).reader();
    let count = guest::shape(&reader.read()?, call.len())?;
    events::may_set_map(handle, count != 0, false)?;
    let map = map(offer.policy, count, reader)?;
    events::set_map(handle, map, false, &mut || ())?;
    device.counters().count(Count::Maps);
    Ok(())
}

/// The map of `count` sources in `reader`; none if there are none.
fn map(
    policy: Policy,
    count: usize,
    mut reader: UserSliceReader,
) -> Result<Option<KBox<Map>>, Failure> {
    if count == 0 {
        return Ok(None);
    }
    let mut map = KBox::new(Map::EMPTY, GFP_KERNEL_ACCOUNT)?;
    let mut callers = CallersCpus::new();
    for position in 0..count {
        let source: uapi::vfio_tph_source = reader.read()?;
        let target = target(policy, &source, &mut callers).map_err(|failure| {
            failure.of_source(
                // CAST: at most 255.
                position as u32,
                offset_of!(uapi::vfio_device_feature_tph_map, fault),
            )
        })?;
        map.push(target);
    }
    Ok(Some(map))
}

/// What a source of a map stands for.
fn target(
    policy: Policy,
    source: &uapi::vfio_tph_source,
    callers: &mut CallersCpus,
) -> Result<Target, Failure> {
    let target = Target::decode(source)?;
    if let Target::Cpu { cpu, .. } = target {
        let cpu = PresentCpu::from_number(cpu).ok_or(Refusal::NoCpu)?;
        source::admit_cpu(policy, || callers.contain(cpu).map_err(Failure::from))?;
    }
    Ok(target)
}

/// Keeps a batch within the table also while the CPU speculates: its index and count say where tags
/// are recorded.
fn confine(batch: Batch, offer: &Offer) -> Batch {
    let start = usize::from(batch.index);
    let entries = nospec::range(
        start..start + usize::from(batch.count),
        offer.entries.into(),
    );
    // CAST: at most what `batch.index` and `batch.count` are, which have 16 bits.
    Batch {
        index: entries.start as u16,
        count: entries.len() as u16,
        ..batch
    }
}

/// Resolves all sources, which come from `reader`, then writes the entries.
fn program(
    device: &VfioTph,
    handle: Handle<'_, VfioTph>,
    offer: &Offer,
    batch: &Batch,
    reader: UserSliceReader,
) -> Result<(), Failure> {
    events::admit(handle, offer, batch)?;
    // Firmware may take its time: no lock is held.
    let mut tags = tags(device, offer.policy, batch, reader)?;
    events::program(handle, batch, &mut tags)?;
    device.counters().count(Count::TableWrites);
    trace::table_write(
        handle.vdev().pci(),
        batch.index,
        batch.count,
        batch.namespace == Namespace::Extended,
    );
    Ok(())
}

/// The tags of a batch, from the sources in `reader`.
fn tags(
    device: &VfioTph,
    policy: Policy,
    batch: &Batch,
    mut reader: UserSliceReader,
) -> Result<KVVec<u16>, Failure> {
    let count = usize::from(batch.count);
    let mut tags = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    let mut sources: [uapi::vfio_tph_source; SOURCES_AT_ONCE] = pin_init::zeroed();
    let mut resolver = Resolver::new(device, policy, batch.namespace);
    while tags.len() < count {
        let sources = &mut sources[..SOURCES_AT_ONCE.min(count - tags.len())];
        reader.read_slice(sources.as_bytes_mut())?;
        for source in sources {
            let tag = resolver.tag(source).map_err(|failure| {
                failure.of_source(
                    // CAST: at most 2048 entries.
                    tags.len() as u32,
                    offset_of!(uapi::vfio_device_feature_tph_st, fault),
                )
            })?;
            tags.push(tag, GFP_KERNEL_ACCOUNT)?;
        }
    }
    Ok(tags)
}

/// Finds out what the sources of one call stand for.
struct Resolver<'a> {
    device: &'a VfioTph,
    policy: Policy,
    namespace: Namespace,
    callers: CallersCpus,
}

impl<'a> Resolver<'a> {
    fn new(device: &'a VfioTph, policy: Policy, namespace: Namespace) -> Self {
        Self {
            device,
            policy,
            namespace,
            callers: CallersCpus::new(),
        }
    }

    /// Finds the tag that a source puts into an ST entry.
    fn tag(&mut self, source: &uapi::vfio_tph_source) -> Result<u16, Failure> {
        match Source::decode(source, self.namespace)?.admit(self.policy)? {
            Source::None => Ok(0),
            Source::Literal { tag } => Ok(tag),
            source => self.hint(source).map(|hint| hint.tag),
        }
    }

    /// Looks up a source whose tag firmware or an exporter knows.
    fn hint(&mut self, source: Source) -> Result<Hint, Failure> {
        let device = self.device;
        match source {
            Source::Cpu { cpu, memory } => {
                let cpu = PresentCpu::from_number(cpu).ok_or(Refusal::NoCpu)?;
                source::admit_cpu(self.policy, || {
                    self.callers.contain(cpu).map_err(Failure::from)
                })?;
                let bridge = device.host_bridge.as_ref().ok_or(Refusal::NoTag)?;
                bridge.hint(cpu, memory, self.namespace, device.counters())
            }
            Source::DmaBuf { fd } => {
                device.counters().count(Count::Resolutions);
                dmabuf::hint(fd, self.namespace)
            }
            Source::None | Source::Literal { .. } => Err(Refusal::MalformedSource.into()),
        }
    }
}
