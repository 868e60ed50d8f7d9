// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! Steers the requests of a device's first interrupt vectors to CPUs, one each:
//!
//! ```text
//! steer 0000:01:00.0 3 4 5
//! ```
//!
//! A driver would go on here; this one shows what is in force, and ends when its standard input
//! does. Closing the device turns TPH off. Documentation/uapi.rst shows what stands between marks.
#![forbid(unsafe_code)]

use std::io;

use vfio_tph::{Address, Device, Error, Refusal, RequesterEnable, Source, StMode, Tph};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: Address = arguments
        .next()
        .ok_or("usage: steer ADDRESS CPU...")?
        .parse()?;
    let cpus: Vec<Source> = arguments
        .map(|cpu| cpu.parse().map(Source::cpu))
        .collect::<Result<_, _>>()?;

    // open:
    let device = Device::open(&address)?;
    let tph = Tph::of(&device)?;
    steer(&tph, &cpus)?;
    // end
    println!("{address}: {}, {} entries", tph.control()?, cpus.len());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

// steer:
/// What a driver does at its start, and after each reset, which turns TPH off.
fn steer(tph: &Tph<'_>, cpus: &[Source]) -> Result<(), Error> {
    tph.enable(StMode::InterruptVector, RequesterEnable::Standard)?;
    match tph.program(0, cpus) {
        // Firmware need not have a tag for each CPU: TPH is of use without, too.
        Err(Error::Refused {
            refusal: Refusal::NoTag,
            source_at: Some((_, source)),
            ..
        }) => {
            eprintln!("no tag for {source}: no vector is steered");
            Ok(())
        }
        result => result,
    }
}
// end of steer
