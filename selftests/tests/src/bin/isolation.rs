// SPDX-License-Identifier: GPL-2.0-only

//! Every way that a user could try to see or set a tag. Each attack is made on stock vfio-pci and
//! at every policy: where tags are disclosed it has to succeed, or it would prove nothing
//! elsewhere.
//!
//! Memory is mapped by whole pages, so the kernel's size of a page decides what has to be out of
//! reach: the runner has devices whose BAR and table are made for it.

use std::ops::Range;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::rc::Rc;
use std::slice;

use nix::sys::eventfd::EventFd;
use nix::sys::mman::ProtFlags;
use tph_selftests::bench::{in_test_vm, Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::memory::page_size;
use tph_selftests::module::Gate;
use tph_selftests::msix::Traits;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::registers::{
    BAR_MEMORY, BAR_REGISTERS, MSIX_ENTRY, MSIX_VECTOR_CONTROL, SCRATCH,
};
use tph_selftests::tph::{entry_offset, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vfio::{cpu, literal, Device, Mapped, RegionCapability, Vectors};
use tph_selftests::{assert_errno, harness, skip, tests, Errno};
use tph_tests::{st, xst, CPU};
use vfio_bindings::bindings::vfio::{
    VFIO_PCI_BAR0_REGION_INDEX, VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP, VFIO_REGION_INFO_FLAG_MMAP,
};

const BAR: u32 = VFIO_PCI_BAR0_REGION_INDEX;
/// Pages of a BAR that is under attack.
const PAGES: u64 = 16;
/// The largest table that there can be, in bytes.
const LARGEST: u64 = (PCI_MSIX_FLAGS_QSIZE as u64 + 1) * MSIX_ENTRY;
const SECRET: u16 = 0xbeef;

fn page() -> u64 {
    page_size() as u64
}

/// What a table takes of its BAR.
fn bytes_of(traits: &Traits) -> Range<u64> {
    traits.table..traits.table + u64::from(traits.vectors) * MSIX_ENTRY
}

/// The pages that hold these bytes.
fn pages_of(bytes: &Range<u64>) -> Range<u64> {
    bytes.start - bytes.start % page()..bytes.end.next_multiple_of(page())
}

/// Who drives the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Driver {
    VfioPci,
    VfioTph(Policy),
}

impl Driver {
    /// Stock vfio-pci, and vfio_tph at every policy.
    fn all() -> impl Iterator<Item = Self> {
        [Self::VfioPci]
            .into_iter()
            .chain(Policy::ALL.map(Self::VfioTph))
    }

    /// Whether the user must be kept away from tags.
    fn isolates(self) -> bool {
        matches!(self, Driver::VfioTph(policy) if !policy.discloses())
    }
}

/// A device with its ST table in MSI-X under attack.
struct Target {
    endpoint: Rc<Endpoint>,
    device: Device,
    driver: Driver,
    /// Size of the BAR.
    size: u64,
    /// The pages that hold the table.
    table: Range<u64>,
    /// Where it starts.
    start: u64,
}

/// A device with such a table. The test VM has them all, for its size of a page.
fn pick_with(bench: &mut Bench, what: &str, fits: impl Fn(&Traits) -> bool) -> Rc<Endpoint> {
    let has = bench.has_where(|bdf| Traits::of(bdf).is_some_and(|traits| fits(&traits)));
    assert!(has || !in_test_vm(), "the VM has no device with {what}");
    bench.pick_with(what, fits)
}

/// A device whose table is at the start of its BAR, or with pages on both sides of those that it is
/// on, neither end at the end of one.
fn pick_placed(bench: &mut Bench, in_the_middle: bool) -> Rc<Endpoint> {
    let what = match in_the_middle {
        false => "an ST table in MSI-X, at the start of its BAR",
        true => "an ST table in MSI-X, in the middle of its BAR",
    };
    pick_with(bench, what, |traits| {
        traits.in_msix
            && traits.extended
            && traits.bar == PAGES * page()
            && u64::from(traits.vectors) * MSIX_ENTRY < page()
            && (traits.table > page()) == in_the_middle
    })
}

fn pick(bench: &mut Bench) -> Rc<Endpoint> {
    pick_placed(bench, false)
}

fn bind(endpoint: &Endpoint, driver: Driver) {
    match driver {
        Driver::VfioPci => endpoint
            .bdf
            .bind("vfio-pci")
            .unwrap_or_else(|error| panic!("{error}")),
        Driver::VfioTph(policy) => policy::bind(endpoint, policy),
    }
}

/// Runs an attack on stock vfio-pci and at every policy; for a table in the middle of its BAR, on
/// both sides of the line alone.
fn everywhere(bench: &mut Bench, attack: impl Fn(&Target)) {
    let front = Policy::ALL.map(|policy| (false, Driver::VfioTph(policy)));
    let middle = [Policy::IvSt, Policy::DsSt].map(|policy| (true, Driver::VfioTph(policy)));
    let stock = [false, true].map(|in_the_middle| (in_the_middle, Driver::VfioPci));
    let all = stock.into_iter().chain(front).chain(middle);
    bench.each(all, |bench, (in_the_middle, driver)| {
        let endpoint = pick_placed(bench, in_the_middle);
        bind(&endpoint, driver);
        let device = endpoint.open();
        device.decode_memory(true);
        let traits = Traits::of(&endpoint.bdf).expect("TPH");
        let bytes = bytes_of(&traits);
        attack(&Target {
            endpoint,
            device,
            driver,
            size: traits.bar,
            table: pages_of(&bytes),
            start: bytes.start,
        });
    });
}

impl Target {
    /// What a mapping of the table's pages is good for: reads and writes the tag of vector 0.
    #[track_caller]
    fn has_the_tag(&self, table: &Mapped) {
        let at = self.start - self.table.start + MSIX_VECTOR_CONTROL;
        let word = (u32::from(SECRET) << 16) | PCI_MSIX_ENTRY_CTRL_MASKBIT;
        table.write(at, word);
        assert_eq!(self.endpoint.entries()[0], SECRET, "{:?}: set", self.driver);
        assert_eq!(table.read(at), word, "{:?}: seen", self.driver);
        table.write(at, PCI_MSIX_ENTRY_CTRL_MASKBIT);
    }

    /// What there is of the BAR beside the pages of the table.
    fn neighbours(&self) -> Vec<Range<u64>> {
        beside(&self.table, self.size)
    }

    #[track_caller]
    fn has_no_tag(&self) {
        self.endpoint.assert_tags(&[], "attacked");
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        range.start < self.table.end && self.table.start < range.end
    }
}

/// What there is of a BAR of `size` bytes beside the pages of its table.
fn beside(table: &Range<u64>, size: u64) -> Vec<Range<u64>> {
    let both = [0..table.start, table.end..size];
    both.into_iter().filter(|range| !range.is_empty()).collect()
}

/// Every range of whole pages of the BAR.
fn r21_mmap_of_every_range(bench: &mut Bench) {
    everywhere(bench, |target| {
        for first in 0..PAGES {
            for end in first + 1..=PAGES {
                let range = first * page()..end * page();
                let mapped = target.device.map_bar(BAR, range.clone());
                let what = format!("{:?}: {range:x?}", target.driver);
                if target.driver.isolates() && target.overlaps(&range) {
                    assert_errno!(mapped, EINVAL, "{what}");
                    continue;
                }
                let mapped = mapped.unwrap_or_else(|error| panic!("{what}: {error}"));
                // The end of each page is plain memory, unless the table is there.
                if !target.table.contains(&(range.end - 4)) {
                    let at = range.end - 4 - range.start;
                    mapped.write(at, 0x600d_0000 + first as u32);
                    assert_eq!(mapped.read(at), 0x600d_0000 + first as u32, "{what}");
                }
                if range.start == target.table.start {
                    target.has_the_tag(&mapped);
                }
            }
        }
        target.has_no_tag();
    });
}

/// Lengths that are no whole number of pages.
fn r21_mmap_of_a_part_of_a_page(bench: &mut Bench) {
    everywhere(bench, |target| {
        for length in [1, 4, MSIX_ENTRY, page() - 1, page() + 1] {
            let Range { start, end } = target.table;
            for at in [start, end - page()] {
                let mapped = target.device.map_bar(BAR, at..at + length);
                match target.driver.isolates() {
                    true => assert_errno!(mapped, EINVAL, "{length} bytes at {at:#x}"),
                    false => assert!(mapped.is_ok(), "{length} bytes at {at:#x}: {mapped:?}"),
                }
            }
            if start > 0 {
                let before = start - page();
                let mapped = target.device.map_bar(BAR, before..before + length);
                match target.driver.isolates() && length > page() {
                    true => assert_errno!(mapped, EINVAL, "{length} bytes before it"),
                    false => assert!(mapped.is_ok(), "{length} bytes before it: {mapped:?}"),
                }
            }
            let mapped = target.device.map_bar(BAR, end..end + length);
            assert!(mapped.is_ok(), "{length} bytes behind it: {mapped:?}");
        }
    });
}

fn r21_the_other_bar_maps(bench: &mut Bench) {
    everywhere(bench, |target| {
        let bar = BAR_MEMORY.into();
        let size = target.device.region(bar).expect("BAR2").size;
        let mapped = target.device.map_bar(bar, 0..size).expect("all of BAR2");
        mapped.write(size - 4, 0x1234_5678);
        assert_eq!(mapped.read(size - 4), 0x1234_5678);
        assert!(target.device.region_capabilities(bar).is_empty());
    });
}

fn r21_region_info(bench: &mut Bench) {
    everywhere(bench, |target| {
        let capabilities = target.device.region_capabilities(BAR);
        let has = |id: u32| capabilities.iter().any(|found| u32::from(found.id) == id);
        let region = target.device.region(BAR).expect("BAR0");
        assert_ne!(region.flags & VFIO_REGION_INFO_FLAG_MMAP, 0);
        assert_eq!(region.size, target.size);
        if !target.driver.isolates() {
            assert!(has(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE), "{capabilities:?}");
            assert!(!has(VFIO_REGION_INFO_CAP_SPARSE_MMAP), "{capabilities:?}");
            return;
        }
        assert!(!has(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE), "{capabilities:?}");
        let areas = target.neighbours();
        only_areas(&capabilities, &areas);
        for area in areas {
            assert!(target.device.map_bar(BAR, area).is_ok());
        }
    });
}

/// These areas are left, and nothing else is said.
#[track_caller]
fn only_areas(capabilities: &[RegionCapability], areas: &[Range<u64>]) {
    let [sparse] = capabilities else {
        panic!("not one capability: {capabilities:?}");
    };
    assert_eq!(u32::from(sparse.id), VFIO_REGION_INFO_CAP_SPARSE_MMAP);
    assert_eq!(sparse.areas, areas);
}

fn r14_region_info_is_that_of_vfio_pci(bench: &mut Bench) {
    let endpoint = pick(bench);
    let mut infos = Vec::new();
    for driver in Driver::all() {
        bind(&endpoint, driver);
        let device = endpoint.open();
        let regions = (0..=8).map(|index| device.region_bytes(index));
        infos.push((driver, regions.collect::<Vec<_>>()));
    }
    let (_, stock) = &infos[0];
    for (driver, info) in &infos[1..] {
        for (index, (theirs, ours)) in stock.iter().zip(info).enumerate() {
            let same = theirs == ours;
            let expected = index as u32 != BAR || !driver.isolates();
            assert_eq!(same, expected, "{driver:?}: region {index}");
        }
    }
}

/// At every policy: the pages of this table are out of reach unless tags are disclosed, all others
/// are there.
fn only_the_pages_of_the_table(bench: &mut Bench, what: &str, fits: impl Fn(&Traits) -> bool) {
    bench.each(Policy::ALL, |bench, policy| {
        let endpoint = pick_with(bench, what, |traits| {
            traits.in_msix && traits.bar == PAGES * page() && fits(traits)
        });
        policy::bind(&endpoint, policy);
        let device = endpoint.open();
        device.decode_memory(true);
        let traits = Traits::of(&endpoint.bdf).expect("TPH");
        let table = pages_of(&bytes_of(&traits));
        for start in (0..traits.bar).step_by(page_size()) {
            let range = start..start + page();
            let open = !table.contains(&start) || policy.discloses();
            let mapped = device.map_bar(BAR, range.clone());
            assert_eq!(mapped.is_ok(), open, "{policy:?}: {range:x?}");
            let exported = device.export_dma_buf(BAR, slice::from_ref(&range));
            assert_eq!(exported.is_ok(), open, "{policy:?}: {range:x?}");
        }
        if !policy.discloses() {
            let capabilities = device.region_capabilities(BAR);
            only_areas(&capabilities, &beside(&table, traits.bar));
        }
    });
}

/// A table that is larger than a page, and ends in the middle of its second one.
fn r21_table_larger_than_a_page(bench: &mut Bench) {
    if LARGEST <= page() {
        skip!("no table is larger than a page of {} bytes", page());
    }
    let what = "an ST table in MSI-X that ends on its second page";
    only_the_pages_of_the_table(bench, what, |traits| {
        traits.table == 0 && (page() + 1..2 * page()).contains(&bytes_of(traits).end)
    });
}

/// A table that is smaller than a page, and on two.
fn r21_table_across_a_border(bench: &mut Bench) {
    let what = "an ST table in MSI-X across a border of two pages";
    only_the_pages_of_the_table(bench, what, |traits| {
        let bytes = bytes_of(traits);
        bytes.end - bytes.start < page() && bytes.start / page() + 1 == (bytes.end - 1) / page()
    });
}

/// The largest table.
fn r21_large_table(bench: &mut Bench) {
    let what = format!("an ST table in MSI-X of {LARGEST} bytes");
    let is_large = |traits: &Traits| u64::from(traits.vectors) * MSIX_ENTRY == LARGEST;
    // Kernels with sanitizers have a smaller one: so many vectors take minutes there.
    if !bench.has_where(|bdf| Traits::of(bdf).is_some_and(|traits| is_large(&traits))) {
        skip!("no device with {what}");
    }
    only_the_pages_of_the_table(bench, &what, is_large);
}

/// A BAR that is one page, which the table is on: where it is out of reach, nothing is left.
fn r21_bar_of_one_page(bench: &mut Bench) {
    let one = 0..page();
    bench.each(Driver::all(), |bench, driver| {
        let what = "an ST table in MSI-X, in a BAR of one page";
        let endpoint = pick_with(bench, what, |traits| traits.in_msix && traits.bar == page());
        bind(&endpoint, driver);
        let device = endpoint.open();
        device.decode_memory(true);
        let open = !driver.isolates();
        let region = device.region(BAR).expect("BAR0");
        assert_eq!(region.size, page(), "{driver:?}");
        let maps = region.flags & VFIO_REGION_INFO_FLAG_MMAP != 0;
        assert_eq!(maps, open, "{driver:?}: the flag");
        let mapped = device.map_bar(BAR, one.clone());
        let exported = device.export_dma_buf(BAR, slice::from_ref(&one));
        match open {
            true => {
                mapped.unwrap_or_else(|error| panic!("{driver:?}: {error}"));
                exported.unwrap_or_else(|error| panic!("{driver:?}: {error}"));
            }
            false => {
                assert!(device.region_capabilities(BAR).is_empty(), "{driver:?}");
                assert_errno!(mapped, EINVAL, "{driver:?}");
                assert_errno!(exported, EPERM, "{driver:?}");
            }
        }
    });
}

/// A mapping of what lies beside the table, made to be another one.
fn r21_mremap_gains_nothing(bench: &mut Bench) {
    everywhere(bench, |target| {
        for beside in target.neighbours() {
            let map = |range| target.device.map_bar(BAR, range).expect("beside the table");
            let mut mapped = map(beside.clone());
            let length = mapped.length();
            mapped.write(0, 0x5eed);
            // Device memory does not grow, whoever drives it.
            for more in [page_size(), length] {
                let grown = mapped.remap(length, length + more);
                assert_errno!(grown, EFAULT, "grown by {more:#x}");
            }
            // It may move and shrink, and stays what it is.
            let again = mapped.remap(0, length);
            if let Ok(Some(copy)) = again {
                assert_eq!(copy.read(0), 0x5eed, "a copy");
                copy.write(0, 0xffff_ffff);
            }
            mapped
                .remap(length, page_size())
                .expect("a mapping that shrinks");
            mapped.write(0, 0xffff_0000);
            // The page next to the table: both its ends, where a table would be.
            let next_to_it = match beside.start {
                0 => beside.end - page()..beside.end,
                start => start..start + page(),
            };
            let next_to_it = map(next_to_it);
            for offset in (0..2048).chain(page() - 2048..page()).step_by(4) {
                next_to_it.write(offset, 0xffff_ffff);
            }
        }
        target.has_no_tag();
    });
}

/// remap_file_pages() gives an existing mapping another offset in the file.
fn r21_remap_file_pages_gains_nothing(bench: &mut Bench) {
    everywhere(bench, |target| {
        for beside in target.neighbours() {
            let mapped = target
                .device
                .map_bar(BAR, beside.start..beside.start + page())
                .expect("beside the table");
            let region = target.device.region(BAR).expect("BAR0").offset;
            let position = (region + target.table.start) / page();
            let remapped = mapped.remap_file_pages(page_size(), position);
            if target.driver.isolates() {
                assert_errno!(remapped, EINVAL);
            } else {
                remapped.expect("remap_file_pages");
                target.has_the_tag(&mapped);
            }
        }
        target.has_no_tag();
    });
}

fn r21_mprotect_gains_nothing(bench: &mut Bench) {
    everywhere(bench, |target| {
        for protection in [ProtFlags::PROT_NONE, ProtFlags::PROT_READ] {
            let map = |range| target.device.map_bar_as(BAR, range, protection);
            let table = map(target.table.clone());
            if target.driver.isolates() {
                assert_errno!(table, EINVAL, "{protection:?}");
            } else {
                let table = table.expect("the table");
                table
                    .protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
                    .expect("mprotect");
                target.has_the_tag(&table);
            }
            for beside in target.neighbours() {
                let beside = map(beside).expect("beside the table");
                beside
                    .protect(ProtFlags::PROT_READ | ProtFlags::PROT_WRITE)
                    .expect("mprotect");
                beside.write(0, 1);
            }
        }
        target.has_no_tag();
    });
}

fn r14_dma_buf(bench: &mut Bench) {
    everywhere(bench, |target| {
        let export = |ranges: &[Range<u64>]| target.device.export_dma_buf(BAR, ranges);
        let last = target.size - page()..target.size;
        for first in 0..PAGES {
            for end in [first + 1, (first + 2).min(PAGES), PAGES] {
                let range = first * page()..end * page();
                let refused = target.driver.isolates() && target.overlaps(&range);
                // Alone, and as the second of two.
                for ranges in [&[range.clone()][..], &[last.clone(), range.clone()][..]] {
                    let exported = export(ranges);
                    let what = format!("{:?}: {ranges:x?}", target.driver);
                    match refused {
                        true => assert_errno!(exported, EPERM, "{what}"),
                        false => assert!(exported.is_ok(), "{what}: {exported:?}"),
                    }
                }
            }
        }
        let size = target.device.region(BAR_MEMORY.into()).expect("BAR2").size;
        let other = 0..size;
        let exported = target
            .device
            .export_dma_buf(BAR_MEMORY.into(), slice::from_ref(&other));
        assert!(exported.is_ok(), "BAR2: {exported:?}");
    });
}

/// Core keeps everybody off the table by read() and write(), at every policy.
fn r14_read_and_write(bench: &mut Bench) {
    everywhere(bench, |target| {
        let Driver::VfioTph(policy) = target.driver else {
            return;
        };
        if policy == Policy::NoSt {
            return;
        }
        let (endpoint, device) = (&target.endpoint, &target.device);
        let count = endpoint.entries().len();
        let _vectors = Vectors::allocate(device, count as u32).expect("SET_IRQS");
        device.enable(StMode::InterruptVector, Requester::Extended);
        device
            .program_extended(0, &vec![cpu(CPU); count])
            .expect("TPH_ST");
        let before = endpoint.state().msix;

        let bytes = count * MSIX_ENTRY as usize;
        for width in [1, 2, 4, 8, MSIX_ENTRY as usize, bytes] {
            for offset in (0..bytes).step_by(width) {
                let at = target.start + offset as u64;
                let mut seen = vec![0; width];
                let got = device.read_bar(BAR, at, &mut seen);
                assert!(got.is_err() || seen.iter().all(|&byte| byte == 0xff || byte == 0));
                let _ = device.write_bar(BAR, at, &vec![0xaa; width]);
            }
        }
        // From before the table, if there is anything, across it and out of it.
        let lead = target.start.min(64);
        let mut seen = vec![0; lead as usize + bytes + 64];
        let got = device.read_bar(BAR, target.start - lead, &mut seen);
        let got = got.expect("a read across");
        assert!(seen[..got]
            .iter()
            .skip(lead as usize)
            .take(bytes)
            .all(|&byte| byte == 0xff || byte == 0));
        assert_eq!(endpoint.state().msix, before, "{policy:?}: written");

        let event = EventFd::new().expect("eventfd");
        for offset in (0..bytes as u64).step_by(4) {
            let at = target.start + offset;
            let result = device.ioeventfd(BAR, at, 0xffff_0000, event.as_raw_fd());
            assert_errno!(result, EINVAL, "ioeventfd at {offset:#x}");
        }
        assert_eq!(
            device.ioeventfd(BAR, SCRATCH, 7, event.as_raw_fd()),
            Ok(()),
            "an ioeventfd elsewhere"
        );
    });
}

/// Tags that are in the hardware, but in a table in the capability.
fn r14_config_reads(bench: &mut Bench) {
    bench.each(Driver::all(), |bench, driver| {
        let endpoint = bench.pick(&Want::TABLE);
        bind(&endpoint, driver);
        let device = endpoint.open();
        let capability = endpoint.tph().offset;
        let tag = match driver {
            Driver::VfioPci | Driver::VfioTph(Policy::NoSt) => {
                endpoint.poke(entry_offset(capability, 0), 2, u64::from(SECRET));
                SECRET
            }
            _ => {
                device.enable(StMode::InterruptVector, Requester::Extended);
                device.program_extended(0, &[cpu(CPU)]).expect("TPH_ST");
                xst(CPU)
            }
        };
        let seen = device.config_word(entry_offset(capability, 0));
        assert_eq!(endpoint.entries()[0], tag);
        let expected = if driver.isolates() { 0 } else { tag };
        assert_eq!(seen, expected, "{driver:?}");
        let space = device.config_space();
        let at = usize::from(entry_offset(capability, 0));
        assert_eq!(space[at..at + 2], expected.to_le_bytes(), "{driver:?}");
        if driver == Driver::VfioTph(Policy::NoSt) {
            endpoint.poke(entry_offset(capability, 0), 2, 0);
        }
    });
}

fn r14_resolve(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        let endpoint = bench.pick(&Want::TABLE);
        policy::bind(&endpoint, policy);
        let device = endpoint.open();
        for extended in [false, true] {
            let found = device.resolve(&[cpu(CPU)], extended);
            if !policy.discloses() {
                assert_errno!(found, EPERM, "{policy:?}");
                continue;
            }
            let tag = if extended { xst(CPU) } else { st(CPU) };
            assert_eq!(found.expect("TPH_RESOLVE")[0].st, tag, "{policy:?}");
        }
    });
}

