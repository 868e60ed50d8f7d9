// SPDX-License-Identifier: GPL-2.0-only

//! The ioctls of `/dev/tph_importer`. Compiled into the module and into the tests, so that each is
//! defined once.
//!
//! An open file is one importer: it takes a reference to a dma-buf, may attach a device to it,
//! map it and ask it for hints. All requests but [`HOLD`] and [`WAIT_HELD`] return at once, as
//! far as the reservation lock is free.

/// Name of the device in /dev.
pub const NAME: &str = "tph_importer";
/// Type of the ioctls.
pub const TYPE: u32 = 0xdb;

/// Takes a reference to a dma-buf; the argument is its descriptor.
pub const TAKE: u32 = 0;
/// Attaches a device; the argument is an [`Attach`]. ENXIO without a dma-buf, EBUSY if one is
/// attached.
pub const ATTACH: u32 = 1;
/// Detaches it, and unmaps the memory. ENXIO if none is attached.
pub const DETACH: u32 = 2;
/// Maps the memory for the device that is attached. An importer that knows TPH asks for the hints
/// of both namespaces under the same lock.
pub const MAP: u32 = 3;
/// Unmaps it. ENXIO if it is not mapped.
pub const UNMAP: u32 = 4;
/// Asks for a hint. The argument points to [`Question::WORDS`] words, which become the
/// [`Answer::WORDS`] words of the answer.
pub const ASK: u32 = 5;
/// Holds the reservation lock until [`RELEASE`]. EINTR if a signal comes.
pub const HOLD: u32 = 6;
/// Waits until [`HOLD`] has the lock. EINTR if a signal comes.
pub const WAIT_HELD: u32 = 7;
/// Ends [`HOLD`].
pub const RELEASE: u32 = 8;
/// What the importer has seen. The argument points to [`Report::WORDS`] words.
pub const REPORT: u32 = 9;

/// Who is attached, packed into the argument of [`ATTACH`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// PCI domain.
    pub domain: u16,
    /// PCI bus.
    pub bus: u8,
    /// PCI device and function.
    pub devfn: u8,
    /// Whether the importer knows of TPH. One that does not never asks by itself.
    pub knows_tph: bool,
}

impl Attach {
    /// As an ioctl's argument.
    pub fn to_argument(self) -> u64 {
        u64::from(self.devfn)
            | (u64::from(self.bus) << 8)
            | (u64::from(self.domain) << 16)
            | (u64::from(self.knows_tph) << 32)
    }

    /// From an ioctl's argument; bits that mean nothing are ignored.
    pub fn from_argument(argument: u64) -> Self {
        let [devfn, bus, low, high, knows_tph, ..] = argument.to_le_bytes();
        Self {
            domain: u16::from_le_bytes([low, high]),
            bus,
            devfn,
            knows_tph: knows_tph & 1 != 0,
        }
    }
}

/// What `ASK` is asked, and what stands in the outputs before the exporter is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whether an extended tag is wanted.
    pub extended: bool,
    /// Whether the reservation lock is taken, as it has to be.
    pub locked: bool,
    /// What stands in the output for the tag.
    pub steering_tag: u16,
    /// What stands in the output for the processing hint.
    pub ph: u8,
}

impl Question {
    /// Number of words.
    pub const WORDS: usize = 3;

    /// In user memory.
    pub fn to_words(self) -> [u32; Self::WORDS] {
        [
            u32::from(self.extended) | (u32::from(self.locked) << 1),
            self.steering_tag.into(),
            self.ph.into(),
        ]
    }

    /// From user memory.
    pub fn from_words([flags, steering_tag, ph]: [u32; Self::WORDS]) -> Self {
        Self {
            extended: flags & 1 != 0,
            locked: flags & 2 != 0,
            steering_tag: low_word(steering_tag),
            ph: low_word(ph).to_le_bytes()[0],
        }
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// 0, or a positive errno.
    pub errno: u32,
    /// The tag after the call.
    pub steering_tag: u16,
    /// The processing hint after the call.
    pub ph: u8,
}

impl Answer {
    /// Number of words.
    pub const WORDS: usize = 3;

    /// In user memory.
    pub fn to_words(self) -> [u32; Self::WORDS] {
        [self.errno, self.steering_tag.into(), self.ph.into()]
    }

    /// From user memory.
    pub fn from_words([errno, steering_tag, ph]: [u32; Self::WORDS]) -> Self {
        Self {
            errno,
            steering_tag: low_word(steering_tag),
            ph: low_word(ph).to_le_bytes()[0],
        }
    }
}

/// Answers in the standard and the extended namespace; none if nobody asked.
pub type Answers = Option<[Answer; 2]>;

/// What an importer has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether a device is attached.
    pub attached: bool,
    /// Whether the memory is mapped.
    pub mapped: bool,
    /// How often the exporter has said that mappings are invalid, since the device was attached.
    pub invalidations: u32,
    /// What the exporter said when the memory was last mapped.
    pub when_mapped: Answers,
    /// What it said when mappings last became invalid.
    pub when_invalidated: Answers,
}

impl Report {
    /// Number of words.
    pub const WORDS: usize = 2 + 4 * Answer::WORDS;

    /// In user memory.
    pub fn to_words(self) -> [u32; Self::WORDS] {
        let flags = [
            self.attached,
            self.mapped,
            self.when_mapped.is_some(),
            self.when_invalidated.is_some(),
        ];
        let mut words = [0; Self::WORDS];
        for (bit, flag) in flags.into_iter().enumerate() {
            words[0] |= u32::from(flag) << bit;
        }
        words[1] = self.invalidations;
        let answers = [self.when_mapped, self.when_invalidated]
            .into_iter()
            .flat_map(Option::unwrap_or_default)
            .flat_map(Answer::to_words);
        for (word, value) in words[2..].iter_mut().zip(answers) {
            *word = value;
        }
        words
    }

    /// From user memory.
    pub fn from_words(words: &[u32; Self::WORDS]) -> Self {
        let flag = |bit: usize| words[0] & (1 << bit) != 0;
        let answer = |number: usize| {
            let at = 2 + number * Answer::WORDS;
            Answer::from_words([words[at], words[at + 1], words[at + 2]])
        };
        Self {
            attached: flag(0),
            mapped: flag(1),
            invalidations: words[1],
            when_mapped: flag(2).then(|| [answer(0), answer(1)]),
            when_invalidated: flag(3).then(|| [answer(2), answer(3)]),
        }
    }
}

fn low_word(word: u32) -> u16 {
    let [low, high, ..] = word.to_le_bytes();
    u16::from_le_bytes([low, high])
}
