// SPDX-License-Identifier: GPL-2.0-only

//! Where TPH plays no part, vfio_tph is vfio-pci.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;

use nix::sys::eventfd::EventFd;
use tph_selftests::bench::{self, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::harness;
use tph_selftests::memory::Pages;
use tph_selftests::module::{self, Gate, VFIO_TPH};
use tph_selftests::monitor::wait_until;
use tph_selftests::msix::Traits;
use tph_selftests::protocol::Counters;
use tph_selftests::root_port;
use tph_selftests::tph::{entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, Device, Op, OpenBy, Vectors, NOIOMMU_SWITCH};
use tph_selftests::{assert_errno, errno, kernel, skip, tests, Errno};
use tph_tests::{booted_with, needs_tph, st, CPU};
use vfio_bindings::bindings::vfio::{
    vfio_device_ioeventfd, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS,
};

/// `selftests/modules/tph_plain`.
const PLAIN: &str = "tph_plain";

/// Everything that a user can find out about a device without changing it.
#[derive(PartialEq)]
struct Portrait {
    config: Vec<u8>,
    info: Vec<u8>,
    regions: Vec<Result<Vec<u8>, Errno>>,
    irqs: Vec<Result<Vec<u8>, Errno>>,
    hot_reset: Result<Vec<u8>, Errno>,
    features: Vec<Result<(), Errno>>,
}

impl Portrait {
    fn of(device: &Device) -> Self {
        let ops = [Op::Probe, Op::ProbeGet, Op::ProbeSet, Op::ProbeBoth];
        let ours = VFIO_DEVICE_FEATURE_TPH..=VFIO_DEVICE_FEATURE_TPH_MAP;
        Self {
            config: device.config_space(),
            info: device.info_bytes(),
            regions: (0..=VFIO_PCI_NUM_REGIONS)
                .map(|index| device.region_bytes(index))
                .collect(),
            irqs: (0..=VFIO_PCI_NUM_IRQS)
                .map(|index| device.irq_bytes(index))
                .collect(),
            hot_reset: device.hot_reset_info_bytes(),
            features: (0..=0xffff)
                .filter(|index| !ours.contains(index))
                .flat_map(|index| ops.map(|op| (op, index)))
                .map(|(op, index)| device.feature(op, index, &mut []))
                .collect(),
        }
    }

    #[track_caller]
    fn assert_same(&self, stock: &Self, what: &str) {
        for (offset, (ours, stock)) in self.config.iter().zip(&stock.config).enumerate() {
            assert_eq!(ours, stock, "{what}: config space at {offset:#x}");
        }
        assert_eq!(self.info, stock.info, "{what}: device info");
        for (index, (ours, stock)) in self.regions.iter().zip(&stock.regions).enumerate() {
            assert_eq!(ours, stock, "{what}: region {index}");
        }
        for (index, (ours, stock)) in self.irqs.iter().zip(&stock.irqs).enumerate() {
            assert_eq!(ours, stock, "{what}: irq {index}");
        }
        assert_eq!(self.hot_reset, stock.hot_reset, "{what}: hot reset info");
        assert!(self.features == stock.features, "{what}: features");
        assert!(self == stock, "{what}");
    }
}

fn stock(endpoint: &Endpoint) -> Device {
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    endpoint.open()
}

fn r66_device_without_tph(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::NO_TPH);
    let stock = Portrait::of(&stock(&endpoint));
    for gate in Gate::BOTH {
        bench::bind(&endpoint, gate);
        let device = endpoint.open();
        Portrait::of(&device).assert_same(&stock, &format!("{gate:?}"));
    }
}

/// A write of each byte of config space, and what is there afterwards.
fn r66_writes_without_tph(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::NO_TPH);
    let write_all = |device: &Device| -> (Vec<Option<usize>>, Vec<u8>) {
        let mut taken = Vec::new();
        for offset in 0..PCI_CFG_SPACE_EXP_SIZE as u16 {
            // Not the command register, power state and resets: they end more than the test.
            let keep = device.config_byte(offset);
            if offset < 0x10 || (0x40..PCI_CFG_SPACE_SIZE as u16).contains(&offset) {
                taken.push(device.write_config(offset, &[keep]).ok());
            } else {
                taken.push(device.write_config(offset, &[!keep]).ok());
                taken.push(device.write_config(offset, &[keep]).ok());
            }
        }
        (taken, device.config_space())
    };
    let stock = write_all(&stock(&endpoint));
    bench::bind(&endpoint, Gate::Safe);
    let ours = write_all(&endpoint.open());
    assert_eq!(ours.0, stock.0, "what write() says");
    assert!(ours.1 == stock.1, "config space afterwards");
}

