// SPDX-License-Identifier: GPL-2.0-only

//! Hints that travel with a dma-buf: a user publishes them for a dma-buf of their device's BARs,
//! and looks them up for a dma-buf of another device. `include/uapi/linux/vfio_tph.h` has both
//! calls.

use crate::{
    failure::Failure,
    rules::{
        lookup::Hint,
        published::Published,
        refusal::Refusal,
        source::Namespace, //
    },
    rust::{
        dma_buf::{
            DmaBuf,
            Tph, //
        },
        vfio::pci::OpenDevice, //
    },
};
use kernel::{
    prelude::*,
    sync::aref::ARef, //
};

/// The hint that the exporter of the dma-buf behind a file descriptor has, in one namespace.
pub(crate) fn hint(fd: i32, namespace: Namespace) -> Result<Hint, Failure> {
    if !DmaBuf::KNOWS_TPH {
        return Err(Refusal::NoTag.into());
    }
    let dma_buf = from_fd(fd)?;
    let reserved = dma_buf.lock_interruptible()?;
    match reserved.tph(namespace == Namespace::Extended) {
        Ok(tph) => Ok(Hint::from_exporter(tph.steering_tag, tph.ph, namespace)?),
        Err(error) if error == ENODEV => Err(Refusal::Revoked.into()),
        Err(_) => Err(Refusal::NoTag.into()),
    }
}

/// Publishes hints for the dma-buf of the device behind a file descriptor, in place of earlier
/// ones.
pub(crate) fn publish(vdev: &OpenDevice, fd: i32, published: Published) -> Result<(), Failure> {
    let dma_buf = from_fd(fd)?;
    match vdev.set_dma_buf_word(&dma_buf, published.to_word()) {
        Err(error) if error == EINVAL => Err(Refusal::ForeignDmaBuf.into()),
        done => Ok(done?),
    }
}

/// What is published, for an importer.
pub(crate) fn answer(word: u64, extended: bool) -> Result<Tph> {
    let namespace = if extended {
        Namespace::Extended
    } else {
        Namespace::Standard
    };
    let hint = Published::from_word(word)
        .hint(namespace)
        .ok_or(EOPNOTSUPP)?;
    Ok(Tph {
        steering_tag: hint.tag,
        ph: hint.ph,
    })
}

fn from_fd(fd: i32) -> Result<ARef<DmaBuf>, Failure> {
    DmaBuf::from_fd(fd).map_err(|error| {
        if error == EBADF {
            Refusal::BadFd.into()
        } else if error == EINVAL {
            Refusal::NotDmaBuf.into()
        } else {
            error.into()
        }
    })
}
