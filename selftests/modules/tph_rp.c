// SPDX-License-Identifier: GPL-2.0-only
/*
 * tph_rp - what a root port says about TPH Completer Supported, for tests
 *
 * An emulated root port does not complete TPH. This module overrides the TPH
 * Completer Supported field (bits 13:12 of Device Capabilities 2) in what
 * config reads of a chosen device return, by any width and by whoever reads:
 *
 *   echo 0000:00:04.0 3   >/sys/kernel/debug/tph_rp/completer
 *   echo 0000:00:04.0 off >/sys/kernel/debug/tph_rp/completer
 *   cat /sys/kernel/debug/tph_rp/completer
 *
 * Removing the module ends all overrides.
 *
 * aer_inject replaces the pci_ops of single buses by pci_bus_set_ops(), keeps
 * what it found, and puts that back for the time of each access. Doing the
 * same here would leave one of the two with a stale pointer when the other
 * goes, and would let reads slip past the override meanwhile. So hook the read
 * in the ops of the host bridge itself: every chain of ops ends there.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bitfield.h>
#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/rculist.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* The byte of Device Capabilities 2 that holds the field, and the field in it. */
#define DEVCAP2_TPH_BYTE	1
#define DEVCAP2_TPH_BITS	(PCI_EXP_DEVCAP2_TPH_COMP_MASK >> 8)

/*
 * A device is known by its address and not by its pci_dev: it may come and go
 * below a port that is reset or unplugged.
 */
struct completer {
	struct list_head list;
	struct rcu_head rcu;
	int domain;
	u8 bus;
	u8 devfn;
	int where;
	u8 value;
};

static LIST_HEAD(completers);
static DEFINE_MUTEX(completers_lock);

/* Written once, before the hook goes in, under completers_lock. */
static struct pci_ops *hooked_ops;
static int (*hooked_read)(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 *val);

static struct completer *find_completer(int domain, u8 bus, u8 devfn)
{
	struct completer *completer;

	list_for_each_entry_rcu(completer, &completers, list,
				lockdep_is_held(&completers_lock))
		if (completer->domain == domain && completer->bus == bus &&
		    completer->devfn == devfn)
			return completer;
	return NULL;
}

static int tph_rp_read(struct pci_bus *bus, unsigned int devfn, int where,
		       int size, u32 *val)
{
	struct completer *completer;
	int ret;

	guard(rcu)();
	ret = hooked_read(bus, devfn, where, size, val);
	if (ret)
		return ret;

	completer = find_completer(pci_domain_nr(bus), bus->number, devfn);
	if (completer && where <= completer->where &&
	    completer->where < where + size) {
		int shift = 8 * (completer->where - where);

		*val &= ~(DEVCAP2_TPH_BITS << shift);
		*val |= FIELD_PREP(DEVCAP2_TPH_BITS, completer->value) << shift;
	}
	return 0;
}

static int hook(struct pci_bus *bus)
{
	struct pci_ops *ops = (struct pci_ops *)pci_find_host_bridge(bus)->ops;

	lockdep_assert_held(&completers_lock);

	if (hooked_ops)
		return hooked_ops == ops ? 0 : -EOPNOTSUPP;

	hooked_ops = ops;
	hooked_read = ops->read;
	/* A reader that gets here finds hooked_read set. */
	smp_store_release(&ops->read, tph_rp_read);
	return 0;
}

static int set_completer(struct pci_dev *pdev, u8 value)
{
	struct completer *new, *old;
	int ret;

	if (!pci_is_pcie(pdev))
		return -ENODEV;

	new = kzalloc_obj(*new);
	if (!new)
		return -ENOMEM;
	new->domain = pci_domain_nr(pdev->bus);
	new->bus = pdev->bus->number;
	new->devfn = pdev->devfn;
	new->where = pci_pcie_cap(pdev) + PCI_EXP_DEVCAP2 + DEVCAP2_TPH_BYTE;
	new->value = value;

	guard(mutex)(&completers_lock);
	ret = hook(pdev->bus);
	if (ret) {
		kfree(new);
		return ret;
	}

	old = find_completer(new->domain, new->bus, new->devfn);
	if (old) {
		list_replace_rcu(&old->list, &new->list);
		kfree_rcu(old, rcu);
	} else {
		list_add_tail_rcu(&new->list, &completers);
	}
	return 0;
}

static int drop_completer(int domain, u8 bus, u8 devfn)
{
	struct completer *completer;

	guard(mutex)(&completers_lock);
	completer = find_completer(domain, bus, devfn);
	if (!completer)
		return -ENOENT;
	list_del_rcu(&completer->list);
	kfree_rcu(completer, rcu);
	return 0;
}

static ssize_t completer_write(struct file *file, const char __user *user,
			       size_t count, loff_t *pos)
{
	unsigned int domain, bus, slot, func;
	char text[64], word[8];
	struct pci_dev *pdev;
	u8 value;
	int ret;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = '\0';

	if (sscanf(text, "%x:%x:%x.%x %7s", &domain, &bus, &slot, &func, word) != 5 ||
	    domain > INT_MAX || bus > U8_MAX || slot > 31 || func > 7)
		return -EINVAL;

	if (!strcmp(word, "off")) {
		ret = drop_completer(domain, bus, PCI_DEVFN(slot, func));
		return ret ?: count;
	}

	if (kstrtou8(word, 0, &value) ||
	    value > FIELD_MAX(DEVCAP2_TPH_BITS))
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return -ENODEV;
	ret = set_completer(pdev, value);
	pci_dev_put(pdev);
	return ret ?: count;
}

static int completer_show(struct seq_file *s, void *unused)
{
	struct completer *completer;

	guard(mutex)(&completers_lock);
	list_for_each_entry(completer, &completers, list)
		seq_printf(s, "%04x:%02x:%02x.%d %u\n", completer->domain,
			   completer->bus, PCI_SLOT(completer->devfn),
			   PCI_FUNC(completer->devfn), completer->value);
	return 0;
}
DEFINE_SHOW_STORE_ATTRIBUTE(completer);

static struct dentry *debugfs;

static int __init tph_rp_init(void)
{
	debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("completer", 0600, debugfs, NULL, &completer_fops);
	return 0;
}

static void __exit tph_rp_exit(void)
{
	struct completer *completer, *next;

	debugfs_remove(debugfs);

	if (hooked_ops) {
		WRITE_ONCE(hooked_ops->read, hooked_read);
		/* A reader may have been preempted anywhere in the hook. */
		synchronize_rcu_tasks();
		synchronize_rcu();
	}
	list_for_each_entry_safe(completer, next, &completers, list)
		kfree(completer);
}

module_init(tph_rp_init);
module_exit(tph_rp_exit);
MODULE_DESCRIPTION("Overrides TPH Completer Supported of root ports, for tests");
MODULE_LICENSE("GPL");
