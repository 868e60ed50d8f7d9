// SPDX-License-Identifier: GPL-2.0-only

//! The hardware-free rules of the driver, compiled for the host and enumerated.
//!
//! There is no library in here, only tests and fuzz targets: `rules` is `drivers/vfio_tph/rules` to
//! the letter, and `tests` compares it with `oracle`, a model of its own, written from the contract
//! in plain integers. The name of a test carries the number of the requirement that it proves.

/// What the rules know of the user ABI, the registers and the errnos, under the names and with the
/// types that the module's own bindings give them.
#[allow(dead_code, unused_imports)]
mod uapi {
    pub(crate) use tph_uapi::{
        pci_regs::*,
        vfio_tph::*, //
    };

    macro_rules! errnos {
        ($($name:ident)*) => {
            $( pub(crate) const $name: u32 = libc::$name.unsigned_abs(); )*
        };
    }

    errnos! { EPERM EINTR EIO ENXIO EBADF EFAULT EBUSY ENODEV EINVAL EOPNOTSUPP }
}

// The module uses more of the rules than the tests name, and without tests nothing uses them.
#[allow(dead_code)]
#[path = "../../../drivers/vfio_tph/rules/mod.rs"]
mod rules;

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
// Without the tests, nobody uses all that they compare with.
#[cfg(any(test, feature = "fuzz"))]
#[cfg_attr(not(test), allow(dead_code))]
mod oracle;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "fuzz"))]
#[cfg_attr(not(test), allow(dead_code))]
mod walk;
