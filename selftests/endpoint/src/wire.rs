// SPDX-License-Identifier: GPL-2.0-only

//! Messages of the vfio-user protocol, as QEMU speaks it.

use std::io::{self, IoSliceMut, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{recvmsg, ControlMessageOwned, MsgFlags};
use nix::unistd::close;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most data bytes in one message, ours and the client's.
pub const MAX_TRANSFER: u32 = 1 << 20;
/// Most file descriptors that come with one message.
const MAX_FDS: usize = 8;

/// Commands.
pub mod command {
    /// Negotiation; always the first message.
    pub const VERSION: u16 = 1;
    /// A range of memory is there.
    pub const DMA_MAP: u16 = 2;
    /// A range of memory is gone.
    pub const DMA_UNMAP: u16 = 3;
    /// `struct vfio_device_info`.
    pub const DEVICE_GET_INFO: u16 = 4;
    /// `struct vfio_region_info`.
    pub const DEVICE_GET_REGION_INFO: u16 = 5;
    /// `struct vfio_irq_info`.
    pub const DEVICE_GET_IRQ_INFO: u16 = 7;
    /// `struct vfio_irq_set`.
    pub const DEVICE_SET_IRQS: u16 = 8;
    /// Read of configuration space or a BAR.
    pub const REGION_READ: u16 = 9;
    /// Write of configuration space or a BAR.
    pub const REGION_WRITE: u16 = 10;
    /// Read of memory, from server to client.
    pub const DMA_READ: u16 = 11;
    /// Write of memory, from server to client.
    pub const DMA_WRITE: u16 = 12;
    /// Reset of the bus.
    pub const DEVICE_RESET: u16 = 13;
}

const TYPE_MASK: u32 = 0xf;
const TYPE_REPLY: u32 = 0x1;
const NO_REPLY: u32 = 0x10;
const ERROR: u32 = 0x20;

/// Header of every message.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Header {
    /// Pairs replies with requests; each side has numbers of its own.
    pub id: u16,
    /// A value of [`command`].
    pub command: u16,
    /// Bytes, with this header.
    pub size: u32,
    flags: u32,
    error: u32,
}

const HEADER: usize = size_of::<Header>();

impl Header {
    /// It answers a request of ours.
    pub fn is_reply(&self) -> bool {
        self.flags & TYPE_MASK == TYPE_REPLY
    }

    /// It says that a request failed.
    pub fn is_error(&self) -> bool {
        self.flags & ERROR != 0
    }

    /// The sender wants an answer.
    pub fn wants_reply(&self) -> bool {
        self.flags & NO_REPLY == 0
    }
}

/// What comes before the data of a region access.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RegionAccess {
    /// In the region.
    pub offset: u64,
    /// Region index of vfio-pci.
    pub region: u32,
    /// Bytes.
    pub count: u32,
}

/// What comes before the data of a DMA request.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct DmaAccess {
    /// Bus address.
    pub address: u64,
    /// Bytes.
    pub count: u64,
}

/// One message.
pub struct Message {
    /// Its header.
    pub header: Header,
    /// What follows.
    pub payload: Vec<u8>,
}

/// Waits for a message. `None`: the other side is gone. Descriptors that come along are closed:
/// guest memory is reached by messages, as only they go through the IOMMU.
pub fn receive(stream: &UnixStream) -> io::Result<Option<Message>> {
    let mut head = [0; HEADER];
    let mut filled = 0;
    while filled < HEADER {
        let n = receive_some(stream, &mut head[filled..])?;
        if n == 0 {
            return if filled == 0 {
                Ok(None)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        filled += n;
    }
    let header: Header = zerocopy::transmute!(head);
    let payload = (header.size as usize)
        .checked_sub(HEADER)
        .filter(|&len| len <= MAX_TRANSFER as usize + HEADER);
    let Some(len) = payload else {
        let why = format!("message of {} bytes", header.size);
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    };
    let mut payload = vec![0; len];
    let mut reader = stream;
    reader.read_exact(&mut payload)?;
    Ok(Some(Message { header, payload }))
}

fn receive_some(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut fds = nix::cmsg_space!([std::os::fd::RawFd; MAX_FDS]);
    let mut iov = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        match recvmsg::<()>(stream.as_raw_fd(), &mut iov, Some(&mut fds), flags) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            for fd in received {
                close(fd)?;
            }
        }
    }
    Ok(message.bytes)
}

/// A reply to a request. One buffer, so one write: QEMU takes a header in pieces for an error.
pub fn reply(request: &Header, parts: &[&[u8]]) -> Vec<u8> {
    message(request.id, request.command, TYPE_REPLY, 0, parts)
}

/// A reply that says no.
pub fn error(request: &Header, errno: i32) -> Vec<u8> {
    let flags = TYPE_REPLY | ERROR;
    message(request.id, request.command, flags, errno as u32, &[])
}

/// A request to write memory.
pub fn dma_write(id: u16, address: u64, data: &[u8]) -> Vec<u8> {
    let access = DmaAccess {
        address,
        count: data.len() as u64,
    };
    message(id, command::DMA_WRITE, 0, 0, &[access.as_bytes(), data])
}

/// A request to read memory.
pub fn dma_read(id: u16, address: u64, count: u32) -> Vec<u8> {
    let access = DmaAccess {
        address,
        count: count.into(),
    };
    message(id, command::DMA_READ, 0, 0, &[access.as_bytes()])
}

/// The data in the reply to [`dma_read`].
pub fn dma_data(payload: &[u8]) -> Option<&[u8]> {
    let (access, data) = DmaAccess::read_from_prefix(payload).ok()?;
    data.get(..access.count.try_into().ok()?)
}

fn message(id: u16, command: u16, flags: u32, error: u32, parts: &[&[u8]]) -> Vec<u8> {
    let size = HEADER + parts.iter().map(|part| part.len()).sum::<usize>();
    let header = Header {
        id,
        command,
        size: size as u32,
        flags,
        error,
    };
    let mut bytes = Vec::with_capacity(size);
    bytes.extend_from_slice(header.as_bytes());
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn round_trip() {
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(&dma_write(7, 0x1234, &[1, 2, 3])).unwrap();
        let got = receive(&b).unwrap().unwrap();
        assert_eq!((got.header.id, got.header.command), (7, command::DMA_WRITE));
        assert!(!got.header.is_reply() && got.header.wants_reply());
        assert_eq!(got.header.size as usize, HEADER + 16 + 3);
        assert_eq!(dma_data(&got.payload), Some(&[1u8, 2, 3][..]));

        a.write_all(&error(&got.header, 22)).unwrap();
        let got = receive(&b).unwrap().unwrap();
        assert!(got.header.is_reply() && got.header.is_error());
        drop(a);
        assert!(receive(&b).unwrap().is_none());
    }

    #[test]
    fn nonsense_is_an_error() {
        for size in [0u32, 15, 1 << 30] {
            let (mut a, b) = UnixStream::pair().unwrap();
            let mut bytes = reply(&zerocopy::transmute!([0u8; HEADER]), &[]);
            bytes[4..8].copy_from_slice(&size.to_le_bytes());
            a.write_all(&bytes).unwrap();
            assert!(receive(&b).is_err());
        }
        let (mut a, b) = UnixStream::pair().unwrap();
        a.write_all(&[0; 5]).unwrap();
        drop(a);
        assert!(receive(&b).is_err());
        assert!(dma_data(&[0; 15]).is_none());
    }
}
