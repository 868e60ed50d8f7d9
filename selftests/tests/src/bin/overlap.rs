// SPDX-License-Identifier: GPL-2.0-only

//! Capabilities that claim bytes of the TPH capability: whose each byte is; R75. And config spaces
//! of other sizes than most have; R84.

use std::fs;
use std::ops::Range;
use std::process::ExitCode;

use tph_selftests::bench::{Bench, Want};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::policy::{self, Policy};
use tph_selftests::protocol::{Position, Table, TphShape};
use tph_selftests::tph::{control, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, Device};
use tph_selftests::{assert_errno, harness, tests};
use tph_tests::{needs_tph, st, CPU};

const CONTROL: u16 = PCI_TPH_CTRL as u16;
const IV_ENABLED: u32 = control(StMode::InterruptVector, Requester::Standard);

/// Where the TPH capability is in the chain: AER at 100h, this, DSN at 200h.
const TPH: u16 = 0x160;
const BEFORE: u16 = 0x100;
const BEHIND: u16 = 0x200;
const REGISTERS: Range<u16> = TPH..TPH + PCI_TPH_BASE_SIZEOF as u16;
/// What it claims.
const ENTRIES: u16 = 64;
const TABLE: Range<u16> = REGISTERS.end..REGISTERS.end + 2 * ENTRIES;
const ANYWHERE: Range<u64> = 0..PCI_CFG_SPACE_EXP_SIZE as u64;
/// In each dword of the other capability behind its header.
const BODY: u32 = 0xb0d1_e5a5;
/// In each entry of the table before the device is opened.
const STALE: u32 = 0x0033_0033;

const VENDOR: u32 = PCI_EXT_CAP_ID_VNDR;
const PASID: u32 = PCI_EXT_CAP_ID_PASID;
/// A capability of which nobody knows anything. vfio-pci-core hides it, as it does PASID.
const UNKNOWN: u32 = 0x77;

/// Gives a device an honest TPH capability.
fn make_honest(endpoint: &Endpoint) {
    endpoint.reshape(TphShape {
        table: Some(Table::Cap),
        modes: Some(7),
        entries: Some(ENTRIES),
        position: Some(Position::Middle),
        offset: Some(TPH),
        ..TphShape::default()
    });
}

/// Another capability.
#[derive(Clone, Copy, Debug)]
struct Other {
    id: u32,
    offset: u16,
    len: u16,
    /// Whether the chain leads there before it leads to TPH.
    first: bool,
}

impl Other {
    fn bytes(&self) -> Range<u16> {
        self.offset..self.offset + self.len
    }

    fn is_hidden(&self) -> bool {
        self.id != VENDOR
    }

    /// The entries that are left of the table.
    fn entries(&self) -> u16 {
        match self.bytes() {
            own if own.start >= TABLE.start => (own.start - TABLE.start) / 2,
            own if own.end > TABLE.start => 0,
            _ => ENTRIES,
        }
    }

    /// Puts it into a device with an honest TPH capability.
    fn put_into(&self, endpoint: &Endpoint) {
        make_honest(endpoint);
        let header =
            |id: u32, version: u32, next: u16| id | (version << 16) | (u32::from(next) << 20);
        let (after_before, after_tph, after_this) = match self.first {
            true => (self.offset, BEHIND, TPH),
            false => (TPH, self.offset, BEHIND),
        };
        endpoint.lie(BEFORE, header(PCI_EXT_CAP_ID_ERR, 2, after_before));
        endpoint.lie(TPH, header(PCI_EXT_CAP_ID_TPH, 1, after_tph));
        for at in self.bytes().skip(4).step_by(4) {
            if !REGISTERS.contains(&at) {
                endpoint.lie(at, BODY);
            }
        }
        if self.id == VENDOR {
            endpoint.lie(self.offset + 4, (u32::from(self.len) << 20) | 0xabc);
        }
        endpoint.lie(self.offset, header(self.id, 1, after_this));
        endpoint.bdf.rediscover();
        // What an earlier driver left, and a reset does not take away.
        for at in TABLE.step_by(4).filter(|at| !self.bytes().contains(at)) {
            endpoint.lie(at, STALE);
        }
    }
}

