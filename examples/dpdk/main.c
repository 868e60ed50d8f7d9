// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Steers the receive queues of a port to the lcores that poll them:
 *
 *   dpdk-steer -l 0-2 -a 0000:01:00.0 [EAL OPTIONS]
 *
 * There is a queue for each lcore but the main one. The main lcore takes commands from
 * standard input, until that ends:
 *
 *   move QUEUE LCORE	lets another lcore poll a queue, and steers it there
 *   reset		resets the port, and steers all queues again
 *   show		says which lcore polls a queue, and how many packets each queue and
 *			each lcore has had
 *
 * The device is bound to vfio_tph under the name that DPDK knows, vfio-pci.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <rte_mbuf.h>
#include <rte_pause.h>

#include "dpdk-steer.h"

#define BURST		32
#define NOBODY		LCORE_ID_ANY

/*
 * A receive queue. Its owner polls it, and alone gives it away, to who is wanted; only the
 * main lcore, which polls none, takes it from nobody.
 */
static struct queue {
	_Atomic unsigned int owner;
	_Atomic unsigned int wanted;
	_Atomic uint64_t packets;
} queues[MAX_QUEUES];

/* Packets that an lcore has taken, whatever queue they came from. */
static _Atomic uint64_t taken[RTE_MAX_LCORE];
static uint16_t port;
static uint16_t count;
static atomic_bool over;
static struct tph tph;

static void poll_queue(uint16_t number)
{
	struct queue *queue = &queues[number];
	struct rte_mbuf *burst[BURST];
	uint16_t got = rte_eth_rx_burst(port, number, burst, BURST);

	rte_pktmbuf_free_bulk(burst, got);
	queue->packets += got;
	taken[rte_lcore_id()] += got;
}

static int poll_queues(__rte_unused void *argument)
{
	unsigned int self = rte_lcore_id();

	while (!over) {
		for (uint16_t number = 0; number < count; number++) {
			if (queues[number].owner != self)
				continue;
			poll_queue(number);
			queues[number].owner = queues[number].wanted;
		}
		rte_pause();
	}
	return 0;
}

/* Returns when @lcore has the queue. */
static void hand_over(uint16_t number, unsigned int lcore)
{
	struct queue *queue = &queues[number];

	queue->wanted = lcore;
	if (queue->owner == NOBODY)
		queue->owner = lcore;
	while (queue->owner != lcore)
		rte_pause();
}

/* move: */
static int move(uint16_t number, unsigned int lcore)
{
	int ret = steer_queue(&tph, number, lcore);

	if (!ret)
		hand_over(number, lcore);
	return ret;
}
/* reset: */
static int reset(void)
{
	unsigned int lcores[MAX_QUEUES];
	int ret;

	for (uint16_t number = 0; number < count; number++) {
		lcores[number] = queues[number].owner;
		hand_over(number, NOBODY);
	}
	ret = port_reset(port, count, tph.device);
	/* TPH is off now, and its table is empty. */
	for (uint16_t number = 0; !ret && number < count; number++)
		ret = move(number, lcores[number]);
	return ret;
}
/* end */

static int command(const char *line)
{
	unsigned int number, lcore;

	if (sscanf(line, "move %u %u", &number, &lcore) == 2) {
		if (number >= count || !rte_lcore_is_enabled(lcore) ||
		    lcore == rte_get_main_lcore())
			return -EINVAL;
		return move(number, lcore);
	}
	if (!strcmp(line, "reset\n"))
		return reset();
	if (strcmp(line, "show\n"))
		return -EINVAL;
	for (number = 0; number < count; number++)
		printf("queue %u: lcore %u, %" PRIu64 " packets\n", number,
		       queues[number].owner, (uint64_t)queues[number].packets);
	RTE_LCORE_FOREACH_WORKER(lcore)
		printf("lcore %u: %" PRIu64 " packets\n", lcore, (uint64_t)taken[lcore]);
	return 0;
}

int main(int argc, char **argv)
{
	uint16_t number = 0;
	unsigned int lcore;
	char line[64];
	int ret;

	if (rte_eal_init(argc, argv) < 0)
		rte_exit(EXIT_FAILURE, "DPDK: %s\n", rte_strerror(rte_errno));
	if (!rte_eth_dev_count_avail())
		rte_exit(EXIT_FAILURE, "no port: is its device bound to vfio-pci?\n");
	port = rte_eth_find_next(0);
	RTE_LCORE_FOREACH_WORKER(lcore)
		if (count < MAX_QUEUES)
			queues[count++].owner = NOBODY;
	ret = port_start(port, count);
	if (ret)
		rte_exit(EXIT_FAILURE, "port %u: %s\n", port, rte_strerror(-ret));
	ret = steer_find(&tph, port);
	if (ret)
		rte_exit(EXIT_FAILURE, "port %u offers no TPH: %s\n", port, strerror(-ret));

	RTE_LCORE_FOREACH_WORKER(lcore)
		if (!ret && number < count)
			ret = move(number++, lcore);
	if (ret)
		rte_exit(EXIT_FAILURE, "no steering: %s\n", strerror(-ret));
	ret = rte_eal_mp_remote_launch(poll_queues, NULL, SKIP_MAIN);
	if (ret)
		rte_exit(EXIT_FAILURE, "lcores: %s\n", strerror(-ret));

	while (printf("steer> "), fflush(stdout), fgets(line, sizeof(line), stdin)) {
		ret = command(line);
		printf("%s\n", ret ? strerror(-ret) : "done");
	}

	over = true;
	rte_eal_mp_wait_lcore();
	rte_eth_dev_stop(port);
	rte_eth_dev_close(port);
	return rte_eal_cleanup() ? EXIT_FAILURE : EXIT_SUCCESS;
}
