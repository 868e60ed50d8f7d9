// SPDX-License-Identifier: GPL-2.0-only

//! What is measured and what it is judged by: the lines that the program in the guest prints, and
//! the one on the host reads. Between them stands KTAP, for the runner.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// A value of the peer, measured in the same VM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Who it is.
    pub name: String,
    /// Its value.
    pub value: f64,
}

/// The best that there can be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    /// The value.
    pub value: f64,
    /// Why there is nothing better.
    pub why: String,
}

/// What a value has to be, and whether it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// In words.
    pub text: String,
    /// Whether it is met.
    pub met: bool,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What is done.
    pub operation: String,
    /// To how much of it.
    pub size: String,
    /// What is counted.
    pub measure: String,
    /// vfio_tph's value.
    pub ours: f64,
    /// The other's.
    pub peer: Option<Peer>,
    /// The best possible.
    pub limit: Option<Limit>,
    /// What is wanted.
    pub target: Option<Target>,
    /// What the value is made of.
    pub detail: Vec<String>,
}

impl Row {
    /// A measurement that nothing is compared with yet.
    pub fn new(operation: &str, size: impl ToString, measure: &str, ours: f64) -> Self {
        Self {
            operation: operation.to_owned(),
            size: size.to_string(),
            measure: measure.to_owned(),
            ours,
            peer: None,
            limit: None,
            target: None,
            detail: Vec::new(),
        }
    }

    /// The peer's value.
    pub fn peer(mut self, name: &str, value: f64) -> Self {
        self.peer = Some(Peer {
            name: name.to_owned(),
            value,
        });
        self
    }

    /// The limit.
    pub fn limit(mut self, value: f64, why: &str) -> Self {
        self.limit = Some(Limit {
            value,
            why: why.to_owned(),
        });
        self
    }

    /// What the value is made of.
    pub fn detail(mut self, lines: Vec<String>) -> Self {
        self.detail = lines;
        self
    }

    fn target(mut self, text: String, met: bool) -> Self {
        self.target = Some(Target { text, met });
        self
    }

    fn peer_value(&self) -> f64 {
        self.peer.as_ref().expect("a peer to compare with").value
    }

    /// The value divided by the peer's.
    pub fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?;
        (peer.value != 0.0).then(|| self.ours / peer.value)
    }

    /// Wanted: no more than `value`.
    pub fn at_most(self, value: f64) -> Self {
        let met = self.ours <= value;
        self.target(format!("<= {value}"), met)
    }

    /// Wanted: that value.
    pub fn exactly(self, value: f64) -> Self {
        let met = self.ours == value;
        self.target(format!("= {value}"), met)
    }

    /// Wanted: no more than the limit.
    pub fn at_limit(self) -> Self {
        let limit = self.limit.as_ref().expect("a limit").value;
        self.at_most(limit)
    }

    /// Wanted: no more than so many times the peer's value.
    pub fn at_most_times(self, factor: f64) -> Self {
        let met = self.ours <= factor * self.peer_value();
        self.target(format!("<= {factor:.2} x peer"), met)
    }

    /// Wanted: less than the peer's value.
    pub fn less_than_peer(self) -> Self {
        let met = self.ours < self.peer_value();
        self.target("< peer".to_owned(), met)
    }

    /// Wanted: at least so many times less than the peer's value.
    pub fn times_less(self, factor: f64) -> Self {
        let met = self.ours * factor <= self.peer_value();
        self.target(format!("<= peer / {factor}"), met)
    }

    /// Prints it, and whether its target is met, as KTAP has it.
    pub fn print(&self) {
        print(&Line::Row(self.clone()));
        if let Some(target) = &self.target {
            let (operation, size, measure) = (&self.operation, &self.size, &self.measure);
            let name = format!("{operation}, {size}: {measure} {}", target.text);
            result(target.met, &name);
        }
    }
}

/// Results printed so far.
static RESULTS: AtomicUsize = AtomicUsize::new(0);

fn result(good: bool, name: &str) {
    let number = RESULTS.fetch_add(1, Ordering::Relaxed) + 1;
    let word = if good { "ok" } else { "not ok" };
    println!("{word} {number} {name}");
}

/// Prints that all was measured, and how many results there are: nobody knows before.
pub fn end() {
    result(true, "measured to the end");
    println!("1..{}", RESULTS.load(Ordering::Relaxed));
}

/// One point of a plot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// File name of the plot, without its extension.
    pub plot: String,
    /// Which line of it.
    pub series: String,
    /// Size.
    pub x: f64,
    /// Cost.
    pub y: f64,
}

/// One line of output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A measurement.
    Row(Row),
    /// A point of a plot.
    Point(Point),
}

/// Prints a line that a reader finds among others.
pub fn print(line: &Line) {
    let text = serde_json::to_string(line).expect("plain data");
    println!("{text}");
}

/// Prints a point of a plot.
pub fn point(plot: &str, series: &str, x: impl Into<f64>, y: f64) {
    print(&Line::Point(Point {
        plot: plot.to_owned(),
        series: series.to_owned(),
        x: x.into(),
        y,
    }));
}

/// Reads a line, if it is one of these.
pub fn parse(line: &str) -> Option<Line> {
    serde_json::from_str(line).ok()
}
