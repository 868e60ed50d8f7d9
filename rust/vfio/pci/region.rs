// SPDX-License-Identifier: GPL-2.0-only

//! Regions of which a driver keeps a part to itself: how user space is told, and every way in which
//! it could get at that part of a BAR without reading or writing through vfio.

use super::{
    device::Device,
    driver::Hooks, //
};
use crate::rust::bindings;
use core::ops::Range;
use kernel::{
    error::{
        from_result,
        to_result, //
    },
    page::PAGE_SHIFT,
    prelude::*, //
};

/// A sparse mmap capability of a region, with the most areas that one hole leaves.
#[repr(C)]
struct SparseMmap {
    cap: bindings::vfio_region_info_cap_sparse_mmap,
    areas: [bindings::vfio_region_sparse_mmap_area; 2],
}

fn overlaps(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl<T: Hooks> Device<T> {
    /// What of a region no user may map or export, if anything.
    ///
    /// # Safety
    ///
    /// As for [`Self::handle`].
    #[inline(always)]
    unsafe fn hole(&self, region: u32) -> Option<Range<u64>> {
        // SAFETY: The device is open for the length of the call, by the safety requirement.
        T::unmappable(unsafe { self.handle() }.terms())?.of(region)
    }

    /// `vfio_device_ops.get_region_info_caps`: as vfio-pci-core, but a region with a hole says so
    /// instead of that its MSI-X table may be mapped.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, for an open device of ours.
    pub(super) unsafe extern "C" fn region_info_callback(
        vdev: *mut bindings::vfio_device,
        info: *mut bindings::vfio_region_info,
        caps: *mut bindings::vfio_info_cap,
    ) -> c_int {
        // SAFETY: The vfio core calls this for an open device, with valid pointers.
        let (this, region) = unsafe { (Self::from_vfio(vdev), (*info).index) };
        // SAFETY: The vfio core, or vfio-pci-core, calls us for an open device.
        let Some(hole) = (unsafe { this.hole(region) }) else {
            // SAFETY: The arguments are those that the vfio core has called us with.
            return unsafe { bindings::vfio_pci_ioctl_get_region_info(vdev, info, caps) };
        };
        // SAFETY: The arguments are those that the vfio core has called us with.
        unsafe { Self::region_info_with_hole(vdev, info, caps, &hole) }
    }

    /// As [`Self::region_info_callback`], for a region with a hole.
    ///
    /// # Safety
    ///
    /// As for [`Self::region_info_callback`].
    #[cold]
    #[inline(never)]
    unsafe fn region_info_with_hole(
        vdev: *mut bindings::vfio_device,
        info: *mut bindings::vfio_region_info,
        caps: *mut bindings::vfio_info_cap,
        hole: &Range<u64>,
    ) -> c_int {
        from_result(|| {
            let mut unused: bindings::vfio_info_cap = pin_init::zeroed();
            // SAFETY: The device and `info` are valid, by the safety requirement; the capabilities
            // go to a list of our own, whose buffer is ours to free.
            let info = unsafe {
                let ret = bindings::vfio_pci_ioctl_get_region_info(vdev, info, &mut unused);
                bindings::kfree(unused.buf.cast());
                to_result(ret)?;
                &mut *info
            };
            if info.flags & bindings::VFIO_REGION_INFO_FLAG_MMAP != 0 {
                // SAFETY: The arguments are those that the vfio core has called us with.
                unsafe { add_sparse_mmap(info, hole, caps)? };
            }
            Ok(0)
        })
    }

    /// `vfio_device_ops.mmap`: as vfio-pci-core, but EINVAL for what touches a hole. No page of a
    /// hole is ever in a mapping: one cannot grow (VM_DONTEXPAND) or move to another offset.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, for an open device of ours.
    pub(super) unsafe extern "C" fn mmap_callback(
        vdev: *mut bindings::vfio_device,
        vma: *mut bindings::vm_area_struct,
    ) -> c_int {
        const REGION_SHIFT: u32 = bindings::VFIO_PCI_OFFSET_SHIFT - PAGE_SHIFT as u32;

        // SAFETY: The vfio core calls this for an open device, with a vma that is being set up.
        let (this, pgoff, len) = unsafe {
            let area = &(*vma).__bindgen_anon_1.__bindgen_anon_1;
            (
                Self::from_vfio(vdev),
                (*vma).vm_pgoff as u64,
                area.vm_end.saturating_sub(area.vm_start) as u64,
            )
        };
        from_result(|| {
            let region = u32::try_from(pgoff >> REGION_SHIFT).map_err(|_| EINVAL)?;
            let start = (pgoff & ((1 << REGION_SHIFT) - 1)) << PAGE_SHIFT;
            // SAFETY: The vfio core, or vfio-pci-core, calls us for an open device.
            if let Some(hole) = unsafe { this.hole(region) } {
                if overlaps(&hole, &(start..start.saturating_add(len))) {
                    return Err(EINVAL);
                }
            }
            // SAFETY: The arguments are those that the vfio core has called us with.
            to_result(unsafe { bindings::vfio_pci_core_mmap(vdev, vma) }).map(|()| 0)
        })
    }

    /// `vfio_pci_device_ops.get_dmabuf_phys`: as vfio-pci-core, but EPERM for what touches a hole.
    ///
    /// # Safety
    ///
    /// Called by the vfio core only, by way of the table, for an open device of ours.
    pub(super) unsafe extern "C" fn dmabuf_callback(
        vdev: *mut bindings::vfio_pci_core_device,
        provider: *mut *mut bindings::p2pdma_provider,
        region: c_uint,
        phys_vec: *mut bindings::phys_vec,
        dma_ranges: *mut bindings::vfio_region_dma_range,
        nr_ranges: usize,
    ) -> c_int {
        // SAFETY: vfio-pci-core calls this for an open device, with `nr_ranges` ranges.
        let (this, ranges) = unsafe {
            (
                Self::from_vfio(vdev.cast()),
                core::slice::from_raw_parts(dma_ranges, nr_ranges),
            )
        };
        from_result(|| {
            // SAFETY: The vfio core, or vfio-pci-core, calls us for an open device.
            if let Some(hole) = unsafe { this.hole(region) } {
                if ranges.iter().any(|range| {
                    overlaps(
                        &hole,
                        &(range.offset..range.offset.saturating_add(range.length)),
                    )
                }) {
                    return Err(EPERM);
                }
            }
            // SAFETY: The arguments are those that the vfio core has called us with.
            let ret =
                unsafe { get_dmabuf_phys(vdev, provider, region, phys_vec, dma_ranges, nr_ranges) };
            to_result(ret).map(|()| 0)
        })
    }
}

#[cfg(CONFIG_VFIO_PCI_DMABUF)]
use bindings::vfio_pci_core_get_dmabuf_phys as get_dmabuf_phys;

/// What the header's stub of vfio_pci_core_get_dmabuf_phys() says.
#[cfg(not(CONFIG_VFIO_PCI_DMABUF))]
unsafe fn get_dmabuf_phys(
    _: *mut bindings::vfio_pci_core_device,
    _: *mut *mut bindings::p2pdma_provider,
    _: c_uint,
    _: *mut bindings::phys_vec,
    _: *mut bindings::vfio_region_dma_range,
    _: usize,
) -> c_int {
    EOPNOTSUPP.to_errno()
}

/// Lists what a hole leaves of a region. A region of which it leaves nothing cannot be mapped.
///
/// # Safety
///
/// `caps` is valid.
unsafe fn add_sparse_mmap(
    info: &mut bindings::vfio_region_info,
    hole: &Range<u64>,
    caps: *mut bindings::vfio_info_cap,
) -> Result {
    let mut sparse = SparseMmap {
        cap: Default::default(),
        areas: pin_init::zeroed(),
    };
    let mut count = 0;
    for left in [0..hole.start.min(info.size), hole.end..info.size] {
        if !left.is_empty() {
            sparse.areas[count].offset = left.start;
            sparse.areas[count].size = left.end - left.start;
            count += 1;
        }
    }
    if count == 0 {
        info.flags &= !bindings::VFIO_REGION_INFO_FLAG_MMAP;
        return Ok(());
    }

    // CAST: small constants.
    sparse.cap.header.id = bindings::VFIO_REGION_INFO_CAP_SPARSE_MMAP as u16;
    sparse.cap.header.version = 1;
    sparse.cap.nr_areas = count as u32;
    let size = size_of::<bindings::vfio_region_info_cap_sparse_mmap>()
        + count * size_of::<bindings::vfio_region_sparse_mmap_area>();
    // SAFETY: `caps` is valid by the safety requirement, and `size` bytes of `sparse` are copied.
    to_result(unsafe { bindings::vfio_info_add_capability(caps, (&raw mut sparse).cast(), size) })
}
