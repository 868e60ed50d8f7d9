// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! TPH of an open device.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_PCI_CONFIG_REGION_INDEX,
};

use crate::registers::{self, ReadConfig, Table};
use crate::uapi::*;
use crate::{ioctl, Control, Error, Feature, Refusal, RequesterEnable, StMode};

const GET_REGION_INFO: u32 = 8;
const DEVICE_FEATURE: u32 = 17;
/// What `fault` holds unless the kernel writes to it: no call has so many sources.
const UNTOUCHED: u32 = u32::MAX;

/// How much of TPH the administrator of a device lets its user have; each policy includes those
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Policy {
    /// `no_st`: hints without tags.
    NoSt = 0,
    /// `iv_st`: tags for interrupt vectors, named by CPUs of the caller, and not shown.
    IvSt = 1,
    /// `ds_st`: tags are shown, any CPU and dma-bufs name them, and Device Specific mode may be
    /// used.
    DsSt = 2,
    /// `literal`: any tag.
    Literal = 3,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NoSt, Self::IvSt, Self::DsSt, Self::Literal];

    /// The name that administrators know it by.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoSt => "no_st",
            Self::IvSt => "iv_st",
            Self::DsSt => "ds_st",
            Self::Literal => "literal",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which tags are meant. The two have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// 8-bit tags.
    Standard,
    /// 16-bit extended tags.
    Extended,
}

impl Namespace {
    const fn flags(self) -> u32 {
        match self {
            Self::Standard => 0,
            Self::Extended => VFIO_DEVICE_TPH_EXTENDED,
        }
    }
}

/// Where a steering tag comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// No tag: clears an entry.
    None,
    /// From firmware, for memory that this CPU works on.
    Cpu {
        /// The number of the CPU.
        number: u32,
        /// Persistent, not volatile memory.
        persistent: bool,
    },
    /// From who exports a dma-buf.
    DmaBuf(i32),
    /// This tag.
    Literal(u16),
}

impl Source {
    /// A CPU's volatile memory.
    pub const fn cpu(number: u32) -> Self {
        Self::Cpu {
            number,
            persistent: false,
        }
    }

    /// A dma-buf, which has to be open for as long as the call.
    pub fn dma_buf(fd: BorrowedFd<'_>) -> Self {
        Self::DmaBuf(fd.as_raw_fd())
    }

    fn to_bytes(self) -> [u8; 8] {
        let (kind, flags, value) = match self {
            Self::None => (VFIO_TPH_SOURCE_NONE, 0, 0),
            Self::Cpu { number, persistent } => {
                let flags = if persistent {
                    VFIO_TPH_SOURCE_MEM_PM
                } else {
                    0
                };
                (VFIO_TPH_SOURCE_CPU, flags, number)
            }
            Self::DmaBuf(fd) => (VFIO_TPH_SOURCE_DMABUF, 0, fd as u32),
            Self::Literal(tag) => (VFIO_TPH_SOURCE_LITERAL, 0, tag.into()),
        };
        let mut bytes = [kind as u8, flags as u8, 0, 0, 0, 0, 0, 0];
        bytes[4..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Cpu { number, persistent } => {
                let memory = if *persistent {
                    ", persistent memory"
                } else {
                    ""
                };
                write!(f, "CPU {number}{memory}")
            }
            Self::DmaBuf(fd) => write!(f, "dma-buf {fd}"),
            Self::Literal(tag) => write!(f, "tag {tag:#x}"),
        }
    }
}

/// What is to be put into a request for some memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    /// The steering tag; `None` where the policy does not disclose it.
    pub tag: Option<u16>,
    /// The processing hint, 0 to 3.
    pub ph: u8,
    /// The completer ignores the processing hint.
    pub ph_ignored: bool,
}

/// What the owner of memory in a BAR publishes for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// The standard tag. 0 is one.
    pub tag: Option<u8>,
    /// The extended tag.
    pub extended_tag: Option<u16>,
    /// The processing hint, 0 to 3.
    pub ph: u8,
}

/// What a device has on offer; does not change while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Extended tags are usable.
    pub extended: bool,
    /// Where the ST table is.
    pub table: Table,
    /// The entries that [`Tph::program`] takes, 0 if none.
    pub entries: u16,
    /// [`Tph::program`] is available.
    pub programmable: bool,
    /// The modes that may be selected, a bit each as [`StMode::bit`] has it.
    pub modes: u8,
    /// The policy.
    pub policy: Policy,
    /// [`Tph::resolve`] discloses tags.
    pub discloses_tags: bool,
    /// [`Source::Literal`] is taken.
    pub takes_literals: bool,
    /// [`Tph::program`] takes [`Source::DmaBuf`].
    pub takes_dma_bufs: bool,
    /// The entries are virtual tags: there is a map, by [`Tph::set_map`] or the administrator's.
    pub virtual_tags: bool,
    /// The device is a TPH completer: [`Tph::publish`] is available.
    pub completer: bool,
    /// ... and one of extended tags.
    pub extended_completer: bool,
}

