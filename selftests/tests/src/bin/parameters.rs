// SPDX-License-Identifier: GPL-2.0-only

//! vfio-pci's module parameters: each does the same to a device under vfio-pci and under vfio_tph,
//! one after the other in the same VM, where both are modules.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::thread;

use nix::sys::eventfd::EventFd;
use tph_selftests::bench::Bench;
use tph_selftests::kmsg::KernelLog;
use tph_selftests::module::{self, VFIO_TPH};
use tph_selftests::monitor::wait_until;
use tph_selftests::pci::{self, devices, Bdf};
use tph_selftests::sriov::Physical;
use tph_selftests::vfio::{self, Device, OpenBy};
use tph_selftests::{assert_errno, errno, harness, skip, tests, Errno};
use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD, VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_VGA_REGION_INDEX,
};

/// A driver, which is loaded as long as this lives.
struct Driver {
    name: &'static str,
}

impl Driver {
    /// vfio-pci, and then vfio_tph.
    const NAMES: [&'static str; 2] = ["vfio-pci", VFIO_TPH];

    /// Loads one of them, and no other.
    fn load(name: &'static str, parameters: &str) -> Result<Self, Errno> {
        module::vfio_pci_can_be_loaded();
        for other in Self::NAMES {
            if module::loaded(&of_module(other)) {
                module::unload(&of_module(other)).expect("rmmod");
            }
        }
        module::load(name, parameters).map(|()| Self { name })
    }

    /// A parameter in sysfs.
    fn parameter(&self, name: &str) -> String {
        module::parameter(&of_module(self.name), name)
    }

    /// Gives a parameter another value.
    fn set(&self, name: &str, value: &str) {
        let path = module::parameter_path(&of_module(self.name), name);
        fs::write(&path, value).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Whether it has the parameter that depends on `CONFIG_VFIO_PCI_VGA`.
    fn knows_vga(&self) -> bool {
        module::parameter_path(&of_module(self.name), "disable_vga").exists()
    }

    fn bind(&self, bdf: &Bdf) {
        bdf.bind(self.name)
            .unwrap_or_else(|error| panic!("{error}"));
    }

    fn open(&self, bdf: &Bdf) -> Device {
        self.bind(bdf);
        vfio::open(bdf, OpenBy::Cdev).unwrap_or_else(|error| panic!("{bdf}: {error}"))
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let unloaded = module::unload(&of_module(self.name));
        if !thread::panicking() {
            unloaded.unwrap_or_else(|error| panic!("rmmod {}: {error}", self.name));
        }
    }
}

/// The module of a driver.
fn of_module(driver: &str) -> String {
    driver.replace('-', "_")
}

/// What `body` makes of each driver, loaded with `parameters`, is the same. Returns it.
#[track_caller]
fn same<T: PartialEq + std::fmt::Debug>(parameters: &str, body: impl Fn(&Driver) -> T) -> T {
    let [stock, ours] = Driver::NAMES.map(|name| {
        let driver = Driver::load(name, parameters)
            .unwrap_or_else(|error| panic!("insmod {name} {parameters}: {error}"));
        body(&driver)
    });
    assert_eq!(ours, stock, "{parameters}");
    ours
}

/// Names, modes and values without parameters are vfio-pci's.
fn r89_same_in_sysfs(_: &mut Bench) {
    let mut expected = vec![
        "disable_denylist",
        "disable_idle_d3",
        "disable_vga",
        "enable_sriov",
        "nointxmask",
    ];
    if !same("", Driver::knows_vga) {
        expected.retain(|&name| name != "disable_vga");
    }
    let all = same("", |driver| {
        let directory = module::parameter_path(&of_module(driver.name), "");
        let mut all: Vec<(String, u32, String)> = fs::read_dir(directory)
            .expect("parameters")
            .map(|entry| {
                let entry = entry.expect("a parameter");
                let name = entry.file_name().into_string().expect("a name");
                let mode = entry.metadata().expect("its mode").permissions().mode();
                let value = driver.parameter(&name);
                (name, mode, value)
            })
            // Those of TPH.
            .filter(|(name, _, _)| !["enable_unsafe_tph", "tph_policy"].contains(&&name[..]))
            .collect();
        all.sort();
        all
    });
    let names: Vec<&str> = all.iter().map(|(name, _, _)| &name[..]).collect();
    assert_eq!(names, expected);
}

/// The devices that `ids` names are bound by themselves, and no others: also where it is malformed.
fn r89_ids(bench: &mut Bench) {
    let all: Vec<Bdf> = bench.all().iter().map(|found| found.bdf.clone()).collect();
    for bdf in &all {
        bdf.unbind();
        bdf.clear_override().expect("driver_override");
    }
    let bound = |ids: &str| {
        same(&format!("ids={ids}"), |driver| -> Vec<bool> {
            let bound = all
                .iter()
                .map(|bdf| bdf.driver().as_deref() == Some(driver.name));
            bound.collect()
        })
    };
    let two = |at: usize, at_too: usize| -> Vec<bool> {
        (0..all.len()).map(|n| n == at || n == at_too).collect()
    };
    let at = |name: &str| {
        let bdf = &bench.named(name).bdf.clone();
        all.iter().position(|other| other == bdf).expect(name)
    };
    let mut at = at;
    let (first, second) = (at("one"), at("two"));
    let one = two(first, first);
    let none = vec![false; all.len()];

    assert_eq!(bound(""), none);
    assert_eq!(bound("1b36:7401"), one);
    assert_eq!(bound("1b36:7401,1b36:7402"), two(first, second));
    assert_eq!(bound(",,1b36:7401,"), one);
    assert_eq!(bound("0x1b36:0x7401"), one);
    assert_eq!(bound("1b36:7401:1b36:7401"), one);
    assert_eq!(bound("1b36:7401:1b36:7402"), none);
    assert_eq!(bound("1b36:7401:ffffffff:ffffffff:120000:ffffff"), one);
    assert_eq!(bound("1b36:7401:ffffffff:ffffffff:030000:ff0000"), none);
    for malformed in ["1b36", "zz:7401", "1b36:", "1b36-7401", ":", "1b36:zz:7401"] {
        assert_eq!(bound(malformed), none, "{malformed}");
        assert_eq!(bound(&format!("{malformed},1b36:7401")), one, "{malformed}");
    }
    // What follows the numbers is not looked at; the same again is no harm.
    for odd in [
        "1b36:7401junk",
        "1b36:7401,1b36:7401",
        "1b36:7401:1b36:7401:0:0:9",
        "+1b36:7401",
    ] {
        bound(odd);
    }
    // A list that is too long refuses the load, and binds nothing.
    let long = format!("ids={}", "1b36:7401,".repeat(110));
    for name in Driver::NAMES {
        assert_errno!(Driver::load(name, &long), ENOSPC, "{name}");
    }
}

/// What cannot be read is said, and not seen in sysfs.
fn r89_ids_are_said(_: &mut Bench) {
    let mut log = KernelLog::from_now();
    drop(Driver::load(VFIO_TPH, "ids=1b36:7499,nonsense").expect("insmod"));
    let lines = log.until_now();
    for wanted in ["id \"1b36:7499\" added", "invalid id \"nonsense\""] {
        let said = lines.iter().filter(|line| line.contains(wanted)).count();
        assert_eq!(said, 1, "{wanted}: {lines:#?}");
    }
}

/// INTx of a device, for as long as the device is open.
fn intx(device: &Device) -> Result<(), Errno> {
    let event = OwnedFd::from(EventFd::new().expect("eventfd"));
    device.set_irqs_raw(
        VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD,
        VFIO_PCI_INTX_IRQ_INDEX,
        0,
        1,
        &[event.as_raw_fd()],
    )
}

/// A device whose INTx is not masked shares its line with nobody. It is what the parameter was
/// when the device was bound that counts.
fn r89_nointxmask(_: &mut Bench) {
    let pair = devices("0x1234", "0x11e8", "");
    let [one, other] = &pair[..] else {
        skip!("needs two devices on one interrupt line");
    };
    // The second one's INTx, the first one's being in use.
    let shared = |driver: &Driver| {
        let (one, other) = (driver.open(one), driver.open(other));
        assert_eq!(intx(&one), Ok(()), "the line is free");
        intx(&other)
    };
    assert_eq!(same("", shared), Ok(()));
    assert_eq!(same("nointxmask=1", shared), Err(Errno::EBUSY));
    assert_eq!(
        same("", |driver| {
            let first = shared(driver);
            driver.set("nointxmask", "Y");
            // These are bound, and stay as they are.
            let second = shared(driver);
            pair.iter().for_each(Bdf::unbind);
            let third = shared(driver);
            driver.set("nointxmask", "N");
            (first, second, third, shared(driver))
        }),
        (Ok(()), Ok(()), Err(Errno::EBUSY), Err(Errno::EBUSY))
    );
    pair.iter().for_each(Bdf::unbind);
}

/// A file of a device in sysfs.
fn shown(bdf: &Bdf, file: &str) -> String {
    let path = bdf.path(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim().to_owned()
}

/// A device that nobody uses sleeps, or does not.
fn r89_disable_idle_d3(bench: &mut Bench) {
    let (one, two) = (
        bench.named("one").bdf.clone(),
        bench.named("two").bdf.clone(),
    );
    let unbind = || [&one, &two].map(|bdf| bdf.unbind());
    same("", |driver| {
        unbind();
        driver.bind(&one);
        wait_until(|| one.is_suspended());
        assert_eq!(shown(&one, "power_state"), "D3hot");
        drop(driver.open(&one));
        wait_until(|| one.is_suspended());
        unbind();
    });
    same("disable_idle_d3=1", |driver| {
        driver.bind(&one);
        drop(driver.open(&one));
        // One that is bound after that is another matter: when it sleeps, the first one would.
        driver.set("disable_idle_d3", "N");
        driver.bind(&two);
        wait_until(|| two.is_suspended());
        drop(driver.open(&one));
        drop(driver.open(&two));
        wait_until(|| two.is_suspended());
        assert!(!one.is_suspended(), "{}", driver.name);
        assert_eq!(shown(&one, "power_state"), "D0");
        unbind();
    });
}

/// The user of a VGA device gets the legacy VGA addresses, or does not.
fn r89_disable_vga(_: &mut Bench) {
    let found = devices("", "", "0x0300");
    let Some(vga) = found.first() else {
        skip!("needs a VGA device");
    };
    if !same("", Driver::knows_vga) {
        skip!("the kernel has no CONFIG_VFIO_PCI_VGA");
    }
    let region = |driver: &Driver| {
        let device = driver.open(vga);
        device.region_bytes(VFIO_PCI_VGA_REGION_INDEX)
    };
    assert!(same("", region).is_ok());
    assert_eq!(same("disable_vga=1", region), Err(Errno::EINVAL));
}

/// A device that vfio-pci does not take is taken if the administrator says so.
fn r89_disable_denylist(bench: &mut Bench) {
    let listed = bench.named("listed").bdf.clone();
    let binds = |driver: &Driver| listed.bind(driver.name).is_ok();
    assert!(!same("", binds));
    assert!(same("disable_denylist=1", |driver| {
        let bound = binds(driver);
        drop(driver.open(&listed));
        listed.unbind();
        bound
    }));
}

/// Virtual functions are made if the administrator says so.
fn r89_enable_sriov(_: &mut Bench) {
    let physical = Physical::find();
    let made = |driver: &Driver| {
        driver.bind(&physical.bdf);
        let made = physical.set_vfs(1);
        if made.is_ok() {
            physical.set_vfs(0).expect("no VFs");
        }
        physical.bdf.unbind();
        made
    };
    assert_eq!(same("", made), Err(Errno::ENOENT));
    assert_eq!(same("enable_sriov=1", made), Ok(()));
}

/// What vfio_tph lacks for Intel graphics is said once for each device that is bound.
fn r89_intel_graphics(bench: &mut Bench) {
    let graphics = bench.named("graphics").bdf.clone();
    let driver = Driver::load(VFIO_TPH, "").expect("insmod");
    let mut log = KernelLog::from_now();
    driver.bind(&graphics);
    drop(driver.open(&graphics));
    drop(driver.open(&graphics));
    let other = bench.named("one").bdf.clone();
    drop(driver.open(&other));
    let lines = log.until_now();
    let said: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("Intel graphics"))
        .collect();
    assert_eq!(said.len(), 1, "{lines:#?}");
    assert!(said[0].contains(&graphics.to_string()), "{said:?}");
}

/// Writes a file of the driver's in sysfs.
fn tell(driver: &Driver, file: &str, text: &str) -> Result<(), Errno> {
    let path = format!("/sys/bus/pci/drivers/{}/{file}", driver.name);
    fs::write(path, text).map_err(errno)
}

/// Devices that the administrator names by their numbers, or by their addresses, in the driver's
/// own files.
fn r89_files_of_the_driver(bench: &mut Bench) {
    let one = bench.named("one").bdf.clone();
    let two = bench.named("two").bdf.clone();
    let address = one.to_string();
    let seen = same("", |driver| {
        for bdf in [&one, &two] {
            bdf.unbind();
            bdf.clear_override().expect("driver_override");
        }
        let has = |bdf: &Bdf| bdf.driver().as_deref() == Some(driver.name);
        let step = |file: &str, text: &str| (tell(driver, file, text), has(&one), has(&two));
        let steps = [
            step("bind", &address),
            step("unbind", &address),
            // Devices of these numbers are bound at once.
            step("new_id", "1b36 7401"),
            step("new_id", "1b36 7401"),
            step("unbind", &address),
            step("bind", &address),
            step("unbind", &address),
            step("remove_id", "1b36 7401"),
            step("remove_id", "1b36 7401"),
            step("bind", &address),
            step("new_id", "1b36"),
            step("new_id", "nonsense"),
            step("remove_id", "1b36"),
            // Of another class than it has.
            step("new_id", "1b36 7402 ffffffff ffffffff 030000 ffffff"),
            step("bind", &two.to_string()),
        ];
        // The driver's name in the device's file is as good.
        pci::write(&one.path("driver_override"), driver.name).expect("driver_override");
        let by_name = [step("bind", &address), step("bind", &address)];
        for bdf in [&one, &two] {
            bdf.unbind();
        }
        one.clear_override().expect("driver_override");
        (steps, by_name)
    });
    assert_eq!(seen.0[2], (Ok(()), true, false), "new_id: {seen:?}");
    assert_eq!(seen.0[5], (Ok(()), true, false), "bind: {seen:?}");
    assert!(seen.0[9].0.is_err(), "bind after remove_id: {seen:?}");
    assert_eq!(seen.1[0], (Ok(()), true, false), "by name: {seen:?}");
}

fn main() -> ExitCode {
    harness::run(tests![
        r89_same_in_sysfs,
        r89_ids,
        r89_ids_are_said,
        r89_nointxmask,
        r89_disable_idle_d3,
        r89_disable_vga,
        r89_disable_denylist,
        r89_enable_sriov,
        r89_intel_graphics,
        r89_files_of_the_driver,
    ])
}
