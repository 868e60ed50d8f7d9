// SPDX-License-Identifier: GPL-2.0-only

//! Plans of a small table; and what must hold of the table of all sessions.

use super::*;
use crate::session::DEFAULT;
use crate::table::SESSIONS;

const TABLE: &[Session] = &[
    Session {
        name: "one",
        programs: &["table", "cost", "dropin:r66"],
        sanitized: Share::Less {
            program: "cost",
            instead: None,
            why: "for time",
        },
        arm64: Share::Less {
            program: "table",
            instead: Some("table:r9"),
            why: "it is x86's",
        },
        ..DEFAULT
    },
    Session {
        name: "dropin",
        programs: &["dropin:--seed=1", "table"],
        sanitized: Share::Not("it leaks"),
        arm64: Share::Not("it has no such device"),
        large_pages: Share::Not("that has another reason"),
        ..DEFAULT
    },
    Session {
        name: "plain",
        kernel: Some("plain"),
        programs: &["table:r9"],
        ..DEFAULT
    },
    Session {
        name: "small",
        programs: &["table", "cost"],
        large_pages: Share::Less {
            program: "cost",
            instead: None,
            why: "for its pages",
        },
        by_name: Some("it may abort"),
        ..DEFAULT
    },
    Session {
        name: "mended",
        patches: Some("it is about patches"),
        programs: &["fixes"],
        ..DEFAULT
    },
    Session {
        name: "rare",
        programs: &["killed"],
        by_name: Some("it may abort"),
        ..DEFAULT
    },
    Session {
        name: "r34",
        programs: &["killed"],
        by_name: Some("its name is a word, too"),
        ..DEFAULT
    },
    Session {
        name: "rarer",
        programs: &["killed"],
        by_name: Some("it may abort"),
        ..DEFAULT
    },
    Session {
        name: "wrong",
        programs: &["early", "table"],
        must_fail: &["FAILED"],
        ..DEFAULT
    },
];

fn tests_of(program: &Program) -> Result<Vec<String>> {
    let tests: &[&str] = match program.name.as_str() {
        "table" => &["r9_a", "r34_b"],
        "dropin" => &["r66_c", "r67_d"],
        "cost" => &["r66_cost"],
        _ => &[],
    };
    let words: Vec<_> = program
        .arguments
        .iter()
        .filter(|a| !a.starts_with('-'))
        .collect();
    let fits = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(*word));
    Ok(tests
        .iter()
        .filter(|name| fits(name))
        .map(|name| name.to_string())
        .collect())
}

/// "SESSION KERNEL PROGRAM..." for each session, or the error.
fn decide(kernel: &str, wanted: &[&str]) -> Vec<String> {
    let wanted: Vec<String> = wanted.iter().map(|word| word.to_string()).collect();
    match plan(TABLE, kernel, &wanted, &tests_of) {
        Ok(plan) => plan.chosen.iter().map(line).collect(),
        Err(why) => vec![format!("error: {why}")],
    }
}

fn line(one: &Chosen) -> String {
    let programs: Vec<_> = one.programs.iter().map(Program::label).collect();
    format!("{} {} {}", one.session.name, one.kernel, programs.join(" "))
}

#[test]
fn all_but_what_has_to_be_named() {
    assert_eq!(
        decide("lean", &[]),
        [
            "one lean table cost dropin:r66",
            "dropin lean dropin:--seed=1 table",
            "plain plain table:r9",
            "mended lean fixes",
            "wrong lean early table"
        ]
    );
    let rest = plan(TABLE, "debug", &[], &tests_of).unwrap().left_out;
    assert_eq!(
        rest,
        [
            "left out: dropin is not run on debug: it leaks",
            "left out: plain boots a kernel of its own, never debug",
            "left out, as it may abort: small rare rarer",
            "left out, as its name is a word, too: r34"
        ]
    );
}

#[test]
fn arm64_has_a_share_of_its_own() {
    for kernel in ["arm64", "arm64-64k"] {
        let one = format!("one {kernel} table:r9 cost dropin:r66");
        assert_eq!(decide(kernel, &["one"]), [one]);
        let refused = format!("error: dropin is not run on {kernel}: it has no such device");
        assert_eq!(decide(kernel, &["dropin"]), [refused]);
    }
}

#[test]
fn large_pages_have_a_share_of_their_own() {
    for kernel in ["lean", "arm64"] {
        assert_eq!(
            decide(kernel, &["small"]),
            [format!("small {kernel} table cost")]
        );
    }
    assert_eq!(decide("arm64-64k", &["small"]), ["small arm64-64k table"]);
}