/// A user that tries literal tags must not find out which one is right.
fn r14_no_errno_depends_on_a_tag(bench: &mut Bench) {
    bench.each(Policy::ALL, |bench, policy| {
        let endpoint = pick(bench);
        policy::bind(&endpoint, policy);
        let device = endpoint.open();
        let _vectors = Vectors::allocate(&device, 4).expect("SET_IRQS");
        let expected = match policy {
            Policy::NoSt => Err(Errno::EOPNOTSUPP),
            Policy::IvSt | Policy::DsSt => Err(Errno::EPERM),
            Policy::Literal => Ok(()),
        };
        if policy != Policy::NoSt {
            device.enable(StMode::InterruptVector, Requester::Extended);
            device.program(0, &[cpu(CPU)]).expect("TPH_ST");
        }
        for tag in [0, 1, st(CPU), st(CPU) + 1, 0xff] {
            let result = device.program(0, &[literal(tag.into())]);
            assert_eq!(result, expected, "{policy:?}: {tag:#x}");
        }
        for tag in [0, xst(CPU), xst(CPU) + 1, 0xffff] {
            let result = device.program_extended(0, &[literal(tag.into())]);
            assert_eq!(result, expected, "{policy:?}: extended {tag:#x}");
        }
    });
}

/// What the module does when it is loaded without a word about tags.
fn r14_default_load(bench: &mut Bench) {
    let endpoint = pick(bench);
    tph_selftests::bench::bind(&endpoint, Gate::Safe);
    let device = endpoint.open();
    device.decode_memory(true);
    let offer = device.tph().expect("GET of TPH");
    assert_eq!(u32::from(offer.policy), VFIO_TPH_POLICY_IV_ST);
    assert_errno!(device.map_bar(BAR, 0..page()), EINVAL);
    let table = 0..page();
    let exported = device.export_dma_buf(BAR, slice::from_ref(&table));
    assert_errno!(exported, EPERM);
    assert_errno!(device.resolve(&[cpu(CPU)], false), EPERM);
    assert_eq!(u32::from(BAR_REGISTERS), BAR);
}

fn main() -> ExitCode {
    harness::run(tests![
        r14_default_load,
        r14_dma_buf,
        r14_read_and_write,
        r14_config_reads,
        r14_resolve,
        r14_no_errno_depends_on_a_tag,
        r14_region_info_is_that_of_vfio_pci,
        r21_mmap_of_every_range,
        r21_mmap_of_a_part_of_a_page,
        r21_the_other_bar_maps,
        r21_region_info,
        r21_table_larger_than_a_page,
        r21_table_across_a_border,
        r21_large_table,
        r21_bar_of_one_page,
        r21_mremap_gains_nothing,
        r21_remap_file_pages_gains_nothing,
        r21_mprotect_gains_nothing,
    ])
}
