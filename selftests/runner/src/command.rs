// SPDX-License-Identifier: GPL-2.0-only

//! The command that boots a session: `selftests/run` with what the session's row says.

use std::path::{Path, PathBuf};

use crate::plan::Chosen;
use crate::session::{most_vectors, on_arm64, page_size, sanitizes, Firmware};

/// What is built for one kernel.
#[derive(Clone, Debug)]
pub struct Built {
    /// The kernel's build tree.
    pub kernel: PathBuf,
    /// vfio_tph.ko, or what is tested in its place.
    pub module: PathBuf,
    /// The directory of the test modules.
    pub modules: PathBuf,
}

/// Where things are, and how long a session with storms goes on.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The checkout.
    pub top: PathBuf,
    /// Where results go.
    pub ktap: PathBuf,
    /// The build tree of a kernel that is not one of ours.
    pub kdir: Option<PathBuf>,
    /// The QEMU that boots a guest in the guest, if it is not the build root's own.
    pub nested_qemu: Option<PathBuf>,
    /// The root that the clients come from, if it was made.
    pub clients_root: Option<PathBuf>,
    /// Life cycles of each device.
    pub soak_cycles: u64,
    /// Seconds of everything at once.
    pub soak_seconds: u64,
}

/// Test modules that each guest has.
const MODULES: &[&str] = &[
    "tph_rp",
    "tph_kstate",
    "tph_importer",
    "tph_hold",
    "tph_plain",
    "tph_peer",
    "tph_absent",
    "vfio-pci",
    "sg_pool",
    "virtio_blk",
];

/// Where cargo leaves programs.
const RELEASE: &str = "build/cargo/x86_64-unknown-linux-gnu/release";

/// What an argument list is made of: options with a value each, then the command in the guest.
struct Arguments(Vec<String>);

impl Arguments {
    fn option(&mut self, name: &str, value: impl Into<String>) {
        self.0.extend([format!("--{name}"), value.into()]);
    }

    fn file(&mut self, host: &Path, guest: Option<&str>) {
        let host = host.display();
        self.option(
            "file",
            guest.map_or(host.to_string(), |guest| format!("{host}:{guest}")),
        );
    }
}

/// The longest time for the whole machine and for one test, in seconds; sanitizers take theirs, and
/// so does another architecture.
fn limits(chosen: &Chosen, setting: &Setting) -> (u64, u64) {
    let (all, test) = if sanitizes(&chosen.kernel) || on_arm64(&chosen.kernel) {
        (2400, 900)
    } else {
        (1200, 240)
    };
    let storms = match chosen.session.storms {
        true => 4 * setting.soak_cycles + 2 * setting.soak_seconds,
        false => 0,
    };
    let all = chosen.session.time_limit.unwrap_or(all);
    let test = chosen.session.deadline.unwrap_or(test);
    (all + storms, test + storms)
}

/// The initramfs of the guest in the guest.
pub fn nested_initramfs(setting: &Setting) -> PathBuf {
    setting.top.join("build/nested/initramfs")
}

/// Where the kernel's own selftests of vfio are built.
pub fn stock(top: &Path) -> PathBuf {
    top.join("build/stock-selftests")
}

/// Where the logs of a session's machine are kept if it fails.
pub fn logs(chosen: &Chosen, setting: &Setting) -> PathBuf {
    setting.ktap.join(format!("{}.logs", chosen.label))
}

/// A device's row with what depends on the kernel.
fn for_kernel(device: &str, kernel: &str) -> String {
    let page = page_size(kernel);
    // Of the size of an entry of the table.
    let border = 3 * page * 1024 - 16;
    device
        .replace("{most}", &most_vectors(kernel).to_string())
        .replace("{page}", &format!("{page}K"))
        .replace("{pages}", &format!("{}K", 16 * page))
        .replace("{border}", &format!("{border:#x}"))
}

