// SPDX-License-Identifier: GPL-2.0-only

//! The module parameter `enable_unsafe_tph` and what it keeps a user from.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::harness;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::literal;
use tph_selftests::{assert_errno, errno, tests, Errno};
use tph_tests::{enabled, fill, opened, st, xst, CPU};

const PARAMETER: &str = "enable_unsafe_tph";

fn r15_default_is_n(_bench: &mut Bench) {
    module::remove(VFIO_TPH);
    module::load(VFIO_TPH, "").expect("insmod without parameters");
    assert_eq!(module::parameter(VFIO_TPH, PARAMETER), "N");
}

fn r15_parameter_shows_in_sysfs(_bench: &mut Bench) {
    for gate in Gate::BOTH {
        gate.load();
        assert_eq!(module::parameter(VFIO_TPH, PARAMETER), gate.letter());
        let path = module::parameter_path(VFIO_TPH, PARAMETER);
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o7777, 0o444, "{mode:o}");
    }
}

fn r15_parameter_cannot_be_written(_bench: &mut Bench) {
    for gate in Gate::BOTH {
        gate.load();
        let path = module::parameter_path(VFIO_TPH, PARAMETER);
        let error = OpenOptions::new()
            .write(true)
            .open(&path)
            .expect_err("a parameter that can be written");
        let error = errno(error);
        assert!(matches!(error, Errno::EACCES | Errno::EPERM), "{error}");
        assert_eq!(module::parameter(VFIO_TPH, PARAMETER), gate.letter());
    }
}

fn r15_bad_value_is_refused(_bench: &mut Bench) {
    module::remove(VFIO_TPH);
    for value in ["maybe", "2", "-1", ""] {
        assert_errno!(
            module::load(VFIO_TPH, &format!("{PARAMETER}={value}")),
            EINVAL,
            "{PARAMETER}={value}"
        );
        assert!(!module::loaded(VFIO_TPH), "{PARAMETER}={value}");
    }
}

/// Root can give itself the permission, and yet there is nothing behind it.
fn r15_parameter_cannot_be_forced(_bench: &mut Bench) {
    Gate::Safe.load();
    let path = module::parameter_path(VFIO_TPH, PARAMETER);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    let forced = fs::write(&path, "Y");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("chmod");
    assert!(forced.is_err(), "the parameter was written");
    assert_eq!(module::parameter(VFIO_TPH, PARAMETER), "N");
}

fn r16_a_later_load_changes_nothing(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Gate::Safe);
    // The module stays as long as a device is open, and is there once.
    assert_errno!(module::unload(VFIO_TPH), EAGAIN);
    assert_errno!(module::load(VFIO_TPH, &format!("{PARAMETER}=Y")), EEXIST);
    assert_eq!(module::parameter(VFIO_TPH, PARAMETER), "N");
    let policy = u32::from(device.tph().expect("GET of TPH").policy);
    assert_eq!(policy, VFIO_TPH_POLICY_IV_ST);
}

fn r16_each_bind_reads_the_gate_anew(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    for (gate, policy) in [
        (Gate::Safe, VFIO_TPH_POLICY_IV_ST),
        (Gate::Unsafe, VFIO_TPH_POLICY_LITERAL),
        (Gate::Safe, VFIO_TPH_POLICY_IV_ST),
    ] {
        bench::bind(&endpoint, gate);
        let offer = endpoint.open().tph().expect("GET of TPH");
        assert_eq!(u32::from(offer.policy), policy, "{gate:?}");
        let discloses = policy == VFIO_TPH_POLICY_LITERAL;
        for flag in [VFIO_TPH_FLAG_LITERAL, VFIO_TPH_FLAG_RESOLVE_ST] {
            assert_eq!(offer.flags & flag != 0, discloses, "{gate:?}: {offer:x?}");
        }
    }
}

fn r17_literal_below_policy_3(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Safe, Requester::Extended);
    let before = fill(&endpoint, &device);
    endpoint.reset_counters();
    // One errno for all values, firmware's own among them: none can be told from another.
    for value in 0..=0xff {
        assert_errno!(device.program(0, &[literal(value)]), EPERM, "{value:#x}");
    }
    for value in (0..=0xffff).step_by(0x11).chain([u32::from(xst(CPU))]) {
        assert_errno!(
            device.program_extended(0, &[literal(value)]),
            EPERM,
            "{value:#x}"
        );
    }
    assert_eq!(endpoint.counters().config_write, 0);
    assert_eq!(endpoint.entries(), before);
}

