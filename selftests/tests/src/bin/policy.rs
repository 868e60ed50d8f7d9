// SPDX-License-Identifier: GPL-2.0-only

//! The administrator's choice of a policy, and what each policy lets a user have.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::rc::Rc;

use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::engine::{Engine, TagFrom};
use tph_selftests::kmsg::KernelLog;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::pci::Bdf;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::{Tag, TlpHint};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, literal, Device, Op, OpenBy, Vectors};
use tph_selftests::{assert_errno, harness, tests, Errno};
use tph_tests::{bound_anew, st, xst, CPU, OTHER_CPU};

const NOBODY: u32 = 65534;

fn bound(bench: &mut Bench, gate: Gate) -> Rc<Endpoint> {
    bound_anew(bench, gate, &Want::TABLE)
}

fn choose(bdf: &Bdf, policy: Policy) -> Result<(), Errno> {
    policy::write(bdf, policy.name().as_bytes())
}

#[track_caller]
fn assert_shows(bdf: &Bdf, policy: Policy) {
    assert_eq!(policy::shown(bdf), format!("{}\n", policy.name()));
}

fn r20_file_of_a_bound_device(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let endpoint = bound(bench, gate);
        let bdf = &endpoint.bdf;
        assert_shows(bdf, Policy::of(gate));
        let metadata = fs::metadata(policy::path(bdf)).expect("tph_policy");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o644);
        assert_eq!((metadata.uid(), metadata.gid()), (0, 0));
        bdf.unbind();
        assert!(!policy::path(bdf).exists(), "without a driver");
        bdf.bind("vfio-pci").expect("vfio-pci");
        assert!(!policy::path(bdf).exists(), "of another driver");
    });
}

/// A device without TPH has the file, too: the policy is the administrator's, whatever the device.
fn r20_device_without_tph(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::NO_TPH);
    bench::bind(&endpoint, Gate::Safe);
    assert_shows(&endpoint.bdf, Policy::IvSt);
    assert_eq!(choose(&endpoint.bdf, Policy::NoSt), Ok(()));
}

/// From each policy to each other one: down, up, and not beyond the gate.
fn r20_order(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let endpoint = bound(bench, gate);
        let bdf = &endpoint.bdf;
        for from in Policy::ALL {
            for to in Policy::ALL {
                if from > Policy::of(gate) {
                    continue;
                }
                assert_eq!(choose(bdf, from), Ok(()), "{gate:?}: {from:?}");
                if to > Policy::of(gate) {
                    assert_eq!(choose(bdf, to), Err(Errno::EPERM), "{from:?} to {to:?}");
                    assert_shows(bdf, from);
                } else {
                    assert_eq!(choose(bdf, to), Ok(()), "{from:?} to {to:?}");
                    assert_shows(bdf, to);
                    let policy = endpoint.open().tph().expect("GET of TPH").policy;
                    assert_eq!(u32::from(policy), to as u32);
                }
            }
        }
    });
}

fn r20_garbage(bench: &mut Bench) {
    let endpoint = bound(bench, Gate::Unsafe);
    let bdf = &endpoint.bdf;
    for text in [
        "\n",
        " ",
        "0",
        "1",
        "3",
        "iv",
        "iv_s",
        "iv_stt",
        "IV_ST",
        " iv_st",
        "iv_st ",
        "iv_st\n\n",
        "iv_st no_st",
        "iv_st\0",
        "literal\nno_st",
        "\0",
    ] {
        let result = policy::write(bdf, text.as_bytes());
        assert_eq!(result, Err(Errno::EINVAL), "{text:?}");
        assert_shows(bdf, Policy::Literal);
    }
    let long = vec![b'a'; 5000];
    assert!(policy::write(bdf, &long).is_err());
    assert_shows(bdf, Policy::Literal);
    // As echo writes it.
    assert_eq!(policy::write(bdf, b"iv_st\n"), Ok(()));
    assert_shows(bdf, Policy::IvSt);
}

