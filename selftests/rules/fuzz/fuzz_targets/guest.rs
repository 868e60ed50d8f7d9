// SPDX-License-Identifier: GPL-2.0-only

//! A guest with virtual tags, through any history.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tph_rules::fuzz::guest::run(data));
