/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The layout of the user ABI as a C compiler sees it, for -m32 and -m64.
 *
 * Compiled to assembly and never run: each line of the dump is an .ascii, the
 * way that kbuild gets at offsets. A line is "struct member offset size", and
 * "struct - align size" for the whole of it.
 */
#include <stddef.h>
#include <linux/vfio_tph.h>

#define EMIT(type, name, offset, size)					\
	asm volatile("\n.ascii \"->" #type " " name " %c0 %c1\""	\
		     : : "i" (offset), "i" (size))

#define STRUCT(type, size)						\
	_Static_assert(sizeof(struct type) == (size), #type);		\
	EMIT(type, "-", _Alignof(struct type), sizeof(struct type))

#define SIZEOF(type, member)	sizeof(((struct type *)0)->member)

#define MEMBER(type, member, offset, size)				\
	_Static_assert(offsetof(struct type, member) == (offset) &&	\
		       SIZEOF(type, member) == (size),			\
		       #type "." #member);				\
	EMIT(type, #member, offsetof(struct type, member),		\
	     SIZEOF(type, member))

/* A flexible array: where it starts, and how large one element is. */
#define ARRAY(type, member, offset, size)				\
	_Static_assert(offsetof(struct type, member) == (offset) &&	\
		       SIZEOF(type, member[0]) == (size),		\
		       #type "." #member);				\
	EMIT(type, #member "[]", offsetof(struct type, member),		\
	     SIZEOF(type, member[0]))

void layout(void);

void layout(void)
{
	STRUCT(vfio_tph_source, 8);
	MEMBER(vfio_tph_source, type, 0, 1);
	MEMBER(vfio_tph_source, flags, 1, 1);
	MEMBER(vfio_tph_source, reserved, 2, 2);
	MEMBER(vfio_tph_source, value, 4, 4);

	STRUCT(vfio_device_feature_tph, 8);
	MEMBER(vfio_device_feature_tph, flags, 0, 4);
	MEMBER(vfio_device_feature_tph, st_entries, 4, 2);
	MEMBER(vfio_device_feature_tph, modes, 6, 1);
	MEMBER(vfio_device_feature_tph, policy, 7, 1);

	STRUCT(vfio_device_feature_tph_st, 16);
	MEMBER(vfio_device_feature_tph_st, flags, 0, 4);
	MEMBER(vfio_device_feature_tph_st, index, 4, 2);
	MEMBER(vfio_device_feature_tph_st, count, 6, 2);
	MEMBER(vfio_device_feature_tph_st, fault, 8, 4);
	MEMBER(vfio_device_feature_tph_st, reserved, 12, 4);
	ARRAY(vfio_device_feature_tph_st, sources, 16, 8);

	STRUCT(vfio_tph_resolution, 16);
	MEMBER(vfio_tph_resolution, source, 0, 8);
	MEMBER(vfio_tph_resolution, st, 8, 2);
	MEMBER(vfio_tph_resolution, ph, 10, 1);
	MEMBER(vfio_tph_resolution, flags, 11, 1);
	MEMBER(vfio_tph_resolution, reserved, 12, 4);

	STRUCT(vfio_device_feature_tph_resolve, 16);
	MEMBER(vfio_device_feature_tph_resolve, flags, 0, 4);
	MEMBER(vfio_device_feature_tph_resolve, count, 4, 4);
	MEMBER(vfio_device_feature_tph_resolve, fault, 8, 4);
	MEMBER(vfio_device_feature_tph_resolve, reserved, 12, 4);
	ARRAY(vfio_device_feature_tph_resolve, entries, 16, 16);

	STRUCT(vfio_device_feature_dma_buf_tph, 12);
	MEMBER(vfio_device_feature_dma_buf_tph, dmabuf_fd, 0, 4);
	MEMBER(vfio_device_feature_dma_buf_tph, flags, 4, 4);
	MEMBER(vfio_device_feature_dma_buf_tph, steering_tag_ext, 8, 2);
	MEMBER(vfio_device_feature_dma_buf_tph, steering_tag, 10, 1);
	MEMBER(vfio_device_feature_dma_buf_tph, ph, 11, 1);

	STRUCT(vfio_device_feature_tph_map, 16);
	MEMBER(vfio_device_feature_tph_map, flags, 0, 4);
	MEMBER(vfio_device_feature_tph_map, count, 4, 4);
	MEMBER(vfio_device_feature_tph_map, fault, 8, 4);
	MEMBER(vfio_device_feature_tph_map, reserved, 12, 4);
	ARRAY(vfio_device_feature_tph_map, sources, 16, 8);
}
