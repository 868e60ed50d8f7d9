// SPDX-License-Identifier: GPL-2.0-only

//! What is changed in ACPI tables.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context, Result};

/// Bytes of the header that each table begins with: signature, length, revision, checksum, ...
pub const HEADER: usize = 36;

/// The name that QEMU's `_DSM` of the host bridge has in the end.
const OLD_DSM: &str = "ODSM";

/// A number of a table.
fn u32_at(table: &[u8], at: usize) -> Result<u32> {
    let bytes = table.get(at..at + 4).context("a table is cut short")?;
    Ok(u32::from_le_bytes(bytes.try_into()?))
}

fn u16_at(table: &[u8], at: usize) -> Result<u16> {
    let bytes = table.get(at..at + 2).context("a table is cut short")?;
    Ok(u16::from_le_bytes(bytes.try_into()?))
}

/// Doubles a number of 32 bits in its place.
fn double(table: &mut [u8], at: usize) -> Result<()> {
    let twice = 2 * u32_at(table, at)?;
    table[at..at + 4].copy_from_slice(&twice.to_le_bytes());
    Ok(())
}

/// The tables that stand one after the other, with zeros between them.
pub fn split(mut blob: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut tables = Vec::new();
    while let Some(start) = blob.iter().position(|&byte| byte != 0) {
        blob = &blob[start..];
        let length = u32_at(blob, 4)? as usize;
        ensure!(
            length >= HEADER && length <= blob.len(),
            "what follows a table is none"
        );
        let (table, rest) = blob.split_at(length);
        tables.push(table.to_vec());
        blob = rest;
    }
    Ok(tables)
}

/// Whether a table has this signature.
pub fn is(table: &[u8], signature: &str) -> bool {
    table.starts_with(signature.as_bytes())
}

/// Which one it is.
pub fn find(tables: &[Vec<u8>], signature: &str) -> Result<usize> {
    tables
        .iter()
        .position(|table| is(table, signature))
        .with_context(|| format!("there is no {signature}"))
}

/// CPU n has the UID 2n: in MADT, where the interrupt controller of a CPU names it (type 0Bh), and
/// in PPTT, where a node (type 0) that is a CPU does (its flag 2).
pub fn double_uids(tables: &mut [Vec<u8>]) -> Result<()> {
    let madt = find(tables, "APIC")?;
    for at in entries(&tables[madt], HEADER + 8)? {
        if tables[madt][at] == 0x0b {
            double(&mut tables[madt], at + 8)?;
        }
    }
    let pptt = find(tables, "PPTT")?;
    for at in entries(&tables[pptt], HEADER)? {
        if tables[pptt][at] == 0 && u32_at(&tables[pptt], at + 4)? & (1 << 1) != 0 {
            double(&mut tables[pptt], at + 12)?;
        }
    }
    Ok(())
}

/// Where the entries of a table begin: each has its length in its second byte.
fn entries(table: &[u8], first: usize) -> Result<Vec<usize>> {
    let mut at = first;
    let mut found = Vec::new();
    while at < table.len() {
        let length = usize::from(*table.get(at + 1).context("a table is cut short")?);
        ensure!(
            length > 1 && at + length <= table.len(),
            "an entry is cut short"
        );
        found.push(at);
        at += length;
    }
    Ok(found)
}

/// Puts all PCI functions behind the IOMMU, if there is one. QEMU goes by the numbers that the
/// buses have, and before the firmware has run there is only the first one.
pub fn widen_iommu(tables: &mut [Vec<u8>]) -> Result<()> {
    widen_virtio_iommu(tables)?;
    widen_smmu(tables)
}

/// An SMMUv3 is an IORT node of type 4; of a root complex (type 2) the ID mappings say what is
/// behind it: first ID, number of IDs less one, first ID there, node, flags. What is behind none
/// goes to the ITS, and that is all but the first bus: one mapping takes the place of both.
fn widen_smmu(tables: &mut [Vec<u8>]) -> Result<()> {
    const MAPPING: usize = 20;

    let Ok(iort) = find(tables, "IORT") else {
        return Ok(());
    };
    let table = &mut tables[iort];
    let mut at = u32_at(table, HEADER + 4)? as usize;
    let (mut smmus, mut root_complexes) = (Vec::new(), Vec::new());
    for _ in 0..u32_at(table, HEADER)? {
        match table.get(at).context("a table is cut short")? {
            // CAST: a table is shorter than 4 GiB.
            4 => smmus.push(at as u32),
            2 => root_complexes.push(at),
            _ => (),
        }
        let length = u16_at(table, at + 1)?;
        ensure!(length != 0, "a node is cut short");
        at += usize::from(length);
    }
    for node in root_complexes {
        let mappings = node + u32_at(table, node + 12)? as usize;
        for number in 0..u32_at(table, node + 8)? as usize {
            let smmu = u32_at(table, mappings + number * MAPPING + 12)?;
            if smmus.contains(&smmu) {
                let all = [0, 0xffff, 0, smmu, 0].map(u32::to_le_bytes);
                table
                    .get_mut(mappings..mappings + MAPPING)
                    .context("a table is cut short")?
                    .copy_from_slice(all.as_flattened());
                table[node + 8..node + 12].copy_from_slice(&1u32.to_le_bytes());
                break;
            }
        }
    }
    Ok(())
}