/// While a user has the device, by whichever way, the terms stay.
fn r20_busy_while_open(bench: &mut Bench) {
    bench.each([OpenBy::Cdev, OpenBy::Group], |bench, by| {
        let endpoint = bound(bench, Gate::Unsafe);
        let bdf = &endpoint.bdf;
        assert!(by.possible(bdf), "{by:?}");
        let device = endpoint.open_by(by);
        for policy in Policy::ALL {
            assert_eq!(choose(bdf, policy), Err(Errno::EBUSY), "{by:?}: {policy:?}");
            assert_shows(bdf, Policy::Literal);
        }
        assert_eq!(policy::write(bdf, b"garbage"), Err(Errno::EINVAL), "{by:?}");
        drop(device);
        assert_eq!(choose(bdf, Policy::NoSt), Ok(()), "{by:?}, closed");
    });
    // Beyond the gate is beyond the gate.
    let endpoint = bound(bench, Gate::Safe);
    let device = endpoint.open();
    assert_eq!(choose(&endpoint.bdf, Policy::DsSt), Err(Errno::EPERM));
    drop(device);
}

/// Another process of that user writes the file; whether it could.
fn write_as(uid: u32, bdf: &Bdf, policy: Policy) -> bool {
    Command::new("/bin/sh")
        .args(["-c", "printf %s \"$2\" 2>/dev/null >\"$1\"", "sh"])
        .arg(policy::path(bdf))
        .arg(policy.name())
        .uid(uid)
        .gid(uid)
        .status()
        .expect("a shell")
        .success()
}

fn r20_only_root_writes(bench: &mut Bench) {
    let endpoint = bound(bench, Gate::Unsafe);
    let bdf = &endpoint.bdf;
    for policy in Policy::ALL {
        assert!(!write_as(NOBODY, bdf, policy), "{policy:?}");
        assert_shows(bdf, Policy::Literal);
    }
    assert!(write_as(0, bdf, Policy::NoSt), "the same as root");
    assert_shows(bdf, Policy::NoSt);
}

/// A policy goes with the binding, the gate with the load.
fn r16_a_new_bind_starts_at_the_gate(bench: &mut Bench) {
    bench.each(Gate::BOTH, |bench, gate| {
        let endpoint = bound(bench, gate);
        let bdf = &endpoint.bdf;
        assert_eq!(choose(bdf, Policy::NoSt), Ok(()));
        // It stays over users.
        for _ in 0..2 {
            let policy = endpoint.open().tph().expect("GET of TPH").policy;
            assert_eq!(u32::from(policy), VFIO_TPH_POLICY_NO_ST);
        }
        endpoint.bdf.reset().expect("reset through sysfs");
        assert_shows(bdf, Policy::NoSt);
        bdf.unbind();
        bdf.bind("vfio_tph").expect("vfio_tph");
        assert_shows(bdf, Policy::of(gate));
    });
}

const PARAMETER: &str = "tph_policy";

/// Loads the module anew.
fn load(parameters: &str) -> Result<(), Errno> {
    module::remove(VFIO_TPH);
    module::load(VFIO_TPH, parameters)
}

/// The module is not loaded, and the kernel log says why, once.
#[track_caller]
fn assert_refused(parameters: &str, why: &str) {
    let mut log = KernelLog::from_now();
    assert_eq!(load(parameters), Err(Errno::EINVAL), "{parameters:?}");
    assert!(!module::loaded(VFIO_TPH), "{parameters:?}");
    let said = log.until_now();
    let ours: Vec<_> = said
        .iter()
        .filter(|line| line.contains(PARAMETER))
        .collect();
    assert!(
        ours.len() == 1 && ours[0].contains(why),
        "{parameters:?}: {said:?}"
    );
}

