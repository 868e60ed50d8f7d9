// SPDX-License-Identifier: GPL-2.0-only

//! PCI: what `kernel::pci` does not have.

pub(crate) mod config;
pub(crate) mod tph;

use crate::rust::{
    acpi::dsm::AcpiHandle,
    bindings,
    iommu::{
        self,
        Group, //
    },
};
use core::ptr;
use kernel::{
    device::{
        Bound,
        Device,
        DeviceContext, //
    },
    error::to_result,
    pci,
    prelude::*, //
};

/// The C side of a device.
pub(crate) fn as_raw<Ctx: DeviceContext>(pdev: &pci::Device<Ctx>) -> *mut bindings::pci_dev {
    // CAST: `pci::Device` is a transparent wrapper of `struct pci_dev`.
    core::ptr::from_ref(pdev).cast_mut().cast()
}

/// Keeps a device awake.
///
/// # Invariants
///
/// Holds one runtime PM reference.
pub(crate) struct Awake<'a>(&'a pci::Device<Bound>);

impl<'a> Awake<'a> {
    /// Resumes the device if need be.
    ///
    /// Sleeps, and runs the runtime PM callbacks of the driver: no lock of theirs may be held.
    pub(crate) fn new(pdev: &'a pci::Device<Bound>) -> Result<Self> {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
        to_result(unsafe { bindings::tph_helper_pm_get(&raw mut (*as_raw(pdev)).dev) })?;
        // INVARIANT: The call took a reference.
        Ok(Self(pdev))
    }

    /// Keeps a device awake that is; `None` if it sleeps.
    pub(crate) fn if_awake(pdev: &'a pci::Device<Bound>) -> Option<Self> {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
        let awake = unsafe { bindings::tph_helper_pm_get_if_awake(&raw mut (*as_raw(pdev)).dev) };
        // INVARIANT: The call took a reference, if it says so.
        awake.then_some(Self(pdev))
    }
}

impl Drop for Awake<'_> {
    fn drop(&mut self) {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and
        // the reference is ours by the invariant.
        unsafe { bindings::tph_helper_pm_put(&raw mut (*as_raw(self.0)).dev) };
    }
}

/// `PCI_D0` of include/linux/pci.h: a macro with a cast, which bindgen does not see through.
pub(crate) const D0: bindings::pci_power_t = 0;
/// `PCI_D3hot`, likewise.
const D3HOT: bindings::pci_power_t = 3;

fn power_state(pdev: &pci::Device<Bound>) -> bindings::pci_power_t {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`; the field
    // is a word, and a stale value is possible for C too.
    unsafe { core::ptr::read_volatile(&raw const (*as_raw(pdev)).current_state) }
}

/// Whether the device keeps its state and takes writes of config space: D0 to D2.
pub(crate) fn is_powered(pdev: &pci::Device<Bound>) -> bool {
    power_state(pdev) < D3HOT
}

/// Whether the device is in D3hot.
pub(crate) fn is_in_d3hot(pdev: &pci::Device<Bound>) -> bool {
    power_state(pdev) == D3HOT
}

/// Whether the device is in D0: only there does it take memory requests (PCIe r6.2 5.3.1).
pub(crate) fn is_in_d0(pdev: &pci::Device<Bound>) -> bool {
    power_state(pdev) == D0
}

/// Whether the PCI core lets drivers reach the device: not between an error on its link, or that of
/// a port above, and the end of the recovery from it.
pub(crate) fn is_accessible(pdev: &pci::Device<Bound>) -> bool {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`; the field
    // is a word, and a stale value is possible for C too.
    let state = unsafe { core::ptr::read_volatile(&raw const (*as_raw(pdev)).error_state) };
    state == bindings::pci_channel_io_normal
}

