// SPDX-License-Identifier: GPL-2.0-only

//! Devices that a driver takes from the start, by their ids.

use crate::rust::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    str::BStr, //
};

/// Has a driver take devices from now on, and bind those that are there: `ids` as
/// [`super::Driver::ids`] has them. What cannot be read, or added, is left out with a word in the
/// log.
///
/// # Safety
///
/// `pci` is registered.
pub(super) unsafe fn add(pci: *mut bindings::pci_driver, ids: &CStr) {
    let all = ids.to_bytes().split(|&byte| byte == b',');
    for id in all.filter(|id| !id.is_empty()) {
        let text = BStr::from_bytes(id);
        // In `ids`, which goes on to its NUL.
        let start = ids.as_char_ptr().with_addr(id.as_ptr().addr());
        let any = bindings::PCI_ANY_ID as c_uint;
        let (mut vendor, mut device) = (0, 0);
        let (mut subvendor, mut subdevice) = (any, any);
        let (mut class, mut class_mask) = (0, 0);
        // SAFETY: Both strings end in NUL, and there is an unsigned int for each conversion. No
        // conversion takes a comma, which ends the id.
        let fields = unsafe {
            bindings::sscanf(
                start,
                c"%x:%x:%x:%x:%x:%x".as_char_ptr(),
                &raw mut vendor,
                &raw mut device,
                &raw mut subvendor,
                &raw mut subdevice,
                &raw mut class,
                &raw mut class_mask,
            )
        };
        if fields < 2 {
            pr_warn!("invalid id \"{text}\"\n");
            continue;
        }
        // SAFETY: `pci` is registered, by the safety requirement.
        let ret = unsafe {
            bindings::pci_add_dynid(
                pci, vendor, device, subvendor, subdevice, class, class_mask, 0,
            )
        };
        match to_result(ret) {
            Ok(()) => pr_info!("id \"{text}\" added\n"),
            Err(error) => pr_warn!("id \"{text}\" cannot be added: {error:?}\n"),
        }
    }
}