/// Starts below TPH and reaches over its registers into the table; has its header inside the
/// registers; is inside the table, in the middle and at its end. Shown, and hidden.
fn others() -> Vec<Other> {
    let shapes = [
        (VENDOR, TPH - 8, 0x28),
        (VENDOR, TPH + 8, 0x18),
        (UNKNOWN, TPH + 8, 4),
        (VENDOR, TABLE.start, 8),
        (VENDOR, TPH + 0x20, 0xc),
        (PASID, TPH + 0x20, 8),
        (UNKNOWN, TPH + 0x20, 4),
        (VENDOR, TABLE.end - 4, 0x10),
    ];
    let each = |(id, offset, len)| {
        [false, true].map(|first| Other {
            id,
            offset,
            len,
            first,
        })
    };
    shapes.into_iter().flat_map(each).collect()
}

/// Bytes of config space that nobody but their owner may write: those of another capability but for
/// the registers of TPH.
fn foreign(other: &Other) -> Vec<u16> {
    other.bytes().filter(|at| !REGISTERS.contains(at)).collect()
}

/// Fails the test if a byte of another capability has been written since `mark`.
#[track_caller]
fn assert_not_written(endpoint: &Endpoint, mark: u64, other: &Other, what: &str) {
    for write in endpoint.config_writes(mark, ANYWHERE) {
        let written = write.0..write.0 + u64::from(write.1);
        let mut foreign = foreign(other).into_iter();
        let hit = foreign.find(|&at| written.contains(&at.into()));
        assert_eq!(hit, None, "{other:x?}: {what}: {write:x?}");
    }
}

/// Extended config space as hardware has it, as far as the tests go. No access.
fn hardware(endpoint: &Endpoint) -> Vec<u8> {
    let mut bytes = vec![0; BEFORE.into()];
    bytes.extend(endpoint.peek_config(BEFORE..BEHIND));
    bytes
}

/// What a user reads, byte by byte, word by word and in one: of another capability what hardware
/// has, of the rest of what is claimed `tag` in each entry, and zeros.
#[track_caller]
fn assert_reads(endpoint: &Endpoint, device: &Device, other: &Other, tag: u16) {
    let space = device.config_space();
    let hardware = hardware(endpoint);
    let own = other.bytes();
    for at in TPH.min(own.start)..TABLE.end.max(own.end) {
        let byte = device.config_byte(at);
        let place = usize::from(at);
        assert_eq!(byte, space[place], "{other:x?}: {at:#x}");
        if at % 2 == 0 {
            let word = u16::from_le_bytes([byte, space[place + 1]]);
            assert_eq!(device.config_word(at), word, "{other:x?}: word at {at:#x}");
        }
        // Of a header that is shown the pointer is that of the user's chain.
        let in_chain = !other.is_hidden() && (own.start..own.start + 4).contains(&at);
        if REGISTERS.contains(&at) || in_chain {
            continue;
        }
        let expected = if own.contains(&at) {
            hardware[place]
        } else if (at - TABLE.start) / 2 < other.entries() {
            tag.to_le_bytes()[usize::from(at % 2)]
        } else {
            0
        };
        assert_eq!(byte, expected, "{other:x?}: {at:#x}");
    }
}

/// The chain that a user walks.
fn assert_chain(device: &Device, other: &Other) {
    let mut expected = vec![BEFORE, TPH, BEHIND];
    if !other.is_hidden() && !REGISTERS.contains(&other.offset) {
        expected.insert(if other.first { 1 } else { 2 }, other.offset);
    }
    let mut found = vec![];
    let mut at = BEFORE;
    while at != 0 && found.len() < 8 {
        found.push(at);
        at = (device.config_dword(at) >> 20) as u16;
    }
    assert_eq!(found, expected, "{other:x?}");
}

