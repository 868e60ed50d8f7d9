// SPDX-License-Identifier: GPL-2.0-only
/*
 * A module has a C shim of its own: kbuild compiles a file for one module.
 */
#include "../../../rust/helpers/shim.c"
