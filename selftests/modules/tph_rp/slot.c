// SPDX-License-Identifier: GPL-2.0-only
/*
 * The card in the slot below a port, torn out:
 *
 *   echo 0000:00:04.0 empty >/sys/kernel/debug/tph_rp/slot
 *   echo 0000:00:04.0 off   >/sys/kernel/debug/tph_rp/slot
 *
 * QEMU takes a card out only when the guest has let go of it. This has the port
 * say at once that no card is present and that the link is down, and raises its
 * interrupt: surprise removal, as far as anybody above can see. The card itself
 * goes on answering, to who asks it past the port. Both registers are words to
 * the kernel, and to this.
 */
#include <linux/cleanup.h>
#include <linux/interrupt.h>
#include <linux/slab.h>

#include "tph_rp.h"

struct slot {
	struct override override;
	int status;
	int link;
	/* What has changed, until it is acknowledged. */
	atomic_t events;
};

static void slot_read(struct override *override, int where, int size, u32 *val)
{
	struct slot *slot = container_of(override, struct slot, override);
	int shift;

	if (override_covers(where, size, slot->status, &shift)) {
		*val &= ~(PCI_EXP_SLTSTA_PDS << shift);
		*val |= atomic_read(&slot->events) << shift;
	}
	if (override_covers(where, size, slot->link, &shift))
		*val &= ~(PCI_EXP_LNKSTA_DLLLA << shift);
}

static bool slot_write(struct override *override, int where, int size, u32 val)
{
	struct slot *slot = container_of(override, struct slot, override);
	int shift;

	if (override_covers(where, size, slot->status, &shift))
		atomic_andnot(val >> shift, &slot->events);
	return false;
}

static int slot_set(struct pci_dev *pdev, const struct override_kind *kind,
		    const char *words)
{
	struct slot *slot;
	int ret;

	if (strcmp(words, "empty"))
		return -EINVAL;
	if (!pdev->is_pciehp)
		return -ENODEV;

	slot = kzalloc_obj(*slot);
	if (!slot)
		return -ENOMEM;
	slot->override.kind = kind;
	slot->status = pci_pcie_cap(pdev) + PCI_EXP_SLTSTA;
	slot->link = pci_pcie_cap(pdev) + PCI_EXP_LNKSTA;
	atomic_set(&slot->events, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_DLLSC);

	scoped_guard(mutex, &overrides_lock) {
		ret = override_set(pdev, &slot->override);
		if (ret) {
			kfree(slot);
			return ret;
		}
	}
	/* A port has one vector for all of its events. */
	return irq_inject_interrupt(pci_irq_vector(pdev, 0));
}

static void slot_show(struct seq_file *s, struct override *override)
{
	seq_puts(s, "empty");
}

static const struct override_kind slot_kind = {
	.name = "slot",
	.read = slot_read,
	.write = slot_write,
	.set = slot_set,
	.show = slot_show,
};

void slot_debugfs(struct dentry *dir)
{
	override_file(dir, &slot_kind);
}
