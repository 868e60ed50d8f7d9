// SPDX-License-Identifier: GPL-2.0-only

//! The devices, dma-bufs and mappings that operations work on, shared by all threads of a process,
//! and how an operation is done.

use std::fs;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::mman::ProtFlags;
use tph_selftests::memory::page_size;
use tph_selftests::msix::capability;
use tph_selftests::pci::Bdf;
use tph_selftests::policy;
use tph_selftests::protocol::registers::{reset_itself, MSIX_PBA, RESET_ITSELF, SCRATCH};
use tph_selftests::protocol::Lost;
use tph_selftests::tph;
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::uapi::vfio_tph::*;
use tph_selftests::vcpus;
use tph_selftests::vfio::{
    self, feature_bytes, Device, MapRequest, Mapped, Op as Verb, OpenBy, ResolveRequest, StRequest,
    FEATURE_HEADER,
};
use tph_selftests::{errno, Errno};

use crate::op::{Fd, LowPower, Memory, Op, Program, Reset, Resolve};
use crate::outcome::{Outcome, Tally};

/// Slots for dma-bufs.
pub const BUFFERS: usize = 4;
/// Slots for mappings.
pub const WINDOWS: usize = 4;
/// Events that interrupts signal.
pub const EVENTS: usize = 16;

/// BAR that is plain memory.
const MEMORY: u32 = 2;

/// What operations are drawn for.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Where the TPH capability is.
    pub capability: Option<u16>,
    /// Where the power management capability is.
    pub power: u16,
    /// Where the PCI Express capability is.
    pub express: u16,
    /// MSI-X vectors.
    pub vectors: u16,
    /// ST entries, wherever they are.
    pub entries: u16,
    /// Whether they are in the MSI-X table.
    pub in_msix: bool,
}

impl Shape {
    /// Reads it.
    pub fn of(bdf: &Bdf) -> Self {
        let config = bdf.config();
        let links = tph::chain(|offset| config.dword(offset));
        let link = links
            .iter()
            .find(|link| u32::from(link.id) == PCI_EXT_CAP_ID_TPH);
        let find = |id| capability(&config, id).expect("a capability that every endpoint has");
        let flags = config.word(find(PCI_CAP_ID_MSIX) + PCI_MSIX_FLAGS as u16);
        let vectors = (flags & PCI_MSIX_FLAGS_QSIZE as u16) + 1;
        let raw = link.map_or(0, |link| config.dword(link.offset + PCI_TPH_CAP as u16));
        let in_msix = raw & PCI_TPH_CAP_LOC_MASK == PCI_TPH_LOC_MSIX;
        Self {
            capability: link.map(|link| link.offset),
            power: find(PCI_CAP_ID_PM),
            express: find(PCI_CAP_ID_EXP),
            vectors,
            entries: match in_msix {
                true => vectors,
                false => tph::claimed_entries(raw).min(64),
            },
            in_msix,
        }
    }
}

/// What several threads do not do to a device at the same time, because vfio-pci does not care: it
/// changes vectors of a device in D3hot, by MMIO that is not decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// Everything: nobody else is there.
    All,
    /// No power states.
    Awake,
    /// No interrupts.
    Silent,
}

/// A device that is open or not.
pub struct Seat {
    /// Which it is.
    pub bdf: Bdf,
    /// Its shape.
    pub shape: Shape,
    /// Whether it has ever reset itself.
    pub has_lost: AtomicBool,
    device: RwLock<Option<Arc<Device>>>,
}

impl Seat {
    /// A device that is closed.
    pub fn new(bdf: Bdf) -> Self {
        Self {
            shape: Shape::of(&bdf),
            has_lost: AtomicBool::new(false),
            bdf,
            device: RwLock::new(None),
        }
    }

