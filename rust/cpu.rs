// SPDX-License-Identifier: GPL-2.0-only

//! CPUs by number, and whose they are.
//!
//! C headers: [`include/linux/cpumask.h`](srctree/include/linux/cpumask.h),
//! [`include/linux/cpuset.h`](srctree/include/linux/cpuset.h)

use super::bindings;
use kernel::{
    cpu::CpuId,
    cpumask::CpumaskVar,
    prelude::*,
    types::NotThreadSafe, //
};

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

/// The CPUs that the calling program may run on, looked up once, and only if that matters.
///
/// These are the CPUs of its cpuset, if the kernel lets modules ask for them: a program that may
/// use them can move any of its threads there. On another kernel they are the CPUs that its threads
/// may run on now, without the kernel's own workers among them and threads that have exited.
///
/// They are those of the thread that calls [`Self::contain`] first, at that moment: a value is made
/// for one call of a user, and dropped at its end.
pub(crate) struct CallersCpus(Option<CpumaskVar>, NotThreadSafe);

impl CallersCpus {
    /// For the thread that calls [`Self::contain`].
    pub(crate) const fn new() -> Self {
        Self(None, NotThreadSafe)
    }

    /// Whether `cpu` is one of them. ENOMEM without memory.
    pub(crate) fn contain(&mut self, cpu: PresentCpu) -> Result<bool> {
        let id = CpuId::from_u32(cpu.0).ok_or(EINVAL)?;
        let cpus = match &mut self.0 {
            Some(cpus) => cpus,
            // SAFETY: The number is one of a CPU.
            None if unsafe { bindings::tph_helper_caller_runs_on(cpu.0) } => return Ok(true),
            none => {
                let cpus = none.insert(CpumaskVar::new_zero(GFP_KERNEL_ACCOUNT)?);
                // SAFETY: The mask is valid, and nobody else has it.
                unsafe { bindings::tph_helper_callers_cpus(cpus.as_raw()) };
                cpus
            }
        };
        Ok(cpus.test(id))
    }
}
