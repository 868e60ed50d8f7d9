// SPDX-License-Identifier: GPL-2.0-only

//! Registers, violations and requests of an endpoint, without a client.
