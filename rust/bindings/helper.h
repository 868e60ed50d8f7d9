/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What bindgen reads: the headers whose declarations the kernel crate lacks.
 */
#include <linux/hrtimer_types.h>

#include <linux/acpi.h>
#include <linux/eventfd.h>
#include <linux/iommu.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>
#include <linux/pm_runtime.h>
#include <linux/rwsem.h>
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>
#include <linux/vfio_tph.h>

#include "shim.h"
