// SPDX-License-Identifier: GPL-2.0-only

//! Emulated PCIe endpoint with a TPH Requester capability, a vfio-user server.

fn main() {}
