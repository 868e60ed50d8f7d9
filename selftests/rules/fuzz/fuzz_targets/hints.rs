// SPDX-License-Identifier: GPL-2.0-only

//! Hints: published, kept, asked for.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tph_rules::fuzz::hints::run(data));
