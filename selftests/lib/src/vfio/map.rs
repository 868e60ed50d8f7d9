// SPDX-License-Identifier: GPL-2.0-only

//! `VFIO_DEVICE_FEATURE_TPH_MAP`, each field of which can be made wrong.

use nix::errno::Errno;
use tph_uapi::vfio_tph::{vfio_device_feature_tph_map, VFIO_DEVICE_FEATURE_TPH_MAP};

use super::feature::{source_bytes, Op, Source, FAULT_UNTOUCHED};
use super::Device;

/// Size of `struct vfio_device_feature_tph_map` without its sources.
pub const MAP_HEADER: usize = size_of::<vfio_device_feature_tph_map>();

/// A TPH_MAP request.
#[derive(Clone, Debug)]
pub struct MapRequest {
    /// 0.
    pub flags: u32,
    /// Number of sources; by default as many as there are.
    pub count: Option<u32>,
    /// What stands in `fault` before the call, and after it.
    pub fault: u32,
    /// 0.
    pub reserved: u32,
    /// What the virtual tags stand for, from 1 on.
    pub sources: Vec<Source>,
    /// argsz of the feature's data; by default what header and sources take.
    pub data_size: Option<usize>,
}

impl MapRequest {
    /// A well-formed request; without sources it takes the map away.
    pub fn new(sources: &[Source]) -> Self {
        Self {
            flags: 0,
            count: None,
            fault: FAULT_UNTOUCHED,
            reserved: 0,
            sources: sources.to_vec(),
            data_size: None,
        }
    }

    /// The data of the feature.
    pub fn bytes(&self) -> Vec<u8> {
        let count = self.count.unwrap_or(self.sources.len() as u32);
        let mut bytes = Vec::new();
        for field in [self.flags, count, self.fault, self.reserved] {
            bytes.extend(field.to_ne_bytes());
        }
        for source in &self.sources {
            bytes.extend(source_bytes(source));
        }
        bytes
    }
}

impl Device {
    /// SET of `VFIO_DEVICE_FEATURE_TPH_MAP`.
    pub fn tph_map(&self, request: &mut MapRequest) -> Result<(), Errno> {
        let mut data = request.bytes();
        let length = request.data_size.unwrap_or(data.len());
        let flags = Op::Set.flags() | VFIO_DEVICE_FEATURE_TPH_MAP;
        let result = self.feature_sized(flags, &mut data, length);
        request.fault = u32::from_ne_bytes([data[8], data[9], data[10], data[11]]);
        result
    }

    /// Says what the virtual tags stand for; nothing takes the map away.
    pub fn set_map(&self, sources: &[Source]) -> Result<(), Errno> {
        self.tph_map(&mut MapRequest::new(sources))
    }
}