impl Offer {
    /// Whether a mode may be selected.
    pub const fn has(&self, mode: StMode) -> bool {
        self.modes & mode.bit() != 0
    }

    fn from_bytes(bytes: [u8; 8]) -> Self {
        let [f0, f1, f2, f3, e0, e1, modes, policy] = bytes;
        let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
        let has = |flag| flags & flag != 0;
        Self {
            extended: has(VFIO_TPH_FLAG_EXTENDED),
            table: match (has(VFIO_TPH_FLAG_ST_CAP), has(VFIO_TPH_FLAG_ST_MSIX)) {
                (true, _) => Table::Capability,
                (false, true) => Table::Msix,
                (false, false) => Table::None,
            },
            entries: u16::from_ne_bytes([e0, e1]),
            programmable: has(VFIO_TPH_FLAG_ST),
            modes,
            policy: Policy::ALL
                .into_iter()
                .find(|&known| known as u8 == policy)
                // One that this crate does not know allows all that it knows.
                .unwrap_or(Policy::Literal),
            discloses_tags: has(VFIO_TPH_FLAG_RESOLVE_ST),
            takes_literals: has(VFIO_TPH_FLAG_LITERAL),
            takes_dma_bufs: has(VFIO_TPH_FLAG_ST_DMABUF),
            virtual_tags: has(VFIO_TPH_FLAG_VIRTUAL),
            completer: has(VFIO_TPH_FLAG_COMPLETER),
            extended_completer: has(VFIO_TPH_FLAG_COMPLETER_EXT),
        }
    }
}

/// TPH of an open device that vfio_tph drives, whoever has opened it.
#[derive(Debug)]
pub struct Tph<'a> {
    device: BorrowedFd<'a>,
    config: u64,
    capability: u16,
    offer: Offer,
}

