/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The module parameters of vfio_tph, for Rust.
 */
#ifndef VFIO_TPH_PARAM_H
#define VFIO_TPH_PARAM_H

#include <linux/types.h>

bool tph_helper_gate(void);
const char *tph_helper_policy(void);
bool tph_helper_sriov(void);

#endif /* VFIO_TPH_PARAM_H */
