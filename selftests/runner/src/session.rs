// SPDX-License-Identifier: GPL-2.0-only

//! What a session is: one virtual machine, and the programs that run in it one after the other.

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Session {
    /// Its name, on the command line and in the names of files.
    pub name: &'static str,
    /// What it is for, in one line.
    pub about: &'static str,
    /// `PROGRAM` or `PROGRAM:ARGUMENT`: a word that the names of the tests must contain, or an
    /// option of the program.
    pub programs: &'static [&'static str],
    /// The variant of the test kernel that it is about; without, it runs on any.
    pub kernel: Option<&'static str>,
    /// Why it needs a kernel with kernel/patches, if it does.
    pub patches: Option<&'static str>,
    /// Emulated endpoints, as `selftests/run --device` takes them, in groups that sessions share.
    /// `{most}` is the largest number of MSI-X vectors that the kernel can take. `{page}` is the
    /// size of one of its pages, `{pages}` that of sixteen, `{border}` the offset of a table whose
    /// first entry is the end of the third page.
    pub devices: &'static [&'static [&'static str]],
    /// More arguments of QEMU.
    pub qemu: &'static [&'static str],
    /// What the firmware knows of steering tags.
    pub firmware: Firmware,
    /// CPUs of the machine.
    pub cpus: u32,
    /// Its memory in MiB.
    pub memory: u32,
    /// More of the kernel's command line.
    pub append: &'static str,
    /// Lines of the kernel log that are no failure: expressions of grep -E.
    pub ok_log: &'static [&'static str],
    /// The endpoints' control channel is a serial port, which outlives sleep of the guest.
    pub serial_control: bool,
    /// The process of the endpoints may end before the guest does.
    pub endpoints_may_end: bool,
    /// Where the guest has the image of its own kernel.
    pub image: Option<&'static str>,
    /// The guest has the driver in vfio-pci's place, and the example that is steered by it.
    pub in_place: bool,
    /// Booted by virtme-ng, as any kernel can be.
    pub vng: bool,
    /// The guest has QEMU, from the build root, and the kernel and initramfs of a guest of its own.
    pub nested: bool,
    /// The programs are the kernel's own selftests of vfio, which run on this device under
    /// vfio-pci and then under vfio_tph.
    pub compared: Option<Compared>,
    /// The guest has the root of kernel/packages.clients, by the share that `qemu` makes of
    /// `{root}`, and what `selftests/clients` has put into `{stage}`.
    pub clients: bool,
    /// The program is of this package of the workspace, and is not one of `selftests/tests`: its
    /// results are targets, or rounds, which have no names that it could be told.
    pub package: Option<&'static str>,
    /// Goes on for as many cycles and seconds as the caller says.
    pub storms: bool,
    /// The machine has an IOMMU.
    pub iommu: bool,
    /// What is run of it on a kernel with sanitizers.
    pub sanitized: Share,
    /// What is run of it on arm64.
    pub arm64: Share,
    /// What is run there with pages of 64 KiB of one that is otherwise run whole.
    pub large_pages: Share,
    /// Why it is not part of a run of all, if it is not.
    pub by_name: Option<&'static str>,
    /// The longest time for the whole machine in seconds, if it is not the same as ever.
    pub time_limit: Option<u64>,
    /// The longest time for one test, likewise.
    pub deadline: Option<u64>,
    /// Nothing else runs beside it: it measures, or has little time to spare.
    pub alone: bool,
    /// About how long it takes, on the kernel lean and two cores: the longest ones start first.
    pub seconds: u32,
    /// If there are any, the session is there to fail, and each of these has to be said of it. Its
    /// programs are in `selftests/runner/wrong`.
    pub must_fail: &'static [&'static str],
}

/// What `guest/parity` is told.
#[derive(Clone, Copy)]
pub struct Compared {
    /// An endpoint's name, or VENDOR:DEVICE.
    pub device: &'static str,
    /// The parameters of vfio_tph.
    pub parameters: &'static str,
}

/// The SSDT of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// A recognisable tag for each CPU.
    Known,
    /// None: nothing to say.
    Silent,
    /// This file of `selftests/guest`.
    File(&'static str),
}

/// What is run of a session on a kernel that is special. With sanitizers, tests of what only the
/// kernel can get wrong are left whole.
#[derive(Clone, Copy)]
pub enum Share {
    /// All of it.
    Whole,
    /// All but a program, in whose place there is another one, or none.
    Less {
        /// As it stands in `programs`.
        program: &'static str,
        /// What is run in its place.
        instead: Option<&'static str>,
        /// Why.
        why: &'static str,
    },
    /// Nothing, and why.
    Not(&'static str),
}

/// What a session has unless it says otherwise.
pub const DEFAULT: Session = Session {
    name: "",
    about: "",
    programs: &[],
    kernel: None,
    patches: None,
    devices: &[],
    qemu: &[],
    firmware: Firmware::Known,
    cpus: 4,
    memory: 512,
    append: "",
    ok_log: &[],
    serial_control: false,
    endpoints_may_end: false,
    image: None,
    in_place: false,
    vng: false,
    nested: false,
    compared: None,
    clients: false,
    package: None,
    storms: false,
    iommu: true,
    sanitized: Share::Whole,
    arm64: Share::Whole,
    large_pages: Share::Whole,
    by_name: None,
    time_limit: None,
    deadline: None,
    alone: false,
    seconds: 30,
    must_fail: &[],
};

impl Session {
    /// Whether its programs know the names of their tests, and can be told which ones to run.
    pub fn has_tests(&self) -> bool {
        self.compared.is_none() && self.package.is_none()
    }
}

/// The kernel that is booted unless another one is asked for.
pub const LEAN: &str = "lean";

/// Whether a kernel looks for errors in memory, locking and races, and takes its time for it.
pub fn sanitizes(kernel: &str) -> bool {
    kernel == "debug" || kernel == "kcsan"
}

/// Whether a kernel is for arm64; all others are for x86-64.
pub fn on_arm64(kernel: &str) -> bool {
    kernel.starts_with("arm64")
}

/// The size of a kernel's pages in KiB.
pub fn page_size(kernel: &str) -> u32 {
    if kernel == "arm64-64k" {
        64
    } else {
        4
    }
}

/// Whether a kernel has kernel/patches.
pub fn patched(kernel: &str) -> bool {
    kernel != "plain"
}

/// The most MSI-X vectors of a device. That many take a kernel with sanitizers many minutes, and
/// one that gives each interrupt a thread of its own.
pub fn most_vectors(kernel: &str) -> u32 {
    if sanitizes(kernel) || kernel == "rt" {
        512
    } else {
        2048
    }
}
