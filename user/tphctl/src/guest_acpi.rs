// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! The ACPI table that gives a guest's kernel its virtual tags: one for each vCPU.
//!
//! `guest_acpi.asl` says the same in ACPI's own language.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::json;

use crate::aml::{self, Term};
use crate::failure::Failure;
use crate::output;

/// The tag of the last vCPU is the highest one that has 8 bits.
pub const MAX_VCPUS: u8 = 255;

/// What firmware's methods for PCI host bridges go by.
const UUID: u128 = 0xe5c937d0_3553_4d7a_9117_ea4d19c3434d;
const REVISION: u8 = 7;
/// "Get the steering tags of a processor".
const FUNCTION: u8 = 0x0f;
/// Functions 0 and 0Fh.
const FUNCTIONS: [u8; 2] = [0x01, 0x80];
/// ST valid, extended ST valid.
const BOTH_VALID: u8 = 0b11;

/// The path of a host bridge in the guest's ACPI namespace, `\_SB.PCI0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge(Vec<[u8; 4]>);

impl FromStr for Bridge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = |text: &str| {
            let mut name = [b'_'; 4];
            let is_name = (1..=4).contains(&text.len())
                && !text.as_bytes()[0].is_ascii_digit()
                && text
                    .bytes()
                    .all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'_'));
            is_name.then(|| {
                name[..text.len()].copy_from_slice(text.as_bytes());
                name
            })
        };
        // As many names as have a number of one byte.
        text.strip_prefix('\\')
            .and_then(|names| names.split('.').map(name).collect::<Option<Vec<_>>>())
            .filter(|names| names.len() <= 255)
            .map(Self)
            .ok_or_else(|| format!("{text}: not a path of ACPI such as \\_SB.PCI0"))
    }
}

/// The SSDT.
fn table(vcpus: u8, bridges: &[Bridge]) -> Vec<u8> {
    let mut body = aml::scope(&aml::path(&[*b"_SB_"]), &answer(vcpus));
    let call = [b"TPHD".to_vec(), (0..4).flat_map(aml::arg).collect()].concat();
    let method = aml::method(b"_DSM", 4, &[aml::give(&call)]);
    for Bridge(names) in bridges {
        body.extend(aml::scope(&aml::path(names), &method));
    }
    aml::table(b"SSDT", b"TPHGUEST", &body)
}

/// The method that all bridges share.
fn answer(vcpus: u8) -> Term {
    let (uuid, revision, function, argument) = (aml::arg(0), aml::arg(1), aml::arg(2), aml::arg(3));
    let (uid, answer) = (aml::local(0), aml::local(1));
    let zero = aml::number(0);
    let nothing = aml::give(&aml::buffer(&[0]));
    let done = aml::give(&answer);
    let element = |at| aml::deref_of(&aml::index(&argument, at));
    let (feature, asked, properties) = (element(0), element(1), element(2));
    let put = |at, value: &[u8]| aml::store(&aml::index(&answer, at), value);

    aml::method(
        b"TPHD",
        4,
        &[
            aml::when(&aml::not_equal(&uuid, &aml::uuid(UUID)), &nothing),
            aml::when(&aml::not_equal(&revision, &aml::number(REVISION)), &nothing),
            aml::when(
                &aml::equal(&function, &zero),
                &aml::give(&aml::buffer(&FUNCTIONS)),
            ),
            aml::when(&aml::not_equal(&function, &aml::number(FUNCTION)), &nothing),
            aml::store(&answer, &aml::buffer(&[0; 8])),
            aml::when(&aml::not_equal(&feature, &zero), &done),
            aml::when(&aml::not_equal(&properties, &zero), &done),
            aml::store(&uid, &asked),
            aml::when(&aml::at_least(&uid, &aml::number(vcpus)), &done),
            // From here on it is the tag.
            aml::add(&uid, &uid, &aml::number(1)),
            put(0, &aml::number(BOTH_VALID)),
            put(1, &uid),
            put(2, &uid),
            done,
        ],
    )
}

/// Writes the table to a file.
pub fn run(vcpus: u8, bridges: &[Bridge], file: &Path, json: bool) -> Result<ExitCode, Failure> {
    let bytes = table(vcpus, bridges);
    fs::write(file, &bytes).map_err(|error| Failure::file(file, &error))?;
    if json {
        output::json(&json!({ "file": file, "vcpus": vcpus, "bytes": bytes.len() }));
    } else {
        crate::say!(
            "{}: tags of {vcpus} vCPUs; for QEMU: -acpitable file={}",
            file.display(),
            file.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What iasl makes of the source: the table, without the declarations of what is elsewhere,
    /// which an interpreter skips.
    fn compiled(definitions: &str) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("guest.asl");
        let text = format!("{definitions}\n{}", include_str!("guest_acpi.asl"));
        fs::write(&source, text).unwrap();
        let output = Command::new("iasl")
            .arg("-p")
            .arg(directory.path().join("guest"))
            .arg(&source)
            .output()
            .expect("iasl, of the package acpica-tools");
        assert!(output.status.success(), "{output:?}");
        let mut table = fs::read(directory.path().join("guest.aml")).unwrap();
        // If (Zero), with a length of one byte.
        let (operator, length, never) = (table[36], table[37], table[38]);
        assert_eq!((operator, length >> 6, never), (0xa0, 0, 0));
        table.drain(36..37 + usize::from(length));
        table
    }

    fn bridges(paths: &[&str]) -> Vec<Bridge> {
        paths.iter().map(|path| path.parse().unwrap()).collect()
    }

    #[test]
    fn r96_it_is_what_iasl_makes_of_the_source() {
        for vcpus in [1, 2, 4, 254, 255] {
            for (definition, paths) in [
                ("", &["\\_SB.PCI0"][..]),
                ("#define BRIDGE", &["\\_SB.PCI0", "\\_SB.PC04"]),
            ] {
                let ours = table(vcpus, &bridges(paths));
                let theirs = compiled(&format!("#define VCPUS {vcpus}\n{definition}"));
                // Length, checksum and who made it are each one's own.
                assert_eq!(ours[..4], theirs[..4]);
                assert_eq!(ours[8], theirs[8]);
                assert_eq!(ours[10..28], theirs[10..28]);
                assert_eq!(ours[36..], theirs[36..], "{vcpus} vCPUs, {paths:?}");
                let length = u32::from_le_bytes(ours[4..8].try_into().unwrap());
                assert_eq!(usize::try_from(length).unwrap(), ours.len());
                let sum = ours.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
                assert_eq!(sum, 0, "checksum");
            }
        }
    }

    #[test]
    fn bridges_are_paths() {
        assert_eq!("\\_SB.PC04".parse(), Ok(Bridge(vec![*b"_SB_", *b"PC04"])));
        for text in [
            "",
            "\\",
            "PCI0",
            "\\_SB.",
            "\\_SB..PCI0",
            "\\_SB.PCI00",
            "\\_SB.pci0",
            "\\_SB.0PCI",
            "\\_SB/PCI0",
        ] {
            let error = text.parse::<Bridge>().unwrap_err();
            assert!(error.ends_with("not a path of ACPI such as \\_SB.PCI0"));
        }
    }

    #[test]
    fn a_file_that_cannot_be_written() {
        let file = Path::new("/nowhere/guest.aml");
        let failure = run(4, &bridges(&["\\_SB.PCI0"]), file, false).unwrap_err();
        assert!(failure.to_string().starts_with("/nowhere/guest.aml: "));
    }
}
