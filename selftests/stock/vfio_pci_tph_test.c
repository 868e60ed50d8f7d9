// SPDX-License-Identifier: GPL-2.0-only
/*
 * TPH of a device that vfio_tph drives, on libvfio: for tools/testing/selftests/vfio.
 *
 *   VFIO_SELFTESTS_DRIVER=vfio_tph vfio_pci_tph_test BDF
 *
 * Any device with a TPH Requester capability will do, below a root port that completes
 * TPH requests. A variant for each place that an ST table can be in; the one that the
 * device does not have is skipped, and all of it under a driver that does not have the
 * features. So is what needs a tag where firmware has none.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <linux/vfio_tph.h>

#include <libvfio.h>

#include "kselftest_harness.h"

#define MAX_ENTRIES 4

static const char *device_bdf;

/* A VFIO_DEVICE_FEATURE call; @data, of @size bytes, goes there and back. Returns 0 or -errno. */
static int feature(int fd, u32 flags, void *data, size_t size)
{
	struct {
		struct vfio_device_feature header;
		u8 data[256];
	} call = {
		.header.argsz = sizeof(call.header) + size,
		.header.flags = flags,
	};
	int ret;

	VFIO_ASSERT_LE(size, sizeof(call.data));
	memcpy(call.header.data, data, size);
	ret = ioctl(fd, VFIO_DEVICE_FEATURE, &call) ? -errno : 0;
	memcpy(data, call.header.data, size);
	return ret;
}

FIXTURE(vfio_pci_tph_test) {
	struct iommu *iommu;
	struct vfio_pci_device *device;
	struct vfio_device_feature_tph offer;
	u16 tph;
	u16 entries;
};

FIXTURE_VARIANT(vfio_pci_tph_test) {
	u32 table;
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, cap) {
	.table = VFIO_TPH_FLAG_ST_CAP,
};

FIXTURE_VARIANT_ADD(vfio_pci_tph_test, msix) {
	.table = VFIO_TPH_FLAG_ST_MSIX,
};

/* Offset of an extended capability that the user sees, 0 without. */
static u16 find_ext_cap(struct vfio_pci_device *device, u16 id)
{
	u16 pos = PCI_CFG_SPACE_SIZE;
	int left = (PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) / 4;

	while (pos >= PCI_CFG_SPACE_SIZE && left--) {
		u32 header = vfio_pci_config_readl(device, pos);

		if (PCI_EXT_CAP_ID(header) == id)
			return pos;
		pos = PCI_EXT_CAP_NEXT(header);
	}
	return 0;
}

static void set_control(struct vfio_pci_device *device, u16 tph, u32 mode, u32 requester)
{
	vfio_pci_config_writel(device, tph + PCI_TPH_CTRL, mode | requester << 8);
}

static u32 control(struct vfio_pci_device *device, u16 tph)
{
	return vfio_pci_config_readl(device, tph + PCI_TPH_CTRL);
}

/* Programs entries from 0 on, all with the same source. */
static int program(struct vfio_pci_device *device, u16 count, u8 type, u32 value)
{
	struct {
		struct vfio_device_feature_tph_st st;
		struct vfio_tph_source sources[MAX_ENTRIES + 1];
	} batch = { .st.count = count };
	int i;

	for (i = 0; i < count; i++) {
		batch.st.sources[i].type = type;
		batch.st.sources[i].value = value;
	}
	return feature(device->fd, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_TPH_ST, &batch,
		       sizeof(batch.st) + count * sizeof(batch.sources[0]));
}

FIXTURE_SETUP(vfio_pci_tph_test)
{
	int ret;

	self->iommu = iommu_init(default_iommu_mode);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);

	ret = feature(self->device->fd, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_TPH,
		      &self->offer, sizeof(self->offer));
	if (ret == -ENOTTY || ret == -EOPNOTSUPP)
		SKIP(return, "The driver, or the device, has no TPH\n");
	ASSERT_EQ(0, ret);
	if (!(self->offer.flags & variant->table))
		SKIP(return, "The device has no such table\n");

	self->tph = find_ext_cap(self->device, PCI_EXT_CAP_ID_TPH);
	ASSERT_NE(0, self->tph);
	self->entries = min(self->offer.st_entries, (u16)MAX_ENTRIES);
	ASSERT_NE(0, self->entries);
	if (variant->table == VFIO_TPH_FLAG_ST_MSIX)
		vfio_pci_msix_enable(self->device, 0, self->entries);
}

FIXTURE_TEARDOWN(vfio_pci_tph_test)
{
	vfio_pci_device_cleanup(self->device);
	iommu_cleanup(self->iommu);
}

