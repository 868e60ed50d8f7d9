// SPDX-License-Identifier: GPL-2.0-only

//! `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`, each field of which can be made wrong, and dma-bufs as
//! sources of tags.

use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use tph_uapi::vfio_tph::{
    vfio_device_feature_dma_buf_tph, VFIO_DEVICE_FEATURE_DMA_BUF_TPH, VFIO_DMA_BUF_TPH_ST,
    VFIO_DMA_BUF_TPH_ST_EXT, VFIO_TPH_SOURCE_DMABUF,
};

use super::feature::{source, Op, Source};
use super::Device;

/// `struct vfio_device_feature_dma_buf_tph`.
pub type DmaBufTph = vfio_device_feature_dma_buf_tph;

/// Hints for a dma-buf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// The standard tag.
    pub st: Option<u8>,
    /// The extended tag.
    pub xst: Option<u16>,
    /// The processing hint.
    pub ph: u8,
}

impl Hints {
    /// None.
    pub const NONE: Hints = Hints {
        st: None,
        xst: None,
        ph: 0,
    };

    /// Tags of both namespaces.
    pub fn both(st: u8, xst: u16, ph: u8) -> Self {
        Self {
            st: Some(st),
            xst: Some(xst),
            ph,
        }
    }

    /// The tag of a namespace.
    pub fn tag(&self, extended: bool) -> Option<u16> {
        match extended {
            true => self.xst,
            false => self.st.map(u16::from),
        }
    }

    /// What publishes them.
    pub fn request(&self, fd: RawFd) -> DmaBufTph {
        let flag = |set: bool, flag| if set { flag } else { 0 };
        DmaBufTph {
            dmabuf_fd: fd,
            flags: flag(self.st.is_some(), VFIO_DMA_BUF_TPH_ST)
                | flag(self.xst.is_some(), VFIO_DMA_BUF_TPH_ST_EXT),
            steering_tag_ext: self.xst.unwrap_or(0),
            steering_tag: self.st.unwrap_or(0),
            ph: self.ph,
        }
    }
}

/// The data of the feature, byte for byte as the contract lays it out.
pub fn dma_buf_tph_bytes(request: &DmaBufTph) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[0..4].copy_from_slice(&request.dmabuf_fd.to_ne_bytes());
    bytes[4..8].copy_from_slice(&request.flags.to_ne_bytes());
    bytes[8..10].copy_from_slice(&request.steering_tag_ext.to_ne_bytes());
    bytes[10] = request.steering_tag;
    bytes[11] = request.ph;
    bytes
}

/// A source that is a dma-buf.
pub fn dma_buf(fd: &impl AsRawFd) -> Source {
    dma_buf_fd(fd.as_raw_fd())
}

/// The same by number, which need not be one of an open file.
pub fn dma_buf_fd(fd: RawFd) -> Source {
    source(VFIO_TPH_SOURCE_DMABUF, 0, fd as u32)
}

impl Device {
    /// SET of `VFIO_DEVICE_FEATURE_DMA_BUF_TPH`.
    pub fn dma_buf_tph(&self, request: &DmaBufTph) -> Result<(), Errno> {
        let mut bytes = dma_buf_tph_bytes(request);
        self.feature(Op::Set, VFIO_DEVICE_FEATURE_DMA_BUF_TPH, &mut bytes)
    }

    /// Publishes hints for a dma-buf of the device.
    pub fn publish(&self, fd: &impl AsRawFd, hints: Hints) -> Result<(), Errno> {
        self.dma_buf_tph(&hints.request(fd.as_raw_fd()))
    }
}
