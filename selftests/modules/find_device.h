/* SPDX-License-Identifier: GPL-2.0-only */
/* How the test modules are told of a device: by its address, as lspci has it. */
#ifndef TPH_FIND_DEVICE_H
#define TPH_FIND_DEVICE_H

#include <linux/err.h>
#include <linux/kernel.h>
#include <linux/pci.h>

/*
 * The device whose address @text begins with, with a reference. @rest is what comes
 * behind the address and a space.
 */
static inline struct pci_dev *find_device(const char *text, const char **rest)
{
	unsigned int domain, bus, slot, func;
	struct pci_dev *pdev;
	int parsed = 0;

	if (sscanf(text, "%x:%x:%x.%x %n", &domain, &bus, &slot, &func, &parsed) != 4 ||
	    domain > INT_MAX || bus > U8_MAX || slot > 31 || func > 7)
		return ERR_PTR(-EINVAL);
	pdev = pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(slot, func));
	if (!pdev)
		return ERR_PTR(-ENODEV);
	*rest = text + parsed;
	return pdev;
}

#endif
