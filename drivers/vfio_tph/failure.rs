// SPDX-License-Identifier: GPL-2.0-only

//! Why a call fails: it is refused by a rule, or by the kernel.

use crate::rules::refusal::Refusal;
use kernel::{
    alloc::AllocError,
    prelude::*, //
};

/// Why a call fails.
pub(crate) enum Failure {
    /// A rule refuses it.
    Refused(Refusal),
    /// A rule refuses the source at a position; and where in the call's data the user wants to know
    /// which.
    Source {
        position: u32,
        refusal: Refusal,
        fault: usize,
    },
    /// Anything else.
    Other(Error),
}

impl Failure {
    /// Says that the source at `position` is the reason, if a rule refuses the call: the user
    /// finds the position at `fault` in the call's data.
    pub(crate) fn of_source(self, position: u32, fault: usize) -> Self {
        match self {
            Self::Refused(refusal) => Self::Source {
                position,
                refusal,
                fault,
            },
            failure => failure,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Other(error) => error,
            Failure::Refused(refusal) | Failure::Source { refusal, .. } => {
                Error::from_errno(-refusal.errno())
            }
        }
    }
}

impl From<AllocError> for Failure {
    fn from(error: AllocError) -> Self {
        Self::Other(error.into())
    }
}
