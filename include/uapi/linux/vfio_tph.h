/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * User interface of vfio_tph: PCIe TLP Processing Hints (TPH) for VFIO devices.
 *
 * A vfio_tph device is a vfio-pci device with a TPH Requester capability that
 * the user may drive. ST Mode Select and Requester Enable are set through
 * config space; what needs the kernel's help is a device feature below, used
 * with the VFIO_DEVICE_FEATURE ioctl.
 *
 * A steering tag (ST) has 8 bits, an extended one (XST) 16, and the two are
 * separate namespaces: a call says which one it means, and never gets the other.
 *
 * Register names are those of PCIe r6.2, sections 7.9.13 and 7.5.3.15.
 */
#ifndef _UAPI_LINUX_VFIO_TPH_H
#define _UAPI_LINUX_VFIO_TPH_H

#include <linux/types.h>
#include <linux/vfio.h>

/* Feature indices: a private range, above what vfio itself gives out. */
#define VFIO_DEVICE_FEATURE_TPH			0x5450	/* GET */
#define VFIO_DEVICE_FEATURE_TPH_ST		0x5451	/* SET */
#define VFIO_DEVICE_FEATURE_TPH_RESOLVE		0x5452	/* GET */
#define VFIO_DEVICE_FEATURE_DMA_BUF_TPH		0x5453	/* SET */
#define VFIO_DEVICE_FEATURE_TPH_MAP		0x5454	/* SET */

/*
 * All of them, also for PROBE:
 *
 *   -EOPNOTSUPP  TPH is not usable on this device, or its policy leaves this out;
 *                DMA_BUF_TPH has reasons of its own
 *   -EINVAL      an operation that the feature does not have, a reserved field
 *                or an unknown flag that is not 0, argsz too short
 *   -EFAULT      user memory that cannot be read or written
 */

/* What a source of a steering tag is. */
#define VFIO_TPH_SOURCE_NONE		0	/* value 0; tag 0, clears an entry */
#define VFIO_TPH_SOURCE_CPU		1	/* value is a logical CPU number */
#define VFIO_TPH_SOURCE_DMABUF		2	/* value is a dma-buf's fd */
#define VFIO_TPH_SOURCE_LITERAL		3	/* value is the tag itself */

/**
 * struct vfio_tph_source - where a steering tag comes from
 * @type: VFIO_TPH_SOURCE_*
 * @flags: VFIO_TPH_SOURCE_MEM_PM with VFIO_TPH_SOURCE_CPU, else 0
 * @reserved: 0
 * @value: depends on @type
 */
struct vfio_tph_source {
	__u8	type;
	__u8	flags;
#define VFIO_TPH_SOURCE_MEM_PM		(1 << 0) /* persistent, not volatile memory */
	__u16	reserved;
	__u32	value;
};

/**
 * struct vfio_device_feature_tph - what the device has on offer
 * @flags: VFIO_TPH_FLAG_*
 * @st_entries: entries that VFIO_DEVICE_FEATURE_TPH_ST can address, 0 if none
 * @modes: VFIO_TPH_MODE_*, the ST modes that may be selected
 * @policy: VFIO_TPH_POLICY_*, set by the administrator
 *
 * VFIO_DEVICE_FEATURE_TPH, GET.
 */
struct vfio_device_feature_tph {
	__u32	flags;
#define VFIO_TPH_FLAG_EXTENDED		(1 << 0) /* extended tags are usable */
#define VFIO_TPH_FLAG_ST_CAP		(1 << 1) /* ST table in the capability */
#define VFIO_TPH_FLAG_ST_MSIX		(1 << 2) /* ST table in the MSI-X table */
#define VFIO_TPH_FLAG_ST		(1 << 3) /* TPH_ST is available */
#define VFIO_TPH_FLAG_RESOLVE_ST	(1 << 4) /* TPH_RESOLVE discloses tags */
#define VFIO_TPH_FLAG_LITERAL		(1 << 5) /* LITERAL sources are accepted */
#define VFIO_TPH_FLAG_COMPLETER		(1 << 6) /* the device is a TPH completer */
#define VFIO_TPH_FLAG_COMPLETER_EXT	(1 << 7) /* ... and an extended one */
#define VFIO_TPH_FLAG_ST_DMABUF		(1 << 8) /* TPH_ST takes DMABUF sources */
#define VFIO_TPH_FLAG_VIRTUAL		(1 << 9) /* virtual tags, by a map */
	__u16	st_entries;
	__u8	modes;
#define VFIO_TPH_MODE_NS		(1 << 0) /* No ST */
#define VFIO_TPH_MODE_IV		(1 << 1) /* Interrupt Vector */
#define VFIO_TPH_MODE_DS		(1 << 2) /* Device Specific */
	__u8	policy;
#define VFIO_TPH_POLICY_NO_ST		0	/* no steering tags */
#define VFIO_TPH_POLICY_IV_ST		1	/* tags by own CPU, unseen */
#define VFIO_TPH_POLICY_DS_ST		2	/* by any CPU or dma-buf, and seen */
#define VFIO_TPH_POLICY_LITERAL		3	/* any tag */
};

