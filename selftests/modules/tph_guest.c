// SPDX-License-Identifier: GPL-2.0-only
/*
 * tph_guest - the emulated endpoint's driver in a guest, for tests
 *
 * Steers as a driver of a network card does, with nothing but the kernel's API:
 * each vector belongs to a CPU, and its ST entry has that CPU's tag, also after
 * the vector was moved by /proc/irq/N/smp_affinity_list. It knows nothing of
 * vfio_tph, nor of being in a guest.
 *
 * In the device's directory in sysfs:
 *
 *   vectors	"tph 1", and a line for each vector: its number, interrupt, CPU,
 *		and how many interrupts came; after all moves so far were seen to
 *   tph	0 turns TPH off, 1 turns it on and programs all entries
 *   write	a vector: the device writes to memory with the tag of its entry,
 *		and raises it; comes back when the interrupt has come
 *   control	Vector Control of all vectors in the MSI-X table, whose upper half
 *		is the ST entry where the table is there. Takes "VECTOR VALUE" in hex.
 *		For a driver with bad intent: no other one does such a thing
 *
 * A reset (file "reset") makes it let go of everything and start anew. With
 * the parameter keep=1 it leaves all as it is instead, and the PCI core
 * restores what the device has lost.
 */
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/cpumask.h>
#include <linux/dma-mapping.h>
#include <linux/interrupt.h>
#include <linux/iopoll.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pci-tph.h>

/* The DMA engine, selftests/protocol/src/registers.rs. */
#define ENGINE_STATUS		0x9004
#define ENGINE_ADDRESS_LO	0x9008
#define ENGINE_ADDRESS_HI	0x900c
#define ENGINE_VALUE_LO		0x9010
#define ENGINE_LENGTH		0x9018
#define ENGINE_HINT		0x901c
#define ENGINE_INDEX		0x9020
#define ENGINE_COMMAND		0x9028
#define COMMAND_WRITE		1
#define COMMAND_INTERRUPT	3
#define STATUS_BUSY		1
#define STATUS_DONE		2

#define MAX_VECTORS		64
/* Of a machine that does this in software, twice over. */
#define PATIENCE_MS		60000

static bool keep;
module_param(keep, bool, 0644);
MODULE_PARM_DESC(keep, "Leave all as it is over a reset");

struct vector {
	struct tph_guest *guest;
	struct irq_affinity_notify notify;
	struct completion came;
	int irq;
	u16 number;
	unsigned int cpu;
	unsigned int count;
};

struct tph_guest {
	struct pci_dev *pdev;
	void __iomem *bar;
	u64 *memory;
	dma_addr_t address;
	/* Protects TPH of the device, and whether it is on. */
	struct mutex lock;
	bool tph;
	/* Protects the vectors. Taken before the other one. */
	struct mutex vectors_lock;
	int count;
	struct vector vectors[MAX_VECTORS];
};

static int steer(struct vector *vector)
{
	struct pci_dev *pdev = vector->guest->pdev;
	u16 tag;
	int ret;

	lockdep_assert_held(&vector->guest->lock);

	ret = pcie_tph_get_cpu_st(pdev, TPH_MEM_TYPE_VM, vector->cpu, &tag);
	if (ret)
		return ret;
	return pcie_tph_set_st_entry(pdev, vector->number, tag);
}

static void moved(struct irq_affinity_notify *notify, const cpumask_t *mask)
{
	struct vector *vector = container_of(notify, struct vector, notify);
	struct tph_guest *guest = vector->guest;

	guard(mutex)(&guest->lock);
	vector->cpu = cpumask_first(mask);
	if (guest->tph && steer(vector))
		pci_warn(guest->pdev, "vector %u is not steered\n", vector->number);
}

static void notify_released(struct kref *ref)
{
}

static int tph_on(struct tph_guest *guest)
{
	int i, ret;

	guard(mutex)(&guest->lock);
	if (guest->tph)
		return 0;
	ret = pcie_enable_tph(guest->pdev, PCI_TPH_ST_IV_MODE);
	if (ret)
		return ret;
	guest->tph = true;
	for (i = 0; i < guest->count && !ret; i++)
		ret = steer(&guest->vectors[i]);
	if (ret) {
		pcie_disable_tph(guest->pdev);
		guest->tph = false;
	}
	return ret;
}

static void tph_off(struct tph_guest *guest)
{
	guard(mutex)(&guest->lock);
	pcie_disable_tph(guest->pdev);
	guest->tph = false;
}

