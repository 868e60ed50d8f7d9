// SPDX-License-Identifier: GPL-2.0-only

//! An open device of a certain kind, for what must hold of each kind: with its table in the
//! capability or in MSI-X, and such as keep their state in D3hot or lose it.

use std::rc::Rc;
use std::sync::Arc;

use tph_selftests::bench::Bench;
use tph_selftests::endpoint::{Endpoint, Registers};
use tph_selftests::monitor::wait_until;
use tph_selftests::msix::Traits;
use tph_selftests::policy::{self, Policy};
use tph_selftests::tph::{control, entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::PCI_TPH_CTRL_REQ_EN_MASK;
use tph_selftests::vfio::{cpu, Device, Source, Vectors};
use tph_selftests::Errno;

use crate::{mask_and_unmask, raise_all, st, xst, CPU, OTHER_CPU};

/// PowerState of a device that is awake.
pub const D0: u16 = 0;
/// PowerState of one that sleeps.
pub const D3HOT: u16 = 3;
/// Entries that a bed programs, and vectors that it allocates.
pub const ENTRIES: u16 = 4;

/// A kind of device.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its table is in MSI-X.
    pub in_msix: bool,
    /// Its state is lost in D3hot.
    pub loses_state: bool,
}

/// All of them.
pub const KINDS: [Kind; 4] = [
    Kind {
        in_msix: false,
        loses_state: false,
    },
    Kind {
        in_msix: false,
        loses_state: true,
    },
    Kind {
        in_msix: true,
        loses_state: false,
    },
    Kind {
        in_msix: true,
        loses_state: true,
    },
];

/// Control as it can stand; the table has tags in every case.
pub const STATES: [(StMode, Requester); 7] = [
    (StMode::InterruptVector, Requester::Standard),
    (StMode::InterruptVector, Requester::Extended),
    (StMode::DeviceSpecific, Requester::Extended),
    (StMode::NoSt, Requester::Standard),
    (StMode::InterruptVector, Requester::Disabled),
    (StMode::DeviceSpecific, Requester::Disabled),
    (StMode::NoSt, Requester::Disabled),
];

/// The states in which a device of that policy can be.
pub fn states(policy: Policy) -> impl Iterator<Item = (StMode, Requester)> {
    let offered = move |mode| mode != StMode::DeviceSpecific || policy.discloses();
    STATES.into_iter().filter(move |(mode, _)| offered(*mode))
}

/// An open device, with vectors if that is where its table is.
pub struct Bed {
    /// The hardware.
    pub endpoint: Rc<Endpoint>,
    /// The user's side of it.
    pub device: Arc<Device>,
    /// Its vectors, if its table is in MSI-X.
    pub vectors: Option<Vectors>,
    /// Its kind.
    pub kind: Kind,
}

/// All that can be told of a device.
#[derive(Debug, PartialEq, Eq)]
pub struct InForce {
    /// What hardware holds.
    pub registers: Registers,
    /// What the PCI core believes: enabled, mode, type.
    pub kernel: (bool, u8, u8),
    /// Control as the user sees it.
    pub seen_control: u32,
    /// The entries in the capability that the user sees.
    pub seen_entries: Vec<u16>,
}

impl Kind {
    /// The kind of a device.
    pub fn of(endpoint: &Endpoint) -> Self {
        let traits = Traits::of(&endpoint.bdf).expect("a device with TPH");
        Self {
            in_msix: traits.in_msix,
            loses_state: !traits.no_soft_reset,
        }
    }
}

impl Bed {
    /// Opens a device of a kind. TPH is off.
    #[track_caller]
    pub fn new(bench: &mut Bench, kind: Kind, policy: Policy) -> Self {
        let endpoint = bench.pick_with(&format!("{kind:?}"), |traits| {
            traits.in_msix == kind.in_msix
                && traits.no_soft_reset != kind.loses_state
                && traits.extended
                && traits.flr
                && traits.vectors < 512
        });
        policy::bind(&endpoint, policy);
        Self::open(endpoint, kind)
    }

    /// The same, enabled, with tags.
    #[track_caller]
    pub fn in_use(bench: &mut Bench, kind: Kind, policy: Policy) -> Self {
        let bed = Self::new(bench, kind, policy);
        bed.put(StMode::InterruptVector, Requester::Extended);
        bed
    }

