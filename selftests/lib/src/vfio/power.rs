// SPDX-License-Identifier: GPL-2.0-only

//! What a user can switch off: power, by the power management capability and by the low-power
//! features, and the decoding of memory.

use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use tph_uapi::pci_regs::{
    PCI_CAP_ID_PM, PCI_COMMAND, PCI_COMMAND_MEMORY, PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK,
};
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
};

use super::feature::Op;
use super::Device;
use crate::msix::capability;

impl Device {
    /// Offset of PMCSR in config space, in bytes.
    #[track_caller]
    pub fn power_register(&self) -> u16 {
        let config = self.bdf().config();
        let power = capability(&config, PCI_CAP_ID_PM).expect("a power management capability");
        power + PCI_PM_CTRL as u16
    }

    /// Writes PowerState of PMCSR: 0 is D0, 3 is D3hot.
    #[track_caller]
    pub fn set_power_state(&self, state: u16) {
        let at = self.power_register();
        let others = self.config_word(at) & !(PCI_PM_CTRL_STATE_MASK as u16);
        self.set_config(at, &(others | state).to_le_bytes());
    }

    /// Sets Memory Space Enable.
    #[track_caller]
    pub fn decode_memory(&self, on: bool) {
        let memory = PCI_COMMAND_MEMORY as u16;
        let others = self.config_word(PCI_COMMAND as u16) & !memory;
        let command = others | if on { memory } else { 0 };
        self.set_config(PCI_COMMAND as u16, &command.to_le_bytes());
    }

    /// Lets the device sleep until it is accessed, or [`Device::exit_low_power`].
    pub fn enter_low_power(&self) -> Result<(), Errno> {
        self.feature(Op::Set, VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, &mut [])
    }

    /// The same, and has `event` signalled when it wakes up.
    pub fn enter_low_power_with_wakeup(&self, event: &impl AsRawFd) -> Result<(), Errno> {
        let fd: RawFd = event.as_raw_fd();
        let mut data = [0; 8];
        data[..4].copy_from_slice(&fd.to_ne_bytes());
        self.feature(
            Op::Set,
            VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
            &mut data,
        )
    }

    /// Ends what [`Device::enter_low_power`] began.
    pub fn exit_low_power(&self) -> Result<(), Errno> {
        self.feature(Op::Set, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT, &mut [])
    }
}
