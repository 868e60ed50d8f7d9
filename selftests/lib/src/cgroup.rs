// SPDX-License-Identifier: GPL-2.0-only

//! Control groups, version 2: what confines a process to some CPUs, and counts its memory.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{mount, MsFlags};

use crate::monitor::wait_until;
use crate::skip;

const ROOT: &str = "/sys/fs/cgroup";
const PROCESSES: &str = "cgroup.procs";
const EVENTS: &str = "cgroup.events";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {text}: {error}", path.display()));
}

/// Moves a process with all its threads; 0 is the one that asks.
fn move_to(group: &Path, process: &str) {
    write(&group.join(PROCESSES), process);
}

/// A control group. When it is dropped, who is in it goes back to the root.
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below the root that has `controller`. The test is left out on a kernel without.
    pub fn new(name: &str, controller: &str) -> Self {
        let root = Path::new(ROOT);
        if !root.exists() {
            skip!("the kernel has no control groups");
        }
        let controllers = root.join("cgroup.controllers");
        if !controllers.exists() {
            mount(
                Some("cgroup2"),
                ROOT,
                Some("cgroup2"),
                MsFlags::empty(),
                None::<&str>,
            )
            .unwrap_or_else(|error| panic!("mount of cgroup2: {error}"));
        }
        if !read(&controllers)
            .split_whitespace()
            .any(|name| name == controller)
        {
            skip!("the kernel has no controller \"{controller}\"");
        }
        write(
            &root.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        );
        let path = root.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What one of its files says.
    pub fn get(&self, file: &str) -> String {
        read(&self.path.join(file)).trim().to_owned()
    }

    /// Writes one of its files.
    pub fn set(&self, file: &str, value: &str) {
        write(&self.path.join(file), value);
    }

    /// Moves this process into it.
    pub fn enter(&self) {
        enter(&self.path);
    }
}

/// Moves this process into the control group at a path.
pub fn enter(path: &Path) {
    move_to(path, "0");
}

/// Moves this process back to the root.
pub fn leave() {
    move_to(Path::new(ROOT), "0");
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for process in self.get(PROCESSES).lines() {
            // It may have ended.
            let _ = fs::write(Path::new(ROOT).join(PROCESSES), process);
        }
        // A thread that ends is in there until the kernel is done with it, which is after whoever
        // has joined it goes on.
        if !std::thread::panicking() {
            wait_until(|| self.get(EVENTS).contains("populated 0"));
        }
        let removed = fs::remove_dir(&self.path);
        assert!(
            std::thread::panicking() || removed.is_ok(),
            "{}: {removed:?}",
            self.path.display()
        );
    }
}