/// VIOT's nodes of type 1, whose last requester is at offset 14, are what is behind the virtio
/// IOMMU.
fn widen_virtio_iommu(tables: &mut [Vec<u8>]) -> Result<()> {
    let Ok(viot) = find(tables, "VIOT") else {
        return Ok(());
    };
    let table = &mut tables[viot];
    let count = u16_at(table, HEADER)?;
    let mut at = usize::from(u16_at(table, HEADER + 2)?);
    for _ in 0..count {
        if *table.get(at).context("a table is cut short")? == 1 {
            table
                .get_mut(at + 14..at + 16)
                .context("a table is cut short")?
                .fill(0xff);
        }
        at += usize::from(u16_at(table, at + 2)?);
    }
    Ok(())
}

/// The DSDT with the host bridge's `_DSM` under another name and the UIDs of CPUs doubled. As text,
/// since lengths of what is around them change; `dir` is for what is made on the way.
pub fn change_dsdt(dsdt: &[u8], dir: &Path) -> Result<Vec<u8>> {
    let file = |name: &str| dir.join(name).display().to_string();
    fs::write(file("dsdt.dat"), dsdt).context("cannot write the DSDT")?;
    iasl(&["-p", &file("dsdt"), "-d", &file("dsdt.dat")])?;
    let text = change_text(&fs::read_to_string(file("dsdt.dsl"))?)?;
    fs::write(file("changed.dsl"), text)?;
    iasl(&["-oa", "-p", &file("changed"), &file("changed.dsl")])?;
    fs::read(file("changed.aml")).context("iasl has made no table")
}

