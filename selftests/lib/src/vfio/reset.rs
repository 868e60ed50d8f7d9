// SPDX-License-Identifier: GPL-2.0-only

//! Resets that a user can ask vfio for.

use std::os::fd::RawFd;

use nix::errno::Errno;
use tph_uapi::pci_regs::{PCI_CAP_ID_EXP, PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR};
use vfio_bindings::bindings::vfio::vfio_pci_hot_reset;

use super::{number, Device};
use crate::msix::capability;

impl Device {
    /// `VFIO_DEVICE_RESET`.
    pub fn reset(&self) -> Result<(), Errno> {
        self.ioctl(number::DEVICE_RESET, std::ptr::null_mut::<u8>())
            .map(drop)
    }

    /// Writes Initiate Function Level Reset to config space.
    #[track_caller]
    pub fn initiate_flr(&self) {
        let express = capability(&self.bdf().config(), PCI_CAP_ID_EXP).expect("PCI Express");
        let at = express + PCI_EXP_DEVCTL as u16;
        let value = self.config_word(at) | PCI_EXP_DEVCTL_BCR_FLR as u16;
        self.set_config(at, &value.to_le_bytes());
    }

    /// `VFIO_DEVICE_PCI_HOT_RESET`, with the descriptors that prove the ownership of the groups
    /// that are hit: none if the device was opened by its character device, where the iommufd is
    /// the proof.
    pub fn hot_reset(&self, others: &[&Device]) -> Result<(), Errno> {
        let mut groups: Vec<RawFd> = Vec::new();
        for device in [self].iter().chain(others) {
            groups.extend(device.iommu().group_fd());
        }
        self.hot_reset_with(&groups)
    }

    fn hot_reset_with(&self, groups: &[RawFd]) -> Result<(), Errno> {
        let argsz = size_of::<vfio_pci_hot_reset>() + size_of_val(groups);
        let mut bytes = Vec::with_capacity(argsz);
        for field in [argsz as u32, 0, groups.len() as u32] {
            bytes.extend(field.to_ne_bytes());
        }
        for group in groups {
            bytes.extend(group.to_ne_bytes());
        }
        self.ioctl(number::DEVICE_PCI_HOT_RESET, bytes.as_mut_ptr())
            .map(drop)
    }

    /// `VFIO_DEVICE_GET_PCI_HOT_RESET_INFO`: all bytes of the answer.
    pub fn hot_reset_info_bytes(&self) -> Result<Vec<u8>, Errno> {
        let mut bytes = vec![0; 1024];
        let argsz = bytes.len() as u32;
        bytes[..4].copy_from_slice(&argsz.to_ne_bytes());
        self.ioctl(number::DEVICE_GET_PCI_HOT_RESET_INFO, bytes.as_mut_ptr())?;
        Ok(bytes)
    }
}
