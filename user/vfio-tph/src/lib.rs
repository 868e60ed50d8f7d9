// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! PCIe TLP Processing Hints (TPH) of devices that the kernel driver `vfio_tph` drives.
//!
//! With TPH a device marks its memory requests with a *steering tag*: "this one is for that CPU's
//! cache". This crate is the user's side: a program that has a device through vfio enables TPH and
//! says, by the number of a CPU, where the requests of an interrupt vector go.
//!
//! ```no_run
//! use vfio_tph::{Device, RequesterEnable, Source, StMode, Tph};
//!
//! # fn main() -> Result<(), vfio_tph::Error> {
//! let device = Device::open(&"0000:01:00.0".parse()?)?;
//! let tph = Tph::of(&device)?;
//! tph.enable(StMode::InterruptVector, RequesterEnable::Standard)?;
//! // What vector 0 reports goes to CPU 3, what vector 1 reports to CPU 4.
//! tph.program(0, &[Source::cpu(3), Source::cpu(4)])?;
//! # Ok(())
//! # }
//! ```
//!
//! Who has opened the device elsewhere, with rust-vmm's vfio-ioctls, say, needs no [`Device`]:
//! [`Tph::of`] takes whatever has its descriptor.
//!
//! A reset of any kind, and close, turn TPH off: [`Tph::program`] then says
//! [`Refusal::NotEnabled`], and the program enables and programs again.
//!
//! # Errors
//!
//! [`Error`] says what was asked, of which source, and why the kernel refused: the errno alone
//! stands for several reasons, and the crate knows which one is left.
//!
//! # Unsafe code
//!
//! All of it is in one private module, two system calls on memory that this crate owns.
#![deny(unsafe_code)]

mod address;
mod control;
mod device;
mod error;
mod ioctl;
pub mod registers;
mod tph;
pub mod uapi;

pub use address::{Address, BadAddress};
pub use control::{Control, RequesterEnable, StMode};
pub use device::{Device, Way};
pub use error::{Error, Feature, Refusal};
pub use tph::{Hint, Namespace, Offer, Policy, Published, Source, Tph};
