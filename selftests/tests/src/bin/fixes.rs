// SPDX-License-Identifier: GPL-2.0-only

//! Defects of the kernel that kernel/patches/fixes mends, under drivers that know nothing of
//! vfio_tph: vfio-pci, and those that the test modules stand in for. Each test is of one patch,
//! which Documentation/kernel.rst names, with what was seen to fail without it; a kernel without
//! any of them is not asked, unless `TPH_FIXES` is in the environment: there the tests can be seen
//! to fail. What vfio_tph itself does about them is tested elsewhere.

use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use tph_selftests::bench::{Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::kmsg::KernelLog;
use tph_selftests::monitor::meanwhile;
use tph_selftests::pci::Bdf;
use tph_selftests::protocol::Access;
use tph_selftests::tph::{self, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::{harness, kernel, kstate, module, root_port, skip, tests, Errno};
use tph_tests::needs_tph;

/// What vfio-pci-core says of a byte that is in two capabilities.
const CONFLICT: &str = "PCI config conflict @0x";

fn needs_fixes() {
    if !kernel::is_patched() && env::var_os("TPH_FIXES").is_none() {
        skip!("the kernel has none of kernel/patches/fixes");
    }
}

/// Has vfio-pci open a device whose capabilities reach past the end of config space, and fails the
/// test if it looked at bytes behind the end of its map of it: memory of somebody else, which it
/// would write next.
fn open_within(endpoint: &Endpoint, size: usize, what: &str) {
    endpoint.bdf.rediscover();
    endpoint.bdf.bind("vfio-pci").expect("bind");
    let mut log = KernelLog::from_now();
    let device = endpoint.open();
    assert_eq!(device.config_space().len(), size, "{what}");
    drop(device);
    for line in log.until_now() {
        let Some((_, rest)) = line.split_once(CONFLICT) else {
            continue;
        };
        let digits = rest.split(',').next().expect("more than nothing");
        let at = usize::from_str_radix(digits, 16).unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(at < size, "{what}: {line}");
    }
    endpoint.bdf.unbind();
}

/// "vfio/pci: Bound capabilities by the size of config space": extended ones.
fn extended_capability_past_the_end(bench: &mut Bench) {
    const AT: u16 = 0xf00;
    needs_fixes();
    let endpoint = bench.pick(&Want::TABLE);
    let first = endpoint.bdf.config().dword(PCI_CFG_SPACE_SIZE as u16) & 0xf_ffff;
    endpoint.lie(PCI_CFG_SPACE_SIZE as u16, first | (u32::from(AT) << 20));
    endpoint.lie(AT, PCI_EXT_CAP_ID_TPH | (1 << 16));
    endpoint.lie(
        AT + PCI_TPH_CAP as u16,
        PCI_TPH_CAP_ST_IV | PCI_TPH_LOC_CAP | PCI_TPH_CAP_ST_MASK,
    );
    open_within(
        &endpoint,
        PCI_CFG_SPACE_EXP_SIZE as usize,
        "2048 ST entries",
    );
}

/// "vfio/pci: Refuse misaligned ioeventfds". Signalling one that is taken would oops on arm64.
fn misaligned_ioeventfd(bench: &mut Bench) {
    const BAR2: u32 = 2;
    needs_fixes();
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.bdf.bind("vfio-pci").expect("bind");
    let device = endpoint.open();
    let event = EventFd::new().expect("eventfd");
    for offset in 0..8 {
        let taken = device.ioeventfd(BAR2, offset, 0, event.as_raw_fd());
        let wanted = match offset % 4 {
            0 => Ok(()),
            _ => Err(Errno::EINVAL),
        };
        assert_eq!(taken, wanted, "a dword at {offset}");
    }
    drop(device);
    endpoint.bdf.unbind();
}

/// "PCI/TPH: Save and restore what the buffer holds".
fn table_longer_than_the_save_buffer(bench: &mut Bench) {
    needs_fixes();
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.bdf.unbind();
    let offset = endpoint.tph().offset;
    let entries = endpoint.entries().len() as u16;
    let mode = StMode::InterruptVector;
    kstate::enable(&endpoint.bdf, mode as u8).expect("pcie_enable_tph()");
    let behind = u64::from(tph::entry_offset(offset, entries));
    let claimed = behind..u64::from(tph::entry_offset(offset, 2 * entries));
    let capability = endpoint.bdf.config().dword(offset + PCI_TPH_CAP as u16);
    let size = u32::from(2 * entries - 1) << PCI_TPH_CAP_ST_MASK.trailing_zeros();
    endpoint.lie(
        offset + PCI_TPH_CAP as u16,
        capability & !PCI_TPH_CAP_ST_MASK | size,
    );

    let mark = endpoint.mark();
    endpoint.bdf.reset().expect("a reset");
    let log = endpoint.log_after(mark);
    let of_table = |access: &Access, table: &std::ops::Range<u64>| match access {
        Access::ConfigRead { offset, .. } | Access::ConfigWrite { offset, .. } => {
            table.contains(offset)
        }
        _ => false,
    };
    let own = u64::from(tph::entry_offset(offset, 0))..behind;
    assert!(log.iter().any(|entry| of_table(&entry.access, &own)));
    let further = log.iter().find(|entry| of_table(&entry.access, &claimed));
    assert_eq!(further, None, "an entry that there is no room for");
    kstate::disable(&endpoint.bdf).expect("pcie_disable_tph()");
    // The PCI core restores Control first, and then the table.
    endpoint.clear_violations();
}

/// "PCI/TPH: Give tph_enabled a byte of its own".
fn two_write_bits_of_a_device(bench: &mut Bench) {
    const ROUNDS: usize = 300;
    const AT_ONCE: Duration = Duration::from_millis(50);
    needs_fixes();
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.bdf.unbind();
    let bdf = &endpoint.bdf;
    let toggle = || {
        let toggled = kstate::toggle_neighbour(bdf, AT_ONCE);
        toggled.expect("the bit beside it is what was written last");
    };
    let lost = meanwhile(toggle, || {
        (0..ROUNDS).find(|_| {
            let on = kstate::enable(bdf, StMode::InterruptVector as u8);
            let on = on.is_ok_and(|state| state.tph_enabled);
            let off = kstate::disable(bdf).expect("pcie_disable_tph()");
            !on || off.tph_enabled
        })
    });
    assert_eq!(lost, None, "tph_enabled is not what was written last");
}

/// "PCI/TPH: Take a reserved completer type for none".
fn reserved_completer_type(bench: &mut Bench) {
    needs_fixes();
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    endpoint.bdf.unbind();
    endpoint.set_root_port(root_port::RESERVED);
    let enabled = kstate::enable(&endpoint.bdf, StMode::InterruptVector as u8);
    let error = enabled.expect_err("TPH below a root port that supports none");
    assert_eq!(error.raw_os_error(), Some(Errno::EINVAL as i32));
    assert_eq!(endpoint.control(), 0);
    // It has failed half way: the PCI core keeps a mode, until TPH was enabled and disabled.
    endpoint.set_root_port(root_port::EXTENDED);
    kstate::enable(&endpoint.bdf, StMode::InterruptVector as u8).expect("pcie_enable_tph()");
    kstate::disable(&endpoint.bdf).expect("pcie_disable_tph()");
}

/// A device that a driver in the kernel has, with TPH enabled and interrupts allocated.
struct Driven(Bdf);

impl Driven {
    fn new(endpoint: &Endpoint, vectors: u16) -> Self {
        const MODULE: &str = "tph_peer";
        module::ensure(MODULE);
        endpoint.bdf.bind(MODULE).expect("bind");
        let driven = Self(endpoint.bdf.clone());
        // In this order: allocating vectors clears what tags there are.
        driven
            .ask(&format!("vectors {vectors}"))
            .expect("pci_alloc_irq_vectors()");
        driven.ask("enable 1").expect("pcie_enable_tph()");
        driven
    }

    /// Has the driver do something; the module says what there is.
    fn ask(&self, request: &str) -> io::Result<()> {
        const RUN: &str = "/sys/kernel/debug/tph_peer/run";
        let mut file = OpenOptions::new().read(true).write(true).open(RUN)?;
        file.write_all(format!("{} {request}", self.0).as_bytes())
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.unbind();
    }
}

/// Two devices with the table in MSI-X, the same driver and two vectors each.
fn pick_two(bench: &mut Bench) -> [std::rc::Rc<Endpoint>; 2] {
    ["one", "other"].map(|name| {
        if !tph_selftests::bench::in_test_vm() {
            skip!("two emulated devices are needed");
        }
        bench.named(name)
    })
}

/// "PCI/MSI: Look up the vector of a TPH tag under the lock".
fn tag_of_an_interrupt_that_is_freed(bench: &mut Bench) {
    needs_fixes();
    needs_tph();
    let [one, other] = pick_two(bench);
    let (driven, neighbour) = (Driven::new(&one, 2), Driven::new(&other, 2));
    let before = other.entries();
    // Whether it is refused or done, it must not be done to the other device.
    driven
        .ask(&format!("stale 1 {} 0x5a", neighbour.0))
        .or_else(|error| match error.raw_os_error() {
            Some(errno) if errno == Errno::ENXIO as i32 => Ok(()),
            _ => Err(error),
        })
        .expect("pcie_tph_set_st_entry()");
    assert_eq!(other.entries(), before, "the table of the other device");
    driven.ask("set 1 1 7").expect("pcie_tph_set_st_entry()");
    assert_eq!(one.entries()[1], 7);
}

/// "PCI/MSI: Refuse TPH tags of vectors that cannot be masked".
fn tag_of_a_vector_that_cannot_be_masked(bench: &mut Bench) {
    needs_fixes();
    needs_tph();
    let [one, _] = pick_two(bench);
    let driven = Driven::new(&one, 2);
    driven.ask("set 0 2 7").expect("pcie_tph_set_st_entry()");
    driven.ask("unmaskable 1").expect("a vector");
    let error = driven
        .ask("set 1 1 8")
        .expect_err("success, and the tag is nowhere");
    assert_eq!(error.raw_os_error(), Some(Errno::EOPNOTSUPP as i32));
    assert_eq!(one.entries()[..2], [7, 7]);
    // What the device may use is not what was asked for.
    assert_eq!(one.control(), 0);
}

fn main() -> ExitCode {
    harness::run(tests![
        extended_capability_past_the_end,
        misaligned_ioeventfd,
        table_longer_than_the_save_buffer,
        two_write_bits_of_a_device,
        reserved_completer_type,
        tag_of_an_interrupt_that_is_freed,
        tag_of_a_vector_that_cannot_be_masked,
    ])
}
