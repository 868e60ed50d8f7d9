// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/* A port as DPDK has it: nothing in here knows of TPH. */
#include <errno.h>
#include <sys/ioctl.h>
#include <linux/vfio.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "dpdk-steer.h"

#define DESCRIPTORS	256
#define BUFFERS		2048

static struct rte_mempool *buffers;

int port_start(uint16_t port, uint16_t queues)
{
	struct rte_eth_conf conf = {
		.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS,
		/* A vector for each queue: its number selects the ST entry. */
		.intr_conf.rxq = 1,
	};
	struct rte_eth_dev_info info;
	int ret;

	if (!buffers)
		buffers = rte_pktmbuf_pool_create("buffers", BUFFERS, 0, 0,
						  RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!buffers)
		return -rte_errno;
	ret = rte_eth_dev_info_get(port, &info);
	if (ret)
		return ret;
	conf.rx_adv_conf.rss_conf.rss_hf = RTE_ETH_RSS_IP & info.flow_type_rss_offloads;
	ret = rte_eth_dev_configure(port, queues, 1, &conf);
	for (uint16_t queue = 0; !ret && queue < queues; queue++)
		ret = rte_eth_rx_queue_setup(port, queue, DESCRIPTORS, SOCKET_ID_ANY, NULL,
					     buffers);
	if (!ret)
		ret = rte_eth_tx_queue_setup(port, 0, DESCRIPTORS, SOCKET_ID_ANY, NULL);
	if (!ret)
		ret = rte_eth_dev_start(port);
	if (!ret)
		ret = rte_eth_promiscuous_enable(port);
	return ret;
}

int port_reset(uint16_t port, uint16_t queues, int device)
{
	int ret = rte_eth_dev_stop(port);

	/* rte_eth_dev_reset() may leave the function itself, and its TPH, as they are. */
	if (!ret && ioctl(device, VFIO_DEVICE_RESET) < 0)
		ret = -errno;
	if (!ret)
		ret = rte_eth_dev_reset(port);
	return ret ? ret : port_start(port, queues);
}
