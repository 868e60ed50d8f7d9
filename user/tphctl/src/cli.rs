// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! The command line.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueHint};
use vfio_tph::Policy;

use crate::guest_acpi::Bridge;

/// Steering tags (PCIe TPH) of devices that user space drives.
///
/// Lists the devices of this machine that have TPH, says why it is off, binds devices to the
/// driver vfio_tph, and tries them out.
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXIT_STATUS)]
pub struct Cli {
    /// Write JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// The root of the file system, for tests
    #[arg(long, global = true, hide = true, default_value = "/")]
    pub root: PathBuf,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_STATUS: &str = "\
Exit status:
  0  done; why: TPH is usable
  1  the kernel refused, or something failed
  2  the command line is wrong
  3  there is no such device
  4  this needs root, or another permission
  5  vfio_tph is not loaded, or the device is not bound to it
  6  TPH is not usable on the device
  7  the device is in use
hold -- COMMAND: the command's own exit status";

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the devices that have TPH, and whether it is usable
    ///
    /// Works without the driver. Reading extended config space takes root.
    List {
        /// Also devices that are completers alone, ports too
        #[arg(long)]
        all: bool,
    },
    /// Say, step by step, what stands in the way of TPH on a device
    Why {
        /// The device, as in 0000:01:00.0
        device: String,
    },
    /// Give a device to vfio_tph
    ///
    /// What fails is undone: the device has the driver then that it had before.
    Bind {
        /// The device, as in 0000:01:00.0
        device: String,
        /// The policy of its users: no_st, iv_st, ds_st or literal
        #[arg(long, short)]
        policy: Option<PolicyName>,
        /// Do so at each boot, too, by a udev rule
        #[arg(long)]
        persist: bool,
    },
    /// Give a device back to the driver that it had before
    Unbind {
        /// The device, as in 0000:01:00.0
        device: String,
        /// Also remove the udev rule that 'bind --persist' made
        #[arg(long)]
        persist: bool,
    },
    /// Show or change how much of TPH the users of a device get
    Policy {
        /// The device, as in 0000:01:00.0
        device: String,
        /// no_st, iv_st, ds_st or literal
        policy: Option<PolicyName>,
    },
    /// Show which CPU has which tag, by package and cache
    ///
    /// Opens the device, for a moment; its policy has to be ds_st or literal.
    Map {
        /// The device, as in 0000:01:00.0
        device: String,
        /// Extended, 16-bit tags
        #[arg(long)]
        extended: bool,
        /// Tags of persistent memory
        #[arg(long)]
        persistent: bool,
        /// Draw it
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        svg: Option<PathBuf>,
    },
    /// Enable TPH on a device and program entries, until a command or a signal ends it
    Hold {
        /// The device, as in 0000:01:00.0
        device: String,
        /// An entry and its CPU, or as many of both: 0=cpu3, 1-7=cpu4-10, 2=none
        #[arg(long = "entry", short, value_name = "ENTRY=CPU", required = true)]
        entries: Vec<Entries>,
        /// Extended, 16-bit tags
        #[arg(long)]
        extended: bool,
        /// What to run meanwhile
        #[arg(last = true, value_hint = ValueHint::CommandWithArguments)]
        command: Vec<OsString>,
    },
    /// Show what happens to a device, as it happens
    Watch {
        /// The device, as in 0000:01:00.0
        device: String,
        /// Seconds between two looks at the counters
        #[arg(long, short, default_value_t = 1.0, value_parser = seconds)]
        interval: f64,
        /// End after so many looks
        #[arg(long, short)]
        count: Option<u64>,
    },
    /// Write the ACPI table that gives a guest's kernel a tag for each vCPU
    ///
    /// Without it a guest's driver finds no tags. QEMU takes it by '-acpitable file=FILE'.
    GuestAcpi {
        /// How many vCPUs the guest may have, 1 to 255
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        vcpus: u8,
        /// A host bridge of the guest, by its path in ACPI; for a pxb-pcie with bus_nr=4 also
        /// '\_SB.PC04'
        #[arg(long = "bridge", value_name = "PATH", default_value = "\\_SB.PCI0")]
        bridges: Vec<Bridge>,
        /// Where to
        #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: PathBuf,
    },
    /// Show or make the map of a guest's tags: on which CPUs its vCPUs run
    ///
    /// Makes it from where the vCPUs' threads may run: after the vCPUs of a running guest were
    /// moved, or before a running QEMU gets the device. A vCPU that is bound to one CPU has that
    /// one's tag, any other one none.
    Vcpus {
        /// The device, as in 0000:01:00.0
        device: String,
        /// The process of a QEMU that has names for its threads ('-name NAME,debug-threads=on')
        #[arg(long, value_name = "PID", conflicts_with = "qmp")]
        qemu: Option<u32>,
        /// The socket of QEMU's monitor in JSON
        #[arg(long, value_name = "SOCKET", value_hint = ValueHint::FilePath)]
        qmp: Option<PathBuf>,
        /// A vCPU that may run on several CPUs has the tag of the first of them
        #[arg(long)]
        first: bool,
    },
    /// Write the man pages
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
    /// Write the completions of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// The name of a policy.
#[derive(Clone, Copy, Debug)]
pub struct PolicyName(pub Policy);

impl FromStr for PolicyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Policy::ALL
            .into_iter()
            .find(|policy| policy.name() == text)
            .map(Self)
            .ok_or_else(|| "not one of no_st, iv_st, ds_st, literal".to_owned())
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|seconds| (0.01..=3600.0).contains(seconds))
        .ok_or_else(|| "not a number of seconds from 0.01 to 3600".to_owned())
}

