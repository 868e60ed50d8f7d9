// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! A picture of the CPUs: a cell each, with the colour of its tag, hatched where it has none; in
//! frames, which are packages and the caches in them.

use std::collections::BTreeMap;

use svg::node::element::{Definitions, Group, Line, Pattern, Rectangle, Text, Title};
use svg::Document;

use crate::map::{tag, Cpu};

const CELL_WIDTH: f64 = 64.0;
const CELL_HEIGHT: f64 = 44.0;
const GAP: f64 = 6.0;
const FRAME: f64 = 14.0;
const HEADING: f64 = 22.0;
/// Cells in a row.
const COLUMNS: usize = 8;

fn text(x: f64, y: f64, size: f64, what: impl Into<String>) -> Text {
    Text::new(what)
        .set("x", x)
        .set("y", y)
        .set("font-family", "sans-serif")
        .set("font-size", size)
        .set("fill", "#222222")
}

fn frame(x: f64, y: f64, width: f64, height: f64, fill: &str) -> Rectangle {
    Rectangle::new()
        .set("x", x)
        .set("y", y)
        .set("width", width)
        .set("height", height)
        .set("rx", 6)
        .set("fill", fill)
        .set("stroke", "#888888")
}

/// Colours far from each other, whichever tags there are.
fn colour(position: usize) -> String {
    // Steps of the golden angle never come near each other soon.
    let hue = (position as f64 * 137.508 + 200.0) % 360.0;
    format!("hsl({hue:.0}, 62%, 74%)")
}

fn cell(x: f64, y: f64, cpu: &Cpu, fill: String) -> Group {
    let about = format!(
        "CPU {}, core {}, tag {}",
        cpu.cpu,
        cpu.core,
        cpu.tag.map_or("not valid".to_owned(), |_| tag(cpu))
    );
    Group::new()
        .add(Title::new(about))
        .add(
            Rectangle::new()
                .set("x", x)
                .set("y", y)
                .set("width", CELL_WIDTH)
                .set("height", CELL_HEIGHT)
                .set("rx", 4)
                .set("fill", fill)
                .set("stroke", "#555555"),
        )
        .add(text(x + 6.0, y + 16.0, 11.0, format!("CPU {}", cpu.cpu)))
        .add(
            text(x + 6.0, y + 35.0, 15.0, tag(cpu))
                .set("font-family", "monospace")
                .set("font-weight", "bold"),
        )
}

/// Draws CPUs, which are in the order of packages and caches.
pub fn draw(title: &str, cpus: &[Cpu]) -> String {
    let mut tags: Vec<u16> = cpus.iter().filter_map(|cpu| cpu.tag).collect();
    tags.sort_unstable();
    tags.dedup();
    let fill = |cpu: &Cpu| match cpu.tag.and_then(|tag| tags.binary_search(&tag).ok()) {
        Some(position) => colour(position),
        None => "url(#none)".to_owned(),
    };

    let mut packages: BTreeMap<i64, BTreeMap<Option<i64>, Vec<&Cpu>>> = BTreeMap::new();
    for cpu in cpus {
        let caches = packages.entry(cpu.package).or_default();
        caches.entry(cpu.l3).or_default().push(cpu);
    }
    let columns = packages
        .values()
        .flat_map(|caches| caches.values().map(Vec::len))
        .max()
        .unwrap_or(1)
        .min(COLUMNS);
    let cells = columns as f64 * (CELL_WIDTH + GAP) - GAP;
    let width = (cells + 6.0 * FRAME).max(320.0);

    let mut drawing = Group::new();
    let mut y = 2.0 * FRAME + HEADING;
    for (package, caches) in &packages {
        let top = y;
        let mut inner = Group::new();
        y += HEADING + FRAME / 2.0;
        for (cache, cpus) in caches {
            let rows = cpus.len().div_ceil(COLUMNS) as f64;
            let height = HEADING + rows * (CELL_HEIGHT + GAP) - GAP + FRAME;
            let name = cache.map_or("no L3 known".to_owned(), |id| format!("L3 {id}"));
            inner = inner
                .add(frame(
                    2.0 * FRAME,
                    y,
                    width - 4.0 * FRAME,
                    height,
                    "#ffffff",
                ))
                .add(text(3.0 * FRAME, y + 15.0, 11.0, name));
            for (place, cpu) in cpus.iter().enumerate() {
                let column = (place % COLUMNS) as f64;
                let row = (place / COLUMNS) as f64;
                inner = inner.add(cell(
                    3.0 * FRAME + column * (CELL_WIDTH + GAP),
                    y + HEADING + row * (CELL_HEIGHT + GAP),
                    cpu,
                    fill(cpu),
                ));
            }
            y += height + FRAME / 2.0;
        }
        y += FRAME / 2.0;
        drawing = drawing
            .add(frame(FRAME, top, width - 2.0 * FRAME, y - top, "#f2f2f2"))
            .add(text(
                2.0 * FRAME,
                top + 17.0,
                13.0,
                format!("Package {package}"),
            ))
            .add(inner);
        y += FRAME;
    }

    // Stripes from corner to corner.
    let hatch = Pattern::new()
        .set("id", "none")
        .set("width", 8)
        .set("height", 8)
        .set("patternUnits", "userSpaceOnUse")
        .set("patternTransform", "rotate(45)")
        .add(
            Rectangle::new()
                .set("width", 8)
                .set("height", 8)
                .set("fill", "#ffffff"),
        )
        .add(
            Line::new()
                .set("x1", 0)
                .set("y1", 0)
                .set("x2", 0)
                .set("y2", 8)
                .set("stroke", "#bbbbbb")
                .set("stroke-width", 5),
        );
    Document::new()
        .set("viewBox", (0, 0, width, y))
        .set("width", width)
        .set("height", y)
        .add(Definitions::new().add(hatch))
        .add(
            Rectangle::new()
                .set("width", "100%")
                .set("height", "100%")
                .set("fill", "#ffffff"),
        )
        .add(text(
            FRAME,
            FRAME + 16.0,
            16.0,
            format!("Steering tags of CPUs: {title}"),
        ))
        .add(drawing)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tag_has_its_colour_and_none_is_hatched() {
        let cpu = |cpu, l3, tag| Cpu {
            cpu,
            package: 0,
            l3: Some(l3),
            core: cpu.into(),
            tag,
            ph_ignored: false,
        };
        let cpus = [
            cpu(0, 0, Some(0x10)),
            cpu(1, 0, Some(0x10)),
            cpu(2, 1, Some(0x12)),
            cpu(3, 1, None),
        ];
        let drawn = draw("standard tags", &cpus);
        let count = |what: &str| drawn.matches(what).count();
        assert_eq!(count(&format!("fill=\"{}\"", colour(0))), 2);
        assert_eq!(count(&format!("fill=\"{}\"", colour(1))), 1);
        assert_eq!(count("fill=\"url(#none)\""), 1);
        assert_eq!(count("L3 "), 2);
        assert!(drawn.contains("CPU 3, core 3, tag not valid"));
    }

    #[test]
    fn no_cpus_are_drawn_too() {
        assert!(draw("nothing", &[]).starts_with("<svg"));
    }
}