/// What the device claims for its table and nobody else owns is 0.
fn assert_cleared(endpoint: &Endpoint, other: &Other, after: &str) {
    let hardware = hardware(endpoint);
    let left = TABLE
        .filter(|at| !other.bytes().contains(at))
        .find(|&at| hardware[usize::from(at)] != 0);
    assert_eq!(left, None, "{other:x?}: a tag is left after {after}");
}

/// Open, TPH_ST, resets and close, with all that a user may do to it in between.
fn live(endpoint: &Endpoint, other: &Other) {
    policy::bind(endpoint, Policy::Literal);
    let mark = endpoint.mark();
    let device = endpoint.open();
    assert_not_written(endpoint, mark, other, "open");
    let offer = device.tph().unwrap_or_else(|e| panic!("{other:x?}: {e}"));
    let entries = other.entries();
    assert_eq!(offer.st_entries, entries, "{other:x?}");
    let size = (device.tph_capability() & PCI_TPH_CAP_ST_MASK) >> 16;
    assert_eq!(size, u32::from(entries.saturating_sub(1)), "{other:x?}");
    assert_chain(&device, other);
    assert_cleared(endpoint, other, "open");
    assert_reads(endpoint, &device, other, 0);

    let own = || -> Vec<u8> {
        let hardware = hardware(endpoint);
        let bytes = foreign(other).into_iter();
        bytes.map(|at| hardware[usize::from(at)]).collect()
    };
    let before = own();
    for round in ["VFIO_DEVICE_RESET", "a reset through sysfs", "close"] {
        let mark = endpoint.mark();
        device.set_control(IV_ENABLED);
        assert_eq!(device.control(), IV_ENABLED, "{other:x?}: {round}");
        if entries == 0 {
            assert_errno!(device.program(0, &[cpu(CPU)]), EOPNOTSUPP, "{other:x?}");
        } else {
            let sources = vec![cpu(CPU); entries.into()];
            assert_eq!(device.program(0, &sources), Ok(()), "{other:x?}: {round}");
            assert_errno!(device.program(entries, &[cpu(CPU)]), EINVAL, "{other:x?}");
        }
        assert_reads(endpoint, &device, other, st(CPU));
        // What is virtual takes nothing.
        for at in (TPH..TABLE.end).filter(|at| !other.bytes().contains(at)) {
            if !(TPH + CONTROL..REGISTERS.end).contains(&at) {
                device.set_config(at, &[0xff]);
            }
        }
        assert_reads(endpoint, &device, other, st(CPU));
        match round {
            "VFIO_DEVICE_RESET" => device.reset().expect("a reset"),
            "a reset through sysfs" => endpoint.bdf.reset().expect("a reset"),
            _ => break,
        }
        assert_not_written(endpoint, mark, other, round);
        assert_eq!(own(), before, "{other:x?}: {round}");
        assert_cleared(endpoint, other, round);
        assert_reads(endpoint, &device, other, 0);
    }
    let mark = endpoint.mark();
    drop(device);
    assert_not_written(endpoint, mark, other, "close");
    assert_eq!(own(), before, "{other:x?}: close");
}

fn r75_no_byte_of_another_capability(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    for other in others() {
        other.put_into(&endpoint);
        live(&endpoint, &other);
    }
    back_to_normal(&endpoint);
}

/// The emulated endpoint judges by the table that it really has, the harness by the Control
/// register.
fn back_to_normal(endpoint: &Endpoint) {
    endpoint.tell_the_truth();
    endpoint.clear_violations();
}

