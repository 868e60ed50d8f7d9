// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Steers the interrupt vectors of a device to CPUs, without DPDK or another library:
 *
 *   steer-vectors 0000:01:00.0 CPU...
 *
 * gives vector 0 to the first CPU, and so on, and keeps the device open until its
 * standard input ends. The device is bound to vfio_tph (or to vfio-pci, if that is this
 * driver under the other name).
 */
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

#include "tph.h"

#define MAX_VECTORS	64

/* The name of the character device in sysfs, "vfio0". */
static void name_of(const char *bdf, char name[NAME_MAX + 1])
{
	char path[128];
	struct dirent *entry;
	DIR *directory;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev", bdf);
	directory = opendir(path);
	if (!directory)
		err(1, "%s: no driver of vfio is bound", path);
	*name = 0;
	while ((entry = readdir(directory)))
		if (entry->d_name[0] != '.')
			snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
	closedir(directory);
}

/* Opens the device by its character device and a new address space. */
static int open_device(const char *bdf)
{
	struct vfio_device_attach_iommufd_pt attach = { .argsz = sizeof(attach) };
	struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };
	struct iommu_ioas_alloc space = { .size = sizeof(space) };
	char name[NAME_MAX + 1], path[NAME_MAX + 32];
	int device, iommu;

	name_of(bdf, name);
	snprintf(path, sizeof(path), "/dev/vfio/devices/%s", name);
	device = open(path, O_RDWR);
	if (device < 0)
		err(1, "%s", path);
	iommu = open("/dev/iommu", O_RDWR);
	if (iommu < 0)
		err(1, "/dev/iommu");
	bind.iommufd = iommu;
	if (ioctl(device, VFIO_DEVICE_BIND_IOMMUFD, &bind) < 0)
		err(1, "%s: VFIO_DEVICE_BIND_IOMMUFD", bdf);
	if (ioctl(iommu, IOMMU_IOAS_ALLOC, &space) < 0)
		err(1, "IOMMU_IOAS_ALLOC");
	attach.pt_id = space.out_ioas_id;
	if (ioctl(device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) < 0)
		err(1, "%s: VFIO_DEVICE_ATTACH_IOMMUFD_PT", bdf);
	return device;
}

/*
 * Allocates vectors 0 to @count - 1 of a device that has MSI-X, each with an event. A
 * table in MSI-X takes entries of allocated vectors only.
 */
static void allocate_vectors(int device, int count)
{
	struct vfio_irq_info info = { .argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX };
	struct {
		struct vfio_irq_set set;
		int events[MAX_VECTORS];
	} irqs = {
		.set.argsz = sizeof(irqs.set) + count * sizeof(irqs.events[0]),
		.set.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.set.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.set.count = count,
	};

	if (ioctl(device, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0)
		err(1, "VFIO_DEVICE_GET_IRQ_INFO");
	if (!info.count)
		return;
	for (int i = 0; i < count; i++) {
		irqs.events[i] = eventfd(0, EFD_CLOEXEC);
		if (irqs.events[i] < 0)
			err(1, "eventfd");
	}
	if (ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs) < 0)
		err(1, "VFIO_DEVICE_SET_IRQS of %d vectors; the device has %u", count, info.count);
}

int main(int argc, char **argv)
{
	unsigned int cpus[MAX_VECTORS];
	int count = argc - 2, ret;
	uint32_t fault;
	struct tph tph;

	if (count < 1 || count > MAX_VECTORS)
		errx(2, "usage: steer-vectors BDF CPU...");
	for (int i = 0; i < count; i++)
		cpus[i] = strtoul(argv[i + 2], NULL, 0);

	ret = tph_find(&tph, open_device(argv[1]));
	if (ret)
		errx(1, "%s offers no TPH: %s", argv[1], strerror(-ret));
	allocate_vectors(tph.device, count);
	ret = tph_enable(&tph);
	if (ret)
		errx(1, "%s: Interrupt Vector mode: %s", argv[1], strerror(-ret));
	ret = tph_steer(&tph, 0, cpus, count, &fault);
	if (ret && fault < (uint32_t)count)
		errx(1, "%s: CPU %u: %s", argv[1], cpus[fault], strerror(-ret));
	if (ret)
		errx(1, "%s: TPH_ST: %s", argv[1], strerror(-ret));
	printf("%d vectors steered\n", count);
	fflush(stdout);

	while (getchar() != EOF)
		;
	return 0;
}
