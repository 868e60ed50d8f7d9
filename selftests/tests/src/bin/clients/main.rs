// SPDX-License-Identifier: GPL-2.0-only

//! Programs that know vfio-pci, as Debian has them: each runs on the kernel's vfio-pci and then on
//! this driver in its place, with the same result. Run by selftests/clients, which gives them to
//! the test VM, and devices that they know.

mod driverctl;
mod guest;
mod libvirt;
mod nvme;
mod root;
mod steer;
mod stock;
mod testpmd;

use std::fmt::Debug;
use std::fs;
use std::process::{Command, ExitCode};

use tph_selftests::bench::{Bench, Want};
use tph_selftests::module::{self, Loaded, IN_PLACE};
use tph_selftests::pci::{self, Bdf};
use tph_selftests::sriov::Supplied;
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::vfio::{cpu, OpenBy};
use tph_selftests::{harness, root_port, skip, tests};
use tph_tests::{st, CPU, OTHER_CPU};

use driverctl::Installed;
use libvirt::Daemon;
use root::{ask, run};
use steer::Steer;
use testpmd::Testpmd;

/// The driver's name, whichever module has it.
const VFIO_PCI: &str = "vfio-pci";
/// ST entries of a capability that a device is supplied with.
const ENTRIES: u16 = 8;
/// What is in the file that a guest reads.
const WORDS: &str = "/given/words";

/// What `body` makes of the kernel's vfio-pci and of this driver in its place is the same.
#[track_caller]
fn same<T: PartialEq + Debug>(body: impl Fn(&str) -> T) -> T {
    let [stock, ours] = [VFIO_PCI, IN_PLACE].map(|file| {
        println!("# {file}.ko:");
        let _loaded = Loaded::new(file, "");
        body(file)
    });
    assert_eq!(ours, stock);
    ours
}

/// QEMU's devices of a kind. The test is left out if there are not as many.
fn devices<const N: usize>(vendor: &str, device: &str, class: &str) -> [Bdf; N] {
    let found = pci::devices(vendor, device, class);
    found
        .try_into()
        .unwrap_or_else(|found| skip!("not {N} devices {vendor}:{device}: {found:?}"))
}

/// Two network ports on one wire.
fn ports() -> [Bdf; 2] {
    devices("0x8086", "0x10c9", "0x02")
}

