// SPDX-License-Identifier: GPL-2.0-only

//! The vfio-user server of one endpoint: one client at a time.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::libc::{EINVAL, ENOTSUP};
use tph_protocol::{Command, Reply};
use vfio_bindings::bindings::vfio::{
    vfio_device_info, vfio_irq_info, vfio_region_info, VFIO_DEVICE_FLAGS_PCI,
    VFIO_DEVICE_FLAGS_RESET, VFIO_IRQ_INFO_EVENTFD, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX, VFIO_PCI_NUM_IRQS, VFIO_PCI_NUM_REGIONS, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::config::layout;
use crate::device::{Answer, Endpoint, Origin, Payload};
use crate::wire::{self, command, Message, RegionAccess, MAX_TRANSFER};

/// How long an interrupt may take to be delivered, on a busy host. QEMU waits longer for an answer
/// of ours (`x-msg-timeout` of `selftests/run`): where each waits for the other, this ends first.
const DELIVERY: Duration = Duration::from_secs(45);

/// An endpoint and its connection, shared by the server's and the control channel's threads.
pub struct Port {
    state: Mutex<PortState>,
    /// An answer to a request of ours came, or never will.
    answered: Condvar,
}

struct PortState {
    endpoint: Endpoint,
    link: Option<Link>,
}

/// A connected client, and what we asked it.
struct Link {
    stream: UnixStream,
    next_id: u16,
    waiting: HashMap<u16, Origin>,
}

impl Port {
    /// An endpoint without a client.
    pub fn new(endpoint: Endpoint) -> Self {
        Port {
            state: Mutex::new(PortState {
                endpoint,
                link: None,
            }),
            answered: Condvar::new(),
        }
    }

    /// Name of the endpoint.
    pub fn name(&self) -> String {
        self.lock().endpoint.name().to_owned()
    }

    fn lock(&self) -> MutexGuard<'_, PortState> {
        // A panic ends the process, so nobody sees what it left.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A command of the control channel.
    pub fn control(&self, command: Command) -> Reply {
        let mut state = self.lock();
        let answer = state.endpoint.control(command);
        if let Err(why) = state.send_outgoing() {
            return Reply::Error(format!("{}: {why:#}", state.endpoint.name()));
        }
        let reply = match answer {
            Answer::Now(reply) => return reply,
            Answer::Delivered(reply) => reply,
        };
        let (_state, timeout) = self
            .answered
            .wait_timeout_while(state, DELIVERY, |state| state.interrupt_on_its_way())
            .unwrap_or_else(PoisonError::into_inner);
        if timeout.timed_out() {
            Reply::Error("the interrupt was not delivered".to_owned())
        } else {
            reply
        }
    }

    /// Takes clients for ever. A client that is lost is not an error of ours.
    pub fn serve(&self, listener: &UnixListener) -> Result<()> {
        loop {
            let (stream, _) = listener.accept().context("accept")?;
            if let Err(why) = self.serve_client(&stream) {
                eprintln!("tph-endpoint: {}: {why:#}", self.name());
            }
            let mut state = self.lock();
            state.link = None;
            state.endpoint.disconnect();
            self.answered.notify_all();
        }
    }

    fn serve_client(&self, stream: &UnixStream) -> Result<()> {
        {
            let mut state = self.lock();
            state.link = Some(Link {
                stream: stream.try_clone()?,
                next_id: 0,
                waiting: HashMap::new(),
            });
            state.endpoint.connect();
        }
        while let Some(message) = wire::receive(stream).context("client")? {
            let mut state = self.lock();
            if message.header.is_reply() {
                state.answer(&message);
                self.answered.notify_all();
            } else {
                let reply = state.request(&message);
                if message.header.wants_reply() {
                    state.send(&reply)?;
                }
                // Only after the reply: QEMU waits for it and hears nothing else meanwhile.
                state.send_outgoing()?;
            }
        }
        Ok(())
    }
}

impl PortState {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let link = self.link.as_mut().context("no client")?;
        link.stream.write_all(bytes).context("client")
    }

    fn send_outgoing(&mut self) -> Result<()> {
        for request in self.endpoint.take_outgoing() {
            let Some(link) = &mut self.link else {
                self.endpoint.completed(request.origin, Err(()));
                continue;
            };
            let id = link.next_id;
            link.next_id = id.wrapping_add(1);
            link.waiting.insert(id, request.origin);
            let bytes = match &request.payload {
                Payload::Write(data) => wire::dma_write(id, request.address, data),
                Payload::Read(count) => wire::dma_read(id, request.address, *count),
            };
            link.stream.write_all(&bytes).context("client")?;
        }
        Ok(())
    }

    fn interrupt_on_its_way(&self) -> bool {
        self.link
            .as_ref()
            .is_some_and(|link| link.waiting.values().any(|o| *o == Origin::Interrupt))
    }

    /// The client answers one of our requests.
    fn answer(&mut self, message: &Message) {
        let link = self.link.as_mut();
        let Some(origin) = link.and_then(|l| l.waiting.remove(&message.header.id)) else {
            return;
        };
        let answer = if message.header.is_error() {
            Err(())
        } else if message.header.command == command::DMA_READ {
            wire::dma_data(&message.payload).ok_or(())
        } else {
            Ok(&[][..])
        };
        self.endpoint.completed(origin, answer);
    }

    /// The client asks.
    fn request(&mut self, message: &Message) -> Vec<u8> {
        let header = &message.header;
        let payload = &message.payload[..];
        let body = match header.command {
            command::VERSION => version(payload),
            // Memory is reached by messages: what is mapped where is the client's business.
            command::DMA_MAP => Some(vec![]),
            command::DMA_UNMAP => Some(payload.to_vec()),
            command::DEVICE_GET_INFO => Some(device_info()),
            command::DEVICE_GET_REGION_INFO => self.region_info(payload),
            command::DEVICE_GET_IRQ_INFO => irq_info(payload),
            // INTx and MSI do not exist, MSI-X is ours, and errors are not reported this way.
            command::DEVICE_SET_IRQS => Some(vec![]),
            command::REGION_READ => self.region_read(payload),
            command::REGION_WRITE => self.region_write(payload),
            command::DEVICE_RESET => {
                self.endpoint.bus_reset();
                Some(vec![])
            }
            _ => return wire::error(header, ENOTSUP),
        };
        match body {
            Some(body) => wire::reply(header, &[&body]),
            None => wire::error(header, EINVAL),
        }
    }

    fn region_size(&self, index: u32) -> u64 {
        if index == VFIO_PCI_CONFIG_REGION_INDEX {
            layout::SIZE.into()
        } else {
            u8::try_from(index).map_or(0, |bar| self.endpoint.bar_size(bar))
        }
    }

    fn region_info(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let index = word(payload, 2)?;
        if index >= VFIO_PCI_NUM_REGIONS {
            return None;
        }
        let size = self.region_size(index);
        let flags = if size > 0 {
            VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
        } else {
            0
        };
        let argsz = size_of::<vfio_region_info>() as u32;
        let mut reply = words(&[argsz, flags, index, 0]);
        reply.extend_from_slice(&size.to_le_bytes());
        reply.extend_from_slice(&0u64.to_le_bytes());
        Some(reply)
    }

    /// The access, if it lies within its region.
    fn region_access<'a>(&self, payload: &'a [u8]) -> Option<(RegionAccess, &'a [u8])> {
        let (access, data) = RegionAccess::read_from_prefix(payload).ok()?;
        let end = access.offset.checked_add(access.count.into())?;
        let fits = end <= self.region_size(access.region) && access.count <= MAX_TRANSFER;
        fits.then_some((access, data))
    }

    fn region_read(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let (access, _) = self.region_access(payload)?;
        let count = access.count as usize;
        let data = match access.region {
            VFIO_PCI_CONFIG_REGION_INDEX => self.endpoint.config_read(access.offset as u16, count),
            bar => self.endpoint.mmio_read(bar as u8, access.offset, count),
        };
        Some([access.as_bytes(), &data].concat())
    }

    fn region_write(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let (access, data) = self.region_access(payload)?;
        let data = data.get(..access.count as usize)?;
        match access.region {
            VFIO_PCI_CONFIG_REGION_INDEX => {
                self.endpoint.config_write(access.offset as u16, data);
            }
            bar => self.endpoint.mmio_write(bar as u8, access.offset, data),
        }
        Some(access.as_bytes().to_vec())
    }
}

