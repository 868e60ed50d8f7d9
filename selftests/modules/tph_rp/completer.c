// SPDX-License-Identifier: GPL-2.0-only
/*
 * TPH Completer Supported (bits 13:12 of Device Capabilities 2) of a device:
 *
 *   echo 0000:00:04.0 3   >/sys/kernel/debug/tph_rp/completer
 *   echo 0000:00:04.0 off >/sys/kernel/debug/tph_rp/completer
 *   cat /sys/kernel/debug/tph_rp/completer
 */
#include <linux/bitfield.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/slab.h>

#include "tph_rp.h"

/* The byte of Device Capabilities 2 that holds the field, and the field in it. */
#define DEVCAP2_TPH_BYTE	1
#define DEVCAP2_TPH_BITS	(PCI_EXP_DEVCAP2_TPH_COMP_MASK >> 8)

struct completer {
	struct override override;
	int where;
	u8 value;
};

static void completer_read(struct override *override, int where, int size,
			   u32 *val)
{
	struct completer *completer =
		container_of(override, struct completer, override);
	int shift;

	if (override_covers(where, size, completer->where, &shift)) {
		*val &= ~(DEVCAP2_TPH_BITS << shift);
		*val |= FIELD_PREP(DEVCAP2_TPH_BITS, completer->value) << shift;
	}
}

static const struct override_kind completer_kind = { .read = completer_read };

static int completer_set(struct pci_dev *pdev, const char *words)
{
	struct completer *completer;
	u8 value;
	int ret;

	if (kstrtou8(words, 0, &value) || value > FIELD_MAX(DEVCAP2_TPH_BITS))
		return -EINVAL;
	if (!pci_is_pcie(pdev))
		return -ENODEV;

	completer = kzalloc_obj(*completer);
	if (!completer)
		return -ENOMEM;
	completer->override.kind = &completer_kind;
	completer->where = pci_pcie_cap(pdev) + PCI_EXP_DEVCAP2 + DEVCAP2_TPH_BYTE;
	completer->value = value;

	guard(mutex)(&overrides_lock);
	ret = override_set(pdev, &completer->override);
	if (ret)
		kfree(completer);
	return ret;
}

static ssize_t completer_write(struct file *file, const char __user *user,
			       size_t count, loff_t *pos)
{
	return override_command(user, count, &completer_kind, completer_set);
}

static int completer_show(struct seq_file *s, void *unused)
{
	struct override *override = NULL;

	guard(mutex)(&overrides_lock);
	while ((override = override_next(override, &completer_kind))) {
		override_show(s, override);
		seq_printf(s, " %u\n", container_of(override, struct completer,
						    override)->value);
	}
	return 0;
}

DEFINE_SHOW_STORE_ATTRIBUTE(completer);

void completer_debugfs(struct dentry *dir)
{
	debugfs_create_file("completer", 0600, dir, NULL, &completer_fops);
}
