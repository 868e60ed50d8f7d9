// SPDX-License-Identifier: GPL-2.0-only

//! What the kselftests of vfio_tph are written with.
//!
//! A test program is a table of functions, run by [`harness`]. Each is given a [`bench::Bench`], on
//! which it takes a device ([`bench::Bench::take`]), opens it ([`vfio`]), and looks at what the
//! hardware ([`endpoint::Endpoint`]) and the kernel ([`kstate`]) make of it. The programs run as
//! root in the guest of `selftests/run`, or on any machine with `--device BDF`; what needs the
//! emulated endpoint is left out there, with its reason.

use std::io;

pub mod aer;
pub mod bench;
pub mod cgroup;
pub mod child;
pub mod cpus;
pub mod crowd;
pub mod debugfs;
pub mod dma_buf;
pub mod endpoint;
pub mod engine;
#[path = "../../guest/firmware.rs"]
#[allow(missing_docs)]
pub mod firmware;
pub mod foreign;
pub mod harness;
pub mod hold;
pub mod hotplug;
pub mod importer;
pub mod injection;
pub mod kernel;
pub mod kmsg;
pub mod kstate;
pub mod memory;
pub mod module;
pub mod monitor;
pub mod msix;
pub mod path;
pub mod pci;
pub mod policy;
pub mod process;
pub mod root_port;
pub mod signal;
pub mod slab;
pub mod sleep;
pub mod sriov;
pub mod tph;
pub mod vcpus;
pub mod vfio;

pub use nix::errno::Errno;
pub use tph_protocol as protocol;
pub use tph_uapi as uapi;

/// The number of an error: what is not the kernel's is EIO.
pub fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Fails the test unless the expression is that errno.
#[macro_export]
macro_rules! assert_errno {
    ($call:expr, $errno:ident) => {
        $crate::assert_errno!($call, $errno, "{}", stringify!($call))
    };
    ($call:expr, $errno:ident, $($what:tt)+) => {
        match $call {
            Err($crate::Errno::$errno) => (),
            other => panic!(
                "{}: {:?}, not {}",
                format_args!($($what)+),
                other.map(drop),
                stringify!($errno),
            ),
        }
    };
}
