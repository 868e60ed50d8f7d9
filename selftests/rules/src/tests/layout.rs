// SPDX-License-Identifier: GPL-2.0-only

//! R8: one layout for C and Rust, 32 and 64 bit, without implicit padding.
//!
//! That the generated Rust agrees with C is checked by bindgen's own layout assertions at compile
//! time, and by the dump of `layout.c` here, which holds the contract's figures.

use crate::uapi;
use std::{
    collections::BTreeMap,
    mem::{
        align_of,
        offset_of,
        size_of, //
    },
    path::Path,
    process::Command,
};

/// One line of the dump: offset and size of a member, or (for "-") alignment and size of a struct.
type Layout = BTreeMap<(String, String), (usize, usize)>;

/// The layout that gcc gives the ABI for a target.
fn dump(target: &str) -> Layout {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new("gcc")
        .args([target, "-std=gnu11", "-Wall", "-Werror", "-Wpadded", "-S"])
        .arg("-I")
        .arg(crate_root.join("../../include/uapi"))
        .args(["-o", "-"])
        .arg(crate_root.join("src/tests/layout.c"))
        .output()
        .expect("gcc runs");
    assert!(
        output.status.success(),
        "gcc {target}: {}",
        String::from_utf8_lossy(&output.stderr)
    );

    String::from_utf8(output.stdout)
        .expect("assembly is text")
        .lines()
        .filter_map(|line| line.split_once("->"))
        .map(|(_, entry)| {
            let mut words = entry.trim_end_matches('"').split_whitespace();
            let mut word = || words.next().expect("four words").to_string();
            let key = (word(), word());
            let mut number = || word().parse().expect("a number");
            (key, (number(), number()))
        })
        .collect()
}

#[test]
fn r8_one_layout_on_32_and_64_bit() {
    let (narrow, wide) = (dump("-m32"), dump("-m64"));
    assert_eq!(narrow.len(), 7 + 34, "a line is missing from the dump");
    assert_eq!(narrow, wide);
}

#[test]
fn r8_no_implicit_padding() {
    let layout = dump("-m64");
    let structs = layout.iter().filter(|((_, member), _)| member == "-");

    for ((name, _), &(align, size)) in structs {
        let mut members: Vec<_> = layout
            .iter()
            .filter(|((of, member), _)| of == name && member != "-" && !member.ends_with("[]"))
            .map(|(_, &place)| place)
            .collect();
        members.sort_unstable();
        let mut end = 0;
        for (offset, size) in members {
            assert_eq!(offset, end, "{name} has a hole at {end}");
            end += size;
        }
        assert_eq!(end, size, "{name} has padding at its end");
        assert!(align <= 4, "{name} is aligned differently on 32 bit");
        // What follows a header starts where the header ends.
        for ((of, member), &(offset, element)) in &layout {
            if of == name && member.ends_with("[]") {
                assert_eq!(offset, size, "{name}.{member}");
                assert_eq!(element % align, 0, "{name}.{member}");
            }
        }
    }
}

/// Compares a struct of the generated bindings with the dump, member for member.
macro_rules! agrees {
    ($layout:ident, $type:ident { $($member:ident $(as $c:literal)?),* }) => {{
        let mut of_type: Layout = $layout.clone();
        of_type.retain(|(name, member), _| {
            name == stringify!($type) && !member.ends_with("[]")
        });
        let mut generated = Layout::new();
        let key = |member: &str| (stringify!($type).to_string(), member.to_string());
        generated.insert(
            key("-"),
            (align_of::<uapi::$type>(), size_of::<uapi::$type>()),
        );
        let value = uapi::$type::default();
        $(
            let name = stringify!($member);
            $( assert_eq!(name, concat!($c, "_")); let name = $c; )?
            generated.insert(
                key(name),
                (offset_of!(uapi::$type, $member), size_of_val(&value.$member)),
            );
        )*
        assert_eq!(generated, of_type);
    }};
}