TEST_F(vfio_pci_tph_test, offer)
{
	/* No ST is a mode that every requester has. */
	ASSERT_TRUE(self->offer.modes & VFIO_TPH_MODE_NS);
	ASSERT_LE(self->offer.policy, VFIO_TPH_POLICY_LITERAL);
	/* The table is in one place, and TPH starts off. */
	ASSERT_NE(VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_ST_MSIX,
		  self->offer.flags & (VFIO_TPH_FLAG_ST_CAP | VFIO_TPH_FLAG_ST_MSIX));
	ASSERT_EQ(0, control(self->device, self->tph));
}

TEST_F(vfio_pci_tph_test, control)
{
	set_control(self->device, self->tph, PCI_TPH_ST_NS_MODE, PCI_TPH_REQ_TPH_ONLY);
	ASSERT_EQ(PCI_TPH_ST_NS_MODE | PCI_TPH_REQ_TPH_ONLY << 8,
		  control(self->device, self->tph));

	/* A reserved value never gets there. */
	set_control(self->device, self->tph, PCI_TPH_ST_NS_MODE, 2);
	ASSERT_NE(2 << 8, control(self->device, self->tph) & PCI_TPH_CTRL_REQ_EN_MASK);

	set_control(self->device, self->tph, 0, PCI_TPH_REQ_DISABLE);
	ASSERT_EQ(0, control(self->device, self->tph));
}

TEST_F(vfio_pci_tph_test, batch)
{
	int cpu, ret;

	if (!(self->offer.modes & VFIO_TPH_MODE_IV))
		SKIP(return, "No Interrupt Vector mode\n");

	/* Not before it is enabled. */
	ASSERT_EQ(-ENXIO, program(self->device, self->entries, VFIO_TPH_SOURCE_NONE, 0));

	set_control(self->device, self->tph, PCI_TPH_ST_IV_MODE, PCI_TPH_REQ_TPH_ONLY);
	/* A CPU that this thread may have. */
	cpu = sched_getcpu();
	ASSERT_LE(0, cpu);
	ret = program(self->device, self->entries, VFIO_TPH_SOURCE_CPU, cpu);
	if (ret == -EOPNOTSUPP)
		SKIP(return, "Firmware has no tag of this CPU\n");
	ASSERT_EQ(0, ret);
	/* It is on again, as it was. */
	ASSERT_EQ(PCI_TPH_ST_IV_MODE | PCI_TPH_REQ_TPH_ONLY << 8,
		  control(self->device, self->tph));
	ASSERT_EQ(0, program(self->device, self->entries, VFIO_TPH_SOURCE_NONE, 0));
}

TEST_F(vfio_pci_tph_test, refusal)
{
	if (!(self->offer.modes & VFIO_TPH_MODE_IV))
		SKIP(return, "No Interrupt Vector mode\n");

	set_control(self->device, self->tph, PCI_TPH_ST_IV_MODE, PCI_TPH_REQ_TPH_ONLY);
	ASSERT_EQ(-EINVAL, program(self->device, 0, VFIO_TPH_SOURCE_NONE, 0));
	ASSERT_EQ(-EINVAL, program(self->device, 1, 0xff, 0));
	ASSERT_EQ(-EINVAL, program(self->device, 1, VFIO_TPH_SOURCE_NONE, 1));
	ASSERT_EQ(-EINVAL, program(self->device, 1, VFIO_TPH_SOURCE_CPU, ~0U));
	if (self->offer.policy < VFIO_TPH_POLICY_LITERAL)
		ASSERT_EQ(-EPERM, program(self->device, 1, VFIO_TPH_SOURCE_LITERAL, 1));
	ASSERT_EQ(PCI_TPH_ST_IV_MODE | PCI_TPH_REQ_TPH_ONLY << 8,
		  control(self->device, self->tph));
}

TEST_F(vfio_pci_tph_test, reset)
{
	if (!(self->device->info.flags & VFIO_DEVICE_FLAGS_RESET))
		SKIP(return, "Device does not support reset\n");

	set_control(self->device, self->tph, PCI_TPH_ST_NS_MODE, PCI_TPH_REQ_TPH_ONLY);
	vfio_pci_device_reset(self->device);
	ASSERT_EQ(0, control(self->device, self->tph));
}

TEST_F(vfio_pci_tph_test, close)
{
	set_control(self->device, self->tph, PCI_TPH_ST_NS_MODE, PCI_TPH_REQ_TPH_ONLY);
	vfio_pci_device_cleanup(self->device);
	self->device = vfio_pci_device_init(device_bdf, self->iommu);
	ASSERT_EQ(0, control(self->device, self->tph));
}

int main(int argc, char *argv[])
{
	device_bdf = vfio_selftests_get_bdf(&argc, argv);
	return test_harness_run(argc, argv);
}
