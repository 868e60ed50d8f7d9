// SPDX-License-Identifier: GPL-2.0-only

//! The table of all sessions.

use crate::parts::*;
use crate::session::{Compared, Firmware, Session, Share, DEFAULT};

const POWER: Session = Session {
    name: "power",
    about: "power states, shutdown, policy, lookups, the caller's CPUs",
    programs: &[
        "power",
        "waits",
        "shutdown",
        "policy",
        "resolve",
        "visibility",
        "caller",
    ],
    devices: &[VECTORS],
    cpus: 8,
    append: "pcie_port_pm=force",
    seconds: 110,
    arm64: Share::Less {
        program: "waits",
        instead: None,
        why: "it holds up config accesses, which are made under a spinlock there",
    },
    ..DEFAULT
};

const MSIX: Session = Session {
    name: "msix",
    about: "tables in MSI-X of every shape",
    programs: &["isolation", "msix"],
    devices: &[VECTORS, NO_RESET, ONE_PAGE],
    cpus: 8,
    ok_log: &[AER_INJECT],
    seconds: 120,
    ..DEFAULT
};

/// Where lockdep watches, the PCI core has a word to say to vfio-pci-core, which removes virtual
/// functions without its lock when the physical function is unbound: under vfio-pci, too.
const SRIOV: Session = Session {
    name: "sriov",
    about: "virtual functions",
    programs: &["sriov"],
    qemu: IGB,
    ok_log: &["WARNING: drivers/pci/remove.c:.* pci_stop_and_remove_bus_device"],
    ..DEFAULT
};

/// vfio-pci is a module there, beside vfio_tph.
const PARAMETERS: Session = Session {
    name: "parameters",
    about: "the module parameters of vfio-pci, under both drivers",
    programs: &["parameters"],
    devices: &[PARAMETERS_DEVICES],
    qemu: IGB_EDU_VGA,
    append: "initcall_blacklist=vfio_pci_init",
    sanitized: Share::Not(LOOKS_LIKE_A_LEAK),
    arm64: Share::Not("its devices are those of a PC"),
    ..SRIOV
};

/// Devices with memory to share: two on one bus, which are peers to each other; one that is no
/// requester. And one of another IOMMU group to ask for its own part. The kernel lets a driver map
/// a peer's memory only where nothing sends their requests up to the root complex: not QEMU's root
/// ports with their ACS on. Where lockdep watches, the kernel has a word to say to a driver that
/// forgets the lock: the wrapper and the exporter each have one.
const DMABUF: Session = Session {
    name: "dmabuf",
    about: "dma-bufs with steering tags",
    programs: &["dmabuf"],
    devices: &[&[
        "name=mem0,tph=cap,entries=64,completer=3,msix=4,bar={pages},bus=shared:peers",
        "name=mem1,tph=cap,entries=64,completer=3,msix=4,bar={pages},bus=shared:peers",
        "name=ram,tph=absent,completer=3,bar={pages}",
        "name=m16,tph=msix,msix=16",
    ]],
    append: "pci=disable_acs_redir=pci:1b36:c",
    ok_log: &["WARNING: .* at (vfio_pci_)?dma_buf_get_tph"],
    seconds: 45,
    ..DEFAULT
};

/// Under vfio-pci, too: the interrupt core goes on without a file in /proc that it has no memory
/// for, and warns when it cannot remove it; the vfio core warns of the reference that a group has,
/// which it makes and then has no memory to register. kmemleak says when it is short of memory
/// itself.
const INJECTED: Session = Session {
    name: "injected",
    about: "allocations and copies that fail",
    programs: &["injected"],
    devices: &[FAULTY, CAP_LOST],
    ok_log: &[
        "WARNING: fs/proc/generic.c:.* remove_proc_entry",
        "WARNING: drivers/vfio/group.c:.* vfio_group_release",
        "kmemleak: Cannot allocate a scan area",
    ],
    seconds: 60,
    ..DEFAULT
};

