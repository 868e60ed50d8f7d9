// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only

//! `tphctl bind`, `unbind` and `policy`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};
use serde_json::json;
use vfio_tph::{Address, Policy};

use crate::failure::{Failure, Kind};
use crate::machine::{try_write, write, Machine, Pci, DRIVER};
use crate::output;

/// What a device had before, for `unbind`.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Former {
    driver: Option<String>,
    driver_override: Option<String>,
}

impl Former {
    fn of(device: &Pci) -> Self {
        Self {
            driver: device.driver(),
            // The kernel shows a null pointer in its way.
            driver_override: device
                .read("driver_override")
                .filter(|name| !name.is_empty() && name != "(null)"),
        }
    }

    /// Where it is kept until the next boot.
    fn path(machine: &Machine, address: &Address) -> PathBuf {
        machine.path("run/tphctl").join(address.to_string())
    }

    fn keep(&self, path: &Path) -> Result<(), Failure> {
        let directory = path.parent().unwrap_or(path);
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(path, json!(self).to_string()))
            .map_err(|error| Failure::file(path, &error))
    }

    fn recall(path: &Path) -> Option<Self> {
        serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
    }

    /// Gives the device back. A driver that is gone leaves it to whichever driver wants it.
    fn restore(&self, machine: &Machine, device: &Pci) -> Result<(), Failure> {
        set_override(device, self.driver_override.as_deref())?;
        let bound = device.driver();
        if bound == self.driver {
            return Ok(());
        }
        if bound.is_some() {
            write(&device.path("driver/unbind"), &device.address.to_string())?;
        }
        let Some(driver) = &self.driver else {
            return Ok(());
        };
        let bind = machine
            .path("sys/bus/pci/drivers")
            .join(driver)
            .join("bind");
        match bind.exists() {
            true => write(&bind, &device.address.to_string()),
            false => probe(machine, device),
        }
    }
}

fn set_override(device: &Pci, driver: Option<&str>) -> Result<(), Failure> {
    // A line without a name clears it.
    write(&device.path("driver_override"), driver.unwrap_or("\n"))
}

fn probe(machine: &Machine, device: &Pci) -> Result<(), Failure> {
    write(
        &machine.path("sys/bus/pci/drivers_probe"),
        &device.address.to_string(),
    )
}

/// The udev rule that binds a device at each boot.
fn rule_path(machine: &Machine, address: &Address) -> PathBuf {
    // Before 80-drivers.rules, which loads the driver of the device's maker.
    machine.path(&format!("etc/udev/rules.d/70-tphctl-{address}.rules"))
}

fn rule(address: &Address, driver: &str, policy: Option<Policy>) -> String {
    let mut rule = format!(
        "# Written by 'tphctl bind --persist'; 'tphctl unbind --persist' removes it.\n\
         ACTION==\"add\", SUBSYSTEM==\"pci\", KERNEL==\"{address}\", \
         ATTR{{driver_override}}=\"{driver}\", RUN{{builtin}}+=\"kmod load {driver}\"\n"
    );
    if let Some(policy) = policy {
        rule += &format!(
            "ACTION==\"bind\", SUBSYSTEM==\"pci\", KERNEL==\"{address}\", DRIVER==\"{driver}\", \
             ATTR{{tph_policy}}=\"{policy}\"\n"
        );
    }
    rule
}

fn reload_rules(machine: &Machine) {
    if machine.root() == Path::new("/") {
        // Without udev there is nobody to tell.
        let _ = Command::new("udevadm")
            .args(["control", "--reload"])
            .output();
    }
}

fn load_driver(machine: &Machine) -> Result<(), Failure> {
    if machine.driver_is_loaded() {
        return Ok(());
    }
    let fail = |why: &str| {
        Err(Failure::new(
            Kind::NotBound,
            format_args!(
                "vfio_tph is not loaded{why}: install vfio-tph-dkms, or insmod vfio_tph.ko"
            ),
        ))
    };
    if machine.root() != Path::new("/") {
        return fail("");
    }
    match Command::new("modprobe").arg(DRIVER).output() {
        Ok(output) if output.status.success() && machine.driver_is_loaded() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            fail(&format!(
                " (modprobe: {})",
                said.lines().next().unwrap_or("no driver")
            ))
        }
        Err(_) => fail(""),
    }
}

fn needs_root(machine: &Machine) -> Result<(), Failure> {
    if machine.root() == Path::new("/") && !rustix::process::geteuid().is_root() {
        return Err(Failure::new(
            Kind::Permission,
            "this needs root: try sudo tphctl",
        ));
    }
    Ok(())
}

