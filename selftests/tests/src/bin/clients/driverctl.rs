// SPDX-License-Identifier: GPL-2.0-only

//! driverctl, and what its service does at the next boot. Neither udev, whose rule wants the
//! service, nor systemd runs here.

use std::fs;
use std::path::{Path, PathBuf};

use tph_selftests::module;
use tph_selftests::pci::Bdf;

use crate::root::{ask, ROOT};
use crate::VFIO_PCI;

/// Modules where `modprobe` of the root finds them: the kernel's own in its place, another one
/// where `modules_install` puts what is built outside of the kernel.
pub struct Installed(Vec<PathBuf>);

impl Installed {
    /// Installs the kernel's vfio-pci, and `file` if that is another one.
    pub fn new(file: &str) -> Self {
        module::vfio_pci_can_be_loaded();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("the release");
        let directory = Path::new(ROOT).join("lib/modules").join(release.trim());
        let mut places = vec![(VFIO_PCI, "kernel/drivers/vfio/pci")];
        if file != VFIO_PCI {
            places.push((file, "updates"));
        }
        let install = |(file, place)| {
            let place = directory.join(place);
            fs::create_dir_all(&place).expect("a directory");
            let installed = place.join("vfio-pci.ko");
            fs::copy(module::path(file), &installed).expect("the module");
            installed
        };
        let installed = Self(places.iter().copied().map(install).collect());
        ask("depmod", &["-a"]);
        // What it would load.
        let said = ask("modprobe", &["-n", "-v", VFIO_PCI]);
        let wanted = format!("/{}/vfio-pci.ko", places[places.len() - 1].1);
        assert!(said.contains(&wanted), "{wanted}: {said}");
        installed
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        for file in &self.0 {
            // What is left shows in the next test.
            let _ = fs::remove_file(file);
        }
        if module::loaded("vfio_pci") {
            let _ = module::unload("vfio_pci");
        }
    }
}

/// What a boot does: a driver_override is forgotten, no module is loaded, and driverctl's service
/// loads the override that was saved.
pub fn boot(bdf: &Bdf) {
    bdf.unbind();
    bdf.clear_override().expect("driver_override");
    module::unload("vfio_pci").expect("rmmod");

    // Its service, whose instance systemd unescapes.
    ask("driverctl", &["load-override", &format!("pci/{bdf}")]);
}