/// Device Capabilities 2 of a device, PCIe r6.2 7.5.3.15. EIO if it does not answer.
pub(crate) fn device_capabilities_2<Ctx: DeviceContext>(pdev: &pci::Device<Ctx>) -> Result<u32> {
    let mut value = 0;
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and
    // `value` is valid for a write.
    to_result(unsafe {
        bindings::pcie_capability_read_dword(
            as_raw(pdev),
            bindings::PCI_EXP_DEVCAP2 as i32,
            &mut value,
        )
    })?;
    if value == u32::MAX {
        return Err(EIO);
    }
    Ok(value)
}

/// Whether an MSI-X vector of a device is allocated.
pub(crate) fn vector_is_allocated(pdev: &pci::Device<Bound>, vector: u16) -> bool {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    unsafe { bindings::tph_helper_vector_allocated(as_raw(pdev), vector.into()) }
}

/// Whether a memory BAR of a device is in hardware what the kernel has recorded: a reset that
/// nobody has undone takes it away. Not if the device does not answer.
pub(crate) fn bar_is_in_place(pdev: &pci::Device<Bound>, bar: u32) -> bool {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and the
    // function takes any number.
    unsafe { bindings::tph_helper_bar_in_place(as_raw(pdev), bar) }
}

/// Whether a device is in the root complex itself: a root complex integrated endpoint.
pub(crate) fn is_in_root_complex(pdev: &pci::Device<Bound>) -> bool {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    let pcie_type = unsafe { bindings::tph_helper_pcie_type(as_raw(pdev)) };
    // CAST: a small number.
    pcie_type == bindings::PCI_EXP_TYPE_RC_END as i32
}

/// The root port above a device, if there is one.
pub(crate) fn root_port(pdev: &pci::Device<Bound>) -> Option<&pci::Device> {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    let root_port = unsafe { bindings::tph_helper_root_port(as_raw(pdev)) };
    // SAFETY: The pointer is null or valid: a bound device keeps those above it.
    unsafe { root_port.cast_const().cast::<pci::Device>().as_ref() }
}

/// The number of vectors that the MSI-X capability of a device claims, 0 without one.
pub(crate) fn claimed_msix_vectors(pdev: &pci::Device<Bound>) -> u16 {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
    let count = unsafe { bindings::pci_msix_vec_count(as_raw(pdev)) };
    u16::try_from(count).unwrap_or(0)
}

/// Whether the path from a device to its root port carries the tags that do not fit into the
/// header of a request (PCIe r6.2 2.2.7.1): in End-End TLP prefixes, which the device and all
/// ports of the path then support, or on links in flit mode, whose headers have the room.
pub(crate) fn carries_extended_tags(pdev: &pci::Device<Bound>) -> bool {
    let pdev = as_raw(pdev);
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`; the field
    // is set when it is found, and never changed.
    let prefixes = unsafe { bindings::pci_dev::eetlp_prefix_max_raw(pdev) };
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and so are
    // the buses above it.
    prefixes != 0 || unsafe { bindings::tph_helper_flit_path(pdev) }
}

/// Whether a device is the only one in its IOMMU group, apart from the ports above it: no other
/// one's DMA can reach it past the IOMMU.
///
/// True without an IOMMU, where nothing bounds anybody's DMA. Sleeps.
#[inline(never)]
pub(crate) fn is_alone_in_group(pdev: &pci::Device<Bound>) -> bool {
    let this: &Device = pdev.as_ref();
    let is_other = |dev: &Device| {
        // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`.
        !ptr::eq(dev, this) && !unsafe { bindings::tph_helper_is_pcie_port(iommu::as_raw(dev)) }
    };
    Group::of(this).is_none_or(|group| !group.any(is_other))
}

/// The ACPI node of the host bridge above a device.
pub(crate) fn host_bridge(pdev: &pci::Device<Bound>) -> Option<AcpiHandle> {
    // SAFETY: The device is a valid `struct pci_dev`, by the invariant of `pci::Device`, and so are
    // the buses and the bridge above it. The node stays as long as the bridge.
    unsafe {
        let bridge = bindings::tph_helper_host_bridge(as_raw(pdev));
        AcpiHandle::from_raw(bindings::tph_helper_acpi_handle(bridge))
    }
}
