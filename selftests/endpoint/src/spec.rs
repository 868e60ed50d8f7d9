// SPDX-License-Identifier: GPL-2.0-only

//! What an endpoint is: the `--device` option of the command line.

use std::collections::HashSet;
use std::str::FromStr;

use anyhow::{bail, ensure, Context, Error, Result};
use tph_protocol::registers::{BAR0_MAX, BAR0_SIZE, MSIX_ENTRY, MSIX_PBA};
use tph_protocol::{modes, Position, Table, TphShape};

use crate::config::{layout, tph};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Names the socket, and the endpoint on the control channel.
    pub name: String,
    /// Its TPH capability.
    pub tph: Tph,
    /// TPH Completer Supported in Device Capabilities 2.
    pub completer: u8,
    /// End-End TLP prefixes in a request: 0 for none supported, at most 4.
    pub eetlp: u8,
    /// What the root port above is taken to support.
    pub root_port_completer: u8,
    /// MSI-X vectors.
    pub msix: u16,
    /// Offset of the MSI-X table in BAR0.
    pub msix_offset: u64,
    /// Size of BAR0: what is behind it cannot be reached.
    pub bar0_size: u64,
    /// Size of BAR2.
    pub bar_size: u64,
    /// Size of BAR4, which is an I/O BAR: 0 for none.
    pub io_size: u64,
    /// Size of the expansion ROM: 0 for none.
    pub rom_size: u64,
    /// Vendor ID.
    pub vendor: u16,
    /// Device ID.
    pub device: u16,
    /// Class Code.
    pub class: u32,
    /// No_Soft_Reset in PMCSR.
    pub no_soft_reset: bool,
    /// Function Level Reset Capability.
    pub flr: bool,
}

/// Shape of the TPH capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tph {
    /// ST Table Location, or no capability.
    pub table: Table,
    /// ST modes supported.
    pub modes: u8,
    /// ST Table Size plus 1: a claim, not always true.
    pub entries: u16,
    /// Extended TPH Requester Supported.
    pub extended: bool,
    /// Place in the chain.
    pub position: Position,
    /// Offset in configuration space.
    pub offset: u16,
}

impl Tph {
    /// Entries that exist in the capability: what is claimed, but no more than 64 and no more
    /// than there is configuration space for.
    pub fn entries_in_capability(&self) -> u16 {
        if self.table != Table::Cap {
            return 0;
        }
        let space = (layout::SIZE - self.offset - tph::ENTRIES) / 2;
        self.entries.min(tph::MAX_ENTRIES).min(space)
    }

    /// Bytes that the capability takes, whole dwords.
    pub fn len(&self) -> u16 {
        (tph::ENTRIES + 2 * self.entries_in_capability()).next_multiple_of(4)
    }

    fn validate(&self, msix: u16) -> Result<()> {
        ensure!(
            (1..=2048).contains(&self.entries),
            "entries={}: not within 1..=2048",
            self.entries
        );
        ensure!(
            self.table != Table::Msix || msix > 0,
            "tph=msix needs MSI-X vectors"
        );
        let last = layout::SIZE - tph::ENTRIES;
        ensure!(
            self.offset % 4 == 0 && (layout::EXTENDED..=last).contains(&self.offset),
            "offset={:#x}: not a multiple of 4 within {:#x}..={last:#x}",
            self.offset,
            layout::EXTENDED
        );
        layout::chain(self).map(drop)
    }
}

