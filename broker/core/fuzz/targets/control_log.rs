//! The control log over any number of lost links: the run of the tests, on lists of operations that were searched for.
#![no_main]

#[path = "../../tests/control_log/run.rs"]
mod run;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|operations: Vec<run::Op>| run::play(operations));
