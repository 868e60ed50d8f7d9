// SPDX-License-Identifier: GPL-2.0-only

//! `VFIO_DEVICE_FEATURE_TPH_RESOLVE`, each field of which can be made wrong.

use nix::errno::Errno;
use tph_uapi::vfio_tph::{
    vfio_device_feature_tph_resolve, vfio_tph_resolution, VFIO_DEVICE_FEATURE_TPH_RESOLVE,
    VFIO_DEVICE_TPH_EXTENDED,
};

use super::feature::{Op, Source, FAULT_UNTOUCHED};
use super::Device;

/// Size of `struct vfio_device_feature_tph_resolve` without its entries.
pub const RESOLVE_HEADER: usize = size_of::<vfio_device_feature_tph_resolve>();
const ENTRY: usize = size_of::<vfio_tph_resolution>();

/// `struct vfio_tph_resolution`.
pub type Resolution = vfio_tph_resolution;

/// A TPH_RESOLVE request; its entries hold the answer afterwards.
#[derive(Clone, Debug)]
pub struct ResolveRequest {
    /// `VFIO_DEVICE_TPH_EXTENDED` or 0.
    pub flags: u32,
    /// Number of entries; by default as many as there are.
    pub count: Option<u32>,
    /// What stands in `fault` before the call, and after it.
    pub fault: u32,
    /// 0.
    pub reserved: u32,
    /// Sources and results.
    pub entries: Vec<Resolution>,
    /// argsz of the feature's data; by default what header and entries take.
    pub data_size: Option<usize>,
}

/// An entry for a source, with nothing found yet.
pub fn unresolved(source: Source) -> Resolution {
    Resolution {
        source,
        st: 0,
        ph: 0,
        flags: 0,
        reserved: 0,
    }
}

impl ResolveRequest {
    /// A well-formed request for standard tags.
    pub fn new(sources: &[Source]) -> Self {
        Self {
            flags: 0,
            count: None,
            fault: FAULT_UNTOUCHED,
            reserved: 0,
            entries: sources.iter().copied().map(unresolved).collect(),
            data_size: None,
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
        let count = self.count.unwrap_or(self.entries.len() as u32);
        let mut bytes = Vec::with_capacity(RESOLVE_HEADER + ENTRY * self.entries.len());
        for field in [self.flags, count, self.fault, self.reserved] {
            bytes.extend(field.to_ne_bytes());
        }
        for entry in &self.entries {
            bytes.extend([entry.source.type_, entry.source.flags]);
            bytes.extend(entry.source.reserved.to_ne_bytes());
            bytes.extend(entry.source.value.to_ne_bytes());
            bytes.extend(entry.st.to_ne_bytes());
            bytes.extend([entry.ph, entry.flags]);
            bytes.extend(entry.reserved.to_ne_bytes());
        }
        bytes
    }

    fn take_answer(&mut self, bytes: &[u8]) {
        let dword = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let word = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().expect("2 bytes"));
        self.fault = dword(8);
        for (index, entry) in self.entries.iter_mut().enumerate() {
            let at = RESOLVE_HEADER + index * ENTRY;
            *entry = Resolution {
                source: Source {
                    type_: bytes[at],
                    flags: bytes[at + 1],
                    reserved: word(at + 2),
                    value: dword(at + 4),
                },
                st: word(at + 8),
                ph: bytes[at + 10],
                flags: bytes[at + 11],
                reserved: dword(at + 12),
            };
        }
    }
}

impl Device {
    /// GET of `VFIO_DEVICE_FEATURE_TPH_RESOLVE`.
    pub fn tph_resolve(&self, request: &mut ResolveRequest) -> Result<(), Errno> {
        let mut data = request.bytes();
        let length = request.data_size.unwrap_or(data.len());
        let flags = Op::Get.flags() | VFIO_DEVICE_FEATURE_TPH_RESOLVE;
        let result = self.feature_sized(flags, &mut data, length);
        request.take_answer(&data);
        result
    }

    /// Looks standard or extended tags up.
    pub fn resolve(&self, sources: &[Source], extended: bool) -> Result<Vec<Resolution>, Errno> {
        let mut request = ResolveRequest::new(sources).extended_if(extended);
        self.tph_resolve(&mut request)?;
        Ok(request.entries)
    }
}
