// SPDX-License-Identifier: GPL-2.0-only
/*
 * A limit for each message that a user or a device can cause as often as they like.
 */
#include <linux/ratelimit.h>

#include "helpers.h"

/* Whether a message, of enum tph_message, may be printed now. */
bool safe_helper_ratelimit(u32 message)
{
	static struct ratelimit_state states[] = {
		[0 ... TPH_MESSAGES - 1] =
			RATELIMIT_STATE_INIT(states, DEFAULT_RATELIMIT_INTERVAL,
					     DEFAULT_RATELIMIT_BURST),
	};

	return message < TPH_MESSAGES && __ratelimit(&states[message]);
}
