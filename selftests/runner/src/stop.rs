// SPDX-License-Identifier: GPL-2.0-only

//! The end that comes by a signal: it is passed on to what runs, and nothing more is started.

use std::sync::{Arc, Mutex};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// What runs, and the signal that ended it.
#[derive(Default)]
pub struct Stop(Mutex<State>);

#[derive(Default)]
struct State {
    children: Vec<u32>,
    signal: Option<i32>,
}

/// Asks a process to end. One that has ended already needs no asking.
fn end(child: u32) {
    let _ = kill(Pid::from_raw(child as i32), Signal::SIGTERM);
}

impl Stop {
    /// One that hears the signals by which a process is asked to end.
    pub fn listen() -> Result<Arc<Self>> {
        let stop = Arc::new(Self::default());
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("signals")?;
        let heard = stop.clone();
        thread::spawn(move || signals.forever().for_each(|signal| heard.stop(signal)));
        Ok(stop)
    }

    /// Ends what runs.
    pub fn stop(&self, signal: i32) {
        let mut state = self.0.lock().expect("no thread panics");
        state.signal.get_or_insert(signal);
        state.children.iter().copied().for_each(end);
    }

    /// A process that runs from now on.
    pub fn add(&self, child: u32) {
        let mut state = self.0.lock().expect("no thread panics");
        state.children.push(child);
        if state.signal.is_some() {
            end(child);
        }
    }

    /// It has ended.
    pub fn remove(&self, child: u32) {
        let mut state = self.0.lock().expect("no thread panics");
        state.children.retain(|&other| other != child);
    }

    /// Whether anything runs.
    #[cfg(test)]
    pub fn has_children(&self) -> bool {
        !self.0.lock().expect("no thread panics").children.is_empty()
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.0.lock().expect("no thread panics").signal
    }
}
