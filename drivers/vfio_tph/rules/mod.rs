// SPDX-License-Identifier: GPL-2.0-only

//! The rules of the driver: what is offered, what is refused, what is written.
//!
//! Nothing in here touches user memory or a lock, nor hardware but by the trait
//! [`reconcile::Device`]: functions over values, compiled into the module and, unchanged, into a
//! test crate on the host that enumerates them (`selftests/rules`). The numbers come from
//! `crate::uapi`, which either side generates from `include/uapi/linux/vfio_tph.h` and the kernel's
//! `pci_regs.h`.

pub(crate) mod batch;
pub(crate) mod capability;
pub(crate) mod chain;
pub(crate) mod control;
pub(crate) mod firmware;
pub(crate) mod guest;
pub(crate) mod isolation;
pub(crate) mod listed;
pub(crate) mod lookup;
pub(crate) mod owners;
pub(crate) mod placement;
pub(crate) mod policy;
pub(crate) mod published;
pub(crate) mod reconcile;
pub(crate) mod record;
pub(crate) mod refusal;
pub(crate) mod regs;
pub(crate) mod source;
pub(crate) mod vcpus;
pub(crate) mod why;
pub(crate) mod writes;
