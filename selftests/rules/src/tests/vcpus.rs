// SPDX-License-Identifier: GPL-2.0-only

//! Lists of CPUs as an administrator writes them; R93.

use crate::rules::vcpus::parse;

fn read(text: &str) -> Option<Vec<Option<u32>>> {
    let mut list = Vec::new();
    parse(text.as_bytes(), &mut |cpu| {
        list.push(cpu);
        Some(())
    })?;
    Some(list)
}

#[test]
fn r93_lists() {
    for (text, expected) in [
        ("", vec![]),
        ("0", vec![Some(0)]),
        ("2,0,3,1", vec![Some(2), Some(0), Some(3), Some(1)]),
        ("0-3", vec![Some(0), Some(1), Some(2), Some(3)]),
        ("5-5,-,5", vec![Some(5), None, Some(5)]),
        ("-", vec![None]),
        ("-,-", vec![None, None]),
        ("007", vec![Some(7)]),
        ("4294967295", vec![Some(u32::MAX)]),
        (
            "4294967294-4294967295",
            vec![Some(u32::MAX - 1), Some(u32::MAX)],
        ),
    ] {
        assert_eq!(read(text), Some(expected), "{text}");
    }
}

#[test]
fn r93_what_is_no_list() {
    for text in [
        ",",
        "0,",
        ",0",
        "0,,1",
        "a",
        "0a",
        "0 ",
        " 0",
        "+1",
        "-1",
        "1-",
        "--",
        "1--2",
        "1-2-3",
        "3-1",
        "4294967296",
        "0x1",
        "1.5",
        "\n",
        "0\n1",
        "\u{660}",
    ] {
        assert_eq!(read(text), None, "{text:?}");
    }
}

/// 255 at the most, however they are written; a huge range ends there.
#[test]
fn r93_as_many_as_there_are_tags() {
    for count in [254, 255, 256, 1000] {
        let expected = count <= 255;
        let single = vec!["1"; count].join(",");
        assert_eq!(read(&single).is_some(), expected, "{count}");
        assert_eq!(read(&format!("0-{}", count - 1)).is_some(), expected);
        assert_eq!(read(&vec!["-"; count].join(",")).is_some(), expected);
    }
    let mut seen = 0;
    let done = parse(b"0-4294967295", &mut |_| {
        seen += 1;
        Some(())
    });
    assert_eq!((done, seen), (None, 255));
}

/// Who does not like a CPU ends it.
#[test]
fn r93_a_cpu_that_is_not_there() {
    let mut seen = Vec::new();
    let done = parse(b"0-9", &mut |cpu| {
        seen.push(cpu);
        cpu.filter(|&cpu| cpu < 2).map(|_| ())
    });
    assert_eq!(done, None);
    assert_eq!(seen, [Some(0), Some(1), Some(2)]);
}