/// Binds a device, and gives it a policy; or leaves all as it was.
pub fn bind(
    machine: &Machine,
    device: &Pci,
    policy: Option<Policy>,
    persist: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    needs_root(machine)?;
    let was_bound = machine.ours(device).is_some();
    if !was_bound {
        load_driver(machine)?;
    }
    let former = Former::of(device);
    let former_policy = device.policy();
    let done = take(machine, device, DRIVER)
        .and_then(|()| policy.map_or(Ok(()), |policy| set_policy(machine, device, policy)))
        .and_then(|()| match was_bound {
            true => Ok(()),
            false => former.keep(&Former::path(machine, &device.address)),
        })
        .and_then(|()| match persist {
            true => write_rule(machine, device, policy),
            false => Ok(()),
        });
    if let Err(failure) = done {
        if was_bound {
            if let Some(policy) = former_policy {
                let _ = try_write(&device.path("tph_policy"), &policy);
            }
            return Err(failure);
        }
        let _ = fs::remove_file(Former::path(machine, &device.address));
        return Err(match former.restore(machine, device) {
            Ok(()) => failure.context(format_args!("{}: all is as it was", device.address)),
            Err(second) => failure.context(format_args!(
                "{}: and {} could not be given back ({second})",
                device.address,
                former.driver.as_deref().unwrap_or("no driver")
            )),
        });
    }
    report(device, &former, was_bound, persist, json);
    Ok(ExitCode::SUCCESS)
}

fn write_rule(machine: &Machine, device: &Pci, policy: Option<Policy>) -> Result<(), Failure> {
    let path = rule_path(machine, &device.address);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| Failure::file(directory, &error))?;
    }
    fs::write(&path, rule(&device.address, &machine.name(device), policy))
        .map_err(|error| Failure::file(&path, &error))?;
    reload_rules(machine);
    Ok(())
}

/// Takes the device from whoever has it, for the driver of this name.
fn take(machine: &Machine, device: &Pci, name: &str) -> Result<(), Failure> {
    if machine.ours(device).is_some() {
        return Ok(());
    }
    set_override(device, Some(name))?;
    if device.driver().is_some() {
        write(&device.path("driver/unbind"), &device.address.to_string())?;
    }
    probe(machine, device)?;
    match device.driver() {
        Some(driver) if driver == name => Ok(()),
        _ => Err(Failure::new(
            Kind::Failed,
            format_args!("{name} does not take the device: 'dmesg | tail' says why"),
        )),
    }
}

fn report(device: &Pci, former: &Former, was_bound: bool, persist: bool, json: bool) {
    let address = device.address;
    if json {
        output::json(&json!({
            "address": address.to_string(),
            "driver": device.driver(),
            "policy": device.policy(),
            "former_driver": former.driver,
            "persistent": persist,
        }));
        return;
    }
    let policy = device.policy().unwrap_or_default();
    match former.driver.as_deref() {
        Some(name) if was_bound => {
            crate::say!("{address}: {name} has it already, policy {policy}");
        }
        Some(other) => crate::say!("{address}: bound to vfio_tph, policy {policy}; {other} had it"),
        None => crate::say!("{address}: bound to vfio_tph, policy {policy}"),
    }
}

/// Whether somebody has the device open: its policy cannot be written then, not even to what it is.
fn is_open(device: &Pci) -> bool {
    device.policy().is_some_and(|policy| {
        try_write(&device.path("tph_policy"), &policy)
            .is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
    })
}

fn busy(device: &Pci) -> Failure {
    Failure::new(
        Kind::Busy,
        format_args!(
            "{}: somebody has the device open: end that program or virtual machine first",
            device.address
        ),
    )
}

/// A device that another driver has, or none.
pub fn not_bound(device: &Pci) -> Failure {
    let driver = device.driver();
    Failure::new(
        Kind::NotBound,
        format_args!(
            "{}: not bound to vfio_tph ({}): tphctl bind {}",
            device.address,
            driver.as_deref().unwrap_or("no driver"),
            device.address
        ),
    )
}

