//! A lane through publishes, writes, answers and lost connections: nothing is lost, all in order, never too far ahead.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| zonecast_client::fuzzing::lanes(input));
