// SPDX-License-Identifier: GPL-2.0-only

//! Whether the table boots the machines that selftests/suite boots: the suite is run with a stub
//! in place of everything that it starts, and the arguments are compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::command::{arguments, Built, Setting};
use crate::plan::plan;
use crate::table::SESSIONS;

/// The values of each option in their order, and the command.
type Options = (BTreeMap<String, Vec<String>>, Vec<String>);

fn parse(words: &[String]) -> Options {
    let mut options: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut rest = words;
    while let [name, value, others @ ..] = rest {
        if !name.starts_with("--") {
            break;
        }
        options.entry(name.clone()).or_default().push(value.clone());
        rest = others;
    }
    options.entry("--append".into()).or_default().sort();
    for (name, default) in [("--cpus", "4"), ("--mem", "512M")] {
        options
            .entry(name.into())
            .or_insert_with(|| vec![default.into()]);
    }
    options
        .get_mut("--mem")
        .unwrap()
        .iter_mut()
        .for_each(|m| *m = m.replace("1G", "1024M"));
    let files = options.entry("--file".into()).or_default();
    files.retain(|file| !file.ends_with("guest/session"));
    files.sort();
    (options, rest.to_vec())
}

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/bin/bash\n{text}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What the suite has booted, by session.
fn of_suite(kernel: &str, names: &[&str]) -> BTreeMap<String, Options> {
    let selftests = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path();
    fs::create_dir_all(top.join("selftests")).unwrap();
    fs::create_dir_all(top.join("kernel")).unwrap();
    for file in ["selftests/suite", "selftests/ktap.sh", "kernel/lib.sh"] {
        fs::copy(selftests.join("..").join(file), top.join(file)).unwrap();
    }
    script(
        &top.join("kernel/kernel"),
        "k=$(dirname $0)/../k/$1; mkdir -p $k/source; readlink -f $k",
    );
    script(&top.join("kernel/module"), "echo /m/$1/vfio_tph.ko");
    script(&top.join("kernel/test-modules"), "echo /t/$1");
    script(&top.join("bin/make"), "");
    script(
        &top.join("selftests/run"),
        r#"while [ "$1" != --keep ]; do set -- "${@:2}" "$1"; done
        mkdir -p "$2"
        name=$(basename "$2" .logs)
        while [ "$1" != --kernel ]; do set -- "${@:2}" "$1"; done
        printf '%s\0' "$@" >"$(dirname "$0")/$name.arguments""#,
    );
    let output = Command::new("bash")
        .arg(top.join("selftests/suite"))
        .args(["--kernel", kernel, "--ktap"])
        .arg(top.join("ktap"))
        .args(names)
        .env("IN_ROOT", "1")
        .env("PATH", format!("{}/bin:/usr/bin:/bin", top.display()))
        .output()
        .unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(top.join("selftests")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "arguments") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.replace(top.to_str().unwrap(), "/top");
            let words: Vec<String> = text
                .trim_end_matches('\0')
                .split('\0')
                .map(str::to_owned)
                .collect();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            found.insert(name, parse(&words));
        }
    }
    found
}

fn compare(kernel: &str, names: &[&str]) {
    let theirs = of_suite(kernel, names);
    let wanted: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    let setting = Setting {
        top: "/top".into(),
        ktap: "/top/ktap".into(),
        soak_cycles: 20,
        soak_seconds: 20,
    };
    let no_tests = |_: &crate::plan::Program| Ok(Vec::new());
    let plan = plan(SESSIONS, kernel, &wanted, &no_tests).unwrap();
    let shells: Vec<_> = plan
        .chosen
        .iter()
        .filter(|o| o.session.must_fail.is_empty())
        .collect();
    assert!(!theirs.is_empty());
    assert_eq!(theirs.len(), shells.len(), "{kernel}: {:?}", theirs.keys());
    for one in shells {
        let built = Built {
            kernel: format!("/top/k/{}", one.kernel).into(),
            module: format!("/m/{}/vfio_tph.ko", one.kernel).into(),
            modules: format!("/t/{}", one.kernel).into(),
        };
        let (options, command) = parse(&arguments(one, &built, &setting));
        let (their_options, their_command) = &theirs[&one.label];
        assert_eq!(&options, their_options, "{kernel} {}", one.label);
        let after = |command: &[String], word: &str| -> Vec<String> {
            let place = command.iter().position(|one| one == word).unwrap();
            command[place + 1..].to_vec()
        };
        let mut ours = after(&command, "session");
        let deadline = ours.remove(0);
        assert!(their_command.contains(&format!("DEADLINE={deadline}")));
        // sh -c SCRIPT sh PROGRAM...
        assert_eq!(
            ours,
            after(&their_command[7..], "sh"),
            "{kernel} {}",
            one.label
        );
    }
}

#[test]
fn the_same_machines() {
    for kernel in ["lean", "debug", "kcsan", "rt", "plain"] {
        compare(kernel, &[]);
    }
    compare("lean", &["killed"]);
    compare("lean", &["dropin", "table"]);
    compare("debug", &["sleep", "table"]);
}