impl Spec {
    /// Checks what the fields say together.
    pub fn validate(&self) -> Result<()> {
        ensure!(!self.name.is_empty(), "name= is missing");
        ensure!(
            self.name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
            "name={}: only letters, digits, - and _",
            self.name
        );
        ensure!(self.class < 1 << 24, "class={:x}: not 24 bits", self.class);
        ensure!(self.msix <= 2048, "msix={}: more than 2048", self.msix);
        let end = self.msix_offset + u64::from(self.msix) * MSIX_ENTRY;
        let behind = self.msix_offset >= BAR0_SIZE && end <= self.bar0_size;
        ensure!(
            self.msix_offset % 8 == 0 && (end <= MSIX_PBA || behind),
            "msix_offset={:#x}: not a multiple of 8, or no room for {} vectors below {MSIX_PBA:#x} \
             or from {BAR0_SIZE:#x} to the end of BAR0",
            self.msix_offset,
            self.msix
        );
        ensure!(
            self.completer <= 3,
            "completer={}: not 0..3",
            self.completer
        );
        ensure!(self.eetlp <= 4, "eetlp={}: not 0..4", self.eetlp);
        check_root_port(self.root_port_completer)?;
        ensure!(
            self.bar_size.is_power_of_two() && (4096..=1 << 32).contains(&self.bar_size),
            "bar={}: not a power of two from 4K to 4G",
            self.bar_size
        );
        ensure!(
            self.bar0_size.is_power_of_two() && (4096..=BAR0_MAX).contains(&self.bar0_size),
            "bar0={}: not a power of two from 4K to 1M",
            self.bar0_size
        );
        ensure!(
            self.io_size == 0
                || (self.io_size.is_power_of_two() && (4..=256).contains(&self.io_size)),
            "io={}: not a power of two from 4 to 256",
            self.io_size
        );
        ensure!(
            self.rom_size == 0
                || (self.rom_size.is_power_of_two()
                    && (2 << 10..=16 << 20).contains(&self.rom_size)),
            "rom={}: not a power of two from 2K to 16M",
            self.rom_size
        );
        self.tph.validate(self.msix)
    }

    /// The same endpoint with another TPH capability.
    pub fn reshaped(&self, shape: &TphShape) -> Result<Spec> {
        let mut new = self.clone();
        if let Some(table) = shape.table {
            new.tph.table = table;
            new.tph.entries = default_entries(table, new.msix);
        }
        if let Some(position) = shape.position {
            new.tph.position = position;
            new.tph.offset = layout::default_offset(position);
        }
        new.tph.modes = shape.modes.unwrap_or(new.tph.modes);
        new.tph.entries = shape.entries.unwrap_or(new.tph.entries);
        new.tph.extended = shape.extended.unwrap_or(new.tph.extended);
        new.tph.offset = shape.offset.unwrap_or(new.tph.offset);
        new.completer = shape.completer.unwrap_or(new.completer);
        new.eetlp = shape.eetlp.unwrap_or(new.eetlp);
        ensure!(
            new.tph.modes & !(modes::NS | modes::IV | modes::DS) == 0,
            "modes {:#x}: unknown bits",
            new.tph.modes
        );
        new.validate()?;
        Ok(new)
    }
}

/// A root port has TPH Completer Supported 00b, 01b or 11b; 10b is there for tests of the driver.
pub fn check_root_port(completer: u8) -> Result<()> {
    ensure!(completer <= 3, "rp={completer}: not 0..3");
    Ok(())
}

/// What an honest device would claim.
fn default_entries(table: Table, msix: u16) -> u16 {
    match table {
        Table::Cap => tph::MAX_ENTRIES,
        Table::Msix => msix.max(1),
        Table::None | Table::Absent => 1,
    }
}

impl FromStr for Spec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut spec = Spec {
            name: String::new(),
            tph: Tph {
                table: Table::Cap,
                modes: modes::NS | modes::IV | modes::DS,
                entries: 0,
                extended: true,
                position: Position::Middle,
                offset: 0,
            },
            completer: 0,
            eetlp: 1,
            root_port_completer: 3,
            msix: 16,
            msix_offset: 0,
            bar0_size: BAR0_SIZE,
            bar_size: 64 << 10,
            io_size: 0,
            rom_size: 0,
            vendor: 0x1b36,
            device: 0x7470,
            // Processing accelerator.
            class: 0x12_0000,
            no_soft_reset: true,
            flr: true,
        };
        let mut seen = HashSet::new();
        let mut entries = None;
        let mut offset = None;
        for pair in text.split(',') {
            let (key, value) = pair
                .split_once('=')
                .with_context(|| format!("{pair:?}: not key=value"))?;
            ensure!(seen.insert(key), "{key}= is given twice");
            set(&mut spec, &mut entries, &mut offset, key, value).context(pair.to_owned())?;
        }
        spec.tph.entries = entries.unwrap_or(default_entries(spec.tph.table, spec.msix));
        spec.tph.offset = offset.unwrap_or(layout::default_offset(spec.tph.position));
        spec.validate()?;
        Ok(spec)
    }
}

