//! A stream from the broker: cut into frames, whatever the chunks, and each frame decoded.
#![no_main]

#[path = "frames/stream.rs"]
mod stream;

use libfuzzer_sys::fuzz_target;
use zonecast_protocol::codec::{decode_server_frame, encode_server_frame};

fuzz_target!(|input: &[u8]| stream::check(input, decode_server_frame, encode_server_frame));
