// SPDX-License-Identifier: GPL-2.0-only

//! The device features of `include/uapi/linux/vfio_tph.h`, spec section 4: user memory in, checks in
//! their order, errno out.

use crate::{
    abstractions::{
        pci::{
            self as bus,
            tph::Requester,
            Awake, //
        },
        vfio::{
            feature::{
                Call,
                Operation, //
            },
            pci::{
                CoreDevice,
                Open,
                Session, //
            },
        },
    },
    device::VfioTph,
    rules::{
        batch::Batch,
        capability::Offer,
        refusal::Refusal,
        regs::Control,
        source::{
            Namespace,
            Source, //
        },
    },
    table,
    uapi, //
};
use core::mem::offset_of;
use kernel::{
    prelude::*,
    uaccess::UserSliceReader, //
};

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::from_errno(-refusal.errno())
    }
}

/// Handles a feature that is ours, and leaves others to core.
pub(crate) fn dispatch(
    device: &VfioTph,
    session: &Session<VfioTph>,
    core: &CoreDevice,
    call: Call,
) -> Result<i32> {
    match call.index() {
        uapi::VFIO_DEVICE_FEATURE_TPH => get_tph(session, core, call),
        uapi::VFIO_DEVICE_FEATURE_TPH_ST => set_tph_st(device, session, core, call),
        uapi::VFIO_DEVICE_FEATURE_TPH_RESOLVE | uapi::VFIO_DEVICE_FEATURE_DMA_BUF_TPH => {
            Err(Refusal::Unsupported.into())
        }
        _ => core.feature(call),
    }
}

/// The terms of an open device; they do not change until it is closed.
fn offer(session: &Session<VfioTph>, core: &CoreDevice) -> Result<Option<Offer>> {
    let mut guard = session.lock_now(core)?;
    let open = guard.open()?;
    Ok(open.offered.as_ref().map(|offered| offered.offer))
}

/// `VFIO_DEVICE_FEATURE_TPH`, spec section 4.1.
fn get_tph(session: &Session<VfioTph>, core: &CoreDevice, call: Call) -> Result<i32> {
    let offer = offer(session, core)?.ok_or(Refusal::Unsupported)?;
    if !call.check(Operation::Get, size_of::<uapi::vfio_device_feature_tph>())? {
        return Ok(0);
    }

    call.data(0).writer().write(&uapi::vfio_device_feature_tph {
        flags: offer.flags(),
        st_entries: offer.entries,
        modes: offer.modes().bits(),
        policy: offer.policy as u8,
    })?;
    Ok(0)
}

/// `VFIO_DEVICE_FEATURE_TPH_ST`, spec section 4.2.
fn set_tph_st(
    device: &VfioTph,
    session: &Session<VfioTph>,
    core: &CoreDevice,
    call: Call,
) -> Result<i32> {
    let offer = offer(session, core)?;
    let offer = Batch::available(offer.as_ref())?;
    if !call.check(
        Operation::Set,
        size_of::<uapi::vfio_device_feature_tph_st>(),
    )? {
        return Ok(0);
    }

    let mut reader = call.data(0).reader();
    let header = reader.read()?;
    let batch = Batch::shape(&header, offer, call.len())?;
    let sources = read_sources(&mut reader, batch.count)?;

    let refused = {
        let _awake = Awake::new(core.pci()).map_err(|_| EIO)?;
        let _memory = core.memory_lock();
        let mut guard = session.lock(core)?;
        program(device, &mut guard.open()?, &batch, &sources)
    };
    match refused {
        Ok(()) => Ok(0),
        Err(Failure::Call(error)) => Err(error),
        Err(Failure::Source { position, refusal }) => {
            call.data(offset_of!(uapi::vfio_device_feature_tph_st, fault))
                .writer()
                .write(&position)?;
            Err(refusal.into())
        }
    }
}

fn read_sources(
    reader: &mut UserSliceReader,
    count: u16,
) -> Result<KVVec<uapi::vfio_tph_source>> {
    let mut sources = KVVec::with_capacity(count.into(), GFP_KERNEL)?;
    for _ in 0..count {
        sources.push(reader.read()?, GFP_KERNEL)?;
    }
    Ok(sources)
}

/// Why a batch fails.
enum Failure {
    /// Not because of a source.
    Call(Error),
    /// Because of the source at a position.
    Source { position: u32, refusal: Refusal },
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Call(error.into())
    }
}

/// Resolves all sources, then writes the entries.
fn program(
    device: &VfioTph,
    open: &mut Open<'_, VfioTph>,
    batch: &Batch,
    sources: &[uapi::vfio_tph_source],
) -> Result<(), Failure> {
    let core = open.core();
    let (Some(requester), Some(offered)) = (Requester::new(core.pci()), &mut open.offered) else {
        return Err(Refusal::Unsupported.into());
    };
    batch.admit(offered.control, &offered.offer)?;

    let mut tags = KVVec::with_capacity(sources.len(), GFP_KERNEL)?;
    for (position, source) in (0..).zip(sources) {
        let tag = resolve(device, &offered.offer, source, batch.namespace)
            .map_err(|refusal| Failure::Source { position, refusal })?;
        tags.push(tag, GFP_KERNEL)?;
    }

    if !bus::is_powered(core.pci()) {
        return Err(Refusal::DeviceGone.into());
    }
    offered.table_written = true;
    let result = table::program(&requester, offered.control, batch.index, &tags);
    if result.is_err() {
        offered.control = Control::RESET;
    }
    let (offset, control) = (offered.offset, offered.control.raw());
    let shown = offered.offer.policy.discloses_tags();

    let mut config = open.virtual_config();
    config.write_dword((offset + uapi::PCI_TPH_CTRL as u16).into(), control)?;
    if shown && result.is_ok() {
        table::show(&mut config, offset, batch.index, &tags)?;
    }
    Ok(result?)
}

/// Finds the tag of one source.
fn resolve(
    device: &VfioTph,
    offer: &Offer,
    source: &uapi::vfio_tph_source,
    namespace: Namespace,
) -> Result<u16, Refusal> {
    match Source::decode(source, namespace)?.admit(offer.policy)? {
        Source::None => Ok(0),
        Source::Literal { tag } => Ok(tag),
        Source::Cpu { cpu, memory } => device
            .host_bridge
            .as_ref()
            .ok_or(Refusal::NoTag)?
            .tag(cpu, memory, namespace),
        // This kernel's dma-bufs carry no hints.
        Source::DmaBuf { .. } => Err(Refusal::NoTag),
    }
}
