// SPDX-License-Identifier: GPL-2.0-only

//! Hints on their way: published, kept as a word, asked for; and what firmware and a foreign
//! exporter answer. A tag never comes out in the namespace that it did not go into.

use crate::{
    oracle::{
        answers::{
            self,
            Known, //
        },
        completer,
    },
    rules::{
        firmware::CpuTags,
        lookup::Hint,
        published::Published,
        refusal::Refusal,
        source::{
            MemoryType,
            Namespace, //
        },
    },
    uapi::vfio_device_feature_dma_buf_tph,
};
use arbitrary::Unstructured;

pub(super) fn namespace(extended: bool) -> Namespace {
    match extended {
        true => Namespace::Extended,
        false => Namespace::Standard,
    }
}

pub(super) fn known(hint: Hint) -> Known {
    Known {
        tag: hint.tag,
        ph: hint.ph,
        ph_ignored: hint.ph_ignored,
    }
}

/// What DMA_BUF_TPH makes of its argument: the word that is kept.
fn publish(completer_field: u32, raw: &vfio_device_feature_dma_buf_tph) -> Result<u64, i32> {
    let completer = completer(completer_field);
    Published::available(completer)
        .and_then(|()| Published::from_user(raw, completer))
        .map(Published::to_word)
        .map_err(Refusal::errno)
}

fn check_published(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    let completer = input.int_in_range(0..=3)?;
    let flags = match input.arbitrary()? {
        true => input.int_in_range(0..=3)?,
        false => input.arbitrary()?,
    };
    let raw = vfio_device_feature_dma_buf_tph {
        dmabuf_fd: input.arbitrary()?,
        flags,
        steering_tag_ext: input.arbitrary()?,
        steering_tag: input.arbitrary()?,
        ph: input.int_in_range(0..=5)?,
    };
    let expected = answers::publish(
        completer,
        raw.flags,
        raw.steering_tag,
        raw.steering_tag_ext,
        raw.ph,
    );
    match (publish(completer, &raw), expected) {
        (Ok(word), Ok(hints)) => {
            let published = Published::from_word(word);
            assert_eq!(published.to_word(), word);
            assert_eq!(word == 0, raw.flags == 0, "{word:#x}");
            for extended in [false, true] {
                let found = published.hint(namespace(extended)).map(known);
                assert_eq!(found, hints.get(extended).ok(), "{raw:?}");
            }
        }
        (published, expected) => {
            assert_eq!(published.err(), expected.err(), "{completer}: {raw:?}")
        }
    }
    Ok(())
}

/// Words that nobody published: core keeps what it was given, but nothing may depend on that.
fn check_any_word(word: u64) {
    let published = Published::from_word(word);
    for extended in [false, true] {
        let hint = published.hint(namespace(extended));
        let valid = word.to_le_bytes()[if extended { 2 } else { 0 }] != 0;
        assert_eq!(hint.is_some(), valid, "{word:#x}");
        assert!(hint.is_none_or(|hint| extended || hint.tag <= 0xff));
    }
}

fn check_exporter(tag: u16, ph: u8) {
    for extended in [false, true] {
        let hint = Hint::from_exporter(tag, ph, namespace(extended));
        let good = ph <= 3 && (extended || tag <= 0xff);
        assert_eq!(hint.is_ok(), good, "{tag:#x}, PH {ph}");
        if let Ok(hint) = hint {
            assert_eq!((hint.tag, hint.ph, hint.ph_ignored), (tag, ph, false));
        }
    }
}

fn check_firmware(raw: u64) {
    for persistent in [false, true] {
        let memory = match persistent {
            true => MemoryType::Persistent,
            false => MemoryType::Volatile,
        };
        for extended in [false, true] {
            let hint = CpuTags::from_raw(raw).hint(memory, namespace(extended));
            assert_eq!(
                hint.map(known).map_err(Refusal::errno),
                answers::firmware(raw, persistent, extended),
                "{raw:#x}"
            );
        }
    }
}

fn try_run(input: &mut Unstructured<'_>) -> arbitrary::Result<()> {
    check_published(input)?;
    check_any_word(input.arbitrary()?);
    check_exporter(input.arbitrary()?, input.arbitrary()?);
    check_firmware(input.arbitrary()?);
    Ok(())
}

/// Runs it.
pub fn run(data: &[u8]) {
    // Bytes that are too few mean nothing.
    let _ = try_run(&mut Unstructured::new(data));
}
