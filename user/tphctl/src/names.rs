// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! Names of vendors and devices, from the machine's pci.ids.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

const FILES: [&str; 3] = [
    "usr/share/misc/pci.ids",
    "usr/share/hwdata/pci.ids",
    "var/lib/pciutils/pci.ids",
];

/// The names of some devices.
pub struct Names(HashMap<(u16, u16), String>);

impl Names {
    /// Looks up devices, each by vendor and device id. Without a file there are no names.
    pub fn of(root: &Path, wanted: &[(u16, u16)]) -> Self {
        let text = FILES.iter().find_map(|file| fs::read(root.join(file)).ok());
        let text = text.unwrap_or_default();
        Self(find(&String::from_utf8_lossy(&text), wanted))
    }

    /// The name of a device, or its ids.
    pub fn get(&self, ids: (u16, u16)) -> String {
        match self.0.get(&ids) {
            Some(name) => name.clone(),
            None => format!("{:04x}:{:04x}", ids.0, ids.1),
        }
    }
}

/// The id and the name that a line starts with.
fn entry(line: &str) -> Option<(u16, &str)> {
    Some((
        u16::from_str_radix(line.get(..4)?, 16).ok()?,
        line.get(4..)?.trim(),
    ))
}

fn find(text: &str, wanted: &[(u16, u16)]) -> HashMap<(u16, u16), String> {
    let vendors: HashSet<u16> = wanted.iter().map(|(vendor, _)| *vendor).collect();
    let wanted: HashSet<(u16, u16)> = wanted.iter().copied().collect();
    let mut names = HashMap::new();
    // The vendor whose devices these lines are, if one of them may be wanted.
    let mut vendor = None;
    for line in text.lines() {
        match line.as_bytes() {
            // Classes come last.
            [b'C', b' ', ..] => break,
            [] | [b'#' | b' ', ..] | [b'\t', b'\t', ..] => (),
            [b'\t', ..] => {
                let Some((maker, name)) = vendor else {
                    continue;
                };
                if let Some((device, device_name)) = entry(&line[1..]) {
                    if wanted.contains(&(maker, device)) {
                        names.insert((maker, device), format!("{name} {device_name}"));
                    }
                }
            }
            _ => {
                vendor = entry(line).filter(|(id, _)| vendors.contains(id));
                if let Some((maker, name)) = vendor {
                    for &(_, device) in wanted.iter().filter(|(other, _)| *other == maker) {
                        names.insert((maker, device), format!("{name} {device:04x}"));
                    }
                }
            }
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_known_and_unknown_devices() {
        let text = "# list\n\
            1af4  Red Hat, Inc.\n\t1041  Virtio 1.0 network device\n\t\t1af4 1100  sub\n\
            8086  Intel Corporation\n\t10c9  82576 Gigabit\n\
            C 02  Network controller\n\t00  Ethernet controller\n";
        let names = find(text, &[(0x8086, 0x10c9), (0x8086, 0xffff), (0x1234, 0x1)]);
        assert_eq!(names[&(0x8086, 0x10c9)], "Intel Corporation 82576 Gigabit");
        assert_eq!(names[&(0x8086, 0xffff)], "Intel Corporation ffff");
        assert_eq!(Names(names).get((0x1234, 1)), "1234:0001");
    }
}
