// SPDX-License-Identifier: GPL-2.0-only

//! TPH_ST and TPH_RESOLVE with anything in them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tph_rules::fuzz::calls::run(data));
