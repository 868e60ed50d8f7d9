// SPDX-License-Identifier: GPL-2.0-only

//! Bind, open, close and reset: accesses to the device, against vfio-pci, and what the difference
//! is made of.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use tph_bench::Row;
use tph_selftests::bench::Bench;
use tph_selftests::endpoint::Endpoint;
use tph_selftests::module::Gate;
use tph_selftests::protocol::registers::{MSIX_ENTRY, MSIX_PBA, MSIX_VECTOR_CONTROL};
use tph_selftests::protocol::{Access, Entry};
use tph_selftests::tph::{self, Requester, StMode};
use tph_selftests::uapi::pci_regs::*;
use tph_selftests::vfio::{cpu, Device};

const STOCK: &str = "vfio-pci";
/// Runtime PM has done what it will do. Time that a VM waits passes at once.
const REST: Duration = Duration::from_secs(2);

/// Accesses, by what they are.
type Accesses = BTreeMap<String, i64>;

/// What happens to a device between two binds.
const STEPS: [&str; 5] = [
    "bind",
    "open",
    "reset",
    "reset, TPH in use",
    "close, TPH in use",
];

/// Where the capabilities are.
struct Map {
    /// Name by first offset.
    parts: BTreeMap<u16, String>,
    tph: u16,
}

impl Map {
    fn new(endpoint: &Endpoint) -> Self {
        let config = endpoint.bdf.config();
        let mut parts = BTreeMap::from([(0, "header".to_owned())]);
        let mut at = config.byte(PCI_CAPABILITY_LIST as u16);
        while at != 0 {
            let name = match u32::from(config.byte(at.into())) {
                PCI_CAP_ID_PM => "PM".to_owned(),
                PCI_CAP_ID_EXP => "PCIe".to_owned(),
                PCI_CAP_ID_MSIX => "MSI-X".to_owned(),
                id => format!("capability {id:#x}"),
            };
            parts.insert(at.into(), name);
            at = config.byte(u16::from(at) + 1);
        }
        let mut found = 0;
        for link in tph::chain(|offset| config.dword(offset)) {
            let name = match u32::from(link.id) {
                PCI_EXT_CAP_ID_TPH => {
                    found = link.offset;
                    "TPH".to_owned()
                }
                id => format!("extended capability {id:#x}"),
            };
            parts.insert(link.offset, name);
        }
        Self { parts, tph: found }
    }

    fn register(&self, offset: u64) -> String {
        let offset = offset as u16;
        if offset == PCI_COMMAND as u16 {
            return "Command".to_owned();
        }
        if let Some(within) = offset.checked_sub(self.tph) {
            match u32::from(within) {
                0 => return "TPH header".to_owned(),
                PCI_TPH_CAP => return "TPH Capability".to_owned(),
                PCI_TPH_CTRL => return "TPH Control".to_owned(),
                within if within < PCI_TPH_BASE_SIZEOF + 128 => return "ST entries".to_owned(),
                _ => (),
            }
        }
        let (start, name) = self.parts.range(..=offset).next_back().expect("a header");
        format!("{name}+{:#x}", offset - start)
    }

    fn name(&self, entry: &Entry) -> Option<String> {
        Some(match entry.access {
            Access::ConfigRead { offset, width, .. } => {
                format!("read {} ({width} bytes)", self.register(offset))
            }
            Access::ConfigWrite { offset, width, .. } => {
                format!("write {} ({width} bytes)", self.register(offset))
            }
            Access::MmioRead { bar: 0, offset, .. } if is_vector_control(offset) => {
                "read Vector Control".to_owned()
            }
            Access::MmioWrite { bar: 0, offset, .. } if is_vector_control(offset) => {
                "write Vector Control".to_owned()
            }
            Access::MmioRead { bar: 0, offset, .. } if offset < MSIX_PBA => {
                "read MSI-X table (to flush a write)".to_owned()
            }
            Access::MmioRead { bar, offset, .. } => format!("read BAR {bar}+{offset:#x}"),
            Access::MmioWrite { bar, offset, .. } => format!("write BAR {bar}+{offset:#x}"),
            _ => return None,
        })
    }

    fn count(&self, log: &[Entry]) -> Accesses {
        let mut accesses = Accesses::new();
        for name in log.iter().filter_map(|entry| self.name(entry)) {
            *accesses.entry(name).or_default() += 1;
        }
        accesses
    }
}

fn is_vector_control(offset: u64) -> bool {
    offset < 2048 * MSIX_ENTRY && offset % MSIX_ENTRY == MSIX_VECTOR_CONTROL
}

