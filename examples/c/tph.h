/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What a user space driver needs to steer the writes of its device: the TPH Requester
 * capability in vfio's config region, and the device features of linux/vfio_tph.h.
 * Functions return 0 or a negative errno.
 */
#ifndef EXAMPLES_TPH_H
#define EXAMPLES_TPH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A device: the descriptor that vfio has given, where config space is in it, and the
 * capability in config space.
 */
struct tph {
	int device;
	off_t config;
	uint16_t capability;
};

/* -ENOENT if the device offers no TPH, or the driver below it does not. */
int tph_find(struct tph *tph, int device);

/* Interrupt Vector mode with 8-bit tags. */
int tph_enable(const struct tph *tph);

/* Not after a reset, of any kind: enable it then, and steer again. */
bool tph_is_enabled(const struct tph *tph);

/*
 * Steers vector @index + i to cpus[i]; each has to be one that the caller may run on.
 * All of them are steered, or none. On failure *fault is the i, or count.
 */
int tph_steer(const struct tph *tph, uint16_t index, const unsigned int *cpus,
	      uint16_t count, uint32_t *fault);

/* Requests to the memory of @dmabuf, which is of @device, are to carry @tag. */
int tph_publish(int device, int dmabuf, uint8_t tag, uint8_t ph);

/* ST entry @index of @device gets the tag of the memory behind @dmabuf. */
int tph_steer_to_peer(int device, uint16_t index, int dmabuf);

#endif /* EXAMPLES_TPH_H */
