// SPDX-License-Identifier: GPL-2.0-only

//! ACPI: device-specific methods.

pub(crate) mod dsm;
