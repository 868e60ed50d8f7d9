/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the generated layout.c asserts about: the structs that bindgen saw, and
 * that our user ABI has no hole in it.
 */
#include <linux/build_bug.h>
#include <linux/vfio.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"
#include <linux/vfio_tph.h>
#pragma GCC diagnostic pop

#include "helper.h"
