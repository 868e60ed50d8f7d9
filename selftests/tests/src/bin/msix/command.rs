// SPDX-License-Identifier: GPL-2.0-only

//! The Command register around accesses to the MSI-X table: a device that decodes no memory is made
//! to for a while, and one that does not answer is not taken for one that does.

use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tph_selftests::bench::{self, Bench};
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::pci::Bdf;
use tph_selftests::protocol::{Access, Fault};
use tph_selftests::uapi::pci_regs::*;
use tph_tests::{st, OTHER_CPU};

use super::lifetime::pick_without_reset;
use super::{pick, Bed};

/// Vectors enough that clearing them takes a while.
const MANY: u16 = 300;

const COMMAND: u64 = PCI_COMMAND as u64;
const MEMORY: u64 = PCI_COMMAND_MEMORY as u64;
const INTX_DISABLE: u64 = PCI_COMMAND_INTX_DISABLE as u64;

/// All ones in the Command register have Memory Space Enable in them. What was freed meanwhile is
/// still there when the device answers again, and is cleared then: no reset does it here.
pub fn r49_freed_while_gone_without_flr(bench: &mut Bench) {
    let endpoint = pick_without_reset(bench);
    bench::bind(&endpoint, Gate::Safe);
    for memory in [true, false] {
        let bed = Bed::open_in_use(endpoint.clone());
        // With the requester off, nothing but the Command register tells that the device is gone.
        bed.device.set_control(0);
        bed.device.decode_memory(memory);
        endpoint.fault(Fault::AllOnes);
        bed.free();
        endpoint.fault(Fault::None);
        let n = usize::from(bed.count());
        assert_eq!(endpoint.entries(), vec![st(OTHER_CPU); n], "out of reach");
        drop(bed);
        endpoint.assert_off(&format!("close, memory enabled before: {memory}"));
    }
}

/// Waits until the device decodes memory, and then inverts Interrupt Disable, as an INTx handler
/// may at any time; gives up when the test is `over`.
fn invert_interrupt_disable(bdf: &Bdf, over: &AtomicBool) {
    let config = bdf.config();
    while !over.load(Ordering::Relaxed) {
        let command = config.word(PCI_COMMAND as u16);
        if command != u16::MAX && u32::from(command) & PCI_COMMAND_MEMORY != 0 {
            // Ones would clear bits of Status.
            config.set_dword(
                PCI_COMMAND as u16,
                u32::from(command) ^ PCI_COMMAND_INTX_DISABLE,
            );
            return;
        }
    }
}

/// Closes a device that decodes no memory and has tags, while Interrupt Disable changes. What it
/// was set to, and what it was when the driver was through; none if the change came too late:
/// between the driver's last look at the register and its write, nobody can tell, and the change is
/// lost.
fn close_while_it_changes(endpoint: &Rc<Endpoint>) -> Option<(u64, u64)> {
    let bed = Bed::open_in_use(endpoint.clone());
    bed.device.decode_memory(false);
    let mark = endpoint.mark();
    let (bdf, over) = (&endpoint.bdf, AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| invert_interrupt_disable(bdf, &over));
        drop(bed);
        over.store(true, Ordering::Relaxed);
    });
    endpoint.assert_off("close");

    // The driver's writes are those of a word.
    let log = endpoint.log_after(mark);
    let mut accesses = log.iter().map(|entry| &entry.access).skip_while(|access| {
        let Access::ConfigWrite {
            offset,
            width,
            value,
        } = access
        else {
            return true;
        };
        (*offset, *width) != (COMMAND, 2) || value & MEMORY == 0
    });
    let (mut set_to, mut in_time) = (None, false);
    accesses.next().expect("memory is enabled to clear tags");
    for access in accesses {
        match access {
            Access::ConfigWrite {
                offset: COMMAND,
                width: 4,
                value,
            } => set_to = Some(*value),
            // To clear tags; the driver looks at the register after that.
            Access::MmioRead { .. } | Access::MmioWrite { .. } => in_time = set_to.is_some(),
            Access::ConfigWrite {
                offset: COMMAND,
                value,
                ..
            } => {
                assert_eq!(value & MEMORY, 0, "memory is disabled again");
                let set_to = set_to.filter(|_| in_time)?;
                return Some((set_to & INTX_DISABLE, value & INTX_DISABLE));
            }
            _ => (),
        }
    }
    panic!("memory stays enabled");
}

/// Of the Command register only Memory Space Enable is put back.
pub fn r45_close_with_memory_disabled_while_interrupts_are(bench: &mut Bench) {
    /// A thread that gets no CPU for long enough comes too late.
    const ROUNDS: usize = 20;

    let endpoint = pick(bench, MANY);
    bench::bind(&endpoint, Gate::Safe);
    let (set_to, left) = (0..ROUNDS)
        .find_map(|_| close_while_it_changes(&endpoint))
        .unwrap_or_else(|| {
            panic!("in {ROUNDS} rounds, no change came before all tags were cleared")
        });
    assert_eq!(left, set_to, "Interrupt Disable");
}
