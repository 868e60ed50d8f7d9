// SPDX-License-Identifier: GPL-2.0-only

//! The numbers and structs that the rules in `drivers/vfio_tph/rules/` are written in: our user
//! ABI, PCI registers and errnos. And how the structs travel to and from user memory.

pub(crate) use super::bindings::{
    vfio_device_feature_dma_buf_tph,
    vfio_device_feature_tph,
    vfio_device_feature_tph_map,
    vfio_device_feature_tph_resolve,
    vfio_device_feature_tph_st,
    vfio_tph_resolution,
    vfio_tph_source,
    EBADF,
    EBUSY,
    EINVAL,
    EIO,
    ENODEV,
    ENXIO,
    EOPNOTSUPP,
    EPERM,
    PCI_ACS_CAP,
    PCI_ACS_EC,
    PCI_ACS_EGRESS_BITS,
    PCI_ACS_EGRESS_CTL_V,
    PCI_CAP_VC_BASE_SIZEOF,
    PCI_CAP_VC_PER_VC_SIZEOF,
    PCI_COMMAND,
    PCI_DLF_CAP,
    PCI_DOE_READ,
    PCI_DPA_BASE_SIZEOF,
    PCI_DPA_CAP,
    PCI_DPA_CAP_SUBSTATE_MASK,
    PCI_DVSEC_HEADER1,
    PCI_ERR_PREFIX_LOG,
    PCI_ERR_ROOT_COMMAND,
    PCI_EXP_DEVCAP2_TPH_COMP_EXT_TPH,
    PCI_EXP_DEVCAP2_TPH_COMP_MASK,
    PCI_EXP_DEVCAP2_TPH_COMP_TPH_ONLY,
    PCI_EXT_CAP_ARI_SIZEOF,
    PCI_EXT_CAP_ATS_SIZEOF,
    PCI_EXT_CAP_DSN_SIZEOF,
    PCI_EXT_CAP_ID_ACS,
    PCI_EXT_CAP_ID_ARI,
    PCI_EXT_CAP_ID_ATS,
    PCI_EXT_CAP_ID_DLF,
    PCI_EXT_CAP_ID_DOE,
    PCI_EXT_CAP_ID_DPA,
    PCI_EXT_CAP_ID_DSN,
    PCI_EXT_CAP_ID_DVSEC,
    PCI_EXT_CAP_ID_ERR,
    PCI_EXT_CAP_ID_L1SS,
    PCI_EXT_CAP_ID_LTR,
    PCI_EXT_CAP_ID_MCAST,
    PCI_EXT_CAP_ID_MFVC,
    PCI_EXT_CAP_ID_PASID,
    PCI_EXT_CAP_ID_PRI,
    PCI_EXT_CAP_ID_PTM,
    PCI_EXT_CAP_ID_PWR,
    PCI_EXT_CAP_ID_REBAR,
    PCI_EXT_CAP_ID_SRIOV,
    PCI_EXT_CAP_ID_TPH,
    PCI_EXT_CAP_ID_VC,
    PCI_EXT_CAP_ID_VC9,
    PCI_EXT_CAP_ID_VF_REBAR,
    PCI_EXT_CAP_ID_VNDR,
    PCI_EXT_CAP_LTR_SIZEOF,
    PCI_EXT_CAP_MCAST_ENDPOINT_SIZEOF,
    PCI_EXT_CAP_PASID_SIZEOF,
    PCI_EXT_CAP_PRI_SIZEOF,
    PCI_EXT_CAP_PWR_SIZEOF,
    PCI_EXT_CAP_SRIOV_SIZEOF,
    PCI_L1SS_CTL2,
    PCI_PM_CTRL,
    PCI_PTM_CTRL,
    PCI_REBAR_CAP,
    PCI_REBAR_CTRL,
    PCI_REBAR_CTRL_NBAR_MASK,
    PCI_TPH_BASE_SIZEOF,
    PCI_TPH_CAP,
    PCI_TPH_CAP_EXT_TPH,
    PCI_TPH_CAP_LOC_MASK,
    PCI_TPH_CAP_ST_DS,
    PCI_TPH_CAP_ST_IV,
    PCI_TPH_CAP_ST_MASK,
    PCI_TPH_CAP_ST_NS,
    PCI_TPH_CAP_ST_SHIFT,
    PCI_TPH_CTRL,
    PCI_TPH_CTRL_MODE_SEL_MASK,
    PCI_TPH_CTRL_REQ_EN_MASK,
    PCI_TPH_LOC_CAP,
    PCI_TPH_LOC_MSIX,
    PCI_TPH_REQ_DISABLE,
    PCI_TPH_REQ_EXT_TPH,
    PCI_TPH_REQ_TPH_ONLY,
    PCI_TPH_ST_DS_MODE,
    PCI_TPH_ST_IV_MODE,
    PCI_TPH_ST_NS_MODE,
    PCI_VC_CAP1_EVCC,
    PCI_VC_CAP2_128_PHASE,
    PCI_VC_CAP2_32_PHASE,
    PCI_VC_CAP2_64_PHASE,
    PCI_VC_PORT_CAP1,
    PCI_VC_PORT_CAP2,
    PCI_VNDR_HEADER,
    VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
    VFIO_DEVICE_FEATURE_TPH,
    VFIO_DEVICE_FEATURE_TPH_MAP,
    VFIO_DEVICE_FEATURE_TPH_RESOLVE,
    VFIO_DEVICE_FEATURE_TPH_ST,
    VFIO_DEVICE_TPH_EXTENDED,
    VFIO_DMA_BUF_TPH_ST,
    VFIO_DMA_BUF_TPH_ST_EXT,
    VFIO_TPH_FLAG_COMPLETER,
    VFIO_TPH_FLAG_COMPLETER_EXT,
    VFIO_TPH_FLAG_EXTENDED,
    VFIO_TPH_FLAG_LITERAL,
    VFIO_TPH_FLAG_RESOLVE_ST,
    VFIO_TPH_FLAG_ST,
    VFIO_TPH_FLAG_ST_CAP,
    VFIO_TPH_FLAG_ST_DMABUF,
    VFIO_TPH_FLAG_ST_MSIX,
    VFIO_TPH_FLAG_VIRTUAL,
    VFIO_TPH_MAP_MAX,
    VFIO_TPH_POLICY_DS_ST,
    VFIO_TPH_POLICY_IV_ST,
    VFIO_TPH_POLICY_LITERAL,
    VFIO_TPH_POLICY_NO_ST,
    VFIO_TPH_RESOLUTION_PH_IGNORED,
    VFIO_TPH_RESOLUTION_ST,
    VFIO_TPH_RESOLVE_MAX,
    VFIO_TPH_SOURCE_CPU,
    VFIO_TPH_SOURCE_DMABUF,
    VFIO_TPH_SOURCE_LITERAL,
    VFIO_TPH_SOURCE_MEM_PM,
    VFIO_TPH_SOURCE_NONE, //
};