/// Gives a device back.
pub fn unbind(
    machine: &Machine,
    device: &Pci,
    persist: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    needs_root(machine)?;
    if machine.ours(device).is_none() {
        return Err(not_bound(device));
    }
    if is_open(device) {
        return Err(busy(device));
    }
    let name = machine.name(device);
    let kept = Former::path(machine, &device.address);
    let recalled = Former::recall(&kept);
    let done = match &recalled {
        Some(former) => former.restore(machine, device),
        // Somebody else has bound it: whichever driver wants it.
        None => set_override(device, None)
            .and_then(|()| write(&device.path("driver/unbind"), &device.address.to_string()))
            .and_then(|()| probe(machine, device)),
    };
    if let Err(failure) = done {
        let now = match take(machine, device, &name) {
            Ok(()) => format!("{name} has it again"),
            Err(_) => "no driver has it".to_owned(),
        };
        return Err(failure.context(format_args!("{}: {now}", device.address)));
    }
    let _ = fs::remove_file(kept);
    if persist {
        let rule = rule_path(machine, &device.address);
        match fs::remove_file(&rule) {
            Ok(()) => reload_rules(machine),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (),
            Err(error) => return Err(Failure::file(&rule, &error)),
        }
    }
    let driver = device.driver();
    if json {
        output::json(&json!({ "address": device.address.to_string(), "driver": driver }));
    } else {
        crate::say!(
            "{}: {} has it",
            device.address,
            driver.as_deref().unwrap_or("no driver")
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn set_policy(machine: &Machine, device: &Pci, policy: Policy) -> Result<(), Failure> {
    let path = device.path("tph_policy");
    let name = machine.name(device);
    try_write(&path, policy.name()).map_err(|error| match error.kind() {
        io::ErrorKind::ResourceBusy => busy(device),
        io::ErrorKind::PermissionDenied
            if policy >= Policy::DsSt && machine.unsafe_gate(&name).as_deref() != Some("Y") =>
        {
            Failure::new(
                Kind::Permission,
                format_args!(
                    "policy {policy} lets users see tags: load {name} with enable_unsafe_tph=Y"
                ),
            )
        }
        // The gate of when it was bound counts.
        io::ErrorKind::PermissionDenied if policy >= Policy::DsSt => Failure::new(
            Kind::Permission,
            format_args!("policy {policy}: not what enable_unsafe_tph allowed when it was bound"),
        ),
        _ => Failure::file(&path, &error),
    })
}

/// Shows or changes the policy.
pub fn policy(
    machine: &Machine,
    device: &Pci,
    policy: Option<Policy>,
    json: bool,
) -> Result<ExitCode, Failure> {
    let Some(before) = device.policy() else {
        return Err(not_bound(device));
    };
    if let Some(policy) = policy {
        needs_root(machine)?;
        set_policy(machine, device, policy)?;
    }
    let now = device.policy().unwrap_or_default();
    if json {
        output::json(&json!({
            "address": device.address.to_string(),
            "policy": now,
            "before": before,
        }));
    } else {
        crate::say!("{now}");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn rules_name_one_device() {
        let address: Address = "0000:01:00.0".parse().unwrap();
        let text = rule(&address, DRIVER, Some(Policy::IvSt));
        assert!(text.contains(r#"KERNEL=="0000:01:00.0", ATTR{driver_override}="vfio_tph""#));
        assert!(text.contains(r#"DRIVER=="vfio_tph", ATTR{tph_policy}="iv_st""#));
        assert_eq!(rule(&address, DRIVER, None).lines().count(), 2);
    }

    #[test]
    fn without_the_module_nothing_is_touched() {
        let tree = Tree::new();
        let device = tree.endpoint("0000:01:00.0", Some("nvme"));
        let failure = bind(&tree.machine, &device, None, true, false).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotBound);
        assert!(failure.to_string().starts_with("vfio_tph is not loaded: "));
        assert_eq!(device.read("driver_override").as_deref(), Some("(null)"));
        assert!(!rule_path(&tree.machine, &device.address).exists());
    }

    /// In a made tree nothing binds: as with a driver that refuses the device.
    #[test]
    fn a_device_that_is_not_taken_is_given_back() {
        let tree = Tree::new();
        tree.driver(DRIVER);
        let device = tree.endpoint("0000:01:00.0", Some("nvme"));
        let failure = bind(&tree.machine, &device, None, true, false).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "0000:01:00.0: all is as it was: vfio_tph does not take the device: 'dmesg | tail' says why"
        );
        assert_eq!(device.read("driver_override").as_deref(), Some(""));
        assert_eq!(device.driver().as_deref(), Some("nvme"));
        assert!(!rule_path(&tree.machine, &device.address).exists());
        assert!(!Former::path(&tree.machine, &device.address).exists());
    }

    #[test]
    fn what_is_not_bound_has_no_policy() {
        let tree = Tree::new();
        let device = tree.endpoint("0000:01:00.0", Some("nvme"));
        let failure = policy(&tree.machine, &device, None, false).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "0000:01:00.0: not bound to vfio_tph (nvme): tphctl bind 0000:01:00.0"
        );
        let failure = unbind(&tree.machine, &device, false, false).unwrap_err();
        assert_eq!(failure.kind(), Kind::NotBound);
    }

    #[test]
    fn what_a_device_had_is_remembered() {
        let tree = Tree::new();
        let former = Former {
            driver: Some("nvme".to_owned()),
            driver_override: None,
        };
        let path = tree.machine.path("run/tphctl/0000:01:00.0");
        former.keep(&path).unwrap();
        assert_eq!(Former::recall(&path), Some(former));
        fs::write(&path, "{").unwrap();
        assert_eq!(Former::recall(&path), None);
    }
}
