// SPDX-License-Identifier: GPL-2.0-only

//! How much memory the kernel has given away: objects of each slab cache, exactly, and areas of
//! vmalloc, by who has asked for them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;

const SLABINFO: &str = "/proc/slabinfo";
const VMALLOCINFO: &str = "/proc/vmallocinfo";
const CACHES: &str = "/sys/kernel/slab";
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
/// The cache of 8 bytes.
const OF_A_WRITE: &str = "kmalloc-8";
const RCU_BARRIER: &str = "/sys/module/rcutree/parameters/do_rcu_barrier";

/// Caches that say nothing: those of who watches (a record of each allocation, or of each lock),
/// and that of the places of areas, which are free long before they are given back.
const NO_MATTER: [&str; 5] = [
    "kmemleak_object",
    "kmemleak_scan_area",
    "debug_objects_cache",
    "stackdepot",
    "vmap_area",
];

/// What is in use, by name.
#[derive(Clone, Debug, Default)]
pub struct InUse(BTreeMap<String, i64>);

/// The files by which caches give free objects back, open: to open one takes objects itself, which
/// would be free again, and kept, in caches that have just given theirs back.
fn shrinkers() -> Vec<File> {
    let caches = fs::read_dir(CACHES).unwrap_or_else(|error| panic!("{CACHES}: {error}"));
    let mut caches: Vec<_> = caches
        .flatten()
        // Aliases of a cache are links to it.
        .filter(|cache| cache.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|cache| cache.path())
        .collect();
    // Last the one that a write of two bytes takes an object from.
    caches.sort_by_key(|cache| (cache.ends_with(OF_A_WRITE), cache.clone()));
    caches
        .iter()
        .map(|cache| {
            let path = cache.join("shrink");
            let file = File::options().write(true).open(&path);
            file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

/// Gives free objects back that caches keep for the next who asks, or that wait to be freed.
fn shrink(shrinkers: &[File]) {
    // Objects that were freed by RCU wait for a grace period, and before that in batches, which the
    // shrinkers hand over.
    for _ in 0..2 {
        fs::write(DROP_CACHES, "2").unwrap_or_else(|error| panic!("{DROP_CACHES}: {error}"));
        rcu_barrier();
        for mut cache in shrinkers {
            cache
                .write_all(b"1")
                .unwrap_or_else(|error| panic!("{CACHES}: {error}"));
        }
    }
}

/// Waits for all that was to be freed by RCU: a grace period is not enough, after which a busy
/// machine takes its time to call who has waited for it.
fn rcu_barrier() {
    fs::write(RCU_BARRIER, "1").unwrap_or_else(|error| panic!("{RCU_BARRIER}: {error}"));
}

impl InUse {
    /// Now: the least of a few looks. What is left behind is there each time; what is only on its
    /// way out, as the files of a device that is gone, is not.
    pub fn now() -> Self {
        // Open for as long as is looked: as many each time.
        let shrinkers = shrinkers();
        let looks = (0..3).map(|_| {
            shrink(&shrinkers);
            Self::look()
        });
        looks.reduce(Self::least).expect("more than none")
    }

    /// What is in use in both.
    fn least(mut self, other: Self) -> Self {
        self.0.retain(|name, count| {
            let there = other.0.get(name).copied().unwrap_or(0);
            *count = there.min(*count);
            *count != 0
        });
        self
    }

    /// What is in use, with what is free and was not given back yet.
    fn look() -> Self {
        let text = fs::read_to_string(SLABINFO).unwrap_or_else(|e| panic!("{SLABINFO}: {e}"));
        let mut all = BTreeMap::new();
        for line in text.lines().skip(2) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(active)) = (words.next(), words.next()) else {
                continue;
            };
            if !NO_MATTER.contains(&name) {
                all.insert(name.to_owned(), active.parse().expect("a number"));
            }
        }
        let areas =
            fs::read_to_string(VMALLOCINFO).unwrap_or_else(|e| panic!("{VMALLOCINFO}: {e}"));
        // "start-end size caller ...", or "unpurged" in its place once nobody has it.
        for caller in areas
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2))
        {
            if caller != "unpurged" {
                *all.entry(format!("vmalloc: {caller}")).or_insert(0) += 1;
            }
        }
        assert!(all.len() > 10, "{SLABINFO}: {text}");
        Self(all)
    }

    /// What has become more since `before`, by more than `slack`.
    pub fn grown_since(&self, before: &InUse, slack: i64) -> Vec<(String, i64)> {
        let old = |name: &String| before.0.get(name).copied().unwrap_or(0);
        let grown = self.0.iter().map(|(name, now)| (name, now - old(name)));
        grown
            .filter(|&(_, more)| more > slack)
            .map(|(name, more)| (name.clone(), more))
            .collect()
    }
}