impl<'a> Tph<'a> {
    /// Looks at a device. [`Error::OtherDriver`] if its driver is not vfio_tph,
    /// [`Error::NotUsable`] where the capability is hidden.
    ///
    /// ```no_run
    /// use std::os::fd::AsFd;
    /// use vfio_tph::{Tph, Error};
    ///
    /// fn offer(device: &impl AsFd) -> Result<(), Error> {
    ///     let tph = Tph::of(device)?;
    ///     println!("{} entries", tph.offer().entries);
    ///     Ok(())
    /// }
    /// ```
    pub fn of(device: &'a impl AsFd) -> Result<Self, Error> {
        let device = device.as_fd();
        let mut offer = vec![0; 8];
        call(
            device,
            VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_TPH,
            &mut offer,
        )
        .map_err(|source| match source.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Error::NotUsable,
            // What vfio says of a feature that it does not know.
            Some(libc::ENOTTY | libc::EINVAL) => Error::OtherDriver,
            errno => Error::Refused {
                feature: Feature::Tph,
                refusal: Refusal::Other(errno.unwrap_or(libc::EIO)),
                source_at: None,
                errno: errno.unwrap_or(libc::EIO),
            },
        })?;
        let mut tph = Self {
            device,
            config: config_region(device)?,
            capability: 0,
            offer: Offer::from_bytes(offer.try_into().unwrap_or_default()),
        };
        tph.capability = registers::find_tph_requester(&tph).ok_or(Error::NotUsable)?;
        Ok(tph)
    }

    /// What is on offer.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// The offset of the capability in config space.
    pub fn capability(&self) -> u16 {
        self.capability
    }

    /// What is in force in hardware now.
    pub fn control(&self) -> Result<Control, Error> {
        let offset = self.capability + registers::CONTROL;
        let mut raw = [0; 4];
        self.read(offset, &mut raw)
            .map_err(|source| Error::Config { offset, source })?;
        // The driver shows no reserved value.
        Ok(Control::from_raw(u32::from_le_bytes(raw)).unwrap_or(Control::OFF))
    }

    /// Writes Control, and looks whether that is in force then.
    pub fn set_control(&self, wanted: Control) -> Result<(), Error> {
        let offset = self.capability + registers::CONTROL;
        let written = rustix::io::pwrite(
            self.device,
            &wanted.to_raw().to_le_bytes(),
            self.config + u64::from(offset),
        );
        let checked = written.map_err(io::Error::from).and_then(whole);
        checked.map_err(|source| Error::Config { offset, source })?;
        let in_force = self.control()?;
        if in_force != wanted {
            return Err(Error::NotInForce { wanted, in_force });
        }
        Ok(())
    }

    /// Enables TPH in a mode. Entries that were programmed before stay as they are.
    pub fn enable(&self, st_mode: StMode, requester_enable: RequesterEnable) -> Result<(), Error> {
        self.set_control(Control {
            st_mode,
            requester_enable,
        })
    }

    /// Turns TPH off.
    pub fn disable(&self) -> Result<(), Error> {
        self.set_control(Control::OFF)
    }

    /// Programs entries of the ST table from `first` on with standard tags: all of them, or none.
    pub fn program(&self, first: u16, sources: &[Source]) -> Result<(), Error> {
        self.program_in(Namespace::Standard, first, sources)
    }

    /// The same in a namespace.
    pub fn program_in(
        &self,
        namespace: Namespace,
        first: u16,
        sources: &[Source],
    ) -> Result<(), Error> {
        let refused = |refusal, errno| Error::Refused {
            feature: Feature::TphSt,
            refusal,
            source_at: None,
            errno,
        };
        let count =
            u16::try_from(sources.len()).map_err(|_| refused(Refusal::Malformed, libc::EINVAL))?;
        let mut data = Vec::with_capacity(16 + 8 * sources.len());
        data.extend(namespace.flags().to_ne_bytes());
        data.extend(first.to_ne_bytes());
        data.extend(count.to_ne_bytes());
        data.extend(UNTOUCHED.to_ne_bytes());
        data.extend([0; 4]);
        data.extend(sources.iter().flat_map(|source| source.to_bytes()));
        call(
            self.device,
            VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_TPH_ST,
            &mut data,
        )
        .map_err(|error| refusal(Feature::TphSt, error, &data, sources))
    }

    /// Says what the virtual tags of a guest stand for, for a VMM whose guest steers with its own
    /// kernel: the first source for tag 1, and so on, at most 255, each [`Source::Cpu`] or
    /// [`Source::None`]. Without any, the map goes. From the first map on the capability has a
    /// table of virtual tags, so it is set before the guest reads config space; one map may follow
    /// another at any time, when vCPUs have moved.
    pub fn set_map(&self, sources: &[Source]) -> Result<(), Error> {
        let count = u32::try_from(sources.len()).unwrap_or(u32::MAX);
        let mut data = Vec::with_capacity(16 + 8 * sources.len());
        data.extend([0; 4]);
        data.extend(count.to_ne_bytes());
        data.extend(UNTOUCHED.to_ne_bytes());
        data.extend([0; 4]);
        data.extend(sources.iter().flat_map(|source| source.to_bytes()));
        call(
            self.device,
            VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_TPH_MAP,
            &mut data,
        )
        .map_err(|error| refusal(Feature::TphMap, error, &data, sources))
    }

    /// Looks hints up, and writes nothing: for a driver that puts them into its own descriptors. At
    /// most 4096 sources; one that is refused refuses the call.
    pub fn resolve(&self, namespace: Namespace, sources: &[Source]) -> Result<Vec<Hint>, Error> {
        let mut data = Vec::with_capacity(16 + 16 * sources.len());
        data.extend(namespace.flags().to_ne_bytes());
        data.extend((sources.len() as u32).to_ne_bytes());
        data.extend(UNTOUCHED.to_ne_bytes());
        data.extend([0; 4]);
        for source in sources {
            data.extend(source.to_bytes());
            data.extend([0; 8]);
        }
        call(
            self.device,
            VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_TPH_RESOLVE,
            &mut data,
        )
        .map_err(|error| refusal(Feature::Resolve, error, &data, sources))?;
        let hint = |found: &[u8]| Hint {
            tag: (u32::from(found[11]) & VFIO_TPH_RESOLUTION_ST != 0)
                .then(|| u16::from_ne_bytes([found[8], found[9]])),
            ph: found[10],
            ph_ignored: u32::from(found[11]) & VFIO_TPH_RESOLUTION_PH_IGNORED != 0,
        };
        Ok(data[16..].chunks_exact(16).map(hint).collect())
    }

    /// Publishes hints for memory of this device, for others whose requests go there. `dma_buf` is
    /// from `VFIO_DEVICE_FEATURE_DMA_BUF` of this device. Replaces all that was published before.
    pub fn publish(&self, dma_buf: BorrowedFd<'_>, hints: Published) -> Result<(), Error> {
        publish(self.device, dma_buf, hints)
    }
}

