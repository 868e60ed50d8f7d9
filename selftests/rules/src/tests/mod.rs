// SPDX-License-Identifier: GPL-2.0-only

//! The tests, one file for each part of the rules.

mod batch;
mod chain;
mod control;
mod corpus;
mod firmware;
mod guest;
mod hostile;
mod layout;
mod lookup;
mod offer;
mod placement;
mod published;
mod reconcile;
mod record;
mod registers;
mod source;
mod table;
mod vcpus;
mod why;
