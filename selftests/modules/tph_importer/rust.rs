// SPDX-License-Identifier: GPL-2.0-only

//! Of `rust/`, what an importer needs.

#[path = "../../../rust/dma_buf.rs"]
pub(crate) mod dma_buf;
#[path = "../../../rust/pci/find.rs"]
pub(crate) mod pci;
