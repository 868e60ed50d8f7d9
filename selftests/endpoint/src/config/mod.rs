// SPDX-License-Identifier: GPL-2.0-only

//! Configuration space as registers: what exists, what can be written, what it means.

pub mod layout;
pub mod space;
pub mod tph;
