// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* Steering with what DPDK has: its descriptor of the device, its numbers of vectors. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_lcore.h>

#include "dpdk-steer.h"

/* find: */
/* Whether descriptor @fd is vfio's of the device @name, "0000:01:00.0". */
static bool is_device(int fd, const char *name)
{
	static const char key[] = "vfio-device-syspath:";
	char path[64], line[512];
	bool found = false;
	FILE *info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = fopen(path, "r");
	while (info && !found && fgets(line, sizeof(line), info)) {
		const char *last = strrchr(line, '/');

		line[strcspn(line, "\n")] = 0;
		found = !strncmp(line, key, strlen(key)) && last && !strcmp(last + 1, name);
	}
	if (info)
		fclose(info);
	return found;
}

/*
 * DPDK gives applications no access to the descriptor, but it is this process's. The kernel
 * says since Linux 6.18 which device it is.
 */
static int device_of(const char *name)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;
	int found = -ENOENT;

	while (directory && found < 0 && (entry = readdir(directory))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] != '.' && is_device(fd, name))
			found = fd;
	}
	if (directory)
		closedir(directory);
	return found;
}

int steer_find(struct tph *tph, uint16_t port)
{
	struct rte_eth_dev_info info;
	int ret = rte_eth_dev_info_get(port, &info);

	if (ret)
		return ret;
	ret = device_of(rte_dev_name(info.device));
	return ret < 0 ? ret : tph_find(tph, ret);
}
/* steer: */
/* The first CPU that an lcore runs on: of those that -l makes, each has one. */
static unsigned int cpu_of(unsigned int lcore)
{
	rte_cpuset_t set = rte_lcore_cpuset(lcore);
	unsigned int cpu = 0;

	while (cpu < CPU_SETSIZE && !CPU_ISSET(cpu, &set))
		cpu++;
	return cpu;
}

/*
 * Vector 0 is for what is not a queue's. That those of receive queues follow is a habit of
 * DPDK's drivers, igb's among them; what another one does is in its source.
 */
int steer_queue(const struct tph *tph, uint16_t queue, unsigned int lcore)
{
	unsigned int cpu = cpu_of(lcore);
	uint32_t fault;
	int ret;

	/* Off at the start, and after each reset: then all entries are clear. */
	if (!tph_is_enabled(tph)) {
		ret = tph_enable(tph);
		if (ret)
			return ret;
	}
	return tph_steer(tph, RTE_INTR_VEC_RXTX_OFFSET + queue, &cpu, 1, &fault);
}
/* end */
