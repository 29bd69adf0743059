//! A stream from the broker: cut into frames, whatever the chunks, and each frame decoded.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use zonecast_protocol::codec::{FrameCutter, FrameError, decode_server_frame, encode_server_frame};

/// Small, so that a limit is met.
const FRAME_BYTES_MAX: u32 = 1 << 12;

/// All frames of a stream, and how it ended.
fn cut(stream: &[u8], chunk_bytes: usize) -> (Vec<Bytes>, Result<(), FrameError>) {
    let mut cutter = FrameCutter::new(FRAME_BYTES_MAX);
    let mut frames = Vec::new();
    for chunk in stream.chunks(chunk_bytes) {
        cutter.push(Bytes::copy_from_slice(chunk));
        loop {
            match cutter.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    let end = cutter.finish();
    (frames, end)
}

fuzz_target!(|input: &[u8]| {
    let Some((first, stream)) = input.split_first() else { return };
    let (frames, end) = cut(stream, usize::from(*first) + 1);
    let at_once = cut(stream, stream.len().max(1));
    assert_eq!(frames, at_once.0, "the chunks make no difference");
    assert_eq!(end.map_err(|error| error.code()), at_once.1.map_err(|error| error.code()));
    for frame in frames {
        assert!(frame.len() <= FRAME_BYTES_MAX as usize);
        let Ok(decoded) = decode_server_frame(frame) else { continue };
        let mut again = BytesMut::new();
        encode_server_frame(decoded.clone(), &mut again);
        let mut cutter = FrameCutter::new(u32::MAX);
        cutter.push(again.clone().freeze());
        let frame = cutter.next_frame().expect("what we wrote is framed").expect("and whole");
        let read = decode_server_frame(frame).expect("and is read again");
        let mut once_more = BytesMut::new();
        encode_server_frame(read, &mut once_more);
        // By bytes and not by value: a NaN is not equal to itself.
        assert_eq!(again, once_more);
    }
});
