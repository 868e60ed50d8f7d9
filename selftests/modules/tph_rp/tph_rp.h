/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tph_rp: what config reads and writes of chosen devices do instead of what
 * they would do, for tests. hook.c has the hook, the other files what is hung
 * on it.
 */
#ifndef TPH_RP_H
#define TPH_RP_H

#include <linux/list.h>
#include <linux/pci.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>

struct override;

/**
 * struct override_kind - a kind of override
 * @name: of its file in debugfs
 * @read: changes what a read of a device returned
 * @write: takes what a write has for it; true if nothing is left for the
 *	device
 * @set: overrides a device, as the words behind its address in the file say
 * @show: prints what the file says behind a device's address
 *
 * @read and @write are called under RCU, from any context that config space is
 * accessed in. Either may be NULL. @show is called with overrides_lock held,
 * @set without.
 */
struct override_kind {
	const char *name;
	void (*read)(struct override *override, int where, int size, u32 *val);
	bool (*write)(struct override *override, int where, int size, u32 val);
	int (*set)(struct pci_dev *pdev, const struct override_kind *kind,
		   const char *words);
	void (*show)(struct seq_file *s, struct override *override);
};

/**
 * struct override - an override of a device
 * @kind: what it is; a device has at most one of each kind
 *
 * To be the first member of what it is in: it is freed by its own address.
 *
 * A device is known by its address and not by its pci_dev: it may come and go,
 * below a port that is reset or unplugged, or with its physical function. The
 * fields behind @kind are hook.c's.
 */
struct override {
	const struct override_kind *kind;
	struct list_head list;
	struct rcu_head rcu;
	int domain;
	u8 bus;
	u8 devfn;
};

/* Held while overrides are looked for, shown, or changed. */
extern struct mutex overrides_lock;

struct override *override_find(struct pci_dev *pdev,
			       const struct override_kind *kind);
int override_set(struct pci_dev *pdev, struct override *override);

/* Makes the file of a kind: "<bdf> off" ends an override, the rest is for @set. */
void override_file(struct dentry *dir, const struct override_kind *kind);

/* Whether a byte at @at is in the access, and how far up in its value. */
static inline bool override_covers(int where, int size, int at, int *shift)
{
	*shift = 8 * (at - where);
	return where <= at && at < where + size;
}

/* Make the files of the kinds. */
void express_debugfs(struct dentry *dir);
void slot_debugfs(struct dentry *dir);
void requester_debugfs(struct dentry *dir);

#endif /* TPH_RP_H */
