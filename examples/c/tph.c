// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* What tph.h declares. Documentation/uapi.rst shows it. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <linux/vfio_tph.h>

#include "tph.h"

/* What headers from before Linux 6.13 lack. */
#ifndef PCI_TPH_CTRL
#define PCI_TPH_CTRL		8
#define  PCI_TPH_ST_IV_MODE		0x1
#define  PCI_TPH_CTRL_REQ_EN_MASK	0x300
#define   PCI_TPH_REQ_TPH_ONLY		0x1
#endif
#ifndef PCI_EXT_CAP_ID
#define PCI_EXT_CAP_ID(header)		((header) & 0xffff)
#define PCI_EXT_CAP_NEXT(header)	(((header) >> 20) & 0xffc)
#endif

/* find: */
static int read_dword(const struct tph *tph, uint16_t at, uint32_t *value)
{
	if (pread(tph->device, value, sizeof(*value), tph->config + at) != sizeof(*value))
		return -EIO;
	*value = le32toh(*value);
	return 0;
}

int tph_find(struct tph *tph, int device)
{
	struct vfio_region_info info = {
		.argsz = sizeof(info),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	uint16_t at = PCI_CFG_SPACE_SIZE;
	uint32_t header;
	int ret;

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		return -errno;
	tph->device = device;
	tph->config = info.offset;
	/* There is room for so many headers: a chain that goes on does not end. */
	for (int i = 0; i < (PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) / 8; i++) {
		if (info.size < at + sizeof(header))
			break;
		ret = read_dword(tph, at, &header);
		if (ret)
			return ret;
		if (PCI_EXT_CAP_ID(header) == PCI_EXT_CAP_ID_TPH) {
			tph->capability = at;
			return 0;
		}
		at = PCI_EXT_CAP_NEXT(header);
		if (!at)
			break;
	}
	return -ENOENT;
}
/* enable: */
int tph_enable(const struct tph *tph)
{
	uint32_t control = PCI_TPH_ST_IV_MODE | PCI_TPH_REQ_TPH_ONLY << 8;
	uint32_t written = htole32(control), in_force;
	off_t at = tph->config + tph->capability + PCI_TPH_CTRL;

	if (pwrite(tph->device, &written, sizeof(written), at) != sizeof(written))
		return -EIO;
	if (read_dword(tph, tph->capability + PCI_TPH_CTRL, &in_force))
		return -EIO;
	/* What is not allowed is dropped without an error. */
	return in_force == control ? 0 : -EPERM;
}

bool tph_is_enabled(const struct tph *tph)
{
	uint32_t control;

	return !read_dword(tph, tph->capability + PCI_TPH_CTRL, &control) &&
	       control & PCI_TPH_CTRL_REQ_EN_MASK;
}
/* steer: */
int tph_steer(const struct tph *tph, uint16_t index, const unsigned int *cpus,
	      uint16_t count, uint32_t *fault)
{
	struct vfio_device_feature_tph_st *st;
	struct vfio_device_feature *feature;
	size_t size = sizeof(*feature) + sizeof(*st) + count * sizeof(st->sources[0]);
	int ret = 0;

	feature = calloc(1, size);
	if (!feature)
		return -ENOMEM;
	feature->argsz = size;
	feature->flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_TPH_ST;
	st = (void *)feature->data;
	st->index = index;
	st->count = count;
	st->fault = count;
	for (uint16_t i = 0; i < count; i++) {
		st->sources[i].type = VFIO_TPH_SOURCE_CPU;
		st->sources[i].value = cpus[i];
	}
	if (ioctl(tph->device, VFIO_DEVICE_FEATURE, feature) < 0)
		ret = -errno;
	*fault = st->fault;
	free(feature);
	return ret;
}
/* publish: */
int tph_publish(int device, int dmabuf, uint8_t tag, uint8_t ph)
{
	struct {
		struct vfio_device_feature feature;
		struct vfio_device_feature_dma_buf_tph tph;
	} set = {
		.feature.argsz = sizeof(set),
		.feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
		.tph.dmabuf_fd = dmabuf,
		.tph.flags = VFIO_DMA_BUF_TPH_ST,
		.tph.steering_tag = tag,
		.tph.ph = ph,
	};

	return ioctl(device, VFIO_DEVICE_FEATURE, &set) < 0 ? -errno : 0;
}

int tph_steer_to_peer(int device, uint16_t index, int dmabuf)
{
	struct {
		struct vfio_device_feature feature;
		struct vfio_device_feature_tph_st st;
		struct vfio_tph_source source;
	} set = {
		.feature.argsz = sizeof(set),
		.feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_TPH_ST,
		.st.index = index,
		.st.count = 1,
		.source.type = VFIO_TPH_SOURCE_DMABUF,
		.source.value = dmabuf,
	};

	return ioctl(device, VFIO_DEVICE_FEATURE, &set) < 0 ? -errno : 0;
}
/* end */
