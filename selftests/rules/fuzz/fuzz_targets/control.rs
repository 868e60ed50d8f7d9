// SPDX-License-Identifier: GPL-2.0-only

//! Sequences of writes to Control.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tph_rules::fuzz::control::run(data));
