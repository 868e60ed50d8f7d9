// SPDX-License-Identifier: GPL-2.0-only

//! Devices that no user may have, unless the administrator says so: the denylist of
//! drivers/vfio/pci/vfio_pci.c, which variant drivers would otherwise be a way around.

use crate::rust::bindings::{
    PCI_DEVICE_ID_INTEL_DSA_SPR0,
    PCI_DEVICE_ID_INTEL_IAX_SPR0,
    PCI_DEVICE_ID_INTEL_QAT_C3XXX,
    PCI_DEVICE_ID_INTEL_QAT_C3XXX_VF,
    PCI_DEVICE_ID_INTEL_QAT_C62X,
    PCI_DEVICE_ID_INTEL_QAT_C62X_VF,
    PCI_DEVICE_ID_INTEL_QAT_DH895XCC,
    PCI_DEVICE_ID_INTEL_QAT_DH895XCC_VF, //
};
use kernel::pci::{
    self,
    Vendor, //
};

/// Whether a device has errata that an untrusted user could exploit.
pub(crate) fn lists(pdev: &pci::Device) -> bool {
    pdev.vendor_id() == Vendor::INTEL
        && matches!(
            u32::from(pdev.device_id()),
            PCI_DEVICE_ID_INTEL_DSA_SPR0
                | PCI_DEVICE_ID_INTEL_IAX_SPR0
                | PCI_DEVICE_ID_INTEL_QAT_C3XXX
                | PCI_DEVICE_ID_INTEL_QAT_C3XXX_VF
                | PCI_DEVICE_ID_INTEL_QAT_C62X
                | PCI_DEVICE_ID_INTEL_QAT_C62X_VF
                | PCI_DEVICE_ID_INTEL_QAT_DH895XCC
                | PCI_DEVICE_ID_INTEL_QAT_DH895XCC_VF
        )
}