    /// Opens a device of that kind that is bound.
    #[track_caller]
    pub fn open(endpoint: Rc<Endpoint>, kind: Kind) -> Self {
        let device = endpoint.open();
        Self::of(endpoint, device, kind)
    }

    /// The same of one that is open.
    #[track_caller]
    pub fn of(endpoint: Rc<Endpoint>, device: Device, kind: Kind) -> Self {
        let vectors = kind.in_msix.then(|| {
            Vectors::allocate(&device, u32::from(ENTRIES)).expect("SET_IRQS of some vectors")
        });
        Self {
            endpoint,
            device: Arc::new(device),
            vectors,
            kind,
        }
    }

    /// A device of whatever kind that is open, with these vectors.
    pub fn with(endpoint: Rc<Endpoint>, device: Device, vectors: Option<Vectors>) -> Self {
        Self {
            kind: Kind::of(&endpoint),
            endpoint,
            device: Arc::new(device),
            vectors,
        }
    }

    /// Opens a device with its table in MSI-X that is bound, with all of its vectors.
    #[track_caller]
    pub fn with_all_vectors(endpoint: Rc<Endpoint>) -> Self {
        let device = endpoint.open();
        let count = endpoint.entries().len() as u32;
        let vectors = Vectors::allocate(&device, count).expect("SET_IRQS of all vectors");
        Self::with(endpoint, device, Some(vectors))
    }

    /// Its vectors.
    #[track_caller]
    pub fn msix(&self) -> &Vectors {
        self.vectors.as_ref().expect("a table in MSI-X")
    }

    /// What [`Bed::put`] has in the table afterwards.
    pub fn programmed(&self) -> [u16; ENTRIES as usize] {
        [xst(CPU), xst(OTHER_CPU), xst(CPU), xst(OTHER_CPU)]
    }

    /// Programs the first entries, and puts Control into a state.
    #[track_caller]
    pub fn put(&self, mode: StMode, requester: Requester) {
        self.put_control(control(mode, requester));
    }

    /// The same, with the value of Control.
    #[track_caller]
    pub fn put_control(&self, value: u32) {
        self.device
            .enable(StMode::InterruptVector, Requester::Extended);
        self.device
            .program_extended(0, &self.sources())
            .expect("TPH_ST");
        for value in [value & !PCI_TPH_CTRL_REQ_EN_MASK, value] {
            self.device.set_control(value);
            assert_eq!(self.device.control(), value, "Control after a write");
        }
    }

    /// A source for each of the first entries.
    pub fn sources(&self) -> Vec<Source> {
        (0..u32::from(ENTRIES))
            .map(|entry| cpu(entry % 2))
            .collect()
    }

    /// All that can be told of it.
    #[track_caller]
    pub fn in_force(&self) -> InForce {
        let kernel = self.endpoint.kernel();
        let device = &self.device;
        let capability = device.tph_offset();
        let entries = match self.kind.in_msix {
            true => 0,
            false => ENTRIES,
        };
        InForce {
            registers: self.endpoint.registers(),
            kernel: (kernel.tph_enabled, kernel.tph_mode, kernel.tph_req_type),
            seen_control: device.control(),
            seen_entries: (0..entries)
                .map(|entry| device.config_word(entry_offset(capability, entry)))
                .collect(),
        }
    }

    /// PowerState.
    pub fn power_state(&self) -> u8 {
        self.endpoint.state().power_state
    }

    /// Sleeps and wakes up.
    #[track_caller]
    pub fn d3hot_and_back(&self) {
        self.device.set_power_state(D3HOT);
        assert_eq!(self.power_state(), D3HOT as u8, "{:?}", self.kind);
        self.device.set_power_state(D0);
        assert_eq!(self.power_state(), D0 as u8, "{:?}", self.kind);
    }

    /// Sleeps at its user's wish, as runtime PM has it.
    #[track_caller]
    pub fn sleep_in_low_power(&self) {
        self.device.enter_low_power().expect("LOW_POWER_ENTRY");
        // The user may have taken the device to D3hot before.
        wait_until(|| self.endpoint.bdf.is_suspended());
        assert_eq!(self.power_state(), D3HOT as u8, "{:?}", self.kind);
    }