fn r66_resets_without_tph(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::NO_TPH);
    let resets = |device: &Device| (device.reset(), device.hot_reset(&[]), device.config_space());
    let stock = resets(&stock(&endpoint));
    bench::bind(&endpoint, Gate::Safe);
    assert!(resets(&endpoint.open()) == stock);
}

/// The device's side: the same accesses for what the user does while it is open. Open and close
/// race with runtime suspend, also under vfio-pci.
fn r66_accesses_without_tph(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::NO_TPH);
    let count = || -> [Counters; 3] {
        let device = endpoint.open();
        let command = device.config_word(PCI_COMMAND as u16);
        [
            endpoint.counted(|| drop(device.config_space())),
            endpoint.counted(|| device.set_config(PCI_COMMAND as u16, &command.to_le_bytes())),
            endpoint.counted(|| device.reset().expect("a reset")),
        ]
    };
    endpoint.bdf.bind("vfio-pci").expect("vfio-pci");
    let stock = count();
    bench::bind(&endpoint, Gate::Safe);
    assert_eq!(count(), stock);
}

/// A device with TPH differs in the capability, and nowhere else.
fn r66_device_with_tph(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    let device = stock(&endpoint);
    let at = usize::from(device.tph_offset());
    let stock = Portrait::of(&device);
    drop(device);
    let tail = at + PCI_TPH_BASE_SIZEOF as usize + 2 * endpoint.entries().len();
    for gate in Gate::BOTH {
        bench::bind(&endpoint, gate);
        let device = endpoint.open();
        assert_eq!(usize::from(device.tph_offset()), at);
        let mut ours = Portrait::of(&device);
        ours.config[at + PCI_TPH_CAP as usize..tail]
            .copy_from_slice(&stock.config[at + PCI_TPH_CAP as usize..tail]);
        ours.assert_same(&stock, &format!("{gate:?}"));
    }
}

/// TPH that is not usable leaves nothing but holes.
fn r66_device_with_hidden_tph(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::TABLE);
    if !endpoint.is_emulated() {
        skip!("needs a root port without TPH");
    }
    let device = stock(&endpoint);
    let chain = device.chain();
    let place = chain
        .iter()
        .position(|link| u32::from(link.id) == PCI_EXT_CAP_ID_TPH)
        .expect("a TPH capability");
    let before = chain.get(place.wrapping_sub(1)).map(|link| link.offset);
    let at = usize::from(chain[place].offset);
    let stock = Portrait::of(&device);
    drop(device);
    let tail = at + PCI_TPH_BASE_SIZEOF as usize + 2 * endpoint.entries().len();

    bench::bind(&endpoint, Gate::Safe);
    endpoint.set_root_port(root_port::NONE);
    let mut ours = Portrait::of(&endpoint.open());
    ours.config[at..tail].copy_from_slice(&stock.config[at..tail]);
    if let Some(before) = before.map(usize::from) {
        ours.config[before..before + 4].copy_from_slice(&stock.config[before..before + 4]);
    }
    ours.assert_same(&stock, "hidden");
}

/// What a user writes and reads of BAR 2: some words, the last one, and past it.
fn bar_words(device: &Device) -> Vec<Result<Vec<u8>, Errno>> {
    let size = device.region(BAR2).expect("BAR 2").size;
    let words = [0, 8, size - 4, size].map(|offset| {
        // The memory has what was written under an earlier driver.
        [0, 0xa5].map(|byte| {
            let written = device.write_bar(BAR2, offset, &[byte; 4]);
            let mut bytes = [0; 4];
            let read = device.read_bar(BAR2, offset, &mut bytes);
            [
                written.map(|count| vec![count as u8]),
                read.map(|count| bytes[..count].to_vec()),
            ]
        })
    });
    words.concat().concat()
}

