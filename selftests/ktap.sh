# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the scripts that run tests share: how KTAP is counted.

# count_ktap FILE: sets ok, bad and skip to the number of tests that passed, failed and
# were skipped, and early to something unless that is as many as were planned, and any.
count_ktap()
{
	local file=$1 planned

	planned=$(sed -n 's/^1\.\.\([0-9]*\)$/\1/p' "$file")
	skip=$(grep -c '^ok .* # SKIP' "$file" || :)
	ok=$(($(grep -c '^ok ' "$file" || :) - skip))
	bad=$(grep -c '^not ok ' "$file" || :)
	early=
	if [ "${planned:-0}" != $((ok + bad + skip)) ] || [ "${planned:-0}" = 0 ]; then
		# shellcheck disable=SC2034 # For who asks.
		early=y
	fi
}