/// Accesses in each of [`STEPS`].
fn steps(endpoint: &Endpoint, map: &Map, driver: &str, in_use: impl Fn(&Device)) -> Vec<Accesses> {
    endpoint.bdf.unbind();
    let mut steps = Vec::new();
    let mut step = |body: &mut dyn FnMut()| {
        let mark = endpoint.mark();
        body();
        // The device goes to sleep, or does not: that is to be in this step.
        thread::sleep(REST);
        steps.push(map.count(&endpoint.log_after(mark)));
    };
    step(&mut || endpoint.bdf.bind(driver).expect(driver));
    let mut device = None;
    step(&mut || device = Some(endpoint.open()));
    let open = device.as_ref().expect("an open device");
    step(&mut || open.reset().expect("VFIO_DEVICE_RESET"));
    in_use(open);
    step(&mut || open.reset().expect("VFIO_DEVICE_RESET"));
    in_use(open);
    step(&mut || drop(device.take()));
    steps
}

fn total(accesses: &Accesses) -> i64 {
    accesses.values().sum()
}

/// What the left one has more of.
fn more(left: &Accesses, right: &Accesses) -> Vec<String> {
    left.iter()
        .map(|(name, count)| (name, count - right.get(name).unwrap_or(&0)))
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count:+} {name}"))
        .collect()
}

/// What TPH itself takes in one of [`STEPS`].
struct Need {
    /// Accesses that nobody could do without.
    limit: i64,
    /// And those that have a reason.
    wanted: i64,
    /// All of them by name.
    what: &'static str,
}

/// What debugfs says of a device that nobody has opened yet is read when it is bound.
const FOR_WHY: Need = Need {
    limit: 1 + 1,
    wanted: 1 + 1,
    what: "read Capability and Message Control of MSI-X",
};

/// Compares each of [`STEPS`] of a device.
fn compare(
    endpoint: &Rc<Endpoint>,
    kind: &str,
    vectors: u16,
    entries: u16,
    needs: [Need; STEPS.len()],
) {
    let map = Map::new(endpoint);
    let allocate = |device: &Device| {
        if vectors > 0 {
            device
                .set_msix(0, &vec![-1; vectors.into()])
                .expect("SET_IRQS of all vectors");
        }
    };
    let stock = steps(endpoint, &map, STOCK, allocate);
    Gate::Safe.load();
    let ours = steps(endpoint, &map, "vfio_tph", |device| {
        allocate(device);
        device.enable(StMode::InterruptVector, Requester::Standard);
        device
            .program(0, &vec![cpu(0); entries.into()])
            .expect("TPH_ST");
    });
    endpoint.check();
    for (((step, need), ours), stock) in STEPS.iter().zip(needs).zip(&ours).zip(&stock) {
        let mut detail = more(ours, stock);
        detail.extend(
            more(stock, ours)
                .iter()
                .map(|line| format!("-{}", &line[1..])),
        );
        Row::new(step, kind, "accesses", total(ours) as f64)
            .peer(STOCK, total(stock) as f64)
            .limit((total(stock) + need.limit) as f64, need.what)
            .at_most((total(stock) + need.wanted) as f64)
            .detail(detail)
            .print();
    }
}

/// A device with its table in the capability, and one with it in MSI-X.
pub fn all(bench: &mut Bench) {
    compare(
        &bench.named("cap"),
        "table in the capability, 64 entries",
        0,
        64,
        [
            FOR_WHY,
            Need {
                limit: 1 + 1 + 3 + 1 + 32,
                wanted: 1 + 1 + 3 + 1 + 32,
                what: "read Capability, read Device Capabilities 2, read 3 headers of hardware's \
                       chain, write Control, write 32 dwords of entries",
            },
            Need {
                limit: 1 + 32,
                wanted: 1 + 32,
                what: "write Control and 32 dwords of entries after it, whatever the device has \
                       made of itself",
            },
            Need {
                limit: 1 + 1 + 32,
                wanted: 2 + 1 + 32,
                what: "write Control before it (disable, then the mode), write Control and 32 \
                       dwords of entries after it",
            },
            Need {
                limit: 1 + 32,
                wanted: 2 + 32,
                what: "write Control (disable, then the mode), write 32 dwords of entries",
            },
        ],
    );
    compare(
        &bench.named("msix16"),
        "table in MSI-X, 16 vectors",
        16,
        16,
        [
            FOR_WHY,
            Need {
                limit: 1 + 1 + 3 + 1 + 16,
                wanted: 1 + 1 + 3 + 1 + 1 + 16,
                what: "read Capability, read Device Capabilities 2, read 3 headers of hardware's \
                       chain, write Control, (see in Command that memory is decoded,) read 16 \
                       entries",
            },
            Need {
                limit: 1 + 16,
                wanted: 1 + 1 + 16,
                what: "write Control after it, (see in Command that memory is decoded,) read 16 \
                       entries, whatever the device has made of itself",
            },
            Need {
                limit: 1 + 16 + 1 + 1 + 16 + 1,
                wanted: 2 + 1 + 16 + 1 + 1 + 1 + 16 + 1,
                what: "write Control (disable, then the mode), (see in Command that memory is \
                       decoded,) write 16 entries, which the core would restore, one flush; the \
                       same after it",
            },
            Need {
                limit: 1 + 16 + 1,
                wanted: 2 + 1 + 16 + 1,
                what: "write Control (disable, then the mode), (see in Command that memory is \
                       decoded,) write 16 entries, one flush",
            },
        ],
    );
}
