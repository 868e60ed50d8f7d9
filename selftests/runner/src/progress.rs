// SPDX-License-Identifier: GPL-2.0-only

//! What goes on: a line for each machine that runs on a terminal, nothing elsewhere. Results are
//! plain lines in either case.

use std::collections::HashMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The lines at the bottom of the terminal.
pub struct Progress {
    bars: MultiProgress,
    all: ProgressBar,
    running: HashMap<usize, ProgressBar>,
    shown: bool,
}

impl Progress {
    /// For so many machines.
    pub fn new(machines: usize) -> Self {
        let shown = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bars = MultiProgress::new();
        let all = match shown {
            true => bars.add(ProgressBar::new(machines as u64)),
            false => ProgressBar::hidden(),
        };
        all.set_style(style(
            "  {pos} of {len} machines have ended, {elapsed} {wide_bar}",
        ));
        Self {
            bars,
            all,
            running: HashMap::new(),
            shown,
        }
    }

    /// A machine starts.
    pub fn start(&mut self, place: usize, label: &str) {
        if self.shown {
            let bar = self
                .bars
                .insert_before(&self.all, ProgressBar::new_spinner());
            bar.set_style(style("  {prefix:<12} {elapsed:>4}  {wide_msg}"));
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(std::time::Duration::from_secs(1));
            self.running.insert(place, bar);
        }
    }

    /// What goes on in it.
    pub fn tell(&self, place: usize, what: String) {
        if let Some(bar) = self.running.get(&place) {
            bar.set_message(what);
        }
    }

    /// It has ended.
    pub fn end(&mut self, place: usize) {
        if let Some(bar) = self.running.remove(&place) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
        self.all.inc(1);
    }

    /// Prints results above those lines.
    pub fn print(&self, lines: &[String]) {
        let print = || lines.iter().for_each(|line| println!("{line}"));
        match self.shown {
            true => self.bars.suspend(print),
            false => print(),
        }
    }

    /// Takes the lines away.
    pub fn finish(self) {
        self.all.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a template of this file")
}
