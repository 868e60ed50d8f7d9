// SPDX-License-Identifier: GPL-2.0-only

//! Kernel modules: loaded from /modules of the test VM or from where `TPH_MODULES` says.

use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use nix::errno::Errno;
use nix::kmod::{delete_module, finit_module, DeleteModuleFlags, ModuleInitFlags};

use crate::skip;

/// The module under test.
pub const VFIO_TPH: &str = "vfio_tph";

/// The file of the same driver in vfio-pci's place; its module is `vfio_pci`.
pub const IN_PLACE: &str = "in-place/vfio-pci";

/// Where the .ko files are.
pub fn path(name: &str) -> PathBuf {
    let directory = env::var_os("TPH_MODULES").unwrap_or_else(|| "/modules".into());
    Path::new(&directory).join(format!("{name}.ko"))
}

/// Whether the module is loaded.
pub fn loaded(name: &str) -> bool {
    Path::new("/sys/module").join(name).join("refcnt").exists()
}

/// Loads a module with `parameters` as insmod takes them.
pub fn load(name: &str, parameters: &str) -> Result<(), Errno> {
    let path = path(name);
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parameters = CString::new(parameters).expect("no NUL in module parameters");
    finit_module(&file, &parameters, ModuleInitFlags::empty())
}

/// Loads a module without parameters unless it is there already.
pub fn ensure(name: &str) {
    if !loaded(name) {
        load(name, "").unwrap_or_else(|error| panic!("insmod {name}: {error}"));
    }
}

/// Removes a module.
pub fn unload(name: &str) -> Result<(), Errno> {
    let name = CString::new(name).expect("no NUL in a module's name");
    delete_module(&name, DeleteModuleFlags::O_NONBLOCK)
}

/// Removes a module if it is loaded. No device that it drives may be open.
pub fn remove(name: &str) {
    if loaded(name) {
        unload(name).unwrap_or_else(|error| panic!("rmmod {name}: {error}"));
    }
}

/// A module, loaded as long as this lives.
pub struct Loaded {
    /// Its name, which is not that of its file.
    pub name: &'static str,
}

impl Loaded {
    /// Loads vfio_tph, or one of those whose name is vfio-pci's.
    pub fn new(file: &'static str, parameters: &str) -> Self {
        vfio_pci_can_be_loaded();
        load(file, parameters).unwrap_or_else(|error| panic!("insmod {file}: {error}"));
        Self {
            name: match file {
                VFIO_TPH => VFIO_TPH,
                _ => "vfio_pci",
            },
        }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        let unloaded = unload(self.name);
        if !thread::panicking() {
            unloaded.unwrap_or_else(|error| panic!("rmmod {}: {error}", self.name));
        }
    }
}

/// Sees to it that vfio-pci can be loaded as a module, the kernel's own or this driver under its
/// name, also on a kernel that has it built in. The test is left out where such a kernel was booted
/// with it.
pub fn vfio_pci_can_be_loaded() {
    if loaded("vfio_pci") || !Path::new("/sys/module/vfio_pci").exists() {
        return;
    }
    if Path::new("/sys/bus/pci/drivers/vfio-pci").exists() {
        skip!("vfio-pci is built in: needs initcall_blacklist=vfio_pci_init");
    }
    ensure("tph_absent");
}

/// A parameter's value as sysfs shows it.
pub fn parameter(name: &str, parameter: &str) -> String {
    let path = parameter_path(name, parameter);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

/// The file in sysfs that shows a parameter.
pub fn parameter_path(name: &str, parameter: &str) -> PathBuf {
    Path::new("/sys/module")
        .join(name)
        .join("parameters")
        .join(parameter)
}

/// Lets drivers of physical functions create virtual ones, or not; both drivers have the parameter.
pub fn enable_sriov(driver: &str, enable: bool) {
    let path = parameter_path(&driver.replace('-', "_"), "enable_sriov");
    fs::write(&path, if enable { "Y" } else { "N" })
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// What `enable_unsafe_tph` was when the module was loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// N: policy `iv_st`.
    Safe,
    /// Y: policy `literal`.
    Unsafe,
}

impl Gate {
    /// Both of them.
    pub const BOTH: [Gate; 2] = [Gate::Safe, Gate::Unsafe];

    /// The parameter's value, as sysfs shows it.
    pub fn letter(self) -> &'static str {
        match self {
            Gate::Safe => "N",
            Gate::Unsafe => "Y",
        }
    }

    /// That of the module that is loaded.
    pub fn loaded() -> Self {
        match parameter(VFIO_TPH, "enable_unsafe_tph").as_str() {
            "Y" => Gate::Unsafe,
            _ => Gate::Safe,
        }
    }

    /// Sees to it that vfio_tph is loaded with this gate. Devices that it drives are unbound if
    /// it has to be loaded again.
    pub fn load(self) {
        if loaded(VFIO_TPH) && Self::loaded() == self {
            return;
        }
        remove(VFIO_TPH);
        load(VFIO_TPH, &format!("enable_unsafe_tph={}", self.letter()))
            .unwrap_or_else(|error| panic!("insmod {VFIO_TPH}: {error}"));
    }
}
