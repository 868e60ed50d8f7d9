// SPDX-License-Identifier: GPL-2.0-only

//! CPUs by number.
//!
//! C header: [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h)

use super::bindings;
use kernel::prelude::*;

/// One more than the highest CPU number there can be.
pub(crate) fn count() -> usize {
    // CAST: widens.
    kernel::cpu::nr_cpu_ids() as usize
}

/// A CPU that was present when asked for.
#[derive(Clone, Copy)]
pub(crate) struct PresentCpu(u32);

impl PresentCpu {
    /// The CPU of this number, any number; `None` if it is not present. It may be offline.
    ///
    /// The number may come from a user: it is clamped under speculation too.
    pub(crate) fn from_number(cpu: u32) -> Option<Self> {
        // SAFETY: The function takes any number.
        let present = unsafe { bindings::tph_helper_present_cpu(cpu) };
        u32::try_from(present).ok().map(Self)
    }

    /// The number, below [`count`].
    pub(crate) fn number(self) -> usize {
        // CAST: widens.
        self.0 as usize
    }

    /// The ACPI processor UID.
    #[cfg(CONFIG_ACPI)]
    pub(crate) fn acpi_uid(self) -> Result<u32> {
        let mut uid = 0;
        // SAFETY: `uid` is valid for a write, and the CPU number is in range.
        kernel::error::to_result(unsafe { bindings::acpi_get_cpu_uid(self.0, &mut uid) })?;
        Ok(uid)
    }

    /// The ACPI processor UID.
    #[cfg(not(CONFIG_ACPI))]
    pub(crate) fn acpi_uid(self) -> Result<u32> {
        Err(ENODEV)
    }
}