/// The name in force with each binding, and never one beyond the gate of the same load.
fn r91_policy_of_the_load(bench: &mut Bench) {
    for gate in Gate::BOTH {
        for policy in Policy::ALL {
            let name = policy.name();
            let parameters = format!("enable_unsafe_tph={} tph_policy={name}", gate.letter());
            if policy > Policy::of(gate) {
                assert_refused(&parameters, "enable_unsafe_tph=Y");
                continue;
            }
            // Which of the two comes first makes no difference.
            let turned = format!("tph_policy={name} enable_unsafe_tph={}", gate.letter());
            bench.each([parameters, turned], |bench, parameters| {
                assert_eq!(load(&parameters), Ok(()), "{parameters}");
                assert_eq!(module::parameter(VFIO_TPH, PARAMETER), name);
                let endpoint = bench.pick(&Want::TABLE);
                let bdf = &endpoint.bdf;
                bdf.bind(VFIO_TPH).expect(VFIO_TPH);
                assert_shows(bdf, policy);
                let given = endpoint.open().tph().expect("GET of TPH").policy;
                assert_eq!(u32::from(given), policy as u32);
                // It is where a device starts, not where it ends.
                for other in Policy::ALL {
                    let expected = match other > Policy::of(gate) {
                        true => Err(Errno::EPERM),
                        false => Ok(()),
                    };
                    assert_eq!(choose(bdf, other), expected, "{policy:?} to {other:?}");
                }
            });
        }
    }
    load("").expect("insmod");
}

/// A manager that binds the device anew at each start.
fn r91_policy_stays_over_binds(bench: &mut Bench) {
    load("enable_unsafe_tph=Y tph_policy=ds_st").expect("insmod");
    let endpoint = bench.pick(&Want::TABLE);
    let bdf = &endpoint.bdf;
    for other in [Policy::NoSt, Policy::Literal, Policy::IvSt] {
        bdf.bind(VFIO_TPH).expect(VFIO_TPH);
        assert_shows(bdf, Policy::DsSt);
        let given = endpoint.open().tph().expect("GET of TPH").policy;
        assert_eq!(u32::from(given), VFIO_TPH_POLICY_DS_ST);
        assert_eq!(choose(bdf, other), Ok(()));
        bdf.unbind();
    }
    load("").expect("insmod");
}

fn r91_names_that_are_none(_bench: &mut Bench) {
    for gate in Gate::BOTH {
        for name in [
            "",
            "IV_ST",
            "iv",
            "iv_stt",
            "1",
            "no_st,iv_st",
            "\"iv_st \"",
            "\"iv_st\n\"",
            "(null)",
        ] {
            let parameters = format!("enable_unsafe_tph={} tph_policy={name}", gate.letter());
            assert_refused(&parameters, "not one of no_st, iv_st, ds_st, literal");
        }
        // Without a value, and with one that is longer than parameters may be, the kernel has
        // its own word to say.
        let long = "i".repeat(1025);
        for parameters in ["tph_policy", &format!("tph_policy={long}")] {
            assert!(load(parameters).is_err(), "{parameters}");
        }
    }
    // As if it had not been there.
    load("").expect("insmod");
    assert_eq!(module::parameter(VFIO_TPH, PARAMETER), "");
}

fn r91_parameter_shows_and_cannot_be_written(_bench: &mut Bench) {
    load("tph_policy=no_st").expect("insmod");
    let path = module::parameter_path(VFIO_TPH, PARAMETER);
    let mode = fs::metadata(&path).expect("metadata").permissions().mode();
    assert_eq!(mode & 0o7777, 0o444, "{mode:o}");
    assert!(fs::write(&path, "literal").is_err());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("chmod");
    let forced = fs::write(&path, "literal");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("chmod");
    assert!(forced.is_err(), "the parameter was written");
    assert_eq!(module::parameter(VFIO_TPH, PARAMETER), "no_st");
    load("").expect("insmod");
}

/// One device's policy is not another's.
fn r20_each_device_has_its_own(bench: &mut Bench) {
    let first = bench.pick(&Want::TABLE);
    let second = bench.pick_with("TPH", |_| true);
    for endpoint in [&first, &second] {
        endpoint.bdf.unbind();
        bench::bind(endpoint, Gate::Safe);
    }
    assert_eq!(choose(&first.bdf, Policy::NoSt), Ok(()));
    assert_shows(&second.bdf, Policy::IvSt);
    assert_eq!(u32::from(second.open().tph().expect("TPH").policy), 1);
}

