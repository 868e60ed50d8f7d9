// SPDX-License-Identifier: GPL-2.0-only

//! Has everything built that the sessions take: the scripts in kernel/ print where it is.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{bail, ensure, Context, Result};

use crate::command::{self, Built, Setting};
use crate::parts::STOCK;
use crate::plan::{Chosen, Program};
use crate::session::{on_arm64, LEAN};

/// Says what goes on, as the scripts do.
pub fn say(what: &str, more: &str) {
    eprintln!("  {what:<8} {more}");
}

/// Runs a script of kernel/; what it prints is a path.
fn ask(top: &Path, script: &str, arguments: &[&str]) -> Result<PathBuf> {
    let output = Command::new(top.join("kernel").join(script))
        .args(arguments)
        .current_dir(top)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start kernel/{script}"))?;
    ensure!(
        output.status.success(),
        "kernel/{script} {} has failed",
        arguments.join(" ")
    );
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().last().unwrap_or_default().into())
}

/// Runs a command whose output goes to a file of build/logs; the end of it is shown if it fails.
pub fn logged(top: &Path, name: &str, command: &mut Command) -> Result<(bool, PathBuf)> {
    let logs = top.join("build/logs");
    let log = logs.join(name);
    let cannot = || format!("cannot write {}", log.display());
    fs::create_dir_all(&logs).with_context(cannot)?;
    let file = File::create(&log).with_context(cannot)?;
    let good = command
        .current_dir(top)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?
        .success();
    if !good {
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let lines: Vec<_> = text.lines().collect();
        let end = lines[lines.len().saturating_sub(25)..].join("\n");
        writeln!(std::io::stderr(), "{end}")?;
        say("LOG", &log.display().to_string());
    }
    Ok((good, log))
}

/// Fails if there is no such test kernel.
pub fn known(top: &Path, kernel: &str) -> Result<()> {
    if kernel != LEAN && !top.join(format!("kernel/config.{kernel}")).is_file() {
        bail!("no kernel {kernel}: there is no kernel/config.{kernel}");
    }
    Ok(())
}

/// The test kernel's build tree.
pub fn kernel(top: &Path, kernel: &str) -> Result<PathBuf> {
    known(top, kernel)?;
    ask(top, "kernel", &[kernel])
}

/// vfio_tph.ko for it.
pub fn module(top: &Path, kernel: &str) -> Result<PathBuf> {
    ask(top, "module", &[kernel])
}

/// Whether a kernel is built by compilers of its own. All of a run is in their root then, where no
/// other kernel is built.
pub fn has_compilers(top: &Path, kernel: &str) -> bool {
    top.join(format!("kernel/packages.{kernel}")).is_file()
}

/// The source whose headers the user side takes. They are the same for every kernel: lean's, or all
/// would be built again where these differ.
pub fn headers(top: &Path, asked: &str) -> Result<PathBuf> {
    let whose = match has_compilers(top, asked) {
        true => asked,
        false => LEAN,
    };
    Ok(fs::canonicalize(kernel(top, whose)?.join("source"))?)
}

/// The programs that run in the guest, and the endpoint, for the kernel that was asked for.
pub fn programs(setting: &Setting, asked: &str) -> Result<()> {
    let what = "kselftests and endpoint";
    make(setting, asked, what, "selftests.log", &[])
}

/// The programs that run in a guest of arm64. Those of this machine say which tests there are.
pub fn programs_for_arm64(setting: &Setting, asked: &str) -> Result<()> {
    let what = "kselftests for arm64";
    make(setting, asked, what, "selftests-arm64.log", &["ARCH=arm64"])
}

fn make(setting: &Setting, asked: &str, what: &str, log: &str, arguments: &[&str]) -> Result<()> {
    let top = setting.top.as_path();
    // Who has a kernel of their own does not have to build another one for its headers.
    let source = match &setting.kdir {
        Some(kdir) => fs::canonicalize(kdir.join("source")).or_else(|_| fs::canonicalize(kdir))?,
        None => headers(top, asked)?,
    };
    say("CARGO", what);
    let mut make = Command::new("make");
    make.args(["-C", "selftests", "all"])
        .args(arguments)
        .env("TPH_KERNEL_SRC", source);
    let (good, _) = logged(top, log, &mut make)?;
    ensure!(good, "the {what} do not build");
    Ok(())
}