    /// Wakes up from that.
    #[track_caller]
    pub fn wake_from_low_power(&self) {
        self.device.exit_low_power().expect("LOW_POWER_EXIT");
        assert_eq!(self.power_state(), D0 as u8, "{:?}", self.kind);
    }

    /// Both, one after the other.
    #[track_caller]
    pub fn low_power_and_back(&self) {
        self.sleep_in_low_power();
        self.wake_from_low_power();
    }

    /// [`assert_off_and_works`] of it.
    #[track_caller]
    pub fn assert_off_and_works(&self, what: &str) {
        assert_off_and_works(&self.endpoint, &self.device, self.vectors.as_ref(), what);
    }

    /// Has the device raise each vector; each must arrive, and no other one.
    #[track_caller]
    pub fn raise_all(&self, when: &str) {
        raise_all(&self.device, self.msix(), when);
    }

    /// Has the kernel mask and unmask all vectors.
    #[track_caller]
    pub fn mask_and_unmask(&self) {
        mask_and_unmask(&self.endpoint, &self.device, self.msix());
    }

    /// Gives the vectors their events again.
    #[track_caller]
    pub fn allocate_again(&self) {
        let events = self.msix().descriptors();
        self.device.set_msix(0, &events).expect("SET_IRQS of all");
    }

    /// Has a device raise interrupts again that has lost its MSI-X table, if it has one.
    #[track_caller]
    pub fn restore_interrupts(&self) {
        if self.vectors.is_some() {
            self.device.free_msix();
            self.allocate_again();
        }
    }

    /// A call on the device, for another thread.
    pub fn call<T>(&self, call: impl FnOnce(&Device) -> T) -> impl FnOnce() -> T {
        let device = self.device.clone();
        move || call(&device)
    }

    /// [`works`] of it.
    #[track_caller]
    pub fn works(&self) {
        works(&self.endpoint, &self.device, self.vectors.as_ref());
    }
}

/// Calls `body` with a device of each of these kinds, in use.
pub fn each_in_use(bench: &mut Bench, kinds: &[Kind], policy: Policy, body: impl Fn(Bed)) {
    bench.each(kinds, |bench, kind| body(Bed::in_use(bench, *kind, policy)));
}

/// Fails the test unless TPH is off and the table empty, also when the kernel has written what it
/// remembers of the `vectors` that a device has with its table in MSI-X; and then, unless all of it
/// works.
#[track_caller]
pub fn assert_off_and_works(
    endpoint: &Endpoint,
    device: &Device,
    vectors: Option<&Vectors>,
    what: &str,
) {
    endpoint.assert_off(what);
    if let Some(vectors) = vectors {
        mask_and_unmask(endpoint, device, vectors);
        endpoint.assert_off(&format!("{what}, mask and unmask"));
    }
    assert_eq!(device.control(), 0, "{what}: Control as the user sees it");
    let refused = device.program(0, &[cpu(CPU)]);
    assert_eq!(refused, Err(Errno::ENXIO), "{what}");
    device.enable(StMode::InterruptVector, Requester::Extended);
    device
        .program(1, &[cpu(CPU)])
        .unwrap_or_else(|error| panic!("TPH_ST after {what}: {error}"));
    endpoint.assert_tags(&[0, st(CPU)], what);
    endpoint.assert_kernel_agrees();
    if let Some(vectors) = vectors {
        raise_all(device, vectors, what);
    }
}

/// Fails the test unless a device that nobody has open works for the next user.
#[track_caller]
pub fn works_again(endpoint: &Rc<Endpoint>) {
    let bed = Bed::open(endpoint.clone(), Kind::of(endpoint));
    bed.assert_off_and_works("open");
    drop(bed);
    endpoint.assert_off("close");
}

/// Fails the test unless everything of a device works, whatever it was left in.
#[track_caller]
pub fn works(endpoint: &Endpoint, device: &Device, vectors: Option<&Vectors>) {
    device.set_control(0);
    device.enable(StMode::InterruptVector, Requester::Standard);
    device
        .program(0, &[cpu(OTHER_CPU), cpu(CPU)])
        .expect("TPH_ST");
    assert_eq!(endpoint.entries()[..2], [st(OTHER_CPU), st(CPU)]);
    if let Some(vectors) = vectors {
        raise_all(device, vectors, "everything works");
    }
}
