//! The memory of what was received: it knows exactly what a set knows.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| zonecast_client::fuzzing::seen(input));