#[track_caller]
fn bind(bdfs: &[&Bdf]) {
    for bdf in bdfs {
        bdf.bind(VFIO_PCI).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Pages of 2 MiB, as long as this lives.
struct HugePages;

impl HugePages {
    const COUNT: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    fn reserve(count: u32) -> Self {
        let path = Self::COUNT;
        fs::write(path, count.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"));
        let reserved = fs::read_to_string(path).expect(path);
        assert_eq!(reserved.trim(), count.to_string(), "{path}");
        Self
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        // What is left shows in the next test.
        let _ = fs::write(Self::COUNT, "0");
    }
}

/// testpmd moves packets both ways, and knows the same of the ports.
fn r90_testpmd(_: &mut Bench) {
    let [one, other] = ports();
    same(|_| {
        bind(&[&one, &other]);
        let mut testpmd = Testpmd::start("0,1", &[&one, &other], &[]);
        let described = [testpmd.describe(0), testpmd.describe(1)];
        testpmd.ask("start tx_first");
        testpmd.wait_for_packets(2);
        testpmd.ask("stop");
        testpmd.end();
        described
    });
    for bdf in [&one, &other] {
        bdf.unbind();
    }
}

/// It does so on a port that has TPH, and that is steered while packets come through. Whoever
/// steers has the descriptor from testpmd, which knows nothing of it.
fn r90_testpmd_with_tph(_: &mut Bench) {
    let [one, other] = ports();
    let port = one.root_port().expect("a root port");
    root_port::set(&port, root_port::EXTENDED);
    {
        let supplied = Supplied::new(&one, ENTRIES);
        one.rediscover();
        same(|file| {
            bind(&[&one, &other]);
            let mut testpmd = Testpmd::start("0,1", &[&one, &other], &[]);
            let described = [testpmd.describe(0), testpmd.describe(1)];
            testpmd.ask("start tx_first");
            testpmd.wait_for_packets(2);
            let device = testpmd.device(&one);
            if file == IN_PLACE {
                device.enable(StMode::InterruptVector, Requester::Standard);
                device
                    .program(0, &[cpu(CPU), cpu(OTHER_CPU)])
                    .expect("TPH_ST");
                let mut table = vec![0; ENTRIES.into()];
                table[..2].copy_from_slice(&[st(CPU), st(OTHER_CPU)]);
                let on = control(StMode::InterruptVector, Requester::Standard);
                supplied.assert_is(on, &table);
                testpmd.wait_for_packets(2);
                supplied.assert_is(on, &table);
            } else {
                assert!(device.tph().is_err(), "the kernel's vfio-pci offers TPH");
            }
            drop(device);
            testpmd.ask("stop");
            testpmd.end();
            supplied.assert_is(0, &[0; ENTRIES as usize]);
            described
        });
        one.unbind();
        other.unbind();
    }
    one.rediscover();
}

/// Without huge pages it ends, and with more memory than a type 1 container has mappings for.
fn r90_testpmd_without_huge_pages(_: &mut Bench) {
    let [one, _] = ports();
    let address = one.to_string();
    let said = same(|_| {
        bind(&[&one]);
        [&["-m", "96"][..], &["--no-huge", "-m", "512"]].map(|memory| {
            let eal = ["--no-shconf", "--no-telemetry", "-a", &address];
            let (said, succeeded) = run("dpdk-testpmd", &[memory, &eal].concat());
            (said, succeeded)
        })
    });
    for ((said, succeeded), error) in said.iter().zip(["huge", "DMA"]) {
        assert!(!succeeded, "{said}");
        assert!(said.contains(error), "{error}: {said}");
    }
    one.unbind();
}

/// dpdk-devbind.py binds, shows and unbinds.
fn r90_devbind(_: &mut Bench) {
    let [one, other] = ports();
    let address = one.to_string();
    other.unbind();
    let said = same(|_| {
        one.unbind();
        one.clear_override().expect("driver_override");
        let devbind = |arguments: &[&str]| {
            let said = ask("dpdk-devbind.py", arguments);
            (said, one.driver())
        };
        let before = devbind(&["--status-dev", "net"]);
        let bound = devbind(&["-b", VFIO_PCI, &address]);
        let status = devbind(&["--status-dev", "net"]);
        let unbound = devbind(&["-u", &address]);
        [before, bound, status, unbound]
    });
    assert_eq!(said[1].1.as_deref(), Some(VFIO_PCI));
    let status = said[2].0.lines().find(|line| line.contains(&address));
    let status = status.unwrap_or_else(|| panic!("no {address}: {}", said[2].0));
    assert!(status.contains("drv=vfio-pci"), "{status}");
    assert_eq!(said[3].1, None);
}

/// QEMU's own driver for NVMe writes and reads; what was written by the one is read by the other.
fn r90_nvme(_: &mut Bench) {
    let [drive] = devices("0x1b36", "0x0010", "0x01");
    same(|file| {
        bind(&[&drive]);
        // The second time it is this driver's turn to read what was there before.
        let (old, new) = match file {
            IN_PLACE => (0x5a, 0xa5),
            _ => (0, 0x5a),
        };
        nvme::read(&drive, old);
        nvme::write(&drive, new);
        nvme::read(&drive, new);
    });
    drive.unbind();
}

/// QEMU passes devices on to a guest, one by iommufd and one by its group: the guest's kernel
/// drives one that moves data by DMA and has interrupts, and its lspci shows the same of the other
/// one.
fn r90_guest(bench: &mut Bench) {
    // Behind it is a directory of the host, with a file in it. So is this VM's share of a root,
    // which is on the root bus.
    let shares = pci::devices("0x1af4", "0x1049", "");
    let below_a_port = |share: &&Bdf| share.root_port().is_some();
    let Some(share) = shares.iter().find(below_a_port) else {
        skip!("no directory to pass on");
    };
    let plain = bench.pick(&Want::NO_TPH);
    // The VM's emulated IOMMU takes a map operation for each page.
    let _pages = HugePages::reserve(guest::PAGES);
    let given = Command::new("sha256sum").arg(WORDS).output();
    let given = String::from_utf8(given.expect("sha256sum").stdout).expect("a sum");
    let said = same(|_| {
        bind(&[share, &plain.bdf]);
        guest::boot(&[(share, OpenBy::Cdev), (&plain.bdf, OpenBy::Group)])
    });
    let [(_, listed), (_, read), (_, interrupts)] = &said[..] else {
        panic!("{said:?}");
    };
    assert!(listed.contains("MSI-X: "), "{listed}");
    assert_eq!(
        read.split_whitespace().next(),
        given.split_whitespace().next()
    );
    assert_eq!(interrupts.trim(), "1", "{said:?}");
    share.unbind();
    share.clear_override().expect("driver_override");
}

/// The kernel's own selftests of vfio, with their own setup script.
fn r90_kernel_selftests(_: &mut Bench) {
    let _pages = HugePages::reserve(8);
    let [edu] = devices("0x1234", "0x11e8", "");
    let [one, _] = ports();
    for (bdf, programs) in [
        (&edu, &stock::EVERY_DEVICE[..]),
        (&one, &stock::VIRTUAL_FUNCTIONS[..]),
    ] {
        let results = same(|_| {
            // Neither makes virtual functions unless told so.
            module::enable_sriov(VFIO_PCI, true);
            stock::run_with_setup(bdf, programs)
        });
        let passed = results
            .iter()
            .filter(|line| line.starts_with("ok "))
            .count();
        assert!(passed > 0, "{results:?}");
    }
}

/// driverctl binds a device, by the module that modprobe prefers, and so does the next boot.
fn r90_driverctl(_: &mut Bench) {
    let [one, _] = ports();
    let address = one.to_string();
    let [stock, ours] = [VFIO_PCI, IN_PLACE].map(|file| {
        println!("# {file}.ko:");
        let _installed = Installed::new(file);
        let before = ask("driverctl", &["set-override", &address, VFIO_PCI]);
        let is_ours = || module::parameter_path("vfio_pci", "enable_unsafe_tph").exists();
        let now = (one.driver(), is_ours());
        driverctl::boot(&one);
        let then = (one.driver(), is_ours());
        assert_eq!(now, then);
        assert_eq!(now.1, file == IN_PLACE);
        let listed = ask("driverctl", &["list-overrides"]);
        ask("driverctl", &["unset-override", &address]);
        one.unbind();
        (before, now.0, listed, ask("driverctl", &["list-persisted"]))
    });
    assert_eq!(ours, stock);
    assert_eq!(ours.1.as_deref(), Some(VFIO_PCI));
    assert!(
        ours.2.contains(&format!("{address} {VFIO_PCI}")),
        "{ours:?}"
    );
}

/// libvirt's daemon gives a device to vfio-pci, by the module that modprobe prefers, and takes it
/// back.
fn r90_libvirt(_: &mut Bench) {
    let [one, _] = ports();
    one.unbind();
    one.clear_override().expect("driver_override");
    let daemon = Daemon::start();
    let [stock, ours] = [VFIO_PCI, IN_PLACE].map(|file| {
        println!("# {file}.ko:");
        let _installed = Installed::new(file);
        let detached = (daemon.detach(&one), one.driver());
        let is_ours = module::parameter_path("vfio_pci", "enable_unsafe_tph").exists();
        assert_eq!(is_ours, file == IN_PLACE);
        let reattached = (daemon.reattach(&one), one.driver());
        [detached, reattached]
    });
    assert_eq!(ours, stock);
    assert_eq!(ours[0].1.as_deref(), Some(VFIO_PCI));
    assert_eq!(ours[1].1, None);
}

/// What the ST table of a port holds whose queues are polled by these lcores' CPUs.
fn steered(cpus: &[u32]) -> Vec<u16> {
    let mut table = vec![0; ENTRIES.into()];
    for (queue, &number) in cpus.iter().enumerate() {
        // The first vector is no queue's.
        table[queue + 1] = st(number);
    }
    table
}

/// examples/dpdk steers the vector of each receive queue to the lcore that polls it: at its start,
/// when it moves one, and after a reset, all of it while packets of many flows come in from the
/// other port. The tags are the firmware's.
fn r90_examples_dpdk(_: &mut Bench) {
    let [one, other] = ports();
    let port = one.root_port().expect("a root port");
    root_port::set(&port, root_port::EXTENDED);
    {
        let supplied = Supplied::new(&one, ENTRIES);
        one.rediscover();
        {
            let _loaded = Loaded::new(VFIO_PCI, "");
            bind(&[&one]);
            let said = steer::refused("0,1,3", &one);
            assert!(
                said.contains("no steering: Operation not permitted"),
                "{said}"
            );
            one.unbind();
        }

        let _loaded = Loaded::new(IN_PLACE, "");
        bind(&[&one, &other]);
        let mut sender = Testpmd::start("0,2", &[&other], &["--forward-mode=flowgen"]);
        sender.ask("start");
        let mut steer = Steer::start("0,1,3", &one);
        let on = control(StMode::InterruptVector, Requester::Standard);
        let polled_by = |steer: &mut Steer, lcores: [u32; 2]| {
            supplied.assert_is(on, &steered(&lcores));
            steer.wait_for_packets(&lcores);
            supplied.assert_is(on, &steered(&lcores));
        };
        let mut lcores = [1, 3];
        polled_by(&mut steer, lcores);
        for round in 0..2 {
            for (queue, lcore) in [(0, 3), (1, 1), (0, 1), (0, 3), (1, 3), (0, 1)] {
                assert_eq!(steer.tell(&format!("move {queue} {lcore}")), "done");
                lcores[queue] = lcore;
                polled_by(&mut steer, lcores);
            }
            for bad in ["move 2 1", "move 0 2", "move 0 0"] {
                assert_eq!(steer.tell(bad), "Invalid argument", "{bad}");
            }
            polled_by(&mut steer, lcores);
            if round == 0 {
                assert_eq!(steer.tell("reset"), "done");
                polled_by(&mut steer, lcores);
            }
        }
        let received: u64 = steer.show().queues.iter().sum();
        let sent = sender.sent(0);
        println!("# {received} packets received, {sent} sent");
        assert!(received <= sent);
        steer.end();
        supplied.assert_is(0, &[0; ENTRIES as usize]);
        sender.ask("stop");
        sender.end();
        one.unbind();
        other.unbind();
    }
    one.rediscover();
}

fn main() -> ExitCode {
    harness::run(tests![
        r90_testpmd,
        r90_testpmd_with_tph,
        r90_testpmd_without_huge_pages,
        r90_devbind,
        r90_nvme,
        r90_guest,
        r90_kernel_selftests,
        r90_driverctl,
        r90_libvirt,
        r90_examples_dpdk,
    ])
}
