/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The one function of libuuid that the kernel's selftests of vfio call: the build
 * root has the library's header no more than a static archive of it.
 */
#ifndef STOCK_UUID_H
#define STOCK_UUID_H

#include <stdio.h>

typedef unsigned char uuid_t[16];

static inline int uuid_parse(const char *text, uuid_t uuid)
{
	int end = 0;
	int bytes = sscanf(text,
			   "%2hhx%2hhx%2hhx%2hhx-%2hhx%2hhx-%2hhx%2hhx-%2hhx%2hhx-"
			   "%2hhx%2hhx%2hhx%2hhx%2hhx%2hhx%n",
			   &uuid[0], &uuid[1], &uuid[2], &uuid[3], &uuid[4], &uuid[5],
			   &uuid[6], &uuid[7], &uuid[8], &uuid[9], &uuid[10], &uuid[11],
			   &uuid[12], &uuid[13], &uuid[14], &uuid[15], &end);

	return bytes == 16 && !text[end] ? 0 : -1;
}

#endif
