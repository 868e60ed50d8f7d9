/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Functions around what C has only as a static inline function, a macro or a
 * bit field: Rust can call none of them.
 */
#ifndef VFIO_TPH_SHIM_H
#define VFIO_TPH_SHIM_H

#include <linux/acpi.h>
#include <linux/pci.h>
#include <linux/vfio_pci_core.h>

/*
 * What vfio-pci-core has in its map of config space for a byte of no capability,
 * which is hardware's, and for one that it keeps to itself: PCI_CAP_ID_INVALID
 * and PCI_CAP_ID_INVALID_VIRT of drivers/vfio/pci/vfio_pci_priv.h, as Kbuild
 * finds out.
 */
#define TPH_MAP_UNASSIGNED	0xFF
#define TPH_MAP_VIRTUAL		0xFE

/* Ioctls by name: their numbers are macros that bindgen does not see through. */
enum {
	TPH_DEVICE_SET_IRQS	  = VFIO_DEVICE_SET_IRQS,
	TPH_DEVICE_RESET	  = VFIO_DEVICE_RESET,
	TPH_DEVICE_PCI_HOT_RESET  = VFIO_DEVICE_PCI_HOT_RESET,
	TPH_DEVICE_IOEVENTFD	  = VFIO_DEVICE_IOEVENTFD,
};

u16 tph_helper_cap(struct pci_dev *pdev);
#ifndef VFIO_TPH_SET_STATE
void tph_helper_set_state(struct pci_dev *pdev, bool enabled, u8 mode,
			  u8 req_type);
bool tph_helper_enabled(struct pci_dev *pdev);
#endif
void tph_helper_disable(struct pci_dev *pdev);
int tph_helper_set_entry(struct pci_dev *pdev, unsigned int index, u16 tag);
#ifndef VFIO_TPH_ALLOWED
bool tph_helper_allowed(struct pci_dev *pdev);
#endif

int tph_helper_pcie_type(struct pci_dev *pdev);
struct pci_dev *tph_helper_root_port(struct pci_dev *pdev);
struct device *tph_helper_host_bridge(struct pci_dev *pdev);
bool tph_helper_flit_path(struct pci_dev *pdev);
bool tph_helper_is_pcie_port(struct device *dev);

void tph_helper_each_other_in_set(struct vfio_device *vdev,
				  void (*f)(struct vfio_device *other));

bool tph_helper_bar_in_place(struct pci_dev *pdev, unsigned int bar);

#ifndef VFIO_TPH_RESETS
bool tph_helper_write_locked_by_current(struct rw_semaphore *sem);
#endif

bool tph_helper_vector_allocated(struct pci_dev *pdev, unsigned int vector);
#ifndef VFIO_TPH_MSIX_TAG
u16 tph_helper_vector_tag(struct pci_dev *pdev, unsigned int vector);
#endif

int tph_helper_pm_get(struct device *dev);
bool tph_helper_pm_get_if_awake(struct device *dev);
void tph_helper_pm_put(struct device *dev);

int tph_helper_present_cpu(unsigned int cpu);
bool tph_helper_caller_runs_on(unsigned int cpu);
void tph_helper_callers_cpus(struct cpumask *mask);
size_t tph_helper_index_nospec(size_t index, size_t size);

acpi_handle tph_helper_acpi_handle(struct device *dev);
void tph_helper_acpi_free(void *object);
bool tph_helper_acpi_no_memory(acpi_status status);

#endif /* VFIO_TPH_SHIM_H */