/// Version 0.0, which is all that QEMU knows, and our limits.
fn version(payload: &[u8]) -> Option<Vec<u8>> {
    let major = payload.get(..2)?;
    if major != [0, 0] {
        return None;
    }
    let capabilities = serde_json::json!({
        "capabilities": { "max_msg_fds": 8, "max_data_xfer_size": MAX_TRANSFER },
    });
    let mut reply = vec![0; 4];
    reply.extend_from_slice(capabilities.to_string().as_bytes());
    reply.push(0);
    Some(reply)
}

fn device_info() -> Vec<u8> {
    words(&[
        size_of::<vfio_device_info>() as u32,
        VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
        VFIO_PCI_NUM_REGIONS,
        VFIO_PCI_NUM_IRQS,
    ])
}

fn irq_info(payload: &[u8]) -> Option<Vec<u8>> {
    let index = word(payload, 2)?;
    if index >= VFIO_PCI_NUM_IRQS {
        return None;
    }
    // One error interrupt, which never fires: QEMU complains about a device without.
    let error = index == VFIO_PCI_ERR_IRQ_INDEX;
    let flags = if error { VFIO_IRQ_INFO_EVENTFD } else { 0 };
    let argsz = size_of::<vfio_irq_info>() as u32;
    Some(words(&[argsz, flags, index, error.into()]))
}

/// The nth 32-bit word of a message.
fn word(payload: &[u8], n: usize) -> Option<u32> {
    let bytes = payload.get(4 * n..4 * n + 4)?;
    u32::read_from_bytes(bytes).ok()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.as_bytes().to_vec()
}
