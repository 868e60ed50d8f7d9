// SPDX-License-Identifier: GPL-2.0-only

//! Sources of steering tags as a user names them: `struct vfio_tph_source`.

use super::{
    policy::Policy,
    refusal::Refusal, //
};
use crate::uapi;

/// The two namespaces of tags; a value of one is never turned into the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Namespace {
    /// 8-bit steering tags.
    Standard,
    /// 16-bit extended steering tags.
    Extended,
}

impl Namespace {
    /// From the flags of a call; any flag but `VFIO_DEVICE_TPH_EXTENDED` is unknown.
    pub(crate) const fn from_flags(flags: u32) -> Result<Self, Refusal> {
        match flags {
            0 => Ok(Self::Standard),
            uapi::VFIO_DEVICE_TPH_EXTENDED => Ok(Self::Extended),
            _ => Err(Refusal::Malformed),
        }
    }

    /// The largest tag.
    pub(crate) const fn max_tag(self) -> u32 {
        // CAST: widen.
        match self {
            Self::Standard => u8::MAX as u32,
            Self::Extended => u16::MAX as u32,
        }
    }
}

/// What kind of memory of a CPU is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MemoryType {
    /// Volatile memory.
    Volatile,
    /// Persistent memory.
    Persistent,
}

/// Where a tag comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    /// No tag: clears the entry.
    None,
    /// From firmware.
    Cpu {
        /// Logical CPU number, not looked at yet.
        cpu: u32,
        /// Which memory of the CPU.
        memory: MemoryType,
    },
    /// From the exporter of a dma-buf.
    DmaBuf {
        /// The user's file descriptor, not looked at yet.
        fd: i32,
    },
    /// From the user.
    Literal {
        /// The tag, in the namespace of the call.
        tag: u16,
    },
}

impl Source {
    /// Decodes what a user passed, for a call in `namespace`.
    #[inline(never)]
    pub(crate) fn decode(
        raw: &uapi::vfio_tph_source,
        namespace: Namespace,
    ) -> Result<Self, Refusal> {
        let known_flags = match u32::from(raw.type_) {
            uapi::VFIO_TPH_SOURCE_CPU => uapi::VFIO_TPH_SOURCE_MEM_PM,
            _ => 0,
        };
        if raw.reserved != 0 || u32::from(raw.flags) & !known_flags != 0 {
            return Err(Refusal::MalformedSource);
        }

        match u32::from(raw.type_) {
            uapi::VFIO_TPH_SOURCE_NONE if raw.value == 0 => Ok(Self::None),
            uapi::VFIO_TPH_SOURCE_CPU => Ok(Self::Cpu {
                cpu: raw.value,
                memory: if raw.flags == 0 {
                    MemoryType::Volatile
                } else {
                    MemoryType::Persistent
                },
            }),
            uapi::VFIO_TPH_SOURCE_DMABUF => Ok(Self::DmaBuf {
                // CAST: a file descriptor is signed; a negative one is a bad one.
                fd: raw.value as i32,
            }),
            uapi::VFIO_TPH_SOURCE_LITERAL if raw.value <= namespace.max_tag() => {
                Ok(Self::Literal {
                    // CAST: max_tag() is at most 0xffff.
                    tag: raw.value as u16,
                })
            }
            _ => Err(Refusal::MalformedSource),
        }
    }

    /// Whether `policy` lets this source into an ST table, whatever it leads to.
    pub(crate) fn admit(self, policy: Policy) -> Result<Self, Refusal> {
        match self {
            Self::Literal { .. } if !policy.takes_literals() => Err(Refusal::LiteralDenied),
            Self::DmaBuf { .. } if !policy.takes_dma_bufs() => Err(Refusal::DmaBufDenied),
            source => Ok(source),
        }
    }
}

/// Whether `policy` lets the tag of a CPU that is present be used. `is_callers` says whether the
/// caller may run on that CPU; it is asked only where that decides.
pub(crate) fn admit_cpu<E: From<Refusal>>(
    policy: Policy,
    is_callers: impl FnOnce() -> Result<bool, E>,
) -> Result<(), E> {
    if policy.takes_any_cpu() || is_callers()? {
        Ok(())
    } else {
        Err(Refusal::ForeignCpu.into())
    }
}
