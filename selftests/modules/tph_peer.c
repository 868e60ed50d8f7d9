// SPDX-License-Identifier: GPL-2.0-only
/*
 * tph_peer - the PCI core's own way to do what vfio_tph does, for the benchmark and for
 * tests of the PCI core itself
 *
 * A driver as C drivers are: it enables TPH, sets ST entries one by one and
 * looks steering tags up, all by the exported functions. It binds to devices
 * that driver_override gives it. debugfs tph_peer/run takes one request per
 * open, and the answer is read from the same open file:
 *
 *   0000:01:00.0 enable MODE		pcie_enable_tph()
 *   0000:01:00.0 disable		pcie_disable_tph()
 *   0000:01:00.0 vectors N		pci_alloc_irq_vectors()
 *   0000:01:00.0 set FIRST N TAG	N times pcie_tph_set_st_entry()
 *   0000:01:00.0 tags FIRST N TAG	pci_msix_write_tph_tags() of N vectors, if the kernel has it
 *   0000:01:00.0 lookup FIRST N	pcie_tph_get_cpu_st() of N CPUs
 *
 * And what a test wants to happen that otherwise takes another machine, or luck:
 *
 *   0000:01:00.0 unmaskable INDEX	the vector passes for one that cannot be masked
 *   0000:01:00.0 stale INDEX BDF TAG	"set" of one entry, as if its interrupt had been freed while
 *					it was looked up, and were that of BDF's first vector
 *
 * At any error it wants the link reset, as many drivers do: devices beside it are reset, too.
 *
 * The answer is "ticks=N", what the time stamp counter has advanced in the calls
 * alone: instructions in a VM that counts them (QEMU's -icount shift=0).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/irq.h>
#include <linux/module.h>
#include <linux/msi.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>
#include <linux/slab.h>
#include <linux/timex.h>

#include "find_device.h"

static struct pci_driver tph_peer_driver;

static int set_entries(struct pci_dev *pdev, unsigned int first,
		       unsigned int count, u16 tag)
{
	unsigned int i;
	int ret;

	for (i = 0; i < count; i++) {
		ret = pcie_tph_set_st_entry(pdev, first + i, tag);
		if (ret)
			return ret;
	}
	return 0;
}

static int write_tags(struct pci_dev *pdev, unsigned int first,
		      unsigned int count, u16 tag, cycles_t *ticks)
{
#ifdef VFIO_TPH_MSIX_TAGS
	u16 *tags __free(kfree) = kmalloc_array(count, sizeof(*tags), GFP_KERNEL);
	cycles_t start;
	int ret;

	if (!tags)
		return -ENOMEM;
	memset16(tags, tag, count);
	start = get_cycles();
	ret = pci_msix_write_tph_tags(pdev, first, tags, count);
	*ticks = get_cycles() - start;
	return ret;
#else
	return -EOPNOTSUPP;
#endif
}

static int look_up(struct pci_dev *pdev, unsigned int first, unsigned int count)
{
	unsigned int i;
	u16 tag;
	int ret;

	for (i = 0; i < count; i++) {
		ret = pcie_tph_get_cpu_st(pdev, TPH_MEM_TYPE_VM, first + i, &tag);
		if (ret)
			return ret;
	}
	return 0;
}

static struct msi_desc *descriptor(struct pci_dev *pdev, unsigned int index)
{
	int irq = pdev->msix_enabled ? pci_irq_vector(pdev, index) : -ENXIO;

	return irq > 0 ? irq_get_msi_desc(irq) : NULL;
}

static int make_unmaskable(struct pci_dev *pdev, unsigned int index)
{
	struct msi_desc *desc = descriptor(pdev, index);

	if (!desc)
		return -ENXIO;
	desc->pci.msi_attrib.can_mask = 0;
	return 0;
}

/* @text: the address of the other device, and the tag. */
static int set_stale(struct pci_dev *pdev, unsigned int index, const char *text)
{
	struct msi_desc *desc = descriptor(pdev, index);
	struct pci_dev *other;
	const char *rest;
	unsigned int irq;
	int ret;
	u16 tag;

	other = find_device(text, &rest);
	if (IS_ERR(other))
		return PTR_ERR(other);
	ret = kstrtou16(strim((char *)rest), 0, &tag);
	if (!ret && (!desc || !descriptor(other, 0)))
		ret = -ENXIO;
	if (!ret) {
		irq = desc->irq;
		desc->irq = pci_irq_vector(other, 0);
		ret = pcie_tph_set_st_entry(pdev, index, tag);
		desc->irq = irq;
	}
	pci_dev_put(other);
	return ret;
}

