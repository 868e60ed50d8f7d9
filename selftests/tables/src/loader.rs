// SPDX-License-Identifier: GPL-2.0-only

//! What tells a guest's firmware to put tables into memory, to write their addresses into each
//! other, and to sum them up: QEMU's table loader (docs/specs/acpi_* and
//! hw/acpi/bios-linker-loader.c of QEMU), whose commands have 128 bytes each.

use anyhow::{ensure, Result};

use crate::acpi::{find, is, HEADER};

const TABLES: &str = "etc/acpi/tables";
const RSDP: &str = "etc/acpi/rsdp";

const COMMAND: usize = 128;
const NAME: usize = 56;

/// Commands, and where the loader puts a file: anywhere, or where a BIOS looks for an RSDP.
const ALLOCATE: u32 = 1;
const ADD_POINTER: u32 = 2;
const ADD_CHECKSUM: u32 = 3;
const ANYWHERE: u8 = 1;
const FOR_RSDP: u8 = 2;

/// Offsets: of the checksum in a table; of the DSDT's address in FADT; in the RSDP, of the XSDT's
/// address and of the sums over its first 20 bytes and over all 36.
const CHECKSUM: usize = 9;
const X_DSDT: usize = 140;
const XSDT_ADDRESS: usize = 24;
const RSDP_SUM: usize = 8;
const RSDP_EXTENDED_SUM: usize = 32;

/// The files that firmware takes.
pub struct Made {
    /// etc/acpi/tables
    pub tables: Vec<u8>,
    /// etc/acpi/rsdp
    pub rsdp: Vec<u8>,
    /// etc/table-loader
    pub loader: Vec<u8>,
}

/// The commands so far.
struct Script(Vec<u8>);

impl Script {
    /// A command with the names of files and more, in their order.
    fn command(&mut self, command: u32, names: &[&str], rest: &[u8]) {
        let mut bytes = command.to_le_bytes().to_vec();
        for name in names {
            let end = bytes.len() + NAME;
            bytes.extend(name.as_bytes());
            bytes.resize(end, 0);
        }
        bytes.extend(rest);
        bytes.resize(COMMAND, 0);
        self.0.extend(bytes);
    }

    fn allocate(&mut self, file: &str, align: u32, zone: u8) {
        let rest = [&align.to_le_bytes()[..], &[zone]].concat();
        self.command(ALLOCATE, &[file], &rest);
    }

    /// The offset into TABLES at `at` of `file` becomes an address.
    fn pointer(&mut self, file: &str, at: usize) {
        let rest = [&(at as u32).to_le_bytes()[..], &[8]].concat();
        self.command(ADD_POINTER, &[file, TABLES], &rest);
    }

    /// The byte at `at` makes the sum of a range zero.
    fn checksum(&mut self, file: &str, at: usize, start: usize, length: usize) {
        let rest: Vec<u8> = [at, start, length]
            .iter()
            .flat_map(|&number| (number as u32).to_le_bytes())
            .collect();
        self.command(ADD_CHECKSUM, &[file], &rest);
    }
}

/// Lays the tables out, in the place of an XSDT among them a new one. `rsdp` is QEMU's own.
pub fn link(mut tables: Vec<Vec<u8>>, rsdp: &[u8]) -> Result<Made> {
    ensure!(rsdp.len() >= HEADER, "the RSDP is cut short");
    let old = find(&tables, "XSDT")?;
    let mut xsdt = tables.remove(old)[..HEADER].to_vec();
    let mut blob = Vec::new();
    let mut places = Vec::new();
    for table in &tables {
        places.push(put(&mut blob, table));
    }
    let (fadt, dsdt) = (find(&tables, "FACP")?, find(&tables, "DSDT")?);
    let x_dsdt = places[fadt] + X_DSDT;
    set_pointer(&mut blob, x_dsdt, places[dsdt]);

    // The DSDT alone is found by FADT.
    let roots: Vec<usize> = tables
        .iter()
        .zip(&places)
        .filter(|(table, _)| !is(table, "DSDT"))
        .map(|(_, &place)| place)
        .collect();
    for &place in &roots {
        xsdt.extend((place as u64).to_le_bytes());
    }
    let length = xsdt.len() as u32;
    xsdt[4..8].copy_from_slice(&length.to_le_bytes());
    let xsdt_place = put(&mut blob, &xsdt);

    let mut rsdp = rsdp[..HEADER].to_vec();
    set_pointer(&mut rsdp, XSDT_ADDRESS, xsdt_place);
    rsdp[RSDP_SUM] = 0;
    rsdp[RSDP_EXTENDED_SUM] = 0;

    // A sum comes after the addresses that are in it.
    let mut script = Script(Vec::new());
    script.allocate(RSDP, 16, FOR_RSDP);
    script.allocate(TABLES, 64, ANYWHERE);
    script.pointer(TABLES, x_dsdt);
    for number in 0..roots.len() {
        script.pointer(TABLES, xsdt_place + HEADER + 8 * number);
    }
    for (table, &place) in tables.iter().zip(&places) {
        script.checksum(TABLES, place + CHECKSUM, place, table.len());
    }
    script.checksum(TABLES, xsdt_place + CHECKSUM, xsdt_place, xsdt.len());
    script.pointer(RSDP, XSDT_ADDRESS);
    script.checksum(RSDP, RSDP_SUM, 0, 20);
    script.checksum(RSDP, RSDP_EXTENDED_SUM, 0, HEADER);
    Ok(Made {
        tables: blob,
        rsdp,
        loader: script.0,
    })
}