/// The abstractions carry another variant driver, which adds nothing: vfio-pci again, on any
/// device, beside vfio_tph with a device of its own.
fn r66_another_variant_driver(bench: &mut Bench) {
    needs_tph();
    let drivers = Path::new("/sys/bus/pci/drivers");
    let own = bench.take(Gate::Safe, &Want::TABLE);
    let used = own.open();
    used.enable(StMode::InterruptVector, Requester::Extended);
    used.program(0, &[cpu(CPU)]).expect("TPH_ST");

    for want in [Want::NO_TPH, Want::RCIEP] {
        let endpoint = bench.pick(&want);
        let device = stock(&endpoint);
        let stock = (Portrait::of(&device), bar_words(&device), device.reset());
        drop(device);
        endpoint.bdf.unbind();
        endpoint.bdf.clear_override().expect("driver_override");

        module::load(PLAIN, "").expect("insmod");
        assert!(drivers.join(PLAIN).exists() && drivers.join(VFIO_TPH).exists());
        // Its table has the device, but for those alone that are given to it.
        assert_eq!(endpoint.bdf.driver(), None, "bound by itself");
        endpoint.bdf.bind(PLAIN).expect("bind");
        let device = endpoint.open();
        assert_eq!(module::unload(PLAIN), Err(Errno::EWOULDBLOCK), "in use");
        Portrait::of(&device).assert_same(&stock.0, &format!("{want:?}"));
        assert_eq!(bar_words(&device), stock.1);
        assert_eq!(device.reset(), stock.2);
        drop(device);
        endpoint.bdf.unbind();
        module::unload(PLAIN).expect("rmmod");
        assert!(!drivers.join(PLAIN).exists() && drivers.join(VFIO_TPH).exists());
    }

    used.program(1, &[cpu(CPU)]).expect("TPH_ST");
    assert_eq!(own.entries()[..2], [st(CPU); 2]);
    drop(used);
    own.assert_off("close");
}

/// What `VFIO_DEVICE_IOEVENTFD` answers.
fn ioeventfd(device: &Device, flags: u32, offset: u64, fd: i32) -> Result<(), Errno> {
    let mut argument = vfio_device_ioeventfd {
        argsz: size_of::<vfio_device_ioeventfd>() as u32,
        flags,
        offset,
        fd,
        ..Default::default()
    };
    device.ioeventfd_at((&raw mut argument).cast())
}

const BAR2: u32 = 2;

/// At an offset that is no multiple of the width: refused on each architecture. All others as under
/// vfio-pci.
fn r103_misaligned_ioeventfds(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::NO_TPH);
    let size = stock(&endpoint).region(BAR2).expect("BAR 2").size;
    // Some words, and the end, up to past it.
    let offsets: Vec<u64> = (0..24).chain(size - 9..size + 2).collect();
    let answers = |device: &Device| {
        let start = device.region(BAR2).expect("BAR 2").offset;
        let event = EventFd::new().expect("eventfd");
        let mut answers = Vec::new();
        for width in [1, 2, 4, 8] {
            for &offset in &offsets {
                // It is assigned, and taken back.
                let both =
                    [event.as_raw_fd(), -1].map(|fd| ioeventfd(device, width, start + offset, fd));
                answers.push((u64::from(width), offset, both));
            }
        }
        answers
    };
    let stock = answers(&stock(&endpoint));
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    let ours = answers(&device);
    for (ours, stock) in ours.iter().zip(&stock) {
        let &(width, offset, both) = ours;
        if offset % width == 0 {
            assert_eq!(ours, stock);
            let fits = offset + width <= size;
            assert_eq!(both[0].is_ok(), fits, "{width} bytes at {offset:#x}");
        } else {
            let refused = [Err(Errno::EINVAL); 2];
            assert_eq!(both, refused, "{width} bytes at {offset:#x}");
            if kernel::is_patched() {
                assert_eq!(stock.2, refused, "vfio-pci: {width} bytes at {offset:#x}");
            }
        }
    }
    // What is aligned writes.
    let event = EventFd::new().expect("eventfd");
    let written = device.bar_dword(BAR2, 8);
    device
        .ioeventfd(BAR2, 8, !written, event.as_raw_fd())
        .expect("an ioeventfd");
    event.write(1).expect("eventfd");
    wait_until(|| device.bar_dword(BAR2, 8) == !written);
}

