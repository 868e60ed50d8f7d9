// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! The numbers of `include/uapi/linux/vfio_tph.h`, for who makes the calls by hand. A test compares
//! them with the header.

/// What the device has on offer, GET: `flags: u32, st_entries: u16, modes: u8, policy: u8`.
pub const VFIO_DEVICE_FEATURE_TPH: u32 = 0x5450;
/// Program entries of the ST table, SET: a header of 16 bytes and 8 for each source.
pub const VFIO_DEVICE_FEATURE_TPH_ST: u32 = 0x5451;
/// Look hints up, GET: a header of 16 bytes and 16 for each source.
pub const VFIO_DEVICE_FEATURE_TPH_RESOLVE: u32 = 0x5452;
/// Publish hints for own memory, SET: 12 bytes.
pub const VFIO_DEVICE_FEATURE_DMA_BUF_TPH: u32 = 0x5453;
/// Say what the tags of a guest stand for, SET: a header of 16 bytes and 8 for each source.
pub const VFIO_DEVICE_FEATURE_TPH_MAP: u32 = 0x5454;

/// Clears an entry.
pub const VFIO_TPH_SOURCE_NONE: u32 = 0;
/// The value is the number of a CPU.
pub const VFIO_TPH_SOURCE_CPU: u32 = 1;
/// The value is the descriptor of a dma-buf.
pub const VFIO_TPH_SOURCE_DMABUF: u32 = 2;
/// The value is the tag.
pub const VFIO_TPH_SOURCE_LITERAL: u32 = 3;
/// Of a CPU: persistent memory.
pub const VFIO_TPH_SOURCE_MEM_PM: u32 = 1 << 0;

/// Extended tags are usable.
pub const VFIO_TPH_FLAG_EXTENDED: u32 = 1 << 0;
/// The ST table is in the capability.
pub const VFIO_TPH_FLAG_ST_CAP: u32 = 1 << 1;
/// The ST table is in the MSI-X table.
pub const VFIO_TPH_FLAG_ST_MSIX: u32 = 1 << 2;
/// TPH_ST is available.
pub const VFIO_TPH_FLAG_ST: u32 = 1 << 3;
/// TPH_RESOLVE discloses tags.
pub const VFIO_TPH_FLAG_RESOLVE_ST: u32 = 1 << 4;
/// LITERAL sources are accepted.
pub const VFIO_TPH_FLAG_LITERAL: u32 = 1 << 5;
/// The device is a TPH completer.
pub const VFIO_TPH_FLAG_COMPLETER: u32 = 1 << 6;
/// The device is an extended TPH completer.
pub const VFIO_TPH_FLAG_COMPLETER_EXT: u32 = 1 << 7;
/// TPH_ST takes DMABUF sources.
pub const VFIO_TPH_FLAG_ST_DMABUF: u32 = 1 << 8;
/// The entries are virtual tags of a guest.
pub const VFIO_TPH_FLAG_VIRTUAL: u32 = 1 << 9;

/// In the flags of TPH_ST and TPH_RESOLVE: extended tags are meant.
pub const VFIO_DEVICE_TPH_EXTENDED: u32 = 1 << 0;

/// Of what TPH_RESOLVE found: the tag is valid.
pub const VFIO_TPH_RESOLUTION_ST: u32 = 1 << 0;
/// Of what TPH_RESOLVE found: the completer ignores the processing hint.
pub const VFIO_TPH_RESOLUTION_PH_IGNORED: u32 = 1 << 1;
/// The most sources of one TPH_RESOLVE.
pub const VFIO_TPH_RESOLVE_MAX: u32 = 4096;

/// The most virtual tags of a map.
pub const VFIO_TPH_MAP_MAX: u32 = 255;

/// The standard tag is published.
pub const VFIO_DMA_BUF_TPH_ST: u32 = 1 << 0;
/// The extended tag is published.
pub const VFIO_DMA_BUF_TPH_ST_EXT: u32 = 1 << 1;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    /// What stands behind `#define NAME` in the header.
    fn defined(header: &str) -> HashMap<&str, u32> {
        header
            .lines()
            .filter_map(|line| {
                let mut words = line.strip_prefix("#define ")?.split_whitespace();
                let (name, value) = (words.next()?, words.next()?);
                let value = match value.strip_prefix("0x") {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None if value == "(1" => {
                        1 << words.nth(1)?.trim_end_matches(')').parse::<u32>().ok()?
                    }
                    None => value.parse().ok()?,
                };
                Some((name, value))
            })
            .collect()
    }

    /// Each constant of this file, by its own text, is what the header says.
    #[test]
    fn numbers_are_those_of_the_header() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../include/uapi/linux/vfio_tph.h"
        );
        let header = fs::read_to_string(path).expect("the header, in the tree of the driver");
        let defined = defined(&header);
        let mut compared = 0;
        for line in include_str!("uapi.rs").lines() {
            let Some((name, value)) = line
                .strip_prefix("pub const ")
                .and_then(|line| line.split_once(": u32 = "))
            else {
                continue;
            };
            let value = value.trim_end_matches(';');
            let value = match value.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).unwrap(),
                None => value.split_once(" << ").map_or_else(
                    || value.parse().unwrap(),
                    |(one, by)| one.parse::<u32>().unwrap() << by.parse::<u32>().unwrap(),
                ),
            };
            assert_eq!(defined.get(name), Some(&value), "{name}");
            compared += 1;
        }
        assert!(compared > 20, "{compared} constants found");
    }
}
