// SPDX-License-Identifier: GPL-2.0-only
/*
 * The module parameters of vfio_tph. One of module! would be invisible in sysfs,
 * where administrators look for it.
 */
#include <linux/moduleparam.h>

#include "helpers.h"

static bool enable_unsafe_tph;
module_param(enable_unsafe_tph, bool, 0444);
MODULE_PARM_DESC(enable_unsafe_tph,
		 "Let users of devices bound from now on see and choose steering tags. No IOMMU checks a tag, and caches are shared with other tenants. (default: N)");

/*
 * The policy, by its name; the driver knows which names there are. A parameter that
 * is not set can be told from one that is set to nothing: that one is in memory of
 * its own.
 */
static char no_policy[1];
static char *tph_policy = no_policy;
module_param(tph_policy, charp, 0444);
MODULE_PARM_DESC(tph_policy,
		 "What users of a device may have when it has been bound: no_st, iv_st, and with enable_unsafe_tph ds_st or literal. (default: the most that enable_unsafe_tph allows)");

/*
 * What vfio-pci has, with the same names, defaults and modes, for the same options
 * of a kernel.
 */
static char ids[1024];
module_param_string(ids, ids, sizeof(ids), 0);
MODULE_PARM_DESC(ids,
		 "Devices to bind from the start: vendor:device[:subvendor[:subdevice[:class[:class_mask]]]], in hexadecimal, several separated by commas.");

static bool nointxmask;
module_param(nointxmask, bool, 0644);
MODULE_PARM_DESC(nointxmask,
		 "Do not mask INTx in Command: a device that is bound from now on shares its interrupt line with no other one. (default: N)");

static bool disable_idle_d3;
module_param(disable_idle_d3, bool, 0644);
MODULE_PARM_DESC(disable_idle_d3,
		 "Leave a device that is bound from now on in D0 while nobody uses it. (default: N)");

static bool disable_vga;
#ifdef CONFIG_VFIO_PCI_VGA
module_param(disable_vga, bool, 0444);
MODULE_PARM_DESC(disable_vga,
		 "Give no access to the legacy VGA addresses. (default: N)");
#endif

static bool enable_sriov;
#ifdef CONFIG_PCI_IOV
module_param(enable_sriov, bool, 0644);
MODULE_PARM_DESC(enable_sriov,
		 "Let administrators make virtual functions of a physical function. (default: N)");
#endif

static bool disable_denylist;
module_param(disable_denylist, bool, 0444);
MODULE_PARM_DESC(disable_denylist,
		 "Take devices with errata that an untrusted user could exploit. (default: N)");

const char *safe_helper_ids(void)
{
	return ids;
}

bool safe_helper_nointxmask(void)
{
	return nointxmask;
}

bool safe_helper_disable_idle_d3(void)
{
	return disable_idle_d3;
}

bool safe_helper_disable_vga(void)
{
	return disable_vga;
}

bool safe_helper_enable_sriov(void)
{
	return enable_sriov;
}

bool safe_helper_disable_denylist(void)
{
	return disable_denylist;
}

bool safe_helper_enable_unsafe_tph(void)
{
	return enable_unsafe_tph;
}

/* The name of the policy that devices start with, or NULL. */
const char *safe_helper_tph_policy(void)
{
	return tph_policy == no_policy ? NULL : tph_policy;
}