/// The same without a [`Tph`]: the device need not be a requester.
pub(crate) fn publish(
    device: BorrowedFd<'_>,
    dma_buf: BorrowedFd<'_>,
    hints: Published,
) -> Result<(), Error> {
    let flag = |there: bool, flag| if there { flag } else { 0 };
    let flags = flag(hints.tag.is_some(), VFIO_DMA_BUF_TPH_ST)
        | flag(hints.extended_tag.is_some(), VFIO_DMA_BUF_TPH_ST_EXT);
    let mut data = Vec::with_capacity(12);
    data.extend(dma_buf.as_raw_fd().to_ne_bytes());
    data.extend(flags.to_ne_bytes());
    data.extend(hints.extended_tag.unwrap_or(0).to_ne_bytes());
    data.extend([hints.tag.unwrap_or(0), hints.ph]);
    call(
        device,
        VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
        &mut data,
    )
    .map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Error::Refused {
            feature: Feature::DmaBufTph,
            refusal: match errno {
                libc::EOPNOTSUPP => Refusal::Unsupported,
                libc::EINVAL if hints.ph > 3 => Refusal::Malformed,
                libc::EINVAL => Refusal::NotDmaBuf,
                libc::EBADF => Refusal::BadDescriptor,
                other => Refusal::Other(other),
            },
            source_at: None,
            errno,
        }
    })
}

impl Tph<'_> {
    fn read(&self, offset: u16, bytes: &mut [u8]) -> io::Result<()> {
        let length = bytes.len();
        let read = rustix::io::pread(self.device, bytes, self.config + u64::from(offset))?;
        if read != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

impl ReadConfig for Tph<'_> {
    fn dword(&self, offset: u16) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes).ok()?;
        Some(u32::from_le_bytes(bytes))
    }
}

