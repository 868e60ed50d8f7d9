// SPDX-License-Identifier: GPL-2.0-only

//! The asking side of the control channel.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

use crate::{
    Command, Counters, Entry, Fault, Lost, Reply, Request, Space, State, TphShape, Violation,
    ViolationKind,
};

/// Entries per [`Command::Log`]: keeps a reply at some hundred kilobytes.
const LOG_PAGE: u32 = 2048;

/// Why a question has no answer.
#[derive(Debug)]
pub enum Error {
    /// The channel broke.
    Io(io::Error),
    /// What came is no reply.
    Json(serde_json::Error),
    /// The endpoint refused.
    Refused(String),
    /// A reply to another question.
    Unexpected(Box<Reply>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(e) => write!(f, "control channel: {e}"),
            Error::Json(e) => write!(f, "control channel: not a reply: {e}"),
            Error::Refused(why) => write!(f, "endpoint: {why}"),
            Error::Unexpected(reply) => write!(f, "endpoint: unexpected reply {reply:?}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Self {
        Error::Io(e)
    }
}

impl From<serde_json::Error> for Error {
    fn from(e: serde_json::Error) -> Self {
        Error::Json(e)
    }
}

/// A connection to the endpoint process, over a unix socket or the guest's `/dev/vportNpM`.
pub struct Client<S: Read + Write> {
    stream: BufReader<S>,
}

impl<S: Read + Write> Client<S> {
    /// Takes a stream over.
    pub fn new(stream: S) -> Self {
        Client {
            stream: BufReader::new(stream),
        }
    }

    /// One request, one reply; a refusal is an error.
    pub fn request(&mut self, device: &str, command: Command) -> Result<Reply, Error> {
        let request = Request {
            device: device.to_owned(),
            command,
        };
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        self.stream.get_mut().flush()?;

        line.clear();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        match serde_json::from_slice(&line)? {
            Reply::Error(why) => Err(Error::Refused(why)),
            reply => Ok(reply),
        }
    }

    fn done(&mut self, device: &str, command: Command) -> Result<(), Error> {
        match self.request(device, command)? {
            Reply::Ok => Ok(()),
            other => Err(Error::Unexpected(Box::new(other))),
        }
    }

    /// Names of all endpoints.
    pub fn list(&mut self) -> Result<Vec<String>, Error> {
        match self.request("", Command::List)? {
            Reply::Names(names) => Ok(names),
            other => Err(Error::Unexpected(Box::new(other))),
        }
    }

    /// Present state.
    pub fn state(&mut self, device: &str) -> Result<State, Error> {
        match self.request(device, Command::State)? {
            Reply::State(state) => Ok(*state),
            other => Err(Error::Unexpected(Box::new(other))),
        }
    }

    /// Counters since they were last reset.
    pub fn counters(&mut self, device: &str) -> Result<Counters, Error> {
        match self.request(device, Command::Counters)? {
            Reply::Counters(counters) => Ok(counters),
            other => Err(Error::Unexpected(Box::new(other))),
        }
    }

    /// Counters to 0.
    pub fn reset_counters(&mut self, device: &str) -> Result<(), Error> {
        self.done(device, Command::ResetCounters)
    }

    /// All log entries from that sequence number on. Entries that the endpoint had to forget are
    /// an error: a test that reads half a log proves nothing.
    pub fn log(&mut self, device: &str, from: u64) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut next = Some(from);
        while let Some(from) = next {
            let limit = LOG_PAGE;
            match self.request(device, Command::Log { from, limit })? {
                Reply::Log(page) if page.lost > 0 => {
                    let why = format!("{} log entries are lost", page.lost);
                    return Err(Error::Refused(why));
                }
                Reply::Log(mut page) => {
                    entries.append(&mut page.entries);
                    next = page.next;
                }
                other => return Err(Error::Unexpected(Box::new(other))),
            }
        }
        Ok(entries)
    }

    /// Violations since they were last cleared.
    pub fn violations(&mut self, device: &str) -> Result<Vec<Violation>, Error> {
        match self.request(device, Command::Violations)? {
            Reply::Violations(violations) => Ok(violations),
            other => Err(Error::Unexpected(Box::new(other))),
        }
    }

    /// Number of violations of one kind.
    pub fn violation_count(&mut self, device: &str, kind: ViolationKind) -> Result<usize, Error> {
        let violations = self.violations(device)?;
        Ok(violations.iter().filter(|v| v.kind == kind).count())
    }

    /// Forgets violations.
    pub fn clear_violations(&mut self, device: &str) -> Result<(), Error> {
        self.done(device, Command::ClearViolations)
    }

    /// Adds a marker to the log; everything after it has a greater sequence number.
    pub fn marker(&mut self, device: &str, text: &str) -> Result<u64, Error> {
        let text = text.to_owned();
        match self.request(device, Command::Marker { text })? {
            Reply::Seq(seq) => Ok(seq),
            other => Err(Error::Unexpected(Box::new(other))),
        }
    }

    /// Reads behind the driver's back.
    pub fn peek(
        &mut self,
        device: &str,
        space: Space,
        offset: u64,
        width: u8,
    ) -> Result<u64, Error> {
        let command = Command::Peek {
            space,
            offset,
            width,
        };
        match self.request(device, command)? {
            Reply::Value(value) => Ok(value),
            other => Err(Error::Unexpected(Box::new(other))),
        }
    }

    /// Writes behind the driver's back.
    pub fn poke(
        &mut self,
        device: &str,
        space: Space,
        offset: u64,
        width: u8,
        value: u64,
    ) -> Result<(), Error> {
        let command = Command::Poke {
            space,
            offset,
            width,
            value,
        };
        self.done(device, command)
    }

    /// Changes what a dword of configuration space holds, now and after each reset.
    pub fn lie(&mut self, device: &str, offset: u16, value: u32) -> Result<(), Error> {
        self.done(device, Command::Lie { offset, value })
    }

    /// Says what the root port above supports.
    pub fn set_root_port(&mut self, device: &str, completer: u8) -> Result<(), Error> {
        self.done(device, Command::SetRootPort { completer })
    }

    /// Injects a fault, or ends it.
    pub fn fault(&mut self, device: &str, mode: Fault) -> Result<(), Error> {
        self.done(device, Command::Fault { mode })
    }

    /// Has the endpoint reset itself.
    pub fn reset_itself(&mut self, device: &str, what: Lost) -> Result<(), Error> {
        self.done(device, Command::ResetItself { what })
    }

    /// Says what TPH registers hold after each reset.
    pub fn after_reset(&mut self, device: &str, control: u32, tag: u16) -> Result<(), Error> {
        self.done(device, Command::AfterReset { control, tag })
    }

    /// Raises an MSI-X vector.
    pub fn raise_interrupt(&mut self, device: &str, vector: u16) -> Result<(), Error> {
        self.done(device, Command::RaiseInterrupt { vector })
    }

    /// Changes the shape of the TPH capability.
    pub fn set_tph(&mut self, device: &str, shape: TphShape) -> Result<(), Error> {
        self.done(device, Command::SetTph(shape))
    }

    /// Ends the process.
    pub fn exit(&mut self) -> Result<(), Error> {
        self.done("", Command::Exit)
    }
}
