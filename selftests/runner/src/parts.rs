// SPDX-License-Identifier: GPL-2.0-only

//! What sessions share: groups of devices, and lines of the kernel log that are not the driver's.

/// Devices of the common machine: two on one bus, which a reset of the bus hits both; one in the
/// root complex; one with its table in MSI-X; one without TPH.
pub const COMMON: &[&str] = &[
    "name=ep0,tph=cap,entries=64,extended=1,completer=3,msix=4,position=middle,bus=shared:pair",
    "name=ep1,tph=cap,entries=64,extended=1,completer=3,msix=4,position=last,bus=shared:pair",
    "name=rciep,tph=cap,entries=64,extended=1,completer=3,msix=4,position=last,port=rciep",
    "name=m16,tph=msix,msix=16",
    "name=plain,tph=absent,msix=4",
];

/// Behind a switch, whose ports are in the IOMMU group of what is below it.
pub const SWITCH: &[&str] = &[
    "name=switched,tph=cap,entries=64,extended=1,completer=3,msix=4,port=switch",
    "name=switchedmsix,tph=msix,msix=16,port=switch",
];

/// Two with MSI-X that share a bus.
pub const PAIR_IN_MSIX: &[&str] = &[
    "name=pair0,tph=msix,msix=8,bus=shared:msix",
    "name=pair1,tph=msix,msix=8,bus=shared:msix",
];

/// One with its table in MSI-X that no reset hits.
pub const NO_RESET: &[&str] = &["name=noreset,tph=msix,msix=16,flr=0,port=rciep"];

/// ST tables in MSI-X of several sizes, on two pages, in the middle of a BAR, of a device that
/// loses its state in D3hot, of one without extended TPH, and of two without FLR that share a bus
/// and an IOMMU group; tables in the capability, one of which is lost in D3hot. Where users are
/// kept off the pages of a table, the BAR has sixteen.
pub const VECTORS: &[&str] = &[
    "name=m16,tph=msix,msix=16,bar0={pages}",
    "name=m300,tph=msix,msix=300,bar0={pages}",
    "name=lost,tph=msix,msix=16,nosoftrst=0",
    "name=std,tph=msix,msix=5,extended=0",
    "name=most,tph=msix,msix={most},bar0={pages}",
    "name=pair0,tph=msix,msix=16,flr=0,bus=shared:pair",
    "name=pair1,tph=msix,msix=16,flr=0,bus=shared:pair",
    "name=cap,entries=8",
    "name=caplost,entries=8,nosoftrst=0",
    "name=plain,tph=absent",
    "name=mid,tph=msix,msix=16,msix_offset={border},bar0={pages}",
];

/// A BAR that has no page beside that of its table.
pub const ONE_PAGE: &[&str] = &["name=page,tph=msix,msix=16,bar0={page}"];

/// One of each kind of table: in the capability.
pub const CAP: &[&str] = &["name=cap,entries=8"];
/// In MSI-X.
pub const M16: &[&str] = &["name=m16,tph=msix,msix=16"];
/// One whose state is gone after D3hot.
pub const CAP_LOST: &[&str] = &["name=caplost,entries=8,nosoftrst=0"];

/// For allocations that fail, and devices that lie.
pub const FAULTY: &[&str] = &[
    "name=cap,entries=8,completer=3",
    "name=m16,tph=msix,msix=16,bar0={pages}",
    "name=rciep,entries=8,port=rciep",
];

/// aer_inject takes a lock that may sleep on PREEMPT_RT under one that may not; lockdep reports
/// that, and is off: what injects errors comes last.
pub const AER_INJECT: &str = "Invalid wait context.*inject_lock.* aer_inj_";

/// pciehp takes these two locks in one order and then in the other, whatever drives the device;
/// lockdep reports that and is off then.
pub const PCIEHP_LOCKS: &str =
    "circular locking.*reset_lock.* pciehp_unconfigure_device.*pci_rescan_remove_lock";

/// A device with virtual functions; of the emulated endpoints none has any.
pub const IGB: &[&str] = &[
    "-device",
    "pcie-root-port,id=rp-igb,bus=pcie.0,addr=0x1c,chassis=28,slot=28,x-speed=5",
    "-device",
    "igb,bus=rp-igb",
];

/// Devices on which the parameters of vfio-pci have an effect: igb, two that share an interrupt
/// line, a VGA device.
pub const IGB_EDU_VGA: &[&str] = &[
    "-device",
    "pcie-root-port,id=rp-igb,bus=pcie.0,addr=0x1c,chassis=28,slot=28,x-speed=5",
    "-device",
    "igb,bus=rp-igb",
    "-device",
    "edu,addr=8",
    "-device",
    "edu,addr=0xc",
    "-device",
    "VGA,addr=9",
];

/// Two that are alike, one on vfio-pci's denylist, Intel graphics.
pub const PARAMETERS_DEVICES: &[&str] = &[
    "name=one,tph=absent,id=1b36:7401",
    "name=two,tph=absent,id=1b36:7402",
    "name=listed,tph=absent,id=8086:0b25",
    "name=graphics,tph=absent,id=8086:7403,class=038000",
];

/// Why some sessions are not run where kmemleak looks.
pub const LOOKS_LIKE_A_LEAK: &str =
    "its tests take the name away from the vfio-pci that is built in, which looks like a leak";

