// SPDX-License-Identifier: GPL-2.0-only

//! Hostile config spaces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tph_rules::fuzz::capability::run(data));
