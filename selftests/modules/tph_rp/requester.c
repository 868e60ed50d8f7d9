// SPDX-License-Identifier: GPL-2.0-only
/*
 * A TPH Requester capability (PCIe r6.2, 7.9.13) for a device that has none:
 *
 *   echo 0000:01:00.0 0xa00 8 >/sys/kernel/debug/tph_rp/requester
 *   echo 0000:01:00.0 off     >/sys/kernel/debug/tph_rp/requester
 *   cat /sys/kernel/debug/tph_rp/requester
 *
 * puts one with 8 ST entries in the capability at A00h, at the end of the
 * chain. All three ST modes and extended TPH are supported. Function Level
 * Reset clears Control and the table. The file shows address, Control and the
 * entries:
 *
 *   0000:01:00.0 control 0x00000101 table 0011 0000 ...
 *
 * The kernel looks for capabilities when it finds a device: after this one was
 * given to it, it has to be taken out of the kernel's sight and found again.
 */
#include <linux/bitfield.h>
#include <linux/cleanup.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "tph_rp.h"

#define MAX_ENTRIES		64
#define CAPABILITY_SIZE		(PCI_TPH_BASE_SIZEOF + 2 * MAX_ENTRIES)
#define CONTROL_BITS		(PCI_TPH_CTRL_MODE_SEL_MASK | PCI_TPH_CTRL_REQ_EN_MASK)
#define CAPABILITY_BITS		(PCI_TPH_CAP_ST_NS | PCI_TPH_CAP_ST_IV | \
				 PCI_TPH_CAP_ST_DS | PCI_TPH_CAP_EXT_TPH | \
				 PCI_TPH_LOC_CAP)

struct requester {
	struct override override;
	/* The header before it in the chain, which points here. */
	int last;
	int offset;
	int device_control;
	int entries;
	/* Protects the registers: config accesses are made under a spinlock. */
	raw_spinlock_t lock;
	u8 registers[CAPABILITY_SIZE];
};

static struct requester *to_requester(struct override *override)
{
	return container_of(override, struct requester, override);
}

static int size_of(const struct requester *requester)
{
	return PCI_TPH_BASE_SIZEOF + 2 * requester->entries;
}

static u32 dword(const struct requester *requester, int at)
{
	return le32_to_cpup((__le32 *)(requester->registers + at));
}

static void set_dword(struct requester *requester, int at, u32 value)
{
	*(__le32 *)(requester->registers + at) = cpu_to_le32(value);
}

static void requester_read(struct override *override, int where, int size,
			   u32 *val)
{
	struct requester *requester = to_requester(override);
	int i;

	guard(raw_spinlock_irqsave)(&requester->lock);
	for (i = 0; i < size; i++) {
		int at = where + i - requester->offset;
		int link = where + i - requester->last;
		u32 byte = (*val >> 8 * i) & 0xff;

		if (at >= 0 && at < size_of(requester))
			byte = requester->registers[at];
		/* Next Capability Offset is in bits 31:20 of a header. */
		else if (link == 2)
			byte = (byte & 0xf) | ((requester->offset & 0xf) << 4);
		else if (link == 3)
			byte = requester->offset >> 4;
		*val = (*val & ~(0xffU << 8 * i)) | byte << 8 * i;
	}
}

static bool requester_write(struct override *override, int where, int size,
			    u32 val)
{
	struct requester *requester = to_requester(override);
	int i, shift;

	guard(raw_spinlock_irqsave)(&requester->lock);
	/* Initiate Function Level Reset is in the upper byte. */
	if (override_covers(where, size, requester->device_control + 1, &shift) &&
	    (val >> shift) & (PCI_EXP_DEVCTL_BCR_FLR >> 8))
		memset(requester->registers + PCI_TPH_CTRL, 0,
		       CAPABILITY_SIZE - PCI_TPH_CTRL);

	if (where < requester->offset ||
	    where >= requester->offset + size_of(requester))
		return false;
	for (i = 0; i < size; i++) {
		int at = where + i - requester->offset;

		if (at >= PCI_TPH_CTRL && at < size_of(requester))
			requester->registers[at] = val >> 8 * i;
	}
	set_dword(requester, PCI_TPH_CTRL,
		  dword(requester, PCI_TPH_CTRL) & CONTROL_BITS);
	return true;
}

/* The last header in the chain of a device that has an extended capability. */
static int last_header(struct pci_dev *pdev)
{
	int at = PCI_CFG_SPACE_SIZE;
	int more = (PCI_CFG_SPACE_EXP_SIZE - PCI_CFG_SPACE_SIZE) / 8;
	u32 header;

	do {
		pci_read_config_dword(pdev, at, &header);
		if (!header || PCI_POSSIBLE_ERROR(header))
			return -ENODEV;
		if (!PCI_EXT_CAP_NEXT(header))
			return at;
		at = PCI_EXT_CAP_NEXT(header);
	} while (--more);
	return -ELOOP;
}

static int requester_set(struct pci_dev *pdev, const struct override_kind *kind,
			 const char *words)
{
	struct requester *requester;
	int offset, entries, ret;

	if (sscanf(words, "%i %i", &offset, &entries) != 2 ||
	    entries < 1 || entries > MAX_ENTRIES ||
	    offset < PCI_CFG_SPACE_SIZE + 4 || offset % 4 ||
	    offset > PCI_CFG_SPACE_EXP_SIZE - CAPABILITY_SIZE)
		return -EINVAL;
	if (!pci_is_pcie(pdev))
		return -ENODEV;

	requester = kzalloc_obj(*requester);
	if (!requester)
		return -ENOMEM;
	requester->override.kind = kind;
	requester->offset = offset;
	requester->device_control = pci_pcie_cap(pdev) + PCI_EXP_DEVCTL;
	requester->entries = entries;
	raw_spin_lock_init(&requester->lock);
	set_dword(requester, 0, PCI_EXT_CAP_ID_TPH | 1 << 16);
	set_dword(requester, PCI_TPH_CAP,
		  CAPABILITY_BITS | FIELD_PREP(PCI_TPH_CAP_ST_MASK, entries - 1));

	guard(mutex)(&overrides_lock);
	ret = override_find(pdev, kind) ? -EEXIST : last_header(pdev);
	if (ret > 0) {
		requester->last = ret;
		ret = override_set(pdev, &requester->override);
	}
	if (ret)
		kfree(requester);
	return ret;
}

static void requester_show(struct seq_file *s, struct override *override)
{
	struct requester *requester = to_requester(override);
	__le16 *table = (__le16 *)(requester->registers + PCI_TPH_BASE_SIZEOF);
	int i;

	guard(raw_spinlock_irqsave)(&requester->lock);
	seq_printf(s, "control %#010x table", dword(requester, PCI_TPH_CTRL));
	for (i = 0; i < requester->entries; i++)
		seq_printf(s, " %04x", le16_to_cpu(table[i]));
}

static const struct override_kind requester_kind = {
	.name = "requester",
	.read = requester_read,
	.write = requester_write,
	.set = requester_set,
	.show = requester_show,
};

void requester_debugfs(struct dentry *dir)
{
	override_file(dir, &requester_kind);
}
