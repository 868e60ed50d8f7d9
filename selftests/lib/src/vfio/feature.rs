// SPDX-License-Identifier: GPL-2.0-only

//! `VFIO_DEVICE_FEATURE`: typed for what is well formed, raw for what is not.

use std::os::fd::RawFd;

use nix::errno::Errno;
use tph_uapi::vfio_tph::{
    vfio_device_feature_tph, vfio_device_feature_tph_st, vfio_tph_source, VFIO_DEVICE_FEATURE_TPH,
    VFIO_DEVICE_FEATURE_TPH_ST, VFIO_DEVICE_TPH_EXTENDED, VFIO_TPH_SOURCE_CPU,
    VFIO_TPH_SOURCE_LITERAL, VFIO_TPH_SOURCE_MEM_PM, VFIO_TPH_SOURCE_NONE,
};
use vfio_bindings::bindings::vfio::{
    vfio_device_feature, VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
};

use super::{ioctl, number, request, Device};

/// What is done with a feature: flags of `struct vfio_device_feature`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Read it.
    Get,
    /// Write it.
    Set,
    /// Ask whether it can be read.
    ProbeGet,
    /// Ask whether it can be written.
    ProbeSet,
    /// Ask whether it can be both.
    ProbeBoth,
    /// Ask whether it is there.
    Probe,
}

impl Op {
    /// The flags.
    pub fn flags(self) -> u32 {
        match self {
            Op::Get => VFIO_DEVICE_FEATURE_GET,
            Op::Set => VFIO_DEVICE_FEATURE_SET,
            Op::ProbeGet => VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET,
            Op::ProbeSet => VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET,
            Op::ProbeBoth => {
                VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET
            }
            Op::Probe => VFIO_DEVICE_FEATURE_PROBE,
        }
    }
}

/// Size of `struct vfio_device_feature` without its data.
pub const FEATURE_HEADER: usize = size_of::<vfio_device_feature>();
/// Size of `struct vfio_device_feature_tph_st` without its sources.
pub const ST_HEADER: usize = size_of::<vfio_device_feature_tph_st>();

/// `struct vfio_device_feature_tph`.
pub type Offer = vfio_device_feature_tph;

/// `struct vfio_tph_source`.
pub type Source = vfio_tph_source;

/// A source that is a CPU's volatile memory.
pub const fn cpu(number: u32) -> Source {
    source(VFIO_TPH_SOURCE_CPU, 0, number)
}

/// A source that is a CPU's persistent memory.
pub const fn cpu_persistent(number: u32) -> Source {
    source(VFIO_TPH_SOURCE_CPU, VFIO_TPH_SOURCE_MEM_PM, number)
}

/// A source that is a tag.
pub const fn literal(tag: u32) -> Source {
    source(VFIO_TPH_SOURCE_LITERAL, 0, tag)
}

/// The source that clears an entry.
pub const fn none() -> Source {
    source(VFIO_TPH_SOURCE_NONE, 0, 0)
}

/// Any source, also one that there is not.
pub const fn source(kind: u32, flags: u32, value: u32) -> Source {
    Source {
        type_: kind as u8,
        flags: flags as u8,
        reserved: 0,
        value,
    }
}

pub(super) fn source_bytes(source: &Source) -> [u8; size_of::<Source>()] {
    let mut bytes = [0; size_of::<Source>()];
    bytes[0] = source.type_;
    bytes[1] = source.flags;
    bytes[2..4].copy_from_slice(&source.reserved.to_ne_bytes());
    bytes[4..8].copy_from_slice(&source.value.to_ne_bytes());
    bytes
}

/// A TPH_ST request, each field of which can be made wrong.
#[derive(Clone, Debug, Default)]
pub struct StRequest {
    /// `VFIO_DEVICE_TPH_EXTENDED` or 0.
    pub flags: u32,
    /// First entry.
    pub index: u16,
    /// Number of entries; by default that of the sources.
    pub count: Option<u16>,
    /// What stands in `fault` before the call, and after it.
    pub fault: u32,
    /// 0.
    pub reserved: u32,
    /// The sources.
    pub sources: Vec<Source>,
    /// argsz of the feature's data; by default what header and sources take.
    pub data_size: Option<usize>,
}

/// What [`StRequest::new`] puts into `fault`, to see whether it is left alone.
pub const FAULT_UNTOUCHED: u32 = 0xfa17_fa17;

impl StRequest {
    /// A well-formed request for standard tags.
    pub fn new(index: u16, sources: &[Source]) -> Self {
        Self {
            index,
            sources: sources.to_vec(),
            fault: FAULT_UNTOUCHED,
            ..Self::default()
        }
    }

