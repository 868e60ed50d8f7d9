// SPDX-License-Identifier: GPL-2.0-only

//! What is written to a TPH capability in hardware: the Control register and the ST table.
//!
//! There is no shadow that would be written later: what a function here was asked for is in force
//! when it returns.

use crate::{
    rules::{
        refusal::Refusal,
        regs::{
            Control,
            RequesterEnable, //
        },
        table::{
            Write,
            Writes, //
        },
    },
    rust::{
        pci::tph::Requester,
        vfio::pci::VirtualConfig, //
    },
    uapi, //
};
use kernel::prelude::*;

const CONTROL: u16 = uapi::PCI_TPH_CTRL as u16;

/// Writes Control, and tells the PCI core.
pub(crate) fn set_control(requester: &Requester<'_>, control: Control) -> Result {
    requester.write_dword(CONTROL, control.raw())?;
    requester.set_core_state(control.st_mode as u8, control.requester_enable as u8);
    Ok(())
}

/// Reads the Control register in force; `None` if the device does not answer, or has a value there
/// that nobody wrote.
pub(crate) fn control(requester: &Requester<'_>) -> Result<Option<Control>> {
    let raw = requester.read_dword(CONTROL)?;
    Ok((raw != u32::MAX).then(|| Control::from_raw(raw)).flatten())
}

/// Writes all entries of the table in the capability. The requester is disabled.
pub(crate) fn restore(requester: &Requester<'_>, tags: &[u16]) -> Result {
    write(requester, 0, tags)
}

/// Writes `tags` to the table in the capability, from `index` on, with the requester disabled
/// once around all of them (PCIe r6.2 6.17.3), and `control` in force again afterwards.
///
/// `DeviceGone` if the device has stopped answering meanwhile: then TPH is off.
pub(crate) fn program(
    requester: &Requester<'_>,
    control: Control,
    index: u16,
    tags: &[u16],
) -> Result<(), Refusal> {
    let written = disable(requester, control).and_then(|()| write(requester, index, tags));
    finish(requester, control, written)
}

/// Disables the requester for a change of the table: [`finish`] ends that.
pub(crate) fn disable(requester: &Requester<'_>, control: Control) -> Result {
    requester.write_dword(CONTROL, disabled(control).raw())
}

/// The value that disables the requester, and changes nothing else.
pub(crate) fn disabled(control: Control) -> Control {
    Control {
        requester_enable: RequesterEnable::Disabled,
        ..control
    }
}

/// Puts `control` in force after a table was written, or turns TPH off if it was not.
pub(crate) fn finish(
    requester: &Requester<'_>,
    control: Control,
    written: Result,
) -> Result<(), Refusal> {
    let in_force = written
        .and_then(|()| set_control(requester, control))
        .and_then(|()| self::control(requester));

    // Posted or not, a write to a device that is gone succeeds: only a read tells.
    if in_force == Ok(Some(control)) {
        return Ok(());
    }
    // As above; and if it gets there, so much the better.
    let _ = set_control(requester, Control::RESET);
    Err(Refusal::DeviceGone)
}

fn write(requester: &Requester<'_>, index: u16, tags: &[u16]) -> Result {
    for (offset, write) in Writes::new(index, tags) {
        match write {
            Write::Word(value) => requester.write_word(offset, value)?,
            Write::Dword(value) => requester.write_dword(offset, value)?,
        }
    }
    Ok(())
}

/// Shows the user `tags` in the table of a capability at `offset`, from entry `index` on.
pub(crate) fn show(
    config: &mut VirtualConfig<'_>,
    offset: u16,
    index: usize,
    tags: &[u16],
) -> Result {
    // CAST: at most 64 entries.
    for (at, write) in Writes::new(index as u16, tags) {
        let at = usize::from(offset + at);
        match write {
            Write::Word(value) => config.write_word(at, value)?,
            Write::Dword(value) => config.write_dword(at, value)?,
        }
    }
    Ok(())
}
