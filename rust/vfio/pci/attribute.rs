// SPDX-License-Identifier: GPL-2.0-only

//! The sysfs attributes of the devices of a variant driver, there while they are bound.
//!
//! C header: [`include/linux/device.h`](srctree/include/linux/device.h)

use super::{
    device::Device,
    driver::{
        Attribute,
        Hooks, //
    },
};
use crate::rust::bindings;
use core::marker::PhantomData;
use kernel::prelude::*;

/// The tables that the driver core wants for attributes.
pub(super) struct AttributeGroups<T: Hooks>(PhantomData<T>);

/// As many attributes as a driver can have.
const MOST: usize = 8;

impl<T: Hooks> AttributeGroups<T> {
    const FILES: &'static [bindings::device_attribute; MOST] = &{
        assert!(T::ATTRIBUTES.len() <= MOST);
        let mut files = [const { pin_init::zeroed::<bindings::device_attribute>() }; MOST];
        let mut at = 0;
        while at < T::ATTRIBUTES.len() {
            files[at] = Self::file(&T::ATTRIBUTES[at]);
            at += 1;
        }
        files
    };

    /// Pointers to [`Self::FILES`], as a list that ends with null.
    const LIST: [*const bindings::attribute; MOST + 1] = {
        let mut list = [core::ptr::null(); MOST + 1];
        let mut at = 0;
        while at < T::ATTRIBUTES.len() {
            list[at] = core::ptr::from_ref(&Self::FILES[at]).cast();
            at += 1;
        }
        list
    };

    const GROUP: &'static bindings::attribute_group = &{
        let mut group: bindings::attribute_group = pin_init::zeroed();
        group.__bindgen_anon_2 = bindings::attribute_group__bindgen_ty_2 {
            attrs_const: Self::LIST.as_ptr(),
        };
        group
    };

    const GROUPS: &'static [*const bindings::attribute_group; 2] =
        &[Self::GROUP, core::ptr::null()];

    const fn file(attribute: &Attribute<T>) -> bindings::device_attribute {
        let mut file: bindings::device_attribute = pin_init::zeroed();
        // `as_char_ptr()` is not const.
        #[allow(clippy::disallowed_methods)]
        let name = attribute.name.as_ptr();
        file.attr.name = name.cast();
        file.attr.mode = attribute.mode;
        file.__bindgen_anon_1 = bindings::device_attribute__bindgen_ty_1 {
            show: Some(Self::show_callback),
        };
        file.__bindgen_anon_2 = bindings::device_attribute__bindgen_ty_2 {
            store: Some(Self::store_callback),
        };
        file
    }

    /// For `pci_driver.dev_groups`.
    pub(super) fn groups() -> *mut *const bindings::attribute_group {
        if T::ATTRIBUTES.is_empty() {
            core::ptr::null_mut()
        } else {
            Self::GROUPS.as_ptr().cast_mut()
        }
    }

    /// The attribute that a file of ours is.
    ///
    /// # Safety
    ///
    /// `file` is one of [`Self::FILES`].
    unsafe fn attribute(file: *const bindings::device_attribute) -> Result<&'static Attribute<T>> {
        // SAFETY: The file has the name that `file()` has given it.
        let name = unsafe { CStr::from_char_ptr((*file).attr.name) };
        T::ATTRIBUTES
            .iter()
            .find(|attribute| attribute.name == name)
            .ok_or(EIO)
    }

    /// The `show` callback.
    ///
    /// # Safety
    ///
    /// Called by the driver core only, by way of the table, while the file exists.
    unsafe extern "C" fn show_callback(
        dev: *mut bindings::device,
        file: *mut bindings::device_attribute,
        buf: *mut c_char,
    ) -> isize {
        // SAFETY: The driver core removes the file before it unbinds the device, and waits for us.
        let device = unsafe { Device::<T>::from_bound(dev) };
        // SAFETY: The driver core calls this for a file of the table.
        let attribute = unsafe { Self::attribute(file) };
        let text = attribute.and_then(|attribute| (attribute.show)(&device.data));
        let len = match text {
            // SAFETY: `buf` is what sysfs_emit() wants, and the format takes one string.
            Ok(text) => unsafe {
                bindings::sysfs_emit(buf, c"%s\n".as_char_ptr(), text.as_char_ptr())
            },
            Err(error) => error.to_errno(),
        };
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
        file: *mut bindings::device_attribute,
        buf: *const c_char,
        count: usize,
    ) -> isize {
        // SAFETY: The driver core removes the file before it unbinds the device, and waits for us.
        let device = unsafe { Device::<T>::from_bound(dev) };
        // SAFETY: sysfs passes `count` bytes.
        let value = unsafe { core::slice::from_raw_parts(buf.cast::<u8>(), count) };
        let value = value.strip_suffix(b"\n").unwrap_or(value);
        // SAFETY: The driver core calls this for a file of the table.
        let attribute = unsafe { Self::attribute(file) };
        let stored = attribute
            .and_then(|attribute| (attribute.store)(&device.data, device.maybe_open(), value));
        match stored {
            // CAST: at most a page.
            Ok(()) => count as isize,
            // CAST: widens.
            Err(error) => error.to_errno() as isize,
        }
    }
}
