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

static int express_set(struct pci_dev *pdev, const struct override_kind *kind,
		       const char *words)
{
	const struct field *field = container_of_const(kind, struct field, kind);
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
	express->override.kind = kind;
	express->where = pci_pcie_cap(pdev) + field->where;
	express->bits = field->bits;
	express->value = value << shift;

	guard(mutex)(&overrides_lock);
	ret = override_set(pdev, &express->override);
	if (ret)
		kfree(express);
	return ret;
}

static void express_show(struct seq_file *s, struct override *override)
{
	struct express *express = to_express(override);

	seq_printf(s, "%u", express->value >> __ffs(express->bits));
}

#define EXPRESS_KIND(_name)		\
	.kind = {			\
		.name = _name,		\
		.read = express_read,	\
		.set = express_set,	\
		.show = express_show,	\
	}

static const struct field fields[] = {
	{
		EXPRESS_KIND("completer"),
		.where = PCI_EXP_DEVCAP2 + 1,
		.bits = PCI_EXP_DEVCAP2_TPH_COMP_MASK >> 8,
	},
	{
		EXPRESS_KIND("prefixes"),
		.where = PCI_EXP_DEVCAP2 + 2,
		.bits = PCI_EXP_DEVCAP2_EE_PREFIX >> 16,
	},
	{
		EXPRESS_KIND("flit"),
		.where = PCI_EXP_LNKSTA2 + 1,
		.bits = PCI_EXP_LNKSTA2_FLIT >> 8,
	},
};

void express_debugfs(struct dentry *dir)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		override_file(dir, &fields[i].kind);
}
