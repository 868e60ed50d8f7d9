// SPDX-License-Identifier: GPL-2.0-only

//! The kernel's own selftests of vfio, as their documentation has it: setup.sh binds the device,
//! run.sh runs a program on it, cleanup.sh puts it back.

use tph_selftests::pci::Bdf;

use crate::root::{ask, run};

/// Where selftests/clients has put them.
const SCRIPTS: &str = "/given/vfio-selftests/scripts";

/// What any device can be asked.
pub const EVERY_DEVICE: [&str; 3] = [
    "vfio_pci_device_test",
    "vfio_iommufd_setup_test",
    "vfio_dma_mapping_mmio_test",
];
/// What one with virtual functions can be asked: this one wants the driver to be called vfio-pci.
pub const VIRTUAL_FUNCTIONS: [&str; 1] = ["vfio_pci_sriov_uapi_test"];

/// The results of each program, which are lines that begin with "ok" or "not ok".
pub fn run_with_setup(bdf: &Bdf, programs: &[&str]) -> Vec<String> {
    let address = bdf.to_string();
    let script = |name: &str| format!("{SCRIPTS}/{name}.sh");
    ask("bash", &[&script("setup"), &address]);
    let mut results = Vec::new();
    for program in programs {
        let program = format!("{SCRIPTS}/../{program}");
        let (said, _) = run("bash", &[&script("run"), &program]);
        results.extend(
            said.lines()
                .filter(|line| line.starts_with("ok ") || line.starts_with("not ok "))
                .map(str::to_owned),
        );
    }
    ask("bash", &[&script("cleanup")]);
    results
}
