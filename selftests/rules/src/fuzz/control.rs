// SPDX-License-Identifier: GPL-2.0-only

//! Writes of any width to a TPH capability, one after the other: what becomes of Control, and what
//! hardware sees on the way.

use super::device;
use crate::{
    oracle::{
        model,
        offer, //
    },
    rules::{
        control::{
            judge,
            overlap, //
        },
        regs::Control,
    },
    walk::states,
};
use arbitrary::{
    Result,
    Unstructured, //
};

const MOST: u8 = 64;
/// Where Control is in the capability.
const REGISTER: usize = 8;

/// What a write to the capability leaves in Control, byte by byte.
fn after(current: u32, seen: u32, offset: usize, bytes: &[u8]) -> u32 {
    let hits: Vec<(usize, u8)> = (offset..)
        .zip(bytes.iter().copied())
        .filter(|(at, _)| (REGISTER..REGISTER + 4).contains(at))
        .collect();
    let Some(&(first, _)) = hits.first() else {
        return current;
    };
    let bytes: Vec<u8> = hits.iter().map(|&(_, byte)| byte).collect();
    model::control_after(current, seen, first - REGISTER, &bytes).unwrap_or(current)
}

/// Each value that hardware gets is one that it may have, and no mode changes while enabled.
fn check_steps(current: Control, next: Control, seen: u32) {
    let mut before = current.raw();
    for step in states(current, next).into_iter().map(Control::raw) {
        let (mode, enable) = (step & 7, step >> 8);
        assert_eq!(step & !0x307, 0, "reserved bits");
        assert_ne!(enable, 0b10);
        assert!(enable != 0b11 || seen & model::EXTENDED != 0);
        assert!(step == 0 || seen & (1 << mode) != 0, "mode {mode}");
        assert!(before >> 8 == 0 || enable == 0 || before & 7 == mode);
        before = step;
    }
    assert_eq!(before, next.raw());
}

fn try_run(input: &mut Unstructured<'_>) -> Result<()> {
    let device = device(input)?;
    let policy = input.int_in_range(0..=3)?;
    let Some(offer) = offer(&device, policy) else {
        return Ok(());
    };
    let seen = model::seen(&device, policy);

    let mut control = Control::RESET;
    let mut expected = 0;
    for _ in 0..input.int_in_range(1..=MOST)? {
        let offset = match input.arbitrary()? {
            true => REGISTER + input.int_in_range(0..=3)?,
            false => input.int_in_range(0..=160)?,
        };
        let count = input.int_in_range(1..=8)?;
        let bytes = input.bytes(count)?;

        expected = after(expected, seen, offset, bytes);
        if let Some((register, written)) = overlap(offset, count) {
            if let Some(next) = judge(control, &offer, register.start, &bytes[written]) {
                check_steps(control, next, seen);
                control = next;
            }
        }
        assert_eq!(
            control.raw(),
            expected,
            "{bytes:x?} at {offset}, Capability {seen:#x}"
        );
    }
    Ok(())
}

/// Runs it.
pub fn run(data: &[u8]) {
    // What there was of a sequence has been judged.
    let _ = try_run(&mut Unstructured::new(data));
}
