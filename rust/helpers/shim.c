// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C side of what Rust cannot reach: static inline functions, macros, and
 * bit fields of structures that it does not own.
 */
#include <linux/bitfield.h>
#include <linux/cpumask.h>
#include <linux/cpuset.h>
#include <linux/irq.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/msi.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>
#include <linux/pm_runtime.h>
#include <linux/rtmutex.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>

#include "shim.h"

/* Offset of the TPH Requester capability, 0 if the kernel knows of none. */
u16 tph_helper_cap(struct pci_dev *pdev)
{
#ifdef CONFIG_PCIE_TPH
	return pdev->tph_cap;
#else
	return 0;
#endif
}

#ifndef VFIO_TPH_SET_STATE
/*
 * Tells the PCI core, which saves and restores the capability by these fields,
 * what is in force. pcie_enable_tph() cannot: it always takes the widest
 * requester type, and writes it to hardware.
 *
 * Where tph_enabled shares its byte with other bits of the device, for none of
 * which the PCI core has a lock, it is written only when it changes; memory_lock,
 * the device lock, or runtime PM, whose callback the caller is, keeps most other
 * writers out, as far as pcie_enable_tph() itself does.
 */
void tph_helper_set_state(struct pci_dev *pdev, bool enabled, u8 mode,
			  u8 req_type)
{
#ifdef CONFIG_PCIE_TPH
	pdev->tph_mode = mode;
	pdev->tph_req_type = req_type;
#ifndef VFIO_TPH_ENABLED_BYTE
	if (pdev->tph_enabled == enabled)
		return;
#endif
	pdev->tph_enabled = enabled;
#endif
}

/* Whether the PCI core thinks that TPH is enabled. */
bool tph_helper_enabled(struct pci_dev *pdev)
{
#ifdef CONFIG_PCIE_TPH
	return pdev->tph_enabled;
#else
	return false;
#endif
}
#endif /* VFIO_TPH_SET_STATE */

void tph_helper_disable(struct pci_dev *pdev)
{
	pcie_disable_tph(pdev);
}

int tph_helper_set_entry(struct pci_dev *pdev, unsigned int index, u16 tag)
{
	return pcie_tph_set_st_entry(pdev, index, tag);
}

#ifndef VFIO_TPH_ALLOWED
/* Whether pci=notph is absent; rust/pci/tph.rs says how this can tell. */
bool tph_helper_allowed(struct pci_dev *pdev)
{
#ifdef CONFIG_PCIE_TPH
	bool enabled = pdev->tph_enabled;
	u16 cap = pdev->tph_cap;
	int ret;

	if (!cap)
		pdev->tph_cap = PCI_CFG_SPACE_SIZE;
	if (!enabled)
		pdev->tph_enabled = 1;
	ret = pcie_enable_tph(pdev, PCI_TPH_ST_NS_MODE);
	if (!enabled)
		pdev->tph_enabled = 0;
	pdev->tph_cap = cap;
	return ret == -EBUSY;
#else
	return false;
#endif
}
#endif /* VFIO_TPH_ALLOWED */

int tph_helper_pcie_type(struct pci_dev *pdev)
{
	return pci_is_pcie(pdev) ? pci_pcie_type(pdev) : -1;
}

struct pci_dev *tph_helper_root_port(struct pci_dev *pdev)
{
	return pcie_find_root_port(pdev);
}

/* The host bridge that the bus of @pdev hangs off, directly or further up. */
struct device *tph_helper_host_bridge(struct pci_dev *pdev)
{
	struct pci_bus *bus = pdev->bus;

	while (!pci_is_root_bus(bus))
		bus = bus->parent;
	return bus->bridge;
}

/* Whether all links from @pdev up to the root complex are in flit mode. */
bool tph_helper_flit_path(struct pci_dev *pdev)
{
	struct pci_bus *bus;

	/* Virtual functions may have a bus of their own, which has no link. */
	for (bus = pci_physfn(pdev)->bus; !pci_is_root_bus(bus); bus = bus->parent)
		if (!bus->flit_mode)
			return false;
	return true;
}

/*
 * Whether @dev is a port of a root complex or of a switch. A device that claims to be
 * one and has the header of an endpoint is none: a driver could be bound to it.
 */
bool tph_helper_is_pcie_port(struct device *dev)
{
	struct pci_dev *pdev;

	if (!dev_is_pci(dev))
		return false;
	pdev = to_pci_dev(dev);
	if (!pci_is_bridge(pdev) || !pci_is_pcie(pdev))
		return false;

	switch (pci_pcie_type(pdev)) {
	case PCI_EXP_TYPE_ROOT_PORT:
	case PCI_EXP_TYPE_UPSTREAM:
	case PCI_EXP_TYPE_DOWNSTREAM:
		return true;
	default:
		return false;
	}
}

/*
 * Calls @f with each other open device of the set of @vdev, which is registered, that
 * has the same driver. They are neither opened nor closed meanwhile.
 */
void tph_helper_each_other_in_set(struct vfio_device *vdev,
				  void (*f)(struct vfio_device *other))
{
	struct vfio_device_set *set = vdev->dev_set;
	struct vfio_device *other;

	guard(mutex)(&set->lock);
	list_for_each_entry(other, &set->device_list, dev_set_list)
		if (other != vdev && other->open_count && other->ops == vdev->ops)
			f(other);
}

/*
 * Whether the registers of a memory BAR have the address that the kernel has
 * recorded. Virtual functions have no such registers of their own, and those of a
 * BAR of Enhanced Allocation mean nothing.
 */
