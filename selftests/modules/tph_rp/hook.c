// SPDX-License-Identifier: GPL-2.0-only
/*
 * tph_rp - what devices say in config space, for tests
 *
 * QEMU's root ports complete no TPH and its slots are emptied by the book; of
 * its endpoints with virtual functions none has TPH. This module overrides
 * that in what config accesses do, of any width and by whoever makes them. The
 * files in /sys/kernel/debug/tph_rp say what, and the .c files named like them,
 * or express.c, how:
 *
 *   completer	TPH Completer Supported of a device
 *   prefixes	End-End TLP Prefix Supported of a device
 *   flit	whether the link below a port is in flit mode
 *   slot	whether there is a card in the slot below a port
 *   requester	a TPH Requester capability of a device that has none
 *
 * Each takes "<bdf> off" and shows what is in force. Removing the module ends
 * all overrides.
 *
 * aer_inject replaces the pci_ops of single buses by pci_bus_set_ops(), keeps
 * what it found, and puts that back for the time of each access. Doing the
 * same here would leave one of the two with a stale pointer when the other
 * goes, and would let accesses slip past the override meanwhile. So hook the
 * ops of the host bridge itself: every chain of ops ends there.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cleanup.h>
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/rculist.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "tph_rp.h"
#include "writable_ops.h"

static LIST_HEAD(overrides);
/* Held to change the list; who walks it for an access has RCU. */
DEFINE_MUTEX(overrides_lock);

/* Written once, before the hooks go in, under overrides_lock. */
static struct pci_ops *hooked_ops;
/* The same, to write to. */
static struct pci_ops *mapped_ops;
static struct pci_ops original;

static bool is_of(const struct override *override, int domain, u8 bus, u8 devfn)
{
	return override->domain == domain && override->bus == bus &&
	       override->devfn == devfn;
}

static int hooked_read(struct pci_bus *bus, unsigned int devfn, int where,
		       int size, u32 *val)
{
	struct override *override;
	int ret;

	guard(rcu)();
	ret = original.read(bus, devfn, where, size, val);
	if (ret)
		return ret;

	list_for_each_entry_rcu(override, &overrides, list)
		if (override->kind->read &&
		    is_of(override, pci_domain_nr(bus), bus->number, devfn))
			override->kind->read(override, where, size, val);
	return 0;
}

static int hooked_write(struct pci_bus *bus, unsigned int devfn, int where,
			int size, u32 val)
{
	struct override *override;

	guard(rcu)();
	list_for_each_entry_rcu(override, &overrides, list)
		if (override->kind->write &&
		    is_of(override, pci_domain_nr(bus), bus->number, devfn) &&
		    override->kind->write(override, where, size, val))
			return 0;
	return original.write(bus, devfn, where, size, val);
}

static int hook(struct pci_bus *bus)
{
	struct pci_ops *ops = (struct pci_ops *)pci_find_host_bridge(bus)->ops;

	lockdep_assert_held(&overrides_lock);

	if (hooked_ops)
		return hooked_ops == ops ? 0 : -EOPNOTSUPP;

	mapped_ops = map_ops(ops);
	if (!mapped_ops)
		return -ENOMEM;
	hooked_ops = ops;
	original = *ops;
	/* Who gets to the read hook finds the original. */
	smp_store_release(&mapped_ops->read, hooked_read);
	/* And who gets to the other one. */
	smp_store_release(&mapped_ops->write, hooked_write);
	return 0;
}

static struct override *find(int domain, u8 bus, u8 devfn,
			     const struct override_kind *kind)
{
	struct override *override;

	lockdep_assert_held(&overrides_lock);

	list_for_each_entry(override, &overrides, list)
		if (override->kind == kind && is_of(override, domain, bus, devfn))
			return override;
	return NULL;
}

struct override *override_find(struct pci_dev *pdev,
			       const struct override_kind *kind)
{
	return find(pci_domain_nr(pdev->bus), pdev->bus->number, pdev->devfn,
		    kind);
}

/* Puts a new override of its kind in the place of an old one, if any. */
int override_set(struct pci_dev *pdev, struct override *override)
{
	struct override *old;
	int ret;

	ret = hook(pdev->bus);
	if (ret)
		return ret;

	override->domain = pci_domain_nr(pdev->bus);
	override->bus = pdev->bus->number;
	override->devfn = pdev->devfn;
	old = override_find(pdev, override->kind);
	if (old) {
		list_replace_rcu(&old->list, &override->list);
		kfree_rcu(old, rcu);
	} else {
		list_add_tail_rcu(&override->list, &overrides);
	}
	return 0;
}

static int end(int domain, u8 bus, u8 devfn, const struct override_kind *kind)
{
	struct override *override;

	guard(mutex)(&overrides_lock);
	override = find(domain, bus, devfn, kind);
	if (!override)
		return -ENOENT;
	list_del_rcu(&override->list);
	kfree_rcu(override, rcu);
	return 0;
}

static ssize_t override_write(struct file *file, const char __user *user,
			      size_t count, loff_t *pos)
{
	const struct override_kind *kind = file_inode(file)->i_private;
	unsigned int domain, bus, slot, func;
	struct pci_dev *pdev;
	int ret, words = 0;
	char text[64];

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = '\0';
	strim(text);

	if (sscanf(text, "%x:%x:%x.%x %n", &domain, &bus, &slot, &func, &words) < 4 ||
	    !words || domain > INT_MAX || bus > U8_MAX || slot > 31 || func > 7)
		return -EINVAL;

	if (!strcmp(text + words, "off")) {
		ret = end(domain, bus, PCI_DEVFN(slot, func), kind);
		return ret ?: count;
	}

	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return -ENODEV;
	ret = kind->set(pdev, kind, text + words);
	pci_dev_put(pdev);
	return ret ?: count;
}

static int override_show(struct seq_file *s, void *unused)
{
	const struct override_kind *kind = s->private;
	struct override *override;

	guard(mutex)(&overrides_lock);
	list_for_each_entry(override, &overrides, list) {
		if (override->kind != kind)
			continue;
		seq_printf(s, "%04x:%02x:%02x.%d ", override->domain,
			   override->bus, PCI_SLOT(override->devfn),
			   PCI_FUNC(override->devfn));
		kind->show(s, override);
		seq_putc(s, '\n');
	}
	return 0;
}

DEFINE_SHOW_STORE_ATTRIBUTE(override);

void override_file(struct dentry *dir, const struct override_kind *kind)
{
	debugfs_create_file(kind->name, 0600, dir, (void *)kind, &override_fops);
}

static struct dentry *debugfs;

static int __init tph_rp_init(void)
{
	debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	express_debugfs(debugfs);
	slot_debugfs(debugfs);
	requester_debugfs(debugfs);
	return 0;
}

static void __exit tph_rp_exit(void)
{
	struct override *override, *next;

	debugfs_remove(debugfs);

	if (hooked_ops) {
		WRITE_ONCE(mapped_ops->read, original.read);
		WRITE_ONCE(mapped_ops->write, original.write);
		unmap_ops(mapped_ops);
		/* Somebody may have been preempted anywhere in a hook. */
		synchronize_rcu_tasks();
		synchronize_rcu();
	}
	list_for_each_entry_safe(override, next, &overrides, list)
		kfree(override);
}

module_init(tph_rp_init);
module_exit(tph_rp_exit);
MODULE_DESCRIPTION("Overrides what devices say in config space, for tests");
MODULE_LICENSE("GPL");
