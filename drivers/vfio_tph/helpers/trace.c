// SPDX-License-Identifier: GPL-2.0-only
/*
 * The tracepoints, as functions: they are macros otherwise.
 */
#include <linux/pci.h>

#define CREATE_TRACE_POINTS
#include "tph_trace.h"
#include "helpers.h"

void safe_helper_trace_enable(struct pci_dev *pdev, u8 st_mode,
			      u8 requester_enable)
{
	trace_vfio_tph_enable(&pdev->dev, st_mode, requester_enable);
}

void safe_helper_trace_disable(struct pci_dev *pdev)
{
	trace_vfio_tph_disable(&pdev->dev);
}

void safe_helper_trace_table_write(struct pci_dev *pdev, u16 index, u16 count,
				   bool extended)
{
	trace_vfio_tph_table_write(&pdev->dev, index, count, extended);
}

void safe_helper_trace_resolve(struct pci_dev *pdev, u32 count, bool extended)
{
	trace_vfio_tph_resolve(&pdev->dev, count, extended);
}

void safe_helper_trace_refusal(struct pci_dev *pdev, u32 feature, int error,
			       int position)
{
	trace_vfio_tph_refusal(&pdev->dev, feature, error, position);
}
