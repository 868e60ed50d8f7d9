# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# What the build scripts share: messages, the cache, and steps that are either
# whole or absent.

# Unpacked once, built once: nothing in here is edited, only replaced.
# VFIO_TPH_CACHE moves the cache, for a check from an empty one.
# shellcheck disable=SC2034 # For those who read this file.
cache=${VFIO_TPH_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/vfio_tph}
# shellcheck disable=SC2034
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck disable=SC2034
top=$(dirname "$here")
# What a checkout builds, it builds for itself, and says so there.
# shellcheck disable=SC2034
logs=$top/build/logs

say() { printf '  %-8s %s\n' "$1" "$2" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# key FILE...: a short name for the contents of the files.
key() { cat "$@" | sha256sum | cut -c1-16; }

# has_compilers VARIANT: whether a test kernel is built by compilers of its own: there is a
# root of its name.
has_compilers() { [ -e "$here/config.$1" ] && [ -e "$here/packages.$1" ]; }

# arch_of VARIANT: the architecture that a variant of the kernel is for, as make has it,
# or nothing: it is this machine's.
arch_of() { sed -n 's/^# ARCH=//p' "$here/config.$1" 2>/dev/null || :; }

# lost_symbols FRAGMENT CONFIG: the lines of the fragment that do not stand in the result,
# each symbol's last. Kconfig drops one whose dependencies do not hold without a word.
lost_symbols()
{
	awk '
		!match($0, /CONFIG_[A-Z0-9_]+/) || !/^(# )?CONFIG_/ { next }
		{ symbol = substr($0, RSTART, RLENGTH) }
		FILENAME == ARGV[1] { want[symbol] = $0; next }
		{ have[symbol] = $0 }
		END {
			for (symbol in want) {
				off = want[symbol] ~ /is not set$/
				there = symbol in have
				if (there ? want[symbol] != have[symbol] : !off)
					print want[symbol]
			}
		}' "$@"
}

# need_space DIR GIB: fails early, not in the middle of a build.
need_space()
{
	local free

	mkdir -p "$1" || die "cannot create $1"
	free=$(df --output=avail -BG "$1" | tail -n 1 | tr -dc 0-9)
	[ "$free" -ge "$2" ] ||
		die "$1 has $free GiB free, $2 GiB are needed (VFIO_TPH_CACHE moves the cache)"
}

# run_logged LOG COMMAND...: shows that something moves, keeps the whole output,
# and shows its end on failure.
run_logged()
{
	local log=$1 status=0

	shift
	mkdir -p "${log%/*}"
	if [ "${V:-0}" != 0 ]; then
		"$@" 2>&1 | tee "$log" >&2
		return "${PIPESTATUS[0]}"
	fi
	"$@" >"$log" 2>&1 &
	local pid=$!
	local start=$SECONDS
	while kill -0 "$pid" 2>/dev/null; do
		if [ $(((SECONDS - start) % 20)) = 19 ]; then
			say "..." "$((SECONDS - start)) s: $(tail -n 1 "$log" | cut -c1-70)"
		fi
		sleep 1
	done
	wait "$pid" || status=$?
	[ "$status" = 0 ] || { tail -n 25 "$log" >&2; say "LOG" "$log"; }
	return "$status"
}

# build_modules BUILD SOURCE OUT [MAKE-ARGS...]: the modules of a Kbuild outside the
# kernel, for the kernel in BUILD; one at a time in a checkout. Sets "out" to where they are.
build_modules()
{
	local build=$1 source=$2 make_args fresh=

	out=$3
	shift 3
	# A checker looks at what is compiled: it has a tree of its own.
	case " $* " in
	*" CLIPPY=1 "*) out+=-clippy fresh=y ;;
	esac
	mkdir -p "$out"
	exec 9>"$out.lock"
	flock 9
	# What was built against another tree is not to be told apart by its age.
	if [ -n "$fresh" ] || [ "$(cat "$out/.kernel" 2>/dev/null)" != "$build" ]; then
		rm -rf "${out:?}"/*
	fi
	echo "$build" >"$out/.kernel"

	mapfile -t make_args <"$build/make-args"
	run_logged "$logs/${out##*/}.log" \
		make -C "$build" M="$source" MO="$out" "${make_args[@]}" "$@" || return
	[ "${QUIET:-1}" = 1 ] || cat "$logs/${out##*/}.log"
}

# As root, whoever asks: chroot and mount namespaces need it.
as_root()
{
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo --preserve-env=VFIO_TPH_CACHE,V "$@"
	else
		die "run this as root, or install sudo"
	fi
}

# kernel/kernel leaves a variant of another architecture to a script of its own.
if [ "${0##*/}" = kernel ] && [ -n "$(arch_of "${1:-lean}")" ]; then
	exec "$here/cross" "$@"
fi