/// What the contract's table of policies says.
fn r12_what_each_policy_offers(bench: &mut Bench) {
    const NS: u32 = VFIO_TPH_MODE_NS;
    const IV: u32 = VFIO_TPH_MODE_IV;
    const DS: u32 = VFIO_TPH_MODE_DS;
    for want in &Want::TABLES {
        let in_msix = want.in_msix;
        bench.each(Policy::ALL, |bench, policy| {
            let endpoint = bench.pick(want);
            policy::bind(&endpoint, policy);
            let device = endpoint.open();
            let offer = device.tph().expect("GET of TPH");
            let modes = [NS, NS | IV, NS | IV | DS, NS | IV | DS][policy as usize];
            let what = format!("{policy:?}, in MSI-X: {in_msix}: {offer:x?}");
            assert_eq!(u32::from(offer.modes), modes, "{what}");
            assert_eq!(u32::from(offer.policy), policy as u32, "{what}");

            let flag = |bit| offer.flags & bit != 0;
            let tags = policy != Policy::NoSt;
            assert!(flag(VFIO_TPH_FLAG_EXTENDED), "{what}");
            assert_eq!(flag(VFIO_TPH_FLAG_ST), tags, "{what}");
            assert_eq!(flag(VFIO_TPH_FLAG_ST_CAP), tags && !in_msix, "{what}");
            assert_eq!(flag(VFIO_TPH_FLAG_ST_MSIX), tags && in_msix, "{what}");
            let discloses = policy.discloses();
            assert_eq!(flag(VFIO_TPH_FLAG_RESOLVE_ST), discloses, "{what}");
            assert_eq!(
                flag(VFIO_TPH_FLAG_LITERAL),
                policy == Policy::Literal,
                "{what}"
            );
            assert_eq!(offer.st_entries != 0, tags, "{what}");

            let capability = device.tph_capability();
            let bits = [PCI_TPH_CAP_ST_NS, PCI_TPH_CAP_ST_IV, PCI_TPH_CAP_ST_DS];
            let offered: u32 = bits.iter().filter(|&&bit| capability & bit != 0).sum();
            assert_eq!(offered, modes, "{what}: Capability {capability:#x}");
            let probe = |index| device.feature(Op::Probe, index, &mut []);
            let expected = match tags {
                true => Ok(()),
                false => Err(Errno::EOPNOTSUPP),
            };
            assert_eq!(probe(VFIO_DEVICE_FEATURE_TPH), Ok(()), "{what}");
            assert_eq!(probe(VFIO_DEVICE_FEATURE_TPH_ST), expected, "{what}");
            assert_eq!(probe(VFIO_DEVICE_FEATURE_TPH_RESOLVE), Ok(()), "{what}");
            modes_that_can_be_selected(&endpoint, &device, modes);
        });
    }
}

fn modes_that_can_be_selected(endpoint: &Endpoint, device: &Device, modes: u32) {
    for mode in StMode::ALL {
        device.set_control(0);
        let value = control(mode, Requester::Extended);
        device.set_control(value);
        let expected = match modes & (1 << mode as u32) {
            0 => 0,
            _ => value,
        };
        assert_eq!(device.control(), expected, "{mode:?}");
        assert_eq!(endpoint.control(), expected, "{mode:?}");
    }
    device.set_control(0);
}

fn r12_what_each_policy_takes(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        let endpoint = bench.pick(&Want::TABLE);
        policy::bind(&endpoint, policy);
        let device = endpoint.open();
        if policy == Policy::NoSt {
            device.enable(StMode::NoSt, Requester::Extended);
            for source in [cpu(CPU), literal(1)] {
                assert_errno!(device.program(0, &[source]), EOPNOTSUPP);
            }
        } else {
            device.enable(StMode::InterruptVector, Requester::Extended);
            assert_eq!(device.program(0, &[cpu(CPU)]), Ok(()));
            let expected = match policy {
                Policy::Literal => Ok(()),
                _ => Err(Errno::EPERM),
            };
            assert_eq!(device.program(1, &[literal(7)]), expected, "{policy:?}");
        }
    });
}