fn r17_literal_at_policy_3(bench: &mut Bench) {
    let (endpoint, device) = enabled(bench, Gate::Unsafe, Requester::Extended);
    for value in [0, 1, u32::from(st(CPU)), 0xff] {
        device.program(0, &[literal(value)]).expect("LITERAL");
        assert_eq!(u32::from(endpoint.entries()[0]), value);
    }
    for value in [0, 1, 0xff, 0x100, u32::from(xst(CPU)), 0xffff] {
        device
            .program_extended(0, &[literal(value)])
            .expect("LITERAL");
        assert_eq!(u32::from(endpoint.entries()[0]), value);
    }
    let before = endpoint.entries();
    for value in [0x100, 0xffff, 0x1_0000, u32::MAX] {
        assert_errno!(device.program(0, &[literal(value)]), EINVAL, "{value:#x}");
    }
    for value in [0x1_0000, 0x1_00ff, u32::MAX] {
        assert_errno!(
            device.program_extended(0, &[literal(value)]),
            EINVAL,
            "{value:#x}"
        );
    }
    assert_eq!(endpoint.entries(), before);
}

fn r18_device_specific_mode_is_not_offered(bench: &mut Bench) {
    let (_endpoint, device) = opened(bench, Gate::Safe);
    assert_eq!(device.tph_capability() & PCI_TPH_CAP_ST_DS, 0);
    let modes = u32::from(device.tph().expect("GET of TPH").modes);
    assert_eq!(modes, VFIO_TPH_MODE_NS | VFIO_TPH_MODE_IV);
}

/// Every value of every byte and every pair of bytes, from each state that Control can be in.
fn r18_device_specific_mode_cannot_be_selected(bench: &mut Bench) {
    let (endpoint, device) = opened(bench, Gate::Safe);
    let at = device.tph_offset() + PCI_TPH_CTRL as u16;
    let mark = endpoint.mark();
    let starts = [
        control(StMode::NoSt, Requester::Disabled),
        control(StMode::InterruptVector, Requester::Disabled),
        control(StMode::InterruptVector, Requester::Standard),
        control(StMode::InterruptVector, Requester::Extended),
        control(StMode::NoSt, Requester::Extended),
    ];
    let selected = |what: &str| {
        let mode = device.control() & PCI_TPH_CTRL_MODE_SEL_MASK;
        assert!(
            mode <= StMode::InterruptVector as u32,
            "{what}: mode {mode}"
        );
    };
    for start in starts {
        device.set_control(start);
        for byte in 0..4 {
            for value in 0..=0xff {
                device.set_config(at + byte, &[value]);
                selected(&format!("byte {byte} from {start:#x}: {value:#x}"));
            }
            device.set_control(start);
        }
        // As words and dwords: what bits 2:0 and 9:8 can be, the others 0 or 1.
        for reserved in [0u32, 0xffff_fcf8] {
            for significant in 0..32 {
                let value = (significant & 7) | (significant >> 3 << 8) | reserved;
                device.set_config(at, &(value as u16).to_le_bytes());
                selected(&format!("word from {start:#x}: {value:#x}"));
                device.set_config(at, &value.to_le_bytes());
                selected(&format!("dword from {start:#x}: {value:#x}"));
            }
        }
    }
    // The register itself, not what is read of it.
    let at = u64::from(at);
    for write in endpoint.config_writes(mark, at..at + 4) {
        let mode = write.2 as u32 & PCI_TPH_CTRL_MODE_SEL_MASK;
        let known = mode <= StMode::InterruptVector as u32;
        assert!(write.0 == at && known, "{write:x?}");
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r15_default_is_n,
        r15_parameter_shows_in_sysfs,
        r15_parameter_cannot_be_written,
        r15_bad_value_is_refused,
        r15_parameter_cannot_be_forced,
        r16_a_later_load_changes_nothing,
        r16_each_bind_reads_the_gate_anew,
        r17_literal_below_policy_3,
        r17_literal_at_policy_3,
        r18_device_specific_mode_is_not_offered,
        r18_device_specific_mode_cannot_be_selected,
    ])
}
