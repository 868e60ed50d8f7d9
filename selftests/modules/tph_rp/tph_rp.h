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
 * @read: changes what a read of a device returned
 * @write: takes what a write has for it; true if nothing is left for the
 *	device
 *
 * Called under RCU, from any context that config space is accessed in. Either
 * may be NULL.
 */
struct override_kind {
	void (*read)(struct override *override, int where, int size, u32 *val);
	bool (*write)(struct override *override, int where, int size, u32 val);
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
struct override *override_next(struct override *after,
			       const struct override_kind *kind);
void override_show(struct seq_file *s, const struct override *override);

/**
 * override_command - does what was written to a file in debugfs
 * @user: "<bdf> off" ends an override of @kind; anything else is "<bdf> words"
 * @count: its length
 * @kind: the kind of override
 * @set: is given the device, which is there, and the words behind its address
 *
 * Return: @count, or -errno.
 */
ssize_t override_command(const char __user *user, size_t count,
			 const struct override_kind *kind,
			 int (*set)(struct pci_dev *pdev, const char *words));

/* Whether a byte at @at is in the access, and how far up in its value. */
static inline bool override_covers(int where, int size, int at, int *shift)
{
	*shift = 8 * (at - where);
	return where <= at && at < where + size;
}

/* Make the files. */
void express_debugfs(struct dentry *dir);
void slot_debugfs(struct dentry *dir);
void requester_debugfs(struct dentry *dir);

#endif /* TPH_RP_H */
