// SPDX-License-Identifier: GPL-2.0-only

//! Two devices that are alike, one driven by vfio-pci and one by vfio_tph: whatever is done to both
//! comes to the same.
//!
//! Operations are random, but the same for the same `--seed`.

mod operation;
mod side;

use std::ops::Range;
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use clap::Args;
use fastrand::Rng;
use operation::Operation;
use side::{Outcome, Side};
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::module::Gate;
use tph_selftests::msix::capability;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::Op;
use tph_selftests::{assert_errno, harness, root_port, skip, tests};
use tph_tests::needs_tph;
use vfio_bindings::bindings::vfio::VFIO_PCI_CONFIG_REGION_INDEX;

/// How much, and from where.
#[derive(Args, Clone, Debug)]
struct Scale {
    /// Number of operations
    #[arg(long, default_value_t = 10_000)]
    operations: u64,
    /// Seed of their choice
    #[arg(long, default_value_t = 66)]
    seed: u64,
}

static SCALE: OnceLock<Scale> = OnceLock::new();

/// Operations after which all of config space is compared.
const BETWEEN_LOOKS: u64 = 500;

/// Where config space differs because TPH is hidden.
struct Hidden {
    /// The capability.
    capability: Range<usize>,
    /// The header before it, whose Next Capability Offset differs.
    before: Option<usize>,
}

impl Hidden {
    /// Makes alike what differs, in bytes of config space from `offset` on.
    fn cover(&self, offset: usize, bytes: &mut [u8]) {
        for (at, byte) in (offset..).zip(bytes) {
            if self.capability.contains(&at) {
                *byte = 0;
            }
            if let Some(before) = self.before {
                // Bits 31:20.
                match at.wrapping_sub(before) {
                    2 => *byte &= 0x0f,
                    3 => *byte = 0,
                    _ => (),
                }
            }
        }
    }
}

/// What is compared of an outcome.
fn compared(operation: &Operation, mut outcome: Outcome, hidden: Option<&Hidden>) -> Outcome {
    if let (Some(hidden), &Operation::Read { region, offset, .. }) = (hidden, operation) {
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            hidden.cover(offset as usize, &mut outcome.data.0);
        }
    }
    outcome
}

/// Does the same to both. Fails the test at the first difference.
fn drive(ours: &Side, stock: &Side, hidden: Option<&Hidden>) {
    let Scale { operations, seed } = SCALE.get().expect("arguments").clone();
    println!("# {operations} operations, seed {seed}");
    let started = Instant::now();
    let power = capability(&ours.endpoint.bdf.config(), PCI_CAP_ID_PM)
        .unwrap_or_else(|| skip!("needs a power management capability"));
    let mut rng = Rng::with_seed(seed);
    let mut last = String::new();
    for number in 0..operations {
        if number % BETWEEN_LOOKS == 0 {
            let spaces = [ours, stock].map(|side| {
                let mut bytes = side.config_space();
                if let Some(hidden) = hidden {
                    hidden.cover(0, &mut bytes);
                }
                bytes
            });
            for (offset, (ours, stock)) in spaces[0].iter().zip(&spaces[1]).enumerate() {
                assert_eq!(
                    ours, stock,
                    "seed {seed}, before operation {number}: config space at {offset:#x}"
                );
            }
        }
        let operation = Operation::random(&mut rng, power);
        let [ours, stock] =
            [ours, stock].map(|side| compared(&operation, side.apply(&operation), hidden));
        assert!(
            ours == stock,
            "seed {seed}, operation {number}: {operation:x?}\nours:  {ours:x?}\nstock: {stock:x?}\nbefore: {last}"
        );
        last = format!("{operation:x?}: {:?}", stock.result);
    }
    println!("# {} s", started.elapsed().as_secs());
}

/// What they did wrong, if anything, is the user's doing: the same on both.
fn assert_same_mistakes(ours: &Side, stock: &Side) {
    let [ours, stock] = [ours, stock].map(|side| {
        let violations = side.endpoint.violations();
        side.endpoint.clear_violations();
        let kinds: Vec<_> = violations.into_iter().map(|it| it.kind).collect();
        kinds
    });
    assert_eq!(ours, stock, "violations");
}

fn r66_same_results_without_tph(bench: &mut Bench) {
    let (ours, stock) = (bench.pick(&Want::NO_TPH), bench.pick(&Want::NO_TPH));
    bench::bind(&ours, Gate::Safe);
    stock.bdf.bind("vfio-pci").expect("vfio-pci");
    let (ours, stock) = (Side::open(ours), Side::open(stock));
    drive(&ours, &stock, None);
    assert_same_mistakes(&ours, &stock);
}

/// TPH that is not usable: the same but for the capability itself.
fn r66_same_results_with_tph_hidden(bench: &mut Bench) {
    needs_tph();
    let (ours, stock) = (bench.pick(&Want::TABLE), bench.pick(&Want::TABLE));
    stock.bdf.bind("vfio-pci").expect("vfio-pci");
    bench::bind(&ours, Gate::Safe);
    ours.set_root_port(root_port::NONE);

    let device = stock.open();
    let chain = device.chain();
    let place = chain
        .iter()
        .position(|link| u32::from(link.id) == PCI_EXT_CAP_ID_TPH)
        .expect("a TPH capability");
    let start = usize::from(chain[place].offset);
    let length = PCI_TPH_BASE_SIZEOF as usize + 2 * stock.entries().len();
    let hidden = Hidden {
        capability: start..start + length,
        before: place
            .checked_sub(1)
            .map(|before| chain[before].offset.into()),
    };
    drop(device);

    let (ours, stock) = (Side::open(ours), Side::open(stock));
    drive(&ours, &stock, Some(&hidden));
    assert_same_mistakes(&ours, &stock);
}

/// The features that the operations above leave out, since vfio-pci does not have them.
fn r66_the_features_that_differ(bench: &mut Bench) {
    let (ours, stock) = (bench.pick(&Want::NO_TPH), bench.pick(&Want::NO_TPH));
    bench::bind(&ours, Gate::Safe);
    stock.bdf.bind("vfio-pci").expect("vfio-pci");
    let (ours, stock) = (ours.open(), stock.open());
    for index in VFIO_DEVICE_FEATURE_TPH..=VFIO_DEVICE_FEATURE_TPH_MAP {
        assert_errno!(stock.feature(Op::Probe, index, &mut []), ENOTTY);
        assert_errno!(ours.feature(Op::Probe, index, &mut []), EOPNOTSUPP);
    }
}

fn main() -> ExitCode {
    harness::run_with(
        tests![
            r66_same_results_without_tph,
            r66_same_results_with_tph_hidden,
            r66_the_features_that_differ,
        ],
        |scale: Scale| SCALE.set(scale).expect("set once"),
    )
}
