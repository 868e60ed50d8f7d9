/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: what is in force, what is written, what is looked up, and what
 * is refused. None of them shows a tag.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM VFIO_TPH_TRACE_SYSTEM

#if !defined(VFIO_TPH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define VFIO_TPH_TRACE_H

#include <linux/device.h>
#include <linux/tracepoint.h>

/* Control has a new value, with the requester enabled. */
TRACE_EVENT(vfio_tph_enable,
	TP_PROTO(struct device *dev, u8 st_mode, u8 requester_enable),
	TP_ARGS(dev, st_mode, requester_enable),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u8, st_mode)
		__field(u8, requester_enable)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->st_mode = st_mode;
		__entry->requester_enable = requester_enable;
	),
	TP_printk("%s st_mode=%u requester_enable=%u", __get_str(device),
		  __entry->st_mode, __entry->requester_enable)
);

/* The requester was enabled, and no longer is. */
TRACE_EVENT(vfio_tph_disable,
	TP_PROTO(struct device *dev),
	TP_ARGS(dev),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
	),
	TP_fast_assign(
		__assign_str(device);
	),
	TP_printk("%s", __get_str(device))
);

/* A batch was written to the ST table. */
TRACE_EVENT(vfio_tph_table_write,
	TP_PROTO(struct device *dev, u16 index, u16 count, bool extended),
	TP_ARGS(dev, index, count, extended),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u16, index)
		__field(u16, count)
		__field(bool, extended)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->index = index;
		__entry->count = count;
		__entry->extended = extended;
	),
	TP_printk("%s index=%u count=%u extended=%d", __get_str(device),
		  __entry->index, __entry->count, __entry->extended)
);

/* Hints were looked up for a user. */
TRACE_EVENT(vfio_tph_resolve,
	TP_PROTO(struct device *dev, u32 count, bool extended),
	TP_ARGS(dev, count, extended),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u32, count)
		__field(bool, extended)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->count = count;
		__entry->extended = extended;
	),
	TP_printk("%s count=%u extended=%d", __get_str(device), __entry->count,
		  __entry->extended)
);

/* A feature was refused; @position is that of the source, or -1. */
TRACE_EVENT(vfio_tph_refusal,
	TP_PROTO(struct device *dev, u32 feature, int error, int position),
	TP_ARGS(dev, feature, error, position),
	TP_STRUCT__entry(
		__string(device, dev_name(dev))
		__field(u32, feature)
		__field(int, error)
		__field(int, position)
	),
	TP_fast_assign(
		__assign_str(device);
		__entry->feature = feature;
		__entry->error = error;
		__entry->position = position;
	),
	TP_printk("%s feature=%#x error=%d position=%d", __get_str(device),
		  __entry->feature, __entry->error, __entry->position)
);

#endif /* VFIO_TPH_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE tph_trace
#include <trace/define_trace.h>