    /// The same for extended tags.
    pub fn extended(self) -> Self {
        self.extended_if(true)
    }

    /// The same for extended tags, or for standard ones.
    pub fn extended_if(mut self, extended: bool) -> Self {
        if extended {
            self.flags |= VFIO_DEVICE_TPH_EXTENDED;
        }
        self
    }

    /// The data of the feature.
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.count.unwrap_or(self.sources.len() as u16);
        let mut bytes = Vec::with_capacity(ST_HEADER + self.sources.len() * size_of::<Source>());
        bytes.extend(self.flags.to_ne_bytes());
        bytes.extend(self.index.to_ne_bytes());
        bytes.extend(count.to_ne_bytes());
        bytes.extend(self.fault.to_ne_bytes());
        bytes.extend(self.reserved.to_ne_bytes());
        for source in &self.sources {
            bytes.extend(source_bytes(source));
        }
        bytes
    }
}

/// Header and data of a feature call as it lies in memory.
pub fn feature_bytes(flags: u32, argsz: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FEATURE_HEADER + data.len());
    bytes.extend(argsz.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(data);
    bytes
}

/// The same for a call that says how long it is.
pub fn call_bytes(op: Op, index: u32, data: &[u8]) -> Vec<u8> {
    let argsz = (FEATURE_HEADER + data.len()) as u32;
    feature_bytes(op.flags() | index, argsz, data)
}

/// `VFIO_DEVICE_FEATURE` of any descriptor, also one that is no device's.
pub fn feature_of(fd: RawFd, op: Op, index: u32, data: &[u8]) -> Result<(), Errno> {
    let mut bytes = call_bytes(op, index, data);
    ioctl(fd, request(number::DEVICE_FEATURE), bytes.as_mut_ptr()).map(drop)
}

impl Device {
    /// `VFIO_DEVICE_FEATURE` with any pointer.
    pub fn feature_raw(&self, argument: *mut u8) -> Result<(), Errno> {
        self.ioctl(number::DEVICE_FEATURE, argument).map(drop)
    }

    /// `VFIO_DEVICE_FEATURE` with any flags, and `data` that is exactly as long as argsz says
    /// unless `data_size` says otherwise.
    pub fn feature_sized(
        &self,
        flags: u32,
        data: &mut [u8],
        data_size: usize,
    ) -> Result<(), Errno> {
        let argsz = (FEATURE_HEADER + data_size) as u32;
        let mut bytes = feature_bytes(flags, argsz, data);
        let result = self.feature_raw(bytes.as_mut_ptr());
        data.copy_from_slice(&bytes[FEATURE_HEADER..]);
        result
    }

    /// `VFIO_DEVICE_FEATURE`.
    pub fn feature(&self, op: Op, index: u32, data: &mut [u8]) -> Result<(), Errno> {
        let length = data.len();
        self.feature_sized(op.flags() | index, data, length)
    }

    /// GET of `VFIO_DEVICE_FEATURE_TPH`.
    pub fn tph(&self) -> Result<Offer, Errno> {
        let mut data = [0; size_of::<Offer>()];
        self.feature(Op::Get, VFIO_DEVICE_FEATURE_TPH, &mut data)?;
        let [f0, f1, f2, f3, e0, e1, modes, policy] = data;
        Ok(Offer {
            flags: u32::from_ne_bytes([f0, f1, f2, f3]),
            st_entries: u16::from_ne_bytes([e0, e1]),
            modes,
            policy,
        })
    }

    /// SET of `VFIO_DEVICE_FEATURE_TPH_ST`.
    pub fn tph_st(&self, request: &mut StRequest) -> Result<(), Errno> {
        let mut data = request.bytes();
        let length = request.data_size.unwrap_or(data.len());
        let flags = Op::Set.flags() | VFIO_DEVICE_FEATURE_TPH_ST;
        let result = self.feature_sized(flags, &mut data, length);
        request.fault = u32::from_ne_bytes([data[8], data[9], data[10], data[11]]);
        result
    }

    /// Programs standard tags.
    pub fn program(&self, index: u16, sources: &[Source]) -> Result<(), Errno> {
        self.tph_st(&mut StRequest::new(index, sources))
    }

    /// Programs tags of either namespace.
    pub fn program_in(&self, extended: bool, index: u16, sources: &[Source]) -> Result<(), Errno> {
        self.tph_st(&mut StRequest::new(index, sources).extended_if(extended))
    }

    /// Programs extended tags.
    pub fn program_extended(&self, index: u16, sources: &[Source]) -> Result<(), Errno> {
        self.tph_st(&mut StRequest::new(index, sources).extended())
    }
}