/// Control is the driver's, whoever claims its bytes: what a user writes is judged, and 10b never
/// gets to hardware. So are the other registers.
fn r75_the_registers_are_the_drivers(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    for other in others() {
        other.put_into(&endpoint);
        policy::bind(&endpoint, Policy::Literal);
        let device = endpoint.open();
        let at = TPH + CONTROL;
        for value in [0x0200u32, 0x0103, 0xffff_ffff, 0x0201] {
            let mark = endpoint.mark();
            device.set_config(at, &value.to_le_bytes());
            for byte in 0..4 {
                device.set_config(at + byte, &[value.to_le_bytes()[usize::from(byte)]]);
            }
            for write in endpoint.config_writes(mark, ANYWHERE) {
                let (offset, _, value) = write;
                let judged = value & !0x307 == 0 && value >> 8 != 2 && value & 7 < 3;
                assert!(offset == u64::from(at) && judged, "{other:x?}: {write:x?}");
            }
            let in_force = endpoint.control() & 0x307;
            assert_eq!(device.control(), in_force, "{other:x?}: {value:#x}");
            device.set_control(0);
        }
        // All of it in one write, over the header of whoever reaches in.
        let mark = endpoint.mark();
        device.set_config(TPH, &[0xff; 12]);
        for write in endpoint.config_writes(mark, ANYWHERE) {
            assert_eq!(write.0, u64::from(at), "{other:x?}: {write:x?}");
        }
    }
    back_to_normal(&endpoint);
}

/// Extended config space that ends at its first dword when the device is opened: none of its bytes
/// is anybody's. The PCI core has found TPH before.
fn end_chain(endpoint: &Endpoint) {
    make_honest(endpoint);
    endpoint.lie(BEFORE, 0);
}

/// A chain that vfio-pci-core leads past a capability that it does not know, and a vendor's, which
/// claims all of the bytes, takes that back: the user reads hardware's pointers.
fn claim_chain(endpoint: &Endpoint) {
    let header = |id: u32, next: u16| id | (1 << 16) | (u32::from(next) << 20);
    let (claimant, changed, unknown) = (TPH - 0x20, TPH - 0x10, 0x500);
    make_honest(endpoint);
    endpoint.lie(BEFORE, header(PCI_EXT_CAP_ID_ERR, changed));
    endpoint.lie(changed, header(PCI_EXT_CAP_ID_DSN, unknown));
    endpoint.lie(unknown, header(UNKNOWN, TPH));
    endpoint.lie(TPH, header(PCI_EXT_CAP_ID_TPH, claimant));
    endpoint.lie(claimant, header(VENDOR, 0));
    endpoint.lie(claimant + 4, 0x200 << 20);
    endpoint.bdf.rediscover();
}

/// Where the chain does not lead to TPH it is hidden, and as much the driver's as where it does:
/// nobody writes Control past it.
fn r75_where_the_chain_does_not_lead(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    for policy in [Policy::IvSt, Policy::Literal] {
        end_chain(&endpoint);
        policy::bind(&endpoint, policy);
        let device = endpoint.open();
        assert_errno!(device.tph(), EOPNOTSUPP, "{policy:?}");
        let mark = endpoint.mark();
        for at in REGISTERS {
            device.set_config(at, &[0xff]);
        }
        for at in REGISTERS.step_by(4) {
            device.set_config(at, &IV_ENABLED.to_le_bytes());
            assert_eq!(device.config_dword(at), 0, "{policy:?}: {at:#x}");
        }
        device.set_config(TPH, &[0xff; 12]);
        let registers = REGISTERS.start.into()..REGISTERS.end.into();
        let hits = endpoint.config_writes(mark, registers);
        assert_eq!(hits, [], "{policy:?}");
        assert_eq!(endpoint.control() & 0x307, 0, "{policy:?}");
        drop(device);
        endpoint.bdf.unbind();
        back_to_normal(&endpoint);
    }
}

/// Where the user gets to TPH by pointers of hardware's it is in their chain as any other: shown,
/// and driven by its registers, of which hardware gets what is judged.
fn r75_where_pointers_of_hardware_lead(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    for policy in [Policy::IvSt, Policy::Literal] {
        claim_chain(&endpoint);
        policy::bind(&endpoint, policy);
        let device = endpoint.open();
        let offer = device.tph().expect("TPH");
        assert_ne!(offer.modes & 1, 0, "{policy:?}: {offer:?}");
        assert_eq!(device.tph_offset(), TPH, "{policy:?}");
        let at = TPH + CONTROL;
        let mark = endpoint.mark();
        for value in [0x0200u32, 0x0100, 0xffff_ffff] {
            device.set_config(at, &value.to_le_bytes());
            assert_eq!(device.control(), endpoint.control() & 0x307, "{value:#x}");
        }
        assert_eq!(endpoint.control() & 0x307, 0x100, "{policy:?}: No ST");
        for (offset, _, value) in endpoint.config_writes(mark, ANYWHERE) {
            let judged = value & !0x307 == 0 && value >> 8 != 2;
            assert!(
                offset == u64::from(at) && judged,
                "{policy:?}: {offset:#x} {value:#x}"
            );
        }
        drop(device);
        endpoint.bdf.unbind();
        back_to_normal(&endpoint);
    }
}