/// One that is wrong otherwise is refused as under vfio-pci, at any offset.
fn r103_malformed_ioeventfds(bench: &mut Bench) {
    let endpoint = bench.pick(&Want::NO_TPH);
    let answers = |device: &Device| {
        let start = device.region(BAR2).expect("BAR 2").offset;
        let mut answers = Vec::new();
        // Widths that are none; more than a width; regions that are no BAR, or not there.
        for flags in [0, 3, 5, 6, 7, 9, 12, 15, 16, 0x14, 0x8000_0004, u32::MAX] {
            for offset in 0..8 {
                answers.push(ioeventfd(device, flags, start + offset, -1));
            }
        }
        for region in [5, VFIO_PCI_CONFIG_REGION_INDEX, 0x7f, 0xff_ffff] {
            for offset in [0, 1] {
                let offset = (u64::from(region) << 40) + offset;
                answers.push(ioeventfd(device, 4, offset, -1));
            }
        }
        for fd in [-1, -2, i32::MIN, 1_000_000] {
            answers.push(ioeventfd(device, 4, start, fd));
        }
        // Too little of it, in argsz and in memory.
        let argument = |argsz| {
            let mut bytes = [0; size_of::<vfio_device_ioeventfd>()];
            bytes[..4].copy_from_slice(&u32::to_ne_bytes(argsz));
            bytes[4..8].copy_from_slice(&u32::to_ne_bytes(4));
            bytes[8..16].copy_from_slice(&start.to_ne_bytes());
            bytes[24..28].copy_from_slice(&i32::to_ne_bytes(-1));
            bytes
        };
        for argsz in [0, 16, 27, 28, 32, u32::MAX] {
            answers.push(device.ioeventfd_at(argument(argsz).as_mut_ptr()));
        }
        let pages = Pages::new(1);
        for length in [0, 1, 8, 12, 15, 16, 24, 27, 28, 32] {
            let at = pages.length() - length;
            pages.write(at, &argument(32)[..length]);
            answers.push(device.ioeventfd_at(pages.at(at)));
        }
        answers
    };
    let stock = answers(&stock(&endpoint));
    bench::bind(&endpoint, Gate::Safe);
    assert_eq!(answers(&endpoint.open()), stock);
}

fn r67_every_way_in(bench: &mut Bench) {
    needs_tph();
    let mut ways = 0;
    for gate in Gate::BOTH {
        for by in [OpenBy::Cdev, OpenBy::Group] {
            let endpoint = bench.take(gate, &Want::TABLE);
            if !by.possible(&endpoint.bdf) {
                continue;
            }
            ways += 1;
            let device = endpoint.open_by(by);
            device.enable(StMode::InterruptVector, Requester::Extended);
            device.program(0, &[cpu(CPU)]).expect("TPH_ST");
            assert_eq!(endpoint.entries()[0], st(CPU), "{by:?}");
            drop(device);
            endpoint.assert_off("close");
            bench.next_round();
        }
    }
    if ways == 0 {
        skip!("there is no IOMMU");
    }
    assert_eq!(ways, 4, "character device and group, with either gate");
}

/// vfio takes devices without an IOMMU until this is dropped.
struct WithoutIommu;

impl WithoutIommu {
    fn new() -> Self {
        fs::write(NOIOMMU_SWITCH, "Y").unwrap_or_else(|error| panic!("{NOIOMMU_SWITCH}: {error}"));
        Self
    }
}

impl Drop for WithoutIommu {
    fn drop(&mut self) {
        fs::write(NOIOMMU_SWITCH, "N").unwrap_or_else(|error| panic!("{NOIOMMU_SWITCH}: {error}"));
    }
}

fn r67_without_an_iommu(bench: &mut Bench) {
    let endpoint = bench.pick_for_noiommu(&Want::TABLE);
    if endpoint.bdf.has_iommu() {
        skip!("there is an IOMMU");
    }
    let _taken = WithoutIommu::new();
    for gate in Gate::BOTH {
        bench::bind(&endpoint, gate);
        assert!(OpenBy::NoIommu.possible(&endpoint.bdf));
        let device = endpoint.open_by(OpenBy::NoIommu);
        device.enable(StMode::InterruptVector, Requester::Extended);
        device.program(0, &[cpu(CPU)]).expect("TPH_ST");
        assert_eq!(endpoint.entries()[0], st(CPU));
        let table = device.config_word(entry_offset(device.tph_offset(), 0));
        let shown = match gate {
            Gate::Safe => 0,
            Gate::Unsafe => st(CPU),
        };
        assert_eq!(table, shown);
        drop(device);
        endpoint.assert_off("close");
    }
    endpoint.bdf.unbind();
}

/// A group of its own is what vfio makes for such a device: Interrupt Vector mode stays, as nothing
/// that could be taken away keeps anybody from memory that is not the device's.
fn r73_without_an_iommu(bench: &mut Bench) {
    let endpoint = bench.pick_where("an ST table in MSI-X", |bdf| {
        Traits::of(bdf).is_some_and(|traits| traits.in_msix)
    });
    if endpoint.bdf.has_iommu() {
        skip!("there is an IOMMU");
    }
    let _taken = WithoutIommu::new();
    bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open_by(OpenBy::NoIommu);
    let _vectors = Vectors::allocate(&device, 2).expect("SET_IRQS");
    device.enable(StMode::InterruptVector, Requester::Standard);
    device.program(0, &[cpu(CPU)]).expect("TPH_ST");
    assert_eq!(endpoint.entries()[0], st(CPU));
    drop(device);
    endpoint.assert_off("close");
    endpoint.bdf.unbind();
}

