// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! `tphctl watch`: counters and tracepoints.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::{Failure, Kind};
use crate::machine::{try_write, Machine, Pci};
use crate::output;

/// Looks again and again, until a signal.
pub fn run(
    machine: &Machine,
    device: &Pci,
    interval: f64,
    count: Option<u64>,
    json: bool,
) -> Result<ExitCode, Failure> {
    if machine.ours(device).is_none() {
        return Err(Failure::new(
            Kind::NotBound,
            format_args!(
                "{0}: not bound to vfio_tph: tphctl bind {0}",
                device.address
            ),
        ));
    }
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, ended.clone())
            .map_err(|error| Failure::new(Kind::Failed, format_args!("signals: {error}")))?;
    }
    let mut before = counters(machine, device)?;
    let mut events = Events::new(machine, device);
    if events.is_none() {
        anstream::eprintln!("tphctl: no tracing instance can be made: counters alone");
    }
    for (name, value) in &before {
        if !json && *value != 0 {
            crate::say!("{name} {value}");
        }
    }
    if json {
        output::json(&json!({ "counters": before, "events": [] }));
    }

    let mut looks = 0;
    while !ended.load(Ordering::Relaxed) && count.is_none_or(|count| looks < count) {
        wait(Duration::from_secs_f64(interval), &ended);
        looks += 1;
        let now = match counters(machine, device) {
            Ok(now) => now,
            Err(_) if machine.ours(device).is_none() => {
                return Err(Failure::new(
                    Kind::NotBound,
                    format_args!("{}: it is no longer bound to vfio_tph", device.address),
                ));
            }
            Err(failure) => return Err(failure),
        };
        let changed: BTreeMap<&String, u64> = now
            .iter()
            .filter_map(|(name, value)| {
                let more = value.checked_sub(before.get(name).copied().unwrap_or(0))?;
                (more != 0).then_some((name, more))
            })
            .collect();
        let lines = events.as_mut().map_or_else(Vec::new, Events::read);
        if json {
            output::json(&json!({ "counters": changed, "events": lines }));
        } else {
            for line in &lines {
                crate::say!("{line}");
            }
            for (name, more) in &changed {
                crate::say!("{name} +{more}");
            }
        }
        before = now;
    }
    Ok(ExitCode::SUCCESS)
}

fn wait(interval: Duration, ended: &AtomicBool) {
    let until = Instant::now() + interval;
    while !ended.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        // A signal need not interrupt a sleep.
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

fn counters(machine: &Machine, device: &Pci) -> Result<BTreeMap<String, u64>, Failure> {
    let path = machine.debugfs(device, "counters");
    let text = fs::read_to_string(&path).map_err(|error| Failure::file(&path, &error))?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect())
}

/// Tracepoints in a tracing instance of our own: nobody else's trace is disturbed.
struct Events {
    directory: PathBuf,
    enable: PathBuf,
    pipe: File,
    address: String,
    rest: String,
}

impl Events {
    fn new(machine: &Machine, device: &Pci) -> Option<Self> {
        let directory = machine.path(&format!(
            "sys/kernel/tracing/instances/tphctl-{}",
            std::process::id()
        ));
        fs::create_dir(&directory).ok()?;
        let system = machine.name(device).replace('-', "_");
        let enable = directory.join(format!("events/{system}/enable"));
        let pipe = try_write(&enable, "1").and_then(|()| {
            OpenOptions::new()
                .read(true)
                .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
                .open(directory.join("trace_pipe"))
        });
        match pipe {
            Ok(pipe) => Some(Self {
                directory,
                enable,
                pipe,
                address: device.address.to_string(),
                rest: String::new(),
            }),
            Err(_) => {
                let _ = fs::remove_dir(&directory);
                None
            }
        }
    }

    /// The lines of this device since the last time.
    fn read(&mut self) -> Vec<String> {
        let mut buffer = [0; 8192];
        // Until nothing is left: the pipe does not wait.
        while let Ok(length @ 1..) = self.pipe.read(&mut buffer) {
            self.rest += &String::from_utf8_lossy(&buffer[..length]);
        }
        let end = self.rest.rfind('\n').map_or(0, |at| at + 1);
        let left = self.rest.split_off(end);
        let lines = std::mem::replace(&mut self.rest, left);
        lines
            .lines()
            .filter(|line| line.contains(&self.address))
            // What is before the name of the event is who did it.
            .filter_map(|line| Some(line.split_once("vfio_tph_")?.1.to_owned()))
            .collect()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = try_write(&self.enable, "0");
        // An instance whose pipe is open is busy.
        if let Ok(null) = File::open("/dev/null") {
            self.pipe = null;
        }
        let _ = fs::remove_dir(&self.directory);
    }
}