static irqreturn_t interrupt(int irq, void *data)
{
	struct vector *vector = data;

	vector->count++;
	complete(&vector->came);
	return IRQ_HANDLED;
}

static void free_vector(struct vector *vector)
{
	irq_set_affinity_notifier(vector->irq, NULL);
	irq_update_affinity_hint(vector->irq, NULL);
	free_irq(vector->irq, vector);
}

static int request_vector(struct tph_guest *guest, int i)
{
	struct vector *vector = &guest->vectors[i];
	int ret;

	vector->guest = guest;
	vector->number = i;
	vector->irq = pci_irq_vector(guest->pdev, i);
	vector->cpu = cpumask_local_spread(i, NUMA_NO_NODE);
	vector->count = 0;
	vector->notify.notify = moved;
	vector->notify.release = notify_released;
	init_completion(&vector->came);

	ret = request_irq(vector->irq, interrupt, 0, KBUILD_MODNAME, vector);
	if (ret)
		return ret;
	ret = irq_set_affinity_and_hint(vector->irq, cpumask_of(vector->cpu));
	if (!ret)
		ret = irq_set_affinity_notifier(vector->irq, &vector->notify);
	if (ret)
		free_vector(vector);
	return ret;
}

static void let_go(struct tph_guest *guest)
{
	lockdep_assert_held(&guest->vectors_lock);

	tph_off(guest);
	while (guest->count)
		free_vector(&guest->vectors[--guest->count]);
	pci_free_irq_vectors(guest->pdev);
}

static void stop(struct tph_guest *guest)
{
	guard(mutex)(&guest->vectors_lock);
	let_go(guest);
}

static int start(struct tph_guest *guest)
{
	int i, ret, count;

	guard(mutex)(&guest->vectors_lock);
	count = pci_alloc_irq_vectors(guest->pdev, 1, MAX_VECTORS, PCI_IRQ_MSIX);
	if (count < 0)
		return count;
	for (i = 0; i < count; i++) {
		ret = request_vector(guest, i);
		if (ret) {
			let_go(guest);
			return ret;
		}
		guest->count++;
	}
	if (tph_on(guest))
		pci_info(guest->pdev, "no TPH\n");
	return 0;
}

static int run(struct tph_guest *guest, u32 command)
{
	u32 status;
	int ret;

	iowrite32(command, guest->bar + ENGINE_COMMAND);
	ret = read_poll_timeout(ioread32, status, status != STATUS_BUSY, 100,
				PATIENCE_MS * USEC_PER_MSEC, false,
				guest->bar + ENGINE_STATUS);
	if (!ret && status != STATUS_DONE)
		ret = -EIO;
	return ret;
}

static ssize_t write_store(struct device *dev, struct device_attribute *attr,
			   const char *text, size_t size)
{
	struct tph_guest *guest = dev_get_drvdata(dev);
	struct vector *vector;
	u16 number;
	int ret;

	ret = kstrtou16(text, 0, &number);
	if (ret)
		return ret;
	guard(mutex)(&guest->vectors_lock);
	if (number >= guest->count)
		return -EINVAL;
	vector = &guest->vectors[number];
	reinit_completion(&vector->came);
	WRITE_ONCE(*guest->memory, 0);
	iowrite32(lower_32_bits(guest->address), guest->bar + ENGINE_ADDRESS_LO);
	iowrite32(upper_32_bits(guest->address), guest->bar + ENGINE_ADDRESS_HI);
	iowrite32(number + 1, guest->bar + ENGINE_VALUE_LO);
	iowrite32(sizeof(u32), guest->bar + ENGINE_LENGTH);
	iowrite32(0, guest->bar + ENGINE_HINT);
	iowrite32(number, guest->bar + ENGINE_INDEX);
	ret = run(guest, COMMAND_WRITE);
	if (!ret)
		ret = run(guest, COMMAND_INTERRUPT);
	if (ret)
		return ret;
	if (!wait_for_completion_timeout(&vector->came, msecs_to_jiffies(PATIENCE_MS)))
		return -ETIMEDOUT;
	return READ_ONCE(*guest->memory) == number + 1 ? size : -EIO;
}
static DEVICE_ATTR_WO(write);

static ssize_t tph_store(struct device *dev, struct device_attribute *attr,
			 const char *text, size_t size)
{
	struct tph_guest *guest = dev_get_drvdata(dev);
	bool on;
	int ret;

	ret = kstrtobool(text, &on);
	if (ret)
		return ret;
	guard(mutex)(&guest->vectors_lock);
	if (on)
		return tph_on(guest) ?: size;
	tph_off(guest);
	return size;
}
static DEVICE_ATTR_WO(tph);

