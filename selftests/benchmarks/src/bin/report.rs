// SPDX-License-Identifier: GPL-2.0-only

//! Makes a table, a JSON file and plots of what `bench` has printed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{ensure, Context, Result};
use clap::Parser;
use plotters::prelude::*;
use serde::Serialize;
use tph_bench::{parse, Line, Point, Row};

#[derive(Parser)]
#[command(about = "Reports what bench has measured, which is read from stdin")]
struct Arguments {
    /// All of it, machine-readable
    #[arg(long, value_name = "FILE")]
    json: PathBuf,
    /// Draw plots
    #[arg(long, value_name = "DIRECTORY")]
    plots: Option<PathBuf>,
    /// What was measured, for the JSON file
    #[arg(long, default_value = "")]
    commit: String,
}

#[derive(Serialize)]
struct Report<'a> {
    commit: &'a str,
    rows: &'a [Row],
    points: &'a [Point],
}

/// A plot: its file, what it shows, its axes.
const PLOTS: [(&str, &str, &str, &str); 6] = [
    (
        "st-capability",
        "TPH_ST, ST table in the capability",
        "entries",
        "config accesses",
    ),
    (
        "st-msix",
        "TPH_ST, ST table in MSI-X",
        "vectors",
        "accesses",
    ),
    (
        "st-msix-instructions",
        "TPH_ST, ST table in MSI-X",
        "vectors",
        "instructions",
    ),
    ("cpus-first", "First lookup of CPUs", "CPUs", "instructions"),
    (
        "cpus-cached",
        "Later lookups of CPUs, in one call",
        "CPUs",
        "instructions",
    ),
    (
        "devices",
        "A call on one device, while others are bound",
        "devices",
        "instructions",
    ),
];

/// How lines of KTAP begin, and those that stand around a program.
const FOR_THE_RUNNER: [&str; 6] = ["KTAP version", "1..", "ok ", "not ok ", "==> ", "<== "];

fn number(value: f64) -> String {
    if value.fract().abs() < 0.05 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn cells(row: &Row) -> [String; 8] {
    let verdict = row.target.as_ref().map_or("", |target| match target.met {
        true => "met",
        false => "MISSED",
    });
    [
        format!("{}, {}", row.operation, row.size)
            .trim_end_matches(", ")
            .to_owned(),
        row.measure.clone(),
        number(row.ours),
        row.peer
            .as_ref()
            .map_or(String::new(), |peer| number(peer.value)),
        row.ratio()
            .map_or(String::new(), |ratio| format!("{ratio:.4}")),
        row.limit
            .as_ref()
            .map_or(String::new(), |limit| number(limit.value)),
        row.target
            .as_ref()
            .map_or(String::new(), |target| target.text.clone()),
        verdict.to_owned(),
    ]
}

fn table(rows: &[Row]) {
    let head = [
        "operation",
        "measure",
        "vfio_tph",
        "peer",
        "ratio",
        "limit",
        "target",
        "",
    ]
    .map(str::to_owned);
    let all: Vec<[String; 8]> = std::iter::once(head)
        .chain(rows.iter().map(cells))
        .collect();
    let widths: Vec<usize> = (0..8)
        .map(|column| all.iter().map(|row| row[column].len()).max().unwrap_or(0))
        .collect();
    for (number, row) in all.iter().enumerate() {
        let line: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                2..=5 => format!("{cell:>width$}"),
                _ => format!("{cell:<width$}"),
            })
            .collect();
        println!("{}", line.join("  ").trim_end());
        let Some(row) = number.checked_sub(1).map(|at| &rows[at]) else {
            continue;
        };
        let peer = row.peer.as_ref().map(|peer| format!("peer: {}", peer.name));
        let limit = row
            .limit
            .as_ref()
            .map(|limit| format!("limit: {}", limit.why));
        let notes: Vec<String> = peer.into_iter().chain(limit).collect();
        if !notes.is_empty() {
            println!("    {}", notes.join("; "));
        }
        for line in &row.detail {
            println!("    {line}");
        }
    }
}

/// The points of one plot, by series in the order of their appearance.
fn series<'a>(points: &'a [Point], plot: &str) -> Vec<(&'a str, Vec<(f64, f64)>)> {
    let mut found: Vec<(&str, Vec<(f64, f64)>)> = Vec::new();
    for point in points.iter().filter(|point| point.plot == plot) {
        match found.iter_mut().find(|(name, _)| *name == point.series) {
            Some((_, line)) => line.push((point.x, point.y)),
            None => found.push((&point.series, vec![(point.x, point.y)])),
        }
    }
    found
}

fn draw(directory: &Path, points: &[Point]) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (plot, title, x, y) in PLOTS {
        let lines = series(points, plot);
        ensure!(!lines.is_empty(), "nothing was measured for {plot}");
        let all = || lines.iter().flat_map(|(_, line)| line.iter());
        let right = all().map(|point| point.0).fold(0.0, f64::max);
        let top = all().map(|point| point.1).fold(0.0, f64::max) * 1.08;

        let path = directory.join(format!("{plot}.svg"));
        let root = SVGBackend::new(&path, (640, 400)).into_drawing_area();
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&root)
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..right, 0.0..top)?;
        chart
            .configure_mesh()
            .x_desc(x)
            .y_desc(y)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&|value| format!("{value:.0}"))
            .light_line_style(WHITE)
            .draw()?;
        for (number, (name, line)) in lines.iter().enumerate() {
            let colour = [BLUE, RED, BLACK][number % 3];
            chart
                .draw_series(LineSeries::new(line.iter().copied(), &colour))?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
            chart.draw_series(
                line.iter()
                    .map(|&point| Circle::new(point, 2, colour.filled())),
            )?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present().with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn run() -> Result<bool> {
    let arguments = Arguments::parse();
    let (mut rows, mut points, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for line in io::stdin().lock().lines() {
        let line = line?;
        match parse(&line) {
            Some(Line::Row(row)) => rows.push(row),
            Some(Line::Point(point)) => points.push(point),
            // What is said to the runner is none of ours.
            None if FOR_THE_RUNNER.iter().any(|begin| line.starts_with(begin)) => (),
            None => notes.push(line),
        }
    }
    ensure!(!rows.is_empty(), "nothing was measured");
    table(&rows);
    notes.iter().for_each(|note| println!("{note}"));

    let report = Report {
        commit: &arguments.commit,
        rows: &rows,
        points: &points,
    };
    fs::write(&arguments.json, serde_json::to_string_pretty(&report)?)
        .with_context(|| arguments.json.display().to_string())?;
    if let Some(directory) = &arguments.plots {
        draw(directory, &points)?;
    }

    let mut verdicts: BTreeMap<bool, usize> = BTreeMap::new();
    for target in rows.iter().filter_map(|row| row.target.as_ref()) {
        *verdicts.entry(target.met).or_default() += 1;
    }
    let count = |met| verdicts.get(&met).copied().unwrap_or(0);
    println!("{} passed, {} failed", count(true), count(false));
    Ok(count(false) == 0)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}
