//! Outboxes that inherit from each other: the run of the tests, on lists of operations that were searched for.
#![no_main]

#[path = "../../tests/outboxes/run.rs"]
mod run;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| run::play(input));
