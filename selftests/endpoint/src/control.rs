// SPDX-License-Identifier: GPL-2.0-only

//! The control socket: JSON lines, a thread for each client.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};
use nix::sys::eventfd::EventFd;
use tph_protocol::{Command, Reply, Request};

use crate::server::Port;

/// Longest line that is read: no request comes near it.
const LINE_MAX: u64 = 1 << 20;

/// What clients can reach.
pub struct Control {
    ports: Vec<Arc<Port>>,
    /// Set off by [`Command::Exit`].
    exit: Arc<EventFd>,
}

impl Control {
    /// For these endpoints.
    pub fn new(ports: Vec<Arc<Port>>, exit: Arc<EventFd>) -> Self {
        Control { ports, exit }
    }

    /// Takes clients for ever.
    pub fn serve(self: &Arc<Self>, listener: &UnixListener) -> Result<()> {
        loop {
            let (stream, _) = listener.accept().context("accept")?;
            let control = Arc::clone(self);
            thread::spawn(move || {
                if let Err(why) = control.serve_client(&stream) {
                    eprintln!("tph-endpoint: control: {why:#}");
                }
            });
        }
    }

    fn serve_client(&self, mut stream: &UnixStream) -> Result<()> {
        let mut reader = BufReader::new(stream);
        let mut line = vec![];
        loop {
            line.clear();
            let mut bounded = std::io::Read::take(&mut reader, LINE_MAX);
            if bounded.read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            let request = serde_json::from_slice(&line);
            let exit = matches!(
                &request,
                Ok(Request {
                    command: Command::Exit,
                    ..
                })
            );
            let mut answer = serde_json::to_vec(&self.reply(request))?;
            answer.push(b'\n');
            stream.write_all(&answer)?;
            // The answer comes first: nobody is there to give it afterwards.
            if exit {
                self.exit.write(1)?;
            }
        }
    }

    fn reply(&self, request: serde_json::Result<Request>) -> Reply {
        let request = match request {
            Ok(request) => request,
            Err(why) => return Reply::Error(format!("not a request: {why}")),
        };
        match request.command {
            Command::List => Reply::Names(self.ports.iter().map(|port| port.name()).collect()),
            Command::Exit => Reply::Ok,
            command => match self.ports.iter().find(|p| p.name() == request.device) {
                Some(port) => port.control(command),
                None => Reply::Error(format!("no endpoint {:?}", request.device)),
            },
        }
    }
}