/// On a kernel that uses no MSI nobody gets a vector, with the same error; a table in the
/// capability has its entries all the same.
fn r67_without_msi(bench: &mut Bench) {
    if !booted_with("pci=nomsi") {
        skip!("the kernel was booted without pci=nomsi");
    }
    for want in Want::TABLES {
        let endpoint = bench.pick(&want);
        let vectors = |device: &Device| {
            let info: Vec<_> = (0..VFIO_PCI_NUM_IRQS)
                .map(|index| device.irq_bytes(index))
                .collect();
            (info, Vectors::allocate(device, 1).map(drop))
        };
        let stock = vectors(&stock(&endpoint));
        assert!(stock.1.is_err(), "{want:?}: a vector without MSI");
        bench::bind(&endpoint, Gate::Safe);
        let device = endpoint.open();
        assert_eq!(vectors(&device), stock, "{want:?}");
        device.enable(StMode::InterruptVector, Requester::Standard);
        if want.in_msix {
            assert_errno!(device.program(0, &[cpu(CPU)]), ENXIO);
        } else {
            device.program(0, &[cpu(CPU)]).expect("TPH_ST");
            assert_eq!(endpoint.entries()[0], st(CPU));
        }
        drop(device);
        endpoint.assert_off("close");
    }
}

/// On a kernel that reaches no more than 256 bytes of config space there are no extended
/// capabilities, and no TPH.
fn r67_without_mmconfig(bench: &mut Bench) {
    if !booted_with("pci=nommconf") {
        skip!("the kernel was booted without pci=nommconf");
    }
    for name in ["ep0", "m16", "plain"] {
        let endpoint = bench.named(name);
        let stock = Portrait::of(&stock(&endpoint));
        assert_eq!(stock.config.len(), PCI_CFG_SPACE_SIZE as usize, "{name}");
        for gate in Gate::BOTH {
            bench::bind(&endpoint, gate);
            let device = endpoint.open();
            let what = format!("{name}, {gate:?}");
            Portrait::of(&device).assert_same(&stock, &what);
            assert_errno!(device.tph(), EOPNOTSUPP, "{what}");
            assert_errno!(device.program(0, &[cpu(CPU)]), EOPNOTSUPP, "{what}");
        }
    }
}

/// A device with BARs whose size can be chosen: users see the capability and cannot write it; nor
/// can an administrator, while a driver has the device.
fn r66_resizable_bar(bench: &mut Bench) {
    const AT: u16 = 0x150;
    /// BAR 2, of 1 MiB to 8 MiB.
    const SIZES: u32 = 0xf0;
    const CONTROL: u32 = 2 | (1 << 5);
    let endpoint = bench.pick(&Want::NO_TPH);
    endpoint.lie(AT, PCI_EXT_CAP_ID_REBAR | (1 << 16));
    endpoint.lie(AT + PCI_REBAR_CAP as u16, SIZES);
    endpoint.lie(AT + PCI_REBAR_CTRL as u16, CONTROL);
    endpoint.bdf.rediscover();
    let resize = endpoint.bdf.path("resource2_resize");
    let seen = |device: &Device| {
        let at = AT + PCI_REBAR_CTRL as u16;
        let before = device.config_space();
        let mark = endpoint.mark();
        let written = device.write_config(at, &[0x02, 0x01]).ok();
        // The endpoint says what it lies, whatever it holds.
        let control = u64::from(at);
        let reached = endpoint.config_writes(mark, control..control + 4);
        assert_eq!(reached, [], "a user's write has reached the capability");
        let shown = fs::read_to_string(&resize).map_err(errno);
        let resized = fs::write(&resize, "1").map_err(errno);
        (before, written, device.config_space(), shown, resized)
    };
    let stock = seen(&stock(&endpoint));
    let header = u32::from_le_bytes(stock.0[usize::from(AT)..][..4].try_into().expect("a dword"));
    assert_eq!(header as u16, PCI_EXT_CAP_ID_REBAR as u16, "{header:#x}");
    assert!(stock.4.is_err(), "{:?}", stock.4);
    bench::bind(&endpoint, Gate::Safe);
    assert!(seen(&endpoint.open()) == stock);
}

fn main() -> ExitCode {
    harness::run(tests![
        r66_device_without_tph,
        r66_writes_without_tph,
        r66_resets_without_tph,
        r66_accesses_without_tph,
        r66_device_with_tph,
        r66_device_with_hidden_tph,
        r66_another_variant_driver,
        r66_resizable_bar,
        r67_every_way_in,
        r67_without_an_iommu,
        r67_without_msi,
        r67_without_mmconfig,
        r73_without_an_iommu,
        r103_misaligned_ioeventfds,
        r103_malformed_ioeventfds,
    ])
}
