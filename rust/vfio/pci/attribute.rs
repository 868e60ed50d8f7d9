// SPDX-License-Identifier: GPL-2.0-only

//! A sysfs attribute of the devices of a variant driver, there while they are bound.
//!
//! C header: [`include/linux/device.h`](srctree/include/linux/device.h)

use super::{
    device::Device,
    driver::Hooks, //
};
use crate::rust::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// The tables that the driver core wants for an attribute.
pub(super) struct Table<T: Hooks>(PhantomData<T>);

impl<T: Hooks> Table<T> {
    const FILE: &'static bindings::device_attribute = &{
        let mut file: bindings::device_attribute = pin_init::zeroed();
        if let Some(attribute) = T::ATTRIBUTE {
            // `as_char_ptr()` is not const.
            #[allow(clippy::disallowed_methods)]
            let name = attribute.name.as_ptr();
            file.attr.name = name.cast();
            file.attr.mode = attribute.mode;
        }
        file.__bindgen_anon_1 = bindings::device_attribute__bindgen_ty_1 {
            show: Some(Self::show_callback),
        };
        file.__bindgen_anon_2 = bindings::device_attribute__bindgen_ty_2 {
            store: Some(Self::store_callback),
        };
        file
    };

    const FILES: [*const bindings::attribute; 2] =
        [core::ptr::from_ref(Self::FILE).cast(), core::ptr::null()];

    const GROUP: &'static bindings::attribute_group = &{
        let mut group: bindings::attribute_group = pin_init::zeroed();
        group.__bindgen_anon_2 = bindings::attribute_group__bindgen_ty_2 {
            attrs_const: Self::FILES.as_ptr(),
        };
        group
    };

    const GROUPS: &'static [*const bindings::attribute_group; 2] =
        &[Self::GROUP, core::ptr::null()];

    /// For `pci_driver.dev_groups`.
    pub(super) fn groups() -> *mut *const bindings::attribute_group {
        match T::ATTRIBUTE {
            Some(_) => Self::GROUPS.as_ptr().cast_mut(),
            None => core::ptr::null_mut(),
        }
    }

    /// The `show` callback.
    ///
    /// # Safety
    ///
    /// Called by the driver core only, by way of the table, while the file exists.
    unsafe extern "C" fn show_callback(
        dev: *mut bindings::device,
        _: *mut bindings::device_attribute,
        buf: *mut c_char,
    ) -> isize {
        // SAFETY: The driver core removes the file before it unbinds the device, and waits for us.
        let device = unsafe { Device::<T>::from_bound(dev) };
        let Some(attribute) = T::ATTRIBUTE else {
            return 0;
        };
        let text = (attribute.show)(&device.data);
        // SAFETY: `buf` is what sysfs_emit() wants, and the format takes one string.
        let len = unsafe { bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), text.as_char_ptr()) };
        // CAST: widens.
        len as isize
    }

    /// The `store` callback.
    ///
    /// # Safety
    ///
    /// Called by the driver core only, by way of the table, while the file exists.
    unsafe extern "C" fn store_callback(
        dev: *mut bindings::device,
        _: *mut bindings::device_attribute,
        buf: *const c_char,
        count: usize,
    ) -> isize {
        // SAFETY: The driver core removes the file before it unbinds the device, and waits for us.
        let device = unsafe { Device::<T>::from_bound(dev) };
        // SAFETY: sysfs passes `count` bytes.
        let value = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), count) };
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        let Some(attribute) = T::ATTRIBUTE else {
            return EIO.to_errno() as isize;
        };
        match (attribute.store)(&device.data, device.maybe_open(), value) {
            // CAST: at most a page.
            Ok(()) => count as isize,
            // CAST: widens.
            Err(error) => error.to_errno() as isize,
        }
    }
}