static ssize_t vectors_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct tph_guest *guest = dev_get_drvdata(dev);
	struct vector *vector;
	int length;

	guard(mutex)(&guest->vectors_lock);
	for (vector = guest->vectors; vector < guest->vectors + guest->count; vector++)
		flush_work(&vector->notify.work);

	guard(mutex)(&guest->lock);
	length = sysfs_emit(text, "tph %d\n", guest->tph);
	for (vector = guest->vectors; vector < guest->vectors + guest->count; vector++)
		length += sysfs_emit_at(text, length, "%u irq %d cpu %u count %u\n",
					vector->number, vector->irq, vector->cpu,
					vector->count);
	return length;
}
static DEVICE_ATTR_RO(vectors);

static void __iomem *vector_control(struct tph_guest *guest, int vector)
{
	u32 table;

	pci_read_config_dword(guest->pdev, guest->pdev->msix_cap + PCI_MSIX_TABLE, &table);
	return guest->bar + (table & PCI_MSIX_TABLE_OFFSET) +
	       vector * PCI_MSIX_ENTRY_SIZE + PCI_MSIX_ENTRY_VECTOR_CTRL;
}

static ssize_t control_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct tph_guest *guest = dev_get_drvdata(dev);
	int i, length = 0;

	guard(mutex)(&guest->vectors_lock);
	for (i = 0; i < guest->count; i++)
		length += sysfs_emit_at(text, length, "%08x\n",
					ioread32(vector_control(guest, i)));
	return length;
}

static ssize_t control_store(struct device *dev, struct device_attribute *attr,
			     const char *text, size_t size)
{
	struct tph_guest *guest = dev_get_drvdata(dev);
	u32 value;
	int i;

	if (sscanf(text, "%d %x", &i, &value) != 2)
		return -EINVAL;
	guard(mutex)(&guest->vectors_lock);
	if (i < 0 || i >= guest->count)
		return -EINVAL;
	iowrite32(value, vector_control(guest, i));
	return size;
}
static DEVICE_ATTR_RW(control);

static struct attribute *tph_guest_attrs[] = {
	&dev_attr_vectors.attr,
	&dev_attr_tph.attr,
	&dev_attr_write.attr,
	&dev_attr_control.attr,
	NULL
};
ATTRIBUTE_GROUPS(tph_guest);

static int tph_guest_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct tph_guest *guest;
	int ret;

	guest = devm_kzalloc(&pdev->dev, sizeof(*guest), GFP_KERNEL);
	if (!guest)
		return -ENOMEM;
	guest->pdev = pdev;
	mutex_init(&guest->lock);
	mutex_init(&guest->vectors_lock);
	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	guest->bar = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(guest->bar))
		return PTR_ERR(guest->bar);
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	guest->memory = dmam_alloc_coherent(&pdev->dev, PAGE_SIZE, &guest->address,
					    GFP_KERNEL);
	if (!guest->memory)
		return -ENOMEM;
	pci_set_master(pdev);
	pci_set_drvdata(pdev, guest);
	return start(guest);
}

static void tph_guest_remove(struct pci_dev *pdev)
{
	stop(pci_get_drvdata(pdev));
	pci_clear_master(pdev);
}

static void tph_guest_reset_prepare(struct pci_dev *pdev)
{
	if (!keep)
		stop(pci_get_drvdata(pdev));
}

static void tph_guest_reset_done(struct pci_dev *pdev)
{
	if (!keep && start(pci_get_drvdata(pdev)))
		pci_err(pdev, "does not start after a reset\n");
}

static const struct pci_error_handlers tph_guest_errors = {
	.reset_prepare = tph_guest_reset_prepare,
	.reset_done = tph_guest_reset_done,
};

static const struct pci_device_id tph_guest_ids[] = {
	{ PCI_DEVICE(0x1b36, 0x7470) },
	{ }
};
MODULE_DEVICE_TABLE(pci, tph_guest_ids);

static struct pci_driver tph_guest_driver = {
	.name = KBUILD_MODNAME,
	.id_table = tph_guest_ids,
	.probe = tph_guest_probe,
	.remove = tph_guest_remove,
	.err_handler = &tph_guest_errors,
	.dev_groups = tph_guest_groups,
};
module_pci_driver(tph_guest_driver);

MODULE_DESCRIPTION("The emulated endpoint's driver in a guest, for tests");
MODULE_LICENSE("GPL");
