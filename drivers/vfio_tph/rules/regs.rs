// SPDX-License-Identifier: GPL-2.0-only

//! The registers of the TPH Requester extended capability, PCIe r6.2 7.9.13, and the completer
//! field of Device Capabilities 2, 7.5.3.15, as types.

use crate::uapi;

/// Where the Capability register is in the capability, in bytes.
// CAST: a small number, as those below.
pub(crate) const CAPABILITY: u16 = uapi::PCI_TPH_CAP as u16;
/// Where the Control register is, likewise.
pub(crate) const CONTROL: u16 = uapi::PCI_TPH_CTRL as u16;
/// The bytes of the header and the registers. A table in the capability is behind them.
pub(crate) const BASE_SIZE: usize = uapi::PCI_TPH_BASE_SIZEOF as usize;
/// The bytes of an ST entry.
pub(crate) const ENTRY_SIZE: usize = size_of::<u16>();

/// ST Mode Select: how a requester finds the tag of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum StMode {
    /// No tag is sent.
    NoSt = uapi::PCI_TPH_ST_NS_MODE as u8,
    /// The tag is in the ST entry of the interrupt vector.
    InterruptVector = uapi::PCI_TPH_ST_IV_MODE as u8,
    /// The device knows.
    DeviceSpecific = uapi::PCI_TPH_ST_DS_MODE as u8,
}

impl StMode {
    /// The mode of a raw ST Mode Select field; the other values are reserved.
    pub(crate) const fn from_field(field: u32) -> Option<Self> {
        match field {
            uapi::PCI_TPH_ST_NS_MODE => Some(Self::NoSt),
            uapi::PCI_TPH_ST_IV_MODE => Some(Self::InterruptVector),
            uapi::PCI_TPH_ST_DS_MODE => Some(Self::DeviceSpecific),
            _ => None,
        }
    }
}

/// A set of ST modes, with the bits of the Capability register and of `VFIO_TPH_MODE_*`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Modes(u8);

impl Modes {
    /// No mode.
    pub(crate) const NONE: Self = Self(0);
    const MASK: u32 = uapi::PCI_TPH_CAP_ST_NS | uapi::PCI_TPH_CAP_ST_IV | uapi::PCI_TPH_CAP_ST_DS;

    /// The set with `mode` in it.
    pub(crate) const fn with(self, mode: StMode) -> Self {
        Self(self.0 | (1 << mode as u8))
    }

    /// The set without `mode` in it.
    pub(crate) const fn without(self, mode: StMode) -> Self {
        Self(self.0 & !(1 << mode as u8))
    }

    /// The modes that are in both sets.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether `mode` is in the set.
    pub(crate) const fn contains(self, mode: StMode) -> bool {
        self.0 & (1 << mode as u8) != 0
    }

    /// Whether a mode is left that takes tags from the ST table.
    pub(crate) const fn use_table(self) -> bool {
        self.contains(StMode::InterruptVector) || self.contains(StMode::DeviceSpecific)
    }

    /// As `VFIO_TPH_MODE_*`.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }
}

/// TPH Requester Enable: what a requester may send.
///
/// 10b is reserved and has no value here, so that it cannot reach hardware.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum RequesterEnable {
    /// 00b: no hints.
    Disabled = uapi::PCI_TPH_REQ_DISABLE as u8,
    /// 01b: hints, with 8-bit tags.
    Standard = uapi::PCI_TPH_REQ_TPH_ONLY as u8,
    /// 11b: hints, with extended (16-bit) tags.
    Extended = uapi::PCI_TPH_REQ_EXT_TPH as u8,
}

impl RequesterEnable {
    /// The meaning of a raw Requester Enable field; 10b is reserved.
    pub(crate) const fn from_field(field: u32) -> Option<Self> {
        match field {
            uapi::PCI_TPH_REQ_DISABLE => Some(Self::Disabled),
            uapi::PCI_TPH_REQ_TPH_ONLY => Some(Self::Standard),
            uapi::PCI_TPH_REQ_EXT_TPH => Some(Self::Extended),
            _ => None,
        }
    }
}

/// ST Table Location.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum TableLocation {
    /// There is no table (also for the reserved value 11b).
    None,
    /// In the capability, behind the registers.
    Capability,
    /// In the Vector Control words of the MSI-X table.
    Msix,
}

/// TPH Requester Capability register (offset 04h).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Capability(u32);

impl Capability {
    /// From the raw register.
    pub(crate) const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// Whether a device has said so: all ones are read where there is none.
    pub(crate) const fn is_answer(self) -> bool {
        self.0 != u32::MAX
    }

    /// The raw register.
    pub(crate) const fn raw(self) -> u32 {
        self.0
    }

    /// The ST modes that are supported.
    pub(crate) const fn modes(self) -> Modes {
        // CAST: the mask leaves three bits.
        Modes((self.0 & Modes::MASK) as u8)
    }

    /// Extended TPH Requester Supported.
    pub(crate) const fn extended(self) -> bool {
        self.0 & uapi::PCI_TPH_CAP_EXT_TPH != 0
    }

    /// Where the ST table is.
    pub(crate) const fn table_location(self) -> TableLocation {
        match self.0 & uapi::PCI_TPH_CAP_LOC_MASK {
            uapi::PCI_TPH_LOC_CAP => TableLocation::Capability,
            uapi::PCI_TPH_LOC_MSIX => TableLocation::Msix,
            _ => TableLocation::None,
        }
    }