/// vfio-pci-core has a line for each byte of a capability that it meets again; dmesg reads 16M at
/// most. "short" is a Netronome NFP6000 to the kernel, which limits its config space to 600h bytes.
const HOSTILE: Session = Session {
    name: "hostile",
    about: "devices that lie",
    programs: &["hostile", "bir", "overlap"],
    devices: &[
        FAULTY,
        CAP_LOST,
        &[
            "name=bars,tph=msix,msix=16,bar0=4K,io=256,rom=64K",
            "name=short,entries=8,id=19ee:6000",
        ],
    ],
    append: "log_buf_len=16M",
    memory: 1024,
    seconds: 100,
    ..DEFAULT
};

/// /tmp is the build root's own here, the checkout is what both of us see.
const NESTED: Session = Session {
    name: "nested",
    about: "QEMU in the guest passes devices on to a guest of its own, TCG in TCG",
    programs: &["nested"],
    devices: &[&[
        "name=ep0,entries=64,extended=1,completer=3,msix=4",
        "name=ep1,entries=8,extended=1,completer=3,msix=4",
        "name=ep2,entries=8,extended=1,completer=3,msix=4",
        "name=vectors,tph=msix,extended=1,completer=3,msix=16",
    ]],
    qemu: &[
        "-fsdev",
        "local,id=build-root,path=/,security_model=none,readonly=on,multidevs=remap",
        "-device",
        "virtio-9p-pci,fsdev=build-root,mount_tag=build-root",
    ],
    memory: 2048,
    append: "hugepagesz=2M hugepages=200",
    nested: true,
    by_name: Some("make test-nested runs it"),
    time_limit: Some(1900),
    deadline: Some(900),
    seconds: 300,
    arm64: Share::Not("the guest in the guest is one of x86-64"),
    ..DEFAULT
};

/// R92: what needs neither a kernel of ours nor an init of ours.
const VNG: Session = Session {
    name: "vng",
    about: "a kernel that virtme-ng boots",
    programs: &["interface", "gate"],
    devices: &[COMMON],
    vng: true,
    sanitized: Share::Not("virtme-ng boots every kernel alike"),
    arm64: Share::Not("virtme-ng's guest has the files of this machine"),
    seconds: 80,
    ..DEFAULT
};

/// It runs one of its CPUs; the others are there to be looked up.
const BENCH: Session = Session {
    name: "bench_check",
    about: "what it costs: numbers of accesses and instructions, which are exact",
    programs: &["bench:--check"],
    devices: &[MEASURED],
    qemu: INSTRUCTIONS,
    firmware: Firmware::File("bench.asl"),
    cpus: 2,
    append: "maxcpus=1",
    package: Some("tph-bench"),
    by_name: Some("selftests/bench --check runs it"),
    arm64: Share::Not("it was not tried there"),
    time_limit: Some(1500),
    alone: true,
    seconds: 120,
    ..DEFAULT
};

/// R65: the kernel's own selftests of vfio, on a device that has TPH in full: the driver has
/// something to do besides being vfio-pci.
const PARITY: Session = Session {
    name: "parity_endpoint",
    about: "the kernel's selftests of vfio under both drivers: a table in the capability",
    programs: STOCK,
    devices: &[&["name=ep0,tph=cap,entries=64,extended=1,completer=3,msix=4"]],
    compared: Some(Compared {
        device: "ep0",
        parameters: "",
    }),
    memory: 1024,
    time_limit: Some(1800),
    by_name: Some("make test-parity runs it"),
    arm64: Share::Not("it was not tried there"),
    seconds: 60,
    ..DEFAULT
};

/// What the runner must see, one way to fail each. It judges alike on every kernel.
const WRONG: Session = Session {
    name: "wrong",
    about: "programs that fail on purpose",
    programs: &["early", "plan", "skips", "status"],
    sanitized: Share::Not("the runner judges alike on every kernel"),
    seconds: 10,
    must_fail: &[
        "early 1 passed 1 failed 0 skipped",
        "plan 2 passed 1 failed 0 skipped",
        "skips 0 passed 1 failed 1 skipped",
        "status 1 passed 1 failed 0 skipped",
        "FAILED: ended early",
        "FAILED: nothing but skips",
        "FAILED: status 3",
    ],
    arm64: Share::Not("the runner judges alike on every kernel"),
    ..DEFAULT
};

