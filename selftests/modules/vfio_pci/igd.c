// SPDX-License-Identifier: GPL-2.0-only
/* Its other file. */
#include <drivers/vfio/pci/vfio_pci_igd.c>