/// Below ds_st hardware goes on using what another capability has in the table: Interrupt Vector
/// mode is not there to be selected, and nothing of the table is seen but what others own.
fn r75_no_interrupt_vector_mode_below_ds_st(bench: &mut Bench) {
    needs_tph();
    let endpoint = bench.pick(&Want::TABLE);
    for other in others() {
        let overlaps = other.bytes().any(|at| TABLE.contains(&at));
        for policy in [Policy::IvSt, Policy::NoSt] {
            other.put_into(&endpoint);
            policy::bind(&endpoint, policy);
            let mark = endpoint.mark();
            let device = endpoint.open();
            let offer = device.tph().unwrap_or_else(|e| panic!("{other:x?}: {e}"));
            let has_iv = !overlaps && policy == Policy::IvSt;
            assert_eq!(offer.modes & 2 != 0, has_iv, "{other:x?} {policy:?}");
            assert_eq!(offer.st_entries != 0, has_iv, "{other:x?} {policy:?}");
            assert_reads(&endpoint, &device, &other, 0);
            device.set_control(IV_ENABLED);
            let in_force = if has_iv { IV_ENABLED } else { 0 };
            assert_eq!(device.control(), in_force, "{other:x?} {policy:?}");
            drop(device);
            assert_not_written(&endpoint, mark, &other, "open and close");
        }
    }
    back_to_normal(&endpoint);
}

/// A quirk of the kernel's gives a device a config space of 600h bytes: it can be used like any
/// other.
fn r84_config_space_of_another_size(bench: &mut Bench) {
    const SIZE: u16 = 0x600;

    needs_tph();
    // The file is as large as config spaces are, and ends where this one does.
    let endpoint = bench.pick_where("a config space of 600h bytes", |bdf| {
        fs::read(bdf.path("config")).is_ok_and(|bytes| bytes.len() == usize::from(SIZE))
    });
    for offset in [TPH, SIZE - 0x10, SIZE - 4] {
        endpoint.reshape(TphShape {
            table: Some(Table::Cap),
            entries: Some(8),
            position: Some(Position::Last),
            offset: Some(offset),
            ..TphShape::default()
        });
        policy::bind(&endpoint, Policy::Literal);
        let device = endpoint.open();
        let end = offset + PCI_TPH_BASE_SIZEOF as u16;
        if end <= SIZE {
            let entries = ((SIZE - end) / 2).min(8);
            let offered = device.tph().map(|offer| offer.st_entries);
            assert_eq!(offered, Ok(entries), "{offset:#x}");
            device.set_control(IV_ENABLED);
            assert_eq!(endpoint.control(), IV_ENABLED, "{offset:#x}");
            let sources = vec![cpu(CPU); entries.into()];
            device.program(0, &sources).expect("TPH_ST");
        } else {
            assert_errno!(device.tph(), EOPNOTSUPP, "{offset:#x}");
        }
        // Writes that reach the end, and past it.
        device.set_config(SIZE - 4, &[0; 4]);
        let past = device.write_config(SIZE - 2, &[0; 4]);
        assert!(past.is_err(), "{offset:#x}: {past:?}");
    }
}

fn main() -> ExitCode {
    harness::run(tests![
        r75_no_byte_of_another_capability,
        r75_the_registers_are_the_drivers,
        r75_where_the_chain_does_not_lead,
        r75_where_pointers_of_hardware_lead,
        r75_no_interrupt_vector_mode_below_ds_st,
        r84_config_space_of_another_size,
    ])
}
