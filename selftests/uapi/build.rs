// SPDX-License-Identifier: GPL-2.0-only

//! Generates the constants and structs from their one definition, by the `bindgen` program.
//!
//! `TPH_KERNEL_SRC` is the kernel source tree whose `pci_regs.h` counts; `make -C selftests` sets
//! it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{exit, Command};

fn fail(why: &str) -> ! {
    eprintln!("error: tph-uapi: {why}");
    exit(1)
}

/// Runs bindgen on `header` for the names that match `allow`.
fn generate(header: &Path, allow: &str, include: Option<&Path>, output: &str) {
    println!("cargo:rerun-if-changed={}", header.display());
    if !header.exists() {
        fail(&format!("{} does not exist", header.display()));
    }

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join(output);
    let mut bindgen = Command::new("bindgen");
    bindgen
        .args(["--no-doc-comments", "--with-derive-default"])
        .args(["--with-derive-partialeq", "--use-core"])
        .args(["--rust-edition", "2021", "--rust-target", "1.82"])
        .args(["--allowlist-item", allow, "-o"])
        .arg(&out)
        .arg(header);
    if let Some(include) = include {
        bindgen.arg("--").arg("-I").arg(include);
    }
    match bindgen.status() {
        Ok(status) if status.success() => (),
        Ok(status) => fail(&format!("bindgen on {}: {status}", header.display())),
        Err(error) => fail(&format!("bindgen cannot be run: {error}")),
    }
}

fn main() {
    println!("cargo:rerun-if-env-changed=TPH_KERNEL_SRC");
    let Some(kernel) = env::var_os("TPH_KERNEL_SRC").map(PathBuf::from) else {
        fail("TPH_KERNEL_SRC is not set; it names the kernel source tree (use make -C selftests)");
    };
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let include = manifest.join("../../include/uapi");

    generate(
        &include.join("linux/vfio_tph.h"),
        "(vfio|VFIO)_(DEVICE_FEATURE_|device_feature_|DMA_BUF_|dma_buf_|DEVICE_|device_)?(dma_buf_|DMA_BUF_)?(tph|TPH).*",
        Some(&include),
        "vfio_tph.rs",
    );
    generate(
        &kernel.join("include/uapi/linux/pci_regs.h"),
        "PCI_.*",
        None,
        "pci_regs.rs",
    );
}
