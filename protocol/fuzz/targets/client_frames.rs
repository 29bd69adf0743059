//! A stream from a client: cut into frames, whatever the chunks, and each frame decoded.
#![no_main]

#[path = "frames/stream.rs"]
mod stream;

use libfuzzer_sys::fuzz_target;
use zonecast_protocol::codec::{decode_client_frame, encode_client_frame};

fuzz_target!(|input: &[u8]| stream::check(input, decode_client_frame, encode_client_frame));
