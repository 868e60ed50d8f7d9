// SPDX-License-Identifier: GPL-2.0-only

//! Devices that a driver takes from the start, by their ids.

use crate::rust::bindings;
use kernel::{
    error::to_result,
    prelude::*,
    str::{
        BStr,
        CString, //
    }, //
};

/// Has a driver take devices from now on, and bind those that are there: `ids` as
/// [`super::Driver::ids`] has them. What cannot be read, or added, is left out with a word in the
/// log.
///
/// # Safety
///
/// `pci` is registered.
pub(super) unsafe fn add(pci: *mut bindings::pci_driver, ids: &CStr) {
    let ids = ids.to_bytes().split(|&byte| byte == b',');
    for id in ids.filter(|id| !id.is_empty()) {
        let text = BStr::from_bytes(id);
        let Ok(id) = CString::try_from_fmt(fmt!("{text}")) else {
            pr_warn!("no memory for id \"{text}\"\n");
            continue;
        };
        let any = bindings::PCI_ANY_ID as c_uint;
        let (mut vendor, mut device) = (0, 0);
        let (mut subvendor, mut subdevice) = (any, any);
        let (mut class, mut class_mask) = (0, 0);
        // SAFETY: Both strings end in NUL, and there is an unsigned int for each conversion.
        let fields = unsafe {
            bindings::sscanf(
                id.as_char_ptr(),
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
        // SAFETY: By the safety requirement.
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
