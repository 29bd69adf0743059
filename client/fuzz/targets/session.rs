//! A session through operations, losses and resumptions: application, session and broker agree in the end.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| zonecast_client::fuzzing::session(input));