/* In the flags of TPH_ST and TPH_RESOLVE: extended tags are meant. */
#define VFIO_DEVICE_TPH_EXTENDED	(1 << 0)

/**
 * struct vfio_device_feature_tph_st - program entries of the ST table
 * @flags: VFIO_DEVICE_TPH_EXTENDED or 0
 * @index: first entry
 * @count: number of entries, at least 1
 * @fault: written when a source is refused: its position in @sources
 * @reserved: 0
 * @sources: one source for each entry
 *
 * VFIO_DEVICE_FEATURE_TPH_ST, SET. All entries are written, or none is. The
 * requester is disabled meanwhile, and afterwards what it was. Sources are asked
 * once, one after the other, and entries keep what they were told: a dma-buf whose
 * owner publishes anew, or takes its memory away, has to be asked again.
 *
 * Below VFIO_TPH_POLICY_DS_ST a CPU must be one that the caller may use: one of its
 * cpuset, or, on a kernel that does not tell modules of cpusets, one that a thread
 * of the calling process may run on now. A dma-buf is no source then: an entry
 * goes with a vector, not with a target, so that a tag that somebody publishes for
 * its own memory would go out with requests to any memory.
 *
 *   -ENXIO       Requester Enable is 00b or the mode is No ST; an MSI-X vector
 *                in the range is not allocated
 *   -EOPNOTSUPP  extended tags while Requester Enable is 01b or on a path that
 *                has none; a source that has no tag in the namespace asked for
 *   -EPERM       LITERAL below VFIO_TPH_POLICY_LITERAL; below VFIO_TPH_POLICY_DS_ST
 *                DMABUF, whatever the fd is, and a CPU that is not the caller's
 *   -EINVAL      a malformed source, a CPU that is not present, not a dma-buf
 *   -EBADF       bad dma-buf fd
 *   -ENODEV      a dma-buf whose memory is out of reach: disabled, or given up
 *   -EINTR       a signal, while an exporter was busy
 *   -EBUSY       the table has virtual tags, by VFIO_DEVICE_FEATURE_TPH_MAP or tph_vcpus
 *   -EIO         the device stopped answering, and TPH is off; or it is in D3, or
 *                does not decode the memory that its table is in
 */
struct vfio_device_feature_tph_st {
	__u32	flags;
	__u16	index;
	__u16	count;
	__u32	fault;
	__u32	reserved;
	struct vfio_tph_source sources[];
};

/**
 * struct vfio_tph_resolution - a source, and what was found for it
 * @source: in: VFIO_TPH_SOURCE_CPU or VFIO_TPH_SOURCE_DMABUF
 * @st: out: the tag, if @flags says that it is valid
 * @ph: out: the processing hint, 0 to 3
 * @flags: out: VFIO_TPH_RESOLUTION_*; in: 0, or what an earlier call left
 * @reserved: 0
 */
struct vfio_tph_resolution {
	struct vfio_tph_source source;
	__u16	st;
	__u8	ph;
	__u8	flags;
#define VFIO_TPH_RESOLUTION_ST		(1 << 0) /* @st is valid */
#define VFIO_TPH_RESOLUTION_PH_IGNORED	(1 << 1) /* the completer ignores the hint */
	__u32	reserved;
};

#define VFIO_TPH_RESOLVE_MAX		4096

/**
 * struct vfio_device_feature_tph_resolve - look hints up, write nothing
 * @flags: VFIO_DEVICE_TPH_EXTENDED or 0
 * @count: number of entries, 1 to VFIO_TPH_RESOLVE_MAX
 * @fault: written when a source is refused: its position in @entries
 * @reserved: 0
 * @entries: the sources, and room for what is found
 *
 * VFIO_DEVICE_FEATURE_TPH_RESOLVE, GET. For a driver that puts hints into its
 * own descriptors. One refused source refuses the call, with no result written.
 *
 *   -EOPNOTSUPP  extended tags where they are not usable; a source that has no tag
 *                in the namespace asked for
 *   -EPERM       CPU below VFIO_TPH_POLICY_DS_ST
 *   -EINVAL      a malformed source, NONE, LITERAL, a CPU that is not present, not a
 *                dma-buf
 *   -EBADF, -ENODEV, -EINTR  as for TPH_ST
 */