/// All of them, in the order of `--list`.
pub const SESSIONS: &[Session] = &[
    Session {
        name: "rules",
        about: "what is offered, hidden and refused",
        programs: &[
            "interface",
            "gate",
            "hidden:r2",
            "capability",
            "paths:below_a_switch",
            "why",
        ],
        devices: &[COMMON, SWITCH],
        ..DEFAULT
    },
    Session {
        name: "admin",
        about: "what an administrator does, by the command line",
        programs: &["admin"],
        devices: &[COMMON],
        sanitized: Share::Less {
            program: "admin",
            instead: Some("admin:holds"),
            why: "the calls of a command are those that other programs make",
        },
        ..DEFAULT
    },
    Session {
        name: "paths",
        about: "what is around a device changes: ports go and come",
        programs: &["paths", "why:group"],
        devices: &[
            &[
                "name=below,tph=cap,entries=64,extended=1,completer=3,msix=4",
                "name=rciep,tph=cap,entries=64,extended=1,completer=3,msix=4,port=rciep",
                "name=pair0,tph=msix,msix=16,bus=shared:pair",
                "name=pair1,tph=msix,msix=16,bus=shared:pair",
            ],
            SWITCH,
        ],
        ok_log: &[PCIEHP_LOCKS],
        ..DEFAULT
    },
    // The eighth CPU is the last one of which the firmware has something to say.
    Session {
        name: "life",
        about: "a device from bind to unbind, and what reaches it",
        programs: &[
            "table",
            "gone",
            "open_close",
            "descriptor",
            "cost",
            "dropin:r66",
            "dropin:r67_every",
            "dropin:r103",
            "compat",
            "wire",
            "paths:r46",
            "resets",
        ],
        devices: &[COMMON, PAIR_IN_MSIX, NO_RESET, SWITCH],
        cpus: 8,
        ok_log: &[AER_INJECT],
        sanitized: Share::Less {
            program: "cost",
            instead: None,
            why: "the driver's accesses are the same on every kernel",
        },
        large_pages: Share::Less {
            program: "compat",
            instead: None,
            why: "programs of 32 bits are made for pages of 4 KiB",
        },
        seconds: 150,
        ..DEFAULT
    },
    MSIX,
    POWER,
    // Each kind keeps its state in D3hot and loses it.
    Session {
        name: "virtual",
        about: "virtual tags, of each kind of table",
        programs: &["virtual"],
        devices: &[
            CAP,
            CAP_LOST,
            M16,
            &["name=lost,tph=msix,msix=16,nosoftrst=0"],
        ],
        // For one of which firmware has no answer.
        cpus: 8,
        ok_log: &[AER_INJECT],
        ..DEFAULT
    },
    Session {
        name: "sleep",
        about: "the whole system sleeps: one device of each kind",
        programs: &["sleep"],
        devices: &[
            CAP,
            CAP_LOST,
            M16,
            &["name=lost,tph=msix,msix=16,nosoftrst=0"],
        ],
        serial_control: true,
        sanitized: Share::Less {
            program: "sleep",
            instead: Some("sleep:r86_suspend_to_idle"),
            why: "the others take minutes each, and go the same way",
        },
        seconds: 140,
        arm64: Share::Not("the firmware of that machine knows no sleep"),
        ..DEFAULT
    },
    Session {
        name: "hibernation",
        about: "an image of the system that another kernel loads",
        programs: &["hibernation"],
        devices: &[
            CAP,
            CAP_LOST,
            M16,
            &["name=lost,tph=msix,msix=16,nosoftrst=0"],
        ],
        qemu: SWAP_DISK,
        serial_control: true,
        append: "hibernate=nocompress",
        sanitized: Share::Not("it boots four times, and half of its memory does not hold an image"),
        seconds: 40,
        arm64: Share::Not("the firmware of that machine knows no sleep"),
        ..DEFAULT
    },
    // One of each kind of table, alone and on one bus, and that loses its state in D3hot, likewise;
    // one with all vectors that there can be.
    Session {
        name: "lost",
        about: "devices that lose their state",
        programs: &["lost"],
        devices: &[
            CAP,
            CAP_LOST,
            M16,
            &[
                "name=lost,tph=msix,msix=16,nosoftrst=0",
                "name=most,tph=msix,msix={most}",
                "name=pair0,tph=msix,msix=16,flr=0,bus=shared:pair",
                "name=pair1,entries=8,flr=0,bus=shared:pair",
                "name=losing0,tph=msix,msix=16,nosoftrst=0,bus=shared:losing",
                "name=losing1,entries=8,nosoftrst=0,bus=shared:losing",
            ],
        ],
        ok_log: &[AER_INJECT],
        seconds: 100,
        ..DEFAULT
    },
    Session {
        name: "hotplug",
        about: "devices that leave",
        programs: &["hotplug"],
        devices: &[CAP, M16],
        ok_log: &[PCIEHP_LOCKS],
        ..DEFAULT
    },
    SRIOV,
    PARAMETERS,
    Session {
        name: "in_place",
        about: "the driver in vfio-pci's place, beside the kernel's",
        programs: &["in_place"],
        devices: &[
            PARAMETERS_DEVICES,
            &["name=ep0,entries=8", "name=ep1,entries=8"],
            M16,
        ],
        in_place: true,
        ..PARAMETERS
    },
    Session {
        name: "same",
        about: "random operations under vfio-pci and vfio_tph",
        programs: &["differential"],
        devices: &[PAIRS],
        sanitized: Share::Less {
            program: "differential",
            instead: Some("differential:--operations=2000"),
            why: "2,000 operations in place of 10,000, for time",
        },
        deadline: Some(900),
        seconds: 90,
        ..DEFAULT
    },
    DMABUF,
    INJECTED,
    HOSTILE,
    Session {
        name: "layouts",
        about: "the capability layouts of real devices, one of each",
        programs: &["layouts"],
        devices: &[&[
            "name=accelerator,msix=9,msix_offset=0x2000,port=rciep",
            "name=cxl,port=rciep",
            "name=gigabit,msix=5",
            "name=storage,tph=msix,msix=129",
            "name=server",
            "name=wireless",
            "name=drive,tph=absent,completer=3,eetlp=2,msix=257,msix_offset=0x4000,class=010802",
        ]],
        ..DEFAULT
    },
    // What is read and written behind an object of the slab allocator shows by its red zone.
    Session {
        name: "fixes",
        about: "what stock drivers run into without kernel/patches/fixes",
        programs: &["fixes"],
        patches: Some("it is about patches that this kernel does not have"),
        devices: &[&[
            "name=cap,entries=8",
            "name=one,tph=msix,msix=16",
            "name=other,tph=msix,msix=16",
        ]],
        append: "slab_debug=Z,kmalloc-* log_buf_len=16M",
        memory: 1024,
        ..DEFAULT
    },
    // One that can be reset the kernel would give a minute to come back, again and again.
    Session {
        name: "killed",
        about: "an endpoint that is gone for good",
        programs: &["killed"],
        devices: &[&["name=cap,entries=8,completer=3,flr=0"]],
        endpoints_may_end: true,
        by_name: Some("QEMU may abort before the test is over"),
        ..DEFAULT
    },
    Session {
        name: "firmware",
        about: "firmware that is wrong in many ways",
        programs: &["firmware:answer"],
        devices: &[FAULTY],
        firmware: Firmware::File("wrong.asl"),
        cpus: 10,
        seconds: 15,
        ..DEFAULT
    },
    Session {
        name: "denied",
        about: "firmware that aborts before it has said what it knows",
        programs: &["firmware:denied"],
        devices: &[FAULTY],
        firmware: Firmware::File("denied.asl"),
        seconds: 15,
        ..DEFAULT
    },
    Session {
        name: "silent",
        about: "firmware that has nothing to say",
        programs: &["firmware:no_dsm", "why:without_tags"],
        devices: &[FAULTY],
        firmware: Firmware::Silent,
        seconds: 15,
        ..DEFAULT
    },
    Session {
        name: "soak",
        about: "the same over and over, and all at once",
        programs: &["soak"],
        devices: &[FAULTY],
        storms: true,
        seconds: 60,
        ..DEFAULT
    },
    Session {
        name: "bare",
        about: "a kernel without CONFIG_PCIE_TPH",
        kernel: Some("bare"),
        programs: &["hidden:r70", "why:without_tph"],
        devices: &[COMMON],
        seconds: 15,
        ..DEFAULT
    },
    Session {
        name: "notph",
        about: "a kernel that was told to use no TPH",
        programs: &[
            "hidden:r19",
            "dropin:without_tph",
            "dropin:hidden",
            "lost:notph",
            "why:notph",
        ],
        devices: &[COMMON],
        append: "pci=notph",
        ..DEFAULT
    },
    Session {
        name: "nomsi",
        about: "a kernel that uses no MSI",
        programs: &["dropin:without_msi"],
        devices: &[COMMON],
        append: "pci=nomsi",
        seconds: 15,
        ..DEFAULT
    },
    Session {
        name: "nommconf",
        about: "a kernel that reaches 256 bytes of config space",
        programs: &["dropin:without_mmconfig"],
        devices: &[COMMON],
        append: "pci=nommconf",
        seconds: 15,
        arm64: Share::Not("config space is never reached in another way there"),
        ..DEFAULT
    },
    Session {
        name: "noiommu",
        about: "a machine without an IOMMU",
        programs: &["dropin:without_an_iommu"],
        devices: &[COMMON],
        iommu: false,
        seconds: 15,
        ..DEFAULT
    },
    // A kernel without kernel/patches: what differs there. --kernel plain runs everything.
    Session {
        name: "plain",
        about: "dma-bufs on a kernel without our patches",
        kernel: Some("plain"),
        programs: &["dmabuf", "table:r9", "cost:r40"],
        ..DMABUF
    },
    Session {
        name: "plain_msix",
        about: "tables in MSI-X on that kernel",
        kernel: Some("plain"),
        programs: &["msix"],
        ..MSIX
    },
    Session {
        name: "plain_caller",
        about: "the driver asks there which CPUs the threads may run on, one by one",
        kernel: Some("plain"),
        programs: &["caller:r72"],
        arm64: Share::Whole,
        seconds: 20,
        ..POWER
    },
    Session {
        name: "plain_hostile",
        about: "the PCI core itself writes past its buffer there, if the driver lets it",
        kernel: Some("plain"),
        programs: &["hostile:r48"],
        seconds: 20,
        ..HOSTILE
    },
    Session {
        name: "plain_injected",
        about: "vfio-pci-core sets the callbacks of a driver at each bind there",
        kernel: Some("plain"),
        programs: &["injected:r83"],
        seconds: 20,
        ..INJECTED
    },
    Session {
        name: "kexec",
        about: "a kernel that starts another one, which goes on where it was",
        programs: &["kexec"],
        devices: &[CAP, M16],
        image: Some("boot/bzImage"),
        memory: 1024,
        arm64: Share::Not("it changes an image of x86-64"),
        ..DEFAULT
    },
    VNG,
    Session {
        name: "vng_all",
        about: "more of them on the kernel that make -C selftests run_vng is told of",
        programs: &[
            "interface",
            "gate",
            "hidden:r2",
            "capability",
            "paths:below_a_switch",
            "why",
            "table",
            "gone",
            "open_close",
            "descriptor",
            "wire",
            "resets",
        ],
        devices: &[COMMON, PAIR_IN_MSIX, NO_RESET, SWITCH],
        cpus: 8,
        ok_log: &[AER_INJECT],
        by_name: Some("make -C selftests run_vng runs it"),
        seconds: 300,
        ..VNG
    },
    PARITY,
    // libvfio maps all of a BAR, which below ds_st nobody can whose table is in there.
    Session {
        name: "parity_msix",
        about: "the same on a table in MSI-X",
        devices: &[&["name=ep0,tph=msix,msix=16"]],
        compared: Some(Compared {
            device: "ep0",
            parameters: "enable_unsafe_tph=1",
        }),
        ..PARITY
    },
    Session {
        name: "parity_edu",
        about: "the same on QEMU's edu",
        devices: &[],
        qemu: &["-device", "edu"],
        compared: Some(Compared {
            device: "1234:11e8",
            parameters: "",
        }),
        ..PARITY
    },
    Session {
        name: "parity_nvme",
        about: "the same on QEMU's NVMe drive",
        devices: &[],
        qemu: NVME,
        compared: Some(Compared {
            device: "1b36:0010",
            parameters: "",
        }),
        ..PARITY
    },
    // A test has it move data in 1 GiB of memory, and from where nothing is mapped. It takes a
    // while to pin that much: the time limits of the programs are for a machine that has nothing
    // else to do.
    Session {
        name: "parity_igb",
        about: "the same on QEMU's igb, which moves data",
        devices: &[],
        qemu: IGB,
        compared: Some(Compared {
            device: "8086:10c9",
            parameters: "",
        }),
        memory: 3072,
        ok_log: &["DMAR: .*fault"],
        time_limit: Some(3600),
        alone: true,
        seconds: 600,
        ..PARITY
    },
    Session {
        name: "parity_differential",
        about: "as same, but many more, and others each time",
        programs: &["differential:--operations={operations} --seed={seed}"],
        devices: &[PAIRS],
        time_limit: Some(3600),
        deadline: Some(1700),
        by_name: Some("make test-parity runs it"),
        seconds: 600,
        ..DEFAULT
    },
    // Tables in the capability, one of which is lost in D3hot, and in MSI-X; one without TPH, which
    // completes.
    Session {
        name: "fuzz",
        about: "what a user can do, in any order, judged by a model",
        programs: &["fuzz:{fuzz}"],
        devices: &[&[
            "name=cap,entries=64,completer=3,msix=4",
            "name=caplost,entries=8,nosoftrst=0,completer=1,msix=4",
            "name=msix,tph=msix,msix=16,completer=3",
            "name=msixlost,tph=msix,msix=8,nosoftrst=0,extended=0",
            "name=plain,tph=absent,completer=3,msix=4",
        ]],
        package: Some("tph-fuzz"),
        storms: true,
        by_name: Some("make fuzz runs it"),
        arm64: Share::Not("it was not tried there"),
        ..DEFAULT
    },
    BENCH,
    Session {
        name: "bench",
        about: "all that is measured, also with many devices",
        programs: &["bench"],
        devices: &[MEASURED, MANY],
        by_name: Some("make bench runs it"),
        seconds: 400,
        ..BENCH
    },
    Session {
        name: "bench_lookups",
        about: "lookups on a machine with many CPUs",
        programs: &["bench:--lookups"],
        devices: &[&["name=cap,entries=64,slot=3"]],
        cpus: 64,
        by_name: Some("make bench runs it"),
        ..BENCH
    },
    Session {
        name: "clients",
        about: "programs that know vfio-pci, on the kernel's and on this driver in its place",
        programs: &["clients"],
        devices: &[&["name=plain,tph=absent,msix=4"]],
        qemu: CLIENTS,
        memory: 2048,
        append: "initcall_blacklist=vfio_pci_init",
        in_place: true,
        clients: true,
        by_name: Some("make test-clients runs it"),
        arm64: Share::Not("it was not tried there"),
        time_limit: Some(3500),
        deadline: Some(900),
        seconds: 600,
        ..DEFAULT
    },
    NESTED,
    Session {
        name: "guest",
        about: "a guest in the guest steers with its own kernel, by virtual tags",
        programs: &["guest"],
        by_name: Some("make test-guest runs it"),
        ..NESTED
    },
    WRONG,
    Session {
        name: "wrong_panic",
        about: "the kernel panics",
        programs: &["panic"],
        must_fail: &["the guest died: Kernel panic", "FAILED: ended early"],
        ..WRONG
    },
    Session {
        name: "wrong_warn",
        about: "all tests pass, and the kernel warns",
        programs: &["warn"],
        must_fail: &[
            "warn 1 passed 0 failed",
            "WARNING: ",
            "the kernel log has bad lines",
        ],
        ..WRONG
    },
    Session {
        name: "wrong_hang",
        about: "a program that never ends",
        programs: &["hang"],
        time_limit: Some(20),
        must_fail: &[
            "time is over: the guest did not end within 20 s",
            "FAILED: ended early",
        ],
        ..WRONG
    },
    Session {
        name: "wrong_endpoint",
        about: "an endpoint that does not start",
        programs: &["plan"],
        devices: &[&["name=ep0,entries=100000"]],
        must_fail: &["the endpoint does not start: ", "FAILED: ended early"],
        ..WRONG
    },
];
