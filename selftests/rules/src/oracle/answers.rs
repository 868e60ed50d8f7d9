// SPDX-License-Identifier: GPL-2.0-only

//! The contract's answers to the calls that name sources, sections 4.2 to 4.4, in plain integers
//! and without a look at the rules. The fuzzer in the VM uses it too.

/// errno numbers of the contract.
pub(crate) mod errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const EIO: i32 = 5;
    pub(crate) const ENXIO: i32 = 6;
    pub(crate) const EBADF: i32 = 9;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const EOPNOTSUPP: i32 = 95;
}
use errno::*;

/// The terms of an open device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Whether TPH is usable.
    pub(crate) usable: bool,
    /// The policy's number.
    pub(crate) policy: u32,
    /// Entries that can be addressed.
    pub(crate) entries: u16,
    /// Whether extended tags are usable.
    pub(crate) extended: bool,
}

/// A source as the user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) reserved: u16,
    pub(crate) value: u32,
}

/// The header of TPH_ST; `length` is argsz without the feature's own header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    pub(crate) flags: u32,
    pub(crate) index: u16,
    pub(crate) count: u16,
    pub(crate) reserved: u32,
    pub(crate) length: usize,
}

/// The header of TPH_RESOLVE, in the same way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolve {
    pub(crate) flags: u32,
    pub(crate) count: u32,
    pub(crate) reserved: u32,
    pub(crate) length: usize,
}

/// An entry of TPH_RESOLVE, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) source: Source,
    pub(crate) st: u16,
    pub(crate) ph: u8,
    pub(crate) flags: u8,
    pub(crate) reserved: u32,
}

/// What is known of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) tag: u16,
    pub(crate) ph: u8,
    pub(crate) ph_ignored: bool,
}

/// Why a call is refused: an errno, and the position of the source that is to blame, if one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) errno: i32,
    pub(crate) position: Option<usize>,
}

const fn whole(errno: i32) -> Refused {
    Refused {
        errno,
        position: None,
    }
}

/// Looks a CPU or a dma-buf up in a namespace (true: extended); an errno if there is nothing.
pub(crate) type Lookup<'a> = &'a dyn Fn(&Source, bool) -> Result<Known, i32>;

/// Whose a CPU is: the caller's or not; none if it is not present.
pub(crate) type Owned<'a> = &'a dyn Fn(u32) -> Option<bool>;

/// Section 4.2's table of sources: whether a source is well formed.
fn well_formed(source: &Source, extended: bool) -> bool {
    let largest = if extended { 0xffff } else { 0xff };
    source.reserved == 0
        && match source.kind {
            0 => source.flags == 0 && source.value == 0,
            1 => source.flags <= 1,
            2 => source.flags == 0,
            3 => source.flags == 0 && source.value <= largest,
            _ => false,
        }
}

/// TPH_ST while Control holds `control`: the tags that are written, but for what only the device
/// can say (vectors, power).
pub(crate) fn program(
    terms: &Terms,
    control: u32,
    call: &Program,
    sources: &[Source],
    owned: Owned<'_>,
    lookup: Lookup<'_>,
) -> Result<Vec<u16>, Refused> {
    if !terms.usable || terms.policy == 0 || terms.entries == 0 {
        return Err(whole(EOPNOTSUPP));
    }
    let needed = 16 + 8 * usize::from(call.count);
    if call.flags > 1
        || call.reserved != 0
        || call.count == 0
        || u32::from(call.index) + u32::from(call.count) > u32::from(terms.entries)
        || call.length < needed
    {
        return Err(whole(EINVAL));
    }
    let extended = call.flags == 1;
    let (mode, enable) = (control & 7, (control >> 8) & 3);
    if enable == 0 || mode == 0 {
        return Err(whole(ENXIO));
    }
    if extended && (enable != 3 || !terms.extended) {
        return Err(whole(EOPNOTSUPP));
    }
    let tag = |source: &Source| match source.kind {
        _ if !well_formed(source, extended) => Err(EINVAL),
        0 => Ok(0),
        3 if terms.policy < 3 => Err(EPERM),
        3 => Ok(source.value as u16),
        2 if terms.policy < 2 => Err(EPERM),
        1 if owned(source.value).is_none() => Err(EINVAL),
        1 if terms.policy < 2 && owned(source.value) == Some(false) => Err(EPERM),
        _ => lookup(source, extended).map(|known| known.tag),
    };
    let sources = sources.iter().take(call.count.into()).enumerate();
    sources
        .map(|(position, source)| {
            tag(source).map_err(|errno| Refused {
                errno,
                position: Some(position),
            })
        })
        .collect()
}