fn iasl(arguments: &[&str]) -> Result<()> {
    let output = Command::new("iasl")
        .args(arguments)
        .output()
        .context("cannot start iasl")?;
    ensure!(
        output.status.success(),
        "iasl {}: {}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// The same for the text that iasl makes of the table.
fn change_text(text: &str) -> Result<String> {
    const DSM: &str = "Method (_DSM, ";
    const UID: &str = "Name (_UID, ";
    let (mut methods, mut of_cpu) = (0, false);
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if line.contains(DSM) {
            line = line.replace(DSM, &format!("Method ({OLD_DSM}, "));
            methods += 1;
        }
        if line.contains("Name (_HID, ") {
            of_cpu = line.contains("\"ACPI0007\"");
        }
        if let (true, Some((before, after))) = (of_cpu, line.split_once(UID)) {
            let (number, after) = after.split_once(')').context("a _UID without an end")?;
            line =
                format!("{before}{UID}{:#X}){after}", 2 * number_of(number)?).replace("0X", "0x");
            of_cpu = false;
        }
        lines.push(line);
    }
    ensure!(
        methods == 1,
        "{methods} methods _DSM, where one was expected"
    );
    Ok(lines.join("\n") + "\n")
}

/// A number as iasl writes it.
fn number_of(text: &str) -> Result<u32> {
    match text {
        "Zero" => Ok(0),
        "One" => Ok(1),
        _ => {
            let digits = text.strip_prefix("0x").context("no number")?;
            Ok(u32::from_str_radix(digits, 16)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(signature: &str, rest: &[u8]) -> Vec<u8> {
        let mut table = vec![0; HEADER];
        table[..4].copy_from_slice(signature.as_bytes());
        table.extend(rest);
        let length = table.len() as u32;
        table[4..8].copy_from_slice(&length.to_le_bytes());
        table
    }

    #[test]
    fn tables_with_zeros_between_them() {
        let (a, b) = (table("AAAA", &[1, 2, 3]), table("BBBB", &[0, 0]));
        let blob = [a.as_slice(), &[0; 5], &b, &[0; 9]].concat();
        assert_eq!(split(&blob).unwrap(), [a, b.clone()]);
        assert!(split(&b[..b.len() - 1]).is_err());
    }

    #[test]
    fn cpus_and_nothing_else_get_twice_the_uid() {
        let mut madt = vec![0; 8];
        // A distributor (type 0Ch) and two CPUs.
        madt.extend([0x0c, 12, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0]);
        madt.extend([0x0b, 12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]);
        madt.extend([0x0b, 12, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        let mut pptt = vec![];
        // A cluster, a CPU, a cache.
        pptt.extend([0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
        pptt.extend([0, 16, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
        pptt.extend([1, 16, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
        let mut tables = vec![table("PPTT", &pptt), table("APIC", &madt)];
        double_uids(&mut tables).unwrap();
        let (pptt, madt) = (&tables[0], &tables[1]);
        let first = HEADER + 8;
        assert_eq!(u32_at(madt, first + 8).unwrap(), 9);
        assert_eq!(u32_at(madt, first + 12 + 8).unwrap(), 0x200);
        assert_eq!(u32_at(madt, first + 24 + 8).unwrap(), 6);
        let processors = [0, 16, 32].map(|at| u32_at(pptt, HEADER + at + 12).unwrap());
        assert_eq!(processors, [5, 10, 5]);
    }

    #[test]
    fn all_functions_are_behind_the_virtio_iommu() {
        // Two nodes after 12 bytes: a range, then the IOMMU itself.
        let mut viot = vec![2, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        viot.extend([1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0]);
        viot.extend([0; 8]);
        viot.extend([3, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0]);
        let mut tables = vec![table("VIOT", &viot)];
        widen_virtio_iommu(&mut tables).unwrap();
        assert_eq!(u16_at(&tables[0], 48 + 14).unwrap(), 0xffff);
        assert_eq!(u16_at(&tables[0], 48 + 24 + 14).unwrap(), 7);
        // Not every machine has an IOMMU.
        widen_iommu(&mut [table("DSDT", &[])]).unwrap();
    }

    #[test]
    fn all_functions_are_behind_the_smmu() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let node = |kind: u8, rest: &[u32]| -> Vec<u8> {
            let rest: Vec<u8> = words(rest);
            [&[kind, 4 + rest.len() as u8, 0, 0], rest.as_slice()].concat()
        };
        // An ITS, an SMMUv3, a root complex with the first bus behind this one. Of the next one,
        // and of all that the SMMUv3 lets through, the ITS takes the messages.
        let its = HEADER + 12;
        let its_node = node(0, &[0, 0, 0]);
        let smmu = its + its_node.len();
        let smmu_node = node(4, &[1, 1, 16, 0, 0xffff, 0, its as u32, 0]);
        let root = smmu + smmu_node.len();
        let to_its = [0x100, 0xfeff, 0x100, its as u32, 0];
        let to_smmu = [0, 0xff, 0, smmu as u32, 0];
        let root_node = node(2, &[&[2, 2, 16], &to_its[..], &to_smmu].concat());
        let header: Vec<u8> = words(&[3, its as u32, 0]);
        let nodes = [header, its_node, smmu_node, root_node].concat();
        let mut tables = vec![table("IORT", &nodes)];
        let before = tables[0].clone();
        widen_iommu(&mut tables).unwrap();
        let changed: Vec<u8> = words(&[1, 16, 0, 0xffff, 0, smmu as u32, 0]);
        assert_eq!(tables[0][..root + 8], before[..root + 8]);
        assert_eq!(tables[0][root + 8..root + 8 + changed.len()], changed);
        let mut short = before.clone();
        short[smmu + 1..smmu + 3].fill(0);
        assert!(widen_iommu(&mut [short]).is_err());
        for cut in 1..before.len() - HEADER {
            let _ = widen_iommu(&mut [before[..before.len() - cut].to_vec()]);
        }
        // Without an SMMUv3 it stays as it is: here that node is one of another kind.
        let mut other = before;
        other[smmu] = 3;
        let mut tables = vec![other.clone()];
        widen_iommu(&mut tables).unwrap();
        assert_eq!(tables, [other]);
    }

    #[test]
    fn text_of_the_dsdt() {
        let text = concat!(
            "Name (_HID, \"ACPI0007\" /* Processor Device */)\nName (_UID, One)  // U\n",
            "Name (_HID, \"ACPI0007\")\nName (_UID, 0x0A)\n",
            "Name (_HID, \"LNRO0005\")\nName (_UID, 0x03)\n",
            "Method (_DSM, 4, NotSerialized)\n"
        );
        let changed = concat!(
            "Name (_HID, \"ACPI0007\" /* Processor Device */)\nName (_UID, 0x2)  // U\n",
            "Name (_HID, \"ACPI0007\")\nName (_UID, 0x14)\n",
            "Name (_HID, \"LNRO0005\")\nName (_UID, 0x03)\n",
            "Method (ODSM, 4, NotSerialized)\n"
        );
        assert_eq!(change_text(text).unwrap(), changed);
        assert!(change_text("Name (_HID, EisaId (\"PNP0A08\"))\n").is_err());
    }
}