fn set(
    spec: &mut Spec,
    entries: &mut Option<u16>,
    offset: &mut Option<u16>,
    key: &str,
    value: &str,
) -> Result<()> {
    match key {
        "name" => spec.name = value.to_owned(),
        "tph" => {
            spec.tph.table = match value {
                "cap" => Table::Cap,
                "msix" => Table::Msix,
                "none-table" => Table::None,
                "absent" => Table::Absent,
                _ => bail!("not cap, msix, none-table or absent"),
            }
        }
        "modes" => spec.tph.modes = parse_modes(value)?,
        "entries" => *entries = Some(value.parse()?),
        "extended" => spec.tph.extended = parse_bool(value)?,
        "completer" => spec.completer = value.parse()?,
        "eetlp" => spec.eetlp = value.parse()?,
        "position" => {
            spec.tph.position = match value {
                "first" => Position::First,
                "middle" => Position::Middle,
                "last" => Position::Last,
                "only" => Position::Only,
                _ => bail!("not first, middle, last or only"),
            }
        }
        "offset" => *offset = Some(parse_number(value)?.try_into()?),
        "msix" => spec.msix = value.parse()?,
        "msix_offset" => spec.msix_offset = parse_number(value)?,
        "bar0" => spec.bar0_size = parse_size(value)?,
        "bar" => spec.bar_size = parse_size(value)?,
        "io" => spec.io_size = parse_size(value)?,
        "rom" => spec.rom_size = parse_size(value)?,
        "id" => {
            let (vendor, device) = value.split_once(':').context("not VVVV:DDDD")?;
            spec.vendor = u16::from_str_radix(vendor, 16)?;
            spec.device = u16::from_str_radix(device, 16)?;
        }
        "class" => spec.class = u32::from_str_radix(value, 16)?,
        "rp" => spec.root_port_completer = value.parse()?,
        "nosoftrst" => spec.no_soft_reset = parse_bool(value)?,
        "flr" => spec.flr = parse_bool(value)?,
        _ => bail!("unknown key"),
    }
    Ok(())
}

fn parse_bool(value: &str) -> Result<bool> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => bail!("not 0 or 1"),
    }
}

fn parse_modes(value: &str) -> Result<u8> {
    value.split('+').try_fold(0, |all, mode| match mode {
        "ns" => Ok(all | modes::NS),
        "iv" => Ok(all | modes::IV),
        "ds" => Ok(all | modes::DS),
        _ => bail!("not ns, iv and ds joined by +"),
    })
}

fn parse_number(value: &str) -> Result<u64> {
    Ok(match value.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16)?,
        None => value.parse()?,
    })
}