/// TPH_RESOLVE: the entries with their answers.
pub(crate) fn resolve(
    terms: &Terms,
    call: &Resolve,
    entries: &[Entry],
    lookup: Lookup<'_>,
) -> Result<Vec<Entry>, Refused> {
    if !terms.usable {
        return Err(whole(EOPNOTSUPP));
    }
    if call.flags > 1
        || call.reserved != 0
        || !(1..=4096).contains(&call.count)
        || call.length < 16 + 16 * call.count as usize
    {
        return Err(whole(EINVAL));
    }
    let extended = call.flags == 1;
    if extended && !terms.extended {
        return Err(whole(EOPNOTSUPP));
    }
    let discloses = terms.policy >= 2;
    let answer = |entry: &Entry| {
        let source = &entry.source;
        if entry.reserved != 0 || entry.flags > 3 || !well_formed(source, extended) {
            return Err(EINVAL);
        }
        match source.kind {
            0 | 3 => return Err(EINVAL),
            1 if !discloses => return Err(EPERM),
            _ => (),
        }
        let known = lookup(source, extended)?;
        Ok(Entry {
            st: if discloses { known.tag } else { 0 },
            ph: known.ph,
            flags: u8::from(discloses) | (u8::from(known.ph_ignored) << 1),
            ..*entry
        })
    };
    let entries = entries.iter().take(call.count as usize).enumerate();
    entries
        .map(|(position, entry)| {
            answer(entry).map_err(|errno| Refused {
                errno,
                position: Some(position),
            })
        })
        .collect()
}

/// Section 8: what firmware says of a CPU in the 64 bits of its answer.
pub(crate) fn firmware(raw: u64, persistent: bool, extended: bool) -> Result<Known, i32> {
    let half = if persistent { raw >> 32 } else { raw };
    let valid = (half >> u32::from(extended)) & 1 != 0;
    if !valid {
        return Err(EOPNOTSUPP);
    }
    let tag = if extended {
        (half >> 16) & 0xffff
    } else {
        (half >> 8) & 0xff
    };
    Ok(Known {
        tag: tag as u16,
        ph: 0,
        ph_ignored: half & 4 != 0,
    })
}

/// Hints as they are published for a dma-buf: a tag of each namespace, and PH.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) standard: Option<u8>,
    pub(crate) extended: Option<u16>,
    pub(crate) ph: u8,
}

impl Hints {
    /// What an importer gets in a namespace.
    pub(crate) fn get(&self, extended: bool) -> Result<Known, i32> {
        let tag = if extended {
            self.extended
        } else {
            self.standard.map(u16::from)
        };
        Ok(Known {
            tag: tag.ok_or(EOPNOTSUPP)?,
            ph: self.ph,
            ph_ignored: false,
        })
    }
}

/// DMA_BUF_TPH up to the descriptor, by a device with this raw completer field.
pub(crate) fn publish(
    completer: u32,
    flags: u32,
    standard: u8,
    extended: u16,
    ph: u8,
) -> Result<Hints, i32> {
    if completer & 1 == 0 {
        return Err(EOPNOTSUPP);
    }
    if flags > 3 || ph > 3 {
        return Err(EINVAL);
    }
    if flags & 2 != 0 && completer != 3 {
        return Err(EOPNOTSUPP);
    }
    Ok(Hints {
        standard: (flags & 1 != 0).then_some(standard),
        extended: (flags & 2 != 0).then_some(extended),
        ph,
    })
}
