// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module parameters of vfio_tph. One of module! would be invisible in sysfs,
 * where administrators look for it.
 */
#include <linux/moduleparam.h>

#include "param.h"

static bool enable_unsafe_tph;
module_param(enable_unsafe_tph, bool, 0444);
MODULE_PARM_DESC(enable_unsafe_tph,
		 "Let users of devices bound from now on see and choose steering tags. No IOMMU checks a tag, and caches are shared with other tenants. (default: N)");

/*
 * By its name; which names there are is the driver's business. What is not set
 * can be told from what is set to nothing: the latter is in memory of its own.
 */
static char no_policy[1];
static char *tph_policy = no_policy;
module_param(tph_policy, charp, 0444);
MODULE_PARM_DESC(tph_policy,
		 "What users of a device may have when it has been bound: no_st, iv_st, and with enable_unsafe_tph ds_st or literal. (default: the most that enable_unsafe_tph allows)");

/* As vfio-pci has it. */
static bool enable_sriov;
module_param(enable_sriov, bool, 0644);
MODULE_PARM_DESC(enable_sriov, "Enable support for SR-IOV configuration.");

bool tph_helper_sriov(void)
{
	return enable_sriov;
}

bool tph_helper_gate(void)
{
	return enable_unsafe_tph;
}

/* The name of the policy that devices start with, or NULL. */
const char *tph_helper_policy(void)
{
	return tph_policy == no_policy ? NULL : tph_policy;
}
