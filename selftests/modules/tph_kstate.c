// SPDX-License-Identifier: GPL-2.0-only
/*
 * tph_kstate - what the kernel and the firmware think of TPH, for tests
 *
 * debugfs tph_kstate/device takes one request per open, and the answer is read
 * from the same open file:
 *
 *   exec 3<>/sys/kernel/debug/tph_kstate/device
 *   echo 0000:01:00.0 >&3
 *   cat <&3
 *   tph_cap=0x160 tph_enabled=0 tph_mode=0 tph_req_type=0 current_state=0 eetlp_prefix_max=1
 *
 * tph_cap is the offset that the PCI core found, current_state a pci_power_t,
 * eetlp_prefix_max what it found that the path to the root port carries.
 * On a device that no driver is bound to, a request may also act, the way an
 * in-kernel driver would, and leave state behind for the next driver:
 *
 *   0000:01:00.0 enable MODE		pcie_enable_tph()
 *   0000:01:00.0 disable		pcie_disable_tph()
 *   0000:01:00.0 set INDEX TAG		pcie_tph_set_st_entry()
 *
 * On one that is bound it may have the driver shut it down, as the driver core
 * does before the system is restarted:
 *
 *   0000:01:00.0 shutdown
 *
 * On any one it may write a bit of struct pci_dev that shares its byte with
 * tph_enabled in mainline, and that nothing on x86 looks at, over and over for so
 * many milliseconds. ESTALE if it ever was not what was written last:
 *
 *   0000:01:00.0 toggle MILLISECONDS
 *
 * The write fails with that call's error; the answer is the state after it.
 *
 * debugfs tph_kstate/dsm_evaluations is how often the _DSM of the SSDT beside
 * the tests (guest/tph.asl) was asked for a CPU's tags since boot.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/acpi.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>
#include <linux/pm_runtime.h>

#include "find_device.h"

#define DSM_COUNTER "\\_SB.PCI0.TPHN"

/* Looks often, so that what somebody else wrote is not overwritten before it is seen. */
static int toggle(struct pci_dev *pdev, unsigned int ms)
{
	unsigned long end = jiffies + msecs_to_jiffies(ms);
	bool before = pdev->needs_freset, bit = before;
	unsigned int i;
	int ret = 0;

	while (!ret && time_before(jiffies, end)) {
		for (i = 0; i < 8000; i++) {
			if (pdev->needs_freset != bit)
				ret = -ESTALE;
			if (i % 8 == 0) {
				bit = !bit;
				pdev->needs_freset = bit;
			}
			barrier();
		}
		cond_resched();
	}
	pdev->needs_freset = before;
	return ret;
}

static int act(struct pci_dev *pdev, const char *request)
{
	unsigned int index, ms;
	int mode;
	u16 tag;

	if (sscanf(request, "toggle %u", &ms) == 1)
		return toggle(pdev, ms);

	/* Held, so that no driver binds in the middle. */
	guard(device)(&pdev->dev);
	if (sysfs_streq(request, "shutdown")) {
		if (!pdev->dev.driver || !pdev->driver->shutdown)
			return -EOPNOTSUPP;
		/* As pci_device_shutdown() and device_shutdown() have it. */
		pm_runtime_get_sync(&pdev->dev);
		pdev->driver->shutdown(pdev);
		pm_runtime_put(&pdev->dev);
		return 0;
	}
	if (pdev->dev.driver)
		return -EBUSY;

	if (sscanf(request, "enable %i", &mode) == 1)
		return pcie_enable_tph(pdev, mode);
	if (sscanf(request, "set %i %hi", &index, &tag) == 2)
		return pcie_tph_set_st_entry(pdev, index, tag);
	if (sysfs_streq(request, "disable")) {
		pcie_disable_tph(pdev);
		return 0;
	}
	return -EINVAL;
}

static void answer(struct file *file, char *text, struct pci_dev *pdev)
{
	int length;

#ifdef CONFIG_PCIE_TPH
	length = scnprintf(text, SIMPLE_TRANSACTION_LIMIT,
			   "tph_cap=%#x tph_enabled=%u tph_mode=%u tph_req_type=%u current_state=%d eetlp_prefix_max=%u\n",
			   pdev->tph_cap, pdev->tph_enabled, pdev->tph_mode,
			   pdev->tph_req_type, (__force int)pdev->current_state,
			   pdev->eetlp_prefix_max);
#else
	length = scnprintf(text, SIMPLE_TRANSACTION_LIMIT,
			   "tph_cap=0 tph_enabled=0 tph_mode=0 tph_req_type=0 current_state=%d\n",
			   (__force int)pdev->current_state);
#endif
	simple_transaction_set(file, length);
}

static ssize_t device_write(struct file *file, const char __user *user,
			    size_t count, loff_t *pos)
{
	const char *request;
	struct pci_dev *pdev;
	char *text;
	int ret = 0;

	text = simple_transaction_get(file, user, count);
	if (IS_ERR(text))
		return PTR_ERR(text);

	pdev = find_device(text, &request);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);

	if (*request)
		ret = act(pdev, request);
	if (!ret)
		answer(file, text, pdev);
	pci_dev_put(pdev);
	return ret ?: count;
}

static const struct file_operations device_fops = {
	.owner = THIS_MODULE,
	.write = device_write,
	.read = simple_transaction_read,
	.release = simple_transaction_release,
};

static int dsm_evaluations_get(void *data, u64 *value)
{
	unsigned long long count;

	if (ACPI_FAILURE(acpi_evaluate_integer(NULL, DSM_COUNTER, NULL, &count)))
		return -ENODEV;
	*value = count;
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(dsm_evaluations_fops, dsm_evaluations_get, NULL, "%llu\n");

static struct dentry *debugfs;

static int __init tph_kstate_init(void)
{
	debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("device", 0600, debugfs, NULL, &device_fops);
	debugfs_create_file_unsafe("dsm_evaluations", 0400, debugfs, NULL,
				   &dsm_evaluations_fops);
	return 0;
}

static void __exit tph_kstate_exit(void)
{
	debugfs_remove(debugfs);
}

module_init(tph_kstate_init);
module_exit(tph_kstate_exit);
MODULE_DESCRIPTION("Shows the PCI core's TPH state, for tests");
MODULE_LICENSE("GPL");
