// SPDX-License-Identifier: GPL-2.0-only
/*
 * The user ABI from a 32-bit program (R8): one GET of TPH, one TPH_ST.
 *
 *   compat32 FD CPU CPU
 *
 * FD is an open vfio device on which Interrupt Vector mode is enabled; entries
 * 0 and 1 are given to the two CPUs. Prints what GET says: flags, st_entries,
 * modes and policy, in hexadecimal.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/vfio_tph.h>

_Static_assert(sizeof(void *) == 4, "to be built with -m32");

struct tph_get {
	struct vfio_device_feature header;
	struct vfio_device_feature_tph offer;
};

struct tph_set {
	struct vfio_device_feature header;
	struct vfio_device_feature_tph_st st;
	struct vfio_tph_source sources[2];
};

static int fail(const char *what)
{
	fprintf(stderr, "compat32: %s: %s\n", what, strerror(errno));
	return 1;
}

int main(int argc, char **argv)
{
	struct tph_get get = {
		.header = {
			.argsz = sizeof(get),
			.flags = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_TPH,
		},
	};
	struct tph_set set = {
		.header = {
			.argsz = sizeof(set),
			.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_TPH_ST,
		},
		.st.count = 2,
	};
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: compat32 FD CPU CPU\n");
		return 2;
	}
	fd = atoi(argv[1]);
	for (int i = 0; i < 2; i++) {
		set.sources[i].type = VFIO_TPH_SOURCE_CPU;
		set.sources[i].value = strtoul(argv[2 + i], NULL, 0);
	}

	if (ioctl(fd, VFIO_DEVICE_FEATURE, &get))
		return fail("GET of TPH");
	if (ioctl(fd, VFIO_DEVICE_FEATURE, &set))
		return fail("SET of TPH_ST");
	printf("%x %x %x %x\n", get.offer.flags, get.offer.st_entries,
	       get.offer.modes, get.offer.policy);
	return 0;
}