/// Hints without tags are what no_st leaves, and they work.
fn r20_no_st_still_hints(bench: &mut Bench) {
    const IOVA: u64 = 0x10_0000;
    let endpoint = bench.pick(&Want::TABLE);
    policy::bind(&endpoint, Policy::NoSt);
    let device = endpoint.open();
    let _memory = device.map_dma(1, IOVA).expect("memory for DMA");
    device.enable(StMode::NoSt, Requester::Standard);
    let hint = Engine::new(&device).write(IOVA, 1, 2, TagFrom::Vector(0));
    assert_eq!(hint, Some(TlpHint { ph: 2, tag: None }));
}

/// Device Specific mode: the driver looks a tag up and puts it into its own descriptor, or names an
/// entry of the table there.
fn r18_device_specific_mode_end_to_end(bench: &mut Bench) {
    const IOVA: u64 = 0x10_0000;
    bench.each(&Want::TABLES, |bench, want| {
        let endpoint = bench.pick(want);
        policy::bind(&endpoint, Policy::DsSt);
        let device = endpoint.open();
        let memory = device.map_dma(1, IOVA).expect("memory for DMA");
        let in_msix = want.in_msix;
        let _vectors = in_msix.then(|| Vectors::allocate(&device, 4).expect("SET_IRQS"));

        for (requester, extended) in [(Requester::Standard, false), (Requester::Extended, true)] {
            device.enable(StMode::DeviceSpecific, requester);
            let found = device
                .resolve(&[cpu(CPU), cpu(OTHER_CPU)], extended)
                .expect("TPH_RESOLVE");
            let wire = |tag: u16| match extended {
                false => Tag::St(tag as u8),
                true => Tag::Xst(tag),
            };
            let expected = if extended {
                [xst(CPU), xst(OTHER_CPU)]
            } else {
                [st(CPU), st(OTHER_CPU)]
            };

            let engine = Engine::new(&device);
            for (entry, tag) in found.iter().zip(expected) {
                assert_eq!(entry.st, tag);
                let value = 0xfeed_0000 + u64::from(tag);
                let from = TagFrom::Driver(entry.st);
                let hint = engine.write(IOVA, value, 1, from).expect("a hint");
                assert_eq!((hint.tag, hint.ph), (Some(wire(tag)), 1));
                assert_eq!(memory.pages.read(0, 8), value.to_le_bytes());
            }

            let sources = [cpu(OTHER_CPU), cpu(CPU)];
            let programmed = device.program_in(extended, 1, &sources);
            programmed.expect("TPH_ST");
            for (index, tag) in [(1, expected[1]), (2, expected[0])] {
                let hint = engine.write(IOVA, 5, 3, TagFrom::Entry(index));
                assert_eq!(hint.expect("a hint").tag, Some(wire(tag)), "entry {index}");
            }
            assert_eq!(
                endpoint.control(),
                control(StMode::DeviceSpecific, requester)
            );
            device.enable(StMode::DeviceSpecific, Requester::Disabled);
            let hint = engine.write(IOVA, 5, 3, TagFrom::Entry(1));
            assert_eq!(hint, None, "disabled");
        }
    });
}

fn main() -> ExitCode {
    harness::run(tests![
        r12_what_each_policy_offers,
        r12_what_each_policy_takes,
        r16_a_new_bind_starts_at_the_gate,
        r18_device_specific_mode_end_to_end,
        r20_file_of_a_bound_device,
        r20_device_without_tph,
        r20_order,
        r20_garbage,
        r20_busy_while_open,
        r20_only_root_writes,
        r20_each_device_has_its_own,
        r20_no_st_still_hints,
        r91_policy_of_the_load,
        r91_policy_stays_over_binds,
        r91_names_that_are_none,
        r91_parameter_shows_and_cannot_be_written,
    ])
}