bool tph_helper_bar_in_place(struct pci_dev *pdev, unsigned int bar)
{
	int at = PCI_BASE_ADDRESS_0 + 4 * bar;
	struct pci_bus_region region;
	struct resource *res;
	u32 low, high = 0;

	if (bar >= PCI_STD_NUM_BARS)
		return false;
	res = &pdev->resource[bar];
	if (!(res->flags & IORESOURCE_MEM))
		return false;
	if (pdev->is_virtfn || res->flags & IORESOURCE_PCI_EA_BEI)
		return true;

	if (pci_read_config_dword(pdev, at, &low) ||
	    (res->flags & IORESOURCE_MEM_64 &&
	     pci_read_config_dword(pdev, at + 4, &high)))
		return false;
	pcibios_resource_to_bus(pdev->bus, &region, res);
	return (low & PCI_BASE_ADDRESS_MEM_MASK) == lower_32_bits(region.start) &&
	       high == upper_32_bits(region.start);
}

#ifndef VFIO_TPH_RESETS
/*
 * Whether the caller itself holds @sem for writing. On PREEMPT_RT a writer holds
 * the rtmutex of @sem from before it waits for readers until it is done. A writer
 * that asks here does not wait any more, and a reader has let go of the rtmutex.
 */
bool tph_helper_write_locked_by_current(struct rw_semaphore *sem)
{
#ifdef CONFIG_PREEMPT_RT
	return rt_mutex_owner(&sem->rwbase.rtmutex) == current;
#else
	/* The low bits are flags, see kernel/locking/rwsem.c. */
	long owner = atomic_long_read(&sem->owner);

	return !(owner & 1) && (owner & ~7L) == (long)current;
#endif
}
#endif /* VFIO_TPH_RESETS */

/* Whether an MSI-X vector has an interrupt: pci_irq_vector() alone would count INTx. */
bool tph_helper_vector_allocated(struct pci_dev *pdev, unsigned int vector)
{
	return pdev->msix_enabled && pci_irq_vector(pdev, vector) > 0;
}

#ifndef VFIO_TPH_MSIX_TAG
/*
 * The tag in the PCI core's copy of an allocated vector's control word, which it
 * writes with the mask bit. It is what the table held when the vector was allocated,
 * or what was programmed since.
 */
u16 tph_helper_vector_tag(struct pci_dev *pdev, unsigned int vector)
{
	struct msi_desc *desc = NULL;
	int irq = 0;

	if (pdev->msix_enabled)
		irq = pci_irq_vector(pdev, vector);
	if (irq > 0)
		desc = irq_get_msi_desc(irq);
	return desc ? FIELD_GET(PCI_MSIX_ENTRY_CTRL_ST, desc->pci.msix_ctrl) : 0;
}
#endif /* VFIO_TPH_MSIX_TAG */

int tph_helper_pm_get(struct device *dev)
{
	return pm_runtime_resume_and_get(dev);
}

/* Takes a reference only of a device that is awake. */
bool tph_helper_pm_get_if_awake(struct device *dev)
{
	int ret = pm_runtime_get_if_active(dev);

	/* Without runtime PM it does not sleep. */
	if (ret < 0)
		pm_runtime_get_noresume(dev);
	return ret;
}

void tph_helper_pm_put(struct device *dev)
{
	pm_runtime_put(dev);
}

/*
 * @cpu if it is present, else -1. For any number that a user may come up with: the
 * result indexes memory, so it is clamped under speculation too.
 */
int tph_helper_present_cpu(unsigned int cpu)
{
	if (cpu >= nr_cpu_ids)
		return -1;
	cpu = array_index_nospec(cpu, nr_cpu_ids);
	return cpu_present(cpu) ? cpu : -1;
}

#ifndef VFIO_TPH_CPUSETS
/*
 * Whether @task is one whose CPUs are its program's: not a worker of the kernel's
 * that shows up among the threads of a program (that of an io_uring may be given all
 * CPUs), and not one that has exited (it keeps the CPUs that it had).
 */
static bool runs_program(struct task_struct *task)
{
	/* data_race: one that exits meanwhile was a thread of the program. */
	return !(data_race(task->flags) &
		 (PF_USER_WORKER | PF_KTHREAD | PF_EXITING));
}
#endif

/*
 * Whether the calling thread itself may run on @cpu. False where its cpuset says more
 * about the program than it does.
 */
bool tph_helper_caller_runs_on(unsigned int cpu)
{
#ifdef VFIO_TPH_CPUSETS
	return false;
#else
	if (!runs_program(current))
		return false;
	guard(raw_spinlock_irqsave)(&current->pi_lock);
	return cpumask_test_cpu(cpu, &current->cpus_mask);
#endif
}

/*
 * The CPUs that threads of the calling program may run on: those of its cpuset, in
 * which each of them may move as it likes. A kernel that does not say which these are
 * leaves the CPUs that the threads have now.
 */
void tph_helper_callers_cpus(struct cpumask *mask)
{
#ifdef VFIO_TPH_CPUSETS
	cpuset_cpus_allowed(current, mask);
#else
	struct task_struct *task;

	cpumask_clear(mask);
	guard(rcu)();
	for_each_thread(current, task) {
		if (!runs_program(task))
			continue;
		guard(raw_spinlock_irqsave)(&task->pi_lock);
		cpumask_or(mask, mask, &task->cpus_mask);
	}
#endif
}

size_t tph_helper_index_nospec(size_t index, size_t size)
{
	return array_index_nospec(index, size);
}

acpi_handle tph_helper_acpi_handle(struct device *dev)
{
#ifdef CONFIG_ACPI
	return ACPI_HANDLE(dev);
#else
	return NULL;
#endif
}

void tph_helper_acpi_free(void *object)
{
#ifdef CONFIG_ACPI
	ACPI_FREE(object);
#endif
}

bool tph_helper_acpi_no_memory(acpi_status status)
{
	return status == AE_NO_MEMORY;
}