/// Appends a table, with no checksum yet, and says where it is.
fn put(blob: &mut Vec<u8>, table: &[u8]) -> usize {
    blob.resize(blob.len().next_multiple_of(8), 0);
    let place = blob.len();
    blob.extend(table);
    blob[place + CHECKSUM] = 0;
    place
}

fn set_pointer(bytes: &mut [u8], at: usize, place: usize) {
    bytes[at..at + 8].copy_from_slice(&(place as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(signature: &str, length: usize) -> Vec<u8> {
        let mut table = vec![0x5a; length];
        table[..4].copy_from_slice(signature.as_bytes());
        table[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        table
    }

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    /// Does what firmware does, with TABLES at this address.
    fn load(made: &Made, address: u64) -> (Vec<u8>, Vec<u8>) {
        let (mut tables, mut rsdp) = (made.tables.clone(), made.rsdp.clone());
        for command in made.loader.chunks_exact(COMMAND) {
            let of_rsdp = command[4..].starts_with(RSDP.as_bytes());
            let file = if of_rsdp { &mut rsdp } else { &mut tables };
            match u32_at(command, 0) as u32 {
                ALLOCATE => (),
                ADD_POINTER => {
                    let at = u32_at(command, 4 + 2 * NAME);
                    let pointer = u64_at(file, at) + address;
                    file[at..at + 8].copy_from_slice(&pointer.to_le_bytes());
                }
                ADD_CHECKSUM => {
                    let [at, start, length] =
                        [0, 4, 8].map(|offset| u32_at(command, 4 + NAME + offset));
                    let sum = file[start..start + length]
                        .iter()
                        .fold(0u8, |sum, &byte| sum.wrapping_add(byte));
                    file[at] = file[at].wrapping_sub(sum);
                }
                other => panic!("command {other}"),
            }
        }
        (tables, rsdp)
    }

    #[test]
    fn firmware_finds_all_tables_whole() {
        const ADDRESS: u64 = 0x1_2340_0000;
        let given = vec![
            table("DSDT", 77),
            table("FACP", 276),
            table("APIC", 61),
            table("XSDT", 60),
            table("SSDT", 45),
        ];
        let mut rsdp = table("RSD ", HEADER);
        rsdp.resize(40, 0);
        let made = link(given.clone(), &rsdp).unwrap();
        let (tables, rsdp) = load(&made, ADDRESS);
        let at = |pointer: u64| (pointer - ADDRESS) as usize;
        let whole = |start: usize| {
            let table = &tables[start..start + u32_at(&tables, start + 4)];
            assert_eq!(
                table.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)),
                0
            );
            table.to_vec()
        };
        assert_eq!(
            rsdp[..20]
                .iter()
                .fold(0u8, |sum, &byte| sum.wrapping_add(byte)),
            0
        );
        let xsdt = whole(at(u64_at(&rsdp, XSDT_ADDRESS)));
        let found: Vec<Vec<u8>> = (HEADER..xsdt.len())
            .step_by(8)
            .map(|place| whole(at(u64_at(&xsdt, place))))
            .collect();
        let signatures: Vec<&[u8]> = found.iter().map(|table| &table[..4]).collect();
        assert_eq!(signatures, [b"FACP", b"APIC", b"SSDT"]);
        let dsdt = whole(at(u64_at(&found[0], X_DSDT)));
        assert_eq!(dsdt[10..], given[0][10..]);
        assert_eq!(found[2][10..], given[4][10..]);
    }
}
