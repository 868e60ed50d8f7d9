// SPDX-License-Identifier: GPL-2.0-only

//! Abstractions that the `kernel` crate lacks, and all of the `unsafe` of this project.

pub(crate) mod acpi;
pub(crate) mod bindings;
pub(crate) mod cpu;
pub(crate) mod dma_buf;
pub(crate) mod helper;
pub(crate) mod iommu;
pub(crate) mod nospec;
pub(crate) mod pci;
pub(crate) mod transmute;
pub(crate) mod vfio;
