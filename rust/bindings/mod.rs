// SPDX-License-Identifier: GPL-2.0-only

//! Bindings to what the kernel crate has none for: vfio, vfio-pci-core, PCI/TPH, our user ABI and
//! the C shim.
//!
//! Generated at build time; everything else resolves to the kernel crate's bindings, so that a
//! `pci_dev` or a `device` here is the same type as there. bindgen's layout assertions are kept.

#![allow(
    clippy::all,
    clippy::cast_lossless,
    clippy::ptr_as_ptr,
    clippy::ref_as_ptr,
    clippy::undocumented_unsafe_blocks,
    dead_code,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    rustdoc::all,
    unreachable_pub,
    unsafe_op_in_unsafe_fn
)]
// What bindgen makes of bit fields, as in the kernel's own bindings: a lint that not all of the
// compilers have.
#![cfg_attr(not(CONFIG_RUSTC_HAS_UNNECESSARY_TRANSMUTES), allow(unknown_lints))]
#![allow(unnecessary_transmutes)]

pub(crate) use kernel::bindings::*;
use kernel::ffi;
use pin_init::MaybeZeroable;

include!(env!("VFIO_TPH_BINDINGS"));