/// The arguments of `selftests/run`.
pub fn arguments(chosen: &Chosen, built: &Built, setting: &Setting) -> Vec<String> {
    let session = chosen.session;
    let arm64 = on_arm64(&chosen.kernel);
    let programs = setting.top.join(match arm64 {
        true => "build/selftests-arm64",
        false => "build/selftests",
    });
    let guest = setting.top.join("selftests/guest");
    let (time_limit, deadline) = limits(chosen, setting);
    let mut arguments = Arguments(Vec::new());

    arguments.option("kernel", built.kernel.to_string_lossy());
    arguments.option("timeout", time_limit.to_string());
    arguments.option("keep", logs(chosen, setting).to_string_lossy());
    for device in session.devices.iter().copied().flatten() {
        arguments.option("device", for_kernel(device, &chosen.kernel));
    }
    let stage = setting.top.join("build/clients");
    let root = setting.clients_root.as_deref().unwrap_or(Path::new(""));
    for argument in session.qemu {
        let argument = argument.replace("{stage}", &stage.to_string_lossy());
        arguments.option(
            "qemu-arg",
            argument.replace("{root}", &root.to_string_lossy()),
        );
    }
    if session.clients {
        arguments.option("dir", format!("{}/given:/given", stage.display()));
        arguments.file(&guest.join("in-root"), None);
    }
    // The IOMMU of real machines of arm64 is not for the emulated endpoints: QEMU does not tell
    // them what it maps.
    match (session.iommu, arm64 && session.devices.is_empty()) {
        (false, _) => arguments.option("iommu", "none"),
        (true, true) => arguments.option("iommu", "smmuv3"),
        (true, false) => (),
    }
    match session.firmware {
        Firmware::Known => (),
        Firmware::Silent => arguments.option("firmware", "none"),
        Firmware::File(file) => arguments.option("firmware", guest.join(file).to_string_lossy()),
    }
    arguments.option("cpus", session.cpus.to_string());
    arguments.option("mem", format!("{}M", session.memory));
    if !session.append.is_empty() {
        arguments.option("append", session.append);
    }
    for expression in session.ok_log {
        arguments.option("ok-log", *expression);
    }
    if session.serial_control {
        arguments.option("control", "serial");
    }
    if session.endpoints_may_end {
        arguments.option("endpoints", "may-end");
    }
    if session.vng {
        arguments.option("boot", "vng");
    }
    if let Some(image) = session.image {
        arguments.option("image", image);
    }
    if session.in_place {
        let build = setting
            .top
            .join(format!("build/{}-vfio-pci", chosen.kernel));
        arguments.file(
            &build.join("vfio-pci.ko"),
            Some("/modules/in-place/vfio-pci.ko"),
        );
        arguments.file(&programs.join("steer-vectors"), None);
    }
    for program in &chosen.programs {
        let place = format!("/tests/{}", program.name);
        let host = if session.package.is_some() {
            setting.top.join(RELEASE)
        } else if session.compared.is_some() {
            stock(&setting.top).join("out")
        } else if !session.must_fail.is_empty() {
            setting.top.join("selftests/runner/wrong")
        } else {
            programs.clone()
        };
        arguments.file(&host.join(&program.name), Some(&place));
    }
    for program in ["compat32", "tphctl", "steer"] {
        arguments.file(&programs.join(program), None);
    }
    arguments.file(&guest.join("session"), None);
    if session.compared.is_some() {
        arguments.file(&guest.join("parity"), None);
    }
    if session.nested {
        arguments.file(&guest.join("in-root"), None);
    }
    arguments.option("module", built.module.to_string_lossy());
    for module in MODULES {
        let module = built.modules.join(format!("{module}.ko"));
        arguments.option("module", module.to_string_lossy());
    }
    let mut arguments = arguments.0;
    if session.storms {
        arguments.extend([
            "env".into(),
            format!("TPH_SOAK_CYCLES={}", setting.soak_cycles),
            format!("TPH_SOAK_SECONDS={}", setting.soak_seconds),
        ]);
    }
    if session.nested {
        let kernel = built.kernel.join("arch/x86/boot/bzImage");
        arguments.extend([
            "env".into(),
            format!("NESTED_KERNEL={}", kernel.display()),
            format!("NESTED_INITRAMFS={}", nested_initramfs(setting).display()),
        ]);
        let qemu = setting.nested_qemu.as_ref();
        arguments.extend(qemu.map(|qemu| format!("NESTED_QEMU={}", qemu.display())));
        arguments.extend(["in-root".into(), "build-root".into()]);
    }
    if session.clients {
        arguments.extend(["in-root".into(), "clients".into()]);
    }
    if let Some(compared) = session.compared {
        let parameters = format!("TPH_PARAMETERS={}", compared.parameters);
        arguments.extend(["env".into(), parameters, "parity".into()]);
        arguments.push(compared.device.into());
    } else {
        arguments.extend(["session".into(), deadline.to_string()]);
    }
    arguments.extend(chosen.programs.iter().map(|program| program.label()));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::session::{Session, DEFAULT};

    #[test]
    fn limits_of_a_kernel() {
        const OWN: Session = Session {
            time_limit: Some(3600),
            deadline: Some(1700),
            ..DEFAULT
        };
        const STORMS: Session = Session {
            storms: true,
            ..DEFAULT
        };
        let setting = Setting {
            top: PathBuf::new(),
            ktap: PathBuf::new(),
            kdir: None,
            nested_qemu: None,
            clients_root: None,
            soak_cycles: 20,
            soak_seconds: 10,
        };
        for (kernel, session, expected) in [
            ("lean", &DEFAULT, (1200, 240)),
            ("plain", &DEFAULT, (1200, 240)),
            ("debug", &DEFAULT, (2400, 900)),
            ("arm64", &DEFAULT, (2400, 900)),
            ("arm64-64k", &DEFAULT, (2400, 900)),
            ("arm64", &OWN, (3600, 1700)),
            ("lean", &STORMS, (1300, 340)),
        ] {
            let chosen = Chosen {
                session,
                label: String::new(),
                kernel: kernel.to_owned(),
                programs: Vec::new(),
                less: None,
            };
            assert_eq!(limits(&chosen, &setting), expected, "{kernel}");
        }
    }

    #[test]
    fn devices_for_a_kernel() {
        let row = "msix={most},bar={page},bar0={pages},msix_offset={border}";
        for (kernel, expected) in [
            ("lean", "msix=2048,bar=4K,bar0=64K,msix_offset=0x2ff0"),
            ("debug", "msix=512,bar=4K,bar0=64K,msix_offset=0x2ff0"),
            ("arm64", "msix=2048,bar=4K,bar0=64K,msix_offset=0x2ff0"),
            (
                "arm64-64k",
                "msix=2048,bar=64K,bar0=1024K,msix_offset=0x2fff0",
            ),
        ] {
            assert_eq!(for_kernel(row, kernel), expected, "{kernel}");
        }
    }
}
