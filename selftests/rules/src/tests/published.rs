// SPDX-License-Identifier: GPL-2.0-only

//! Hints that are published for a dma-buf, and what an exporter answers, spec sections 4.4 and 5;
//! R7, R36, R53 to R55, R64.

use crate::oracle::completer;
use crate::{
    rules::{
        lookup::Hint,
        published::Published,
        refusal::Refusal,
        source::Namespace, //
    },
    uapi::vfio_device_feature_dma_buf_tph,
};

const ST: u32 = 1 << 0;
const XST: u32 = 1 << 1;
const TAGS: [u8; 4] = [0, 1, 0x80, 0xff];
const EXTENDED_TAGS: [u16; 5] = [0, 0x5a, 0xff, 0x100, 0xffff];

/// A request, from the contract's fields.
fn request(flags: u32, xst: u16, st: u8, ph: u8) -> vfio_device_feature_dma_buf_tph {
    vfio_device_feature_dma_buf_tph {
        // Whatever it is, these rules do not look at it.
        dmabuf_fd: -1,
        flags,
        steering_tag_ext: xst,
        steering_tag: st,
        ph,
    }
}

/// What one namespace has to say: tag and processing hint.
fn told(published: &Published, namespace: Namespace) -> Option<(u16, u8, bool)> {
    let hint = published.hint(namespace)?;
    Some((hint.tag, hint.ph, hint.ph_ignored))
}

/// Section 4.4, in its order: completer, shape, EXT versus completer.
fn expected_errno(field: u32, flags: u32, ph: u8) -> i32 {
    let malformed = flags & !(ST | XST) != 0 || ph > 3;
    match field {
        0b00 | 0b10 => libc::EOPNOTSUPP,
        _ if malformed => libc::EINVAL,
        0b01 if flags & XST != 0 => libc::EOPNOTSUPP,
        _ => 0,
    }
}

/// The whole of what a call makes of a request.
fn publish(field: u32, raw: &vfio_device_feature_dma_buf_tph) -> Result<Published, Refusal> {
    let completer = completer(field);
    Published::available(completer)?;
    Published::from_user(raw, completer)
}

#[test]
fn r53_r55_all_flags_completers_and_hints() {
    let unknown = (2..32).map(|bit| 1 << bit);
    let flags: Vec<u32> = (0..4)
        .chain(unknown.clone())
        .chain(unknown.map(|u| u | 3))
        .collect();
    for field in 0..4 {
        for &flags in &flags {
            for ph in 0..=u8::MAX {
                for st in TAGS {
                    for xst in EXTENDED_TAGS {
                        let result = publish(field, &request(flags, xst, st, ph));
                        let errno = result.err().map_or(0, Refusal::errno);
                        assert_eq!(
                            errno,
                            expected_errno(field, flags, ph),
                            "completer {field:02b}, flags {flags:#x}, ph {ph}"
                        );
                        let Ok(published) = result else {
                            continue;
                        };
                        let standard = (flags & ST != 0).then_some((st.into(), ph, false));
                        let extended = (flags & XST != 0).then_some((xst, ph, false));
                        assert_eq!(told(&published, Namespace::Standard), standard);
                        assert_eq!(told(&published, Namespace::Extended), extended);
                    }
                }
            }
        }
    }
}

/// What PROBE says is the completer field alone.
#[test]
fn r12_r55_available() {
    for (field, errno) in [
        (0b00, libc::EOPNOTSUPP),
        (0b01, 0),
        (0b10, libc::EOPNOTSUPP),
        (0b11, 0),
    ] {
        let result = Published::available(completer(field));
        assert_eq!(result.err().map_or(0, Refusal::errno), errno, "{field:02b}");
    }
}

/// Nothing is lost in the word that the kernel keeps: every extended tag, every tag, every hint.
#[test]
fn r54_word_and_back() {
    let check = |flags, xst, st, ph| {
        let published = publish(0b11, &request(flags, xst, st, ph)).expect("well-formed");
        let word = published.to_word();
        let back = Published::from_word(word);
        for namespace in [Namespace::Standard, Namespace::Extended] {
            assert_eq!(
                told(&back, namespace),
                told(&published, namespace),
                "{word:#x}"
            );
        }
        assert_eq!(word == 0, flags == 0, "flags {flags}: {word:#x}");
    };
    for flags in 0..4 {
        for ph in 0..4 {
            for xst in 0..=u16::MAX {
                for st in TAGS {
                    check(flags, xst, st, ph);
                }
            }
            for st in 0..=u8::MAX {
                check(flags, 0xa55a, st, ph);
            }
        }
    }
}

/// A dma-buf that nobody has published anything for has the word 0.
#[test]
fn r54_nothing_at_first() {
    let published = Published::from_word(0);
    assert_eq!(published, Published::default());
    for namespace in [Namespace::Standard, Namespace::Extended] {
        assert_eq!(told(&published, namespace), None);
    }
}

/// Different hints have different words, so that a SET replaces all.
#[test]
fn r54_words_are_told_apart() {
    let mut words = std::collections::HashMap::new();
    for flags in 0..4 {
        for ph in 0..4 {
            for st in TAGS {
                for xst in EXTENDED_TAGS {
                    let published = publish(0b11, &request(flags, xst, st, ph)).expect("good");
                    let said = [Namespace::Standard, Namespace::Extended]
                        .map(|namespace| told(&published, namespace));
                    let before = words.insert(published.to_word(), said);
                    assert!(before.is_none_or(|before| before == said), "{said:?}");
                }
            }
        }
    }
}

/// Every answer of an exporter that an importer in the kernel can get: taken as it is, or no tag at
/// all. A tag that is too large for its namespace is not cut down to it.
#[test]
fn r36_r64_what_an_exporter_answers() {
    for tag in 0..=u16::MAX {
        for ph in [0, 1, 2, 3, 4, 0x7f, 0x80, 0xff] {
            for (namespace, max) in [(Namespace::Standard, 0xff), (Namespace::Extended, 0xffff)] {
                let hint = Hint::from_exporter(tag, ph, namespace);
                if tag <= max && ph <= 3 {
                    let expected = Hint {
                        tag,
                        ph,
                        ph_ignored: false,
                    };
                    assert_eq!(hint, Ok(expected));
                } else {
                    assert_eq!(hint, Err(Refusal::NoTag), "{tag:#x}, ph {ph}");
                }
            }
        }
    }
}

#[test]
fn r56_errnos_of_descriptors() {
    for (refusal, errno) in [
        (Refusal::BadFd, libc::EBADF),
        (Refusal::NotDmaBuf, libc::EINVAL),
        (Refusal::ForeignDmaBuf, libc::EINVAL),
        (Refusal::Revoked, libc::ENODEV),
        (Refusal::NoTag, libc::EOPNOTSUPP),
    ] {
        assert_eq!(refusal.errno(), errno, "{refusal:?}");
    }
}