#[test]
fn r8_generated_bindings_agree_with_c() {
    let layout = dump("-m64");

    agrees!(layout, vfio_tph_source { type_ as "type", flags, reserved, value });
    agrees!(
        layout,
        vfio_device_feature_tph {
            flags,
            st_entries,
            modes,
            policy
        }
    );
    agrees!(
        layout,
        vfio_device_feature_tph_st {
            flags,
            index,
            count,
            fault,
            reserved
        }
    );
    agrees!(
        layout,
        vfio_tph_resolution {
            source,
            st,
            ph,
            flags,
            reserved
        }
    );
    agrees!(
        layout,
        vfio_device_feature_tph_resolve {
            flags,
            count,
            fault,
            reserved
        }
    );
    agrees!(
        layout,
        vfio_device_feature_tph_map {
            flags,
            count,
            fault,
            reserved
        }
    );
    agrees!(
        layout,
        vfio_device_feature_dma_buf_tph {
            dmabuf_fd,
            flags,
            steering_tag_ext,
            steering_tag,
            ph
        }
    );
}

#[test]
fn r8_constants_are_those_of_the_contract() {
    assert_eq!(
        [
            uapi::VFIO_DEVICE_FEATURE_TPH,
            uapi::VFIO_DEVICE_FEATURE_TPH_ST,
            uapi::VFIO_DEVICE_FEATURE_TPH_RESOLVE,
            uapi::VFIO_DEVICE_FEATURE_DMA_BUF_TPH,
            uapi::VFIO_DEVICE_FEATURE_TPH_MAP,
        ],
        [0x5450, 0x5451, 0x5452, 0x5453, 0x5454]
    );
    assert_eq!(
        [
            uapi::VFIO_TPH_SOURCE_NONE,
            uapi::VFIO_TPH_SOURCE_CPU,
            uapi::VFIO_TPH_SOURCE_DMABUF,
            uapi::VFIO_TPH_SOURCE_LITERAL,
        ],
        [0, 1, 2, 3]
    );
    assert_eq!(
        [
            uapi::VFIO_TPH_FLAG_EXTENDED,
            uapi::VFIO_TPH_FLAG_ST_CAP,
            uapi::VFIO_TPH_FLAG_ST_MSIX,
            uapi::VFIO_TPH_FLAG_ST,
            uapi::VFIO_TPH_FLAG_RESOLVE_ST,
            uapi::VFIO_TPH_FLAG_LITERAL,
            uapi::VFIO_TPH_FLAG_COMPLETER,
            uapi::VFIO_TPH_FLAG_COMPLETER_EXT,
            uapi::VFIO_TPH_FLAG_ST_DMABUF,
            uapi::VFIO_TPH_FLAG_VIRTUAL,
        ],
        [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    );
    assert_eq!(
        [
            uapi::VFIO_TPH_MODE_NS,
            uapi::VFIO_TPH_MODE_IV,
            uapi::VFIO_TPH_MODE_DS,
        ],
        [1, 2, 4]
    );
    assert_eq!(
        [
            uapi::VFIO_TPH_POLICY_NO_ST,
            uapi::VFIO_TPH_POLICY_IV_ST,
            uapi::VFIO_TPH_POLICY_DS_ST,
            uapi::VFIO_TPH_POLICY_LITERAL,
        ],
        [0, 1, 2, 3]
    );
    assert_eq!(
        [
            uapi::VFIO_DEVICE_TPH_EXTENDED,
            uapi::VFIO_TPH_SOURCE_MEM_PM,
            uapi::VFIO_TPH_RESOLUTION_ST,
            uapi::VFIO_TPH_RESOLUTION_PH_IGNORED,
            uapi::VFIO_DMA_BUF_TPH_ST,
            uapi::VFIO_DMA_BUF_TPH_ST_EXT,
        ],
        [1, 1, 1, 2, 1, 2]
    );
    assert_eq!(
        (uapi::VFIO_TPH_RESOLVE_MAX, uapi::VFIO_TPH_MAP_MAX),
        (4096, 255)
    );
}
