// SPDX-License-Identifier: GPL-2.0-only

//! How much memory the kernel has given away: objects of each slab cache, exactly, and areas of
//! vmalloc, by who has asked for them.

use std::collections::BTreeMap;
use std::fs;

const SLABINFO: &str = "/proc/slabinfo";
const VMALLOCINFO: &str = "/proc/vmallocinfo";
const CACHES: &str = "/sys/kernel/slab";
const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";
const RCU_BARRIER: &str = "/sys/module/rcutree/parameters/do_rcu_barrier";

/// Caches that say nothing: those of who watches (a record of each allocation, or of each lock), and
/// that of the places of areas, which are free long before they are given back.
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

/// Gives free objects back that caches keep for the next who asks, or that wait to be freed: what is
/// left is in use.
fn shrink() {
    // Objects that were freed by RCU wait for a grace period, and before that in batches, which the
    // shrinkers hand over.
    for _ in 0..3 {
        fs::write(DROP_CACHES, "2").unwrap_or_else(|error| panic!("{DROP_CACHES}: {error}"));
        rcu_barrier();
        let caches = fs::read_dir(CACHES).unwrap_or_else(|error| panic!("{CACHES}: {error}"));
        for cache in caches.flatten() {
            // Aliases of a cache are links to it.
            if cache.file_type().is_ok_and(|kind| kind.is_dir()) {
                let _ = fs::write(cache.path().join("shrink"), "1");
            }
        }
    }
}

/// Waits for all that was to be freed by RCU: a grace period is not enough, after which a busy machine
/// takes its time to call who has waited for it.
fn rcu_barrier() {
    fs::write(RCU_BARRIER, "1").unwrap_or_else(|error| panic!("{RCU_BARRIER}: {error}"));
}

impl InUse {
    /// Now.
    pub fn now() -> Self {
        shrink();
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
