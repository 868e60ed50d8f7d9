// SPDX-License-Identifier: GPL-2.0-only

//! What cannot be run is refused: by a status that is not 0 and one line that says why, before
//! anything was built or booted. The runner itself, `selftests/run` and `selftests/vng`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};
use tempfile::TempDir;

fn top() -> PathBuf {
    fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

/// The runner, with results in a place of this test's own.
fn runner(results: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tph-runner"));
    command.arg("--ktap").arg(results);
    command
}

/// A script, in the build root.
fn script(name: &str) -> Command {
    let mut command = Command::new(top().join("selftests").join(name));
    command.env("IN_ROOT", "1");
    command
}

/// The command fails, prints no result, and says this in its only line; its status.
fn refuses(command: &mut Command, says: &str) -> Option<i32> {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    assert!(!output.status.success(), "{command:?}");
    assert_eq!(stdout, "", "{command:?}");
    assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
    assert!(stderr.contains(says), "{command:?}: {stderr}");
    output.status.code()
}

/// A tree in which all is there that is looked for before a kernel is booted.
fn built_tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("arch/x86/boot/bzImage", "no kernel\n");
    put("include/config/kernel.release", "7.3.0\n");
    let config = fs::read_to_string(top().join("selftests/config")).unwrap();
    put(".config", &config);
    dir
}

#[test]
fn what_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    refuses(
        runner(dir.path()).arg("nowhere/table"),
        "error: nowhere/table is neither a session nor a program",
    );
    refuses(
        runner(dir.path()).args(["--kernel", "nothing", "rules"]),
        "error: no kernel nothing: there is no kernel/config.nothing",
    );
    // Before the tests of the host, which take minutes.
    refuses(
        runner(dir.path()).args(["--kernel", "nothing"]),
        "error: no kernel nothing: there is no kernel/config.nothing",
    );
    refuses(
        runner(dir.path()).args(["--module", "/nowhere/vfio_tph.ko", "rules"]),
        "error: no such file: /nowhere/vfio_tph.ko",
    );
    refuses(
        runner(dir.path()).args(["--kdir", "/nowhere", "rules"]),
        "error: virtme-ng does not boot rules",
    );
}

#[test]
fn no_memory_and_no_room() {
    let dir = tempfile::tempdir().unwrap();
    refuses(
        runner(dir.path()).args(["-j", "1000", "--repeat", "1000", "power"]),
        "error: no memory for 1000 machines at once: ",
    );
    refuses(
        runner(Path::new("/proc/nothing")).arg("rules"),
        "error: cannot write /proc/nothing: ",
    );
}

#[test]
fn two_in_one_place() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("ktap");
    let file = fs::File::create(dir.path().join("ktap.lock")).unwrap();
    let _lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
    let says = format!("error: another one writes to {}; --ktap", place.display());
    refuses(runner(&place).arg("rules"), &says);
}

#[test]
fn machines_that_do_not_start() {
    let tree = built_tree();
    let run = |more: &[&str]| {
        let mut command = script("run");
        command.arg("--kernel").arg(tree.path());
        command.args(["--firmware", "none"]).args(more).arg("true");
        command
    };
    let empty = tempfile::tempdir().unwrap();
    refuses(
        script("run").arg("--kernel").arg(empty.path()).arg("true"),
        "is no kernel build tree: it has no arch/x86/boot/bzImage",
    );
    refuses(
        &mut run(&["--device", "name=ep0", "--endpoint", "/nowhere"]),
        "error: /nowhere is not there",
    );
    refuses(
        &mut run(&["--device", "name=ep0", "--endpoint", "/bin/false"]),
        "error: the endpoint does not start: it says nothing",
    );
    refuses(
        &mut run(&["--module", "/nowhere.ko"]),
        "error: /nowhere.ko: no such file",
    );
    refuses(
        &mut run(&["--mem", "1000000G"]),
        "error: QEMU ended with status 1 and the guest has no result: ",
    );
}

/// The place of temporary files has room for one page. As root, which the build root's tests are:
/// the place is in a mount namespace of its own.
#[test]
fn a_full_disk() {
    let tree = built_tree();
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "unchanged", "sh", "-c"])
        .arg("mount -t tmpfs -o size=4k tmpfs \"$TMPDIR\" && exec \"$@\"")
        .args(["-", "env", "IN_ROOT=1"])
        .arg(top().join("selftests/run"))
        .arg("--kernel")
        .arg(tree.path())
        .args(["--firmware", "none", "--file"])
        .arg(std::env::current_exe().unwrap())
        .arg("true")
        .env("TMPDIR", place.path());
    // Not the status of the command that it was to run.
    assert_eq!(refuses(&mut command, "No space left on device"), Some(125));
}

#[test]
fn r92_kernels_that_are_refused() {
    let vng = |kdir: &str| {
        let mut command = script("vng");
        command.arg(kdir);
        command
    };
    refuses(&mut vng(""), "error: no kernel: run_vng wants KDIR=");
    refuses(&mut vng("/nowhere"), "error: no such directory: /nowhere");
    let tree = built_tree();
    let kdir = tree.path().to_str().unwrap();
    let config = tree.path().join(".config");
    let text = fs::read_to_string(&config).unwrap();
    // One is a part of another one's name.
    let without = |symbol: &str| text.replace(&format!("{symbol}=y\n"), "");
    fs::write(&config, without("CONFIG_VFIO_PCI")).unwrap();
    refuses(
        &mut vng(kdir),
        "is configured without what selftests/config has: CONFIG_VFIO_PCI\n",
    );
    fs::write(&config, &text).unwrap();
    fs::remove_file(tree.path().join("arch/x86/boot/bzImage")).unwrap();
    refuses(
        &mut vng(kdir),
        "is not built: it has no arch/x86/boot/bzImage",
    );
    fs::remove_file(&config).unwrap();
    refuses(&mut vng(kdir), "is not a configured kernel build tree");
}
