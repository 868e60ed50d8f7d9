/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What vfio_tph has of its own in C, for Rust: module parameters, tracepoints, and limits
 * for messages.
 *
 * Each of these functions can be called whenever its caller may sleep, with numbers of
 * any value and with any bound device. A string that one returns stays as it is as long
 * as the module is there. That is what the name says: see rust/helper.rs.
 */
#ifndef VFIO_TPH_HELPERS_H
#define VFIO_TPH_HELPERS_H

#include <linux/pci.h>
#include <linux/types.h>

bool safe_helper_enable_unsafe_tph(void);
const char *safe_helper_tph_policy(void);
const char *safe_helper_ids(void);
bool safe_helper_nointxmask(void);
bool safe_helper_disable_idle_d3(void);
bool safe_helper_disable_vga(void);
bool safe_helper_enable_sriov(void);
bool safe_helper_disable_denylist(void);

void safe_helper_trace_enable(struct pci_dev *pdev, u8 st_mode,
			      u8 requester_enable);
void safe_helper_trace_disable(struct pci_dev *pdev);
void safe_helper_trace_table_write(struct pci_dev *pdev, u16 index, u16 count,
				   bool extended);
void safe_helper_trace_resolve(struct pci_dev *pdev, u32 count, bool extended);
void safe_helper_trace_refusal(struct pci_dev *pdev, u32 feature, int error,
			       int position);

/* What is limited: one message does not keep another one out. */
enum tph_message {
	TPH_MESSAGE_PAST_THE_END,
	TPH_MESSAGE_CONTROL,
	TPH_MESSAGE_TABLE,
	TPH_MESSAGE_NOT_ALONE,
	TPH_MESSAGES,
};

bool safe_helper_ratelimit(u32 message);

#endif /* VFIO_TPH_HELPERS_H */
