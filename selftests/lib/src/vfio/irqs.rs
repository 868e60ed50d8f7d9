// SPDX-License-Identifier: GPL-2.0-only

//! Interrupt vectors: `VFIO_DEVICE_SET_IRQS` with everything that can be wrong in it, and vectors
//! of MSI-X with an event each.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::slice;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use vfio_bindings::bindings::vfio::{
    vfio_irq_info, vfio_irq_set, VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_REQ_IRQ_INDEX,
};

use super::{ioctl, number, request, wait_for, Device};

/// `VFIO_DEVICE_SET_IRQS` with whatever argument, on whatever descriptor.
pub fn set_irqs_at(fd: RawFd, argument: *mut u8) -> Result<(), Errno> {
    ioctl(fd, request(number::DEVICE_SET_IRQS), argument).map(drop)
}

impl Device {
    /// `VFIO_DEVICE_SET_IRQS` with any flags; `data` is what follows the header.
    pub fn set_irqs_raw(
        &self,
        flags: u32,
        index: u32,
        start: u32,
        count: u32,
        data: &[RawFd],
    ) -> Result<(), Errno> {
        let argsz = size_of::<vfio_irq_set>() + size_of_val(data);
        let mut bytes = Vec::with_capacity(argsz);
        for field in [argsz as u32, flags, index, start, count] {
            bytes.extend(field.to_ne_bytes());
        }
        for word in data {
            bytes.extend(word.to_ne_bytes());
        }
        set_irqs_at(self.fd(), bytes.as_mut_ptr())
    }

    /// Number of interrupts of an index.
    pub fn irq_count(&self, index: u32) -> u32 {
        let mut info = vfio_irq_info {
            argsz: size_of::<vfio_irq_info>() as u32,
            index,
            ..Default::default()
        };
        ioctl(
            self.fd(),
            request(number::DEVICE_GET_IRQ_INFO),
            &raw mut info,
        )
        .expect("VFIO_DEVICE_GET_IRQ_INFO");
        info.count
    }

    /// Has `events` signalled by the MSI-X vectors from `start` on; -1 in place of one leaves its
    /// vector without an interrupt.
    pub fn set_msix(&self, start: u32, events: &[RawFd]) -> Result<(), Errno> {
        self.set_irqs_raw(
            VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_EVENTFD,
            VFIO_PCI_MSIX_IRQ_INDEX,
            start,
            events.len() as u32,
            events,
        )
    }

    /// Has the kernel signal the event of an MSI-X vector, as if the vector had been raised.
    pub fn trigger_msix(&self, vector: u16) -> Result<(), Errno> {
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
        self.set_irqs_raw(flags, VFIO_PCI_MSIX_IRQ_INDEX, vector.into(), 1, &[])
    }

    /// Frees all interrupts of an index.
    pub fn free_irqs(&self, index: u32) -> Result<(), Errno> {
        let flags = VFIO_IRQ_SET_ACTION_TRIGGER | VFIO_IRQ_SET_DATA_NONE;
        self.set_irqs_raw(flags, index, 0, 0, &[])
    }

    /// Frees all MSI-X vectors.
    #[track_caller]
    pub fn free_msix(&self) {
        self.free_irqs(VFIO_PCI_MSIX_IRQ_INDEX)
            .expect("SET_IRQS of none");
    }

    /// What vfio signals when it asks the user for the device.
    pub fn request_event(&self) -> EventFd {
        let event = EventFd::new().expect("eventfd");
        self.set_irqs(VFIO_PCI_REQ_IRQ_INDEX, slice::from_ref(&event))
            .expect("SET_IRQS of the request interrupt");
        event
    }

    /// Has another thread unbind the driver. Returns when vfio has asked for the device, and waits
    /// until it is closed.
    pub fn begin_unbind(&self) -> JoinHandle<()> {
        let asked = self.request_event();
        let bdf = self.bdf().clone();
        let unbind = thread::spawn(move || bdf.unbind());
        wait_for(&asked);
        unbind
    }
}

/// MSI-X vectors from 0 on, with an event each. They are freed by [`Device::free_irqs`] or with the
/// device, not when this is dropped.
pub struct Vectors {
    events: Vec<EventFd>,
}

impl Vectors {
    /// Allocates the first `count` vectors.
    pub fn allocate(device: &Device, count: u32) -> Result<Self, Errno> {
        Self::allocate_more(device, count, 0)
    }

    /// Allocates `count` vectors, and `more` after them that have no event.
    pub fn allocate_more(device: &Device, count: u32, more: u32) -> Result<Self, Errno> {
        allow_files(u64::from(count) + 64);
        let event = || EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK);
        let events = (0..count).map(|_| event()).collect::<Result<Vec<_>, _>>()?;
        let vectors = Self { events };
        let mut descriptors = vectors.descriptors();
        descriptors.resize((count + more) as usize, -1);
        device.set_msix(0, &descriptors)?;
        Ok(vectors)
    }

    /// Number of vectors with an event.
    pub fn count(&self) -> u16 {
        self.events.len() as u16
    }

    /// The events' descriptors.
    pub fn descriptors(&self) -> Vec<RawFd> {
        self.events.iter().map(AsRawFd::as_raw_fd).collect()
    }

    /// Whether a vector was raised since the last look.
    pub fn raised(&self, vector: u16) -> bool {
        self.events[usize::from(vector)].read().is_ok()
    }

    /// Waits until a vector is raised, as long as the harness lets a test run.
    pub fn wait(&self, vector: u16) {
        let event = &self.events[usize::from(vector)];
        let mut poll_fd = [PollFd::new(event.as_fd(), PollFlags::POLLIN)];
        poll(&mut poll_fd, PollTimeout::NONE).expect("poll");
        event.read().expect("eventfd");
    }
}

/// Lets the process have that many open files.
fn allow_files(count: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid struct.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        if limit.rlim_cur < count {
            limit.rlim_cur = count;
            limit.rlim_max = limit.rlim_max.max(count);
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        }
    }
}
