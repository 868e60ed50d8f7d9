// SPDX-License-Identifier: GPL-2.0-only

//! Memory: of the modules, and of each device that is bound or open.
//!
//! Objects are counted exactly, by the tracepoints of the slab allocator: what was allocated in a
//! step, by whoever, and is not freed when all has come to rest. Caches that any look at a file
//! fills (dentries, inodes) do not count.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::Duration;

use tph_bench::Row;
use tph_selftests::bench::Bench;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;

const STOCK: &str = "vfio-pci";
const TRACING: &str = "/sys/kernel/tracing";
const EVENTS: [&str; 4] = ["kmalloc", "kmem_cache_alloc", "kfree", "kmem_cache_free"];
/// What is freed later (RCU, work queues) is freed by then.
const REST: Duration = Duration::from_secs(2);

fn set(file: &str, text: &str) {
    let path = format!("{TRACING}/{file}");
    fs::write(&path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
}

fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace()
        .find_map(|word| word.strip_prefix(name))
}

/// Runs `body`; bytes of what it leaves allocated.
fn left<T>(body: impl FnOnce() -> T) -> (u64, T) {
    set("buffer_size_kb", "16384");
    set("trace", "");
    let switch = |on: &str| {
        for event in EVENTS {
            set(&format!("events/kmem/{event}/enable"), on);
        }
    };
    switch("1");
    let result = body();
    thread::sleep(REST);
    switch("0");

    let text = fs::read_to_string(format!("{TRACING}/trace")).expect("the trace");
    let mut live: HashMap<&str, u64> = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(pointer) = field(line, "ptr=") else {
            continue;
        };
        match field(line, "bytes_alloc=") {
            Some(bytes) => {
                let name = field(line, "name=").unwrap_or_default();
                if name != "dentry" && !name.contains("inode") {
                    live.insert(pointer, bytes.parse().expect("a number"));
                }
            }
            None => drop(live.remove(pointer)),
        }
    }
    set("trace", "");
    (live.values().sum(), result)
}

/// Bytes that a bound device has, and those that it has besides when it is open.
fn device(endpoint: &Endpoint, driver: &str) -> (u64, u64) {
    // Once before: what is made once, and kept, does not count.
    endpoint.bdf.unbind();
    endpoint.bdf.bind(driver).expect(driver);
    drop(endpoint.open());
    endpoint.bdf.unbind();
    thread::sleep(REST);

    let (bound, ()) = left(|| endpoint.bdf.bind(driver).expect(driver));
    let (open, device) = left(|| endpoint.open());
    drop(device);
    (bound, open)
}

/// Slab objects of a device.
pub fn objects(bench: &mut Bench) {
    for (name, size) in [
        ("cap", "table in the capability, 64 entries"),
        ("msix", "table in MSI-X, 2048 vectors"),
        ("plain", "no TPH"),
    ] {
        let endpoint = bench.named(name);
        let stock = device(&endpoint, STOCK);
        Gate::Safe.load();
        let ours = device(&endpoint, "vfio_tph");
        Row::new("memory of a bound device", size, "bytes", ours.0 as f64)
            .peer(STOCK, stock.0 as f64)
            .print();
        Row::new("memory of an open device", size, "bytes", ours.1 as f64)
            .peer(STOCK, stock.1 as f64)
            .print();
    }
}

/// Text, data and bss of the modules, as `size` has them.
pub fn modules(sizes: &[u64]) {
    let [ours @ .., _, _, _] = sizes else { return };
    let theirs = &sizes[3..];
    for ((part, ours), theirs) in ["text", "data", "bss"].iter().zip(ours).zip(theirs) {
        Row::new("module", part, "bytes", *ours as f64)
            .peer(STOCK, *theirs as f64)
            .print();
    }
}
