// SPDX-License-Identifier: GPL-2.0-only

//! Makes the ACPI tables of a test machine of arm64 from those that QEMU has for it.
//!
//! QEMU takes no table of ours for its virt machine, and its host bridge has a `_DSM` already, in
//! whose place ours has to be. So QEMU is asked for its tables, without running a guest
//! (`qtest.rs`); they are changed (`acpi.rs`); and what firmware needs to put them into memory is
//! written anew (`loader.rs`). A machine that is told to have no ACPI gets all of it by -fw_cfg.
//!
//! Changed are: the name of that `_DSM`; the UID of CPU n, which becomes 2n, as on the test machine
//! of x86-64; the range of the IOMMU, a virtio one or an SMMUv3, which the buses behind root ports
//! are not in before firmware has numbered them.

mod acpi;
mod loader;
mod qtest;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Writes DIR/tables, DIR/rsdp and DIR/loader: the files etc/acpi/tables, etc/acpi/rsdp and
/// etc/table-loader of QEMU's fw_cfg.
#[derive(Parser)]
struct Arguments {
    /// Where the files go, and what is made on the way
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// An SSDT, compiled, to put beside QEMU's tables
    #[arg(long, value_name = "FILE")]
    ssdt: Option<PathBuf>,
    /// QEMU and the arguments that say what machine it is
    #[arg(last = true, required = true)]
    qemu: Vec<String>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let files = qtest::read(&arguments.qemu, &["etc/acpi/tables", "etc/acpi/rsdp"])?;
    let mut tables = acpi::split(&files[0])?;
    acpi::widen_iommu(&mut tables)?;
    acpi::double_uids(&mut tables)?;
    let dsdt = acpi::find(&tables, "DSDT")?;
    tables[dsdt] = acpi::change_dsdt(&tables[dsdt], &arguments.out)?;
    if let Some(ssdt) = &arguments.ssdt {
        let ssdt = fs::read(ssdt).with_context(|| format!("cannot read {}", ssdt.display()))?;
        tables.push(ssdt);
    }
    let made = loader::link(tables, &files[1])?;
    for (name, content) in [
        ("tables", made.tables),
        ("rsdp", made.rsdp),
        ("loader", made.loader),
    ] {
        let path = arguments.out.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