use kernel::transmute::{
    AsBytes,
    FromBytes, //
};

// SAFETY: Every bit pattern is a value, and there is no padding (asserted in `layout.h`).
unsafe impl FromBytes for vfio_tph_source {}
// SAFETY: Every bit pattern is a value, and there is no padding (asserted in `layout.h`);
// the flexible array at the end has no size.
unsafe impl FromBytes for vfio_device_feature_tph_st {}
// SAFETY: Every bit pattern is a value, and there is no padding (asserted in `layout.h`).
unsafe impl FromBytes for vfio_tph_resolution {}
// SAFETY: Every bit pattern is a value, and there is no padding (asserted in `layout.h`);
// the flexible array at the end has no size.
unsafe impl FromBytes for vfio_device_feature_tph_resolve {}
// SAFETY: Every bit pattern is a value, and there is no padding (asserted in `layout.h`).
unsafe impl FromBytes for vfio_device_feature_dma_buf_tph {}
// SAFETY: Every bit pattern is a value, and there is no padding (asserted in `layout.h`);
// the flexible array at the end has no size.
unsafe impl FromBytes for vfio_device_feature_tph_map {}
// SAFETY: No padding (asserted in `layout.h`), no interior mutability.
unsafe impl AsBytes for vfio_device_feature_tph {}
// SAFETY: No padding (asserted in `layout.h`), no interior mutability.
unsafe impl AsBytes for vfio_tph_source {}
// SAFETY: No padding (asserted in `layout.h`), no interior mutability.
unsafe impl AsBytes for vfio_tph_resolution {}
