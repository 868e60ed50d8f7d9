// SPDX-License-Identifier: GPL-2.0-only
/*
 * Lets a module have the name of vfio-pci on a kernel that has it built in and was
 * booted with initcall_blacklist=vfio_pci_init: the driver is not there then, but its
 * parameters are, in /sys/module/vfio_pci, for which no module of that name is taken.
 */
#include <linux/kobject.h>
#include <linux/module.h>

static int __init absent_init(void)
{
	struct kset *modules = THIS_MODULE->mkobj.kobj.kset;
	struct kobject *kobj = kset_find_obj(modules, "vfio_pci");
	struct module_kobject *parameters;

	if (!kobj)
		return -ENOENT;
	parameters = container_of(kobj, struct module_kobject, kobj);
	if (parameters->mod || parameters->drivers_dir) {
		kobject_put(kobj);
		return -EBUSY;
	}
	kobject_del(kobj);
	kobject_put(kobj);
	return 0;
}
module_init(absent_init);

static void __exit absent_exit(void)
{
}
module_exit(absent_exit);

MODULE_DESCRIPTION("Gives the name of a built-in vfio-pci away");
MODULE_LICENSE("GPL");