fn whole(written: usize) -> io::Result<()> {
    if written != 4 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// `VFIO_DEVICE_FEATURE`, with `data` behind its header, in place.
fn call(device: BorrowedFd<'_>, flags: u32, data: &mut Vec<u8>) -> io::Result<()> {
    let mut argument = vec![0; 4];
    argument.extend(flags.to_ne_bytes());
    argument.extend_from_slice(data);
    let result = ioctl::sized(device, ioctl::vfio(DEVICE_FEATURE), &mut argument);
    *data = argument.split_off(8);
    result.map(drop)
}

/// Where config space begins in the device's file.
fn config_region(device: BorrowedFd<'_>) -> Result<u64, Error> {
    // argsz, flags, index, cap_offset, size, offset.
    let mut info = vec![0; 32];
    info[8..12].copy_from_slice(&VFIO_PCI_CONFIG_REGION_INDEX.to_ne_bytes());
    ioctl::sized(device, ioctl::vfio(GET_REGION_INFO), &mut info).map_err(|source| {
        Error::Setup {
            what: "the region of config space",
            source,
        }
    })?;
    let mut offset = [0; 8];
    offset.copy_from_slice(&info[24..32]);
    Ok(u64::from_ne_bytes(offset))
}

/// What an errno of TPH_ST or TPH_RESOLVE says, with the source that it is about.
fn refusal(feature: Feature, error: io::Error, data: &[u8], sources: &[Source]) -> Error {
    let errno = error.raw_os_error().unwrap_or(libc::EIO);
    let fault = data
        .get(8..12)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(UNTOUCHED, u32::from_ne_bytes);
    let position = usize::try_from(fault).ok();
    let source_at = position.and_then(|position| Some((position, *sources.get(position)?)));
    let source = source_at.map(|(_, source)| source);
    let refusal = match (errno, source) {
        (libc::EOPNOTSUPP, Some(_)) => Refusal::NoTag,
        (libc::EOPNOTSUPP, None) => Refusal::Unsupported,
        (libc::EINVAL, Some(Source::Cpu { .. })) => Refusal::NoCpu,
        (libc::EINVAL, Some(Source::DmaBuf(_))) if feature != Feature::TphMap => Refusal::NotDmaBuf,
        (libc::EINVAL, _) => Refusal::Malformed,
        (libc::EPERM, Some(Source::Cpu { .. })) if feature == Feature::Resolve => {
            Refusal::Undisclosed
        }
        (libc::EPERM, Some(Source::Cpu { .. })) => Refusal::ForeignCpu,
        (libc::EPERM, Some(_)) => Refusal::ChosenTag,
        (libc::EBUSY, _) if feature == Feature::TphMap => Refusal::MapInUse,
        (libc::EBUSY, _) => Refusal::VirtualTags,
        (libc::ENXIO, _) => Refusal::NotEnabled,
        (libc::EBADF, _) => Refusal::BadDescriptor,
        (libc::ENODEV, Some(_)) => Refusal::Revoked,
        (libc::EIO, _) => Refusal::DeviceGone,
        (other, _) => Refusal::Other(other),
    };
    Error::Refused {
        feature,
        refusal,
        source_at,
        errno,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: i32, fault: u32, sources: &[Source]) -> String {
        refused_by(Feature::TphSt, errno, fault, sources)
    }

    fn refused_by(feature: Feature, errno: i32, fault: u32, sources: &[Source]) -> String {
        let mut data = vec![0; 16];
        data[8..12].copy_from_slice(&fault.to_ne_bytes());
        refusal(feature, io::Error::from_raw_os_error(errno), &data, sources).to_string()
    }

    #[test]
    fn refusals_name_source_and_reason() {
        let sources = [Source::cpu(3), Source::Literal(0x5a), Source::DmaBuf(7)];
        for (errno, fault, words) in [
            (
                libc::EOPNOTSUPP,
                0,
                "TPH_ST: there is no valid tag for it in this namespace (source 0, CPU 3)",
            ),
            (
                libc::EPERM,
                1,
                "TPH_ST: the policy takes no tags that the caller has chosen (source 1, tag 0x5a)",
            ),
            (
                libc::EINVAL,
                2,
                "TPH_ST: the descriptor is no dma-buf, or one of another device \
                 (source 2, dma-buf 7)",
            ),
            (
                libc::ENXIO,
                UNTOUCHED,
                "TPH_ST: TPH is not enabled in a mode with steering tags, or a vector is not \
                 allocated",
            ),
            (
                libc::EOPNOTSUPP,
                UNTOUCHED,
                "TPH_ST: not available on this device, or under its policy",
            ),
        ] {
            assert_eq!(refused(errno, fault, &sources), words);
        }
    }

    #[test]
    fn maps_are_refused_in_words() {
        let sources = [Source::None, Source::cpu(9), Source::DmaBuf(7)];
        for (errno, fault, words) in [
            (
                libc::EBUSY,
                UNTOUCHED,
                "TPH_MAP: the map is the administrator's (tph_vcpus), or TPH is enabled",
            ),
            (
                libc::EPERM,
                1,
                "TPH_MAP: the CPU is outside of the caller's cpuset, which the policy does not \
                 allow (source 1, CPU 9)",
            ),
            (
                libc::EINVAL,
                2,
                "TPH_MAP: no such entries, or a field that the driver does not know (source 2, \
                 dma-buf 7)",
            ),
        ] {
            assert_eq!(refused_by(Feature::TphMap, errno, fault, &sources), words);
        }
        assert_eq!(
            refused(libc::EBUSY, UNTOUCHED, &[]),
            "TPH_ST: the table has virtual tags, which the guest writes"
        );
    }

    #[test]
    fn sources_are_laid_out_as_the_kernel_has_them() {
        assert_eq!(Source::None.to_bytes(), [0; 8]);
        let persistent = Source::Cpu {
            number: 0x0102_0304,
            persistent: true,
        };
        assert_eq!(persistent.to_bytes()[..4], [1, 1, 0, 0]);
        assert_eq!(persistent.to_bytes()[4..], 0x0102_0304_u32.to_ne_bytes());
        assert_eq!(Source::DmaBuf(-1).to_bytes()[4..], [0xff; 4]);
        assert_eq!(
            Source::Literal(0xabcd).to_bytes()[4..],
            0xabcd_u32.to_ne_bytes()
        );
    }

    #[test]
    fn offers_are_read_as_the_kernel_has_them() {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&0b1_0010_1011_u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&64_u16.to_ne_bytes());
        bytes[6..].copy_from_slice(&[0b111, 3]);
        let offer = Offer::from_bytes(bytes);
        assert!(
            offer.extended && offer.programmable && offer.takes_literals && offer.takes_dma_bufs
        );
        assert!(!offer.discloses_tags && !offer.completer);
        assert_eq!(
            (offer.table, offer.entries, offer.policy),
            (Table::Capability, 64, Policy::Literal)
        );
        assert!(offer.has(StMode::DeviceSpecific));
    }

    #[test]
    fn what_is_no_device_has_no_tph() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Tph::of(&null), Err(Error::OtherDriver)));
    }
}
