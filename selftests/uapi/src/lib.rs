// SPDX-License-Identifier: GPL-2.0-only

//! The user ABI of vfio_tph and the register names of PCI, generated at build time.
//!
//! Nothing here is retyped: [`vfio_tph`] is `include/uapi/linux/vfio_tph.h`, [`pci_regs`] is the
//! kernel's `include/uapi/linux/pci_regs.h`. bindgen's layout assertions are compiled in.

/// `include/uapi/linux/vfio_tph.h`.
#[allow(
    missing_docs,
    non_camel_case_types,
    unsafe_op_in_unsafe_fn,
    clippy::all
)]
pub mod vfio_tph {
    include!(concat!(env!("OUT_DIR"), "/vfio_tph.rs"));
}

/// `include/uapi/linux/pci_regs.h` of the kernel that is tested.
#[allow(missing_docs, non_upper_case_globals, clippy::all)]
pub mod pci_regs {
    include!(concat!(env!("OUT_DIR"), "/pci_regs.rs"));
}
