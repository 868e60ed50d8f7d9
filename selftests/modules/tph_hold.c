// SPDX-License-Identifier: GPL-2.0-only
/*
 * tph_hold - holds whoever writes a register, asks firmware, or copies from memory
 * of its own, and has a BAR that others want, for tests
 *
 * Shows what else has to wait while a device is in the middle of an operation,
 * with all locks that its driver takes for it: the next config write to the
 * chosen register sleeps until it is let go.
 *
 *   echo 0000:01:00.0 0x168 >/sys/kernel/debug/tph_hold/hold
 *   cat /sys/kernel/debug/tph_hold/held	waits until somebody is held
 *   echo release >/sys/kernel/debug/tph_hold/hold
 *
 * With a size in bytes behind the register, only a write of that size is held.
 *
 * Whoever asks firmware for a CPU's tags waits in there, after
 *
 *   echo firmware >/sys/kernel/debug/tph_hold/hold
 *
 * as far as the SSDT knows how (guest/bench.asl); the same releases it.
 *
 * A page of /sys/kernel/debug/tph_hold/memory that is mapped is not there before
 * it is released, which
 *
 *   echo memory >/sys/kernel/debug/tph_hold/hold
 *
 * makes ready; who reads it is held. It is zero then, but for its first byte if there
 * is a number behind "memory". Who is held so can be killed, but keeps the mmap_lock
 * of its process.
 *
 *   echo lock 0000:01:00.0 >/sys/kernel/debug/tph_hold/hold
 *
 * takes the device lock of a device, and comes back when it is told "unlock".
 *
 *   echo reserve 0000:01:00.0 2 >/sys/kernel/debug/tph_hold/hold
 *
 * reserves BAR 2 of a device, as a driver does that uses it: nobody else can until
 * it is told "free". One BAR at a time.
 *
 * One register at a time. Whoever writes it must be able to sleep, and does
 * hold no lock of the PCI core then: x86 has PCI_LOCKLESS_CONFIG. Elsewhere writes
 * are made under a spinlock, and no register can be chosen. The write is hooked in the
 * ops of the host bridge, as tph_rp hooks the read.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/acpi.h>
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/uaccess.h>

#include "find_device.h"

#define HOLD_METHOD "\\_SB.PCI0.TPHH"

static DEFINE_MUTEX(hold_lock);
/* Written once, before the hook goes in, under hold_lock. */
static struct pci_ops *hooked_ops;
static int (*hooked_write)(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 val);

static struct pci_bus *held_bus;
static unsigned int held_devfn;
static int held_where;
/* In bytes, 0 for any. */
static int held_size;
/* Whether the next write of the register is to be held. */
static atomic_t armed = ATOMIC_INIT(0);
static DECLARE_COMPLETION(held);
static DECLARE_COMPLETION(released);
static DECLARE_COMPLETION(unlocked);
/* The first of the page that is not there yet. */
static u8 memory_byte;

static int tph_hold_write(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 val)
{
	if (atomic_read(&armed) && bus == held_bus && devfn == held_devfn &&
	    where == held_where && (!held_size || size == held_size) &&
	    atomic_cmpxchg(&armed, 1, 0) == 1) {
		complete(&held);
		wait_for_completion(&released);
	}
	return hooked_write(bus, devfn, where, size, val);
}

