/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the files of this example know of each other. Functions return 0 or a negative errno. */
#ifndef EXAMPLES_DPDK_STEER_H
#define EXAMPLES_DPDK_STEER_H

#include <stdint.h>

#include "tph.h"

#define MAX_QUEUES	8

/* port.c: the first port, with @queues receive queues whose interrupts have vectors. */
int port_start(uint16_t port, uint16_t queues);

/* Stops it, resets the device and the driver, and starts it again. */
int port_reset(uint16_t port, uint16_t queues, int device);

/* steer.c: finds the device of a port among what DPDK has opened. */
int steer_find(struct tph *tph, uint16_t port);

/* Has the requests of a receive queue carry the tag of an lcore's CPU. */
int steer_queue(const struct tph *tph, uint16_t queue, unsigned int lcore);

#endif /* EXAMPLES_DPDK_STEER_H */
