//! A stream of either side: cut into frames, whatever the chunks, and each frame decoded.

use bytes::{Bytes, BytesMut};
use zonecast_protocol::codec::{FrameCutter, FrameError};

/// Small, so that a limit is met.
const FRAME_BYTES_MAX: u32 = 1 << 12;

/// The first byte of the input says how long the chunks are, the rest is the stream.
pub fn check<F>(input: &[u8], decode: fn(Bytes) -> Result<F, FrameError>, encode: fn(F, &mut BytesMut)) {
    let Some((first, stream)) = input.split_first() else { return };
    let (frames, end) = cut(stream, usize::from(*first) + 1);
    let at_once = cut(stream, stream.len().max(1));
    assert_eq!(frames, at_once.0, "the chunks make no difference");
    assert_eq!(end.map_err(|error| error.code()), at_once.1.map_err(|error| error.code()));
    for frame in frames {
        assert!(frame.len() <= FRAME_BYTES_MAX as usize);
        let Ok(decoded) = decode(frame) else { continue };
        let mut again = BytesMut::new();
        encode(decoded, &mut again);
        let mut cutter = FrameCutter::new(u32::MAX);
        cutter.push(again.clone().freeze());
        let frame = cutter.next_frame().expect("what we wrote is framed").expect("and whole");
        let read = decode(frame).expect("and is read again");
        let mut once_more = BytesMut::new();
        encode(read, &mut once_more);
        // By bytes and not by value: a NaN is not equal to itself.
        assert_eq!(again, once_more);
    }
}

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
