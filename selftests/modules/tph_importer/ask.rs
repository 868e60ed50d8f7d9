// SPDX-License-Identifier: GPL-2.0-only

//! dma_buf_get_tph() as C sees it: with outputs that keep what they had, and, because a test
//! wants to see lockdep complain, without the lock. Everything else asks through
//! [`Reserved::tph`].

use crate::{
    abi::{
        Answer,
        Question, //
    },
    rust::dma_buf::DmaBuf, //
};
use kernel::prelude::*;

/// Asks. EINTR if a signal comes while the reservation is locked.
pub(crate) fn ask(dma_buf: &DmaBuf, question: Question) -> Result<Answer> {
    let reserved = if question.locked {
        Some(dma_buf.lock_interruptible()?)
    } else {
        None
    };
    let answer = call(dma_buf, question);
    drop(reserved);
    Ok(answer)
}

#[cfg(VFIO_TPH_DMA_BUF)]
fn call(dma_buf: &DmaBuf, question: Question) -> Answer {
    let Question {
        extended,
        mut steering_tag,
        mut ph,
        ..
    } = question;
    // SAFETY: The dma-buf is valid, and both outputs are valid for writes. The caller holds the
    // lock, or wants to see what becomes of it without: then nobody revokes the dma-buf meanwhile,
    // which is what the lock is for.
    let errno = unsafe {
        kernel::bindings::dma_buf_get_tph(
            dma_buf.as_raw(),
            extended,
            &mut steering_tag,
            &mut ph, //
        )
    };
    Answer {
        errno: errno.unsigned_abs(),
        steering_tag,
        ph,
    }
}

/// What every dma-buf of this kernel would say.
#[cfg(not(VFIO_TPH_DMA_BUF))]
fn call(_: &DmaBuf, question: Question) -> Answer {
    Answer {
        errno: EOPNOTSUPP.to_errno().unsigned_abs(),
        steering_tag: question.steering_tag,
        ph: question.ph,
    }
}
