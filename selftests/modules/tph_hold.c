// SPDX-License-Identifier: GPL-2.0-only
/*
 * tph_hold - holds whoever writes a register, or asks firmware, for tests
 *
 * Shows what else has to wait while a device is in the middle of an operation,
 * with all locks that its driver takes for it: the next config write to the
 * chosen register sleeps until it is let go.
 *
 *   echo 0000:01:00.0 0x168 >/sys/kernel/debug/tph_hold/hold
 *   cat /sys/kernel/debug/tph_hold/held	waits until somebody is held
 *   echo release >/sys/kernel/debug/tph_hold/hold
 *
 * Whoever asks firmware for a CPU's tags waits in there, after
 *
 *   echo firmware >/sys/kernel/debug/tph_hold/hold
 *
 * as far as the SSDT knows how (guest/bench.asl); the same releases it.
 *
 * One register at a time. Whoever writes it must be able to sleep, and does
 * hold no lock of the PCI core then: x86 has PCI_LOCKLESS_CONFIG. The write is
 * hooked in the ops of the host bridge, as tph_rp hooks the read.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/acpi.h>
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

#define HOLD_METHOD "\\_SB.PCI0.TPHH"

static DEFINE_MUTEX(hold_lock);
/* Written once, before the hook goes in, under hold_lock. */
static struct pci_ops *hooked_ops;
static int (*hooked_write)(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 val);

static struct pci_bus *held_bus;
static unsigned int held_devfn;
static int held_where;
/* Whether the next write of the register is to be held. */
static atomic_t armed = ATOMIC_INIT(0);
static DECLARE_COMPLETION(held);
static DECLARE_COMPLETION(released);

static int tph_hold_write(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 val)
{
	if (atomic_read(&armed) && bus == held_bus && devfn == held_devfn &&
	    where == held_where && atomic_cmpxchg(&armed, 1, 0) == 1) {
		complete(&held);
		wait_for_completion(&released);
	}
	return hooked_write(bus, devfn, where, size, val);
}

static int hold(struct pci_dev *pdev, int where)
{
	struct pci_ops *ops = (struct pci_ops *)pci_find_host_bridge(pdev->bus)->ops;

	if (hooked_ops && hooked_ops != ops)
		return -EOPNOTSUPP;
	if (atomic_read(&armed))
		return -EBUSY;
	reinit_completion(&held);
	reinit_completion(&released);
	held_bus = pdev->bus;
	held_devfn = pdev->devfn;
	held_where = where;
	atomic_set_release(&armed, 1);

	if (!hooked_ops) {
		hooked_ops = ops;
		hooked_write = ops->write;
		/* A writer that gets here finds hooked_write set. */
		smp_store_release(&ops->write, tph_hold_write);
	}
	return 0;
}

/* No answer of firmware is waited for any longer, if @wait is 0. */
static int hold_firmware(u64 wait)
{
	if (!acpi_has_method(NULL, HOLD_METHOD))
		return -ENODEV;
	if (ACPI_FAILURE(acpi_execute_simple_method(NULL, HOLD_METHOD, wait)))
		return -EIO;
	return 0;
}

static ssize_t hold_write(struct file *file, const char __user *user,
			  size_t count, loff_t *pos)
{
	unsigned int domain, bus, slot, func;
	struct pci_dev *pdev;
	char text[64];
	int where, ret;

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = '\0';

	guard(mutex)(&hold_lock);
	if (sysfs_streq(text, "release")) {
		atomic_set(&armed, 0);
		complete_all(&released);
		hold_firmware(0);
		return count;
	}
	if (sysfs_streq(text, "firmware"))
		return hold_firmware(1) ?: count;
	if (sscanf(text, "%x:%x:%x.%x %i", &domain, &bus, &slot, &func, &where) != 5 ||
	    domain > INT_MAX || bus > U8_MAX || slot > 31 || func > 7)
		return -EINVAL;
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return -ENODEV;
	ret = hold(pdev, where);
	pci_dev_put(pdev);
	return ret ?: count;
}

static const struct file_operations hold_fops = {
	.owner = THIS_MODULE,
	.write = hold_write,
};

static ssize_t held_read(struct file *file, char __user *user, size_t count,
			 loff_t *pos)
{
	static const char text[] = "held\n";
	int ret;

	if (!*pos) {
		ret = wait_for_completion_interruptible(&held);
		if (ret)
			return ret;
	}
	return simple_read_from_buffer(user, count, pos, text, strlen(text));
}

static const struct file_operations held_fops = {
	.owner = THIS_MODULE,
	.read = held_read,
};

static struct dentry *debugfs;

static int __init tph_hold_init(void)
{
	debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("hold", 0200, debugfs, NULL, &hold_fops);
	debugfs_create_file("held", 0400, debugfs, NULL, &held_fops);
	return 0;
}

static void __exit tph_hold_exit(void)
{
	debugfs_remove(debugfs);
	atomic_set(&armed, 0);
	complete_all(&released);
	hold_firmware(0);
	if (hooked_ops) {
		WRITE_ONCE(hooked_ops->write, hooked_write);
		/* A writer may have been preempted anywhere in the hook. */
		synchronize_rcu_tasks();
		synchronize_rcu();
	}
}

module_init(tph_hold_init);
module_exit(tph_hold_exit);
MODULE_DESCRIPTION("Holds whoever writes a register or asks firmware, for tests");
MODULE_LICENSE("GPL");