    /// The number of ST entries that the device claims: ST Table Size plus 1, 1 to 2048.
    pub(crate) const fn table_size(self) -> u16 {
        let field = (self.0 & uapi::PCI_TPH_CAP_ST_MASK) >> uapi::PCI_TPH_CAP_ST_SHIFT;
        // CAST: the field has 11 bits.
        field as u16 + 1
    }

    /// The bytes of the ST table that the device claims to have in the capability, 0 if the table
    /// is elsewhere.
    pub(crate) fn table_bytes(self) -> usize {
        match self.table_location() {
            TableLocation::Capability => 2 * usize::from(self.table_size()),
            _ => 0,
        }
    }

    /// The register with these modes, and no others.
    pub(crate) const fn with_modes(self, modes: Modes) -> Self {
        // CAST: widens.
        Self((self.0 & !Modes::MASK) | modes.0 as u32)
    }

    /// The register with or without Extended TPH Requester Supported.
    pub(crate) const fn with_extended(self, extended: bool) -> Self {
        let without = self.0 & !uapi::PCI_TPH_CAP_EXT_TPH;
        Self(if extended {
            without | uapi::PCI_TPH_CAP_EXT_TPH
        } else {
            without
        })
    }

    /// The register with an ST Table Size of `entries`, at least 1.
    pub(crate) const fn with_table_size(self, entries: u16) -> Self {
        // CAST: widens.
        let field = (entries.saturating_sub(1) as u32) << uapi::PCI_TPH_CAP_ST_SHIFT;
        Self((self.0 & !uapi::PCI_TPH_CAP_ST_MASK) | (field & uapi::PCI_TPH_CAP_ST_MASK))
    }

    /// The register with the ST table behind it in the capability.
    pub(crate) const fn with_table_in_capability(self) -> Self {
        Self((self.0 & !uapi::PCI_TPH_CAP_LOC_MASK) | uapi::PCI_TPH_LOC_CAP)
    }

    /// The register with ST Table Location "none" and size 0.
    pub(crate) const fn without_table(self) -> Self {
        Self(self.0 & !(uapi::PCI_TPH_CAP_LOC_MASK | uapi::PCI_TPH_CAP_ST_MASK))
    }

    /// The register with its reserved bits 0.
    pub(crate) const fn without_reserved(self) -> Self {
        Self(
            self.0
                & (Modes::MASK
                    | uapi::PCI_TPH_CAP_EXT_TPH
                    | uapi::PCI_TPH_CAP_LOC_MASK
                    | uapi::PCI_TPH_CAP_ST_MASK),
        )
    }
}

/// TPH Requester Control register (offset 08h), with no value that hardware must not see.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Control {
    /// ST Mode Select.
    pub(crate) st_mode: StMode,
    /// Requester Enable.
    pub(crate) requester_enable: RequesterEnable,
}

impl Control {
    /// The state after reset: disabled, No ST.
    pub(crate) const RESET: Self = Self {
        st_mode: StMode::NoSt,
        requester_enable: RequesterEnable::Disabled,
    };

    /// From the raw register; `None` for a reserved mode or Requester Enable 10b.
    pub(crate) const fn from_raw(raw: u32) -> Option<Self> {
        let st_mode = StMode::from_field(raw & uapi::PCI_TPH_CTRL_MODE_SEL_MASK);
        let requester_enable = RequesterEnable::from_field(
            (raw & uapi::PCI_TPH_CTRL_REQ_EN_MASK) >> Self::REQ_EN_SHIFT,
        );
        match (st_mode, requester_enable) {
            (Some(st_mode), Some(requester_enable)) => Some(Self {
                st_mode,
                requester_enable,
            }),
            _ => None,
        }
    }

    /// The raw register.
    pub(crate) const fn raw(self) -> u32 {
        // CAST: widen.
        self.st_mode as u32 | ((self.requester_enable as u32) << Self::REQ_EN_SHIFT)
    }

    /// The same mode, with the requester disabled.
    pub(crate) const fn disabled(self) -> Self {
        Self {
            requester_enable: RequesterEnable::Disabled,
            ..self
        }
    }

    /// Whether hints are sent.
    pub(crate) fn enabled(self) -> bool {
        self.requester_enable != RequesterEnable::Disabled
    }

    const REQ_EN_SHIFT: u32 = uapi::PCI_TPH_CTRL_REQ_EN_MASK.trailing_zeros();
}

/// TPH Completer Supported, bits 13:12 of Device Capabilities 2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Completer {
    /// 00b, and the reserved 10b.
    None,
    /// 01b: takes hints.
    Standard,
    /// 11b: takes hints and extended tags.
    Extended,
}

impl Completer {
    /// From the raw Device Capabilities 2 register.
    pub(crate) const fn from_device_capabilities_2(raw: u32) -> Self {
        // Nobody has answered.
        if raw == u32::MAX {
            return Self::None;
        }
        match (raw & uapi::PCI_EXP_DEVCAP2_TPH_COMP_MASK)
            >> uapi::PCI_EXP_DEVCAP2_TPH_COMP_MASK.trailing_zeros()
        {
            uapi::PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY => Self::Standard,
            uapi::PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH => Self::Extended,
            _ => Self::None,
        }
    }
}
