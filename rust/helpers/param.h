/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module parameters of vfio_tph, for Rust.
 */
#ifndef VFIO_TPH_PARAM_H
#define VFIO_TPH_PARAM_H

#include <linux/types.h>

bool tph_helper_gate(void);
const char *tph_helper_policy(void);
const char *tph_helper_ids(void);
bool tph_helper_nointxmask(void);
bool tph_helper_disable_idle_d3(void);
bool tph_helper_disable_vga(void);
bool tph_helper_sriov(void);
bool tph_helper_disable_denylist(void);

#endif /* VFIO_TPH_PARAM_H */