/// What was built for a kernel of the caller's own, under the name of the test kernel in whose
/// place it is.
fn own(top: &Path, kdir: &Path) -> HashMap<String, Built> {
    let own = Built {
        kernel: kdir.to_owned(),
        module: top.join("build/own/vfio_tph.ko"),
        modules: top.join("build/selftests-modules-own"),
    };
    HashMap::from([(LEAN.to_owned(), own)])
}

/// The programs, and what is built for each of the kernels that these sessions boot. `module` is
/// tested in place of the one that is built for `kernel`.
pub fn all(
    setting: &Setting,
    chosen: &[Chosen],
    kernel_asked: &str,
    tested: Option<&Path>,
) -> Result<HashMap<String, Built>> {
    let top = &setting.top;
    programs(setting, kernel_asked)?;
    if chosen.iter().any(|one| on_arm64(&one.kernel)) {
        programs_for_arm64(setting, kernel_asked)?;
    }
    if let Some(kdir) = &setting.kdir {
        return Ok(own(top, kdir));
    }
    let mut built = HashMap::new();
    for one in chosen {
        let name = one.kernel.as_str();
        if built.contains_key(name) {
            continue;
        }
        let module = match tested {
            Some(module) if name == kernel_asked => module.to_owned(),
            _ => module(top, name)?,
        };
        let of_kernel = Built {
            kernel: kernel(top, name)?,
            module,
            modules: ask(top, "test-modules", &[name])?,
        };
        built.insert(name.to_owned(), of_kernel);
    }
    for one in chosen.iter().filter(|one| one.session.nested) {
        let of_kernel = &built[&one.kernel];
        let mut pack = Command::new(top.join("selftests/guest/nested/pack"));
        pack.args([
            &of_kernel.kernel,
            &of_kernel.modules,
            &command::nested_initramfs(setting),
        ]);
        let (good, _) = logged(top, "nested.log", &mut pack)?;
        ensure!(good, "there is no initramfs for the guest in the guest");
    }
    for name in chosen.iter().filter_map(|one| one.session.package) {
        package(top, name)?;
    }
    if chosen.iter().any(|one| one.session.compared.is_some()) {
        stock_selftests(top)?;
    }
    for one in chosen.iter().filter(|one| one.session.in_place) {
        ask(top, "module", &[&one.kernel, "TPH_MODULE_NAME=vfio-pci"])?;
    }
    Ok(built)
}

/// The programs of a package of the workspace that is not part of "all".
fn package(top: &Path, name: &str) -> Result<()> {
    let source = fs::canonicalize(kernel(top, LEAN)?.join("source"))?;
    say("CARGO", name);
    // By way of a shell: cargo looks for .cargo/config.toml where it is started. With the endpoint,
    // as the scripts do: what both take is built once then.
    let mut build = Command::new("sh");
    let packages = format!("-p tph-endpoint -p {name}");
    let line = format!("cd selftests && exec cargo build --release --locked {packages}");
    build.args(["-c", &line]).env("TPH_KERNEL_SRC", source);
    let (good, _) = logged(top, &format!("{name}.log"), &mut build)?;
    ensure!(good, "{name} does not build");
    Ok(())
}

/// The kernel's own selftests of vfio, which have to be those of the table.
fn stock_selftests(top: &Path) -> Result<()> {
    let source = fs::canonicalize(kernel(top, LEAN)?.join("source"))?;
    let stock = command::stock(top);
    let status = Command::new(top.join("selftests/stock/build"))
        .arg(&stock)
        .args(["driver-name", "time-limits"])
        .env("TPH_KERNEL_SRC", source)
        .status()
        .context("cannot start selftests/stock/build")?;
    ensure!(status.success(), "selftests/stock/build has failed");
    let mut there = Vec::new();
    for entry in fs::read_dir(stock.join("out"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("vfio_") && name.ends_with("_test") {
            there.push(name);
        }
    }
    there.sort_unstable();
    ensure!(
        there == STOCK,
        "STOCK in parts.rs is not what the kernel has: {}",
        there.join(" ")
    );
    Ok(())
}

/// The names of the tests that a program with these arguments would run.
pub fn tests_of(top: &Path, program: &Program) -> Result<Vec<String>> {
    let path = top.join("build/selftests").join(&program.name);
    let output = Command::new(&path)
        .arg("--list")
        .args(&program.arguments)
        .output()
        .with_context(|| format!("cannot start {}", path.display()))?;
    ensure!(
        output.status.success(),
        "{} --list: {}",
        program.label(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .map(str::to_owned)
        .collect())
}