fn parse_size(value: &str) -> Result<u64> {
    let (number, shift) = match value.as_bytes().last() {
        Some(b'K' | b'k') => (&value[..value.len() - 1], 10),
        Some(b'M' | b'm') => (&value[..value.len() - 1], 20),
        Some(b'G' | b'g') => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    parse_number(number)?
        .checked_mul(1 << shift)
        .context("too large")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults() {
        let spec: Spec = "name=ep0".parse().unwrap();
        assert_eq!(spec.tph.table, Table::Cap);
        assert_eq!(spec.tph.entries, 64);
        assert_eq!(spec.tph.entries_in_capability(), 64);
        assert_eq!(spec.bar_size, 0x10000);
        assert_eq!((spec.root_port_completer, spec.eetlp), (3, 1));
    }

    #[test]
    fn every_key() {
        let spec: Spec = "name=a-1,tph=msix,modes=ns+iv,entries=5,extended=0,completer=3,eetlp=4,\
             position=last,offset=0x400,msix=1024,msix_offset=0x2ff8,bar=2M,id=1234:abcd,\
             class=030000,rp=1,nosoftrst=0,flr=0"
            .parse()
            .unwrap();
        assert_eq!(spec.tph.modes, modes::NS | modes::IV);
        assert_eq!((spec.tph.entries, spec.tph.offset), (5, 0x400));
        assert_eq!((spec.completer, spec.eetlp), (3, 4));
        assert_eq!((spec.vendor, spec.device), (0x1234, 0xabcd));
        assert_eq!((spec.msix, spec.msix_offset), (1024, 0x2ff8));
        assert_eq!(spec.class, 0x3_0000);
        assert_eq!(spec.bar_size, 2 << 20);
        assert!(!spec.no_soft_reset && !spec.flr && !spec.tph.extended);
    }

    #[test]
    fn table_behind_the_map() {
        for good in [
            "name=a,msix_offset=0x10000,bar0=1M",
            "name=a,msix_offset=0x1ff00,bar0=128K",
        ] {
            assert!(good.parse::<Spec>().is_ok(), "{good}");
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "",
            "tph=cap",
            "name=",
            "name=a/b",
            "name=a,name=b",
            "name=a,what=1",
            "name=a,tph=both",
            "name=a,modes=ns+xx",
            "name=a,entries=0",
            "name=a,entries=2049",
            "name=a,extended=2",
            "name=a,completer=4",
            "name=a,eetlp=5",
            "name=a,offset=0x102",
            "name=a,offset=0xff8",
            "name=a,offset=0x10000",
            "name=a,offset=0x120",
            "name=a,position=first,offset=0x200",
            "name=a,msix=2049",
            "name=a,msix_offset=4",
            "name=a,msix=2048,msix_offset=8",
            "name=a,tph=msix,msix=0",
            "name=a,bar=5000",
            "name=a,bar0=2K",
            "name=a,bar0=2M",
            "name=a,msix_offset=0x8000,bar0=1M",
            "name=a,msix_offset=0xfff8,bar0=1M",
            "name=a,msix_offset=0x10000",
            "name=a,msix_offset=0x1ff08,bar0=128K",
            "name=a,io=2",
            "name=a,io=512",
            "name=a,io=12",
            "name=a,rom=1K",
            "name=a,rom=32M",
            "name=a,rom=5000",
            "name=a,bar=99999999999G",
            "name=a,rp=4",
            "name=a,class=1000000",
        ] {
            assert!(bad.parse::<Spec>().is_err(), "{bad}");
        }
    }

    #[test]
    fn more_entries_claimed_than_exist() {
        let spec: Spec = "name=a,entries=2048".parse().unwrap();
        assert_eq!(spec.tph.entries_in_capability(), 64);
        let spec: Spec = "name=a,position=last,offset=0xfe0".parse().unwrap();
        assert_eq!(spec.tph.entries_in_capability(), 10);
        let spec: Spec = "name=a,position=last,offset=0xff4".parse().unwrap();
        assert_eq!(spec.tph.entries_in_capability(), 0);
    }

    #[test]
    fn reshaped_keeps_what_is_not_named() {
        let spec: Spec = "name=a,modes=ns+iv,entries=7,completer=1".parse().unwrap();
        let new = spec
            .reshaped(&TphShape {
                position: Some(Position::First),
                ..TphShape::default()
            })
            .unwrap();
        assert_eq!(new.tph.offset, 0x100);
        assert_eq!(
            (new.tph.modes, new.tph.entries),
            (spec.tph.modes, spec.tph.entries)
        );
        let bad = TphShape {
            modes: Some(8),
            ..TphShape::default()
        };
        assert!(spec.reshaped(&bad).is_err());
    }
}
