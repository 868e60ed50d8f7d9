// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! As much of ACPI's byte code (ACPI Specification, chapter 20) as one table takes.
//!
//! rust-vmm's crate `acpi_tables` could say all of it, but both of its releases on crates.io need
//! a younger compiler than Debian's, which this is built with.

/// A term: its bytes.
pub type Term = Vec<u8>;

const BYTE_PREFIX: u8 = 0x0a;
const SCOPE: u8 = 0x10;
const BUFFER: u8 = 0x11;
const METHOD: u8 = 0x14;
const LOCAL0: u8 = 0x60;
const ARG0: u8 = 0x68;
const STORE: u8 = 0x70;
const ADD: u8 = 0x72;
const DEREF_OF: u8 = 0x83;
const INDEX: u8 = 0x88;
const NOT: u8 = 0x92;
const EQUAL: u8 = 0x93;
const LESS: u8 = 0x95;
const IF: u8 = 0xa0;
const RETURN: u8 = 0xa4;
/// In the place of a target: the result goes nowhere else.
const NO_TARGET: u8 = 0;
/// A signature, a length, what it is, who made it.
const HEADER: usize = 36;
const CHECKSUM_AT: usize = 9;

fn join(operator: u8, terms: &[&[u8]]) -> Term {
    let mut bytes = vec![operator];
    bytes.extend(terms.concat());
    bytes
}

/// An operator whose terms have their length in front, which counts itself.
fn package(operator: u8, terms: &[&[u8]]) -> Term {
    let body = terms.concat();
    let length = match body.len() + 1 {
        short @ 0..=0x3f => vec![short as u8],
        _ => {
            let long = body.len() + 2;
            assert!(long < 1 << 12, "a package of {long} bytes");
            vec![0x40 | (long & 0xf) as u8, (long >> 4) as u8]
        }
    };
    join(operator, &[&length, &body])
}

/// A number; 0 and 1 have operators of their own.
pub fn number(value: u8) -> Term {
    match value {
        0 | 1 => vec![value],
        _ => vec![BYTE_PREFIX, value],
    }
}

/// Bytes.
pub fn buffer(bytes: &[u8]) -> Term {
    let length = u8::try_from(bytes.len()).expect("a short buffer");
    package(BUFFER, &[&number(length), bytes])
}

/// A UUID, as ACPI lays it out: the first three fields little-endian.
pub fn uuid(value: u128) -> Term {
    let mut bytes = value.to_be_bytes();
    bytes[..4].reverse();
    bytes[4..6].reverse();
    bytes[6..8].reverse();
    buffer(&bytes)
}

/// An argument of the method.
pub fn arg(at: u8) -> Term {
    vec![ARG0 + at]
}

/// A variable of the method.
pub fn local(at: u8) -> Term {
    vec![LOCAL0 + at]
}

/// A reference to one element of a package or buffer.
pub fn index(whole: &[u8], at: u8) -> Term {
    join(INDEX, &[whole, &number(at), &[NO_TARGET]])
}

/// What a reference leads to.
pub fn deref_of(reference: &[u8]) -> Term {
    join(DEREF_OF, &[reference])
}

/// `to = value`
pub fn store(to: &[u8], value: &[u8]) -> Term {
    join(STORE, &[value, to])
}

/// `to = left + right`
pub fn add(to: &[u8], left: &[u8], right: &[u8]) -> Term {
    join(ADD, &[left, right, to])
}

/// `left == right`
pub fn equal(left: &[u8], right: &[u8]) -> Term {
    join(EQUAL, &[left, right])
}

/// `left != right`
pub fn not_equal(left: &[u8], right: &[u8]) -> Term {
    join(NOT, &[&equal(left, right)])
}

/// `left >= right`
pub fn at_least(left: &[u8], right: &[u8]) -> Term {
    join(NOT, &[&join(LESS, &[left, right])])
}

/// `If (condition) { then }`
pub fn when(condition: &[u8], then: &[u8]) -> Term {
    package(IF, &[condition, then])
}

/// `Return (value)`
pub fn give(value: &[u8]) -> Term {
    join(RETURN, &[value])
}

/// A method that is not serialized.
pub fn method(name: &[u8; 4], arguments: u8, body: &[Term]) -> Term {
    package(METHOD, &[name, &[arguments], &body.concat()])
}

/// What is below a path, which [`path`] has made.
pub fn scope(path: &[u8], body: &[u8]) -> Term {
    package(SCOPE, &[path, body])
}

/// `\_SB.PCI0`, from its names.
pub fn path(names: &[[u8; 4]]) -> Term {
    let mut bytes = vec![b'\\'];
    match names.len() {
        1 => {}
        2 => bytes.push(0x2e),
        many => bytes.extend([0x2f, u8::try_from(many).expect("a short path")]),
    }
    bytes.extend(names.concat());
    bytes
}

/// A table with its header, revision 2.
pub fn table(signature: &[u8; 4], name: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("a short table");
    let mut bytes = [
        signature.as_slice(),
        &length.to_le_bytes(),
        &[2, 0],
        b"VFIO\0\0",
        name,
        &1u32.to_le_bytes(),
        b"TPHC",
        &1u32.to_le_bytes(),
        body,
    ]
    .concat();
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[CHECKSUM_AT] = sum.wrapping_neg();
    bytes
}
