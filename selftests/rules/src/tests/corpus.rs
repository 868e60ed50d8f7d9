// SPDX-License-Identifier: GPL-2.0-only

//! What the fuzzers have found worth keeping, once more: every input of the corpus.

use crate::fuzz::TARGETS;
use std::{
    fs,
    path::Path, //
};

#[test]
fn every_input_of_the_corpus() {
    for (name, target) in TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fuzz/corpus")
            .join(name);
        let inputs = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut count = 0;
        for input in inputs {
            let path = input.expect("a directory").path();
            // So that the input is named when the target panics.
            println!("{}", path.display());
            target(&fs::read(&path).expect("an input"));
            count += 1;
        }
        assert_ne!(count, 0, "{name} has no corpus");
    }
}
