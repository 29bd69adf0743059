//! A session whose broker says anything at any time: it says no rather than panic, and answers whoever asked once.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| zonecast_client::fuzzing::hostile_broker(input));
