// SPDX-License-Identifier: GPL-2.0-only

//! A guest of the test VM, to which QEMU passes devices on. Its init (guest/client/init) says what
//! it makes of them and switches it off.

use std::fs;

use tph_selftests::pci::Bdf;
use tph_selftests::vfio::OpenBy;

use crate::root::{note, run};

/// Slot of the root port above the first device; the others' follow.
const FIRST_SLOT: usize = 0x10;

/// Pages of 2 MiB that its memory is made of.
pub const PAGES: u32 = 96;

/// Seconds in which it has to boot, say what it has to say, and end.
const LIMIT: &str = "400";
/// What its kernel says.
const CONSOLE: &str = "/tmp/guest-console";

/// What the guest says of each of its topics, in their order.
pub fn boot(devices: &[(&Bdf, OpenBy)]) -> Vec<(String, String)> {
    let mut words: Vec<String> = [
        LIMIT,
        "qemu-system-x86_64 -nodefaults -no-user-config -no-reboot -display none",
        "-machine q35,memory-backend=memory -accel tcg -cpu max -m 192M",
        "-object memory-backend-memfd,id=memory,size=192M,hugetlb=on,hugetlbsize=2M",
        "-kernel /given/bzImage -initrd /given/initramfs",
        "-chardev stdio,id=shell,signal=off",
        "-device virtio-serial-pci,disable-legacy=on -device virtconsole,chardev=shell",
        "-append",
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    .map(str::to_owned)
    .collect();
    words.push("console=ttyS0 quiet panic=-1 kunit.enable=0 no_timer_check".to_owned());
    words.extend(["-serial".to_owned(), format!("file:{CONSOLE}")]);
    words.extend(["-object", "iommufd,id=backend"].map(str::to_owned));
    for (number, (bdf, by)) in devices.iter().enumerate() {
        let slot = FIRST_SLOT + number;
        let backend = match by {
            OpenBy::Cdev => ",iommufd=backend",
            _ => "",
        };
        let port = format!("pcie-root-port,id=port{number},addr={slot:#x},chassis={slot}");
        let device = format!("vfio-pci,host={bdf},bus=port{number}{backend}");
        words.extend(["-device".to_owned(), port, "-device".to_owned(), device]);
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (said, succeeded) = run("timeout", &words);
    if !succeeded {
        note(&fs::read_to_string(CONSOLE).unwrap_or_default());
    }
    assert!(succeeded, "a guest that ends within {LIMIT} s: {said}");
    let said = said.replace('\r', "");
    let mut topics: Vec<(String, String)> = said
        .split("==> ")
        .skip(1)
        .filter_map(|part| part.split_once('\n'))
        .map(|(topic, text)| (topic.to_owned(), text.to_owned()))
        .collect();
    // With the last one comes what QEMU itself has to say.
    let (last, _) = topics.pop().unwrap_or_default();
    assert_eq!(last, "end", "{said}");
    topics
}
