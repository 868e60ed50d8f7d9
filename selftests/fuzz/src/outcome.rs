// SPDX-License-Identifier: GPL-2.0-only

//! What comes of operations: of one, and how many of a round came to what.

use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicU64, Ordering};

use tph_selftests::vfio::{Offer, Resolution};
use tph_selftests::Errno;

/// What came of an operation.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It could not be tried: the device is not open, the slot empty.
    NotTried,
    /// Success, and no more to say.
    Done,
    /// An error.
    Failed(Errno),
    /// Bytes that were read.
    Bytes(Vec<u8>),
    /// GET of TPH.
    Offer(Offer),
    /// TPH_ST: the result, and the `fault` field.
    Programmed(Result<(), Errno>, u32),
    /// TPH_MAP: the same.
    Mapped(Result<(), Errno>, u32),
    /// TPH_RESOLVE: the result, the `fault` field and the entries.
    Resolved(Result<(), Errno>, u32, Vec<Resolution>),
    /// What debugfs says of the state, if anything is in use.
    State(String),
}

impl From<Result<(), Errno>> for Outcome {
    fn from(result: Result<(), Errno>) -> Self {
        match result {
            Ok(()) => Outcome::Done,
            Err(errno) => Outcome::Failed(errno),
        }
    }
}

/// What the operations of a round, or of several, have come to.
#[derive(Default)]
pub struct Tally {
    done: AtomicU64,
    batches: AtomicU64,
    maps: AtomicU64,
    lookups: AtomicU64,
    refused: AtomicU64,
}

impl Tally {
    /// Counts one.
    pub fn add(&self, outcome: &Outcome) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Outcome::NotTried => return,
            Outcome::Programmed(Ok(()), _) => count(&self.batches),
            Outcome::Mapped(Ok(()), _) => count(&self.maps),
            Outcome::Resolved(Ok(()), ..) => count(&self.lookups),
            Outcome::Failed(_)
            | Outcome::Programmed(Err(_), _)
            | Outcome::Mapped(Err(_), _)
            | Outcome::Resolved(Err(_), ..) => count(&self.refused),
            _ => 0,
        };
        count(&self.done);
    }

    /// Counts those of a round.
    pub fn add_all(&self, round: &Self) {
        for (sum, of) in [
            (&self.done, &round.done),
            (&self.batches, &round.batches),
            (&self.maps, &round.maps),
            (&self.lookups, &round.lookups),
            (&self.refused, &round.refused),
        ] {
            sum.fetch_add(of.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// The calls that never succeeded: who is refused everything has tested nothing.
    pub fn never_done(&self) -> Vec<&'static str> {
        [
            ("TPH_ST", &self.batches),
            ("TPH_MAP", &self.maps),
            ("TPH_RESOLVE", &self.lookups),
        ]
        .into_iter()
        .filter(|(_, counter)| counter.load(Ordering::Relaxed) == 0)
        .map(|(call, _)| call)
        .collect()
    }
}

impl Display for Tally {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        write!(
            f,
            "{} operations: {} batches, {} maps, {} lookups, {} refused",
            get(&self.done),
            get(&self.batches),
            get(&self.maps),
            get(&self.lookups),
            get(&self.refused)
        )
    }
}
