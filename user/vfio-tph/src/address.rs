// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! Addresses of PCI functions.

use std::fmt;
use std::str::FromStr;

/// The address of a PCI function: domain, bus, device and function.
///
/// ```
/// use vfio_tph::Address;
///
/// let address: Address = "01:00.0".parse().unwrap();
/// assert_eq!(address.to_string(), "0000:01:00.0");
/// assert!("01:*.0".parse::<Address>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// It names several devices.
    #[error("{0}: one device at a time, without wildcards, as in 0000:01:00.0")]
    Wildcard(String),
    /// It is something else.
    #[error("{0}: not a PCI address, which looks like 0000:01:00.0")]
    Malformed(String),
}

impl FromStr for Address {
    type Err = BadAddress;

    /// Takes `DDDD:BB:DD.F`, or `BB:DD.F` of domain 0.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.contains(['*', '?', '[']) {
            return Err(BadAddress::Wildcard(text.to_owned()));
        }
        parse(text).ok_or_else(|| BadAddress::Malformed(text.to_owned()))
    }
}

fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (plain && digits.contains(&text.len()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

fn parse(text: &str) -> Option<Address> {
    let mut parts = text.rsplitn(3, ':');
    let (slot, bus) = (parts.next()?, parts.next()?);
    let domain = parts.next().unwrap_or("0000");
    let (device, function) = slot.split_once('.')?;
    let device = hex(device, 2..=2)?;
    let function = hex(function, 1..=1)?;
    Some(Address {
        // A domain of a virtual root complex has more than 16 bits.
        domain: hex(domain, 4..=8)?,
        bus: u8::try_from(hex(bus, 2..=2)?).ok()?,
        device: u8::try_from(device).ok().filter(|&device| device < 32)?,
        function: u8::try_from(function)
            .ok()
            .filter(|&function| function < 8)?,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are() {
        for (text, shown) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:1F.7", "0000:01:1f.7"),
            ("10000:e1:00.0", "10000:e1:00.0"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn addresses_that_are_none() {
        for text in [
            "",
            ".",
            ":",
            "0000:01:00",
            "0000:01:20.0",
            "0000:01:00.8",
            "01:00.0 ",
            "+1:00.0",
            "0:01:00.0",
            "0000:1:00.0",
            "0000:01:00.0/..",
            "0000:0000:01:00.0",
        ] {
            assert_eq!(
                text.parse::<Address>(),
                Err(BadAddress::Malformed(text.to_owned()))
            );
        }
        for text in ["0000:01:00.*", "*", "0000:0?:00.0", "[0]000:01:00.0"] {
            assert_eq!(
                text.parse::<Address>(),
                Err(BadAddress::Wildcard(text.to_owned()))
            );
        }
    }
}
