// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! What goes wrong: one line that says what to do, and an exit status.

use std::fmt::Display;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// A failure.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    kind: Kind,
    message: String,
}

/// The kinds that have an exit status of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Anything else.
    Failed = 1,
    /// The command line.
    Usage = 2,
    /// No such device.
    NoDevice = 3,
    /// Not permitted.
    Permission = 4,
    /// Not loaded or not bound.
    NotBound = 5,
    /// TPH is not usable.
    NotUsable = 6,
    /// In use.
    Busy = 7,
}

impl Kind {
    /// Its exit status.
    pub fn exit_code(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

impl Failure {
    /// A failure with its line.
    pub fn new(kind: Kind, message: impl Display) -> Self {
        Self {
            kind,
            message: message.to_string(),
        }
    }

    /// A file that cannot be read or written.
    pub fn file(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied if !rustix::process::geteuid().is_root() => Self::new(
                Kind::Permission,
                format_args!("{}: needs root: try sudo tphctl", path.display()),
            ),
            io::ErrorKind::PermissionDenied => Self::new(
                Kind::Permission,
                format_args!("{}: {error}", path.display()),
            ),
            _ => Self::new(Kind::Failed, format_args!("{}: {error}", path.display())),
        }
    }

    /// Its kind.
    #[cfg(test)]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its exit status.
    pub fn exit_code(&self) -> ExitCode {
        self.kind.exit_code()
    }

    /// The same failure with something in front of its line.
    pub fn context(self, what: impl Display) -> Self {
        Self {
            message: format!("{what}: {}", self.message),
            ..self
        }
    }
}

impl From<vfio_tph::Error> for Failure {
    fn from(error: vfio_tph::Error) -> Self {
        use vfio_tph::{Error, Refusal};

        let kind = match &error {
            Error::BadAddress(_) => Kind::Usage,
            Error::NoDevice(_) => Kind::NoDevice,
            Error::NotBound { .. } | Error::OtherDriver => Kind::NotBound,
            Error::NotUsable => Kind::NotUsable,
            Error::Open { source, .. } | Error::Setup { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => Kind::Permission,
                io::ErrorKind::ResourceBusy => Kind::Busy,
                _ => Kind::Failed,
            },
            Error::Refused {
                refusal: Refusal::Undisclosed | Refusal::ForeignCpu | Refusal::ChosenTag,
                ..
            } => Kind::Permission,
            _ => Kind::Failed,
        };
        let advice = match (&error, kind) {
            (Error::NotBound { address, .. }, _) => format!(": tphctl bind {address}"),
            (Error::OtherDriver, _) => ": tphctl bind".to_owned(),
            (_, Kind::Permission) if !rustix::process::geteuid().is_root() => {
                ": try sudo tphctl".to_owned()
            }
            (_, Kind::Busy) => ": somebody else has the device open".to_owned(),
            _ => String::new(),
        };
        Self::new(kind, format_args!("{error}{advice}"))
    }
}