    /// The open device.
    pub fn device(&self) -> Option<Arc<Device>> {
        self.device
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Opens it unless it is open.
    fn open(&self) -> Result<(), Errno> {
        let mut device = self.device.write().unwrap_or_else(PoisonError::into_inner);
        if device.is_some() {
            return Err(Errno::EALREADY);
        }
        *device = Some(Arc::new(vfio::open(&self.bdf, OpenBy::Cdev)?));
        Ok(())
    }

    /// Closes it; in fact the last one does who still uses it.
    pub fn close(&self) {
        self.device
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

/// All that a process has.
pub struct World {
    /// Its devices.
    pub seats: Vec<Seat>,
    /// What they were used for.
    pub tally: Tally,
    buffers: [Mutex<Option<Arc<OwnedFd>>>; BUFFERS],
    windows: [Mutex<Option<Arc<Window>>>; WINDOWS],
    events: Vec<EventFd>,
}

/// A mapping of a part of a BAR.
struct Window {
    seat: usize,
    mapped: Mapped,
    bar: u32,
    start: u64,
}

fn slot<T>(slot: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A descriptor through which the kernel reads and writes device memory: a fault there is EFAULT,
/// and no signal.
fn scratch_file() -> Result<OwnedFd, Errno> {
    nix::sys::memfd::memfd_create(c"touch", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
}

impl World {
    /// A world with these devices, all of them closed.
    pub fn new(devices: &[Bdf]) -> Self {
        let event = |_| EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK).expect("eventfd");
        Self {
            seats: devices.iter().cloned().map(Seat::new).collect(),
            tally: Tally::default(),
            buffers: Default::default(),
            windows: Default::default(),
            events: (0..EVENTS).map(event).collect(),
        }
    }

    /// Lets go of everything.
    pub fn clear(&self) {
        self.windows
            .iter()
            .for_each(|window| drop(slot(window).take()));
        self.seats.iter().for_each(Seat::close);
        self.buffers
            .iter()
            .for_each(|buffer| drop(slot(buffer).take()));
    }

    fn number(&self, fd: Fd) -> (RawFd, Option<Arc<OwnedFd>>) {
        match fd {
            Fd::Number(number) => (number, None),
            Fd::Slot(index) => {
                let buffer = slot(&self.buffers[index]).clone();
                (buffer.as_ref().map_or(-1, |fd| fd.as_raw_fd()), buffer)
            }
        }
    }

    /// Does an operation on a device.
    pub fn run(&self, number: usize, op: &Op) -> Outcome {
        let outcome = self.run_any(number, op);
        self.tally.add(&outcome);
        outcome
    }

    fn run_any(&self, number: usize, op: &Op) -> Outcome {
        let seat = &self.seats[number];
        // What does not need an open device.
        match op {
            Op::Open => return seat.open().into(),
            Op::Close => {
                self.close(number);
                return Outcome::Done;
            }
            Op::Vcpus(list) => return vcpus::write(&seat.bdf, &text(list)).into(),
            Op::Policy(name) => return policy::write(&seat.bdf, name.as_bytes()).into(),
            Op::Look => return look(&seat.bdf),
            Op::Reset(Reset::Sysfs) => return seat.bdf.reset().map_err(errno).into(),
            Op::Unmap(index) => {
                slot(&self.windows[*index]).take();
                return Outcome::Done;
            }
            Op::CloseBuffer(index) => {
                slot(&self.buffers[*index]).take();
                return Outcome::Done;
            }
            Op::Touch(index, offset, write) => return self.touch(*index, *offset, *write),
            _ => (),
        }
        let Some(device) = seat.device() else {
            return Outcome::NotTried;
        };
        self.run_open(number, &device, op)
    }

    /// Closes a device: its mappings keep it open.
    fn close(&self, number: usize) {
        for window in &self.windows {
            let mut window = slot(window);
            if window.as_ref().is_some_and(|window| window.seat == number) {
                window.take();
            }
        }
        self.seats[number].close();
    }

    fn run_open(&self, number: usize, device: &Device, op: &Op) -> Outcome {
        let seat = &self.seats[number];
        match op {
            Op::Read(offset, length) => {
                let mut bytes = vec![0; *length];
                match device.read_config(*offset, &mut bytes) {
                    Ok(got) => {
                        bytes.truncate(got);
                        Outcome::Bytes(bytes)
                    }
                    Err(error) => Outcome::Failed(errno(error)),
                }
            }
            Op::Write(offset, bytes) => match device.write_config(*offset, bytes) {
                Ok(put) if put == bytes.len() => Outcome::Done,
                Ok(_) => Outcome::Failed(Errno::ENOSPC),
                Err(error) => Outcome::Failed(errno(error)),
            },
            Op::Reset(Reset::Device) => device.reset().into(),
            Op::Reset(Reset::Hot) => device.hot_reset(&[]).into(),
            Op::Reset(_) => {
                let at = seat.shape.express + PCI_EXP_DEVCTL as u16;
                let mut bytes = [0; 2];
                let written = device.read_config(at, &mut bytes).and_then(|_| {
                    bytes[1] |= (PCI_EXP_DEVCTL_BCR_FLR >> 8) as u8;
                    device.write_config(at, &bytes)
                });
                written.map(drop).map_err(errno).into()
            }
            Op::ResetItself(what) => {
                seat.has_lost.store(true, Ordering::Relaxed);
                resets_itself(device, *what).into()
            }
            Op::Offer => device.tph().map_or_else(Outcome::Failed, Outcome::Offer),
            Op::Program(program) => self.program(device, program),
            Op::SetMap(map) => {
                let mut request = MapRequest::new(&map.sources);
                request.flags = map.flags;
                request.reserved = map.reserved;
                request.data_size = Some(16 + 8 * map.sources.len() - map.short);
                let result = device.tph_map(&mut request);
                Outcome::Mapped(result, request.fault)
            }
            Op::Resolve(resolve) => self.resolve(device, resolve),
            Op::Publish(fd, flags, extended, standard, ph) => {
                let (number, _buffer) = self.number(*fd);
                let mut data = Vec::new();
                data.extend(number.to_ne_bytes());
                data.extend(flags.to_ne_bytes());
                data.extend(extended.to_ne_bytes());
                data.extend([*standard, *ph]);
                device
                    .feature(Verb::Set, VFIO_DEVICE_FEATURE_DMA_BUF_TPH, &mut data)
                    .into()
            }
            Op::Feature(flags, data) => {
                let mut data = data.clone();
                let length = data.len();
                device.feature_sized(*flags, &mut data, length).into()
            }
            Op::Irqs(flags, index, start, events) => {
                let number =
                    |event: &Option<usize>| event.map_or(-1, |e| self.events[e].as_raw_fd());
                let data: Vec<RawFd> = events.iter().map(number).collect();
                device
                    .set_irqs_raw(*flags, *index, *start, data.len() as u32, &data)
                    .into()
            }
            Op::FreeIrqs(index) => device.free_irqs(*index).into(),
            Op::LowPower(LowPower::Enter) => device.enter_low_power().into(),
            Op::LowPower(LowPower::EnterWithWakeup) => {
                device.enter_low_power_with_wakeup(&self.events[0]).into()
            }
            Op::LowPower(LowPower::Exit) => device.exit_low_power().into(),
            Op::Map(index, bar, start, length) => {
                let mapped = device.map_bar(*bar, *start..start + length);
                mapped
                    .map(|mapped| {
                        *slot(&self.windows[*index]) = Some(Arc::new(Window {
                            seat: number,
                            mapped,
                            bar: *bar,
                            start: *start,
                        }));
                    })
                    .into()
            }
            Op::ReadBar(bar, offset, length) => {
                let mut bytes = vec![0; *length];
                match device.read_bar(*bar, *offset, &mut bytes) {
                    Ok(got) => {
                        bytes.truncate(got);
                        Outcome::Bytes(bytes)
                    }
                    Err(errno) => Outcome::Failed(errno),
                }
            }
            Op::WriteBar(bar, offset, bytes) => {
                device.write_bar(*bar, *offset, bytes).map(drop).into()
            }
            Op::Export(index, bar, start, length) => {
                let range: Range<u64> = *start..start + length;
                device
                    .export_dma_buf(*bar, std::slice::from_ref(&range))
                    .map(|fd| *slot(&self.buffers[*index]) = Some(Arc::new(fd)))
                    .into()
            }
            // Done without a device.
            Op::Open
            | Op::Close
            | Op::Policy(_)
            | Op::Vcpus(_)
            | Op::Look
            | Op::Unmap(_)
            | Op::Touch(..)
            | Op::CloseBuffer(_) => Outcome::NotTried,
        }
    }

    fn program(&self, device: &Device, program: &Program) -> Outcome {
        let mut keep = Vec::new();
        let mut request = StRequest::new(program.index, &[]);
        request.flags = program.flags;
        request.count = program.count;
        request.reserved = program.reserved;
        for of in &program.sources {
            let mut source = of.source;
            if let Some(fd) = of.fd {
                let (number, buffer) = self.number(fd);
                source.value = number as u32;
                keep.push(buffer);
            }
            request.sources.push(source);
        }
        let length = request.bytes().len() - program.short;
        request.data_size = Some(length);
        match program.memory {
            Memory::Own => {
                let result = device.tph_st(&mut request);
                Outcome::Programmed(result, request.fault)
            }
            Memory::Bar => in_bar(device, &request.bytes(), length),
        }
    }

    fn resolve(&self, device: &Device, resolve: &Resolve) -> Outcome {
        let mut keep = Vec::new();
        let mut request = ResolveRequest::new(&[]);
        request.flags = resolve.flags;
        request.reserved = resolve.reserved;
        for (entry, fd) in &resolve.entries {
            let mut entry = *entry;
            if let Some(fd) = *fd {
                let (number, buffer) = self.number(fd);
                entry.source.value = number as u32;
                keep.push(buffer);
            }
            request.entries.push(entry);
        }
        request.data_size = Some(request.bytes().len() - resolve.short);
        let result = device.tph_resolve(&mut request);
        Outcome::Resolved(result, request.fault, request.entries)
    }

    fn touch(&self, index: usize, offset: u64, write: bool) -> Outcome {
        let Some(window) = slot(&self.windows[index]).clone() else {
            return Outcome::NotTried;
        };
        let offset = offset % (window.mapped.length() as u64 / 4 * 4).max(4);
        if offset + 4 > window.mapped.length() as u64 {
            return Outcome::NotTried;
        }
        // Registers of the engine start what would be no fault of the driver.
        let at = window.start + offset;
        let write = write && (window.bar == MEMORY || at >= SCRATCH);
        // The table is the kernel's business: who may see it could break it.
        if window.bar == 0 && at < MSIX_PBA && write {
            return Outcome::NotTried;
        }
        let file = match scratch_file() {
            Ok(file) => file,
            Err(errno) => return Outcome::Failed(errno),
        };
        // SAFETY: within a mapping that lives as long as `window`.
        let address = unsafe { window.mapped.address().add(offset as usize) };
        // SAFETY: four bytes of that mapping, and of a file of our own.
        let done = unsafe {
            if write {
                libc::pwrite(file.as_raw_fd(), [0x5a_u8; 4].as_ptr().cast(), 4, 0);
                libc::pread(file.as_raw_fd(), address.cast(), 4, 0)
            } else {
                libc::pwrite(file.as_raw_fd(), address.cast(), 4, 0)
            }
        };
        Errno::result(done).map(drop).into()
    }
}

/// The user knows what they do, and restores Command: nothing reaches the BARs in between.
fn resets_itself(device: &Device, what: Lost) -> Result<(), Errno> {
    let value = match what {
        Lost::Everything => reset_itself::EVERYTHING,
        Lost::Tph => reset_itself::TPH,
    };
    let at = PCI_COMMAND as u16;
    let mut command = [0; 2];
    device.read_config(at, &mut command).map_err(errno)?;
    device.write_bar(0, RESET_ITSELF, &value.to_le_bytes())?;
    if what == Lost::Everything {
        device.write_config(at, &command).map_err(errno)?;
    }
    Ok(())
}

/// TPH_ST with its argument in the device's own memory.
fn in_bar(device: &Device, data: &[u8], length: usize) -> Outcome {
    let flags = Verb::Set.flags() | VFIO_DEVICE_FEATURE_TPH_ST;
    let bytes = feature_bytes(flags, (FEATURE_HEADER + length) as u32, data);
    let written = device.write_bar(MEMORY, 0, &bytes);
    let mapped = device.map_bar_as(
        MEMORY,
        0..page_size() as u64,
        ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
    );
    let (Ok(_), Ok(mapped)) = (written, mapped) else {
        return Outcome::NotTried;
    };
    let result = device.feature_raw(mapped.address());
    let mut fault = [0; 4];
    let at = (FEATURE_HEADER + 8) as u64;
    match device.read_bar(MEMORY, at, &mut fault) {
        Ok(4) => Outcome::Programmed(result, u32::from_ne_bytes(fault)),
        // Memory was disabled in between: not to be asked about.
        _ => Outcome::NotTried,
    }
}

/// A list as tph_vcpus takes it.
fn text(list: &[Option<u32>]) -> String {
    let one = |cpu: &Option<u32>| cpu.map_or("-".to_owned(), |cpu| cpu.to_string());
    list.iter().map(one).collect::<Vec<_>>().join(",")
}

/// Reads what an administrator can see; of that, the state.
fn look(bdf: &Bdf) -> Outcome {
    let file = |name: &str| fs::read_to_string(format!("/sys/kernel/debug/vfio_tph/{bdf}/{name}"));
    let seen = (file("counters"), fs::read_to_string(policy::path(bdf)));
    match (file("state"), seen) {
        (Ok(state), (Ok(_), Ok(_))) => Outcome::State(state),
        (Err(error), _) | (_, (Err(error), _)) | (_, (_, Err(error))) => {
            Outcome::Failed(errno(error))
        }
    }
}
