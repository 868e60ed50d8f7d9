// SPDX-License-Identifier: GPL-2.0-only

//! The CPUs of a guest as an administrator names them: `tph_vcpus`.

use super::guest::Map;

/// Reads a list of CPUs: numbers and ranges of numbers, separated by commas, and "-" for a virtual
/// CPU without a tag. Calls `each` for each of them; none for an empty list. `None` if it is no
/// list, if it is too long, or as soon as `each` says so.
pub(crate) fn parse(text: &[u8], each: &mut dyn FnMut(Option<u32>) -> Option<()>) -> Option<()> {
    if text.is_empty() {
        return Some(());
    }
    let mut left = Map::MAX;
    let mut take = |cpu| {
        left = left.checked_sub(1)?;
        each(cpu)
    };
    for item in text.split(|&byte| byte == b',') {
        if item == b"-" {
            take(None)?;
            continue;
        }
        let (first, last) = match item.iter().position(|&byte| byte == b'-') {
            Some(at) => (number(item.get(..at)?)?, number(item.get(at + 1..)?)?),
            None => {
                let number = number(item)?;
                (number, number)
            }
        };
        if first > last {
            return None;
        }
        for cpu in first..=last {
            take(Some(cpu))?;
        }
    }
    Some(())
}

/// A decimal number, digits alone.
fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u32, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}