struct vfio_device_feature_tph_resolve {
	__u32	flags;
	__u32	count;
	__u32	fault;
	__u32	reserved;
	struct vfio_tph_resolution entries[];
};

/**
 * struct vfio_device_feature_dma_buf_tph - publish hints for own BAR memory
 * @dmabuf_fd: from VFIO_DEVICE_FEATURE_DMA_BUF of this device
 * @flags: VFIO_DMA_BUF_TPH_*; 0 withdraws what was published
 * @steering_tag_ext: the extended tag, if VFIO_DMA_BUF_TPH_ST_EXT
 * @steering_tag: the tag, if VFIO_DMA_BUF_TPH_ST
 * @ph: processing hint, 0 to 3
 *
 * VFIO_DEVICE_FEATURE_DMA_BUF_TPH, SET. Replaces everything published before; an
 * importer that has asked already keeps what it was told. For devices that complete
 * TPH requests, whether or not they issue any.
 *
 *   -EOPNOTSUPP  the device is no TPH completer, or for VFIO_DMA_BUF_TPH_ST_EXT no
 *                extended one; the kernel's dma-bufs know nothing of TPH, or TPH is
 *                turned off altogether
 *   -EINVAL      an unknown flag, @ph above 3, not a dma-buf, or not one of this
 *                device
 *   -EBADF       bad fd
 *   -EINTR       a signal, while somebody else used the dma-buf
 */
struct vfio_device_feature_dma_buf_tph {
	__s32	dmabuf_fd;
	__u32	flags;
#define VFIO_DMA_BUF_TPH_ST		(1 << 0)
#define VFIO_DMA_BUF_TPH_ST_EXT		(1 << 1)
	__u16	steering_tag_ext;
	__u8	steering_tag;
	__u8	ph;
};

#define VFIO_TPH_MAP_MAX		255

/**
 * struct vfio_device_feature_tph_map - what the tags of a guest stand for
 * @flags: 0
 * @count: number of virtual tags, 0 to VFIO_TPH_MAP_MAX; 0 takes the map away
 * @fault: written when a source is refused: its position in @sources
 * @reserved: 0
 * @sources: VFIO_TPH_SOURCE_CPU or VFIO_TPH_SOURCE_NONE; the first one is what the
 *	virtual tag 1 stands for
 *
 * VFIO_DEVICE_FEATURE_TPH_MAP, SET. For a monitor whose guest steers with its own
 * kernel: the device shows an ST table in the capability, whatever hardware has, of
 * virtual tags that the guest reads and writes in config space. In Interrupt Vector
 * mode hardware's entry has the tag of what the virtual tag stands for, in the
 * namespace that Requester Enable selects; none where firmware has none. A virtual
 * tag beyond the map, and 0, is no tag.
 *
 * The map lasts until it is taken away or the device is closed; a reset leaves it
 * alone. It should be there before config space is read: it changes what is shown.
 * One map may follow another at any time, when virtual CPUs were moved. With the first
 * one and when the last one goes all entries become 0.
 *
 * CPUs below VFIO_TPH_POLICY_DS_ST as for TPH_ST. Whether firmware has a tag for them
 * is not asked here.
 *
 *   -EOPNOTSUPP  also without Interrupt Vector mode, without an ST table, and where
 *                not one entry fits behind the registers
 *   -EBUSY       the map is the administrator's (tph_vcpus in sysfs); the first map
 *                or the last one while Requester Enable is not 00b
 *   -EINVAL      a malformed source, DMABUF, LITERAL, a CPU that is not present
 *   -EPERM       below VFIO_TPH_POLICY_DS_ST a CPU that is not the caller's
 *   -EIO         entries cannot be cleared, and nothing has changed; or the device
 *                stopped answering: TPH is off, and the map is the one of before
 */
struct vfio_device_feature_tph_map {
	__u32	flags;
	__u32	count;
	__u32	fault;
	__u32	reserved;
	struct vfio_tph_source sources[];
};

#endif /* _UAPI_LINUX_VFIO_TPH_H */
