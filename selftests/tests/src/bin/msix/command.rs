// SPDX-License-Identifier: GPL-2.0-only

//! The Command register around accesses to the MSI-X table: a device that decodes no memory is made
//! to for a while, and one that does not answer is not taken for one that does.

use tph_selftests::bench::{Bench, Want};
use tph_selftests::module::Gate;
use tph_selftests::protocol::Fault;
use tph_selftests::uapi::pci_regs::*;
use tph_tests::{st, OTHER_CPU};

use super::open_in_use;

const COMMAND: u64 = PCI_COMMAND as u64;
const MEMORY: u64 = PCI_COMMAND_MEMORY as u64;

/// All ones in the Command register have Memory Space Enable in them. What was freed meanwhile is
/// still there when the device answers again, and is cleared then: no reset does it here.
pub fn r49_freed_while_gone_without_flr(bench: &mut Bench) {
    let endpoint = bench.take(Gate::Safe, &Want::NO_RESET);
    for memory in [true, false] {
        let bed = open_in_use(endpoint.clone());
        // With the requester off, nothing but the Command register tells that the device is gone.
        bed.device.set_control(0);
        bed.device.decode_memory(memory);
        endpoint.fault(Fault::AllOnes);
        bed.device.free_msix();
        endpoint.fault(Fault::None);
        let n = usize::from(bed.msix().count());
        assert_eq!(endpoint.entries(), vec![st(OTHER_CPU); n], "out of reach");
        drop(bed);
        endpoint.assert_off(&format!("close, memory enabled before: {memory}"));
    }
}

/// Of the Command register only the low byte is written: in the other one an INTx handler masks, at
/// any time.
pub fn r45_close_with_memory_disabled(bench: &mut Bench) {
    bench.each([false, true], |bench, without_flr| {
        let want = match without_flr {
            false => Want::MSIX,
            true => Want::NO_RESET,
        };
        let endpoint = bench.take(Gate::Safe, &want);
        let bed = open_in_use(endpoint.clone());
        bed.device.decode_memory(false);
        let mark = endpoint.mark();
        drop(bed);
        endpoint.assert_off(&format!(
            "close with memory disabled, without FLR: {without_flr}"
        ));
        let writes = endpoint.config_writes(mark, COMMAND..COMMAND + 1);
        let mut writes = writes
            .iter()
            .map(|&(_, width, value)| (width, value & MEMORY != 0));
        let on = writes.find(|&(_, memory)| memory);
        assert_eq!(on, Some((1, true)), "bytes");
        assert_eq!(writes.next(), Some((1, false)), "bytes");
    });
}
