// SPDX-License-Identifier: GPL-2.0-only

//! The driver in vfio-pci's place: its name and what goes with it, beside the kernel's vfio-pci,
//! and beside itself under the other name.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use tph_selftests::bench::{Bench, Want};
use tph_selftests::module::{self, Loaded, IN_PLACE, VFIO_TPH};
use tph_selftests::pci::{self, Bdf};
use tph_selftests::process::Process;
use tph_selftests::sriov::Physical;
use tph_selftests::tph::{Requester, StMode};
use tph_selftests::vfio::{cpu, Device};
use tph_selftests::{assert_errno, harness, skip, tests, Errno};
use tph_tests::{st, CPU, OTHER_CPU};

/// The name of the driver and of the file of the kernel's own.
const VFIO_PCI: &str = "vfio-pci";
/// Its module.
const MODULE: &str = "vfio_pci";
const TRACING: &str = "/sys/kernel/tracing";

/// Whether the vfio-pci that is loaded is this driver: it has a parameter that the kernel's has
/// not. This is what administrators are told to look at.
fn is_ours() -> bool {
    module::parameter_path(MODULE, "enable_unsafe_tph").exists()
}

/// What a module's file says of itself to modprobe and depmod: "alias=...", and parameters.
fn says(file: &str, key: &str) -> BTreeSet<String> {
    let bytes = fs::read(module::path(file)).expect("a module");
    bytes
        .split(|&byte| byte == 0)
        .filter(|text| text.starts_with(key.as_bytes()))
        .filter_map(|text| String::from_utf8(text.to_vec()).ok())
        .collect()
}

/// Beside a vfio-pci that is built in the kernel does not take it. Here the driver of the one that
/// is built in is not there, and its parameters are, which is what counts.
fn r90_beside_one_that_is_built_in(_: &mut Bench) {
    if !Path::new("/sys/module").join(MODULE).exists() || module::loaded(MODULE) {
        skip!("no vfio-pci is built in, or its name is given away already");
    }
    assert_errno!(module::load(IN_PLACE, ""), EINVAL);
    assert_errno!(module::load(VFIO_PCI, ""), EINVAL);
    assert!(!is_ours());
}

/// Whichever is there first keeps the other one out, and stays as it is.
fn r90_beside_one_that_is_loaded(_: &mut Bench) {
    for (first, second) in [(VFIO_PCI, IN_PLACE), (IN_PLACE, VFIO_PCI)] {
        let loaded = Loaded::new(first, "");
        assert_errno!(module::load(second, ""), EEXIST, "{second}");
        assert_eq!(is_ours(), first == IN_PLACE);
        drop(loaded);
        drop(Loaded::new(second, ""));
    }
}

/// Tools that choose by alias find it where they found vfio-pci; options for vfio-pci are options
/// for it. Under its own name it has no alias.
fn r90_alias_and_parameters(_: &mut Bench) {
    let aliases = says(IN_PLACE, "alias=");
    assert_eq!(aliases, says(VFIO_PCI, "alias="));
    assert_eq!(aliases.len(), 1, "{aliases:?}");
    assert_eq!(says(VFIO_TPH, "alias="), BTreeSet::new());

    let (ours, stock) = (says(IN_PLACE, "parmtype="), says(VFIO_PCI, "parmtype="));
    let added: Vec<&String> = ours.difference(&stock).collect();
    assert_eq!(
        added,
        [
            "parmtype=enable_unsafe_tph:bool",
            "parmtype=tph_policy:charp"
        ]
    );
    assert!(stock.is_subset(&ours), "{stock:?} {ours:?}");
}

/// The driver's name, and that of its vfio devices, which vfio-pci-core has the virtual functions
/// of a device bound to. No device is bound by itself.
fn r90_names(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    let physical = Physical::find();
    let _loaded = Loaded::new(IN_PLACE, "enable_sriov=1");
    assert!(is_ours());
    for bdf in [&endpoint.bdf, &physical.bdf] {
        bdf.unbind();
        bdf.clear_override().expect("driver_override");
        pci::write(Path::new("/sys/bus/pci/drivers_probe"), &bdf.to_string()).expect("a probe");
        assert_eq!(bdf.driver(), None, "{bdf} without driver_override");
        bdf.bind(VFIO_PCI).expect("vfio-pci");
    }

    physical.set_vfs(1).expect("a virtual function");
    let function = &physical.vfs()[0];
    let wanted = fs::read_to_string(function.path("driver_override")).expect("driver_override");
    assert_eq!(wanted.trim(), VFIO_PCI);
    assert_eq!(function.driver().as_deref(), Some(VFIO_PCI));
    endpoint.bdf.unbind();
}

/// Of the enable events of one trace system, the devices.
fn traced(system: &str, body: impl FnOnce()) -> Vec<String> {
    let switch = format!("{TRACING}/events/{system}/enable");
    let write = |path: &str, text| {
        fs::write(path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
    };
    write(&format!("{TRACING}/trace"), "");
    write(&switch, "1");
    body();
    write(&switch, "0");
    fs::read_to_string(format!("{TRACING}/trace"))
        .expect("the trace")
        .lines()
        .filter_map(|line| line.split_once("vfio_tph_enable: "))
        .filter_map(|(_, event)| Some(event.split_whitespace().next()?.to_owned()))
        .collect()
}

fn steer(device: &Device, number: u32) -> Result<(), Errno> {
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &[cpu(number)])
}

