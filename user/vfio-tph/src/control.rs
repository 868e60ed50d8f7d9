// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! TPH Requester Control, PCIe r6.2 7.9.13.3.

use std::fmt;

use crate::registers::{CTRL_MODE_MASK, CTRL_REQ_EN_SHIFT};

/// ST Mode Select: how a requester finds the tag of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StMode {
    /// No tag is sent.
    NoSt = 0,
    /// The tag is that of the interrupt vector, from the ST table.
    InterruptVector = 1,
    /// The device finds it in its own way.
    DeviceSpecific = 2,
}

impl StMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::NoSt, Self::InterruptVector, Self::DeviceSpecific];

    /// The bit in the Capability register, and in `modes` of an offer.
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for StMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSt => "No ST",
            Self::InterruptVector => "Interrupt Vector",
            Self::DeviceSpecific => "Device Specific",
        })
    }
}

/// TPH Requester Enable: what a requester may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RequesterEnable {
    /// 00b: no hints.
    Disabled = 0,
    /// 01b: hints with 8-bit tags.
    Standard = 1,
    /// 11b: hints with extended, 16-bit tags.
    Extended = 3,
}

impl fmt::Display for RequesterEnable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Standard => "enabled",
            Self::Extended => "enabled, extended",
        })
    }
}

/// What is in force on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// ST Mode Select.
    pub st_mode: StMode,
    /// TPH Requester Enable.
    pub requester_enable: RequesterEnable,
}

impl Control {
    /// TPH off, as after a reset.
    pub const OFF: Self = Self {
        st_mode: StMode::NoSt,
        requester_enable: RequesterEnable::Disabled,
    };

    /// The register.
    ///
    /// ```
    /// use vfio_tph::{Control, RequesterEnable, StMode};
    ///
    /// let control = Control {
    ///     st_mode: StMode::InterruptVector,
    ///     requester_enable: RequesterEnable::Extended,
    /// };
    /// assert_eq!(control.to_raw(), 0x301);
    /// assert_eq!(Control::from_raw(0x301), Some(control));
    /// assert_eq!(Control::from_raw(0x201), None);
    /// ```
    pub const fn to_raw(self) -> u32 {
        self.st_mode as u32 | ((self.requester_enable as u32) << CTRL_REQ_EN_SHIFT)
    }

    /// From the register; `None` for reserved values.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        let st_mode = match raw & CTRL_MODE_MASK {
            0 => StMode::NoSt,
            1 => StMode::InterruptVector,
            2 => StMode::DeviceSpecific,
            _ => return None,
        };
        let requester_enable = match (raw >> CTRL_REQ_EN_SHIFT) & 0b11 {
            0b00 => RequesterEnable::Disabled,
            0b01 => RequesterEnable::Standard,
            0b11 => RequesterEnable::Extended,
            _ => return None,
        };
        Some(Self {
            st_mode,
            requester_enable,
        })
    }
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.st_mode, self.requester_enable)
    }
}
