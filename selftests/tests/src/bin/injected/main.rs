// SPDX-License-Identifier: GPL-2.0-only

//! Each allocation, and each copy from or to user memory, of each call fails once. The call says so
//! (-ENOMEM, -EFAULT, or what vfio-pci says at that place), leaves nothing behind, and succeeds
//! when it is made again. Nor does it take anything away from whoever else has a device.

mod bind_to_unbind;
mod features;
mod regions;

use std::ops::Range;
use std::process::ExitCode;

use tph_selftests::memory::page_size;
use tph_selftests::{harness, tests};

use bind_to_unbind::*;
use features::*;
use regions::*;

const VFIO_PCI: &str = "vfio-pci";
/// The BAR of an endpoint that is memory.
const MEMORY: u32 = 2;

/// Some of it.
fn first_page() -> Range<u64> {
    0..page_size() as u64
}

fn main() -> ExitCode {
    harness::run(tests![
        r51_fault_in_bind,
        r83_bind_that_fails,
        r51_fault_in_unbind,
        r51_fault_in_open,
        r51_fault_in_close,
        r51_fault_in_reset,
        r51_fault_in_the_policy,
        r51_fault_in_debugfs,
        r51_fault_in_tph,
        r51_fault_in_probe,
        r51_fault_in_tph_st,
        r51_fault_in_tph_st_by_dma_buf,
        r51_fault_in_tph_resolve,
        r51_fault_in_a_firmware_lookup,
        r51_fault_in_dma_buf_tph,
        r51_fault_in_config_reads,
        r51_fault_in_config_writes,
        r51_fault_in_set_irqs,
        r51_fault_in_region_info,
        r51_fault_in_mmap,
        r51_fault_in_dma_buf_export,
    ])
}