#[test]
fn a_session_before_a_program() {
    assert_eq!(
        decide("lean", &["dropin"]),
        ["dropin lean dropin:--seed=1 table"]
    );
}

#[test]
fn a_program_in_each_session() {
    assert_eq!(
        decide("lean", &["table"]),
        [
            "one lean table",
            "dropin lean table",
            "plain plain table:r9"
        ]
    );
    assert_eq!(decide("lean", &["one/table"]), ["one lean table"]);
    // In the session's order, and each once.
    assert_eq!(
        decide("lean", &["one/cost", "one/table", "one/cost"]),
        ["one lean table cost"]
    );
}

#[test]
fn a_word_within_what_the_session_runs() {
    assert_eq!(
        decide("lean", &["r66"]),
        [
            "one lean cost:r66_cost dropin:r66_c",
            "dropin lean dropin:--seed=1 r66_c"
        ]
    );
    assert_eq!(decide("lean", &["one/r9"]), ["one lean table:r9_a"]);
    // Though a session has that name.
    assert_eq!(decide("lean", &["one/r34"]), ["one lean table:r34_b"]);
    assert_eq!(decide("lean", &["r34"]), ["r34 lean killed"]);
}

#[test]
fn less_with_sanitizers() {
    assert_eq!(decide("debug", &["one"]), ["one debug table dropin:r66"]);
    assert_eq!(
        decide("debug", &["cost"]),
        ["error: cost is not run in one: cost: for time"]
    );
    assert_eq!(
        decide("debug", &["dropin"]),
        ["error: dropin is not run on debug: it leaks"]
    );
    let told = |wanted: &str| {
        let plan = plan(TABLE, "debug", &[wanted.to_owned()], &tests_of).unwrap();
        plan.chosen[0].less.clone()
    };
    assert_eq!(told("one").as_deref(), Some("cost: for time"));
    assert_eq!(told("one/table"), None);
}

#[test]
fn another_kernel() {
    assert_eq!(
        decide("rt", &["plain"]),
        ["error: plain boots a kernel of its own, never rt"]
    );
    assert_eq!(
        decide("plain", &["mended"]),
        ["error: mended is not run on plain: it is about patches"]
    );
    assert_eq!(decide("rt", &["one/table"]), ["one rt table"]);
}

#[test]
fn what_is_not_known() {
    assert_eq!(
        decide("lean", &["nothing"]),
        [
            "error: nothing is neither a session nor a program nor in the name of a test; \
          sessions: one dropin plain small mended rare r34 rarer wrong"
        ]
    );
    assert_eq!(decide("lean", &["rare"]), ["rare lean killed"]);
    assert!(decide("lean", &["nowhere/table"])[0].starts_with("error: nowhere/table is"));
}

#[test]
fn the_table_is_whole() {
    let top = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let bins = top.join("selftests/tests/src/bin");
    let is_program =
        |name: &str| bins.join(name).is_dir() || bins.join(format!("{name}.rs")).is_file();
    let mut names: Vec<_> = SESSIONS.iter().map(|session| session.name).collect();
    names.sort_unstable();
    names
        .windows(2)
        .for_each(|pair| assert_ne!(pair[0], pair[1]));
    for session in SESSIONS {
        let name = session.name;
        assert!(
            !session.about.is_empty() && !session.programs.is_empty(),
            "{name}"
        );
        for program in session.programs {
            // Whether those are there is seen when they are built.
            if !session.has_tests() {
                continue;
            }
            if !session.must_fail.is_empty() {
                let wrong = top.join("selftests/runner/wrong").join(program);
                assert!(wrong.is_file(), "{name}: no {program}");
                continue;
            }
            assert!(
                is_program(&Program::parse(program).name),
                "{name}: no {program}"
            );
        }
        if let Some(kernel) = session.kernel {
            assert!(
                top.join(format!("kernel/config.{kernel}")).is_file(),
                "{name}"
            );
        }
        if let crate::session::Firmware::File(file) = session.firmware {
            assert!(top.join("selftests/guest").join(file).is_file(), "{name}");
        }
        for share in [session.sanitized, session.arm64, session.large_pages] {
            if let Share::Less { program, .. } = share {
                assert!(session.programs.contains(&program), "{name}: no {program}");
            }
        }
    }
    // No program is forgotten.
    let names = Names(SESSIONS);
    for entry in std::fs::read_dir(&bins).unwrap() {
        let path = entry.unwrap().path();
        let program = path.file_stem().unwrap().to_str().unwrap();
        assert!(names.is_program(program), "{program}");
    }
}