static int hold(struct pci_dev *pdev, int where, int size)
{
	struct pci_ops *ops = (struct pci_ops *)pci_find_host_bridge(pdev->bus)->ops;

	if (!IS_ENABLED(CONFIG_PCI_LOCKLESS_CONFIG) || (hooked_ops && hooked_ops != ops))
		return -EOPNOTSUPP;
	if (atomic_read(&armed))
		return -EBUSY;
	reinit_completion(&held);
	reinit_completion(&released);
	held_bus = pdev->bus;
	held_devfn = pdev->devfn;
	held_where = where;
	held_size = size;
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

static int lock(struct device *dev)
{
	int ret;

	device_lock(dev);
	complete(&held);
	ret = wait_for_completion_killable(&unlocked);
	device_unlock(dev);
	return ret;
}

/* The BAR that we have, and whose it is; under hold_lock. */
static struct pci_dev *reserved_dev;
static int reserved_bar;

static void free_reserved(void)
{
	if (!reserved_dev)
		return;
	pci_release_region(reserved_dev, reserved_bar);
	pci_dev_put(reserved_dev);
	reserved_dev = NULL;
}

static int reserve(const char *text)
{
	struct pci_dev *pdev;
	const char *rest;
	int bar, ret;

	if (reserved_dev)
		return -EBUSY;
	pdev = find_device(text, &rest);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	ret = kstrtoint(rest, 0, &bar);
	if (!ret && (bar < 0 || bar >= PCI_STD_NUM_BARS || !pci_resource_len(pdev, bar)))
		ret = -EINVAL;
	if (!ret)
		ret = pci_request_region(pdev, bar, KBUILD_MODNAME);
	if (ret) {
		pci_dev_put(pdev);
		return ret;
	}
	reserved_dev = pdev;
	reserved_bar = bar;
	return 0;
}

static ssize_t hold_write(struct file *file, const char __user *user,
			  size_t count, loff_t *pos)
{
	int where, size = 0, ret;
	struct pci_dev *pdev;
	const char *request;
	char text[64];

	if (count >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, user, count))
		return -EFAULT;
	text[count] = '\0';

	if (sysfs_streq(text, "unlock")) {
		complete_all(&unlocked);
		return count;
	}
	if (str_has_prefix(text, "lock ")) {
		pdev = find_device(text + strlen("lock "), &request);
		if (IS_ERR(pdev))
			return PTR_ERR(pdev);
		reinit_completion(&held);
		reinit_completion(&unlocked);
		ret = lock(&pdev->dev);
		pci_dev_put(pdev);
		return ret ?: count;
	}

	guard(mutex)(&hold_lock);
	if (sysfs_streq(text, "release")) {
		atomic_set(&armed, 0);
		complete_all(&released);
		hold_firmware(0);
		return count;
	}
	if (str_has_prefix(text, "reserve "))
		return reserve(text + strlen("reserve ")) ?: count;
	if (sysfs_streq(text, "free")) {
		free_reserved();
		return count;
	}
	if (sysfs_streq(text, "firmware"))
		return hold_firmware(1) ?: count;
	if (str_has_prefix(text, "memory")) {
		request = skip_spaces(text + strlen("memory"));
		memory_byte = 0;
		if (*request) {
			ret = kstrtou8(request, 0, &memory_byte);
			if (ret)
				return ret;
		}
		reinit_completion(&held);
		reinit_completion(&released);
		return count;
	}
	pdev = find_device(text, &request);
	if (IS_ERR(pdev))
		return PTR_ERR(pdev);
	if (sscanf(request, "%i %i", &where, &size) < 1)
		ret = -EINVAL;
	else
		ret = hold(pdev, where, size);
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

static vm_fault_t memory_fault(struct vm_fault *vmf)
{
	complete(&held);
	/* Like a task that waits for a server's page: the system can fall asleep meanwhile. */
	if (wait_for_completion_state(&released, TASK_KILLABLE | TASK_FREEZABLE_UNSAFE))
		return VM_FAULT_SIGBUS;
	vmf->page = alloc_page(GFP_USER | __GFP_ZERO);
	if (!vmf->page)
		return VM_FAULT_OOM;
	*(u8 *)page_address(vmf->page) = memory_byte;
	return 0;
}

static const struct vm_operations_struct memory_vm_ops = {
	.fault = memory_fault,
};

static int memory_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &memory_vm_ops;
	return 0;
}

static const struct file_operations memory_fops = {
	.owner = THIS_MODULE,
	.mmap = memory_mmap,
};

static struct dentry *debugfs;

static int __init tph_hold_init(void)
{
	debugfs = debugfs_create_dir(KBUILD_MODNAME, NULL);
	debugfs_create_file("hold", 0200, debugfs, NULL, &hold_fops);
	debugfs_create_file("held", 0400, debugfs, NULL, &held_fops);
	/* What debugfs puts around a file's operations has no mmap. */
	debugfs_create_file_unsafe("memory", 0400, debugfs, NULL, &memory_fops);
	return 0;
}

static void __exit tph_hold_exit(void)
{
	debugfs_remove(debugfs);
	atomic_set(&armed, 0);
	complete_all(&released);
	complete_all(&unlocked);
	hold_firmware(0);
	free_reserved();
	if (hooked_ops) {
		WRITE_ONCE(hooked_ops->write, hooked_write);
		/* A writer may have been preempted anywhere in the hook. */
		synchronize_rcu_tasks();
		synchronize_rcu();
	}
}

module_init(tph_hold_init);
module_exit(tph_hold_exit);
MODULE_DESCRIPTION("Holds BARs, and whoever writes a register, asks firmware or copies memory, for tests");
MODULE_LICENSE("GPL");
