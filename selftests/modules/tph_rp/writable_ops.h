/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The ops of a host bridge, to be changed in their place, where every chain of ops
 * ends. They are data on x86. On arm64 they are constants of the kernel image, which
 * has no page to write to: they are changed by another mapping of the same memory.
 */
#ifndef TPH_WRITABLE_OPS_H
#define TPH_WRITABLE_OPS_H

#include <linux/mm.h>
#include <linux/pci.h>
#include <linux/vmalloc.h>

/* Returns NULL if there is no memory; goes back by unmap_ops(). */
static inline struct pci_ops *map_ops(struct pci_ops *ops)
{
	unsigned long start = (unsigned long)ops & PAGE_MASK;
	/* They may cross into a second page. */
	int count = PFN_UP(offset_in_page(ops) + sizeof(*ops));
	struct page *pages[2];
	void *mapping;
	int i;

	if (!IS_ENABLED(CONFIG_ARM64))
		return ops;
	for (i = 0; i < count; i++)
		pages[i] = virt_to_page(lm_alias(start + i * PAGE_SIZE));
	mapping = vmap(pages, count, VM_MAP, PAGE_KERNEL);
	return mapping ? mapping + offset_in_page(ops) : NULL;
}

static inline void unmap_ops(struct pci_ops *mapped)
{
	if (IS_ENABLED(CONFIG_ARM64))
		vunmap((void *)((unsigned long)mapped & PAGE_MASK));
}

#endif /* TPH_WRITABLE_OPS_H */