/// Entries of the ST table, and the CPUs whose tags go there; `None` clears them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entries {
    /// Which entries.
    pub entries: RangeInclusive<u16>,
    /// The CPU of the first of them; the next one has the next CPU.
    pub first_cpu: Option<u32>,
}

impl FromStr for Entries {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text}: not of the form 0=cpu3, 1-7=cpu4-10 or 2=none");
        let (entries, source) = text.split_once('=').ok_or_else(form)?;
        let entries: RangeInclusive<u32> = range(entries).ok_or_else(form)?;
        let too_large = |_| format!("{text}: entries are 0 to 2047");
        let (first, last) = (
            u16::try_from(*entries.start()).map_err(too_large)?,
            u16::try_from(*entries.end()).map_err(too_large)?,
        );
        if last > 2047 {
            return Err(format!("{text}: entries are 0 to 2047"));
        }
        let first_cpu = match source {
            "none" => None,
            _ => {
                let cpus = source
                    .strip_prefix("cpu")
                    .and_then(range)
                    .ok_or_else(form)?;
                if cpus.end() - cpus.start() != entries.end() - entries.start() {
                    return Err(format!("{text}: not as many CPUs as entries"));
                }
                Some(*cpus.start())
            }
        };
        Ok(Self {
            entries: first..=last,
            first_cpu,
        })
    }
}

/// `3` or `4-10`.
fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let number = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse::<u32>().ok())
            .flatten()
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = number(first)?..=number(last)?;
    (!range.is_empty()).then_some(range)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn entries_of_one_and_several() {
        let entries = |entries, first_cpu| Ok(Entries { entries, first_cpu });
        assert_eq!("0=cpu3".parse(), entries(0..=0, Some(3)));
        assert_eq!("1-7=cpu4-10".parse(), entries(1..=7, Some(4)));
        assert_eq!("2047=none".parse(), entries(2047..=2047, None));
        for text in [
            "",
            "0",
            "0=3",
            "0=cpu",
            "7-1=cpu0-6",
            "0-1=cpu3",
            "0=cpu+3",
            "2048=cpu0",
            "70000=none",
            "-1=cpu0",
            "0=cpu*",
        ] {
            assert!(text.parse::<Entries>().is_err(), "{text}");
        }
    }
}
