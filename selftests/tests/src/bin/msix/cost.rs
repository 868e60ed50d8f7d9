// SPDX-License-Identifier: GPL-2.0-only

//! What a batch costs: device accesses, counted by the endpoint.

use tph_selftests::bench::Bench;
use tph_selftests::kernel;
use tph_selftests::module::Gate;
use tph_selftests::tph::Requester;
use tph_selftests::vfio::literal;

use super::Bed;

/// pcie_tph_set_st_entry() takes five config accesses and two of the table.
const CONFIG_PER_ENTRY: u64 = 5;
const TABLE_PER_ENTRY: u64 = 2;
/// Whether the first tag, and then the last one, has arrived: that function does not say.
const TABLE_PER_BATCH: u64 = 2;
/// A look before, whether the table is decoded, what was in force put back, a look after.
const CONFIG_PER_BATCH: u64 = 5;
/// Besides a write for each vector, where the kernel writes many at once: the same, disabled
/// before, and the read that follows the writes.
const BESIDES: u64 = 6;

pub fn r40_accesses_per_entry(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Standard);
    for count in [1, 2, 3, bed.count()] {
        let sources = vec![literal(7); count.into()];
        bed.endpoint.reset_counters();
        bed.device.program(0, &sources).expect("TPH_ST");
        let counters = bed.endpoint.counters();
        let config = counters.config_read + counters.config_write;
        let table = counters.mmio_read + counters.mmio_write;
        println!(
            "# {count} vectors: {} config reads, {} config writes, {} MMIO reads, {} MMIO writes",
            counters.config_read, counters.config_write, counters.mmio_read, counters.mmio_write
        );
        let n = u64::from(count);
        assert!(
            config <= CONFIG_PER_ENTRY * n + CONFIG_PER_BATCH,
            "{count}: {counters:?}"
        );
        assert!(
            table <= TABLE_PER_ENTRY * n + TABLE_PER_BATCH,
            "{count}: {counters:?}"
        );
        if kernel::has("pci_msix_write_tph_tags") {
            assert!(config + table <= n + BESIDES, "{count}: {counters:?}");
        }
    }
}

/// Interrupts are set up anew while tags are in use: as long as no vector is freed, the requester
/// stays enabled, and nothing is written but what vfio-pci writes.
pub fn r49_nothing_is_freed_nothing_is_written(bench: &mut Bench) {
    let bed = Bed::new(bench, Gate::Unsafe, Requester::Extended);
    bed.fill();
    bed.endpoint.reset_counters();
    bed.mask_and_unmask();
    let counters = bed.endpoint.counters();
    assert_eq!(
        (counters.tph_read, counters.tph_write),
        (0, 0),
        "{counters:?}"
    );
}
