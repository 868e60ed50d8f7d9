// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fields of the PCI Express capability of a device, with a file each:
 *
 *   echo 0000:00:04.0 3   >/sys/kernel/debug/tph_rp/completer
 *   echo 0000:00:04.0 off >/sys/kernel/debug/tph_rp/completer
 *   cat /sys/kernel/debug/tph_rp/completer
 *
 *   completer	TPH Completer Supported, Device Capabilities 2
 *   prefixes	End-End TLP Prefix Supported, Device Capabilities 2
 *   flit	Flit Mode Status, Link Status 2
 *
 * The kernel reads the latter two when it finds a device: after they were changed
 * the device has to be taken out of the kernel's sight and found again.
 */
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/slab.h>

#include "tph_rp.h"

/* A field that is in one byte of the capability. */
struct field {
	struct override_kind kind;
	int where;
	u8 bits;
};

struct express {
	struct override override;
	int where;
	u8 bits;
	u8 value;
};

static struct express *to_express(struct override *override)
{
	return container_of(override, struct express, override);
}

static void express_read(struct override *override, int where, int size, u32 *val)
{
	struct express *express = to_express(override);
	int shift;

	if (override_covers(where, size, express->where, &shift)) {
		*val &= ~((u32)express->bits << shift);
		*val |= (u32)express->value << shift;
	}
}

static const struct field completer = {
	.kind = { .read = express_read },
	.where = PCI_EXP_DEVCAP2 + 1,
	.bits = PCI_EXP_DEVCAP2_TPH_COMP_MASK >> 8,
};

static const struct field prefixes = {
	.kind = { .read = express_read },
	.where = PCI_EXP_DEVCAP2 + 2,
	.bits = PCI_EXP_DEVCAP2_EE_PREFIX >> 16,
};

static const struct field flit = {
	.kind = { .read = express_read },
	.where = PCI_EXP_LNKSTA2 + 1,
	.bits = PCI_EXP_LNKSTA2_FLIT >> 8,
};

static int express_set(struct pci_dev *pdev, const char *words,
		       const struct field *field)
{
	int shift = __ffs(field->bits);
	struct express *express;
	u8 value;
	int ret;

	if (kstrtou8(words, 0, &value) || value > field->bits >> shift)
		return -EINVAL;
	if (!pci_is_pcie(pdev))
		return -ENODEV;

	express = kzalloc_obj(*express);
	if (!express)
		return -ENOMEM;
	express->override.kind = &field->kind;
	express->where = pci_pcie_cap(pdev) + field->where;
	express->bits = field->bits;
	express->value = value << shift;

	guard(mutex)(&overrides_lock);
	ret = override_set(pdev, &express->override);
	if (ret)
		kfree(express);
	return ret;
}

static int express_show(struct seq_file *s, const struct field *field)
{
	struct override *override = NULL;

	guard(mutex)(&overrides_lock);
	while ((override = override_next(override, &field->kind))) {
		override_show(s, override);
		seq_printf(s, " %u\n", to_express(override)->value >> __ffs(field->bits));
	}
	return 0;
}

static int completer_set(struct pci_dev *pdev, const char *words)
{
	return express_set(pdev, words, &completer);
}

static ssize_t completer_write(struct file *file, const char __user *user,
			       size_t count, loff_t *pos)
{
	return override_command(user, count, &completer.kind, completer_set);
}

static int completer_show(struct seq_file *s, void *unused)
{
	return express_show(s, &completer);
}

DEFINE_SHOW_STORE_ATTRIBUTE(completer);

static int prefixes_set(struct pci_dev *pdev, const char *words)
{
	return express_set(pdev, words, &prefixes);
}

static ssize_t prefixes_write(struct file *file, const char __user *user,
			      size_t count, loff_t *pos)
{
	return override_command(user, count, &prefixes.kind, prefixes_set);
}

static int prefixes_show(struct seq_file *s, void *unused)
{
	return express_show(s, &prefixes);
}

DEFINE_SHOW_STORE_ATTRIBUTE(prefixes);

static int flit_set(struct pci_dev *pdev, const char *words)
{
	return express_set(pdev, words, &flit);
}

static ssize_t flit_write(struct file *file, const char __user *user,
			  size_t count, loff_t *pos)
{
	return override_command(user, count, &flit.kind, flit_set);
}

static int flit_show(struct seq_file *s, void *unused)
{
	return express_show(s, &flit);
}

DEFINE_SHOW_STORE_ATTRIBUTE(flit);

void express_debugfs(struct dentry *dir)
{
	debugfs_create_file("completer", 0600, dir, NULL, &completer_fops);
	debugfs_create_file("prefixes", 0600, dir, NULL, &prefixes_fops);
	debugfs_create_file("flit", 0600, dir, NULL, &flit_fops);
}
