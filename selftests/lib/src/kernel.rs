// SPDX-License-Identifier: GPL-2.0-only

//! What the running kernel is capable of, by the names of its functions.

use std::fs;

/// Whether the kernel, or a module that is loaded, has a function of that name.
pub fn has(function: &str) -> bool {
    fs::read_to_string("/proc/kallsyms")
        .expect("/proc/kallsyms")
        .lines()
        .any(|line| line.split_whitespace().nth(2) == Some(function))
}

/// Whether the kernel was built with `kernel/patches`: its dma-bufs know of TPH.
pub fn is_patched() -> bool {
    has("dma_buf_get_tph")
}