/// Two and two that are alike: one for vfio-pci and one for vfio_tph.
pub const PAIRS: &[&str] = &[
    "name=plain0,tph=absent,msix=4",
    "name=plain1,tph=absent,msix=4",
    "name=ep0,tph=cap,entries=64,extended=1,completer=3,msix=4",
    "name=ep1,tph=cap,entries=64,extended=1,completer=3,msix=4",
];

/// The kernel's own selftests of vfio, and one of ours on their library.
pub const STOCK: &[&str] = &[
    "vfio_dma_mapping_mmio_test",
    "vfio_dma_mapping_test",
    "vfio_iommufd_setup_test",
    "vfio_pci_device_init_perf_test",
    "vfio_pci_device_test",
    "vfio_pci_driver_test",
    "vfio_pci_sriov_uapi_test",
    "vfio_pci_tph_test",
];

/// An NVMe drive that holds nothing, below a root port.
pub const NVME: &[&str] = &[
    "-device",
    "pcie-root-port,id=parity,bus=pcie.0,addr=8,chassis=8,slot=8,x-speed=5",
    "-drive",
    "if=none,id=disk,driver=null-co,size=64M",
    "-device",
    "nvme,bus=parity,drive=disk,serial=parity",
];

/// A disk that is blank, and there as long as QEMU is; a machine that is switched on again once it
/// has hibernated.
pub const SWAP_DISK: &[&str] = &[
    "-drive",
    "if=none,id=swap,driver=null-co,size=1G,read-zeroes=on,snapshot=on",
    "-device",
    "virtio-blk-pci,drive=swap,addr=3,disable-legacy=on",
    "-action",
    "shutdown=pause",
];

/// Two ports of igb on one wire; an NVMe drive; a device to pass on, whose DMA is translated as
/// that of real ones; one that the kernel's selftests take; and the root that the clients are in.
pub const CLIENTS: &[&str] = &[
    "-device",
    "pcie-root-port,id=rp-igb0,bus=pcie.0,addr=0x18,chassis=24,slot=24,x-speed=5",
    "-netdev",
    "hubport,id=net0,hubid=1",
    "-device",
    "igb,bus=rp-igb0,netdev=net0",
    "-device",
    "pcie-root-port,id=rp-igb1,bus=pcie.0,addr=0x19,chassis=25,slot=25,x-speed=5",
    "-netdev",
    "hubport,id=net1,hubid=1",
    "-device",
    "igb,bus=rp-igb1,netdev=net1",
    "-device",
    "pcie-root-port,id=rp-nvme,bus=pcie.0,addr=0x1a,chassis=26,slot=26,x-speed=5",
    "-device",
    "pcie-root-port,id=rp-passed,bus=pcie.0,addr=0x1b,chassis=27,slot=27,x-speed=5",
    "-blockdev",
    "driver=file,node-name=disk,filename={stage}/disk",
    "-device",
    "nvme,bus=rp-nvme,drive=disk,serial=clients",
    "-fsdev",
    "local,id=passed,path={stage}/passed,security_model=none,readonly=on",
    "-device",
    "virtio-9p-pci,fsdev=passed,mount_tag=passed,bus=rp-passed,disable-legacy=on,iommu_platform=on",
    "-device",
    "edu,addr=8",
    "-fsdev",
    "local,id=clients,path={root},security_model=none,readonly=on,multidevs=remap",
    "-device",
    "virtio-9p-pci,fsdev=clients,mount_tag=clients",
];

/// What is measured, a root port each. Every other one of the eight has its table in MSI-X.
pub const MEASURED: &[&str] = &[
    "name=cap,entries=64,msix=4,slot=3",
    "name=msix,tph=msix,msix=2048,slot=4",
    "name=msix16,tph=msix,msix=16,slot=5",
    "name=d0,entries=8,msix=8,slot=7",
    "name=d1,tph=msix,msix=8,slot=8",
    "name=d2,entries=8,msix=8,slot=9",
    "name=d3,tph=msix,msix=8,slot=10",
    "name=d4,entries=8,msix=8,slot=11",
    "name=d5,tph=msix,msix=8,slot=12",
    "name=d6,entries=8,msix=8,slot=13",
    "name=d7,tph=msix,msix=8,slot=14",
];

/// And beside how many: 24 more of them, eight below a port, and one without TPH.
pub const MANY: &[&str] = &[
    "name=plain,tph=absent,slot=6",
    "name=d8,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d9,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d10,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d11,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d12,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d13,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d14,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d15,entries=8,msix=4,bus=shared:group1,slot=15",
    "name=d16,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d17,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d18,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d19,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d20,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d21,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d22,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d23,entries=8,msix=4,bus=shared:group2,slot=16",
    "name=d24,entries=8,msix=4,bus=shared:group3,slot=17",
    "name=d25,entries=8,msix=4,bus=shared:group3,slot=17",
    "name=d26,entries=8,msix=4,bus=shared:group3,slot=17",
    "name=d27,entries=8,msix=4,bus=shared:group3,slot=17",
    "name=d28,entries=8,msix=4,bus=shared:group3,slot=17",
    "name=d29,entries=8,msix=4,bus=shared:group3,slot=17",
    "name=d30,entries=8,msix=4,bus=shared:group3,slot=17",
    "name=d31,entries=8,msix=4,bus=shared:group3,slot=17",
];

/// Virtual nanoseconds are instructions.
pub const INSTRUCTIONS: &[&str] = &["-icount", "shift=0,sleep=off"];