static int act(struct pci_dev *pdev, const char *request, cycles_t *ticks)
{
	unsigned int first, count;
	int mode, ret, at = 0;
	cycles_t start;
	u16 tag;

	guard(device)(&pdev->dev);
	if (pdev->driver != &tph_peer_driver)
		return -ENODEV;

	if (sscanf(request, "tags %u %u %hi", &first, &count, &tag) == 3)
		return write_tags(pdev, first, count, tag, ticks);

	start = get_cycles();
	if (sscanf(request, "enable %i", &mode) == 1) {
		ret = pcie_enable_tph(pdev, mode);
	} else if (sysfs_streq(request, "disable")) {
		pcie_disable_tph(pdev);
		ret = 0;
	} else if (sscanf(request, "vectors %u", &count) == 1) {
		ret = pci_alloc_irq_vectors(pdev, count, count, PCI_IRQ_MSIX);
	} else if (sscanf(request, "set %u %u %hi", &first, &count, &tag) == 3) {
		start = get_cycles();
		ret = set_entries(pdev, first, count, tag);
	} else if (sscanf(request, "lookup %u %u", &first, &count) == 2) {
		start = get_cycles();
		ret = look_up(pdev, first, count);
	} else if (sscanf(request, "unmaskable %u", &first) == 1) {
		ret = make_unmaskable(pdev, first);
	} else if (sscanf(request, "stale %u %n", &first, &at) == 1 && at) {
		ret = set_stale(pdev, first, request + at);
	} else {
		ret = -EINVAL;
	}
	*ticks = get_cycles() - start;
	return ret < 0 ? ret : 0;
}

static ssize_t run_write(struct file *file, const char __user *user,
			 size_t count, loff_t *pos)
{
	const char *request;
	struct pci_dev *pdev;
	cycles_t ticks;
	char *text;
	int ret;

	text = simple_transaction_get(file, user, count);
	if (IS_ERR(text))
		return PTR_ERR(text);

	pdev = find_device(text, &request);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);

	ret = act(pdev, request, &ticks);
	pci_dev_put(pdev);
	if (ret)
		return ret;
	ret = scnprintf(text, SIMPLE_TRANSACTION_LIMIT, "ticks=%llu\n",
			(unsigned long long)ticks);
	simple_transaction_set(file, ret);
	return count;
}

static const struct file_operations run_fops = {
	.owner = THIS_MODULE,
	.write = run_write,
	.read = simple_transaction_read,
	.release = simple_transaction_release,
};

static int tph_peer_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	int ret;

	ret = pci_enable_device(pdev);
	if (ret)
		return ret;
	pci_set_master(pdev);
	pci_save_state(pdev);
	return 0;
}

static void tph_peer_remove(struct pci_dev *pdev)
{
	pcie_disable_tph(pdev);
	pci_free_irq_vectors(pdev);
	pci_clear_master(pdev);
	pci_disable_device(pdev);
}

static pci_ers_result_t tph_peer_error_detected(struct pci_dev *pdev,
						pci_channel_state_t state)
{
	return state == pci_channel_io_perm_failure ? PCI_ERS_RESULT_DISCONNECT :
						      PCI_ERS_RESULT_NEED_RESET;
}

static pci_ers_result_t tph_peer_slot_reset(struct pci_dev *pdev)
{
	pci_restore_state(pdev);
	return PCI_ERS_RESULT_RECOVERED;
}

static const struct pci_error_handlers tph_peer_err_handler = {
	.error_detected = tph_peer_error_detected,
	.slot_reset = tph_peer_slot_reset,
};

/* Nothing by itself: driver_override does without an entry. */
static const struct pci_device_id tph_peer_ids[] = {
	{}
};

static struct pci_driver tph_peer_driver = {
	.name = KBUILD_MODNAME,
	.id_table = tph_peer_ids,
	.probe = tph_peer_probe,
	.remove = tph_peer_remove,
	.err_handler = &tph_peer_err_handler,
	/* It does no DMA: a user may have another device of its IOMMU group. */
	.driver_managed_dma = true,
};

static struct dentry *debugfs;

static int __init tph_peer_init(void)
{
	int ret;

	ret = pci_register_driver(&tph_peer_driver);
	if (ret)
		return ret;
	debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("run", 0600, debugfs, NULL, &run_fops);
	return 0;
}

static void __exit tph_peer_exit(void)
{
	debugfs_remove(debugfs);
	pci_unregister_driver(&tph_peer_driver);
}

module_init(tph_peer_init);
module_exit(tph_peer_exit);
MODULE_DESCRIPTION("Drives TPH by the PCI core's exported functions, for the benchmark and for tests");
MODULE_LICENSE("GPL");