/// Both names of this driver, loaded in either order, each with a device: what they have in
/// debugfs, in sysfs and among the trace events is their own, and so is the gate.
fn r90_both_names_at_once(bench: &mut Bench) {
    let (one, other) = (bench.pick(&Want::TABLE), bench.pick(&Want::TABLE));
    let (gate, none) = ("enable_unsafe_tph=1", "");
    for order in [
        [(IN_PLACE, gate), (VFIO_TPH, none)],
        [(VFIO_TPH, none), (IN_PLACE, gate)],
    ] {
        let loaded = order.map(|(file, parameters)| Loaded::new(file, parameters));
        one.bdf.bind(VFIO_PCI).expect("vfio-pci");
        other.bdf.bind(VFIO_TPH).expect("vfio_tph");
        for (driver, bdf, absent) in [
            (VFIO_PCI, &one.bdf, &other.bdf),
            (VFIO_TPH, &other.bdf, &one.bdf),
        ] {
            let directory = format!("/sys/kernel/debug/{driver}");
            for file in ["why", "state", "counters"] {
                let path = format!("{directory}/{bdf}/{file}");
                fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
            let path = format!("{directory}/{absent}");
            assert!(!Path::new(&path).exists(), "{path}");
        }
        let policy = |bdf: &Bdf| fs::read_to_string(bdf.path("tph_policy")).expect("tph_policy");
        assert_eq!(policy(&one.bdf).trim(), "literal");
        assert_eq!(policy(&other.bdf).trim(), "iv_st");

        for (system, traced_one) in [(MODULE, &one), (VFIO_TPH, &other)] {
            let (device, beside) = (one.open(), other.open());
            let devices = traced(system, || {
                assert_eq!(steer(&device, CPU), Ok(()));
                assert_eq!(steer(&beside, OTHER_CPU), Ok(()));
            });
            assert!(!devices.is_empty(), "{system}: no event");
            let own = traced_one.bdf.to_string();
            assert!(
                devices.iter().all(|bdf| *bdf == own),
                "{system}: {devices:?}"
            );
            assert_eq!(one.entries()[0], st(CPU));
            assert_eq!(other.entries()[0], st(OTHER_CPU));
        }
        one.assert_off("close");
        other.assert_off("close");

        // The one that leaves takes nothing of the other's with it.
        one.bdf.unbind();
        let [first, second] = loaded;
        let (in_place, own_name) = match first.name {
            MODULE => (first, second),
            _ => (second, first),
        };
        drop(in_place);
        assert!(!Path::new("/sys/kernel/debug").join(VFIO_PCI).exists());
        let device = other.open();
        let devices = traced(VFIO_TPH, || assert_eq!(steer(&device, CPU), Ok(())));
        assert_eq!(devices.first(), Some(&other.bdf.to_string()));
        drop(device);
        other.bdf.unbind();
        drop(own_name);
    }
}

/// examples/c steers vectors of any device, under either name.
fn r90_example_in_c(bench: &mut Bench) {
    const EXAMPLE: &str = "/bin/steer-vectors";
    if !Path::new(EXAMPLE).exists() {
        skip!("needs {EXAMPLE}");
    }
    for (file, driver) in [(IN_PLACE, VFIO_PCI), (VFIO_TPH, VFIO_TPH)] {
        let loaded = Loaded::new(file, "");
        for want in Want::TABLES {
            let endpoint = bench.pick(&want);
            let address = endpoint.bdf.to_string();
            endpoint.bdf.bind(driver).expect(driver);
            let mut example = Command::new(EXAMPLE);
            let mut example = Process::start(example.args([&address[..], "0", "3", "1"]));
            assert_eq!(example.line(), "3 vectors steered", "{want:?}");
            assert_eq!(
                endpoint.entries()[..4],
                [st(0), st(3), st(1), 0],
                "{want:?}"
            );
            example.wait();
            endpoint.assert_off("the end of the example");

            // It says which CPU there is not.
            let refused = Command::new(EXAMPLE).args([&address, "1", "63"]).output();
            let refused = refused.expect(EXAMPLE);
            let said = String::from_utf8_lossy(&refused.stderr);
            assert!(!refused.status.success(), "{said}");
            assert!(said.contains("CPU 63: Invalid argument"), "{said}");
            endpoint.bdf.unbind();
        }
        bench.next_round();
        drop(loaded);
    }
    // Under the kernel's the capability is shown, and what is written to it is dropped.
    let _loaded = Loaded::new(VFIO_PCI, "");
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.bdf.bind(VFIO_PCI).expect(VFIO_PCI);
    let address = endpoint.bdf.to_string();
    let refused = Command::new(EXAMPLE).args([&address, "1"]).output();
    let said = refused.expect(EXAMPLE).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("Interrupt Vector mode"), "{said}");
    endpoint.bdf.unbind();
}

fn main() -> ExitCode {
    harness::run(tests![
        r90_beside_one_that_is_built_in,
        r90_beside_one_that_is_loaded,
        r90_alias_and_parameters,
        r90_names,
        r90_both_names_at_once,
        r90_example_in_c,
    ])
}
